"""Starting weights that let a small tracker learn in a thousand steps."""

import torch
from torch import Tensor, nn

from models.common.mlp import StackedMLP
from models.sam2.memory_attention import MemoryAttentionLayer
from models.sam2.tracker import MASK_BIAS, MASK_SCALE, MemoryTracker
from models.sam3.network.vision import Neck, PyramidLevel

NEARNESS = 2.0
KEY_GAIN = 0.3
PROMPT_GAIN = 4.0
MASK_GAIN = 0.3


def initialise_tracker(tracker: MemoryTracker, neck: Neck, trunk: Tensor, *, seed: int) -> None:
    """Set starting weights in place.

    - Projections and convolutions keep the variance of what goes through them, and the neck gives
      features of unit variance; with torch's own start the fine levels and the mask prompt all but
      vanish.
    - A given mask reaches the prompt encoder as the logits it stands for, and is not drowned.
    - Memory is read nearby: a query and a key that share a constant part are turned apart by the
      rotary code as their places move apart, so that part alone makes every cell read the memories
      of its own neighbourhood. An object is mostly where it was.

    Args:
        tracker: Gets its starting weights.
        neck: The tracker's own neck, likewise.
        trunk: What the backbone gives for some pictures, shape (N, C, g, g).
        seed: Of the random weights.
    """
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for module in (*neck.modules(), *tracker.modules()):
            _keep_variance(module)
        for level, features in zip(neck.fpn_layers, neck(trunk), strict=False):
            if isinstance(level, PyramidLevel):
                level.proj2.weight /= features.std()
        prompt = tracker.prompt_encoder
        nn.init.normal_(prompt.no_mask_embed.weight, std=0.02)
        prompt.mask_embed.conv3.weight *= PROMPT_GAIN
        nn.init.constant_(tracker.mask_downsample.weight, MASK_SCALE / 16)
        _fill_bias(tracker.mask_downsample, MASK_BIAS)
        for module in tracker.modules():
            if isinstance(module, MemoryAttentionLayer):
                _fill_bias(module.cross_attn_image.q_proj, NEARNESS)
                _fill_bias(module.cross_attn_image.k_proj, NEARNESS)
                module.cross_attn_image.k_proj.weight *= KEY_GAIN
        for mlp in tracker.mask_decoder.output_hypernetworks_mlps:
            if isinstance(mlp, StackedMLP):
                mlp.proj_out.weight *= MASK_GAIN


def _keep_variance(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
    elif isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    elif isinstance(module, nn.ConvTranspose2d):
        # Its stride equals its kernel, so one input cell alone makes an output cell.
        nn.init.normal_(module.weight, std=module.weight.shape[0] ** -0.5)
    else:
        return
    _fill_bias(module, 0.0)


def _fill_bias(module: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, value: float) -> None:
    if module.bias is not None:
        nn.init.constant_(module.bias, value)
