"""Assignment of queries to objects (DETR, section 3.1; one-to-many as in H-DETR, section 3.2)."""

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from models.common.boxes import cxcywh_to_xyxy, generalized_iou

CLASS_COST, L1_COST, GIOU_COST = 2.0, 5.0, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """M assigned triples.

    Attributes:
        pair: Index of the (image, concept) pair, shape (M,).
        query: Index of the query, shape (M,).
        target: Index of the object among all objects of the batch, shape (M,).
    """

    pair: Tensor
    query: Tensor
    target: Tensor


@torch.no_grad()
def match(
    logits: Tensor, boxes_cxcywh: Tensor, targets_cxcywh: Tensor, counts: list[int], *, repeats: int
) -> Matches:
    """Assign each object to ``repeats`` queries of its pair at least total cost.

    Args:
        logits: Query scores, shape (B, Q).
        boxes_cxcywh: Shape (B, Q, 4).
        targets_cxcywh: Objects of all pairs one after another, shape (sum of counts, 4).
        counts: Number of objects of each pair, length B.
        repeats: Queries per object: 1 for the last layer, more for those before.
    """
    pairs: list[int] = []
    queries: list[int] = []
    objects: list[int] = []
    start = 0
    for pair, count in enumerate(counts):
        if count:
            cost = _cost(logits[pair], boxes_cxcywh[pair], targets_cxcywh[start : start + count])
            times = min(repeats, logits.shape[1] // count)
            rows, columns = linear_sum_assignment(cost.repeat(1, times).numpy(force=True))
            pairs.extend([pair] * len(rows))
            queries.extend(rows.tolist())
            objects.extend((start + columns % count).tolist())
        start += count
    as_index = [
        torch.tensor(values, dtype=torch.int64, device=logits.device)
        for values in (pairs, queries, objects)
    ]
    return Matches(pair=as_index[0], query=as_index[1], target=as_index[2])


def _cost(logits: Tensor, boxes: Tensor, targets: Tensor) -> Tensor:
    """Cost of shape (Q, count)."""
    probability = logits.sigmoid()[:, None]
    distance = torch.cdist(boxes, targets, p=1)
    overlap = generalized_iou(cxcywh_to_xyxy(boxes)[:, None], cxcywh_to_xyxy(targets)[None])
    return -CLASS_COST * probability + L1_COST * distance - GIOU_COST * overlap


def focal_bce(
    logits: Tensor, targets: Tensor, *, gamma: float = 2.0, alpha: float = 0.25
) -> Tensor:
    """Sigmoid focal loss per element (Lin et al., 2017)."""
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probability = logits.sigmoid()
    miss = probability * (1 - targets) + (1 - probability) * targets
    return loss * miss**gamma * (alpha * targets + (1 - alpha) * (1 - targets))


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Dice loss of masks (M, H, W), one value per mask (V-Net, section 3)."""
    probability, targets = logits.sigmoid().flatten(1), targets.flatten(1)
    overlap = 2 * (probability * targets).sum(1)
    return 1 - (overlap + 1) / (probability.sum(1) + targets.sum(1) + 1)
