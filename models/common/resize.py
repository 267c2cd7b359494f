"""Resizing of maps."""

import torch
from torch import Tensor
from torch.nn import functional as F


def resize(x: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Bilinear resize of ``(B, C, H, W)`` to a height and width, or to a square of one side.

    What shrinks is averaged.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if x.shape[-2:] == (height, width):
        return x
    shrinks = x.shape[-2] > height or x.shape[-1] > width
    return F.interpolate(
        x.float(), (height, width), mode="bilinear", align_corners=False, antialias=shrinks
    ).to(x.dtype)


def resize_window(
    plane: Tensor, size_hw: tuple[int, int], corners: tuple[int, int, int, int]
) -> Tensor:
    """Resize a map (g_h, g_w), float32, to a height and width, and return one window of it.

    That window of ``F.interpolate`` in mode "bilinear" of the whole map, but for rounding: torch's
    kernels differ in the last bit, too, by the number of maps. The cost follows the window, not the
    size. What shrinks is not averaged.

    Args:
        plane: The map.
        size_hw: Height and width that the whole map is resized to.
        corners: x0, y0, x1, y1 of the window within that size.
    """
    x0, y0, x1, y1 = corners
    (rows, columns), (height, width) = plane.shape, size_hw
    left, right, along = _neighbours(x0, x1, columns, width, plane.device)
    top, bottom, down = _neighbours(y0, y1, rows, height, plane.device)
    # Rows that the window reads, and at most one more on each side.
    first = max(int((y0 + 0.5) * rows / height - 1.5), 0)
    used = plane[first : int((y1 - 0.5) * rows / height + 2.5)]
    wide = _mix(used[:, left], used[:, right], along)
    return _mix(wide[top - first], wide[bottom - first], down[:, None])


def _neighbours(
    first: int, last: int, num_cells: int, num_px: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cells on both sides of each pixel's centre, and the share of the second."""
    scale = torch.tensor(num_cells, dtype=torch.float32) / num_px
    centres = torch.arange(first, last, dtype=torch.float64, device=device) + 0.5
    # In float32 throughout, a place on a grid of 288 cells would be off by up to 1e-5 cells.
    places = (centres * float(scale) - 0.5).float().clamp(min=0)
    before = places.floor()
    low = before.long().clamp(max=num_cells - 1)
    return low, (low + 1).clamp(max=num_cells - 1), places - before


def _mix(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return one * (1 - share) + other * share
