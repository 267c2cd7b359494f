"""Region pooling without torchvision, whose wheels need particular builds of torch."""

import torch
from torch import Tensor


def roi_align(features: Tensor, boxes_xyxy: Tensor, size: int) -> Tensor:
    """Average bilinear samples on a ``size``² lattice of each box (Mask R-CNN, section 3).

    The unaligned variant with an adaptive number of samples per bin, as SAM 3's exemplar encoder
    was trained with: box coordinates are feature cells without the half-cell shift, and boxes are
    at least one cell wide. In a compiled graph, where the number of samples has to be known
    beforehand, it is right for boxes of at most twice the map's sides.

    Args:
        features: Shape (N, C, H, W).
        boxes_xyxy: Shape (N, K, 4), in feature cells.
        size: Bins along one side.

    Returns:
        Shape (N * K, C, size, size).
    """
    low, high = boxes_xyxy[..., :2].float(), boxes_xyxy[..., 2:].float()
    length = (high - low).clamp(min=1.0)
    height, width = features.shape[-2:]
    rows = _axis_weights(low[..., 1], length[..., 1], size, height).to(features)
    columns = _axis_weights(low[..., 0], length[..., 0], size, width).to(features)
    # Samples form a lattice, so bilinear weights factor into one matrix per axis.
    pooled = torch.einsum("nkih,nchw->nkciw", rows, features)
    return torch.einsum("nkciw,nkjw->nkcij", pooled, columns).flatten(0, 1)


def _axis_weights(start: Tensor, length: Tensor, size: int, cells: int) -> Tensor:
    """Weights (N, K, size, cells): mean over each bin's samples of their linear interpolation."""
    samples = (length / size).ceil().clamp(min=1)[..., None, None]
    most = -(-2 * cells // size)
    if not torch.compiler.is_compiling():
        most = int(samples.amax()) if samples.numel() else 1
    place = torch.arange(most, dtype=torch.float32, device=start.device)
    bins = torch.arange(size, dtype=torch.float32, device=start.device)[:, None]
    offset = (bins * samples + place + 0.5) / samples
    position = start[..., None, None] + offset * (length[..., None, None] / size)
    counts = (place < samples) & (position >= -1.0) & (position <= cells)
    cell = torch.arange(cells, dtype=torch.float32, device=start.device)
    distance = (position.clamp(0, cells - 1)[..., None] - cell).abs()
    weights = (1 - distance).clamp(min=0) * counts[..., None]
    return weights.sum(-2) / samples
