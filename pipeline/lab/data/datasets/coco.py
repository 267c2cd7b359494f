"""Annotated pictures in COCO's instance format; the names of the categories are the phrases.

SA-Co's files, which ask one phrase per entry of ``images``, are told by their ``text_input`` and
read as such. LVIS's ``neg_category_ids`` and ``not_exhaustive_category_ids`` are kept to: where a
picture has them, only the phrases whose absence or completeness is known are asked.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any, cast

from pycocotools import mask as coco_mask

from models.common.masks import RunLengths
from pipeline.lab.data.datasets.items import (
    Item,
    check_listed,
    check_lists,
    each,
    numbered,
    read_box,
    read_object,
    read_phrases,
)
from pipeline.lab.data.datasets.pictures import PictureQuestion, measure, read_questions
from pipeline.lab.data.datasets.problems import Problems
from pipeline.lab.data.datasets.shapes import Shape, read_run_lengths

_COCO: Any = cast("Any", coco_mask)
Key = tuple[int, int]


def read_coco(path: Path, problems: Problems, *, root: Path) -> list[PictureQuestion]:
    """Read the questions of a set: each category of each picture that its truth is known for.

    A question with a broken annotation is left out, since its truth is not known.

    Args:
        path: The JSON file.
        problems: Learns what is wrong.
        root: Folder of the pictures, which must all be there.

    Raises:
        ConfigError: If the file is no such JSON.
    """
    content = read_object(path, lists=("images", "annotations"))
    first = content.items("images")[:1]
    if first and isinstance(first[0], dict) and "text_input" in first[0]:
        return read_questions([path], problems, root=root, contents=[content])
    check_lists(content, path, ("categories",))
    phrases = read_phrases(content, path, problems, is_joined=True)
    images = _read_images(content, path, root, problems)
    truth, broken = _read_truth(content, path, images, phrases, problems)
    for category in _mere_parents(content, {key[1] for key in (*truth, *broken)}):
        phrases.pop(category, None)
    # Of two categories of one name, or two entries of one file, one may be what the other lacks.
    unclear = {
        (images[number].text("file_name"), phrases.get(category))
        for number, category in broken
        if number in images
    }
    there: dict[int, set[int]] = defaultdict(set)
    for image, category in truth:
        there[image].add(category)
    questions: list[PictureQuestion] = []
    for number, item in images.items():
        height, width = item.size_hw()
        for category in sorted(_asked(item, there[number], set(phrases))):
            if (item.text("file_name"), phrases[category]) in unclear:
                continue
            questions.append(
                PictureQuestion(
                    question_id=len(questions),
                    picture=item.text("file_name"),
                    phrase=phrases[category],
                    height=height,
                    width=width,
                    truths=(tuple(truth.get((number, category), ())),),
                )
            )
    return questions


def _mere_parents(content: Item, annotated: set[int]) -> list[int]:
    """Return the categories that only hold others, as exports add them: nothing is named so.

    Asked for, "animal" would count as absent where a deer is.
    """
    categories = numbered(content, "categories")
    named = [
        (one.fields.get("name"), one.fields.get("supercategory")) for one in categories.values()
    ]
    parents = [parent for name, parent in named if parent and parent != name]
    return [
        number
        for number, one in categories.items()
        if one.fields.get("name") in parents and number not in annotated
    ]


def _asked(item: Item, there: set[int], known: set[int]) -> set[int]:
    if not item.has("neg_category_ids"):
        return known
    absent, incomplete = (
        {category for category in item.fields.get(name, ()) if isinstance(category, int)}
        for name in ("neg_category_ids", "not_exhaustive_category_ids")
    )
    return ((there | absent) - incomplete) & known


def _read_images(content: Item, path: Path, root: Path, problems: Problems) -> dict[int, Item]:
    images: dict[int, Item] = {}
    for number, item in each(content.items("images"), path, "image", problems):
        try:
            item.size_hw()
            name = item.text("file_name")
        except ValueError as error:
            problems.add(path, f"image {number}", str(error))
            continue
        if (root / name).is_file():
            images[number] = item
        else:
            problems.add(path, f"image {number}", f"no picture {name!r} in {root}")
    return images


def _read_truth(
    content: Item, path: Path, images: dict[int, Item], phrases: dict[int, str], problems: Problems
) -> tuple[dict[Key, list[Shape]], set[Key]]:
    """Return the objects of each (image, category), and those of which one is broken or a crowd."""
    truth: dict[Key, list[Shape]] = defaultdict(list)
    broken: set[Key] = set()
    listed = numbered(content, "images")
    for number, item in each(content.items("annotations"), path, "annotation", problems):
        key: Key | None = None
        try:
            key = item.integer("image_id"), item.integer("category_id")
            if key[0] not in images:
                check_listed(key[0], listed)
                continue
            shape = _read_shape(item, phrases, *images[key[0]].size_hw())
        except ValueError as error:
            problems.add(path, f"annotation {number}", str(error))
            broken |= {key} if key else set()
            continue
        if item.fields.get("iscrowd"):
            # Nobody can tell its instances apart, so nobody can be asked for all of them.
            broken.add(key)
        else:
            truth[key].append(shape)
    return truth, broken


def _read_shape(item: Item, phrases: dict[int, str], height: int, width: int) -> Shape:
    category = item.integer("category_id")
    if category not in phrases:
        raise ValueError(f"category_id {category!r} (accepted: the id of a category)")
    value = item.fields.get("segmentation")
    if item.has("bbox"):
        read_box(item.fields["bbox"], height=height, width=width)
    if isinstance(value, list):
        return measure(_from_polygons(cast("list[Any]", value), height, width))
    return measure(read_run_lengths(value, height=height, width=width))


def _from_polygons(polygons: list[Any], height: int, width: int) -> RunLengths:
    is_drawn = polygons and all(
        isinstance(polygon, list)
        and len(cast("list[Any]", polygon)) >= 6
        and len(cast("list[Any]", polygon)) % 2 == 0
        and all(isinstance(number, int | float) for number in cast("list[Any]", polygon))
        for polygon in polygons
    )
    if not is_drawn:
        raise ValueError(
            "segmentation of no polygons (accepted: lists of x, y of 3 corners or more)"
        )
    merged = _COCO.merge(_COCO.frPyObjects(polygons, height, width))
    return RunLengths.from_counts(merged["counts"].decode(), (height, width))
