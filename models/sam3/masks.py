"""Masks between the frame and the session: overlap, stacking, and the way back to the frame's size.

Shape legend:
    K objects, D detections, T masklets, g_h g_w the mask grid, H W the frame in px.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.common.masks import Corners, CropMask
from models.common.prompting import check_pixels
from models.common.resize import resize, resize_window
from models.sam3.network.refiner import SURE, MaskRefiner, Windows


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
        cells: What each covers of the grid, length K; crops of g_h x g_w, trimmed.
        picture_hw: Height and width of the picture in px.
        refined: Those that were drawn anew, by their number.
    """

    logits: Tensor
    cells: tuple[CropMask, ...]
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
        cells = tuple(CropMask.of(covered) for covered in (logits > 0).numpy(force=True))
        plain = cls(logits=logits, cells=cells, picture_hw=picture_hw)
        if refiner is None or pixels is None:
            return plain
        side = refiner.side
        windows = Windows.of(logits, picture_hw, most_cells=side)
        if not windows.corners:
            return plain
        coarse = windows.cut_logits(logits.nan_to_num(nan=-SURE), side)
        refined = torch.minimum(refiner(windows.cut(pixels, side), coarse), coarse + SURE)
        # Colours may speak against all of a small mask; what was found is not to be lost by that.
        is_there = (refined > 0).flatten(1).any(1).tolist()
        return replace(
            plain,
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

    def crops(self) -> list[CropMask]:
        """Return the masks as crops of the picture, not trimmed; K in all."""
        if not len(self.logits):
            return []
        windows = [self.window(k) for k in range(len(self.logits))]
        bits = [(self.logits_in(k, window) > 0).flatten() for k, window in enumerate(windows)]
        # One transfer for all masks: each by itself would wait for the accelerator.
        ends = np.cumsum([len(one) for one in bits])[:-1]
        return [
            CropMask(size_hw=self.picture_hw, x0=x0, y0=y0, bits=flat.reshape(y1 - y0, x1 - x0))
            for (x0, y0, x1, y1), flat in zip(
                windows, np.split(torch.cat(bits).numpy(force=True), ends), strict=True
            )
        ]

    def masks(self) -> NDArray[np.bool_]:
        """Return the masks at the picture's size, shape (K, H, W)."""
        masks = np.zeros((len(self.logits), *self.picture_hw), np.bool_)
        for mask, crop in zip(masks, self.crops(), strict=True):
            x0, y0, x1, y1 = crop.corners
            mask[y0:y1, x0:x1] = crop.bits
        return masks

    def mask_logits(self) -> Tensor:
        """Return the logits at the picture's size, shape (K, H, W)."""
        height, width = self.picture_hw
        whole = 0, 0, width, height
        large = self.logits.new_zeros(len(self.logits), height, width)
        for k, logits in enumerate(self.logits):
            large[k] = resize_window(logits, self.picture_hw, whole)
        for k, mask in self.refined.items():
            x0, y0, x1, y1 = mask.corners
            large[k, y0:y1, x0:x1] = mask.enlarged()
        return large

    def window(self, k: int) -> Corners:
        """Return where a mask may have pixels, x0, y0, x1, y1 in px; no area if it has none."""
        if k in self.refined:
            return self.refined[k].corners
        cells = self.cells[k]
        if cells.is_empty:
            return 0, 0, 0, 0
        x0, y0, x1, y1 = cells.corners
        (rows, columns), (height, width) = cells.size_hw, self.picture_hw
        # Interpolation reaches one cell's width beyond the middle of the outermost cell.
        return (
            max(math.floor((x0 - 0.5) * width / columns) - 1, 0),
            max(math.floor((y0 - 0.5) * height / rows) - 1, 0),
            min(math.ceil((x1 + 0.5) * width / columns) + 1, width),
            min(math.ceil((y1 + 0.5) * height / rows) + 1, height),
        )

    def logits_in(self, k: int, part: Corners) -> Tensor:
        """Return the logits of one mask in a part of its :meth:`window`, x0, y0, x1, y1 in px."""
        x0, y0, x1, y1 = part
        mask = self.refined.get(k)
        if mask is None:
            return resize_window(self.logits[k], self.picture_hw, part)
        left, top, _, _ = mask.corners
        return mask.enlarged()[y0 - top : y1 - top, x0 - left : x1 - left]


def frame_masks(
    drawn: DrawnMasks,
    *,
    groups: Sequence[object],
    sureness: Sequence[float],
    one_place_iou: float,
    by_pixel: bool = False,
) -> list[CropMask]:
    """Return masks of the frame, trimmed, each pixel given to one object.

    Where two objects of one group meet, the surer takes the pixel, as published, or with
    ``by_pixel`` the one whose mask is surer of it, unless they lie on one place. Where groups meet,
    two masks that lie on one place are two names for one thing and share it; any others are two
    things, and the one whose mask is surer of the pixel takes it.

    Args:
        drawn: Masks of K objects on the frame.
        groups: Phrase of each object, length K; equal ones are one group.
        sureness: How sure each object is, length K.
        one_place_iou: Least overlap of masks that lie on one place.
        by_pixel: Whether objects of one group that meet divide what they share pixel by pixel.
    """
    crops = drawn.crops()
    order = sorted(range(len(groups)), key=lambda k: -sureness[k])
    for k, other in _meeting(crops, order):
        region = crops[k].common(crops[other])
        is_on_grid = k not in drawn.refined and other not in drawn.refined
        overlap = drawn.cells[k].iou(drawn.cells[other])
        if region is None or (is_on_grid and overlap == 0):
            continue
        mine, theirs = crops[k].part(region), crops[other].part(region)
        is_one_place = overlap >= one_place_iou
        if groups[other] == groups[k] and (is_one_place or not by_pixel):
            mine &= ~theirs
        elif not is_one_place and (shared := mine & theirs).any():
            is_theirs = drawn.logits_in(other, region) >= drawn.logits_in(k, region)
            is_others = is_theirs.numpy(force=True)
            mine &= ~(shared & is_others)
            theirs &= ~(shared & ~is_others)
    return [crop.trimmed() for crop in crops]


def _meeting(crops: Sequence[CropMask], order: Sequence[int]) -> list[tuple[int, int]]:
    """Return the pairs of crops that meet, the later one in ``order`` first, in that order."""
    if len(crops) < 2:
        return []
    x0, y0, x1, y1 = np.array([crops[k].corners for k in order]).T
    meets = (x0[:, None] < x1) & (x0 < x1[:, None]) & (y0[:, None] < y1) & (y0 < y1[:, None])
    return [(order[later], order[sooner]) for later, sooner in np.argwhere(np.tril(meets, k=-1))]
