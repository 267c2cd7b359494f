"""Small blocks that only the tracker has."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of ``(N, C, H, W)``."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    @override
    def forward(self, x: Tensor) -> Tensor:
        last = F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, self.eps)
        return last.movedim(-1, 1)


class FeedForward(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        dim_in: Channels in.
        dim_hidden: Channels of every hidden layer.
        dim_out: Channels out.
        depth: Number of linear layers, at least 2.
    """

    def __init__(self, dim_in: int, dim_hidden: int, dim_out: int, depth: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(dim_in, dim_hidden)
        self.layers = nn.ModuleList(nn.Linear(dim_hidden, dim_hidden) for _ in range(depth - 2))
        self.proj_out = nn.Linear(dim_hidden, dim_out)

    @override
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.proj_in(x))
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.proj_out(x)


def sine_time(time: Tensor, channels: int) -> Tensor:
    """Sine code of scalars, shape ``(*time.shape, channels)``: all sines, then all cosines."""
    half = channels // 2
    index = torch.arange(half, device=time.device)
    wavelength = 10000.0 ** (2 * (index // 2).float() / half)
    phase = time.float()[..., None] / wavelength
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


def resize(x: Tensor, side: int) -> Tensor:
    """Bilinear resize of ``(B, C, H, W)`` to a square; averages when it shrinks."""
    if x.shape[-2:] == (side, side):
        return x
    shrinks = max(x.shape[-2:]) > side
    return F.interpolate(
        x.float(), (side, side), mode="bilinear", align_corners=False, antialias=shrinks
    ).to(x.dtype)
