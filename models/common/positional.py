"""Sine position encodings and axial rotary tables (DETR, appendix; RoFormer; SAM 3, section 3)."""

import math
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=32)
def sine_grid(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Sine encoding of a grid, shape (channels, height, width): half for y, then half for x.

    Positions start at 1 and are divided by the last one, times 2 pi.
    """
    # The table is kept, so one made while serving must be fit for training too.
    with torch.inference_mode(mode=False):
        y = torch.arange(1, height + 1, dtype=torch.float32, device=device) / (height + 1e-6)
        x = torch.arange(1, width + 1, dtype=torch.float32, device=device) / (width + 1e-6)
        half_y = sine_1d(y, channels // 2).t()[:, :, None].expand(-1, -1, width)
        half_x = sine_1d(x, channels // 2).t()[:, None, :].expand(-1, height, -1)
        return torch.cat((half_y, half_x))


def sine_1d(position: Tensor, channels: int, temperature: float = 10000.0) -> Tensor:
    """Sine encoding of positions in 0 … 1: (…) to (…, channels), sine and cosine interleaved."""
    exponent = torch.arange(0, channels, 2, dtype=torch.float32, device=position.device) / channels
    angle = position[..., None] * (2 * math.pi) / temperature**exponent
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)


def sine_boxes(boxes_cxcywh: Tensor, channels: int) -> Tensor:
    """Encode (…, 4) boxes as (…, 4 * channels) in the order y, x, w, h."""
    return sine_1d(boxes_cxcywh[..., [1, 0, 2, 3]], channels).flatten(-2)


@lru_cache(maxsize=32)
def axial_rotary_table(
    height: int, width: int, head_dim: int, *, scale: float, theta: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of shape (height * width, head_dim / 2): x in the first half, then y.

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        head_dim: Channels of one head, a multiple of 4.
        scale: Factor on the positions; below 1 it interpolates to the grid that was trained on.
        theta: Base of the frequencies.
        device: Where the table lives.
    """
    with torch.inference_mode(mode=False):
        frequency = theta ** -(
            torch.arange(0, head_dim, 4, dtype=torch.float32, device=device) / head_dim
        )
        y, x = torch.meshgrid(
            torch.arange(height, dtype=torch.float32, device=device) * scale,
            torch.arange(width, dtype=torch.float32, device=device) * scale,
            indexing="ij",
        )
        angle = torch.cat((x.reshape(-1, 1) * frequency, y.reshape(-1, 1) * frequency), dim=-1)
        return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring channel pairs of (…, L, D) by the angles of (L, D / 2), in fp32."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return (
        torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
        .flatten(-2)
        .to(x.dtype)
    )


def sine_time(time: Tensor, channels: int) -> Tensor:
    """Sine code of scalars, shape ``(*time.shape, channels)``: all sines, then all cosines."""
    half = channels // 2
    index = torch.arange(half, device=time.device)
    wavelength = 10000.0 ** (2 * (index // 2).float() / half)
    phase = time.float()[..., None] / wavelength
    return torch.cat([phase.sin(), phase.cos()], dim=-1)
