"""Box formats and overlaps. Boxes are normalised to the picture unless a name says otherwise."""

import torch
from torch import Tensor


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Turn (…, 4) centre and size into (…, 4) corners."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat((centre - size / 2, centre + size / 2), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Turn (…, 4) corners into (…, 4) centre and size."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((low + high) / 2, high - low), dim=-1)


def inverse_sigmoid(p: Tensor, eps: float = 1e-3) -> Tensor:
    """Logit of a probability, bounded by ``eps``; SAM 3 uses 1e-3 where DETR uses 1e-5."""
    p = p.clamp(0, 1)
    return torch.log(p.clamp(min=eps) / (1 - p).clamp(min=eps))


def generalized_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Generalised IoU of broadcastable boxes (…, 4), in -1 … 1 (Rezatofighi et al., 2019)."""
    low, high = (
        torch.maximum(a_xyxy[..., :2], b_xyxy[..., :2]),
        torch.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:]),
    )
    inter = (high - low).clamp(min=0).prod(-1)
    area_a = (a_xyxy[..., 2:] - a_xyxy[..., :2]).clamp(min=0).prod(-1)
    area_b = (b_xyxy[..., 2:] - b_xyxy[..., :2]).clamp(min=0).prod(-1)
    union = area_a + area_b - inter
    hull_low, hull_high = (
        torch.minimum(a_xyxy[..., :2], b_xyxy[..., :2]),
        torch.maximum(a_xyxy[..., 2:], b_xyxy[..., 2:]),
    )
    hull = (hull_high - hull_low).clamp(min=0).prod(-1)
    return inter / union.clamp(min=1e-9) - (hull - union) / hull.clamp(min=1e-9)
