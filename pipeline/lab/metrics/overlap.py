"""Quality measures of concept segmentation and of tracking; numpy and scipy only.

Each function names its source; constants that keep denominators from zero are those of the source,
so that the numbers can be laid beside published ones.

Shape legend:
    H, W picture height and width; P predictions, T true objects, K = 10 overlap thresholds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

IOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
SCORE_THRESHOLD = 0.5
BOUNDARY_TOLERANCE = 0.008
AT_50, AT_75 = 0, 5
_EPS_COUNT, EPS_PRESENCE = 1e-4, 1e-6


def iou_matrix(predicted: Sequence[Mask], truth: Sequence[Mask]) -> Floats:
    """Return the overlap of every prediction with every true object, shape (P, T), in [0, 1].

    Intersection over union; 0 where both masks are empty. All masks have one shape.
    """
    return iou_from_counts(*overlap_counts(predicted, truth))


def overlap_counts(
    predicted: Sequence[Mask], truth: Sequence[Mask]
) -> tuple[Floats, Floats, Floats]:
    """Return intersections (P, T), predicted areas (P,) and true areas (T,) in pixels."""
    rows, columns = _flat(predicted), _flat(truth)
    shared = rows @ columns.T if rows.size and columns.size else None
    return (
        np.zeros((len(predicted), len(truth))) if shared is None else shared.astype(np.float64),
        np.array([mask.sum() for mask in predicted], dtype=np.float64),
        np.array([mask.sum() for mask in truth], dtype=np.float64),
    )


def iou_from_counts(shared: Floats, predicted_areas: Floats, truth_areas: Floats) -> Floats:
    """Return intersection over union from pixel counts, shape (P, T).

    Counts summed over the frames of a clip give the volume IoU of masklets,
    sum of intersections over sum of unions (SA-Co/VEval).
    """
    union = predicted_areas[:, None] + truth_areas[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _flat(masks: Sequence[Mask]) -> NDArray[np.float32]:
    # float32 counts exactly up to 2**24 px, more than any camera's picture.
    if not masks:
        return np.zeros((0, 0), dtype=np.float32)
    return np.stack([mask.ravel() for mask in masks]).astype(np.float32)


def assign(similarity: Floats) -> list[tuple[int, int]]:
    """Return the one-to-one pairs (row, column) with the greatest total similarity (Hungarian)."""
    found = cast("Any", optimize.linear_sum_assignment(-similarity))
    return [(int(row), int(column)) for row, column in zip(*found, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionScore:
    """How one question, a phrase asked of one picture or clip, was answered.

    Attributes:
        num_truth: True objects of the phrase, T.
        num_predicted: Predictions at or above the score threshold, P.
        true_positives: Matched predictions at each of :data:`IOU_THRESHOLDS`, length K.
        matched_ious: Overlap of each matched pair, length min(P, T).
    """

    num_truth: int
    num_predicted: int
    true_positives: tuple[int, ...]
    matched_ious: tuple[float, ...] = ()

    @property
    def is_rightly_empty(self) -> bool:
        """Whether there was nothing and nothing was predicted, which has no F1."""
        return not self.num_truth and not self.num_predicted

    @property
    def local_f1(self) -> Floats:
        """F1 of this question alone at each threshold, shape (K,)."""
        hits = np.array(self.true_positives, dtype=np.float64)
        return _f1_parts(hits, self.num_predicted - hits, self.num_truth - hits)[2]


def score_question(ious: Floats) -> QuestionScore:
    """Match the predictions of one question with its truth; ``ious`` has shape (P, T).

    The assignment maximises the total overlap before any threshold is applied, as SAM 3's
    evaluation does (``sam3/eval/cgf1_eval.py``); a pair then counts where it reaches the threshold.
    """
    matched = tuple(float(ious[row, column]) for row, column in assign(ious))
    return QuestionScore(
        num_truth=int(ious.shape[1]),
        num_predicted=int(ious.shape[0]),
        true_positives=tuple(
            sum(iou >= float(threshold) for iou in matched) for threshold in IOU_THRESHOLDS
        ),
        matched_ious=matched,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptScores:
    """Answers to many questions, summed up; every score in [0, 1], ``il_mcc`` in [-1, 1].

    Attributes:
        num_questions: Questions asked.
        num_positive: Those with at least one true object.
        cgf1: ``positive_micro_f1`` x ``il_mcc``, averaged over the thresholds.
        cgf1_50: The same at overlap 0.50.
        cgf1_75: The same at overlap 0.75.
        positive_micro_f1: F1 of objects over all positive questions, averaged over the thresholds.
        positive_micro_f1_50: The same at overlap 0.50.
        positive_micro_f1_75: The same at overlap 0.75.
        positive_macro_f1: Mean F1 of the questions with both truth and predictions.
        il_mcc: Matthews correlation of "predicted anything" with "is there".
        il_recall: Share of positive questions with a prediction.
        il_precision: Share of answered questions that were positive.
        il_fpr: Share of negative questions with a prediction.
        mean_iou: Mean overlap of the matched pairs of positive questions; 0 without any.
    """

    num_questions: int
    num_positive: int
    cgf1: float
    cgf1_50: float
    cgf1_75: float
    positive_micro_f1: float
    positive_micro_f1_50: float
    positive_micro_f1_75: float
    positive_macro_f1: float
    il_mcc: float
    il_recall: float
    il_precision: float
    il_fpr: float
    mean_iou: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCurves:
    """Answers to many questions, summed up at each of :data:`IOU_THRESHOLDS`; each shape (K,).

    Attributes:
        precision: Share of predictions that hit, those of negative questions included.
        recall: Share of true objects that were hit.
        f1: Harmonic mean of the two.
        positive_micro_precision: ``precision`` with predictions of positive questions only.
        positive_micro_f1: ``f1`` with that precision.
        positive_macro_f1: Mean F1 of the questions with both truth and predictions.
        positive_macro_f1_all: The same over all positive questions, 0 where nothing was predicted.
        il_mcc: Matthews correlation of "predicted anything" with "is there", one number.
    """

    precision: Floats
    recall: Floats
    f1: Floats
    positive_micro_precision: Floats
    positive_micro_f1: Floats
    positive_macro_f1: Floats
    positive_macro_f1_all: Floats
    il_mcc: float

    @property
    def cgf1(self) -> Floats:
        """Classification-gated F1: positive micro F1 times the correlation."""
        return self.positive_micro_f1 * self.il_mcc


def score_curves(questions: Sequence[QuestionScore]) -> ScoreCurves:
    """Sum up answers as classification-gated F1 (SAM 3 paper; ``sam3/eval/cgf1_eval.py``).

    With TP, FP, FN summed over questions, FP over positive questions only, e = 1e-4::

        P = TP / (TP + FP + e)    R = TP / (TP + FN + e)    pmF1 = 2 P R / (P + R + e)

    With one verdict per question (has truth) x (has a prediction)::

        IL_MCC = (TP TN - FP FN) / (sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN)) + 1e-6)

    and cgF1 = pmF1 x IL_MCC at each threshold. Without a negative (or without a positive) question
    IL_MCC, and so cgF1, is 0: ask some of both. The macro F1 is 0 where the source divides 0 by 0.
    """
    positive = [question for question in questions if question.num_truth]
    hits = np.array([q.true_positives for q in positive], dtype=np.float64)
    hits = hits.reshape(-1, len(IOU_THRESHOLDS)).sum(0)
    missed = sum(q.num_truth for q in positive) - hits
    precision, recall, f1 = _f1_parts(hits, sum(q.num_predicted for q in questions) - hits, missed)
    micro = _f1_parts(hits, sum(q.num_predicted for q in positive) - hits, missed)
    answered = [q.local_f1 for q in positive if q.num_predicted]
    summed = np.sum(answered, axis=0) if answered else np.zeros(len(IOU_THRESHOLDS))
    return ScoreCurves(
        precision=precision,
        recall=recall,
        f1=f1,
        positive_micro_precision=micro[0],
        positive_micro_f1=micro[2],
        positive_macro_f1=summed / max(len(answered), 1),
        positive_macro_f1_all=summed / max(len(positive), 1),
        il_mcc=_presence(questions).mcc,
    )


def concept_scores(questions: Iterable[QuestionScore]) -> ConceptScores:
    """Sum up answers as :func:`score_curves` does, into the numbers that are reported."""
    asked = list(questions)
    positive = [question for question in asked if question.num_truth]
    curves, presence = score_curves(asked), _presence(asked)
    cgf1, micro = curves.cgf1, curves.positive_micro_f1
    overlaps = [iou for q in positive for iou in q.matched_ious]
    return ConceptScores(
        num_questions=len(asked),
        num_positive=len(positive),
        cgf1=float(cgf1.mean()),
        cgf1_50=float(cgf1[AT_50]),
        cgf1_75=float(cgf1[AT_75]),
        positive_micro_f1=float(micro.mean()),
        positive_micro_f1_50=float(micro[AT_50]),
        positive_micro_f1_75=float(micro[AT_75]),
        positive_macro_f1=float(curves.positive_macro_f1.mean()),
        il_mcc=presence.mcc,
        il_recall=presence.hits / (presence.hits + presence.misses + EPS_PRESENCE),
        il_precision=presence.hits / (presence.hits + presence.alarms + EPS_PRESENCE),
        il_fpr=presence.alarms / (presence.alarms + presence.silences + EPS_PRESENCE),
        mean_iou=float(np.mean(overlaps)) if overlaps else 0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedScores:
    """Classification-gated F1 and its two factors, of one or many sets of pictures.

    Attributes:
        cgf1: See :class:`ConceptScores`; any shape.
        positive_micro_f1: Likewise, of that shape.
        il_mcc: Likewise, of that shape.
    """

    cgf1: Floats
    positive_micro_f1: Floats
    il_mcc: Floats


def tally(questions: Sequence[QuestionScore]) -> Floats:
    """Return the counts that classification-gated F1 is made of, shape (K + 6,).

    Hits at each threshold, predictions and true objects of the positive questions, and the four
    verdicts on presence. Counts of several pictures add up.
    """
    positive = [question for question in questions if question.num_truth]
    hits = np.array([q.true_positives for q in positive], dtype=np.float64)
    presence = _presence(questions)
    others = (
        sum(q.num_predicted for q in positive),
        sum(q.num_truth for q in positive),
        presence.hits,
        presence.alarms,
        presence.misses,
        presence.silences,
    )
    return np.concatenate((hits.reshape(-1, len(IOU_THRESHOLDS)).sum(0), others))


def gated_scores(tallies: Floats) -> GatedScores:
    """Return what :func:`concept_scores` makes of the same questions; (..., K + 6) to (...)."""
    hits, others = np.split(tallies, [len(IOU_THRESHOLDS)], axis=-1)
    predicted, truth, *verdicts = np.moveaxis(others, -1, 0)
    f1 = _f1_parts(hits, predicted[..., None] - hits, truth[..., None] - hits)[2]
    micro, il_mcc = f1.mean(-1), _correlation(*verdicts)
    return GatedScores(cgf1=micro * il_mcc, positive_micro_f1=micro, il_mcc=il_mcc)


def most_favourable(scores: Sequence[QuestionScore]) -> QuestionScore:
    """Return the score against the annotator that the answer agrees with best (SA-Co/Gold).

    The greater mean F1 wins and the earlier of equals; an answer that is rightly empty for any
    annotator is right (``sam3/eval/cgf1_eval.py``).

    Args:
        scores: One per annotator, at least one.
    """
    best = scores[0]
    for score in scores[1:]:
        if score.is_rightly_empty or (
            not best.is_rightly_empty and score.local_f1.mean() > best.local_f1.mean()
        ):
            best = score
    return best


def _f1_parts(hits: Floats, false: Floats, missed: Floats) -> tuple[Floats, Floats, Floats]:
    precision = hits / (hits + false + _EPS_COUNT)
    recall = hits / (hits + missed + _EPS_COUNT)
    return precision, recall, 2 * precision * recall / (precision + recall + _EPS_COUNT)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Presence:
    hits: int
    alarms: int
    misses: int
    silences: int

    @property
    def mcc(self) -> float:
        counts = (self.hits, self.alarms, self.misses, self.silences)
        return float(_correlation(*(np.float64(count) for count in counts)))


def _correlation(
    tp: Floats | np.float64,
    fp: Floats | np.float64,
    fn: Floats | np.float64,
    tn: Floats | np.float64,
) -> Floats:
    spread = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return (tp * tn - fp * fn) / (spread + EPS_PRESENCE)


def _presence(questions: Sequence[QuestionScore]) -> _Presence:
    verdicts = [(q.num_truth > 0, q.num_predicted > 0) for q in questions]
    return _Presence(
        hits=verdicts.count((True, True)),
        alarms=verdicts.count((False, True)),
        misses=verdicts.count((True, False)),
        silences=verdicts.count((False, False)),
    )


def region_similarity(predicted: Mask, truth: Mask) -> float:
    """Return J, intersection over union (DAVIS 2016); 1 where both masks are empty."""
    union = int(np.count_nonzero(predicted | truth))
    return int(np.count_nonzero(predicted & truth)) / union if union else 1.0


def boundary_accuracy(
    predicted: Mask, truth: Mask, *, tolerance: float = BOUNDARY_TOLERANCE
) -> float:
    """Return F, the F-measure of the two masks' boundaries (DAVIS 2016).

    A boundary pixel counts as right where the other boundary, dilated by a disk, covers it. The
    disk's radius is ``tolerance`` times the picture's diagonal, rounded up to whole pixels; a
    tolerance of 1 or more is a radius in pixels. 1 where neither mask has a boundary, 0 where one
    has none.

    Args:
        predicted: Shape (H, W).
        truth: Shape (H, W).
        tolerance: Share of the diagonal, or pixels.
    """
    radius = tolerance if tolerance >= 1 else np.ceil(tolerance * np.hypot(*truth.shape))
    found, wanted = boundary(predicted), boundary(truth)
    num_found, num_wanted = int(np.count_nonzero(found)), int(np.count_nonzero(wanted))
    if not num_found or not num_wanted:
        return float(num_found == num_wanted)
    window = _window(found | wanted)
    found, wanted = found[window], wanted[window]
    precision = np.count_nonzero(found & _dilate(wanted, radius)) / num_found
    recall = np.count_nonzero(wanted & _dilate(found, radius)) / num_wanted
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: Mask) -> Mask:
    """Return a mask's one pixel wide boundary, shape (H, W).

    Pixels that differ from their right, lower or lower right neighbour (Martin, Fowlkes and Malik's
    ``seg2bmap``, which DAVIS uses); the frame's last row and column have fewer neighbours.
    """
    edge = np.zeros_like(mask)
    edge[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    edge[:-1, :] |= mask[:-1, :] ^ mask[1:, :]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def _window(edge: Mask) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(edge.any(1)), np.flatnonzero(edge.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _dilate(edge: Mask, radius: float) -> Mask:
    # A pixel lies under the dilating disk exactly if the edge is within the disk's radius of it.
    distance = cast("Floats", ndimage.distance_transform_edt(~edge))
    return distance <= radius


def match_tracks(volume_ious: Floats) -> list[int | None]:
    """Return for each true object the predicted track that is its own, or None.

    One to one, with the greatest total volume IoU (DAVIS 2017 unsupervised pairs proposals with
    objects likewise); a pair without any overlap is no match.

    Args:
        volume_ious: Shape (P, T).
    """
    matches: list[int | None] = [None] * volume_ious.shape[1]
    for row, column in assign(volume_ious):
        if volume_ious[row, column] > 0:
            matches[column] = row
    return matches
