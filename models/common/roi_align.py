"""Region pooling without torchvision, whose wheels need particular builds of torch."""

import math

import torch
from torch import Tensor


def roi_align(features: Tensor, boxes_xyxy: Tensor, size: int) -> Tensor:
    """Average bilinear samples on a ``size``² lattice of each box (Mask R-CNN, section 3).

    The unaligned variant with an adaptive number of samples per bin, as SAM 3's exemplar encoder
    was trained with: box coordinates are feature cells without the half-cell shift, and boxes are
    at least one cell wide.

    Args:
        features: Shape (N, C, H, W).
        boxes_xyxy: Shape (N, K, 4), in feature cells.
        size: Bins along one side.

    Returns:
        Shape (N * K, C, size, size).
    """
    num_images, num_boxes = boxes_xyxy.shape[:2]
    pooled = [
        _pool_one(features[n], boxes_xyxy[n, k], size)
        for n in range(num_images)
        for k in range(num_boxes)
    ]
    if not pooled:
        return features.new_zeros(0, features.shape[1], size, size)
    return torch.stack(pooled)


def _pool_one(features: Tensor, box: Tensor, size: int) -> Tensor:
    x0, y0, x1, y1 = box.tolist()
    height, width = features.shape[-2:]
    rows = _axis_weights(y0, max(y1 - y0, 1.0), size, height)
    columns = _axis_weights(x0, max(x1 - x0, 1.0), size, width)
    rows, columns = rows.to(features), columns.to(features)
    # Samples form a lattice, so bilinear weights factor into one matrix per axis.
    return rows @ features @ columns.t()


def _axis_weights(start: float, length: float, size: int, cells: int) -> Tensor:
    """Weights of shape (size, cells): mean over the bin's samples of their linear interpolation."""
    samples = max(math.ceil(length / size), 1)
    offset = (torch.arange(size * samples, dtype=torch.float32) + 0.5) / samples
    position = start + offset * (length / size)
    inside = (position >= -1.0) & (position <= cells)
    position = position.clamp(0, cells - 1)
    low = position.floor().long()
    high = (low + 1).clamp(max=cells - 1)
    fraction = position - low
    weights = torch.zeros(size * samples, cells)
    weights.scatter_add_(1, low[:, None], (1 - fraction)[:, None])
    weights.scatter_add_(1, high[:, None], fraction[:, None])
    return (weights * inside[:, None]).view(size, samples, cells).mean(1)
