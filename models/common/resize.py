"""Resizing of maps."""

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
