"""Normalisation of maps."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

# As in the original, which takes 1e-5 for its norms of tokens.
EPS = 1e-6


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of ``(N, C, H, W)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    @override
    def forward(self, x: Tensor) -> Tensor:
        last = F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, EPS)
        return last.movedim(-1, 1)
