"""What goes in and out of the tracker, and which of two readings of the paper it follows."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerSemantics:
    """Points on which the official tracker and its port in transformers differ.

    The defaults are the official ones, which the published weights were trained with.

    Attributes:
        mask_pointer_from_multimask: Whether the pointer of a given mask comes from the best of the
            three ambiguous-prompt masks, and not from the single mask.
        binarize_given_mask: Whether a resized given mask is made 0 or 1 again, at 0.5.
        resample_through_image: Whether masks pass through the size of the input picture (14 g) on
            their way to 16 g.
        max_pointer_age: Age in frames at which the time code of a pointer stops growing. The
            official code lets a conditioning frame grow old without end.
        point_with_lone_mask: Whether a mask that prompts a picture alone is joined by two padding
            points.
        memory_of_full_mask: Whether the memory of a given mask is made of the mask itself at 16 g,
            and not of what it becomes at 4 g.
        refines_earlier_mask: Whether a point on a frame that has a mask already is decoded along
            with that mask, and, once propagation passed the frame, with memory even if the frame
            was prompted before.
    """

    mask_pointer_from_multimask: bool = False
    binarize_given_mask: bool = True
    resample_through_image: bool = False
    max_pointer_age: int | None = None
    point_with_lone_mask: bool = False
    memory_of_full_mask: bool = False
    refines_earlier_mask: bool = True


TRANSFORMERS_SEMANTICS = TrackerSemantics(
    mask_pointer_from_multimask=True,
    binarize_given_mask=False,
    resample_through_image=True,
    point_with_lone_mask=True,
    memory_of_full_mask=True,
    refines_earlier_mask=False,
)


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
        given_mask_logits: A given mask at its full size, shape (B, 1, 16g, 16g), where the memory
            is to be made of that.
    """

    mask_logits: Tensor
    object_score_logits: Tensor
    predicted_iou: Tensor
    pointer: Tensor
    all_mask_logits: Tensor
    all_ious: Tensor
    given_mask_logits: Tensor | None = None

    @property
    def memory_mask_logits(self) -> Tensor:
        """Mask that the memory is made of, shape (B, 1, H, W)."""
        return self.mask_logits if self.given_mask_logits is None else self.given_mask_logits

    @property
    def quality(self) -> Tensor:
        """How much the step is worth remembering, shape (B,), 0 (absent) to 1."""
        visible = (2 * self.object_score_logits[:, 0].sigmoid() - 1).clamp(min=0)
        return visible * self.predicted_iou
