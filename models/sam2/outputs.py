"""What goes in and out of the tracker."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.common.elementwise import elementwise


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerFeatures:
    """Features of N frames, prepared once for all their objects.

    Attributes:
        fine0: Shape (N, C / 8, 4g, 4g).
        fine1: Shape (N, C / 4, 2g, 2g).
        top: Shape (N, C, g, g).
    """

    fine0: Tensor
    fine1: Tensor
    top: Tensor

    @property
    def grid(self) -> int:
        """Tokens along one side of the picture."""
        return self.top.shape[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackOutput:
    """One step of B objects.

    Attributes:
        mask_logits: Chosen mask, shape (B, 1, 4g, 4g); -1024 everywhere for an absent object.
        object_score_logits: Whether the object is visible, shape (B, 1).
        predicted_iou: Of the chosen mask, shape (B,), 0 to 1.
        pointer: Shape (B, C).
        all_mask_logits: The three candidate masks, not blanked for absent objects, shape
            (B, 3, 4g, 4g); meant for training.
        all_ious: Predicted IoU of the candidates, shape (B, 3), 0 to 1.
    """

    mask_logits: Tensor
    object_score_logits: Tensor
    predicted_iou: Tensor
    pointer: Tensor
    all_mask_logits: Tensor
    all_ious: Tensor

    @property
    def quality(self) -> Tensor:
        """How much the step is worth remembering, shape (B,), 0 (absent) to 1."""
        visible = (2 * elementwise(torch.sigmoid, self.object_score_logits[:, 0]) - 1).clamp(min=0)
        return visible * self.predicted_iou
