"""Normalisation of maps."""

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
