"""Masks as COCO's run lengths, boxes and areas: what annotations and predictions are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline.lab.metrics.overlap import Floats
from pipeline.records.schema import decode_counts

Box = tuple[float, float, float, float]
_COCO: Any = cast("Any", coco_mask)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLengths:
    """A mask as COCO's compressed run lengths.

    Attributes:
        height: Rows of the mask.
        width: Columns of the mask.
        counts: Compressed counts, as pycocotools reads them.
    """

    height: int
    width: int
    counts: str

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> "RunLengths":
        """Encode a mask of shape (H, W)."""
        encoded = _COCO.encode(np.asfortranarray(mask, dtype=np.uint8))
        return cls(height=mask.shape[0], width=mask.shape[1], counts=encoded["counts"].decode())

    @classmethod
    def from_json(cls, value: object, *, height: int, width: int) -> "RunLengths":
        """Read and check COCO's JSON form; plain lists of runs are compressed.

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
        if isinstance(counts, list):
            counts = _compress(cast("list[Any]", counts), height, width)
        runs = decode_counts(counts)
        if min(runs, default=0) < 0 or sum(runs) != height * width:
            raise ValueError(f"run lengths of {sum(runs)} pixels for a mask of {height}x{width}")
        return cls(height=height, width=width, counts=counts)

    def to_json(self) -> dict[str, object]:
        """Return COCO's JSON form."""
        return {"size": [self.height, self.width], "counts": self.counts}

    def to_mask(self) -> NDArray[np.bool_]:
        """Decode, shape (H, W)."""
        # pycocotools' own decoder warns with numpy 2.
        runs = decode_counts(self.counts)
        flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return flat.reshape(self.width, self.height).T


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
        encoded = mask.to_json()
        if box_xywh is None:
            left, top, width, height = (float(value) for value in _COCO.toBbox(encoded))
            box_xywh = (left, top, width, height)
        return cls(mask=mask, box_xywh=box_xywh, area=int(_COCO.area(encoded)))


def mask_ious(predicted: Sequence[Shape], truth: Sequence[Shape]) -> Floats:
    """Return the overlaps of masks, shape (P, T)."""
    if not predicted or not truth:
        return np.zeros((len(predicted), len(truth)))
    encoded = [[shape.mask.to_json() for shape in shapes] for shapes in (predicted, truth)]
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


def _compress(counts: list[Any], height: int, width: int) -> str:
    if (
        not all(isinstance(run, int) and run >= 0 for run in counts)
        or sum(counts) != height * width
    ):
        raise ValueError(f"run lengths {_short(counts)} for a mask of {height}x{width}")
    encoded = _COCO.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return encoded["counts"].decode()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
