"""Resizing of maps."""

from torch import Tensor
from torch.nn import functional as F


def resize(x: Tensor, side: int) -> Tensor:
    """Bilinear resize of ``(B, C, H, W)`` to a square; averages when it shrinks."""
    if x.shape[-2:] == (side, side):
        return x
    shrinks = max(x.shape[-2:]) > side
    return F.interpolate(
        x.float(), (side, side), mode="bilinear", align_corners=False, antialias=shrinks
    ).to(x.dtype)
