"""Training loss of the tracker (SAM 2, appendix on training): masks, predicted IoU, visibility."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.common.mask_decoder import NUM_MULTIMASKS, DecodedObjects
from models.sam2.outputs import TrackOutput
from models.training.matching import dice_loss, focal_bce


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerTargets:
    """Truth for B objects on one frame.

    Attributes:
        masks: Share of each cell that the object covers, shape (B, 4g, 4g), 0 to 1.
        is_visible: Whether anything of it shows, shape (B,), bool.
    """

    masks: Tensor
    is_visible: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerLossWeights:
    """Weight of each term in the sum.

    SAM 2 has 20 to 1 for focal to dice; from nothing, on small objects, that first learns to draw
    no mask at all, so dice weighs more here.
    """

    focal: float = 20.0
    dice: float = 5.0
    iou: float = 1.0
    visibility: float = 1.0


def clip_losses(
    outputs: Sequence[TrackOutput], targets: Sequence[TrackerTargets], weights: TrackerLossWeights
) -> dict[str, Tensor]:
    """Return each weighted term, averaged over the frames; their sum is what to minimise.

    Of the three candidate masks only the closest learns the mask, all learn their IoU, and both
    only where the object is visible; whether it is visible is learned everywhere.

    Raises:
        ValueError: If there is not one target per output, or there is none.
    """
    frames = [
        _frame_losses(output, target, weights)
        for output, target in zip(outputs, targets, strict=True)
    ]
    if not frames:
        raise ValueError("no frames to learn from; at least 1 is needed")
    return {name: torch.stack([f[name] for f in frames]).mean() for name in frames[0]}


def _frame_losses(
    output: TrackOutput, targets: TrackerTargets, weights: TrackerLossWeights
) -> dict[str, Tensor]:
    logits = output.all_mask_logits
    truth = targets.masks[:, None].expand_as(logits)
    focal = weights.focal * focal_bce(logits, truth).mean((2, 3))
    dice = weights.dice * dice_loss(logits.flatten(0, 1), truth.flatten(0, 1)).view_as(focal)
    closest = (focal + dice).argmin(dim=1, keepdim=True)
    off = weights.iou * (output.all_ious - mask_iou(logits, truth)).abs().mean(1)
    seen = targets.is_visible.to(logits.dtype)
    share = seen / seen.sum().clamp(min=1)
    visibility = F.binary_cross_entropy_with_logits(output.object_score_logits[:, 0], seen)
    return {
        "focal": (focal.gather(1, closest)[:, 0] * share).sum(),
        "dice": (dice.gather(1, closest)[:, 0] * share).sum(),
        "iou": (off * share).sum(),
        "visibility": weights.visibility * visibility,
    }


def prompt_losses(
    decoded: DecodedObjects, masks: Tensor, weights: TrackerLossWeights, *, is_ambiguous: bool
) -> dict[str, Tensor]:
    """Return the weighted terms of answers to prompts for visible objects (SAM, appendix A).

    The closest of the three candidates learns its mask. The single mask learns too, unless the
    prompt is ambiguous, for then it is not used. All of these learn their IoU.

    Args:
        decoded: Answers for B objects.
        masks: Share of each cell that the object covers, shape (B, 4g, 4g).
        weights: Of the terms.
        is_ambiguous: Whether the prompts are single points.
    """
    used = slice(1, None) if is_ambiguous else slice(0, None)
    logits, iou = decoded.mask_logits[:, used], decoded.iou[:, used]
    truth = masks[:, None].expand_as(logits)
    focal = weights.focal * focal_bce(logits, truth).mean((2, 3))
    dice = weights.dice * dice_loss(logits.flatten(0, 1), truth.flatten(0, 1)).view_as(focal)
    both = focal + dice
    closest = both[:, -NUM_MULTIMASKS:].amin(dim=1)
    mask_term = closest.mean() if is_ambiguous else (closest + both[:, 0]).mean() / 2
    there = torch.ones_like(decoded.object_score_logits)
    return {
        "prompt_mask": mask_term,
        "prompt_iou": weights.iou * (iou - mask_iou(logits, truth)).abs().mean(),
        "prompt_visibility": weights.visibility
        * F.binary_cross_entropy_with_logits(decoded.object_score_logits, there),
    }


@torch.no_grad()
def mask_iou(logits: Tensor, truth: Tensor) -> Tensor:
    """IoU of binarised masks (..., H, W), shape (...); 1 where both are empty."""
    mine, theirs = logits > 0, truth > 0.5
    inter = (mine & theirs).sum((-2, -1))
    union = (mine | theirs).sum((-2, -1))
    return torch.where(union > 0, inter / union.clamp(min=1), 1.0)
