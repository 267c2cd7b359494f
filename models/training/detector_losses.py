"""Training loss of the detector (SAM 3, appendix): scores, boxes, masks, presence, dense map.

Shape legend:
    B (image, concept) pairs, L layers, Q queries, M objects of all pairs, G side of the mask grid,
    S side of the truth.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from models.common.boxes import cxcywh_to_xyxy, generalized_iou
from models.sam3.network.detector import Detector, DetectorOutput
from models.training.matching import Matches, dice_loss, match

# The neighbourhood of an object: its box grown by this factor; what a cell beyond it counts.
NEAR_SHARE, FAR = 1.3, 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorTargets:
    """Truth for B pairs.

    Attributes:
        boxes_cxcywh: Objects of all pairs one after another, shape (M, 4), normalised.
        masks: Shape (M, S, S), bool; S is the side of the picture in px, so that a mask is judged
            where it will be used. Each costs some 10 S² numbers in the loss.
        counts: Objects of each pair, length B; 0 for a concept that is not on the picture.
    """

    boxes_cxcywh: Tensor
    masks: Tensor
    counts: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorLossWeights:
    """Weight of each term in the sum.

    ``present`` is what presence counts where the concept is there, as a multiple of where it is
    not: it moves the presence logit by its logarithm.
    """

    score: float = 2.0
    box_l1: float = 5.0
    box_giou: float = 2.0
    mask_bce: float = 5.0
    mask_dice: float = 10.0
    presence: float = 2.0
    present: float = 1.0
    semantic_bce: float = 5.0
    semantic_dice: float = 2.0
    repeats: int = 4

    def times(self, *, masks: float, present: float) -> Self:
        """Return these weights with those of the masks, and of present concepts, multiplied."""
        return replace(
            self,
            mask_bce=masks * self.mask_bce,
            mask_dice=masks * self.mask_dice,
            present=present * self.present,
        )


def detector_losses(
    detector: Detector,
    output: DetectorOutput,
    targets: DetectorTargets,
    weights: DetectorLossWeights,
) -> dict[str, Tensor]:
    """Return each weighted term; their sum is what to minimise.

    Scores and boxes are learned on pairs that hold the concept only: whether it is there at all is
    the presence token's question, which is what lets the two learn apart.
    """
    num_layers = output.logits.shape[0]
    total: dict[str, Tensor] = {}
    for layer in range(num_layers):
        is_last = layer == num_layers - 1
        matches = match(
            output.logits[layer],
            output.boxes_cxcywh[layer],
            targets.boxes_cxcywh,
            targets.counts,
            repeats=1 if is_last else weights.repeats,
        )
        for name, value in _layer_losses(output, layer, targets, matches, weights).items():
            total[name] = total[name] + value if name in total else value
        if is_last:
            total |= _mask_losses(detector, output, targets, matches, weights)
    return total | _semantic_losses(output, targets, weights)


def _layer_losses(
    output: DetectorOutput,
    layer: int,
    targets: DetectorTargets,
    matches: Matches,
    weights: DetectorLossWeights,
) -> dict[str, Tensor]:
    logits, boxes = output.logits[layer], output.boxes_cxcywh[layer]
    is_present = torch.tensor([float(count > 0) for count in targets.counts], device=logits.device)
    presence = F.binary_cross_entropy_with_logits(
        output.presence_logits[layer],
        is_present,
        weight=1 + (weights.present - 1) * is_present,
    )
    wanted = torch.zeros_like(logits)
    wanted[matches.pair, matches.query] = 1.0
    # Easy negatives fade out; positives keep their whole weight, so that a good query's score rises
    # above one half.
    emphasis = torch.where(wanted > 0, 1.0, logits.detach().sigmoid() ** 2)
    score = (
        F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        * emphasis
        * is_present[:, None]
    )
    count = max(len(matches.pair), 1)
    chosen, truth = boxes[matches.pair, matches.query], targets.boxes_cxcywh[matches.target]
    overlap = generalized_iou(cxcywh_to_xyxy(chosen), cxcywh_to_xyxy(truth))
    return {
        "score": weights.score * score.sum() / count,
        "presence": weights.presence * presence,
        "box_l1": weights.box_l1 * (chosen - truth).abs().sum() / count,
        "box_giou": weights.box_giou * (1 - overlap).sum() / count,
    }


def _mask_losses(
    detector: Detector,
    output: DetectorOutput,
    targets: DetectorTargets,
    matches: Matches,
    weights: DetectorLossWeights,
) -> dict[str, Tensor]:
    count = max(len(matches.pair), 1)
    queries = output.queries[-1][matches.pair, matches.query]
    weight, bias = detector.mask_decoder.filters(queries)
    logits = torch.einsum("md,mdhw->mhw", weight, output.pixel_embedding[matches.pair])
    truth = targets.masks[matches.target].float()
    grid, side = logits.shape[-1], truth.shape[-1]
    logits = enlarge(logits + bias[:, None, None], side)
    near = neighbourhood(targets.boxes_cxcywh[matches.target], side, margin=1 / grid)
    bce = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    bce = (bce * near).sum((1, 2)) / near.sum((1, 2))
    return {
        "mask_bce": weights.mask_bce * bce.sum() / count,
        "mask_dice": weights.mask_dice * dice_loss(logits, truth).sum() / count,
    }


def enlarge(logits: Tensor, side: int) -> Tensor:
    """Bring mask logits (M, G, G) to (M, side, side) in fp32, as a mask is brought to its picture.

    The outline then passes through cells where their logits say, not along their edges; a small
    object is a handful of cells, and lives on that.
    """
    if not len(logits):
        return logits.new_zeros(0, side, side)
    return F.interpolate(logits[:, None].float(), size=(side, side), mode="bilinear")[:, 0]


def neighbourhood(boxes: Tensor, side: int, *, margin: float) -> Tensor:
    """Weigh the px of a mask, (M, S, S): those in and round the box decide about its outline.

    In a mean over the whole picture, the outline of a small object is lost among px that are far
    from it and easily told.

    Args:
        boxes: Boxes cxcywh, normalised, shape (M, 4).
        side: S.
        margin: How much wider the neighbourhood is at least, at each edge, as a share of the side.
    """
    centre, half = boxes[:, :2], boxes[:, 2:] * (NEAR_SHARE / 2) + margin
    cells = (torch.arange(side, device=boxes.device) + 0.5) / side
    is_inside = (cells - centre[..., None]).abs() <= half[..., None]
    return (is_inside[:, 1, :, None] & is_inside[:, 0, None, :]).to(boxes.dtype).clamp(min=FAR)


def _semantic_losses(
    output: DetectorOutput, targets: DetectorTargets, weights: DetectorLossWeights
) -> dict[str, Tensor]:
    size = output.semantic_logits.shape[-1]
    truth = torch.zeros_like(output.semantic_logits)
    start = 0
    for pair, count in enumerate(targets.counts):
        if count:
            union = targets.masks[start : start + count].any(0).float()
            truth[pair] = F.interpolate(union[None, None], size=(size, size), mode="area")[0, 0]
        start += count
    is_present = torch.tensor([float(count > 0) for count in targets.counts], device=truth.device)
    dice = (dice_loss(output.semantic_logits, truth) * is_present).sum() / is_present.sum().clamp(
        min=1
    )
    bce = F.binary_cross_entropy_with_logits(output.semantic_logits, truth)
    return {
        "semantic_bce": weights.semantic_bce * bce,
        "semantic_dice": weights.semantic_dice * dice,
    }
