"""J&F of prompted objects: semi-supervised video object segmentation (DAVIS 2017, SA-V)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from pipeline.lab.data.datasets.vos import ObjectMasks
from pipeline.lab.metrics.overlap import Mask, boundary_accuracy, region_similarity


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMark:
    """How well one object was followed; J and F are means over its frames, in [0, 1]."""

    clip: str
    object_id: int
    num_frames: int
    j: float
    f: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectScores:
    """Means over all objects of a set, in [0, 1].

    Attributes:
        j_and_f: Mean of the two others.
        j: Region similarity.
        f: Boundary accuracy.
        objects: Each object.
    """

    j_and_f: float
    j: float
    f: float
    objects: tuple[ObjectMark, ...]


@dataclass(slots=True, kw_only=True)
class ClipJudge:
    """Compares the frames of one clip as they come.

    An object's first and last annotated frames do not count: its mask is given on the first. It
    counts from the frame on which it, or a prediction of it, first shows (SA-V's evaluator), or
    from the start (DAVIS's own); one that never shows on a frame that counts is left out.

    Attributes:
        clip: Name of the clip.
        truth: Masks by object and annotated frame.
        counts_from_start: DAVIS's rule.
    """

    clip: str
    truth: ObjectMasks
    counts_from_start: bool
    _marks: dict[int, list[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict(list[tuple[float, float]])
    )
    _shown: set[int] = field(default_factory=set[int])

    def add(self, index: int, found: Mapping[int, Mask]) -> None:
        """Enter the predictions of frame ``index``, by object; frames come in order."""
        for number, masks in self.truth.items():
            counted = sorted(masks)[1:-1]
            if index not in counted:
                continue
            wanted = masks[index].mask()
            mask = found.get(number)
            mask = np.zeros_like(wanted) if mask is None else mask
            if wanted.any():
                self._shown.add(number)
            if self.counts_from_start or number in self._marks or wanted.any() or mask.any():
                marks = region_similarity(mask, wanted), boundary_accuracy(mask, wanted)
                self._marks[number].append(marks)

    def marks(self) -> list[ObjectMark]:
        """Return what the frames so far come to."""
        return [
            ObjectMark(
                clip=self.clip,
                object_id=number,
                num_frames=len(marks),
                j=float(np.mean([j for j, _ in marks])),
                f=float(np.mean([f for _, f in marks])),
            )
            for number, marks in sorted(self._marks.items())
            if number in self._shown
        ]


def object_scores(marks: Iterable[ObjectMark]) -> ObjectScores:
    """Sum objects up; all count alike, however long they are seen."""
    objects = tuple(marks)
    j = float(np.mean([one.j for one in objects])) if objects else 0.0
    f = float(np.mean([one.f for one in objects])) if objects else 0.0
    return ObjectScores(j_and_f=(j + f) / 2, j=j, f=f, objects=objects)
