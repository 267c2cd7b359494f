"""Prompts that a person might give for an object: points and boxes, and clicks that correct.

As SAM was trained (Segment Anything, appendix A): a first prompt at random, then clicks where the
answer is wrong, together with the answer itself.

Shape legend:
    B objects, S side of the mask grid, P points.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.common.prompting import ObjectPrompts

JITTER = 0.1


class Opening(StrEnum):
    """What the first prompt is."""

    POINT = "point"
    BOX = "box"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickPlan:
    """How the objects of a batch are asked for: all in one way, so that nothing needs padding."""

    opening: Opening
    corrections: int


def random_plan(rng: np.random.Generator) -> ClickPlan:
    """Draw how to ask."""
    opening = tuple(Opening)[int(rng.choice(3, p=(0.5, 0.4, 0.1)))]
    return ClickPlan(opening=opening, corrections=int(rng.integers(0, 3)))


def first_prompt(rng: np.random.Generator, masks: Tensor, plan: ClickPlan) -> ObjectPrompts:
    """Ask for objects.

    Args:
        rng: Source of every choice.
        masks: Share of each cell that the object covers, shape (B, S, S); none is empty.
        plan: How.
    """
    truth = masks.numpy(force=True)
    batch = len(truth)
    points = np.zeros((batch, 0, 2), np.float32)
    boxes = None
    if plan.opening is not Opening.BOX:
        points = np.stack([_cell(rng, mask >= min(0.5, mask.max())) for mask in truth])[:, None]
    if plan.opening is not Opening.POINT:
        boxes = torch.from_numpy(np.stack([_box(rng, mask) for mask in truth])).to(masks)
    return ObjectPrompts(
        points=torch.from_numpy(points).to(masks),
        labels=torch.ones(batch, points.shape[1], dtype=torch.int64, device=masks.device),
        boxes=boxes,
        mask_logits=None,
    )


def correct(
    rng: np.random.Generator, prompts: ObjectPrompts, masks: Tensor, logits: Tensor
) -> ObjectPrompts:
    """Add a click where the answer is wrong, and the answer itself.

    Args:
        rng: Source of every choice.
        prompts: What was asked.
        masks: The truth, shape (B, S, S).
        logits: The answer, shape (B, 1, S, S).
    """
    truth = (masks >= 0.5).numpy(force=True)
    answer = (logits[:, 0] > 0).numpy(force=True)
    points, labels = [], []
    for wanted, given in zip(truth, answer, strict=True):
        wrong = wanted != given
        point = _cell(rng, wrong if wrong.any() else wanted if wanted.any() else ~wanted)
        side = len(wanted)
        column, row = (min(int(x * side), side - 1) for x in point)
        points.append(point)
        labels.append(int(wanted[row, column]))
    clicks = torch.from_numpy(np.stack(points)).to(prompts.points)[:, None]
    kinds = torch.tensor(labels, device=masks.device)[:, None]
    return replace(
        prompts,
        points=torch.cat((prompts.points, clicks), dim=1),
        labels=torch.cat((prompts.labels, kinds), dim=1),
        mask_logits=logits.detach(),
    )


def _cell(rng: np.random.Generator, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Choose a place in one of the cells, (x, y) in 0 to 1."""
    rows, columns = np.nonzero(inside)
    chosen = int(rng.integers(len(rows)))
    place = np.array([columns[chosen], rows[chosen]]) + rng.random(2)
    return (place / len(inside)).astype(np.float32)


def _box(rng: np.random.Generator, mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the box of a mask as a hasty hand would draw it, x0, y0, x1, y1 in 0 to 1."""
    rows, columns = np.nonzero(mask >= min(0.5, mask.max()))
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)
    size = np.tile(box[2:] - box[:2], 2)
    drawn = (box + rng.uniform(-JITTER, JITTER, 4) * size) / len(mask)
    drawn = drawn.clip(0, 1)
    return np.concatenate([np.minimum(drawn[:2], drawn[2:]), np.maximum(drawn[:2], drawn[2:])])
