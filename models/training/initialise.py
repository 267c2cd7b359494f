"""Starting weights with which a small detector learns in thousands of steps."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.common.mlp import NumberedMLP
from models.sam3.network.decoder import Decoder
from models.sam3.network.detector import Detector

ANCHOR_SIDE = 0.28
BIAS_SLOPE = 4.0
FIT_STEPS = 400


def initialise_detector(detector: Detector, *, seed: int) -> None:
    """Set starting weights in place: Xavier, a lattice of boxes, a bias to look inside them.

    A learned box that starts as a random point with no notion of place has nothing to climb; one
    that starts as a cell of a lattice and attends to its own cell behaves like an anchor from the
    first step.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in detector.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                    nn.init.zeros_(module.bias)
        _initialise_decoder(detector.detr_decoder)
        nn.init.normal_(detector.geometry_encoder.cls_embed.weight, std=0.02)
        # As large as the content and the place that it is added to, and must be told from.
        nn.init.normal_(detector.geometry_encoder.label_embed.weight, std=1.0)


def _initialise_decoder(decoder: Decoder) -> None:
    count = decoder.reference_points.num_embeddings
    side = math.isqrt(count)
    if side * side != count:
        raise ValueError(f"{count} queries do not form a square lattice")
    centre = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    boxes = torch.stack(
        (x.flatten(), y.flatten(), *[torch.full((count,), ANCHOR_SIDE)] * 2), dim=-1
    )
    with torch.no_grad():
        decoder.reference_points.weight.copy_(torch.logit(boxes))
    nn.init.normal_(decoder.query_embed.weight, std=0.02)
    nn.init.normal_(decoder.presence_token.weight, std=0.02)
    last_layer = list(decoder.box_head.children())[-1]
    if isinstance(last_layer, nn.Linear):
        nn.init.zeros_(last_layer.weight)
    for mlp in (decoder.box_rpb_embed_x, decoder.box_rpb_embed_y):
        _fit_inside_bias(mlp)


def _fit_inside_bias(mlp: NumberedMLP) -> None:
    """Teach one axis of the relative bias to be 0 inside a box and to fall outside."""
    optimiser = torch.optim.Adam(mlp.parameters(), lr=1e-2)
    for _ in range(FIT_STEPS):
        low, length = torch.rand(256) * 1.2 - 0.3, torch.rand(256) * 0.6 + 0.05
        cell = torch.rand(256) * 1.0
        delta = 8 * torch.stack((cell - low, cell - low - length), dim=-1)
        encoded = delta.sign() * torch.log2(delta.abs() + 1) / math.log2(8)
        outside = F.relu(-delta[:, 0]) + F.relu(delta[:, 1])
        wanted = (-BIAS_SLOPE * outside).clamp(min=-8)[:, None]
        loss: Tensor = F.mse_loss(mlp(encoded), wanted.expand(-1, mlp(encoded).shape[-1]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
