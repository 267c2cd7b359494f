"""Masks as COCO's run lengths, boxes and areas: what annotations and predictions are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from pycocotools import mask as coco_mask

from models.common.masks import RunLengths
from pipeline.lab.metrics.overlap import Floats

Box = tuple[float, float, float, float]
_COCO: Any = cast("Any", coco_mask)


def read_run_lengths(value: object, *, height: int, width: int) -> RunLengths:
    """Read and check COCO's JSON form of a mask; the runs are letters or plain numbers.

    Args:
        value: ``{"size": [H, W], "counts": ...}``.
        height: Rows of the picture that it belongs to.
        width: Columns of that picture.

    Raises:
        ValueError: If it is none, is of another size, or its runs do not fill its size.
    """
    parts = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    size, counts = parts.get("size"), parts.get("counts")
    if not (isinstance(counts, str | list) and isinstance(size, list)):
        raise ValueError(  # noqa: TRY004 - data, not code
            f"segmentation {_short(parts)} (accepted: size and counts)"
        )
    if cast("list[Any]", size) != [height, width]:
        raise ValueError(f"mask of size {size!r} on a picture of {[height, width]!r}")
    if isinstance(counts, str):
        return RunLengths.from_counts(counts, (height, width))
    runs = cast("list[Any]", counts)
    if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(f"run lengths {_short(runs)} for a mask of {height}x{width}")
    return RunLengths(size_hw=(height, width), runs=np.array(runs, np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is seen of one object on one picture.

    Attributes:
        mask: Its pixels.
        box_xywh: Left, top, width and height in pixels, or in shares of the picture where a set
            has them so.
        area: Pixels of the mask.
    """

    mask: RunLengths
    box_xywh: Box
    area: int

    @classmethod
    def of(cls, mask: RunLengths, box_xywh: Box | None = None) -> "Shape":
        """Measure a mask; the box is taken from it where none is given."""
        if box_xywh is None:
            left, top, width, height = (float(v) for v in _COCO.toBbox(mask.compressed()))
            box_xywh = (left, top, width, height)
        return cls(mask=mask, box_xywh=box_xywh, area=mask.area)


def mask_ious(predicted: Sequence[Shape], truth: Sequence[Shape]) -> Floats:
    """Return the overlaps of masks, shape (P, T)."""
    if not predicted or not truth:
        return np.zeros((len(predicted), len(truth)))
    encoded = [[shape.mask.compressed() for shape in shapes] for shapes in (predicted, truth)]
    return np.asarray(_COCO.iou(*encoded, [0] * len(truth)), dtype=np.float64)


def box_ious(predicted: Sequence[Shape], truth: Sequence[Shape]) -> Floats:
    """Return the overlaps of boxes, shape (P, T)."""
    if not predicted or not truth:
        return np.zeros((len(predicted), len(truth)))
    boxes = [
        [np.array(shape.box_xywh, dtype=np.float64).tolist() for shape in shapes]
        for shapes in (predicted, truth)
    ]
    return np.asarray(_COCO.iou(*boxes, [0] * len(truth)), dtype=np.float64)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
