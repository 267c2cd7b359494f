"""The smallest size that keeps SAM 1's graph whole, with random weights of ordinary spread."""

import torch

from models.common.config import MaskDecoderConfig
from models.sam1.config import Sam1Config, VisionConfig
from models.sam1.model import Sam1

TINY_SAM1 = Sam1Config(
    vision=VisionConfig(
        image_size=96,
        dim=24,
        mlp_dim=48,
        num_blocks=2,
        num_heads=2,
        window=4,
        global_blocks=(1,),
        neck_dim=32,
    ),
    mask_decoder=MaskDecoderConfig(dim=32, num_heads=2, mlp_dim=32, iou_head_dim=16),
)


def build_tiny_sam1(seed: int = 0) -> Sam1:
    """Return the model, ready to run."""
    torch.manual_seed(seed)
    model = Sam1(TINY_SAM1).eval().requires_grad_(requires_grad=False)
    for parameter in model.vision_encoder.parameters():  # position tables start at zero
        parameter.add_(torch.randn_like(parameter) * 0.1)
    return model
