"""Clips in the JSON of BURST (Athar et al., WACV 2023), by their categories' names.

``sequences`` list the pictures that are annotated, about one a second, below
``SPLIT/DATASET/SEQUENCE`` of the folder of pictures; ``segmentations`` have for each of them a mask
by track id, and ``track_category_ids`` say what a track is. As in LVIS, a sequence is annotated for
some categories only: those of its tracks, and ``neg_category_ids``, which are not there. Categories
of ``not_exhaustive_category_ids`` have more objects than tracks, so their truth is not known and
they are not asked for.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from pipeline.lab.data.datasets.clips import Clip, ClipSet, Masklet, Question, assemble
from pipeline.lab.data.datasets.items import (
    Item,
    all_there,
    check_lists,
    each,
    read_phrases,
)
from pipeline.lab.data.datasets.problems import Problems
from pipeline.lab.data.datasets.shapes import Shape, read_run_lengths


def read_burst(
    content: Item, path: Path, problems: Problems, *, root: Path | None = None
) -> ClipSet:
    """Read an annotation file.

    A sequence with something broken is left out as a whole, since its truth is not known; so is one
    without all its pictures.

    Args:
        content: What the file holds.
        path: Name of the file.
        problems: Learns what is wrong.
        root: Folder of the splits' pictures, which must then all be there.

    Raises:
        ConfigError: If it is no such JSON.
    """
    check_lists(content, path, ("sequences", "categories"))
    phrases = read_phrases(content, path, problems, is_joined=True)
    split = str(content.fields.get("split") or "")
    clips: list[Clip] = []
    asked: set[Question] = set()
    truth: dict[Question, list[Masklet]] = defaultdict(list)
    for number, item in each(content.items("sequences"), path, "sequence", problems):
        told = f"sequence {number}"
        try:
            clip = _read_clip(number, item, split)
            masklets = _read_masklets(item, clip, phrases)
            absent = _category_ids(item, "neg_category_ids")
            unknown = _category_ids(item, "not_exhaustive_category_ids")
        except ValueError as error:
            problems.add(path, told, str(error))
            continue
        if not all_there(clip.frames, root, path, told, problems):
            continue
        clips.append(clip)
        for masklet in masklets:
            truth[number, masklet.category_id].append(masklet)
        there = {masklet.category_id for masklet in masklets}
        asked |= {(number, one) for one in (there | absent & phrases.keys()) - unknown}
    return assemble(clips, phrases, asked, truth, has_negatives=True)


def _read_clip(number: int, item: Item, split: str) -> Clip:
    height, width = item.size_hw()
    name = item.text("seq_name")
    folder = Path(split, item.text("dataset"), name)
    return Clip(
        video_id=number,
        name=name,
        frames=tuple((folder / one).as_posix() for one in item.texts("annotated_image_paths")),
        height=height,
        width=width,
        asked=(),
        truth=(),
    )


def _read_masklets(item: Item, clip: Clip, phrases: Mapping[int, str]) -> list[Masklet]:
    category_of = Item.of(item.fields.get("track_category_ids"))
    frames = item.items("segmentations", length=len(clip.frames))
    shapes: dict[str, list[Shape | None]] = {
        track: [None] * len(frames) for track in category_of.fields
    }
    for index, frame in enumerate(frames):
        for track, mask in Item.of(frame).fields.items():
            if track not in shapes:
                raise ValueError(f"frame {index}: track {track!r} has no category")
            try:
                shapes[track][index] = _read_shape(mask, clip)
            except ValueError as error:
                raise ValueError(f"frame {index}, track {track}: {error}") from error
    masklets: list[Masklet] = []
    for track, shown in shapes.items():
        category = category_of.integer(track)
        if category not in phrases:
            raise ValueError(f"track {track} of category {category} (accepted: a listed one)")
        if any(shown):
            masklets.append(
                Masklet(
                    masklet_id=Item({"track": track}).integer("track"),
                    video_id=clip.video_id,
                    category_id=category,
                    shapes=tuple(shown),
                )
            )
    return masklets


def _read_shape(mask: object, clip: Clip) -> Shape:
    size = [clip.height, clip.width]
    value = {"size": size, "counts": Item.of(mask).text("rle")}
    return Shape.of(read_run_lengths(value, height=clip.height, width=clip.width))


def _category_ids(item: Item, name: str) -> set[int]:
    values = item.items(name) if item.has(name) else []
    if not all(isinstance(one, int) for one in values):
        raise ValueError(f"{name} {values!r:.60} (accepted: whole numbers)")
    return set(values)
