"""Vision encoder of SAM 1: a ViT with windows and decomposed relative positions (SAM, appendix A).

Shape legend:
    N images, S picture side in px, G tokens along a side, C width, D neck width; B windows or
    images, h heads, d channels of a head, H W a window's or the picture's tokens.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from models.common.attention import merge_heads
from models.common.mlp import FeedForward
from models.common.norm import LayerNorm2d
from models.common.windows import join_windows, partition_windows
from models.sam1.config import VisionConfig

# Elements of the position bias made at once, all heads together. The whole bias of a global block
# is 201 M elements (805 MB); in slices of this size attention takes 1.1 to 1.3 s a core, not
# 1.8 to 3.9 s, and every number stays the same. Folding the bias into 128 more channels of
# queries and keys takes 1.8 s at best.
BIAS_ELEMENTS = 2**24
# Of the blocks' norms, as the published weights were trained.
NORM_EPS = 1e-6


def relative_table(table: Tensor, size: int) -> Tensor:
    """Row of ``table`` for each pair of positions along one axis.

    Args:
        table: Shape (2 size - 1, d), offsets - size + 1 … size - 1.
        size: Positions along the axis.

    Returns:
        Shape (size, size, d): query position, key position.
    """
    place = torch.arange(size, device=table.device)
    return table[place[:, None] - place + size - 1]


class RelativeAttention(nn.Module):
    """Self-attention over a grid whose scores also depend on the offset, per axis (MViTv2)."""

    def __init__(self, dim: int, num_heads: int, grid: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim!r} is not a multiple of num_heads {num_heads!r}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * grid - 1, dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * grid - 1, dim // num_heads))

    @override
    def forward(self, x: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """Attend within (B, H * W, C), the tokens of grids of ``grid_hw``."""
        height, width = grid_hw
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        grid_q = q.unflatten(2, (height, width))
        bias_h = torch.einsum("bnhwd,hkd->bnhwk", grid_q, relative_table(self.rel_pos_h, height))
        bias_w = torch.einsum("bnhwd,wkd->bnhwk", grid_q, relative_table(self.rel_pos_w, width))
        # Else their sum would come out in einsum's order and be copied whole.
        bias_h, bias_w = bias_h.contiguous(), bias_w.contiguous()
        rows = max(1, BIAS_ELEMENTS // (bias_h[:, :, 0].numel() * width))
        parts: list[Tensor] = []
        for top in range(0, height, rows):
            here = slice(top, top + rows)
            bias = bias_h[:, :, here, :, :, None] + bias_w[:, :, here, :, None, :]
            part = F.scaled_dot_product_attention(
                grid_q[:, :, here].flatten(2, 3), k, v, attn_mask=bias.flatten(4).flatten(2, 3)
            )
            parts.append(part)
        return self.proj(merge_heads(torch.cat(parts, dim=2)))


class Block(nn.Module):
    """Pre-norm transformer block; ``window`` of 0 means global attention."""

    def __init__(self, config: VisionConfig, window: int) -> None:
        super().__init__()
        self.window = window
        self.layer_norm1 = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.attn = RelativeAttention(config.dim, config.num_heads, window or config.grid)
        self.layer_norm2 = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.mlp = FeedForward(config.dim, config.mlp_dim, nn.GELU)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        x = x + self._attend(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))

    def _attend(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        side = self.window
        if side == 0:
            return self.attn(x.flatten(1, 2), (height, width)).unflatten(1, (height, width))
        # Padding is attended to, as in training: after the norm its tokens are the bias of qkv.
        windows, padded = partition_windows(x, side)
        return join_windows(self.attn(windows, (side, side)), side, padded)[:, :height, :width]


class PatchEmbeddings(nn.Module):
    """Non-overlapping patches to tokens."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, config.dim, config.patch_size, stride=config.patch_size)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, S, S) to (N, G, G, C)."""
        return self.projection(images).permute(0, 2, 3, 1)


class Neck(nn.Module):
    """Brings the last block's tokens to the width of the mask decoder."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(config.dim, config.neck_dim, kernel_size=1, bias=False)
        self.layer_norm1 = LayerNorm2d(config.neck_dim)
        self.conv2 = nn.Conv2d(
            config.neck_dim, config.neck_dim, kernel_size=3, padding=1, bias=False
        )
        self.layer_norm2 = LayerNorm2d(config.neck_dim)

    @override
    def forward(self, tokens: Tensor) -> Tensor:
        """Map (N, G, G, C) to (N, D, G, G)."""
        x = self.layer_norm1(self.conv1(tokens.permute(0, 3, 1, 2)))
        return self.layer_norm2(self.conv2(x))


class VisionEncoder(nn.Module):
    """Picture to features; takes sides other than the trained one, which the original does not."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbeddings(config)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid, config.grid, config.dim))
        self.layers = nn.ModuleList(
            Block(config, 0 if index in config.global_blocks else config.window)
            for index in range(config.num_blocks)
        )
        self.neck = Neck(config)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Map normalised (N, 3, S, S) to (N, D, G, G)."""
        x = self.patch_embed(images) + self.pos_embed
        for layer in self.layers:
            x = layer(x)
        return self.neck(x)
