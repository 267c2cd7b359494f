"""Clips in the JSON of YouTube-VIS, which OVIS, SA-Co/VEval and SA-FARI share.

``videos`` list their pictures, ``annotations`` have one run-length mask or null per picture, and
``categories`` name what they are. SA-Co/VEval adds ``video_np_pairs``: every noun phrase that is
asked of a clip, there or not. Without them every category is asked of every clip, as the other sets
are annotated for all of theirs.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.lab.data.datasets.burst import read_burst
from pipeline.lab.data.datasets.clips import Clip, ClipSet, Masklet, Question, assemble
from pipeline.lab.data.datasets.items import (
    Item,
    all_there,
    check_lists,
    each,
    read_box,
    read_list,
    read_object,
    read_phrases,
)
from pipeline.lab.data.datasets.problems import Problems
from pipeline.lab.data.datasets.shapes import Shape, read_run_lengths


def read_clips(
    path: Path, problems: Problems, *, root: Path | None = None, content: Item | None = None
) -> ClipSet:
    """Read an annotation file; also one of BURST, see :mod:`pipeline.lab.data.datasets.burst`.

    A question about a clip with a broken annotation is left out as a whole, since its truth is not
    known; so is a clip without all its pictures.

    Args:
        path: The JSON file.
        problems: Learns what is wrong.
        root: Folder of the pictures, which must then all be there.
        content: What the file holds, if it was read already.

    Raises:
        ConfigError: If the file is no such JSON.
    """
    content = read_object(path) if content is None else content
    if content.has("sequences"):
        return read_burst(content, path, problems, root=root)
    check_lists(content, path, ("videos", "annotations", "categories"))
    clips = {clip.video_id: clip for clip in _read_videos(content, path, root, problems)}
    # SA-Co's names are noun phrases already; YouTube-VIS's are words joined by _.
    has_pairs = content.has("video_np_pairs")
    phrases = read_phrases(content, path, problems, is_joined=not has_pairs)
    truth, broken = _read_truth(content, path, clips, problems)
    asked = (
        _read_pairs(content, path, clips, problems)
        if has_pairs
        else {(video, category) for video in clips for category in phrases}
    )
    asked = {key for key in asked | set(truth) if key[1] in phrases} - broken
    return assemble(clips.values(), phrases, asked, truth, has_negatives=has_pairs)


def read_shapes(
    item: Item, *, length: int, height: int, width: int, is_box_kept: bool = True
) -> tuple[Shape | None, ...]:
    """Read ``segmentations`` with their ``bboxes``, one or null per frame.

    Args:
        item: An annotation or a prediction.
        length: Number of frames.
        height: Rows of the pictures.
        width: Columns of the pictures.
        is_box_kept: Whether boxes are as given and not measured.

    Raises:
        ValueError: If there are too few or too many, or one is broken.
    """
    masks = item.items("segmentations", length=length)
    boxes = item.items("bboxes", length=length) if item.has("bboxes") else [None] * length
    shapes: list[Shape | None] = []
    for index, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        if mask is None:
            shapes.append(None)
            continue
        try:
            runs = read_run_lengths(mask, height=height, width=width)
            kept = None
            if box is not None and is_box_kept:
                kept = read_box(box, height=height, width=width)
        except ValueError as error:
            raise ValueError(f"frame {index}: {error}") from error
        shapes.append(Shape.of(runs, kept))
    return tuple(shapes)


def _read_videos(
    content: Item, path: Path, root: Path | None, problems: Problems
) -> Iterable[Clip]:
    for number, item in each(content.items("videos"), path, "video", problems):
        try:
            frames = item.texts("file_names")
            height, width = item.size_hw()
        except ValueError as error:
            problems.add(path, f"video {number}", str(error))
            continue
        if not all_there(frames, root, path, f"video {number}", problems):
            continue
        yield Clip(
            video_id=number,
            name=Path(frames[0]).parent.as_posix(),
            frames=frames,
            height=height,
            width=width,
            asked=(),
            truth=(),
        )


def _read_truth(
    content: Item, path: Path, clips: Mapping[int, Clip], problems: Problems
) -> tuple[dict[Question, list[Masklet]], set[Question]]:
    """Return the masklets of each question, and the questions of which one is broken."""
    truth: dict[Question, list[Masklet]] = defaultdict(list)
    broken: set[Question] = set()
    for number, item in each(content.items("annotations"), path, "annotation", problems):
        question: Question | None = None
        try:
            question = _question(item, clips)
            clip = clips[question[0]]
            shapes = read_shapes(
                item, length=len(clip.frames), height=clip.height, width=clip.width
            )
        except ValueError as error:
            problems.add(path, f"annotation {number}", str(error))
            broken |= {question} if question else set()
            continue
        truth[question].append(
            Masklet(
                masklet_id=number,
                video_id=question[0],
                category_id=question[1],
                shapes=shapes,
                is_crowd=bool(item.fields.get("iscrowd")),
            )
        )
    return truth, broken


def _read_pairs(
    content: Item, path: Path, clips: Mapping[int, Clip], problems: Problems
) -> set[Question]:
    pairs: set[Question] = set()
    for place, value in enumerate(content.items("video_np_pairs")):
        try:
            pairs.add(_question(Item.of(value), clips))
        except ValueError as error:
            problems.add(path, f"video_np_pair at place {place}", str(error))
    return pairs


def _question(item: Item, clips: Mapping[int, Clip]) -> Question:
    video, category = item.integer("video_id"), item.integer("category_id")
    if video not in clips:
        raise ValueError(f"video_id {video!r} (accepted: the id of a usable video)")
    return video, category


def read_predictions(path: Path, clips: ClipSet, problems: Problems) -> list[Masklet]:
    """Read predicted masklets: the list that SA-Co/VEval's and YouTube-VIS's evaluators take.

    Frames with an empty mask or box count as frames without the object.

    Raises:
        ConfigError: If the file is no list.
    """
    by_id = {clip.video_id: clip for clip in clips.clips}
    predictions: list[Masklet] = []
    for place, value in enumerate(read_list(path)):
        try:
            item = Item.of(value)
            video, category = _question(item, by_id)
            clip = by_id[video]
            shapes = read_shapes(
                item,
                length=len(clip.frames),
                height=clip.height,
                width=clip.width,
            )
            score = item.number("score")
        except ValueError as error:
            problems.add(path, f"prediction at place {place}", str(error))
            continue
        shown = [None if shape is None or _is_empty(shape) else shape for shape in shapes]
        predictions.append(
            Masklet(
                masklet_id=place + 1,
                video_id=video,
                category_id=category,
                shapes=tuple(shown),
                score=score,
            )
        )
    return predictions


def to_json(predictions: Sequence[Masklet]) -> list[dict[str, object]]:
    """Return predictions in the form that :func:`read_predictions` reads."""
    return [
        {
            "video_id": one.video_id,
            "category_id": one.category_id,
            "score": one.score,
            "segmentations": [shape and shape.mask.compressed() for shape in one.shapes],
            "bboxes": [None if shape is None else list(shape.box_xywh) for shape in one.shapes],
            "areas": [None if shape is None else shape.area for shape in one.shapes],
        }
        for one in predictions
    ]


def _is_empty(shape: Shape) -> bool:
    return not shape.area or not any(shape.box_xywh)
