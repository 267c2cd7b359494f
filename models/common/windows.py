"""Cuts a grid of tokens into square windows and puts it together again (ViTDet, section 3)."""

from torch import Tensor
from torch.nn import functional as F


def partition_windows(x: Tensor, side: int) -> tuple[Tensor, tuple[int, int]]:
    """Cut (N, H, W, C) into (N * windows, side², C), zero padded; also the padded size."""
    height, width = x.shape[1:3]
    pad_h, pad_w = -height % side, -width % side
    if pad_h or pad_w:
        x = F.pad(x, (0, 0, 0, pad_w, 0, pad_h))
    rows, columns = (height + pad_h) // side, (width + pad_w) // side
    tiles = x.unflatten(2, (columns, side)).unflatten(1, (rows, side)).transpose(2, 3)
    return tiles.reshape(-1, side * side, x.shape[-1]), (height + pad_h, width + pad_w)


def join_windows(windows: Tensor, side: int, padded: tuple[int, int]) -> Tensor:
    """Undo :func:`partition_windows`: (N * windows, side * side, C) to (N, H, W, C)."""
    rows, columns = padded[0] // side, padded[1] // side
    tiles = windows.view(-1, rows, columns, side, side, windows.shape[-1])
    return tiles.transpose(2, 3).flatten(3, 4).flatten(1, 2)
