"""Masks as run lengths, column by column; the first run counts zeros (COCO)."""

from dataclasses import dataclass
from typing import Any, TypedDict, cast

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco
from torch import Tensor


class CocoRle(TypedDict):
    """Compressed run lengths, fit for JSON and ``pycocotools``; ``size`` is height and width."""

    size: list[int]
    counts: str


class UncompressedRle(TypedDict):
    """Run lengths as numbers; ``size`` is height and width."""

    size: list[int]
    counts: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLengths:
    """One mask of H x W px in little memory.

    Attributes:
        size_hw: Height and width.
        runs: Lengths of zeros, ones, zeros, … column by column.
    """

    size_hw: tuple[int, int]
    runs: NDArray[np.int64]

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(self.runs[1::2].sum())

    def mask(self) -> NDArray[np.bool_]:
        """Return the mask, shape (H, W)."""
        height, width = self.size_hw
        is_mask = np.arange(len(self.runs)) % 2 == 1
        return np.repeat(is_mask, self.runs).reshape(width, height).T

    def uncompressed(self) -> UncompressedRle:
        """Return the runs as numbers."""
        return UncompressedRle(size=list(self.size_hw), counts=self.runs.tolist())

    def compressed(self) -> CocoRle:
        """Return the runs in COCO's letters."""
        # The declared types of pycocotools leave out the form that it documents.
        rle = cast("Any", coco.frPyObjects(cast("Any", self.uncompressed()), *self.size_hw))
        return CocoRle(size=list(self.size_hw), counts=rle["counts"].decode("ascii"))


def encode_masks(masks: Tensor) -> list[RunLengths]:
    """Turn bool masks (n, H, W) into run lengths."""
    height, width = masks.shape[1:]
    columns = masks.transpose(1, 2).flatten(1).numpy(force=True)
    return [RunLengths(size_hw=(height, width), runs=_runs(flat)) for flat in columns]


def _runs(flat: NDArray[np.bool_]) -> NDArray[np.int64]:
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return np.diff(np.concatenate([[0, 0] if flat[0] else [0], edges, [flat.size]]))
