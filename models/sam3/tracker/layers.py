"""Small blocks of the tracker, and the position codes of its square grids."""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

# Positions are rebuilt per grid; one process meets only a handful of grids.
GRID_CACHE_SIZE = 16


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of ``(N, C, H, W)``."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    @override
    def forward(self, x: Tensor) -> Tensor:
        last = F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, self.eps)
        return last.movedim(-1, 1)


class FeedForward(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        dim_in: Channels in.
        dim_hidden: Channels of every hidden layer.
        dim_out: Channels out.
        depth: Number of linear layers, at least 2.
    """

    def __init__(self, dim_in: int, dim_hidden: int, dim_out: int, depth: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(dim_in, dim_hidden)
        self.layers = nn.ModuleList(nn.Linear(dim_hidden, dim_hidden) for _ in range(depth - 2))
        self.proj_out = nn.Linear(dim_hidden, dim_out)

    @override
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.proj_in(x))
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.proj_out(x)


class Attention(nn.Module):
    """Multi-head attention with separate projections and a possibly narrower inside.

    Args:
        dim: Channels of the queries and of the output.
        inner_dim: Channels inside, all heads together.
        num_heads: Number of heads; divides ``inner_dim``.
        kv_dim: Channels of keys and values; ``dim`` when left out.
    """

    def __init__(self, dim: int, inner_dim: int, num_heads: int, kv_dim: int | None = None) -> None:
        super().__init__()
        if inner_dim % num_heads:
            raise ValueError(
                f"inner_dim {inner_dim!r} is not a multiple of num_heads {num_heads!r}"
            )
        kv_dim = dim if kv_dim is None else kv_dim
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, inner_dim)
        self.k_proj = nn.Linear(kv_dim, inner_dim)
        self.v_proj = nn.Linear(kv_dim, inner_dim)
        self.o_proj = nn.Linear(inner_dim, dim)

    def split(self, x: Tensor) -> Tensor:
        """``(B, L, C)`` to ``(B, heads, L, C / heads)``."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def merge(self, x: Tensor) -> Tensor:
        """Undo :meth:`split` and project to the output channels."""
        return self.o_proj(x.transpose(1, 2).flatten(2))

    @override
    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.merge(
            F.scaled_dot_product_attention(
                self.split(self.q_proj(query)),
                self.split(self.k_proj(key)),
                self.split(self.v_proj(value)),
            )
        )


@lru_cache(maxsize=GRID_CACHE_SIZE)
def sine_grid(grid: int, channels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Sine code of a square grid, shape (channels, grid, grid): rows first half, columns second.

    Positions count from 1, are divided by the last one, times 2 pi; wavelengths grow to 10000.
    """
    with torch.inference_mode(
        mode=False
    ):  # so that a table made while serving can be used in training
        half = channels // 2
        steps = torch.arange(1, grid + 1, dtype=torch.float32, device=device)
        angle = steps / (grid + 1e-6) * (2 * torch.pi)
        index = torch.arange(half, device=device)
        wavelength = 10000.0 ** (2 * (index // 2).float() / half)
        phase = angle[None] / wavelength[:, None]
        code = torch.where((index % 2 == 0)[:, None], phase.sin(), phase.cos())
        rows = code[:, :, None].expand(-1, -1, grid)
        columns = code[:, None, :].expand(-1, grid, -1)
        return torch.cat([rows, columns]).to(dtype)


@lru_cache(maxsize=GRID_CACHE_SIZE)
def rope_grid(
    grid: int, channels: int, theta: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the axial rotation, each (grid * grid, channels), fp32.

    The first half of the channels turns with the column, the second with the row, in neighbouring
    pairs, and positions are not rescaled to any reference grid.
    """
    with torch.inference_mode(mode=False):
        per_axis = channels // 2
        exponent = torch.arange(0, per_axis, 2, dtype=torch.float32, device=device) / per_axis
        speed = 1.0 / (theta**exponent)
        turn = torch.arange(grid, dtype=torch.float32, device=device)[:, None] * speed
        columns = turn.repeat(grid, 1)
        rows = turn.repeat_interleave(grid, dim=0)
        angle = torch.cat([columns, rows], dim=-1).repeat_interleave(2, dim=-1)
        return angle.cos(), angle.sin()


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Turn neighbouring channel pairs of ``x`` (..., L, C) by a :func:`rope_grid` table."""
    cos, sin = table
    pairs = x.float().unflatten(-1, (-1, 2))
    turned = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).flatten(-2)
    return (x.float() * cos + turned * sin).to(x.dtype)


def sine_time(time: Tensor, channels: int) -> Tensor:
    """Sine code of scalars, shape ``(*time.shape, channels)``: all sines, then all cosines."""
    half = channels // 2
    index = torch.arange(half, device=time.device)
    wavelength = 10000.0 ** (2 * (index // 2).float() / half)
    phase = time.float()[..., None] / wavelength
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


def resize(x: Tensor, side: int) -> Tensor:
    """Bilinear resize of ``(B, C, H, W)`` to a square; averages when it shrinks."""
    if x.shape[-2:] == (side, side):
        return x
    shrinks = max(x.shape[-2:]) > side
    return F.interpolate(
        x.float(), (side, side), mode="bilinear", align_corners=False, antialias=shrinks
    ).to(x.dtype)
