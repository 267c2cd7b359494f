"""The whole of SAM 2.1: Hiera, its neck, and the memory tracker (SAM 2, Ravi et al., 2024)."""

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from models.sam2.config import Sam2Config
from models.sam2.neck import VisionEncoder
from models.sam2.outputs import TrackerFeatures
from models.sam2.tracker import MemoryTracker

# Of ImageNet's pictures, RGB, in 0 … 1.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


class Sam2(MemoryTracker):
    """SAM 2.1; parameters are named as in its published safetensors."""

    def __init__(self, config: Sam2Config) -> None:
        """Build the network of one size."""
        super().__init__(config.tracker)
        self.vision_encoder = VisionEncoder(config)

    def encode_image(self, images: Tensor) -> TrackerFeatures:
        """Encode (N, 3, S, S) pictures as :func:`preprocess` makes them, once for all objects."""
        levels = self.vision_encoder(images)
        return self.prepare_features(cast("tuple[Tensor, Tensor, Tensor]", levels))

    def encode_pixels(self, pixels: Tensor) -> TrackerFeatures:
        """Encode (N, H, W, 3) RGB pictures, uint8."""
        images = preprocess(pixels, self.config.image_size)
        return self.encode_image(images.to(self.no_memory_embedding.dtype))


def preprocess(pixels: Tensor, size: int) -> Tensor:
    """Stretch RGB pictures to the model's square and normalise them.

    Args:
        pixels: Shape (N, H, W, 3), uint8.
        size: Side of the model's picture.

    Returns:
        Shape (N, 3, size, size), fp32. Antialiased bilinear, without letter-boxing.
    """
    images = pixels.permute(0, 3, 1, 2).to(torch.float32)
    if images.shape[-2:] != (size, size):
        images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    mean, std = (
        torch.tensor(values, device=pixels.device)[:, None, None] * 255
        for values in (PIXEL_MEAN, PIXEL_STD)
    )
    return (images - mean) / std
