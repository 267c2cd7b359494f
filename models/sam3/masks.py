"""Masks between the frame and the session: overlap, stacking, and the way back to the frame's size.

Shape legend:
    K objects, D detections, T masklets, g_h g_w the mask grid, H W the frame in px.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.common.prompting import check_pixels

# Mask pixels brought to a picture's size at once: bounds the memory of many masks on a large one.
MAX_PIXELS = 2**25


def to_images(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Move a picture of shape (H, W, 3), uint8, to the device as (1, H, W, 3).

    Raises:
        ValueError: If it has another shape or type.
    """
    return torch.from_numpy(np.ascontiguousarray(check_pixels(pixels))).to(device)[None]


def stack_masks(rows: Sequence[Tensor], like: Tensor) -> Tensor:
    """Stack masks (g_h, g_w) to (K, g_h, g_w); with none, K is 0 and the rest as in ``like``."""
    return torch.stack(list(rows)) if rows else like.new_zeros(0, *like.shape[1:])


def mask_iou(a: Tensor, b: Tensor) -> NDArray[np.float32]:
    """Return the overlap of masks (D, g_h, g_w) with masks (T, g_h, g_w), shape (D, T), 0 … 1.

    A product of matrices, not a broadcast, to bound memory.
    """
    flat_a, flat_b = a.flatten(1).float(), b.flatten(1).float()
    inter = flat_a @ flat_b.t()
    union = flat_a.sum(1)[:, None] + flat_b.sum(1)[None] - inter
    return (inter / union.clamp(min=1)).numpy(force=True)


def mask_centre(mask_logits: Tensor) -> tuple[float, float]:
    """Return the centre (x, y) of a non-empty mask (g_h, g_w), as shares of its sides."""
    rows, columns = (mask_logits > 0).nonzero(as_tuple=True)
    height, width = mask_logits.shape
    return (float(columns.float().mean()) + 0.5) / width, (
        float(rows.float().mean()) + 0.5
    ) / height


def logits_at(logits: Tensor, picture_hw: tuple[int, int]) -> Tensor:
    """Bring mask logits (K, g_h, g_w) to a picture's size, (K, H, W)."""
    if not len(logits):
        return logits.new_zeros(0, *picture_hw)
    return F.interpolate(logits[None], size=picture_hw, mode="bilinear")[0]


def masks_at(logits: Tensor, picture_hw: tuple[int, int]) -> Tensor:
    """Bring mask logits (K, g_h, g_w) to a picture's size and decide, (K, H, W), bool."""
    masks = torch.zeros(len(logits), *picture_hw, dtype=torch.bool, device=logits.device)
    at_once = max(MAX_PIXELS // (picture_hw[0] * picture_hw[1]), 1)
    for start in range(0, len(logits), at_once):
        part = slice(start, start + at_once)
        masks[part] = logits_at(logits[part], picture_hw) > 0
    return masks


def frame_masks(
    logits: Tensor,
    *,
    groups: Sequence[int],
    sureness: Sequence[float],
    frame_hw: tuple[int, int],
    one_place_iou: float,
    by_pixel: bool = False,
) -> list[NDArray[np.bool_]]:
    """Return masks at the frame's size, each pixel given to one object.

    Where two objects of one group meet, the surer takes the pixel, as published, or with
    ``by_pixel`` the one whose mask is surer of it, unless they lie on one place. Where groups meet,
    two masks that lie on one place are two names for one thing and share it; any others are two
    things, and the one whose mask is surer of the pixel takes it.

    Args:
        logits: Mask logits, shape (K, g_h, g_w).
        groups: Phrase of each object, length K.
        sureness: How sure each object is, length K.
        frame_hw: Height and width of the frame in px.
        one_place_iou: Least overlap of masks that lie on one place.
        by_pixel: Whether objects of one group that meet divide what they share pixel by pixel.
    """
    if not groups:
        return []
    masks = masks_at(logits, frame_hw).numpy(force=True)
    # On the grid, not at the frame's size: there the product would cost gigabytes.
    overlap = mask_iou(logits > 0, logits > 0)
    order = sorted(range(len(groups)), key=lambda k: -sureness[k])
    for place, k in enumerate(order):
        for other in order[:place]:
            if overlap[k, other] == 0:
                continue
            is_one_place = overlap[k, other] >= one_place_iou
            if groups[other] == groups[k] and (is_one_place or not by_pixel):
                masks[k] &= ~masks[other]
            elif not is_one_place and (masks[k] & masks[other]).any():
                theirs, mine = logits_at(logits[[other, k]], frame_hw)
                is_others = (theirs >= mine).numpy(force=True)
                masks[k] &= ~(masks[other] & is_others)
                masks[other] &= ~(masks[k] & ~is_others)
    return list(masks)
