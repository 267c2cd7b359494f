"""Fusion encoder of SAM 3 (section 3): picture tokens attend to the prompt."""

from torch import Tensor, nn
from typing_extensions import override

from models.common.attention import Attention, key_mask
from models.common.mlp import FeedForward
from models.sam3.config import DetectorConfig


class FusionLayer(nn.Module):
    """Pre-norm: self-attention with positions, attention to the prompt without, feed-forward."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.dim)
        self.self_attn = Attention(config.dim, config.num_heads)
        self.cross_attn = Attention(config.dim, config.num_heads)
        self.layer_norm2 = nn.LayerNorm(config.dim)
        self.mlp = FeedForward(config.dim, config.mlp_dim, nn.ReLU)
        self.layer_norm3 = nn.LayerNorm(config.dim)

    @override
    def forward(self, image: Tensor, image_pos: Tensor, prompt: Tensor, is_valid: Tensor) -> Tensor:
        """Map (B, G * G, D) to the same shape."""
        normed = self.layer_norm1(image)
        placed = normed + image_pos
        image = image + self.self_attn(placed, placed, normed)
        image = image + self.cross_attn(self.layer_norm2(image), prompt, prompt, key_mask(is_valid))
        return image + self.mlp(self.layer_norm3(image))


class FusionEncoder(nn.Module):
    """Stack of fusion layers, without a final norm."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FusionLayer(config) for _ in range(config.fusion_layers))

    @override
    def forward(self, image: Tensor, image_pos: Tensor, prompt: Tensor, is_valid: Tensor) -> Tensor:
        """Condition the picture on the prompt.

        Args:
            image: Shape (B, G * G, D).
            image_pos: Shape (1, G * G, D).
            prompt: Shape (B, T, D).
            is_valid: Shape (B, T), bool.

        Returns:
            Shape (B, G * G, D).
        """
        for layer in self.layers:
            image = layer(image, image_pos, prompt, is_valid)
        return image
