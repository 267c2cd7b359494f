"""Identity measures of tracking: ID switches and MOTA (CLEAR MOT), and IDF1, as in TrackEval."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from pipeline.lab.metrics.hota import FrameOverlap, count_tracks, with_dense_numbers
from pipeline.lab.metrics.overlap import Floats, assign

_SAME_IOU = 0.5
_EPS = float(np.finfo(np.float64).eps)
_CONTINUITY = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityCounts:
    """Counts of sequences at overlap 0.5; they add up.

    Attributes:
        hits: True masks with a prediction on them, frame by frame.
        missed: True masks without.
        false: Predictions on nothing.
        switches: Times a true track was hit by another predicted track than the last time.
        id_hits: Hits under the one-to-one matching of whole tracks that has most of them (IDTP).
        id_missed: True masks outside it (IDFN).
        id_false: Predicted masks outside it (IDFP).
    """

    hits: int = 0
    missed: int = 0
    false: int = 0
    switches: int = 0
    id_hits: int = 0
    id_missed: int = 0
    id_false: int = 0

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """Add sequences up."""
        listed = list(parts)
        return cls(
            **{f.name: sum(int(getattr(one, f.name)) for one in listed) for f in fields(cls)}
        )

    @property
    def idf1(self) -> float:
        """Share of masks with the right identity (Ristani et al., 2016), in [0, 1]."""
        return self.id_hits / max(1.0, self.id_hits + 0.5 * (self.id_missed + self.id_false))

    @property
    def mota(self) -> float:
        """Multiple object tracking accuracy, at most 1; may be negative."""
        wrong = self.false + self.switches
        return (self.hits - wrong) / max(1, self.hits + self.missed)


def identity_counts(frames: Sequence[FrameOverlap]) -> IdentityCounts:
    """Count one sequence. A pair of the frame before is kept while it overlaps enough."""
    frames = with_dense_numbers(frames)
    num_predicted, num_truth = count_tracks(frames)
    shared = np.zeros((len(num_predicted), len(num_truth)))
    last = np.full(len(num_truth), -1)
    before = last.copy()
    hits = switches = 0
    for frame in frames:
        is_same = frame.ious >= _SAME_IOU - _EPS
        shared[frame.predicted[:, None], frame.truth[None, :]] += is_same
        if not is_same.size:
            continue
        is_kept = frame.predicted[:, None] == before[frame.truth][None, :]
        pairs = _pairs(np.where(is_same, frame.ious + _CONTINUITY * is_kept, 0.0))
        before = np.full_like(before, -1)
        for row, column in pairs:
            found, thing = frame.predicted[row], frame.truth[column]
            switches += last[thing] not in (-1, found)
            before[thing] = last[thing] = found
        hits += len(pairs)
    id_hits = int(sum(shared[row, column] for row, column in assign(shared)))
    return IdentityCounts(
        hits=hits,
        missed=int(num_truth.sum()) - hits,
        false=int(num_predicted.sum()) - hits,
        switches=switches,
        id_hits=id_hits,
        id_missed=int(num_truth.sum()) - id_hits,
        id_false=int(num_predicted.sum()) - id_hits,
    )


def _pairs(worth: Floats) -> list[tuple[int, int]]:
    return [(row, column) for column, row in assign(worth.T) if worth[row, column] > 0]
