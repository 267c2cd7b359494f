"""Turns points, box corners and masks into decoder tokens and a dense map."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from models.common.config import PromptEncoderConfig
from models.common.norm import LayerNorm2d
from models.common.positional import kept_table

# Channels of a mask's embedding before they become the encoder's.
MASK_CHANNELS = 16
# Kinds of points beside 0, off the object, and 1, on it.
LABEL_PAD = -1
LABEL_BOX_TOP_LEFT = 2
LABEL_BOX_BOTTOM_RIGHT = 3


class FourierPosition(nn.Module):
    """Random Fourier features of points in the unit square."""

    positional_embedding: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("positional_embedding", torch.randn(2, channels // 2))

    @override
    def forward(self, points: Tensor) -> Tensor:
        """Encode ``(..., 2)`` points (x, y) in 0 to 1 as ``(..., channels)``."""
        with torch.autocast(points.device.type, enabled=False):
            phase = 2 * torch.pi * ((2 * points.float() - 1) @ self.positional_embedding.float())
        code = torch.cat([phase.sin(), phase.cos()], dim=-1)
        return code.to(self.positional_embedding.dtype)

    def image(self, grid: int) -> Tensor:
        """Code of the cell centres of a square grid, shape (1, channels, grid, grid)."""
        return self(_cell_centres(grid, self.positional_embedding.device)).permute(2, 0, 1)[None]


@kept_table
def _cell_centres(grid: int, device: torch.device) -> Tensor:
    steps = (torch.arange(grid, dtype=torch.float32, device=device) + 0.5) / grid
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x, y], dim=-1)


class MaskEmbedding(nn.Module):
    """Brings mask logits at four times the grid down to the grid, in ``dim`` channels."""

    def __init__(self, config: PromptEncoderConfig) -> None:
        super().__init__()
        narrow = MASK_CHANNELS // 4
        self.conv1 = nn.Conv2d(1, narrow, kernel_size=2, stride=2)
        self.layer_norm1 = LayerNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, MASK_CHANNELS, kernel_size=2, stride=2)
        self.layer_norm2 = LayerNorm2d(MASK_CHANNELS)
        self.conv3 = nn.Conv2d(MASK_CHANNELS, config.dim, kernel_size=1)

    @override
    def forward(self, mask_logits: Tensor) -> Tensor:
        x = F.gelu(self.layer_norm1(self.conv1(mask_logits)))
        x = F.gelu(self.layer_norm2(self.conv2(x)))
        return self.conv3(x)


class PromptEncoder(nn.Module):
    """Prompt tokens and dense prompt map of the mask decoder."""

    def __init__(self, config: PromptEncoderConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.shared_embedding = FourierPosition(config.dim)
        self.mask_embed = MaskEmbedding(config)
        self.no_mask_embed = nn.Embedding(1, config.dim)
        self.point_embed = nn.Embedding(4, config.dim)
        self.not_a_point_embed = nn.Embedding(1, config.dim)

    def points(self, points: Tensor, labels: Tensor, grid: int, *, closes: bool = True) -> Tensor:
        """Encode points.

        Args:
            points: Shape (B, P, 2), x and y, 0 to 1 over width and height; P may be 0.
            labels: Shape (B, P), integers: -1 pad, 0 off, 1 on the object, 2 and 3 box corners.
            grid: Tokens along one side of the picture.
            closes: Whether a pad point closes the list. SAM 2 and 3 always close it, SAM 1 only
                when there is no box.

        Returns:
            Tokens, shape (B, P + closes, dim).
        """
        # A point means the middle of its pixel, in pixels of the model's input.
        points = F.pad(points + 0.5 / (grid * self.patch_size), (0, 0, 0, int(closes)))
        labels = F.pad(labels, (0, int(closes)), value=LABEL_PAD)[..., None]
        place = torch.where(
            labels == LABEL_PAD, self.not_a_point_embed.weight, self.shared_embedding(points)
        )
        kind = self.point_embed(labels[..., 0].clamp(min=0)) * (labels >= 0)
        return place + kind

    def nothing(self, batch: int) -> Tensor:
        """Tokens of a step without a prompt: two pad points, shape (batch, 2, dim)."""
        return self.not_a_point_embed.weight[None].expand(batch, 2, -1)

    def mask(self, mask_logits: Tensor) -> Tensor:
        """Dense map of mask logits (B, 1, 4g, 4g), shape (B, dim, g, g)."""
        return self.mask_embed(mask_logits)

    def no_mask(self) -> Tensor:
        """Dense map of "no mask given", shape (1, dim, 1, 1)."""
        return self.no_mask_embed.weight[..., None, None]
