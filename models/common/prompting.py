"""Prompts for single objects: points, boxes and masks, checked and brought to the model's scale.

Shape legend:
    B objects, P points of each, g tokens along a side of the model's input.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Larger logits of a mask say no more, and their squares would overflow.
MAX_MASK_LOGIT = 1e4
LABEL_NAMES = "1 (on the object), 0 (off it) or -1 (padding)"
FloatArray = NDArray[np.float32]
State = TypeVar("State")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPrompts:
    """Prompts of B objects on one picture, as a model takes them.

    Attributes:
        points: Shape (B, P, 2), x and y as shares of the model's square input; P may be 0.
        labels: Shape (B, P), int64: 1 on the object, 0 off it, -1 padding.
        boxes: Shape (B, 4), x0, y0, x1, y1 as shares of the model's square input, or ``None``.
        mask_logits: Shape (B, 1, 4g, 4g), logits, or ``None``.
    """

    points: Tensor
    labels: Tensor
    boxes: Tensor | None
    mask_logits: Tensor | None

    def rows(self, start: int, stop: int) -> "ObjectPrompts":
        """Return the prompts of objects ``start`` to ``stop``."""
        return ObjectPrompts(
            points=self.points[start:stop],
            labels=self.labels[start:stop],
            boxes=None if self.boxes is None else self.boxes[start:stop],
            mask_logits=None if self.mask_logits is None else self.mask_logits[start:stop],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskCandidates:
    """What a model answers to prompts.

    Attributes:
        mask_logits: Shape (B, M, 4g, 4g); M is 3 for ambiguous prompts, otherwise 1.
        predicted_iou: Shape (B, M), the model's own estimate.
        given_again_within: Bound, either way, of logits that are handed out to be given again.
    """

    mask_logits: Tensor
    predicted_iou: Tensor
    given_again_within: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFrame:
    """How a picture lies in a model's square input.

    Attributes:
        picture_hw: Height and width of the picture in px.
        content_hw: Height and width, in px of the input, of the part that shows the picture.
        side: Side of the input in px.
    """

    picture_hw: tuple[int, int]
    content_hw: tuple[int, int]
    side: int

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Factors from picture px to shares of the input, for x and y."""
        height, width = self.picture_hw
        return self.content_hw[1] / width / self.side, self.content_hw[0] / height / self.side


class PromptableModel(Protocol[State]):
    """What an image predictor asks of SAM 1, SAM 2.1 or SAM 3's tracker."""

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        ...

    @property
    def mask_side(self) -> int:
        """Side of the masks it gives and takes (4 g)."""
        ...

    def frame_of(self, picture_hw: tuple[int, int]) -> InputFrame:
        """Tell how a picture of this size lies in the input."""
        ...

    def encode_picture(self, pixels: Tensor) -> State:
        """Embed one RGB picture (1, H, W, 3), uint8."""
        ...

    def decode_prompts(
        self, state: State, prompts: ObjectPrompts, *, multimask: bool
    ) -> MaskCandidates:
        """Answer prompts: three candidates each with ``multimask``, otherwise one."""
        ...

    def upscale(self, mask_logits: Tensor, frame: InputFrame) -> Tensor:
        """Bring (B, M, 4g, 4g) logits to the picture's size (B, M, H, W)."""
        ...


def check_pixels(pixels: object) -> NDArray[np.uint8]:
    """Return the picture if it is RGB, uint8, of shape (H, W, 3) with H and W at least 1.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(pixels, np.ndarray):
        raise ValueError(  # noqa: TRY004 - one type of error for whatever a caller got wrong
            f"pixels is a {type(pixels).__name__}; accepted: a numpy array, uint8, (H, W, 3)"
        )
    array: NDArray[Any] = pixels
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(
            f"pixels is {array.dtype} of shape {array.shape}; "
            "accepted: RGB, uint8, shape (H, W, 3), H and W at least 1"
        )
    return array


def check_array(name: str, value: object, shape: tuple[int | None, ...]) -> FloatArray:
    """Return ``value`` as float32 if it is finite numbers of the shape (``None`` fits any size).

    Raises:
        ValueError: Names the argument, what it is and what would be accepted.
    """
    wanted = "(" + ", ".join("*" if size is None else str(size) for size in shape) + ")"
    array = _numbers(name, value, wanted)
    if array.ndim != len(shape) or any(
        want is not None and have != want for have, want in zip(array.shape, shape, strict=True)
    ):
        raise ValueError(f"{name} has shape {array.shape}; accepted: {wanted}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite; accepted: finite numbers")
    return array


def _numbers(name: str, value: object, wanted: str) -> FloatArray:
    try:
        array = np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:  # the first one from torch
        raise ValueError(f"{name} is not numbers ({error}); accepted: shape {wanted}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} is of type {array.dtype}; accepted: numbers of shape {wanted}")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is told so
        return array.astype(np.float32)


def check_mask(name: str, value: object, side: int) -> FloatArray:
    """Return one mask of logits, (side, side) or (1, side, side), as (1, side, side).

    Raises:
        ValueError: Names the argument, what it is and what would be accepted.
    """
    array = _numbers(name, value, f"({side}, {side})")
    full = array[None] if array.ndim == 2 else array
    return _bounded(name, check_array(name, full, (1, side, side)))


def check_mask_logits(name: str, value: object, side: int) -> FloatArray:
    """Return masks of logits, shape (B, 1, side, side).

    Raises:
        ValueError: Names the argument, what it is and what would be accepted.
    """
    return _bounded(name, check_array(name, value, (None, 1, side, side)))


def _bounded(name: str, logits: FloatArray) -> FloatArray:
    if logits.size and np.abs(logits).max() > MAX_MASK_LOGIT:
        raise ValueError(
            f"{name} has {float(logits.flat[np.abs(logits).argmax()])!r}; "
            f"accepted: logits within {MAX_MASK_LOGIT:g} either way"
        )
    return logits


def check_labels(name: str, value: object, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return labels as int64 if each is 1, 0 or -1 and they have the shape of the points.

    Raises:
        ValueError: Names the argument, what it is and what would be accepted.
    """
    labels = check_array(name, value, shape)
    if not np.isin(labels, (-1, 0, 1)).all():
        wrong = sorted({float(x) for x in labels.ravel()} - {-1.0, 0.0, 1.0})
        raise ValueError(f"{name} has {wrong[:3]!r}; accepted: {LABEL_NAMES}")
    return labels.astype(np.int64)


def check_boxes(name: str, boxes: FloatArray) -> FloatArray:
    """Return boxes (…, 4) if none has x1 < x0 or y1 < y0.

    Raises:
        ValueError: Names the argument and the first such box.
    """
    wrong = (boxes[..., 2] < boxes[..., 0]) | (boxes[..., 3] < boxes[..., 1])
    if wrong.any():
        raise ValueError(
            f"{name} has {boxes[wrong][0].tolist()!r}; accepted: x0, y0, x1, y1 in px "
            "with x0 <= x1 and y0 <= y1"
        )
    return boxes
