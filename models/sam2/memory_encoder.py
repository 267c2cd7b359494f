"""Fuses a frame's features with an object's mask into one spatial memory."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from models.common.norm import LayerNorm2d
from models.sam2.config import TrackerConfig

# Each of four convolutions halves the side and quadruples the channels: 16 g to g, 1 to 256.
DOWNSAMPLER_CHANNELS = (1, 4, 16, 64, 256)
LAYER_SCALE_START = 0.1
NUM_FUSER_BLOCKS = 2


class MaskDownsamplerLayer(nn.Module):
    """Halves a map."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=2, padding=1)
        self.layer_norm = LayerNorm2d(channels_out)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.layer_norm(self.conv(x)))


class MaskDownsampler(nn.Module):
    """Brings a mask from 16 times the grid down to the grid."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            MaskDownsamplerLayer(a, b) for a, b in pairwise(DOWNSAMPLER_CHANNELS)
        )
        self.final_conv = nn.Conv2d(DOWNSAMPLER_CHANNELS[-1], hidden_dim, kernel_size=1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.final_conv(x)


class FuserBlock(nn.Module):
    """ConvNeXt block: depthwise 7 x 7, then a pointwise feed-forward, scaled per channel."""

    def __init__(self, dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.depthwise_conv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.layer_norm = LayerNorm2d(dim)
        self.pointwise_conv1 = nn.Linear(dim, mlp_dim)
        self.pointwise_conv2 = nn.Linear(mlp_dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), LAYER_SCALE_START))

    @override
    def forward(self, x: Tensor) -> Tensor:
        inner = self.layer_norm(self.depthwise_conv(x)).movedim(1, -1)
        inner = self.scale * self.pointwise_conv2(F.gelu(self.pointwise_conv1(inner)))
        return x + inner.movedim(-1, 1)


class MemoryFuser(nn.Module):
    """Chain of fuser blocks."""

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            FuserBlock(config.hidden_dim, config.memory_fuser_dim) for _ in range(NUM_FUSER_BLOCKS)
        )

    @override
    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class MemoryEncoder(nn.Module):
    """Spatial memory of one frame of one object."""

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.mask_downsampler = MaskDownsampler(dim)
        self.feature_projection = nn.Conv2d(dim, dim, kernel_size=1)
        self.memory_fuser = MemoryFuser(config)
        self.projection = nn.Conv2d(dim, config.memory_dim, kernel_size=1)

    @override
    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """Encode B objects.

        Args:
            features: Raw (not memory-conditioned) features, shape (B, C, g, g).
            masks: Scaled masks, shape (B, 1, 16g, 16g), -10 outside to 10 inside.

        Returns:
            Shape (B, memory_dim, g, g).
        """
        fused = self.feature_projection(features) + self.mask_downsampler(masks)
        return self.projection(self.memory_fuser(fused))
