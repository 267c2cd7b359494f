"""Higher Order Tracking Accuracy (Luiten et al., IJCV 2021), as TrackEval computes it.

TrackEval itself is not used: its package asks for ``opencv-python``, which cannot be installed
beside the headless OpenCV of this project, and for matplotlib.

Shape legend:
    T true objects and P predictions of one frame, A = 19 localisation thresholds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.lab.metrics.overlap import Floats, assign

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]
HOTA_THRESHOLDS: Floats = np.arange(0.05, 0.99, 0.05)
_EPS = float(np.finfo(np.float64).eps)
_TINY = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameOverlap:
    """What overlaps what on one frame.

    Attributes:
        predicted: Numbers of the predicted tracks on it, each once, shape (P,).
        truth: Numbers of the true tracks on it, each once, shape (T,).
        ious: Their overlaps, shape (P, T), in [0, 1].
    """

    predicted: Numbers
    truth: Numbers
    ious: Floats

    def only(self, *, predicted: Flags | None = None, truth: Flags | None = None) -> "FrameOverlap":
        """Return some of the predictions and true objects, chosen by flags (P,) and (T,)."""
        rows = np.ones(len(self.predicted), dtype=np.bool_) if predicted is None else predicted
        columns = np.ones(len(self.truth), dtype=np.bool_) if truth is None else truth
        return FrameOverlap(
            predicted=self.predicted[rows],
            truth=self.truth[columns],
            ious=self.ious[rows][:, columns],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HotaSums:
    """What HOTA is computed from, at each threshold, each shape (A,); adds up over sequences."""

    hits: Floats
    missed: Floats
    false: Floats
    association: Floats
    association_recall: Floats
    association_precision: Floats
    similarity: Floats

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """Add sequences up, which weights them by their detections."""
        listed = list(parts)
        return cls(
            **{f.name: _added([getattr(one, f.name) for one in listed]) for f in fields(cls)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HotaScores:
    """HOTA and its parts, means over the thresholds, in [0, 1]."""

    hota: float
    det_a: float
    ass_a: float
    det_re: float
    det_pr: float
    ass_re: float
    ass_pr: float
    loc_a: float
    owta: float


def hota_sums(frames: Sequence[FrameOverlap]) -> HotaSums:
    """Match one sequence frame by frame, favouring pairs that agree over the whole of it."""
    frames = with_dense_numbers(frames)
    tracks = count_tracks(frames)
    alignment = alignment_of(frames)
    num = len(HOTA_THRESHOLDS)
    hits, missed, false, similarity = (np.zeros(num) for _ in range(4))
    shared = np.zeros((num, *alignment.shape))
    for frame in frames:
        rows, columns, ious = match_frame(frame, alignment)
        for place, threshold in enumerate(HOTA_THRESHOLDS):
            is_hit = ious >= threshold - _EPS
            num_hits = int(np.count_nonzero(is_hit))
            hits[place] += num_hits
            missed[place] += len(frame.truth) - num_hits
            false[place] += len(frame.predicted) - num_hits
            similarity[place] += ious[is_hit].sum()
            shared[place, frame.predicted[rows[is_hit]], frame.truth[columns[is_hit]]] += 1
    return HotaSums(
        hits=hits,
        missed=missed,
        false=false,
        similarity=similarity,
        **_association(shared, *tracks),
    )


def hota_scores(sums: HotaSums) -> HotaScores:
    """Return means over the thresholds; a localisation of 1 where nothing was hit."""
    hits = sums.hits
    det_a = hits / np.maximum(1, hits + sums.missed + sums.false)
    det_re = hits / np.maximum(1, hits + sums.missed)
    det_pr = hits / np.maximum(1, hits + sums.false)
    ass_a = sums.association / np.maximum(1, hits)
    loc_a = np.maximum(_TINY, sums.similarity) / np.maximum(_TINY, hits)
    return HotaScores(
        hota=float(np.sqrt(det_a * ass_a).mean()),
        det_a=float(det_a.mean()),
        ass_a=float(ass_a.mean()),
        det_re=float(det_re.mean()),
        det_pr=float(det_pr.mean()),
        ass_re=float((sums.association_recall / np.maximum(1, hits)).mean()),
        ass_pr=float((sums.association_precision / np.maximum(1, hits)).mean()),
        loc_a=float(loc_a.mean()),
        owta=float(np.sqrt(det_re * ass_a).mean()),
    )


def with_dense_numbers(frames: Sequence[FrameOverlap]) -> list[FrameOverlap]:
    """Return the frames with tracks numbered from 0 without gaps, in order of their numbers."""
    predicted, truth = (
        _distinct([f.predicted for f in frames]),
        _distinct([f.truth for f in frames]),
    )
    return [
        FrameOverlap(
            predicted=np.searchsorted(predicted, frame.predicted).astype(np.int64),
            truth=np.searchsorted(truth, frame.truth).astype(np.int64),
            ious=frame.ious,
        )
        for frame in frames
    ]


def count_tracks(frames: Sequence[FrameOverlap]) -> tuple[Floats, Floats]:
    """Return on how many frames each predicted and each true track is; numbers must be dense."""
    predicted, truth = (
        np.bincount(np.concatenate([*numbers, np.zeros(0, dtype=np.int64)])).astype(np.float64)
        for numbers in ([f.predicted for f in frames], [f.truth for f in frames])
    )
    return predicted, truth


def alignment_of(frames: Sequence[FrameOverlap]) -> Floats:
    """Return how far each pair of tracks agrees over all frames, a soft Jaccard index.

    Numbers must be dense; the shape is (predicted tracks, true tracks).
    """
    num_predicted, num_truth = count_tracks(frames)
    agreed = np.zeros((len(num_predicted), len(num_truth)))
    for frame in frames:
        ious = frame.ious
        spread = ious.sum(0, keepdims=True) + ious.sum(1, keepdims=True) - ious
        share = np.divide(ious, spread, out=np.zeros_like(ious), where=spread > _EPS)
        agreed[frame.predicted[:, None], frame.truth[None, :]] += share
    return agreed / (num_predicted[:, None] + num_truth[None, :] - agreed)


def match_frame(frame: FrameOverlap, alignment: Floats) -> tuple[Numbers, Numbers, Floats]:
    """Return rows, columns and overlaps of one frame's pairs, whatever their overlap."""
    worth = alignment[frame.predicted[:, None], frame.truth[None, :]] * frame.ious
    # True objects come first in TrackEval; the order decides among equals.
    pairs = [(row, column) for column, row in assign(worth.T)]
    rows = np.array([row for row, _ in pairs], dtype=np.int64)
    columns = np.array([column for _, column in pairs], dtype=np.int64)
    return rows, columns, frame.ious[rows, columns]


def _association(shared: Floats, num_predicted: Floats, num_truth: Floats) -> dict[str, Floats]:
    predicted, truth = num_predicted[None, :, None], num_truth[None, None, :]
    either = np.maximum(1, predicted + truth - shared)
    return {
        "association": (shared * shared / either).sum((1, 2)),
        "association_recall": (shared * shared / np.maximum(1, truth)).sum((1, 2)),
        "association_precision": (shared * shared / np.maximum(1, predicted)).sum((1, 2)),
    }


def _distinct(numbers: Sequence[Numbers]) -> Numbers:
    return np.unique(np.concatenate([*numbers, np.zeros(0, dtype=np.int64)]))


def _added(arrays: Sequence[Floats]) -> Floats:
    return np.sum(arrays, axis=0) if arrays else np.zeros(len(HOTA_THRESHOLDS))
