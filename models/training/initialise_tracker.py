"""Starting weights that let a small tracker learn in a thousand steps."""

import torch
from torch import nn

from models.sam3.tracker.memory_attention import MemoryAttentionLayer
from models.sam3.tracker.model import MASK_BIAS, MASK_SCALE, Sam3Tracker

NEARNESS = 2.0


def initialise_tracker(tracker: Sam3Tracker, neck: nn.Module, *, seed: int) -> None:
    """Set starting weights in place.

    - Projections and convolutions keep the variance of what goes through them; with torch's own
      start the fine levels of the neck and the mask prompt all but vanish.
    - A given mask reaches the prompt encoder as the logits it stands for.
    - Memory is read nearby: a query and a key that share a constant part are turned apart by the
      rotary code as their places move apart, so that part alone makes every cell read the memories
      of its own neighbourhood. An object is mostly where it was.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in (*neck.modules(), *tracker.modules()):
            _keep_variance(module)
        nn.init.normal_(tracker.prompt_encoder.no_mask_embed.weight, std=0.02)
    nn.init.constant_(tracker.mask_downsample.weight, MASK_SCALE / 16)
    nn.init.constant_(tracker.mask_downsample.bias, MASK_BIAS)
    for module in tracker.modules():
        if isinstance(module, MemoryAttentionLayer):
            nn.init.constant_(module.cross_attn_image.q_proj.bias, NEARNESS)
            nn.init.constant_(module.cross_attn_image.k_proj.bias, NEARNESS)


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
    if module.bias is not None:
        nn.init.zeros_(module.bias)
