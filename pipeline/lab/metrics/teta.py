"""Track Every Thing Accuracy (Li et al., ECCV 2022), for exhaustively annotated categories.

Localisation, association and classification are judged apart: a prediction belongs to the cluster
of the true object that it overlaps by at least 0.5, whatever its category. As SA-Co/VEval's
evaluator does, only frames with some true object count, and a category without any is not averaged.

Shape legend:
    A = 20 localisation thresholds, C = 10 classification thresholds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.lab.metrics.hota import (
    FrameOverlap,
    Numbers,
    alignment_of,
    count_tracks,
    match_frame,
    with_dense_numbers,
)
from pipeline.lab.metrics.overlap import Floats

LOCALISATION_THRESHOLDS: Floats = np.arange(0.0, 0.99, 0.05)
_NUM_CLASSIFICATION, _FIRST_CLASSIFICATION = 10, 10
_CLUSTER_IOU = 0.5
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class TetaScores:
    """TETA, the mean of localisation, association and classification accuracy; all in [0, 1]."""

    teta: float
    loc_a: float
    assoc_a: float
    cls_a: float
    loc_re: float
    loc_pr: float
    assoc_re: float
    assoc_pr: float
    cls_re: float
    cls_pr: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryClip:
    """All predictions and true objects of a clip, of all categories.

    Attributes:
        frames: Overlaps of everything with everything, frame by frame.
        predicted_categories: Category of each predicted track, by its number.
        truth_categories: Category of each true track, by its number.
    """

    frames: Sequence[FrameOverlap]
    predicted_categories: Mapping[int, int]
    truth_categories: Mapping[int, int]


def split_questions(clip: CategoryClip, categories: Sequence[int]) -> list[list[FrameOverlap]]:
    """Return each category's part of a clip as a sequence of its own, empty ones left out."""
    sequences: list[list[FrameOverlap]] = []
    for category in categories:
        rows = [n for n, one in clip.predicted_categories.items() if one == category]
        columns = [n for n, one in clip.truth_categories.items() if one == category]
        if rows or columns:
            sequences.append(
                [
                    frame.only(
                        predicted=np.isin(frame.predicted, rows),
                        truth=np.isin(frame.truth, columns),
                    )
                    for frame in clip.frames
                ]
            )
    return sequences


def _zeros() -> Floats:
    return np.zeros(len(LOCALISATION_THRESHOLDS))


def _cls_zeros() -> Floats:
    return np.zeros(_NUM_CLASSIFICATION)


@dataclass(slots=True, kw_only=True)
class _Tally:
    """Sums of one category; those of classification have shape (C,), the others (A,)."""

    hits: Floats = field(default_factory=_zeros)
    missed: Floats = field(default_factory=_zeros)
    false: Floats = field(default_factory=_zeros)
    association: Floats = field(default_factory=_zeros)
    association_recall: Floats = field(default_factory=_zeros)
    association_precision: Floats = field(default_factory=_zeros)
    cls_hits: Floats = field(default_factory=_cls_zeros)
    cls_missed: Floats = field(default_factory=_cls_zeros)
    cls_false: Floats = field(default_factory=_cls_zeros)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClassFrame:
    """One frame as one category sees it.

    Attributes:
        overlap: True objects of the category, predictions in a cluster of it on any frame.
        clustered: Predictions in a cluster of it on this frame.
        judged: How many predictions are in a cluster of it or claim the category.
    """

    overlap: FrameOverlap
    clustered: frozenset[int]
    judged: int


def teta_scores(clips: Sequence[CategoryClip], categories: Sequence[int]) -> TetaScores | None:
    """Return the mean over the categories that are there; None without any.

    Args:
        clips: All clips.
        categories: In the order in which they are counted, which matters a little: a clip without
            a cluster of a category resets the false positives that earlier ones charged to it.
    """
    there = {one for clip in clips for one in clip.truth_categories.values()}
    asked = [category for category in categories if category in there]
    tallies = {category: _Tally() for category in asked}
    for clip in clips:
        _add_clip(clip, asked, tallies)
    rows = [_final(tally) for tally in tallies.values() if _is_there(tally)]
    if not rows:
        return None
    means = np.mean(rows, axis=0)
    return TetaScores(
        teta=float(means[[0, 3, 6]].mean()),
        loc_a=means[0],
        loc_re=means[1],
        loc_pr=means[2],
        assoc_a=means[3],
        assoc_re=means[4],
        assoc_pr=means[5],
        cls_a=means[6],
        cls_re=means[7],
        cls_pr=means[8],
    )


def _add_clip(clip: CategoryClip, asked: Sequence[int], tallies: Mapping[int, _Tally]) -> None:
    frames = [frame for frame in clip.frames if len(frame.truth)]
    assigned = _assign_clusters(frames)
    false = {category: _cls_zeros() for category in asked}
    for category in asked:
        seen = _class_frames(clip, frames, assigned, category)
        _add_category(clip, seen, category, tallies[category], false)
    for category in asked:
        tallies[category].cls_false += false[category]


def _assign_clusters(frames: Sequence[FrameOverlap]) -> list[dict[int, int]]:
    """Return for each frame which prediction is given to which true object, of any category."""
    clustered = _clustered_tracks(frames)
    kept = [frame.only(predicted=np.isin(frame.predicted, clustered)) for frame in frames]
    if not clustered:
        return [{} for _ in frames]
    dense = with_dense_numbers(kept)
    alignment = alignment_of(dense)
    assigned: list[dict[int, int]] = []
    for frame, numbered in zip(kept, dense, strict=True):
        rows, columns, ious = match_frame(numbered, alignment)
        is_hit = ious >= _CLUSTER_IOU - _EPS
        pairs = zip(frame.truth[columns[is_hit]], frame.predicted[rows[is_hit]], strict=True)
        assigned.append({int(thing): int(found) for thing, found in pairs})
    return assigned


def _clustered_tracks(frames: Sequence[FrameOverlap]) -> list[int]:
    tracks = [frame.predicted[(frame.ious >= _CLUSTER_IOU).any(1)] for frame in frames]
    return sorted({int(one) for numbers in tracks for one in numbers})


def _class_frames(
    clip: CategoryClip,
    frames: Sequence[FrameOverlap],
    assigned: Sequence[Mapping[int, int]],
    category: int,
) -> list[_ClassFrame]:
    mine = [
        frame.only(truth=np.array([clip.truth_categories[int(t)] == category for t in frame.truth]))
        for frame in frames
    ]
    clustered = [
        frozenset(
            int(one)
            for one in frame.predicted[(frame.ious >= _CLUSTER_IOU).any(1)]
            if int(one) not in {p for t, p in pairs.items() if clip.truth_categories[t] != category}
        )
        for frame, pairs in zip(mine, assigned, strict=True)
    ]
    ever = sorted({one for tracks in clustered for one in tracks})
    return [
        _ClassFrame(
            overlap=frame.only(predicted=np.isin(frame.predicted, ever)),
            clustered=tracks,
            judged=len(
                tracks
                | {int(p) for p in frame.predicted if clip.predicted_categories[int(p)] == category}
            ),
        )
        for frame, tracks in zip(mine, clustered, strict=True)
    ]


def _add_category(
    clip: CategoryClip,
    seen: Sequence[_ClassFrame],
    category: int,
    tally: _Tally,
    false: Mapping[int, Floats],
) -> None:
    num_truth = sum(len(one.overlap.truth) for one in seen)
    if not num_truth or not any(one.clustered for one in seen):
        tally.missed += num_truth
        # Not added: so the reference does it, whatever other categories charged before.
        false[category][:] = sum(one.judged for one in seen)
        return
    frames = with_dense_numbers([one.overlap for one in seen])
    num_predicted, num_true = count_tracks(frames)
    alignment = alignment_of(frames)
    shared = np.zeros((len(LOCALISATION_THRESHOLDS), *alignment.shape))
    for one, frame in zip(seen, frames, strict=True):
        false[category][:] += one.judged - (len(one.clustered) if len(frame.truth) else 0)
        if not len(frame.truth):
            continue
        rows, columns, ious = match_frame(frame, alignment)
        for place, threshold in enumerate(LOCALISATION_THRESHOLDS):
            is_hit = ious >= threshold - _EPS
            found = one.overlap.predicted[rows[is_hit]]
            tally.hits[place] += len(found)
            tally.missed[place] += len(frame.truth) - len(found)
            tally.false[place] += len(one.clustered - {int(p) for p in found})
            shared[place, frame.predicted[rows[is_hit]], frame.truth[columns[is_hit]]] += 1
            if place >= _FIRST_CLASSIFICATION:
                _add_classes(clip, found, category, tally, false, place - _FIRST_CLASSIFICATION)
    either = num_predicted[None, :, None] + num_true[None, None, :] - shared
    square = shared * shared
    tally.association += (square / np.maximum(1, either)).sum((1, 2))
    tally.association_recall += (square / np.maximum(1, num_true)[None, None, :]).sum((1, 2))
    tally.association_precision += (square / np.maximum(1, num_predicted)[None, :, None]).sum(
        (1, 2)
    )


def _add_classes(
    clip: CategoryClip,
    found: Numbers,
    category: int,
    tally: _Tally,
    false: Mapping[int, Floats],
    place: int,
) -> None:
    """Judge the categories of the localised predictions at one classification threshold."""
    claimed = [clip.predicted_categories[int(one)] for one in found]
    right = claimed.count(category)
    tally.cls_hits[place] += right
    tally.cls_missed[place] += len(claimed) - right
    for other in claimed:
        if other != category and other in false:
            false[other][place] += 1


def _is_there(tally: _Tally) -> bool:
    return bool((tally.hits + tally.missed + tally.false > 0).any())


def _final(tally: _Tally) -> list[float]:
    """Return accuracy, recall and precision of localisation, association and classification."""
    hits, cls_hits = tally.hits, tally.cls_hits
    per_hit = np.maximum(1, hits)
    curves = (
        hits / np.maximum(1, hits + tally.missed + tally.false),
        hits / np.maximum(1, hits + tally.missed),
        hits / np.maximum(1, hits + tally.false),
        tally.association / per_hit,
        tally.association_recall / per_hit,
        tally.association_precision / per_hit,
        cls_hits / np.maximum(1, cls_hits + tally.cls_missed + tally.cls_false),
        cls_hits / np.maximum(1, cls_hits + tally.cls_missed),
        cls_hits / np.maximum(1, cls_hits + tally.cls_false),
    )
    return [float(curve.mean()) for curve in curves]
