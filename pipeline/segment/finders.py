"""Ask a model what the prompts ask, one picture at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from models.common.automatic_masks import AutomaticMaskGenerator, AutomaticMaskOptions
from models.common.image_predictor import ImagePredictor
from models.common.masks import CocoRle, RunLengths
from models.protocols import ConceptDetector, ConceptQuery, ExemplarBox
from pipeline.segment.prompts import BoxPrompt, PointPrompt, Prompts
from pipeline.segment.results import Findings, FoundObject

VISUAL, OBJECT = "visual", "object"
# Mask pixels of one answer: thousands of boxes on a large picture are asked in parts.
_PIXELS_AT_ONCE = 2**28
# How SAM 2 turns a given mask into logits.
_LOGIT_SCALE, _LOGIT_OFFSET = 20.0, -10.0


class Finder(ABC):
    """Finds what was asked for.

    Attributes:
        categories: What objects can be, by their ``FoundObject.concept``.
    """

    categories: tuple[str, ...] = (OBJECT,)

    @abstractmethod
    def find(self, pixels: NDArray[np.uint8]) -> Findings:
        """Return what is on an RGB picture (H, W, 3), uint8.

        Raises:
            ValueError: If a prompt does not fit this picture; says what would be accepted.
        """


class ConceptFinder(Finder):
    """Finds all instances of phrases and exemplars (SAM 3, section 3)."""

    def __init__(self, detector: ConceptDetector, prompts: Prompts) -> None:
        """Ask ``detector`` for what ``prompts`` name; its own threshold decides what counts."""
        self._detector = detector
        self._exemplars = prompts.exemplars
        self._phrases: tuple[str | None, ...] = prompts.concepts or (None,)
        self.categories = prompts.concepts or (VISUAL,)

    @override
    def find(self, pixels: NDArray[np.uint8]) -> Findings:
        height, width = pixels.shape[:2]
        scale = 1 / width, 1 / height
        exemplars = tuple(
            ExemplarBox(
                box_xyxy=(x0 * scale[0], y0 * scale[1], x1 * scale[0], y1 * scale[1]),
                is_positive=box.is_positive,
            )
            for box in self._exemplars
            for x0, y0, x1, y1 in [_clipped(box, "--exemplar", width, height)]
        )
        queries = [ConceptQuery(phrase=phrase, exemplars=exemplars) for phrase in self._phrases]
        results = self._detector.detect(pixels, queries)
        objects = [
            FoundObject(
                concept=concept,
                run_lengths=RunLengths.of(found.mask),
                score=found.score,
                presence_score=found.presence_score,
            )
            for concept, result in zip(self.categories, results, strict=True)
            for found in result.detections
            if found.mask.any()
        ]
        presence = {
            name: result.presence_score
            for name, result in zip(self.categories, results, strict=True)
        }
        objects.sort(key=lambda found: (self.categories.index(found.concept), -found.score))
        return Findings(objects=tuple(objects), presence_scores=presence)


class ObjectFinder(Finder):
    """Segments one object for each box, or one for the points, the box and the mask together."""

    def __init__(
        self,
        predictor: ImagePredictor[Any],
        prompts: Prompts,
        *,
        mask: NDArray[np.bool_] | None,
        min_score: float,
        adds_box: bool = False,
    ) -> None:
        """Ask ``predictor``.

        Args:
            predictor: Any of the family.
            prompts: Points and boxes.
            mask: Shape (H, W), where the object roughly is.
            min_score: Objects of a lower predicted IoU are dropped.
            adds_box: Whether a mask that comes alone is given together with the box around it.
        """
        self._predictor = predictor
        self._prompts = prompts
        self._mask = mask
        self._min_score = min_score
        self._adds_box = adds_box

    @override
    def find(self, pixels: NDArray[np.uint8]) -> Findings:
        height, width = pixels.shape[:2]
        points = [_inside(point, width, height) for point in self._prompts.points]
        boxes = [_clipped(box, "--box", width, height) for box in self._prompts.boxes]
        if self._mask is not None and self._mask.shape != (height, width):
            size = f"{self._mask.shape[1]}x{self._mask.shape[0]}"
            raise ValueError(f"--mask is {size}; accepted: the picture's size, {width}x{height}")
        self._predictor.set_image(pixels)
        if len(boxes) > 1:
            answers = self._ask_each(boxes, width * height)
        else:
            answers = iter([self._ask_together(points, boxes)])
        return Findings(
            objects=tuple(
                FoundObject(concept=OBJECT, run_lengths=mask, score=iou, predicted_iou=iou)
                for mask, iou in answers
                if mask is not None and iou >= self._min_score
            )
        )

    def _ask_each(
        self, boxes: Sequence[tuple[float, float, float, float]], num_pixels: int
    ) -> Iterator[tuple[RunLengths | None, float]]:
        at_once = max(_PIXELS_AT_ONCE // num_pixels, 1)
        for start in range(0, len(boxes), at_once):
            found = self._predictor.predict_batch(
                boxes=boxes[start : start + at_once], multimask_output=False
            )
            for masks, scores in zip(found.masks, found.scores, strict=True):
                yield _encoded(masks[0]), float(scores[0])

    def _ask_together(
        self, points: Sequence[PointPrompt], boxes: Sequence[tuple[float, float, float, float]]
    ) -> tuple[RunLengths | None, float]:
        box = boxes[0] if boxes else None
        logits = None
        if self._mask is not None:
            logits = self._mask_logits(self._mask)
            if self._adds_box and not points and box is None:
                box = _bounds(self._mask)
        found = self._predictor.predict(
            point_coords=[(point.x, point.y) for point in points] or None,
            point_labels=[int(point.is_positive) for point in points] or None,
            box=box,
            mask_input=logits,
            # Only a lone point is ambiguous: shirt or person.
            multimask_output=len(points) == 1 and box is None and logits is None,
        )
        best = int(np.argmax(found.scores))
        return _encoded(found.masks[best]), float(found.scores[best])

    def _mask_logits(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return a mask (H, W) as the model's low-resolution logits, shape (s, s)."""
        model = self._predictor.model
        side = model.mask_side
        frame = model.frame_of((mask.shape[0], mask.shape[1]))
        h, w = (max(round(length * side / frame.side), 1) for length in frame.content_hw)
        share = np.zeros((side, side), np.float32)
        share[:h, :w] = cv2.resize(mask.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA)
        return share * np.float32(_LOGIT_SCALE) + np.float32(_LOGIT_OFFSET)


class EverythingFinder(Finder):
    """Segments whatever there is by a grid of points (SAM, section 5)."""

    def __init__(self, predictor: ImagePredictor[Any], *, min_score: float | None) -> None:
        """Ask ``predictor``; masks of a lower predicted IoU are dropped, by default below 0.88."""
        options = AutomaticMaskOptions(output_mode="coco_rle")
        if min_score is not None:
            options = replace(options, pred_iou_thresh=min_score)
        self._generator = AutomaticMaskGenerator(predictor, options)

    @override
    def find(self, pixels: NDArray[np.uint8]) -> Findings:
        found = sorted(self._generator.generate(pixels), key=lambda one: -one.predicted_iou)
        return Findings(
            objects=tuple(
                FoundObject(
                    concept=OBJECT,
                    run_lengths=_read(cast("CocoRle", one.segmentation)),
                    score=one.predicted_iou,
                    predicted_iou=one.predicted_iou,
                    stability_score=one.stability_score,
                )
                for one in found
            )
        )


def _read(mask: CocoRle) -> RunLengths:
    height, width = mask["size"]
    return RunLengths.from_counts(mask["counts"], (height, width))


def _encoded(mask: NDArray[np.generic]) -> RunLengths | None:
    """Return the run lengths of a mask, or ``None`` of an empty one."""
    return RunLengths.of(mask.astype(np.bool_)) if mask.any() else None


def _bounds(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Return the corners of a mask that is not empty."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, x + width, y + height


def _inside(point: PointPrompt, width: int, height: int) -> PointPrompt:
    if not (0 <= point.x <= width and 0 <= point.y <= height):
        place = f"{point.x:g},{point.y:g}"
        raise ValueError(
            f"--point {place} is not on the picture; accepted: 0,0 to {width},{height}"
        )
    return point


def _clipped(
    box: BoxPrompt, flag: str, width: int, height: int
) -> tuple[float, float, float, float]:
    """Return the corners of what of a box is on the picture."""
    x0, y0, x1, y1 = box.xyxy
    x0, x1 = max(x0, 0.0), min(x1, float(width))
    y0, y1 = max(y0, 0.0), min(y1, float(height))
    if x0 >= x1 or y0 >= y1:
        place = f"{box.x:g},{box.y:g},{box.width:g},{box.height:g}"
        raise ValueError(
            f"{flag} {place} is not on the picture; accepted: a box that meets 0,0 to "
            f"{width},{height}"
        )
    return x0, y0, x1, y1
