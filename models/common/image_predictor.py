"""One picture, one embedding, many prompts: the same for SAM 1, SAM 2.1 and SAM 3's tracker.

Shape legend:
    B objects, P points of each, M masks of each (3 or 1), H W the picture in px, s the mask side.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from models.common.checks import check_size
from models.common.prompting import (
    FloatArray,
    InputFrame,
    MaskCandidates,
    ObjectPrompts,
    PromptableModel,
    State,
    check_array,
    check_boxes,
    check_labels,
    check_mask,
    check_mask_logits,
    check_pixels,
)

MASK_THRESHOLD = 0.0
# Objects decoded at once: bounds the memory of thousands of prompts to about 1 GB.
BATCH = 32
# Pixels of masks held as logits at once, 128 MiB: one mask of an 8K picture.
CHUNK_PIXELS = 2**25


class MaskPrediction(NamedTuple):
    """Masks of one prompt, in the order that users of SAM know.

    Attributes:
        masks: Shape (M, H, W), bool, or fp32 logits when these were asked for.
        scores: Shape (M,), predicted IoU.
        logits: Shape (M, s, s), fp32, fit to be given again as ``mask_input``; SAM 2 and 3 bound
            them to 32 either way.
    """

    masks: NDArray[np.bool_] | FloatArray
    scores: FloatArray
    logits: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held(Generic[State]):
    state: State
    frame: InputFrame


class ImagePredictor(Generic[State]):
    """Segments objects of one picture from points, boxes and masks (SAM, section 3).

    The picture is embedded once by :meth:`set_image`; each :meth:`predict` after that costs only
    the small prompt encoder and mask decoder. Not thread-safe.
    """

    def __init__(
        self, model: PromptableModel[State], *, mask_threshold: float = MASK_THRESHOLD
    ) -> None:
        """Wrap a model; logits above ``mask_threshold`` are mask."""
        self.model = model
        self.mask_threshold = mask_threshold
        self._held: _Held[State] | None = None

    @property
    def is_image_set(self) -> bool:
        """Whether there is a picture to ask about."""
        return self._held is not None

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the picture in px. Raises ``ValueError`` if none is set."""
        return self._embedded().frame.picture_hw

    @torch.inference_mode()
    def set_image(self, pixels: NDArray[np.uint8]) -> None:
        """Embed an RGB picture.

        Args:
            pixels: Shape (H, W, 3), uint8, H and W at least 1.

        Raises:
            ValueError: If the picture has another shape or type; the one before is kept then.
        """
        checked = np.ascontiguousarray(check_pixels(pixels))
        picture = torch.from_numpy(checked).to(self.model.device)[None]
        frame = self.model.frame_of((checked.shape[0], checked.shape[1]))
        self._held = _Held(state=self.model.encode_picture(picture), frame=frame)

    def set_embedding(self, state: State, picture_hw: tuple[int, int]) -> None:
        """Take an embedding that was made elsewhere, of a picture of this height and width.

        Raises:
            ValueError: If the height or width is not an integer of at least 1.
        """
        frame = self.model.frame_of(check_size("picture_hw", picture_hw))
        self._held = _Held(state=state, frame=frame)

    def reset(self) -> None:
        """Forget the picture."""
        self._held = None

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        *,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> MaskPrediction:
        """Segment one object; see :meth:`predict_batch` for many.

        Args:
            point_coords: Shape (P, 2), x and y in px of the picture; outside it is allowed.
            point_labels: Shape (P,): 1 on the object, 0 off it. All 1 when left out.
            box: Shape (4,), x0, y0, x1, y1 in px.
            mask_input: Shape (s, s) or (1, s, s), the logits of an earlier answer.
            multimask_output: Three candidates for an ambiguous prompt, otherwise one mask.
            return_logits: Give logits instead of bool masks.

        Raises:
            ValueError: If no picture is set, nothing is asked, or an argument has a wrong shape.
        """
        points = (
            None if point_coords is None else check_array("point_coords", point_coords, (None, 2))
        )
        labels = None
        if point_labels is not None:
            if points is None:
                raise ValueError("point_labels is given without point_coords; accepted: both")
            labels = check_labels("point_labels", point_labels, (len(points),))[None]
        boxes = None
        if box is not None:
            boxes = check_boxes("box", check_array("box", box, (4,))[None])
        mask = None
        if mask_input is not None:
            mask = check_mask("mask_input", mask_input, self.model.mask_side)[None]
        found = self.predict_batch(
            None if points is None else points[None],
            labels,
            boxes,
            mask,
            multimask_output=multimask_output,
            return_logits=return_logits,
        )
        return MaskPrediction(found.masks[0], found.scores[0], found.logits[0])

    @torch.inference_mode()
    def predict_batch(
        self,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        masks: ArrayLike | None = None,
        *,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> MaskPrediction:
        """Segment B objects of the picture.

        All masks come back at the picture's size. Where these would be too much memory, use
        :meth:`decode` and :meth:`upscaled`, which hold a few at a time.

        Args:
            points: Shape (B, P, 2), px.
            labels: Shape (B, P): 1, 0, or -1 for padding. All 1 when left out.
            boxes: Shape (B, 4), px.
            masks: Shape (B, 1, s, s), logits.
            multimask_output: As for :meth:`predict`.
            return_logits: As for :meth:`predict`.

        Returns:
            Masks (B, M, H, W), scores (B, M) and logits (B, M, s, s).

        Raises:
            ValueError: As for :meth:`predict`.
        """
        held = self._embedded()
        prompts = self._prompts(points, labels, boxes, masks, held.frame)
        count, side = len(prompts.points), self.model.mask_side
        shape = (count, 3 if multimask_output else 1)
        # Filled piece by piece: no second copy of what may be gigabytes.
        shown: NDArray[Any] = np.empty(
            (*shape, *held.frame.picture_hw), np.float32 if return_logits else np.bool_
        )
        scores = np.empty(shape, np.float32)
        logits = np.empty((*shape, side, side), np.float32)
        for start in range(0, count, BATCH):
            here = slice(start, start + BATCH)
            found = self.decode(prompts.rows(start, start + BATCH), multimask=multimask_output)
            scores[here] = found.predicted_iou.float().numpy(force=True)
            bound = found.given_again_within
            logits[here] = found.mask_logits.float().clamp(-bound, bound).numpy(force=True)
            flat = shown[here].reshape(-1, *held.frame.picture_hw)
            for rows, large in self.upscaled(found.mask_logits.flatten(0, 1)):
                part = large if return_logits else large > self.mask_threshold
                flat[rows] = part.numpy(force=True)
        return MaskPrediction(shown, scores, logits)

    def upscaled(self, mask_logits: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Bring masks to the picture's size, a few at a time so that memory stays bounded.

        Args:
            mask_logits: Shape (n, s, s), as :meth:`decode` gives them.

        Yields:
            Which masks, and their fp32 logits (k, H, W).

        Raises:
            ValueError: If no picture is set.
        """
        frame = self._embedded().frame
        pixels = max(frame.picture_hw[0] * frame.picture_hw[1], frame.side**2)
        step = max(1, CHUNK_PIXELS // pixels)
        for start in range(0, len(mask_logits), step):
            rows = slice(start, start + step)
            yield rows, self.model.upscale(mask_logits[rows, None], frame)[:, 0].float()

    def prompts_from_points(self, points: FloatArray) -> ObjectPrompts:
        """Make one single-point prompt of each (B, 2) point in px."""
        labels = np.ones((len(points), 1), np.int64)
        return self._prompts(points[:, None], labels, None, None, self._embedded().frame)

    def decode(self, prompts: ObjectPrompts, *, multimask: bool) -> MaskCandidates:
        """Answer prompts on the picture that is set, without bringing masks to its size."""
        return self.model.decode_prompts(self._embedded().state, prompts, multimask=multimask)

    def _embedded(self) -> _Held[State]:
        if self._held is None:
            raise ValueError("no picture is set; call set_image first")
        return self._held

    def _prompts(
        self,
        points: ArrayLike | None,
        labels: ArrayLike | None,
        boxes: ArrayLike | None,
        masks: ArrayLike | None,
        frame: InputFrame,
    ) -> ObjectPrompts:
        if points is None and boxes is None and masks is None:
            raise ValueError("no prompt; accepted: points, boxes or masks, or several of them")
        if points is None and labels is not None:
            raise ValueError("labels is given without points; accepted: both")
        side = self.model.mask_side
        coords = None if points is None else check_array("points", points, (None, None, 2))
        corners = None
        if boxes is not None:
            corners = check_boxes("boxes", check_array("boxes", boxes, (None, 4)))
        given = None if masks is None else check_mask_logits("masks", masks, side)
        counts = {len(x) for x in (coords, corners, given) if x is not None}
        if len(counts) != 1 or 0 in counts:
            raise ValueError(
                f"points, boxes and masks are for {sorted(counts)!r} objects; "
                "accepted: the same number, at least 1"
            )
        batch = counts.pop()
        scale = np.array(frame.scale_xy, np.float32)
        placed = np.zeros((batch, 0, 2), np.float32) if coords is None else coords * scale
        if not placed.shape[1] and corners is None and given is None:
            raise ValueError("points has no point; accepted: at least one, or a box or a mask")
        kinds = np.ones(placed.shape[:2], np.int64)
        if labels is not None:
            kinds = check_labels("labels", labels, placed.shape[:2])
        return ObjectPrompts(
            points=self._tensor(placed),
            labels=self._tensor(kinds),
            boxes=None if corners is None else self._tensor(corners * np.tile(scale, 2)),
            mask_logits=None if given is None else self._tensor(given),
        )

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.model.device)
