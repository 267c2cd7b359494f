"""Training pictures and clips from annotations of one's own: COCO, SA-Co and YTVIS JSON.

What cannot be used (a missing picture, an empty phrase, a mask of another size, a box outside, an
id that was there before) is listed with file and id, and skipped or refused as the recipe says.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.stills import read_picture
from pipeline.errors import ConfigError
from pipeline.evaluation.datasets.clips import Clip as AnnotatedClip
from pipeline.evaluation.datasets.clips import ClipSet
from pipeline.evaluation.datasets.coco import read_coco
from pipeline.evaluation.datasets.problems import OnBad, Problems
from pipeline.evaluation.datasets.shapes import RunLengths
from pipeline.evaluation.datasets.ytvis import read_clips
from pipeline.training.clips import Clip, can_begin, follow
from pipeline.training.pictures import MIN_VISIBLE_PX, Drawn, Masks, Question, random_crop
from pipeline.training.recipe import CocoData, Stage, YtvisData

log = logging.getLogger("maskstream.training")
MOST_TRIES = 50
FLIP_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPicture:
    """A picture file and what is on it.

    Attributes:
        path: The file.
        objects: Masks of each phrase that is there.
        absent: Phrases that are known not to be there.
    """

    path: Path
    objects: Mapping[str, tuple[RunLengths, ...]]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedPictures:
    """Labelled pictures as a :class:`pipeline.training.pictures.PictureSource`."""

    pictures: Sequence[LabelledPicture]

    def draw(self, rng: np.random.Generator, size: int, stage: Stage) -> list[Drawn]:
        """Draw a crop of a picture, with one question about what is there and one about what not.

        Raises:
            PictureError: If the file can no longer be read.
        """
        del stage
        chosen = self.pictures[int(rng.integers(len(self.pictures)))]
        pixels = read_picture(chosen.path)
        crop = random_crop(rng, pixels.shape[:2], size)
        is_flipped = rng.random() < FLIP_SHARE

        def cut(mask: RunLengths) -> NDArray[np.bool_]:
            found = crop.cut_mask(mask.to_mask())
            return found[:, ::-1] if is_flipped else found

        masks = {phrase: [cut(mask) for mask in runs] for phrase, runs in chosen.objects.items()}
        part = crop.cut(pixels)
        known = _known(masks, chosen.absent)
        drawn = Drawn(
            pixels=np.ascontiguousarray(part[:, ::-1]) if is_flipped else part,
            questions=_questions(rng, known, masks),
            covered=known.get,
        )
        return [drawn]


def _known(masks: Mapping[str, Masks], absent: Sequence[str]) -> dict[str, Masks]:
    """Return what each phrase names on a crop, but for phrases of which too little shows."""
    known: dict[str, Masks] = {phrase: [] for phrase in absent}
    for phrase, found in sorted(masks.items()):
        # What the crop has cut away is as absent as what was never there.
        shown = [mask for mask in found if mask.any()]
        if all(mask.sum() >= MIN_VISIBLE_PX for mask in shown):
            known[phrase] = shown
    return known


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
    """Annotated clips as a :class:`pipeline.training.clips.ClipSource`."""

    clips: Sequence[AnnotatedClip]
    root: Path
    strides: tuple[int, ...] = field(default=(1, 1, 2, 3))

    def draw(self, rng: np.random.Generator, stage: Stage) -> Clip:
        """Draw a stretch of a clip that begins with something to follow.

        Raises:
            PictureError: If a frame can no longer be read.
            ConfigError: If no clip has such a stretch.
        """
        for _ in range(MOST_TRIES):
            clip = self.clips[int(rng.integers(len(self.clips)))]
            found = self._stretch(rng, clip, stage)
            if found is not None:
                return found
        tried = f"{MOST_TRIES} stretches of {stage.frames} frames began with no object to follow"
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
                masklet.masklet_id: crop.cut_mask(shape.mask.to_mask())
                for masklet in clip.truth
                if (shape := masklet.shapes[i]) is not None and not masklet.is_crowd
            }
            for i in chosen
        ]
        # Reading pictures is what costs.
        if not can_begin(per_frame[0]):
            return None
        pixels = [crop.cut(_sized(read_picture(self.root / clip.frames[i]), clip)) for i in chosen]
        return follow(rng, np.stack(pixels), per_frame, objects=stage.objects)


def _sized(pixels: NDArray[np.uint8], clip: AnnotatedClip) -> NDArray[np.uint8]:
    """Bring a frame to the size of its masks, if it was stored in another."""
    if pixels.shape[:2] == (clip.height, clip.width):
        return pixels
    return cv2.resize(pixels, (clip.width, clip.height)).astype(np.uint8)


def read_coco_pictures(data: CocoData) -> AnnotatedPictures:
    """Read annotated pictures; categories or, in SA-Co's form, ``text_input`` are the phrases.

    Raises:
        ConfigError: If the file is no such JSON, nothing in it can be used, or something cannot and
            the recipe refuses that.
    """
    problems = Problems(on_bad=OnBad(data.on_bad))
    questions = read_coco(data.annotations, problems, root=data.images)
    objects: dict[str, dict[str, tuple[RunLengths, ...]]] = defaultdict(dict)
    absent: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        (truth,) = question.truths
        if truth:
            objects[question.picture][question.phrase] = tuple(shape.mask for shape in truth)
        else:
            absent[question.picture].append(question.phrase)
    pictures = [
        LabelledPicture(path=data.images / name, objects=objects[name], absent=tuple(absent[name]))
        for name in dict.fromkeys([*objects, *absent])
    ]
    _settle(problems, data.annotations, len(pictures))
    return AnnotatedPictures(pictures=pictures)


def read_clips_of(data: YtvisData) -> ClipSet:
    """Read annotated clips; errors as for :func:`read_coco_pictures`."""
    problems = Problems(on_bad=OnBad(data.on_bad))
    clips = read_clips(data.annotations, problems, root=data.images)
    _settle(problems, data.annotations, len(clips.clips))
    return clips


def frames_of(found: ClipSet, root: Path) -> AnnotatedPictures:
    """Return the frames of annotated clips, files below ``root``, as pictures."""
    pictures: list[LabelledPicture] = []
    for clip in found.clips:
        for index, frame in enumerate(clip.frames):
            objects: dict[str, tuple[RunLengths, ...]] = {}
            for masklet in clip.truth:
                shape = masklet.shapes[index]
                if shape is not None and shape.area:
                    phrase = found.phrases[masklet.category_id]
                    objects[phrase] = (*objects.get(phrase, ()), shape.mask)
            asked = {found.phrases[category] for category in clip.asked}
            pictures.append(
                LabelledPicture(
                    path=root / frame,
                    objects=objects,
                    absent=tuple(sorted(asked - set(objects))),
                )
            )
    return AnnotatedPictures(pictures=pictures)


def _settle(problems: Problems, path: Path, usable: int) -> None:
    """Tell of what cannot be used; refuse it, or refuse a set of which nothing is left."""
    problems.settle()
    for told in problems.told:
        log.warning("%s", told)
    if not usable:
        raise ConfigError([f"{path}: nothing in it can be used ({len(problems.told)} problems)"])
