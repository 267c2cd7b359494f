"""Masks between the frame and the session: overlap, stacking, and the way back to the frame's size.

Shape legend:
    K objects, D detections, T masklets, g_h g_w the mask grid, H W the frame in px.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.common.prompting import check_pixels
from models.common.resize import resize
from models.sam3.network.refiner import SURE, Corners, MaskRefiner, Windows

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
class RefinedMask:
    """One mask as the refiner draws it; outside its window it is empty.

    Attributes:
        corners: x0, y0, x1, y1 of the window in px of the picture.
        logits: Shape (R, R).
    """

    corners: Corners
    logits: Tensor

    def enlarged(self) -> Tensor:
        """Return the logits at the window's size in px."""
        x0, y0, x1, y1 = self.corners
        return resize(self.logits[None, None], (y1 - y0, x1 - x0))[0, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnMasks:
    """Masks of one picture: on the grid, and drawn anew where there is a refiner.

    Attributes:
        logits: As the model draws them, shape (K, g_h, g_w).
        picture_hw: Height and width of the picture in px.
        refined: Those that were drawn anew, by their number.
    """

    logits: Tensor
    picture_hw: tuple[int, int]
    refined: Mapping[int, RefinedMask] = field(default_factory=dict[int, RefinedMask])

    @classmethod
    def draw(
        cls,
        logits: Tensor,
        picture_hw: tuple[int, int],
        *,
        refiner: MaskRefiner | None,
        pixels: Tensor | None,
    ) -> "DrawnMasks":
        """Draw masks, anew if there are a refiner and a picture to look at.

        Args:
            logits: As the model draws them, shape (K, g_h, g_w).
            picture_hw: Height and width of the picture in px.
            refiner: The model's, if it has one.
            pixels: The picture, shape (H, W, 3), uint8; ``None`` to leave the masks as they are.
        """
        logits = logits.float()
        if refiner is None or pixels is None:
            return cls(logits=logits, picture_hw=picture_hw)
        side = refiner.side
        windows = Windows.of(logits, picture_hw, most_cells=side)
        if not windows.corners:
            return cls(logits=logits, picture_hw=picture_hw)
        coarse = windows.cut_logits(logits.nan_to_num(nan=-SURE), side)
        refined = torch.minimum(refiner(windows.cut(pixels, side), coarse), coarse + SURE)
        # Colours may speak against all of a small mask; what was found is not to be lost by that.
        is_there = (refined > 0).flatten(1).any(1).tolist()
        return cls(
            logits=logits,
            picture_hw=picture_hw,
            refined={
                k: RefinedMask(corners=corners, logits=refined[place])
                for place, (k, corners) in enumerate(windows.corners.items())
                if is_there[place]
            },
        )

    def cpu(self) -> "DrawnMasks":
        """Return the same in the memory of the CPU."""
        refined = {k: replace(mask, logits=mask.logits.cpu()) for k, mask in self.refined.items()}
        return replace(self, logits=self.logits.cpu(), refined=refined)

    def masks(self) -> Tensor:
        """Return the masks, shape (K, H, W), bool."""
        height, width = self.picture_hw
        masks = self.logits.new_zeros(len(self.logits), height, width, dtype=torch.bool)
        plain = [k for k in range(len(self.logits)) if k not in self.refined]
        if plain:
            masks[plain] = masks_at(self.logits[plain], self.picture_hw)
        for k, mask in self.refined.items():
            x0, y0, x1, y1 = mask.corners
            masks[k, y0:y1, x0:x1] = mask.enlarged() > 0
        return masks

    def mask_logits(self) -> Tensor:
        """Return the logits at the picture's size, shape (K, H, W)."""
        large = logits_at(self.logits, self.picture_hw)
        for k, mask in self.refined.items():
            x0, y0, x1, y1 = mask.corners
            large[k, y0:y1, x0:x1] = mask.enlarged()
        return large

    def logits_in(self, k: int, region: Corners) -> Tensor:
        """Return the logits of one mask in a part of the picture that :meth:`common` gave."""
        x0, y0, x1, y1 = region
        mask = self.refined.get(k)
        if mask is None:
            return logits_at(self.logits[k : k + 1], self.picture_hw)[0, y0:y1, x0:x1]
        left, top, _, _ = mask.corners
        return mask.enlarged()[y0 - top : y1 - top, x0 - left : x1 - left]

    def common(self, one: int, other: int) -> Corners | None:
        """Return the part of the picture that two masks may share, x0, y0, x1, y1 in px, if any."""
        height, width = self.picture_hw
        whole = 0, 0, width, height
        a, b = (self.refined[k].corners if k in self.refined else whole for k in (one, other))
        x0, y0, x1, y1 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
        return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


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
            is_on_grid = k not in drawn.refined and other not in drawn.refined
            region = drawn.common(k, other)
            if region is None or (is_on_grid and overlap[k, other] == 0):
                continue
            x0, y0, x1, y1 = region
            mine, theirs = masks[k, y0:y1, x0:x1], masks[other, y0:y1, x0:x1]
            is_one_place = overlap[k, other] >= one_place_iou
            if groups[other] == groups[k] and (is_one_place or not by_pixel):
                mine &= ~theirs
            elif not is_one_place and (shared := mine & theirs).any():
                is_theirs = drawn.logits_in(other, region) >= drawn.logits_in(k, region)
                is_others = is_theirs.numpy(force=True)
                mine &= ~(shared & is_others)
                theirs &= ~(shared & ~is_others)
    return list(masks)
