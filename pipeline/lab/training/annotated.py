"""Training pictures and clips from annotations of one's own: COCO, SA-Co and YTVIS JSON.

What cannot be used (a missing picture, an empty phrase, a mask of another size, a box outside, an
id that was there before) is listed with file and id, and skipped or refused as the recipe says.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.errors import PictureError
from connectors.pictures.stills import read_picture
from models.common.masks import RunLengths
from pipeline.errors import ConfigError
from pipeline.lab.data.datasets.clips import Clip as AnnotatedClip
from pipeline.lab.data.datasets.clips import ClipSet
from pipeline.lab.data.datasets.coco import read_coco
from pipeline.lab.data.datasets.pictures import PictureQuestion
from pipeline.lab.data.datasets.problems import OnBad, Problems
from pipeline.lab.data.datasets.ytvis import read_clips
from pipeline.lab.training.clips import Clip, can_begin, follow
from pipeline.lab.training.pictures import (
    MIN_VISIBLE_PX,
    MIN_VISIBLE_SHARE,
    Crop,
    Drawn,
    Masks,
    Question,
    close_crop,
    mask_box,
    random_crop,
    resized,
)
from pipeline.lab.training.recipe import CocoData, Stage, YtvisData

log = logging.getLogger("maskstream.training")
MOST_TRIES = 50
FLIP_SHARE = 0.5
# Sizes of other proportions than the annotations' say that those are of another picture.
PROPORTION_SLACK = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPicture:
    """A picture file and what is on it.

    Attributes:
        path: The file.
        height: Rows of its masks.
        width: Columns of its masks.
        objects: Masks of each phrase that is there.
        absent: Phrases that are known not to be there.
    """

    path: Path
    height: int
    width: int
    objects: Mapping[str, tuple[RunLengths, ...]]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFiles:
    """Reads the files of one's data; each process tells once of those that cannot be used.

    Attributes:
        on_bad: Whether such a file is passed over or ends the run.
        bad: The files told of, with the height and width of their masks.
    """

    on_bad: OnBad = OnBad.SKIP
    bad: set[tuple[Path, int, int]] = field(default_factory=set[tuple[Path, int, int]])

    def read(self, path: Path, height: int, width: int) -> NDArray[np.uint8] | None:
        """Return a picture in the size of its masks; ``None`` if it is to be passed over.

        Raises:
            ConfigError: If it cannot be used and that ends the run.
        """
        if (path, height, width) in self.bad:
            return None
        try:
            return _sized(read_picture(path), height, width)
        except (PictureError, ValueError) as error:
            problem = str(error) if isinstance(error, PictureError) else f"{path}: {error}"
        if self.on_bad == OnBad.FAIL:
            raise ConfigError([problem])
        log.warning("%s", problem)
        self.bad.add((path, height, width))
        return None


def _sized(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Bring a picture to the size of its masks, if it was stored in another."""
    rows, columns = pixels.shape[:2]
    if (rows, columns) == (height, width):
        return pixels
    if abs(columns * height / (rows * width) - 1) > PROPORTION_SLACK:
        raise ValueError(
            f"{columns} x {rows} px, but annotated as {width} x {height} "
            "(accepted: the same proportions)"
        )
    return resized(pixels, height, width)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedPictures:
    """Labelled pictures as a :class:`pipeline.lab.training.pictures.PictureSource`."""

    pictures: Sequence[LabelledPicture]
    files: PictureFiles = field(default_factory=PictureFiles)

    def draw(self, rng: np.random.Generator, size: int, stage: Stage) -> list[Drawn]:
        """Draw crops of a picture, with one question about what is there and one about what not.

        Raises:
            ConfigError: If a file cannot be used and that ends the run, or no file can.
        """
        for place in _in_any_order(rng, len(self.pictures)):
            chosen = self.pictures[place]
            pixels = self.files.read(chosen.path, chosen.height, chosen.width)
            if pixels is not None:
                break
        else:
            folder, number = self.pictures[0].path.parent, len(self.pictures)
            accepted = "one at least that can be read and is of its annotations' proportions"
            raise ConfigError([f"{folder}: none of {number} pictures is usable ({accepted})"])
        masks = {phrase: [mask.mask() for mask in runs] for phrase, runs in chosen.objects.items()}
        crops = _crops(rng, (chosen.height, chosen.width), masks, size, stage)
        return [_cut(rng, crop, pixels, masks, chosen.absent) for crop in crops]


def _in_any_order(rng: np.random.Generator, number: int) -> Iterator[int]:
    """Yield a place below ``number``; if more are asked for, all of them."""
    yield int(rng.integers(number))
    yield from rng.permutation(number).tolist()


def _crops(
    rng: np.random.Generator,
    picture_hw: tuple[int, int],
    masks: Mapping[str, Masks],
    size: int,
    stage: Stage,
) -> list[Crop]:
    """Choose what to show of a picture: most of it, or some of its objects from nearby."""
    shown = [mask for found in masks.values() for mask in found if mask.any()]
    if not shown or not stage.close_ups or rng.random() >= stage.close_ups:
        return [random_crop(rng, picture_hw, size)]
    chosen = rng.permutation(len(shown))[: stage.max_objects]
    return [close_crop(rng, mask_box(shown[int(one)]), picture_hw, size) for one in chosen]


def _cut(
    rng: np.random.Generator,
    crop: Crop,
    pixels: NDArray[np.uint8],
    masks: Mapping[str, Masks],
    absent: Sequence[str],
) -> Drawn:
    """Cut a picture and ask about what is on the cut."""
    is_flipped = rng.random() < FLIP_SHARE

    def turned(part: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(part[:, ::-1]) if is_flipped else part

    shown: dict[str, Masks] = {}
    unclear: set[str] = set()
    for phrase, found in masks.items():
        cuts = [(turned(crop.cut_mask(mask)), int(mask.sum())) for mask in found]
        # What the crop has cut away is as absent as what was never there.
        shown[phrase] = [part for part, _ in cuts if part.any()]
        if not all(_shows_enough(part, crop, full) for part, full in cuts if part.any()):
            unclear.add(phrase)
    known: dict[str, Masks] = {phrase: [] for phrase in absent}
    known |= {phrase: shown[phrase] for phrase in sorted(set(shown) - unclear)}
    questions = _questions(rng, known, shown)
    return Drawn(pixels=turned(crop.cut(pixels)), questions=questions, covered=known.get)


def _shows_enough(part: NDArray[np.bool_], crop: Crop, full_px: int) -> bool:
    """Whether so much of an object of ``full_px`` is on a crop that it can be asked for."""
    shown_px = part.mean() * crop.width * crop.height
    return bool(part.sum() >= MIN_VISIBLE_PX and shown_px >= MIN_VISIBLE_SHARE * full_px)


def _questions(
    rng: np.random.Generator, known: Mapping[str, Masks], masks: Mapping[str, Masks]
) -> list[Question]:
    """Ask for one phrase that shows enough, if there is one, and for one that is absent."""
    sure = [phrase for phrase, found in known.items() if found]
    gone = [phrase for phrase, found in known.items() if not found]
    questions: list[Question] = []
    if sure:
        phrase = sure[int(rng.integers(len(sure)))]
        others = [m for name, found in masks.items() if name != phrase for m in found if m.any()]
        questions.append(Question(phrase=phrase, masks=known[phrase], others=others))
    if gone:
        phrase = gone[int(rng.integers(len(gone)))]
        questions.append(Question(phrase=phrase, masks=[], others=[]))
    return questions


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedClips:
    """Annotated clips as a :class:`pipeline.lab.training.clips.ClipSource`."""

    clips: Sequence[AnnotatedClip]
    root: Path
    strides: tuple[int, ...] = field(default=(1, 1, 2, 3))
    files: PictureFiles = field(default_factory=PictureFiles)

    def draw(self, rng: np.random.Generator, stage: Stage) -> Clip:
        """Draw a stretch of a clip that begins with something to follow.

        Raises:
            ConfigError: If no clip has such a stretch, or a frame cannot be used and that ends
                the run.
        """
        for _ in range(MOST_TRIES):
            clip = self.clips[int(rng.integers(len(self.clips)))]
            found = self._stretch(rng, clip, stage)
            if found is not None:
                return found
        tried = (
            f"{MOST_TRIES} stretches of {stage.frames} frames began with no object to follow, "
            "or could not be read"
        )
        raise ConfigError([f"{self.root}: {tried} (accepted: longer clips, or larger objects)"])

    def _stretch(self, rng: np.random.Generator, clip: AnnotatedClip, stage: Stage) -> Clip | None:
        stride = int(rng.choice(self.strides))
        spare = len(clip.frames) - 1 - stride * (stage.frames - 1)
        if spare < 0:
            return None
        begin = int(rng.integers(spare + 1))
        chosen = range(begin, begin + stride * stage.frames, stride)
        crop = random_crop(rng, (clip.height, clip.width), stage.image_size)
        per_frame = [
            {
                masklet.masklet_id: crop.cut_mask(shape.mask.mask())
                for masklet in clip.truth
                if (shape := masklet.shapes[i]) is not None and not masklet.is_crowd
            }
            for i in chosen
        ]
        # Reading pictures is what costs.
        if not can_begin(per_frame[0]):
            return None
        pixels: list[NDArray[np.uint8]] = []
        for i in chosen:
            frame = self.files.read(self.root / clip.frames[i], clip.height, clip.width)
            if frame is None:
                return None
            pixels.append(crop.cut(frame))
        return follow(rng, np.stack(pixels), per_frame, objects=stage.objects)


def read_coco_pictures(data: CocoData) -> AnnotatedPictures:
    """Read annotated pictures; categories or, in SA-Co's form, ``text_input`` are the phrases.

    Raises:
        ConfigError: If the file is no such JSON, nothing in it can be used, or something cannot and
            the recipe refuses that.
    """
    problems = Problems(on_bad=OnBad(data.on_bad))
    questions = read_coco(data.annotations, problems, root=data.images)
    pictures = _joined(questions, data, problems)
    _settle(problems, data.annotations, len(pictures))
    return AnnotatedPictures(pictures=pictures, files=PictureFiles(on_bad=OnBad(data.on_bad)))


def _joined(
    questions: Iterable[PictureQuestion], data: CocoData, problems: Problems
) -> list[LabelledPicture]:
    """Join what is known of each file: categories may share a name, and entries a file."""
    objects: dict[str, dict[str, tuple[RunLengths, ...]]] = defaultdict(dict)
    asked: dict[str, dict[str, None]] = defaultdict(dict)
    unclear: dict[str, set[str]] = defaultdict(set)
    sizes: dict[str, tuple[int, int]] = {}
    warned: set[str] = set()
    for question in questions:
        name, phrase = question.picture, question.phrase
        size = question.height, question.width
        height, width = sizes.setdefault(name, size)
        if size != (height, width) and name not in warned:
            warned.add(name)
            reason = f"annotated as {width} x {height} and {question.width} x {question.height} px"
            problems.add(data.annotations, f"picture {name!r}", f"{reason} (accepted: one size)")
        asked[name][phrase] = None
        if question.has_crowd or size != (height, width):
            # Of a crowd nobody can tell the instances apart.
            unclear[name].add(phrase)
        (truth,) = question.truths
        if truth:
            before = objects[name].get(phrase, ())
            objects[name][phrase] = (*before, *(shape.mask for shape in truth))
    return [
        LabelledPicture(
            path=data.images / name,
            height=size[0],
            width=size[1],
            objects={p: m for p, m in objects[name].items() if p not in unclear[name]},
            absent=tuple(p for p in asked[name] if p not in {*objects[name], *unclear[name]}),
        )
        for name, size in sizes.items()
    ]


def read_clips_of(data: YtvisData) -> ClipSet:
    """Read annotated clips; errors as for :func:`read_coco_pictures`."""
    problems = Problems(on_bad=OnBad(data.on_bad))
    clips = read_clips(data.annotations, problems, root=data.images)
    _settle(problems, data.annotations, len(clips.clips))
    return clips


def frames_of(found: ClipSet, root: Path, files: PictureFiles) -> AnnotatedPictures:
    """Return the frames of annotated clips, files below ``root``, as pictures."""
    pictures: list[LabelledPicture] = []
    for clip in found.clips:
        for index, frame in enumerate(clip.frames):
            objects: dict[str, tuple[RunLengths, ...]] = {}
            crowded: set[str] = set()
            for masklet in clip.truth:
                shape = masklet.shapes[index]
                if shape is not None and shape.area:
                    phrase = found.phrases[masklet.category_id]
                    objects[phrase] = (*objects.get(phrase, ()), shape.mask)
                    crowded |= {phrase} if masklet.is_crowd else set()
            asked = {found.phrases[category] for category in clip.asked}
            pictures.append(
                LabelledPicture(
                    path=root / frame,
                    height=clip.height,
                    width=clip.width,
                    # Of a crowd nobody can tell the instances apart.
                    objects={p: masks for p, masks in objects.items() if p not in crowded},
                    absent=tuple(sorted(asked - set(objects))),
                )
            )
    return AnnotatedPictures(pictures=pictures, files=files)


def _settle(problems: Problems, path: Path, usable: int) -> None:
    """Tell of what cannot be used; refuse it, or refuse a set of which nothing is left."""
    problems.settle()
    for told in problems.lines:
        log.warning("%s", told)
    if not usable:
        raise ConfigError([f"{path}: nothing in it can be used ({len(problems.lines)} problems)"])
