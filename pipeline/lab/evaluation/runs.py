"""Runs models over data sets: detectors over pictures, trackers over clips."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from connectors.errors import PictureError
from connectors.pictures.encoding import Pixels
from connectors.pictures.stills import read_picture
from models.common.masks import RunLengths
from models.protocols import ConceptDetector, ConceptTracker
from pipeline.lab.data.datasets.clips import Clip, ClipSet, Masklet
from pipeline.lab.data.datasets.pictures import FoundShape, PictureQuestion, measure
from pipeline.lab.data.datasets.problems import Problems
from pipeline.lab.data.datasets.shapes import Shape
from pipeline.lab.data.datasets.vos import ObjectClip, ObjectMasks
from pipeline.lab.evaluation.following import Stopwatch, TimedTracker, follow_phrases
from pipeline.lab.metrics.overlap import Mask
from pipeline.tracking.track import Track

OnProgress = Callable[[], None]


def answer_questions(
    detector: ConceptDetector,
    questions: Sequence[PictureQuestion],
    root: Path,
    problems: Problems,
    watch: Stopwatch,
    *,
    on_progress: OnProgress,
) -> list[FoundShape]:
    """Ask a detector all questions of each picture at once; ``on_progress`` is called per picture.

    Pictures that cannot be read, or are of another size than annotated, are told of and left out.
    """
    by_picture: dict[str, list[PictureQuestion]] = defaultdict(list)
    for question in questions:
        by_picture[question.picture].append(question)
    answers: list[FoundShape] = []
    for name, asked in by_picture.items():
        pixels = _read(root / name, (asked[0].height, asked[0].width), problems)
        if pixels is not None:
            with watch:
                results = detector.detect(pixels, [question.phrase for question in asked])
            watch.number += 1
            answers += [
                FoundShape(
                    question_id=question.question_id,
                    shape=measure(RunLengths.of(found.mask)),
                    score=found.score,
                )
                for question, result in zip(asked, results, strict=True)
                for found in result.detections
                if found.mask.any()
            ]
        on_progress()
    return answers


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingRules:
    """How clips are tracked.

    Attributes:
        fps: Frames per second of the clips.
        phrases_at_once: Phrases that one pass over a clip looks for; the published figures are of
            one at a time.
        confirm_frames: A track seen on fewer frames is dropped.
    """

    fps: float = 6.0
    phrases_at_once: int = 1
    confirm_frames: int = 3


def track_clips(
    tracker: ConceptTracker,
    clips: ClipSet,
    root: Path,
    rules: TrackingRules,
    problems: Problems,
    watch: Stopwatch,
    *,
    on_progress: OnProgress,
) -> list[Masklet]:
    """Track what is asked of each clip; ``on_progress`` is called per clip.

    A track's score is that of the detection that it began with, as SAM 3's evaluation has it.
    Clips with a picture that cannot be read are told of and end before it.
    """
    predictions: list[Masklet] = []
    for clip in clips.clips:
        for start in range(0, len(clip.asked), rules.phrases_at_once):
            asked = clip.asked[start : start + rules.phrases_at_once]
            phrases = {clips.phrases[category]: category for category in asked}
            predictions += _track(tracker, clip, phrases, root, rules, problems, watch)
        on_progress()
    return predictions


def _track(
    tracker: ConceptTracker,
    clip: Clip,
    phrases: dict[str, int],
    root: Path,
    rules: TrackingRules,
    problems: Problems,
    watch: Stopwatch,
) -> list[Masklet]:
    shapes: dict[int, list[Shape | None]] = {}
    born: dict[int, Track] = {}
    frames = follow_phrases(
        TimedTracker(tracker=tracker, stopwatch=watch),
        _pictures(clip, root, problems),
        stream_id=f"clip-{clip.video_id}-{min(phrases.values())}",
        phrases=list(phrases),
        fps=rules.fps,
    )
    for index, tracks in enumerate(frames):
        for track in tracks:
            born.setdefault(track.no, track)
            mine = shapes.setdefault(track.no, [None] * len(clip.frames))
            mine[index] = Shape.of(track.last_mask.run_lengths())
    return [
        Masklet(
            masklet_id=number,
            video_id=clip.video_id,
            category_id=phrases[born[number].concept],
            shapes=tuple(seen),
            score=born[number].score,
        )
        for number, seen in sorted(shapes.items())
        if sum(shape is not None for shape in seen) >= rules.confirm_frames
    ]


def _pictures(clip: Clip, root: Path, problems: Problems) -> Iterator[Pixels]:
    """Yield a clip's pictures up to the first that cannot be read."""
    for name in clip.frames:
        pixels = _read(root / name, (clip.height, clip.width), problems)
        if pixels is None:
            return
        yield pixels


class ObjectView(Protocol):
    """All objects of a session on one frame."""

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the K objects."""
        ...

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Their masks, shape (K, H, W)."""
        ...


class ObjectSession(Protocol):
    """Follows objects whose masks are given, frame by frame."""

    def push(self, pixels: NDArray[np.uint8], /) -> ObjectView:
        """Follow all objects into the next frame."""
        ...

    def add_mask(self, frame_index: int, object_id: int, mask: Mask, /) -> ObjectView:
        """Give an object's mask on the frame that was pushed last."""
        ...


def follow_objects(
    session: ObjectSession, clip: ObjectClip, truth: ObjectMasks, watch: Stopwatch
) -> Iterator[tuple[int, dict[int, Mask]]]:
    """Follow a clip's objects, each from the mask of the first annotated frame that shows it.

    Yields every frame with the masks of the objects given so far.
    """
    given: dict[int, list[tuple[int, Mask]]] = defaultdict(list)
    for number, masks in truth.items():
        shown = [(index, mask) for index in sorted(masks) if (mask := masks[index].mask()).any()]
        if shown:
            index, mask = shown[0]
            given[index].append((number, mask))
    for index, pixels in enumerate(clip.read_frames()):
        with watch:
            view = session.push(pixels)
            for number, mask in given[index]:
                view = session.add_mask(index, number, mask)
            masks = {one: view.masks[place] for place, one in enumerate(view.object_ids)}
        watch.number += 1
        yield index, masks | dict(given[index])


def _read(path: Path, size_hw: tuple[int, int], problems: Problems) -> Pixels | None:
    try:
        pixels = read_picture(path)
    except PictureError as error:
        problems.add(path, "picture", str(error))
        return None
    if pixels.shape[:2] != size_hw:
        problems.add(path, "picture", f"is {pixels.shape[:2]!r}, annotated as {size_hw!r}")
        return None
    return pixels
