"""The whole of SAM 3: detector, tracker, the backbone that they share, and a refiner of masks."""

import torch
from torch import Tensor, nn

from models.sam2.outputs import TrackerFeatures
from models.sam2.tracker import MemoryTracker
from models.sam3.network.config import Sam3Config
from models.sam3.network.detector import Detector
from models.sam3.network.refiner import MaskRefiner
from models.sam3.network.vision import Neck


class Sam3(nn.Module):
    """Detector and tracker over one backbone; parameters are named as in the published weights.

    Those have no ``mask_refiner``: it is ours, and ``None`` where the size or the weights lack it.
    """

    def __init__(self, config: Sam3Config) -> None:
        super().__init__()
        self.config = config
        self.detector_model = Detector(config)
        self.tracker_model = MemoryTracker(config.tracker)
        self.tracker_neck = Neck(config.vision)
        self.mask_refiner = MaskRefiner(config.refiner) if config.refiner else None

    def encode_pixels(self, pixels: Tensor) -> TrackerFeatures:
        """Encode RGB pictures (N, H, W, 3), uint8, for visual prompts alone."""
        images = preprocess(pixels, self.config.vision.image_size)
        return self.tracker_features(self.detector_model.vision_encoder.backbone(images))

    def tracker_features(self, trunk: Tensor) -> TrackerFeatures:
        """Prepare the tracker's view of pictures, of which the backbone gave (N, C, G, G)."""
        decoder = self.tracker_model.mask_decoder
        fine0, fine1, top = self.tracker_neck(trunk, (decoder.conv_s0, decoder.conv_s1, None))
        return TrackerFeatures(fine0=fine0, fine1=fine1, top=top)


def preprocess(pixels: Tensor, size: int) -> Tensor:
    """Stretch RGB pictures to the model's square and scale them to -1 … 1.

    Args:
        pixels: Shape (N, H, W, 3), uint8.
        size: Side of the model's picture.

    Returns:
        Shape (N, 3, size, size), fp32. Antialiased bilinear, without letter-boxing, as SAM 3 was
        trained.
    """
    images = pixels.permute(0, 3, 1, 2).to(torch.float32)
    if images.shape[-2:] != (size, size):
        images = nn.functional.interpolate(
            images, size=(size, size), mode="bilinear", antialias=True
        )
    return images / 127.5 - 1.0
