"""What a box has shown is found: the query that lies nearest answers for it, if any is near.

The published detector reads exemplars as a part of the prompt alone, and may miss the very object
that a person has drawn a box round. Here the person's word counts for the place that was shown,
and the first box of all tells the detector what is meant: of more, a small one makes less.

Shape legend:
    Q queries, K boxes, D of the queries, g tokens along a side.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.common.boxes import cxcywh_to_xyxy, generalized_iou
from models.sam3.network.exemplars import Exemplars

# Least generalised IoU of a query's box with the box that was shown.
LEAST_GIOU = 0.1
# From here on it lies there, and how sure it is decides too.
THERE_GIOU = 0.5
# How steeply a mask ends at the box it was shown by, in logits per cell: a refiner, too, is to see
# that there is nothing beyond. A narrower box than this would end the mask between two cells, and
# leave nothing of it.
SLOPE = 100.0
LEAST_CELLS = 1.5
# A mask that covers less of its box than this says nothing of what is there.
LEAST_FILL = 0.05


def shown_boxes(exemplars: Exemplars | None, pair: int | None) -> Tensor:
    """Return the boxes that show what a pair means, xyxy, shape (K, 4); none without a pair."""
    if exemplars is None or pair is None:
        return torch.zeros(0, 4)
    is_shown = exemplars.is_valid[pair] & exemplars.is_positive[pair]
    return cxcywh_to_xyxy(exemplars.boxes_cxcywh[pair][is_shown])


def with_first_box(exemplars: Exemplars) -> Exemplars:
    """Leave out all boxes of what each pair means but the first; those of what it does not stay."""
    is_shown = exemplars.is_valid & exemplars.is_positive
    is_later = is_shown & (is_shown.cumsum(1) > 1)
    return replace(exemplars, is_valid=exemplars.is_valid & ~is_later)


def answers_to(
    query_xyxy: Tensor, scores: NDArray[np.float32], shown_xyxy: Tensor
) -> NDArray[np.int64]:
    """Return which box each query answers for, each box once; -1 for none.

    The nearest query does; of those that lie there, how sure they are is added to how near.

    Args:
        query_xyxy: Boxes of queries, shape (Q, 4).
        scores: Of the queries, shape (Q,), 0 to 1.
        shown_xyxy: Boxes that show what is meant, shape (K, 4), likewise normalised.

    Returns:
        Shape (Q,).
    """
    answers = np.full(len(query_xyxy), -1)
    if not len(shown_xyxy):
        return answers
    overlaps = generalized_iou(query_xyxy[:, None], shown_xyxy[None]).float().numpy(force=True)
    overlaps += np.where(overlaps >= THERE_GIOU, scores[:, None], 0)
    while overlaps.max() >= LEAST_GIOU:
        query, box = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
        answers[query] = box
        overlaps[query], overlaps[:, box] = -1, -1
    return answers


def end_at_boxes(mask_logits: Tensor, shown_xyxy: Tensor, answers: NDArray[np.int64]) -> Tensor:
    """End masks at the boxes that they answer for, as a person drew them.

    A mask that leaves next to nothing within its box gives way to the box: nobody draws one round
    nothing. The bound falls evenly through 0 at the edge of a box, so that it stays there when the
    mask is enlarged.

    Args:
        mask_logits: Shape (D, 4g, 4g).
        shown_xyxy: Shape (K, 4), normalised.
        answers: Which box each mask answers for, -1 for none; shape (D,).
    """
    if not (answers >= 0).any():
        return mask_logits
    rows, columns = mask_logits.shape[-2:]
    device = mask_logits.device
    chosen = torch.from_numpy(answers).to(device)
    edges = shown_xyxy[chosen.clamp(min=0)] * shown_xyxy.new_tensor([columns, rows] * 2)
    middle = (edges[:, :2] + edges[:, 2:]) / 2
    half = ((edges[:, 2:] - edges[:, :2]) / 2).clamp(min=LEAST_CELLS / 2)
    edges = torch.cat((middle - half, middle + half), dim=1)
    x0, y0, x1, y1 = edges.float()[:, :, None, None].unbind(1)
    x = torch.arange(columns, device=device)[None, None] + 0.5
    y = torch.arange(rows, device=device)[None, :, None] + 0.5
    inside = torch.minimum(torch.minimum(x - x0, x1 - x), torch.minimum(y - y0, y1 - y))
    inside = inside.masked_fill((chosen < 0)[:, None, None], torch.inf)
    bound = (SLOPE * inside).to(mask_logits.dtype)
    bounded = torch.minimum(mask_logits, bound)
    covered, whole = ((logits > 0).flatten(1).sum(1) for logits in (bounded, bound))
    is_lost = (chosen >= 0) & (covered < LEAST_FILL * whole)
    return torch.where(is_lost[:, None, None], bound, bounded)
