"""Vision backbone and necks of SAM 3 (section 3): a ViT with windows, and simple pyramids.

Shape legend:
    N images, S picture side in px, G tokens along a side, C backbone width, D neck width.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from models.common.attention import merge_heads, split_heads
from models.common.mlp import FeedForward
from models.common.positional import axial_rotary_table, rotate
from models.common.windows import join_windows, partition_windows
from models.sam3.network.config import NORM_EPS, VisionConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionFeatures:
    """What one pass of the backbone gives.

    Attributes:
        trunk: Shape (N, C, G, G).
        detector_pyramid: Shapes (N, D, 4G, 4G), (N, D, 2G, 2G), (N, D, G, G).
        pictures: The N pictures, each (H, W, 3), uint8, for who refines outlines on them; or none.
    """

    trunk: Tensor
    detector_pyramid: tuple[Tensor, ...]
    pictures: tuple[Tensor, ...] = ()


class PatchEmbeddings(nn.Module):
    """Non-overlapping patches to tokens, without bias."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.projection = nn.Conv2d(
            3, config.dim, config.patch_size, stride=config.patch_size, bias=False
        )

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, S, S) to (N, C, G, G)."""
        return self.projection(images.to(self.projection.weight.dtype))


class Embeddings(nn.Module):
    """Patches plus a position embedding that is tiled, never interpolated."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.pretrain_grid = config.pretrain_grid
        self.patch_embeddings = PatchEmbeddings(config)
        self.position_embeddings = nn.Parameter(
            0.02 * torch.randn(1, config.pretrain_grid**2, config.dim)
        )

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, S, S) to (N, G, G, C)."""
        tokens = self.patch_embeddings(images).permute(0, 2, 3, 1)
        height, width = tokens.shape[1:3]
        tile = self.position_embeddings.view(1, self.pretrain_grid, self.pretrain_grid, -1)
        repeats = (1, height // self.pretrain_grid, width // self.pretrain_grid, 1)
        return tokens + tile.tile(repeats)


class RotaryAttention(nn.Module):
    """Self-attention over a grid of tokens with axial rotary positions."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.o_proj = nn.Linear(dim, dim)

    @override
    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """Attend within (B, L, C); ``table`` is of shape (L, C / heads / 2, 2)."""
        q = rotate(split_heads(self.q_proj(x), self.num_heads), table)
        k = rotate(split_heads(self.k_proj(x), self.num_heads), table)
        v = split_heads(self.v_proj(x), self.num_heads)
        return self.o_proj(merge_heads(F.scaled_dot_product_attention(q, k, v)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.attention = RotaryAttention(config.dim, config.num_heads)
        self.layer_norm2 = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.mlp = FeedForward(config.dim, config.mlp_dim, nn.GELU)

    @override
    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """Map (N, L, C) to the same shape.

        As many tokens as ``table`` has rows attend to one another: the windows, one after the
        other, or the whole picture.
        """
        groups = self.layer_norm1(x).view(-1, table.shape[0], x.shape[-1])
        x = x + self.attention(groups, table).view(x.shape)
        return x + self.mlp(self.layer_norm2(x))


class Backbone(nn.Module):
    """ViT of SAM 3: only the last block's output is used, there is no class token."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layer_norm = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_blocks))

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, S, S) in -1 … 1 to (N, C, G, G); windows have to fill the grid."""
        x = self.layer_norm(self.embeddings(images))
        rows, columns, window = x.shape[1], x.shape[2], self.config.window
        within, everywhere = self._tables(rows, columns, x.device)
        # Tokens stay listed by windows from the first block to the last: nothing but the position
        # tables depends on their order, so that no block has to move them.
        x = partition_windows(x, window)[0].reshape(images.shape[0], rows * columns, -1)
        for index, layer in enumerate(self.layers):
            x = layer(x, everywhere if index in self.config.global_blocks else within)
        x = join_windows(x.view(-1, window**2, x.shape[-1]), window, (rows, columns))
        return x.permute(0, 3, 1, 2)

    def _tables(self, rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rotary positions within a window, and within the picture as listed by windows."""
        window, head_dim = self.config.window, self.config.dim // self.config.num_heads
        within = axial_rotary_table(window, window, head_dim, scale=1.0, device=device)
        # Positions are squeezed onto the grid that the frequencies were trained on.
        scale = self.config.pretrain_grid / columns
        everywhere = axial_rotary_table(
            rows, columns, head_dim, scale=scale, device=device, window=window
        )
        return within, everywhere


class PyramidLevel(nn.Module):
    """One level of the simple pyramid: rescale, 1 x 1, 3 x 3."""

    def __init__(self, dim: int, neck_dim: int, scale: float) -> None:
        super().__init__()
        up = [nn.ConvTranspose2d(dim, dim // 2, 2, stride=2)]
        layers: dict[float, list[nn.Module]] = {
            4.0: [*up, nn.GELU(), nn.ConvTranspose2d(dim // 2, dim // 4, 2, stride=2)],
            2.0: [*up],
            1.0: [],
            0.5: [nn.MaxPool2d(2)],
        }
        width = {4.0: dim // 4, 2.0: dim // 2}.get(scale, dim)
        self.scale_layers = nn.ModuleList(layers[scale])
        self.proj1 = nn.Conv2d(width, neck_dim, 1)
        self.proj2 = nn.Conv2d(neck_dim, neck_dim, 3, padding=1)

    @override
    def forward(self, x: Tensor, reader: nn.Conv2d | None = None) -> Tensor:
        """Map (N, C, G, G) to (N, D, scale * G, scale * G).

        Args:
            x: Output of the backbone.
            reader: A 1 x 1 convolution that alone reads the level, D to E: then it is (N, E, …).
        """
        *before, last = self.scale_layers if len(self.scale_layers) else (nn.Identity(),)
        for layer in before:
            x = layer(x)
        x = self._upsample(x, last)
        if reader is None:
            return self.proj2(x)
        # Two products of weights in one: the map is largest here, and most often E is far below D.
        mix = reader.weight.flatten(1)
        weight = torch.einsum("dihw,ed->eihw", self.proj2.weight, mix)
        bias = F.linear(cast("Tensor", self.proj2.bias), mix, reader.bias)
        return F.conv2d(x, weight, bias, padding=1)

    def _upsample(self, x: Tensor, last: nn.Module) -> Tensor:
        """Do the last rescaling and the 1 x 1 convolution, as one where that is less work."""
        narrows = isinstance(last, nn.ConvTranspose2d) and self.proj2.in_channels < last.in_channels
        if not narrows:
            return self.proj1(last(x))
        # Nothing lies between the two: the product of their weights is small, and saves a wide map
        # at the upsampled size.
        mix = self.proj1.weight.flatten(1)
        weight = torch.einsum("imhw,om->iohw", cast("Tensor", last.weight), mix)
        bias = F.linear(cast("Tensor", last.bias), mix, self.proj1.bias)
        return F.conv_transpose2d(x, weight, bias, stride=2)


class Neck(nn.Module):
    """Pyramid of four levels at 4, 2, 1 and 1/2 of the token grid.

    The coarsest level belongs to the checkpoints but nothing reads it, so it is not computed.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fpn_layers = nn.ModuleList(
            PyramidLevel(config.dim, config.neck_dim, scale) for scale in (4.0, 2.0, 1.0, 0.5)
        )

    @override
    def forward(
        self, trunk: Tensor, readers: tuple[nn.Conv2d | None, ...] = (None, None, None)
    ) -> tuple[Tensor, ...]:
        """Map (N, C, G, G) to the three finest levels, finest first.

        ``readers`` are the convolutions that read each; see :class:`PyramidLevel`.
        """
        return tuple(
            level(trunk, reader) for level, reader in zip(self.fpn_layers, readers, strict=False)
        )


class VisionEncoder(nn.Module):
    """Backbone with the detector's neck."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.backbone = Backbone(config)
        self.neck = Neck(config)

    @override
    def forward(self, images: Tensor) -> VisionFeatures:
        """Encode (N, 3, S, S)."""
        return self.from_trunk(self.backbone(images))

    def from_trunk(self, trunk: Tensor) -> VisionFeatures:
        """Finish from the backbone's output (N, C, G, G)."""
        return VisionFeatures(trunk=trunk, detector_pyramid=self.neck(trunk))
