"""How far two tensors are apart."""

import torch


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the relative L2 error."""
    return float((actual - expected).norm() / expected.norm())
