"""Mask head of SAM 3 (section 3): pixel embeddings, a mask per query, a dense concept map."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from models.common.attention import Attention, key_mask
from models.sam3.network.config import DetectorConfig

# One more than the pyramid of three levels needs: checkpoints carry it, nothing reads it.
UPSAMPLING_STAGES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelOutput:
    """Dense output for B (image, concept) pairs.

    Attributes:
        embedding: Shape (B, D, 4G, 4G); a mask's logits are its product with a query's filter.
        semantic_logits: Shape (B, 4G, 4G).
    """

    embedding: Tensor
    semantic_logits: Tensor


class PixelDecoder(nn.Module):
    """Top-down pyramid, nearest upsampling."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        stages = range(UPSAMPLING_STAGES)
        self.conv_layers = nn.ModuleList(
            nn.Conv2d(config.dim, config.dim, 3, padding=1) for _ in stages
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, config.dim) for _ in stages)

    @override
    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        """Map levels, finest first, to (B, D, 4G, 4G)."""
        x = pyramid[-1]
        for conv, norm, level in zip(
            self.conv_layers, self.norms, reversed(pyramid[:-1]), strict=False
        ):
            x = F.interpolate(x, size=level.shape[-2:], mode="nearest") + level
            # The layout of several pairs, for one too: a convolution's last bits depend on it.
            x = x.contiguous(memory_format=torch.channels_last)
            x = F.relu(norm(conv(x)))
        return x


class MaskEmbedder(nn.Module):
    """Three-layer ReLU perceptron from a query to its mask embedding."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(3))

    @override
    def forward(self, queries: Tensor) -> Tensor:
        """Map (…, D) to (…, D)."""
        first, second, third = self.layers
        return third(F.relu(second(F.relu(first(queries)))))


class MaskHead(nn.Module):
    """Pixel decoder over the fused picture, with one more look at the prompt."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.pixel_decoder = PixelDecoder(config)
        self.mask_embedder = MaskEmbedder(config.dim)
        self.instance_projection = nn.Conv2d(config.dim, config.dim, 1)
        self.semantic_projection = nn.Conv2d(config.dim, 1, 1)
        self.prompt_cross_attn = Attention(config.dim, config.num_heads)
        self.prompt_cross_attn_norm = nn.LayerNorm(config.dim)

    @override
    def forward(
        self, image: Tensor, pyramid: tuple[Tensor, ...], prompt: Tensor, is_valid: Tensor
    ) -> PixelOutput:
        """Embed pixels.

        Args:
            image: Fused picture, shape (B, G * G, D).
            pyramid: Detector pyramid of each pair's image, finest first.
            prompt: Shape (B, T, D).
            is_valid: Shape (B, T), bool.
        """
        normed = self.prompt_cross_attn_norm(image)
        image = image + self.prompt_cross_attn(normed, prompt, prompt, key_mask(is_valid))
        coarse = image.transpose(1, 2).unflatten(2, pyramid[-1].shape[-2:])
        pixels = self.pixel_decoder((*pyramid[:-1], coarse))
        return PixelOutput(
            embedding=pixels,
            semantic_logits=self.semantic_projection(pixels).squeeze(1),
        )

    def masks(self, queries: Tensor, embedding: Tensor) -> Tensor:
        """Mask logits (B, Q, 4G, 4G) of queries (B, Q, D). Pass only those that are wanted."""
        weight, bias = self.filters(queries)
        logits = torch.baddbmm(bias[..., None], weight, embedding.flatten(2))
        return logits.unflatten(2, tuple(embedding.shape[-2:]))

    def filters(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """What queries (…, D) look for in a pixel's embedding: weights (…, D) and biases (…).

        The projection of the pixels is linear, so it is done to the few queries instead.
        """
        wanted = self.mask_embedder(queries)
        project = self.instance_projection
        bias = F.linear(wanted, cast("Tensor", project.bias)[None])[..., 0]
        return wanted @ project.weight.flatten(1), bias
