"""A small SAM 2.1 with random weights, and clips for it."""

import numpy as np
import torch

from models.sam2.config import HieraConfig, Sam2Config, TrackerConfig
from models.sam2.model import Sam2
from models.sam2.promptable import PromptableTracker

# Every kind of block: windows that divide the map and that do not, whole map, pooled queries.
SMALL = Sam2Config(
    hiera=HieraConfig(
        dim=16,
        num_heads=1,
        blocks=(1, 2, 3, 2),
        windows=(8, 4, 6, 3),
        global_blocks=(4,),
        background_grid=5,
    ),
    tracker=TrackerConfig(
        image_size=128,
        patch_size=16,
        hidden_dim=128,
        # transformers fixes the width of the memories at 64, whatever its configuration says.
        memory_dim=64,
        num_heads=4,
        mask_decoder_mlp_dim=96,
        iou_head_dim=64,
        memory_attention_layers=2,
        memory_attention_mlp_dim=80,
        memory_fuser_dim=48,
        max_cond_frames=None,
    ),
)


def make_model(score_bias=10.0, build=Sam2):
    """Build with random weights; with a ``score_bias`` near 0 objects come and go."""
    torch.manual_seed(0)
    model = build(SMALL).eval().requires_grad_(requires_grad=False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    score = model.mask_decoder.pred_obj_score_head.proj_out
    score.weight.mul_(100)
    score.bias.fill_(score_bias)
    return PromptableTracker(model, model.encode_pixels)


def make_clip(frames, height=40, width=60):
    """A square that moves over noise."""
    rng = np.random.default_rng(3)
    clip = rng.integers(0, 90, (frames, height, width, 3), dtype=np.uint8)
    for t in range(frames):
        clip[t, 10:25, t % width : t % width + 15] = (250, 120, 30)
    return clip
