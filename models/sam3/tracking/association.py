"""Which detection is which masklet (SAM 3, section 3 and appendix on video).

Pure numpy over overlaps and scores.

Shape legend:
    D detections, T masklets of one concept of one stream.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from models.sam3.tracking.options import AssociationRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """What one frame's detections say about the masklets.

    Attributes:
        unexplained: Detections that overlap no masklet, in order of falling score.
        new: Those of them that begin a masklet.
        supports: Shape (D, T), bool: the detection overlaps the masklet at all.
        best_detection: Shape (T,), the most overlapping detection, -1 if none is close enough to
            match.
        is_unmatched: Shape (T,), bool: visible, yet no detection is close. A masklet that is not
            visible is neither matched nor unmatched.
        recondition: Shape (T,), the detection that may re-prompt the masklet, or -1.
        trusted: Shape (T,), the detection whose mask stands for the masklet's, or -1.
    """

    unexplained: tuple[int, ...]
    new: tuple[int, ...]
    supports: NDArray[np.bool_]
    best_detection: NDArray[np.int64]
    is_unmatched: NDArray[np.bool_]
    recondition: NDArray[np.int64]
    trusted: NDArray[np.int64]


def associate(
    iou: NDArray[np.float32],
    scores: NDArray[np.float32],
    is_visible: NDArray[np.bool_],
    rules: AssociationRules,
) -> Association:
    """Associate detections with masklets.

    Args:
        iou: Mask overlap, shape (D, T).
        scores: Detection probabilities, shape (D,).
        is_visible: Whether each masklet's mask is not empty, shape (T,).
        rules: Thresholds.
    """
    num_detections, num_masklets = iou.shape
    order = np.argsort(-scores, kind="stable")
    nobody = np.full(num_masklets, -1, dtype=np.int64)
    if num_detections == 0 or num_masklets == 0:
        # With nothing tracked there is nothing to duplicate.
        return Association(
            unexplained=tuple(int(d) for d in order),
            new=tuple(int(d) for d in order if scores[d] >= rules.first_score),
            supports=np.zeros(iou.shape, dtype=np.bool_),
            best_detection=nobody,
            is_unmatched=is_visible.copy(),
            recondition=nobody.copy(),
            trusted=nobody.copy(),
        )
    closest = iou.max(axis=1)
    best = iou.argmax(axis=0)
    overlap = iou.max(axis=0)
    recondition = nobody.copy()
    for detection in order[::-1]:
        masklet = int(iou[detection].argmax())
        if (
            scores[detection] >= rules.recondition_score
            and closest[detection] >= rules.recondition_iou
        ):
            recondition[masklet] = detection
    unexplained = tuple(int(d) for d in order if closest[d] < rules.new_iou)
    return Association(
        unexplained=unexplained,
        new=tuple(d for d in unexplained if scores[d] >= rules.new_score),
        supports=iou >= rules.new_iou,
        best_detection=np.where(overlap >= rules.match_iou, best, -1),
        is_unmatched=is_visible & (overlap < rules.match_iou),
        recondition=recondition,
        trusted=_assign(iou, rules.trust_iou),
    )


def _assign(iou: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Detection of each masklet, shape (T,), one to one at the largest total overlap, or -1."""
    assigned = np.full(iou.shape[1], -1, dtype=np.int64)
    for detection, masklet in zip(*linear_sum_assignment(-iou), strict=True):
        if iou[detection, masklet] >= threshold:
            assigned[masklet] = detection
    return assigned


def suppress_recently_occluded(
    iou: NDArray[np.float32], last_occluded_s: NDArray[np.float64], threshold: float
) -> NDArray[np.bool_]:
    """Of two masklets on one place, hide the more recently hidden: it jumped onto the other.

    Args:
        iou: Overlap among masklets, shape (T, T).
        last_occluded_s: When each was last hidden, minus infinity for never, shape (T,).
        threshold: Least overlap that counts as one place.

    Returns:
        Which masklets to hide on this frame, shape (T,).
    """
    close = np.triu(iou >= threshold, k=1)
    hidden = np.zeros(len(last_occluded_s), dtype=np.bool_)
    for a, b in np.argwhere(close):
        if last_occluded_s[a] != last_occluded_s[b]:
            hidden[a if last_occluded_s[a] > last_occluded_s[b] else b] = True
    return hidden
