"""Annotated pictures in the JSON of SA-Co/Gold and SA-Co/Silver, and predictions for them.

It is COCO's, with two differences: an entry of ``images`` is a question, one noun phrase
(``text_input``) asked of one picture, and boxes are shares of the picture. Gold has three files of
the same questions, one per annotator. Only questions that every annotator has answered instance by
instance (``is_instance_exhaustive``) are evaluated.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.common.masks import RunLengths
from pipeline.lab.data.datasets.items import (
    Item,
    check_listed,
    check_lists,
    each,
    numbered,
    read_box,
    read_list,
    read_object,
)
from pipeline.lab.data.datasets.problems import Problems
from pipeline.lab.data.datasets.shapes import Shape, read_run_lengths

_ONLY_CATEGORY = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureQuestion:
    """One noun phrase asked of one picture.

    Attributes:
        question_id: Unique within its set.
        picture: Picture file below the root.
        phrase: The noun phrase.
        height: Rows of the picture.
        width: Columns of the picture.
        truths: What each annotator found, boxes in shares of the picture; crowds are left out.
        has_crowd: Whether an annotator marked one, so that it is not known to be absent.
    """

    question_id: int
    picture: str
    phrase: str
    height: int
    width: int
    truths: tuple[tuple[Shape, ...], ...]
    has_crowd: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundShape:
    """One predicted instance.

    Attributes:
        question_id: The question that it answers.
        shape: Where it is, with the box in shares of the picture.
        score: How sure that it is there, in [0, 1].
    """

    question_id: int
    shape: Shape
    score: float


def read_questions(
    paths: Sequence[Path],
    problems: Problems,
    *,
    root: Path | None = None,
    contents: Sequence[Item] = (),
) -> list[PictureQuestion]:
    """Read the questions of a set.

    A question with a broken annotation is left out, since its truth is not known.

    Args:
        paths: One file per annotator, at least one.
        problems: Learns what is wrong.
        root: Folder of the pictures, which must then all be there.
        contents: What the files hold, if they were read already.

    Raises:
        ConfigError: If a file is no such JSON.
    """
    contents = contents or [read_object(path) for path in paths]
    for content, path in zip(contents, paths, strict=True):
        check_lists(content, path, ("images", "annotations"))
    asked = [
        _read_asked(content, path, problems) for content, path in zip(contents, paths, strict=True)
    ]
    usable = _agreed(asked, paths, root, problems)
    truths = [
        _read_truth(content, path, usable, problems)
        for content, path in zip(contents, paths, strict=True)
    ]
    broken = {number for _, found, _ in truths for number in found}
    crowded = {number for _, _, found in truths for number in found}
    return [
        PictureQuestion(
            question_id=number,
            picture=item.text("file_name"),
            phrase=item.text("text_input"),
            height=item.integer("height"),
            width=item.integer("width"),
            truths=tuple(tuple(found.get(number, ())) for found, _, _ in truths),
            has_crowd=number in crowded,
        )
        for number, item in usable.items()
        if number not in broken
    ]


def _read_asked(content: Item, path: Path, problems: Problems) -> dict[int, Item]:
    asked: dict[int, Item] = {}
    for number, item in each(content.items("images"), path, "image", problems):
        try:
            for name in ("file_name", "text_input"):
                item.text(name)
            item.size_hw()
            item.integer("is_instance_exhaustive")
        except ValueError as error:
            problems.add(path, f"image {number}", str(error))
            continue
        asked[number] = item
    return asked


def _agreed(
    asked: Sequence[Mapping[int, Item]],
    paths: Sequence[Path],
    root: Path | None,
    problems: Problems,
) -> dict[int, Item]:
    """Return the questions that all annotators have and have answered exhaustively."""
    agreed: dict[int, Item] = {}
    for number, item in asked[0].items():
        lacking = [path for one, path in zip(asked, paths, strict=True) if number not in one]
        picture = item.text("file_name")
        if lacking:
            problems.add(lacking[0], f"image {number}", f"is missing, {paths[0].name} has it")
        elif root is not None and not (root / picture).is_file():
            problems.add(paths[0], f"image {number}", f"no picture {picture!r} in {root}")
        elif all(one[number].integer("is_instance_exhaustive") for one in asked):
            agreed[number] = item
    return agreed


def _read_truth(
    content: Item, path: Path, asked: Mapping[int, Item], problems: Problems
) -> tuple[dict[int, list[Shape]], set[int], set[int]]:
    """Return what an annotator found for each question, and those with a broken one or a crowd."""
    truth: dict[int, list[Shape]] = defaultdict(list)
    broken: set[int] = set()
    crowded: set[int] = set()
    listed = numbered(content, "images")
    for number, item in each(content.items("annotations"), path, "annotation", problems):
        question: int | None = None
        try:
            question = item.integer("image_id")
            if question not in asked:
                check_listed(question, listed)
                continue
            shape = read_shape(item, *asked[question].size_hw())
        except ValueError as error:
            problems.add(path, f"annotation {number}", str(error))
            broken |= set() if question is None else {question}
            continue
        if item.fields.get("iscrowd"):
            crowded.add(question)
        else:
            truth[question].append(shape)
    return truth, broken, crowded


def read_shape(item: Item, height: int, width: int) -> Shape:
    """Read ``segmentation`` and ``bbox``; the box stays in shares of the picture.

    Raises:
        ValueError: If one is broken.
    """
    runs = read_run_lengths(item.fields.get("segmentation"), height=height, width=width)
    if not item.has("bbox"):
        return measure(runs)
    # Scaled to pixels, overlaps would differ in the last bit and miss thresholds that they meet.
    slack = 2 / min(height, width)
    return Shape.of(runs, read_box(item.fields["bbox"], height=1, width=1, slack=slack))


def measure(mask: RunLengths) -> Shape:
    """Return a mask with its box in shares of the picture."""
    shape = Shape.of(mask)
    left, top, width, height = shape.box_xywh
    rows, columns = mask.size_hw
    shares = (left / columns, top / rows, width / columns, height / rows)
    return replace(shape, box_xywh=shares)


def read_answers(
    path: Path, questions: Sequence[PictureQuestion], problems: Problems
) -> list[FoundShape]:
    """Read predictions in COCO's result format; those for questions that are not asked are ignored.

    Raises:
        ConfigError: If the file is no list.
    """
    by_id = {question.question_id: question for question in questions}
    answers: list[FoundShape] = []
    for place, value in enumerate(read_list(path)):
        try:
            item = Item.of(value)
            question = by_id.get(item.integer("image_id"))
            if question is None:
                continue
            shape = read_shape(item, question.height, question.width)
            score = item.number("score")
        except ValueError as error:
            problems.add(path, f"prediction at place {place}", str(error))
            continue
        answers.append(FoundShape(question_id=question.question_id, shape=shape, score=score))
    return answers


def to_json(answers: Sequence[FoundShape]) -> list[dict[str, object]]:
    """Return predictions in the form that :func:`read_answers` reads."""
    return [
        {
            "image_id": one.question_id,
            "category_id": _ONLY_CATEGORY,
            "score": one.score,
            "segmentation": one.shape.mask.compressed(),
            "bbox": list(one.shape.box_xywh),
        }
        for one in answers
    ]
