"""Masks between the frame and the session: overlap, stacking, and the way back to the frame's size.

Shape legend:
    K objects, D detections, T masklets, g_h g_w the mask grid, H W the frame in px.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.common.prompting import check_pixels
from models.sam3.refiner import MaskRefiner, Windows

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


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnMasks:
    """Masks of one picture: on the grid, and anew in windows where there is a refiner.

    Attributes:
        logits: As the model draws them, shape (K, g_h, g_w).
        picture_hw: Height and width of the picture in px.
        windows: Where they were refined; ``None`` where they were not.
        refined: Logits there, shape (M, R, R).
    """

    logits: Tensor
    picture_hw: tuple[int, int]
    windows: Windows | None = None
    refined: Tensor | None = None

    @classmethod
    def draw(
        cls,
        logits: Tensor,
        picture_hw: tuple[int, int],
        *,
        refiner: MaskRefiner | None,
        pixels: Tensor | None,
    ) -> "DrawnMasks":
        """Refine masks (K, g_h, g_w) of a picture (H, W, 3), uint8, if both are there."""
        logits = logits.float()
        if refiner is None or pixels is None:
            return cls(logits=logits, picture_hw=picture_hw)
        windows = Windows.of(logits, picture_hw)
        if not windows.corners:
            return cls(logits=logits, picture_hw=picture_hw)
        refined = refiner(
            windows.cut(pixels, refiner.side), windows.cut_logits(logits, refiner.side)
        )
        return cls(logits=logits, picture_hw=picture_hw, windows=windows, refined=refined)

    def masks(self) -> Tensor:
        """Return the masks, shape (K, H, W), bool."""
        if self.windows is None or self.refined is None:
            return masks_at(self.logits, self.picture_hw)
        # Outside its window a mask is empty, on the grid too.
        masks = self.logits.new_zeros(len(self.logits), *self.picture_hw, dtype=torch.bool)
        for place, k in enumerate(self.windows.of_mask):
            self._paste(masks[k], place)
        return masks

    def logits_of(self, index: Sequence[int]) -> Tensor:
        """Return the logits of some masks at the picture's size, shape (len(index), H, W)."""
        large = logits_at(self.logits[list(index)], self.picture_hw)
        if self.windows is not None:
            for row, k in enumerate(index):
                if k in self.windows.of_mask:
                    self._paste(large[row], self.windows.of_mask.index(k))
        return large

    def may_meet(self, one: int, other: int) -> bool:
        """Tell whether two masks can have a pixel in common."""
        if self.windows is None:
            return bool(((self.logits[one] > 0) & (self.logits[other] > 0)).any())
        if not {one, other} <= set(self.windows.of_mask):
            return False
        a, b = (self.windows.corners[self.windows.of_mask.index(k)] for k in (one, other))
        return max(a[0], b[0]) < min(a[2], b[2]) and max(a[1], b[1]) < min(a[3], b[3])

    def _paste(self, plane: Tensor, place: int) -> None:
        """Put one window's logits, or where they are above 0, on its place in (H, W)."""
        if self.windows is None or self.refined is None:
            return
        x0, y0, x1, y1 = self.windows.corners[place]
        part = F.interpolate(
            self.refined[place][None, None],
            size=(y1 - y0, x1 - x0),
            mode="bilinear",
            antialias=True,
        )[0, 0]
        plane[y0:y1, x0:x1] = part > 0 if plane.dtype is torch.bool else part


def frame_masks(
    drawn: DrawnMasks,
    *,
    groups: Sequence[int],
    sureness: Sequence[float],
    one_place_iou: float,
    by_pixel: bool = False,
) -> list[NDArray[np.bool_]]:
    """Return masks at the frame's size, each pixel given to one object.

    Where two objects of one group meet, the surer takes the pixel, as published, or with
    ``by_pixel`` the one whose mask is surer of it, unless they lie on one place. Where groups meet,
    two masks that lie on one place are two names for one thing and share it; any others are two
    things, and the one whose mask is surer of the pixel takes it.

    Args:
        drawn: Masks of K objects on the frame.
        groups: Phrase of each object, length K.
        sureness: How sure each object is, length K.
        one_place_iou: Least overlap of masks that lie on one place.
        by_pixel: Whether objects of one group that meet divide what they share pixel by pixel.
    """
    if not groups:
        return []
    masks = drawn.masks().numpy(force=True)
    # On the grid, not at the frame's size: there the product would cost gigabytes.
    overlap = mask_iou(drawn.logits > 0, drawn.logits > 0)
    order = sorted(range(len(groups)), key=lambda k: -sureness[k])
    for place, k in enumerate(order):
        for other in order[:place]:
            if not drawn.may_meet(k, other):
                continue
            is_one_place = overlap[k, other] >= one_place_iou
            if groups[other] == groups[k] and (is_one_place or not by_pixel):
                masks[k] &= ~masks[other]
            elif not is_one_place and (shared := masks[k] & masks[other]).any():
                theirs, mine = drawn.logits_of([other, k])
                is_others = (theirs >= mine).numpy(force=True)
                masks[k] &= ~(shared & is_others)
                masks[other] &= ~(shared & ~is_others)
    return list(masks)
