"""Hiera: a vision transformer of four stages, each half as fine and twice as wide as the last.

SAM 2, section 4 and appendix D; Hiera, Ryali et al., 2023; windowed position embeddings, Bolya et
al., 2023.

Shape legend:
    N images, H W rows and columns of tokens, C channels, s side of a window, S side in px.
"""

from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from models.common.mlp import StackedMLP
from models.sam2.config import HieraConfig

PATCH_KERNEL, PATCH_STRIDE, PATCH_PADDING = 7, 4, 3
POOL = 2
NORM_EPS = 1e-6


class PatchEmbeddings(nn.Module):
    """Overlapping patches to tokens."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, dim, PATCH_KERNEL, PATCH_STRIDE, PATCH_PADDING)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, S, S) to (N, S / 4, S / 4, C)."""
        return self.projection(images).permute(0, 2, 3, 1)


class WindowAttention(nn.Module):
    """Attention inside windows (0 means none: the whole map), with queries that may be pooled.

    Pooling the queries halves the map, which is how a stage passes into the next.
    """

    def __init__(self, dim: int, dim_out: int, num_heads: int, *, window: int, pools: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        self.pools = pools
        self.qkv = nn.Linear(dim, 3 * dim_out)
        self.proj = nn.Linear(dim_out, dim_out)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, H, W, D), or (N, H / 2, W / 2, D) where queries are pooled."""
        height, width = x.shape[1:3]
        side = self.window or max(height, width)
        qkv = self.qkv(x)
        pad_h, pad_w = (-height % side, -width % side) if self.window else (0, 0)
        if pad_h or pad_w:
            # Padding tokens are zeros before the projection, so after it they are its bias.
            unpadded = qkv
            qkv = self.qkv.bias.expand(len(x), height + pad_h, width + pad_w, -1).clone()
            qkv[:, :height, :width] = unpadded
        query, key, value = qkv.chunk(3, dim=-1)
        if self.pools:
            query, side = pool(query), side // POOL
            height, width = height // POOL, width // POOL
        padded_h, padded_w = query.shape[1:3]
        windows = (padded_h // side, padded_w // side) if self.window else (1, 1)
        query, key, value = (cut_windows(x, windows, self.num_heads) for x in (query, key, value))
        attended = F.scaled_dot_product_attention(query, key, value)
        joined = join_windows(attended, windows, (padded_h, padded_w))
        return self.proj(joined[:, :height, :width])


class Block(nn.Module):
    """Pre-norm transformer block; the first of a stage also halves and widens the map."""

    def __init__(
        self, dim: int, dim_out: int, num_heads: int, *, window: int, mlp_ratio: int
    ) -> None:
        super().__init__()
        self.is_first = dim != dim_out
        self.layer_norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = WindowAttention(dim, dim_out, num_heads, window=window, pools=self.is_first)
        self.layer_norm2 = nn.LayerNorm(dim_out, eps=NORM_EPS)
        self.mlp = StackedMLP(dim_out, mlp_ratio * dim_out, dim_out, depth=2, activation=F.gelu)
        if self.is_first:
            self.proj = nn.Linear(dim, dim_out)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape, or (N, H / 2, W / 2, 2 C) for a stage's first."""
        normed = self.layer_norm1(x)
        skipped = pool(self.proj(normed)) if self.is_first else x
        x = skipped + self.attn(normed)
        return x + self.mlp(self.layer_norm2(x))


class Hiera(nn.Module):
    """Backbone of SAM 2.1; parameters are named as in its published safetensors."""

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbeddings(config.dim)
        background, window = config.background_grid, config.windows[0]
        self.pos_embed = nn.Parameter(torch.zeros(1, config.dim, background, background))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.dim, window, window))
        self.stage_ends = tuple(end - 1 for end in accumulate(config.blocks))
        self.blocks = nn.ModuleList(build_blocks(config))

    @override
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode (N, 3, S, S); S is a multiple of 32 and of four times the first window.

        Returns:
            The last map of each stage, finest first: (N, S / 4, S / 4, C), (N, S / 8, S / 8, 2 C),
            and so on.
        """
        x = self.patch_embed(images)
        x = (x + self._position(x.shape[1], x.shape[2])).contiguous()
        stages: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.stage_ends:
                stages.append(x)
        return tuple(stages)

    def _position(self, height: int, width: int) -> Tensor:
        """Coarse code of the place in the picture plus fine code of that in the window."""
        background = F.interpolate(self.pos_embed, size=(height, width), mode="bicubic")
        side = self.pos_embed_window.shape[-1]
        tiled = self.pos_embed_window.tile(1, 1, height // side, width // side)
        return (background + tiled).permute(0, 2, 3, 1)


def build_blocks(config: HieraConfig) -> list[Block]:
    """Build all blocks; the first of a stage still has the windows of the stage before."""
    blocks: list[Block] = []
    for stage, count in enumerate(config.blocks):
        for place in range(count):
            before = stage - 1 if place == 0 and stage > 0 else stage
            is_global = len(blocks) in config.global_blocks
            blocks.append(
                Block(
                    config.stage_dims[before],
                    config.stage_dims[stage],
                    config.num_heads * 2**stage,
                    window=0 if is_global else config.windows[before],
                    mlp_ratio=config.mlp_ratio,
                )
            )
    return blocks


def pool(x: Tensor) -> Tensor:
    """Take the largest of each 2 x 2 cells: (N, H, W, C) to (N, H / 2, W / 2, C)."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), POOL).permute(0, 2, 3, 1)


def cut_windows(x: Tensor, windows: tuple[int, int], num_heads: int) -> Tensor:
    """Cut (N, H, W, C) into rows x columns windows, as (N * windows, heads, s * s, C / heads)."""
    rows, columns = windows
    tiles = x.unflatten(3, (num_heads, -1)).unflatten(2, (columns, -1)).unflatten(1, (rows, -1))
    return tiles.permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5).flatten(0, 2)


def join_windows(x: Tensor, windows: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Undo :func:`cut_windows` for a map of H rows and W columns."""
    rows, columns = windows
    tiles = x.unflatten(2, (size[0] // rows, -1)).unflatten(0, (-1, rows, columns))
    return tiles.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4).flatten(1, 2)
