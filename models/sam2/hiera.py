"""Hiera: a vision transformer of four stages, each half as fine and twice as wide as the last.

SAM 2, section 4 and appendix D; Hiera, Ryali et al., 2023; windowed position embeddings, Bolya et
al., 2023.

Shape legend:
    N images, H W rows and columns of tokens, C D channels, S side in px.
"""

from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from models.common.attention import merge_heads, split_heads
from models.common.mlp import StackedMLP
from models.common.windows import join_windows, partition_windows
from models.sam2.config import HieraConfig

PATCH_KERNEL, PATCH_STRIDE, PATCH_PADDING = 7, 4, 3
NORM_EPS = 1e-6
# Width of a feed-forward over that of its block.
MLP_RATIO = 4


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
        if self.window:
            tokens, padded = partition_windows(x, self.window)
            cells = (self.window, self.window)
        else:
            tokens, padded = x.flatten(1, 2), (height, width)
            cells = padded
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        if self.pools:
            query = pool(query.unflatten(1, cells)).flatten(1, 2)
            cells, padded = halve(cells), halve(padded)
            height, width = halve((height, width))
        query, key, value = (split_heads(part, self.num_heads) for part in (query, key, value))
        attended = merge_heads(F.scaled_dot_product_attention(query, key, value))
        out = self.proj(attended)
        if self.window:
            return join_windows(out, cells[0], padded)[:, :height, :width]
        return out.unflatten(1, padded)


class Block(nn.Module):
    """Pre-norm transformer block; the first of a stage also halves and widens the map."""

    def __init__(self, dim: int, dim_out: int, num_heads: int, *, window: int) -> None:
        super().__init__()
        self.is_first = dim != dim_out
        self.layer_norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = WindowAttention(dim, dim_out, num_heads, window=window, pools=self.is_first)
        self.layer_norm2 = nn.LayerNorm(dim_out, eps=NORM_EPS)
        self.mlp = StackedMLP(dim_out, MLP_RATIO * dim_out, dim_out, depth=2, activation=F.gelu)
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
                )
            )
    return blocks


def pool(x: Tensor) -> Tensor:
    """Take the largest of each 2 x 2 cells: (N, H, W, C) to (N, H / 2, W / 2, C)."""
    # Of four views rather than by max_pool2d, which would first copy a slice of channels.
    height, width = halve((x.shape[1], x.shape[2]))
    quarters = x[:, : 2 * height, : 2 * width].unflatten(2, (width, 2)).unflatten(1, (height, 2))
    top, bottom = quarters[:, :, 0], quarters[:, :, 1]
    left, right = torch.maximum(top, bottom).unbind(3)
    return torch.maximum(left, right)


def halve(sides: tuple[int, int]) -> tuple[int, int]:
    """Halve both sides, rounded down."""
    return sides[0] // 2, sides[1] // 2
