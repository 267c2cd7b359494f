"""Functions of single elements whose result does not depend on how many elements there are."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

# Whole steps of a CPU's loop: two vectors of 16 numbers with AVX-512, and fewer with all others.
_STEP = 64


def elementwise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a function of single elements, such as a sigmoid, to each of a few.

    On a CPU torch computes whole vectors by one formula and what is left behind them by another,
    whose last bit may differ: an element would change with the number of those beside it.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return function(x)
    whole = F.pad(x.flatten(), (0, -x.numel() % _STEP))
    return function(whole)[: x.numel()].view(x.shape)
