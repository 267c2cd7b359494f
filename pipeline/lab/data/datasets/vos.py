"""Clips for semi-supervised video object segmentation: DAVIS 2017, MOSE, YouTube-VOS and SA-V.

All have one picture file per frame and one annotation per annotated frame. DAVIS, MOSE and
YouTube-VOS draw all objects of a frame into one PNG, whose values are their ids; SA-V has a folder
per object with a PNG of its own, so that objects may overlap, and annotates every fourth frame.
SA-V's training set has JSON files beside videos instead.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from connectors.pictures.encoding import Pixels
from connectors.pictures.stills import read_picture
from connectors.video.decode import open_video
from models.common.masks import RunLengths
from pipeline.errors import ConfigError
from pipeline.lab.data.datasets.items import Item, read_json
from pipeline.lab.data.datasets.problems import Problems
from pipeline.lab.data.datasets.shapes import read_run_lengths
from pipeline.lab.metrics.overlap import Mask

_PICTURES = (".jpg", ".jpeg", ".png")
_SAV_STEP = 4
# PASCAL VOC's colours, which DAVIS uses: a number's bits go to red, green and blue in turn, the
# lowest to the brightest.
_PALETTE = [
    sum((number >> (3 * place + channel) & 1) << (7 - place) for place in range(3))
    for number in range(256)
    for channel in range(3)
]
ObjectMasks = dict[int, dict[int, RunLengths]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectClip:
    """One clip whose objects are given by their first masks.

    Attributes:
        name: As in the set.
        read_frames: Yields them in order, RGB, (H, W, 3), uint8.
        read_truth: Returns masks by object and annotated frame; empty where it does not show.
        file_names: Name of each frame without its ending.
        has_object_files: Whether every object has files of its own.
    """

    name: str
    read_frames: Callable[[], Iterator[Pixels]]
    read_truth: Callable[[], ObjectMasks]
    file_names: tuple[str, ...]
    has_object_files: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a set keeps its files, below its root.

    Attributes:
        pictures: Folder with a folder of pictures per clip.
        annotations: Folder with a folder of PNGs per clip, or of folders per object.
        clip_list: Text file that lists the clips; all that are annotated where there is none.
        has_object_files: Whether every object has files of its own.
    """

    pictures: str
    annotations: str
    clip_list: str | None = None
    has_object_files: bool = False


DAVIS_2017 = Layout(
    pictures="JPEGImages/480p",
    annotations="Annotations/480p",
    clip_list="ImageSets/2017/{split}.txt",
)
SA_V = Layout(
    pictures="JPEGImages_24fps",
    annotations="Annotations_6fps",
    clip_list="{root}.txt",
    has_object_files=True,
)
MOSE = Layout(pictures="JPEGImages", annotations="Annotations")


def list_clips(root: Path, layout: Layout, problems: Problems, *, split: str) -> list[ObjectClip]:
    """List the clips of a set; their files are read when they are needed.

    Args:
        root: Folder of the set, or of its splits.
        layout: How the set is laid out.
        problems: Learns of clips without pictures or annotations.
        split: Folder below the root, if there is one, and name of the list of clips.

    Raises:
        ConfigError: If the set is not laid out like that.
    """
    root = root / split if (root / split / layout.pictures).is_dir() else root
    for name in (layout.pictures, layout.annotations):
        if not (root / name).is_dir():
            raise ConfigError([f"{root}: has no folder {name!r}"])
    clips: list[ObjectClip] = []
    for name in _clip_names(root, layout, split):
        frames = _numbered(root / layout.pictures / name)
        annotations = root / layout.annotations / name
        if not frames:
            problems.add(root / layout.pictures, f"clip {name!r}", "has no pictures")
        elif not annotations.is_dir():
            problems.add(root / layout.annotations, f"clip {name!r}", "has no annotations")
        else:
            clips.append(
                _clip(name, frames, annotations, problems, has_files=layout.has_object_files)
            )
    return clips


def _clip_names(root: Path, layout: Layout, split: str) -> list[str]:
    if layout.clip_list is not None:
        path = root / layout.clip_list.format(split=split, root=root.name)
        if path.is_file():
            return path.read_text(encoding="utf-8").split()
    return sorted(path.name for path in (root / layout.annotations).iterdir() if path.is_dir())


def _clip(
    name: str, frames: Sequence[Path], annotations: Path, problems: Problems, *, has_files: bool
) -> ObjectClip:
    stems = tuple(path.stem for path in frames)
    return ObjectClip(
        name=name,
        read_frames=lambda: (read_picture(path) for path in frames),
        read_truth=lambda: read_masks(annotations, stems, problems),
        file_names=stems,
        has_object_files=has_files,
    )


def read_masks(folder: Path, stems: Sequence[str], problems: Problems) -> ObjectMasks:
    """Read the PNGs of one clip, of all objects together or in a folder per object.

    Args:
        folder: Where they are.
        stems: File names of the frames without their ending.
        problems: Learns of files that are broken, of another size or of no frame.
    """
    places = {stem: place for place, stem in enumerate(stems)}
    parts = sorted(path for path in folder.iterdir() if path.is_dir())
    labels = {part: _read_labels(part, places, problems) for part in parts or [folder]}
    if not parts:
        return _split_labels(labels[folder])
    masks: ObjectMasks = {}
    for part, found in labels.items():
        if not part.name.isdecimal():
            problems.add(part, "object", "is no number")
            continue
        masks[int(part.name)] = {index: RunLengths.of(label > 0) for index, label in found.items()}
    return masks


def _split_labels(labels: Mapping[int, NDArray[np.int64]]) -> ObjectMasks:
    ids = {int(one) for label in labels.values() for one in np.unique(label)} - {0}
    return {
        number: {index: RunLengths.of(label == number) for index, label in labels.items()}
        for number in sorted(ids)
    }


def _read_labels(
    folder: Path, places: Mapping[str, int], problems: Problems
) -> dict[int, NDArray[np.int64]]:
    labels: dict[int, NDArray[np.int64]] = {}
    for path in _numbered(folder):
        if path.stem not in places:
            problems.add(path, "annotation", "is of no frame")
            continue
        try:
            label = read_label(path)
        except ValueError as error:
            problems.add(path, "annotation", str(error))
            continue
        size = next(iter(labels.values()), label).shape
        if label.shape != size:
            problems.add(path, "annotation", f"is {label.shape!r}, others are {size!r}")
            continue
        labels[places[path.stem]] = label
    return labels


def read_label(path: Path) -> NDArray[np.int64]:
    """Read a PNG whose values are object ids, shape (H, W).

    Raises:
        ValueError: If it is none, or has colours instead of a palette.
    """
    try:
        with Image.open(path) as image:
            values = np.array(image)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be read: {error}") from error
    if values.ndim != 2:
        raise ValueError("has colours (accepted: a palette or grey)")
    return values.astype(np.int64)


def write_masks(folder: Path, clip: ObjectClip, index: int, masks: Mapping[int, Mask]) -> None:
    """Write one frame's masks as :func:`read_masks` reads them; of overlaps the lowest id wins.

    Raises:
        ConfigError: If that is not possible.
    """
    name = f"{clip.file_names[index]}.png"
    if clip.has_object_files:
        images = {
            folder / clip.name / f"{number:03d}" / name: Image.fromarray(
                mask.astype(np.uint8) * 255
            )
            for number, mask in masks.items()
        }
    elif masks:
        label = np.zeros(next(iter(masks.values())).shape, dtype=np.uint8)
        for number in sorted(masks, reverse=True):
            label[masks[number]] = number
        image = Image.fromarray(label)
        image.putpalette(_PALETTE)
        images = {folder / clip.name / name: image}
    else:
        images = {}
    for path, image in images.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
        except OSError as error:
            raise ConfigError([f"cannot write {str(path)!r}: {error.strerror or error}"]) from error


def list_sav_training(root: Path, problems: Problems, *, kind: str) -> list[ObjectClip]:
    """List clips of SA-V's training set: ``NAME.mp4`` beside ``NAME_manual.json``.

    Args:
        root: Folder that holds them, however deep.
        problems: Learns what is wrong.
        kind: ``manual`` or ``auto``.

    Raises:
        ConfigError: If there are none.
    """
    paths = sorted(root.rglob(f"*_{kind}.json"))
    if not paths:
        raise ConfigError([f"{root}: has no *_{kind}.json"])
    clips: list[ObjectClip] = []
    for path in paths:
        name = path.name.removesuffix(f"_{kind}.json")
        video = path.with_name(f"{name}.mp4")
        try:
            num_frames = Item.of(read_json(path)).integer("video_frame_count")
        except ValueError as error:
            problems.add(path, "clip", str(error))
            continue
        if not video.is_file():
            problems.add(path, "clip", f"no video {video.name!r}")
            continue
        clips.append(
            ObjectClip(
                name=name,
                read_frames=lambda video=video: _decode(video),
                read_truth=lambda path=path: _read_sav_json(path, problems),
                file_names=tuple(f"{index:05d}" for index in range(num_frames)),
                has_object_files=True,
            )
        )
    return clips


def _read_sav_json(path: Path, problems: Problems) -> ObjectMasks:
    try:
        content = Item.of(read_json(path))
        height, width = content.integer("video_height"), content.integer("video_width")
        ids, frames = content.items("masklet_id"), content.items("masklet")
    except ValueError as error:
        problems.add(path, "clip", str(error))
        return {}
    masks: ObjectMasks = {int(number): {} for number in ids}
    for place, frame in enumerate(frames):
        values = cast("list[Any]", frame) if isinstance(frame, list) else []
        if len(values) != len(ids):
            problems.add(path, f"frame {place}", f"{len(values)} masks for {len(ids)} masklets")
            continue
        for number, value in zip(masks, values, strict=True):
            try:
                runs = read_run_lengths(value, height=height, width=width)
            except ValueError as error:
                problems.add(path, f"frame {place}, masklet {number}", str(error))
                continue
            masks[number][place * _SAV_STEP] = runs
    return masks


def _decode(path: Path) -> Iterator[Pixels]:
    reader = open_video(str(path))
    try:
        while (picture := reader.read()) is not None:
            yield picture.pixels
    finally:
        reader.close()


def _numbered(folder: Path) -> list[Path]:
    """Return a folder's pictures in the order of their numbers."""
    if not folder.is_dir():
        return []
    paths = [path for path in folder.iterdir() if path.suffix.lower() in _PICTURES]
    return sorted(
        paths, key=lambda path: (int(path.stem) if path.stem.isdecimal() else 0, path.stem)
    )
