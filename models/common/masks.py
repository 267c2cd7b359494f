"""Masks in little memory: crops of the frame and COCO run lengths (numpy only).

The one run-length code of the project.

Shape legend:
    H W the frame in px, h w a crop of it.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import TypedDict

Box = tuple[float, float, float, float]
Corners = tuple[int, int, int, int]


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
    """One mask of H x W px as run lengths, column by column; the first run counts zeros (COCO).

    Attributes:
        size_hw: Height and width.
        runs: Lengths of zeros, ones, zeros, … column by column.
    """

    size_hw: tuple[int, int]
    runs: NDArray[np.int64]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Self:
        """Encode a mask of shape (H, W), bool."""
        height, width = mask.shape
        flat = mask.T.ravel()
        if not flat.size:
            return cls(size_hw=(height, width), runs=np.zeros(0, np.int64))
        edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        runs = np.diff(np.concatenate([[0, 0] if flat[0] else [0], edges, [flat.size]]))
        return cls(size_hw=(height, width), runs=runs)

    @classmethod
    def from_counts(cls, counts: str, size_hw: tuple[int, int]) -> Self:
        """Decode COCO's letters.

        Raises:
            ValueError: If they are no ASCII text, or the runs do not fill the size.
        """
        runs = decode_counts(counts)
        height, width = size_hw
        if runs.min(initial=0) < 0 or runs.sum() != height * width:
            raise ValueError(
                f"run lengths of {int(runs.sum())} pixels for a mask of {height}x{width} "
                f"(accepted: {height * width} in all)"
            )
        return cls(size_hw=size_hw, runs=runs)

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(self.runs[1::2].sum())

    @property
    def counts(self) -> str:
        """The runs in COCO's letters."""
        return encode_counts(self.runs)

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
        return CocoRle(size=list(self.size_hw), counts=self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class CropMask:
    """A mask that is empty outside a crop: what an object costs follows its size, not the frame's.

    Attributes:
        size_hw: Height and width of the frame, H and W.
        x0: Left edge of the crop in px.
        y0: Top edge of the crop in px.
        bits: Shape (h, w), bool, inside the frame; its border may be empty, and h or w 0.
    """

    size_hw: tuple[int, int]
    x0: int
    y0: int
    bits: NDArray[np.bool_]

    @classmethod
    def empty(cls, size_hw: tuple[int, int]) -> Self:
        """Return a mask without a pixel."""
        return cls(size_hw=size_hw, x0=0, y0=0, bits=np.zeros((0, 0), np.bool_))

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Self:
        """Cut a mask of shape (H, W), bool, to its pixels."""
        height, width = mask.shape
        return cls(size_hw=(height, width), x0=0, y0=0, bits=mask).trimmed()

    def trimmed(self) -> Self:
        """Return the same mask with the smallest crop; the result owns its pixels."""
        rows = np.flatnonzero(self.bits.any(axis=1))
        columns = np.flatnonzero(self.bits.any(axis=0))
        if not len(rows):
            return type(self).empty(self.size_hw)
        top, left = int(rows[0]), int(columns[0])
        bits = self.bits[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
        # A copy: a view would keep the whole frame's mask alive.
        return type(self)(
            size_hw=self.size_hw, x0=self.x0 + left, y0=self.y0 + top, bits=bits.copy()
        )

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(np.count_nonzero(self.bits))

    @property
    def is_empty(self) -> bool:
        """Whether it has no pixel."""
        return not self.bits.any()

    @property
    def share(self) -> float:
        """Share of the frame that it covers, 0 to 1."""
        height, width = self.size_hw
        return self.area / (height * width)

    @property
    def bbox(self) -> Box:
        """x, y, width, height, 0 to 1 of the frame; of a mask that is :meth:`trimmed`."""
        (height, width), (h, w) = self.size_hw, self.bits.shape
        return self.x0 / width, self.y0 / height, w / width, h / height

    def full(self) -> NDArray[np.bool_]:
        """Return the mask at the frame's size, shape (H, W)."""
        mask = np.zeros(self.size_hw, np.bool_)
        h, w = self.bits.shape
        mask[self.y0 : self.y0 + h, self.x0 : self.x0 + w] = self.bits
        return mask

    @property
    def corners(self) -> Corners:
        """x0, y0, x1, y1 of the crop in px."""
        h, w = self.bits.shape
        return self.x0, self.y0, self.x0 + w, self.y0 + h

    def common(self, other: "CropMask") -> Corners | None:
        """Return the part of the frame that both crops cover, x0, y0, x1, y1 in px, if any."""
        (x0, y0, x1, y1), (left, top, right, bottom) = self.corners, other.corners
        x0, y0, x1, y1 = max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)
        return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None

    def part(self, corners: Corners) -> NDArray[np.bool_]:
        """Return a view of a part of the crop, x0, y0, x1, y1 in px of the frame."""
        x0, y0, x1, y1 = corners
        return self.bits[y0 - self.y0 : y1 - self.y0, x0 - self.x0 : x1 - self.x0]

    def overlap(self, other: "CropMask") -> int:
        """Return how many pixels two masks of one frame share."""
        common = self.common(other)
        if common is None:
            return 0
        return int(np.count_nonzero(self.part(common) & other.part(common)))

    def iou(self, other: "CropMask") -> float:
        """Return intersection over union with a mask of the same frame, 0 if both are empty."""
        shared = self.overlap(other)
        union = self.area + other.area - shared
        return shared / union if union else 0.0

    def resized(self, size_hw: tuple[int, int]) -> Self:
        """Return the mask on a frame of another size and the same view; no object vanishes."""
        (height, width), (h, w) = size_hw, self.bits.shape
        if self.is_empty:
            return type(self).empty(size_hw)
        rows, y0 = _stretch(self.y0, h, self.size_hw[0], height)
        columns, x0 = _stretch(self.x0, w, self.size_hw[1], width)
        bits = self.bits[rows[:, None], columns]
        if not bits.any():  # thinner than a pixel there
            bits[len(rows) // 2, len(columns) // 2] = True
        return type(self)(size_hw=size_hw, x0=x0, y0=y0, bits=bits).trimmed()

    def run_lengths(self) -> RunLengths:
        """Encode without building the frame's mask: the cost follows the crop."""
        height, width = self.size_hw
        h, w = self.bits.shape
        if not h or not w:
            return RunLengths(size_hw=self.size_hw, runs=np.array([height * width], np.int64))
        # One empty pixel below each column of the crop keeps runs of neighbours apart.
        columns = np.zeros((w, h + 1), np.bool_)
        columns[:, :h] = self.bits.T
        flat = columns.ravel()
        edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        edges = np.concatenate([[0], edges]) if flat[0] else edges
        column, row = np.divmod(edges, h + 1)
        edges = (column + self.x0) * height + row + self.y0
        if h == height and len(edges) > 2:  # runs that go on in the next column are one
            is_edge = np.ones(len(edges), np.bool_)
            is_edge[2::2] = is_edge[1:-1:2] = edges[2::2] != edges[1:-1:2]
            edges = edges[is_edge]
        runs = np.diff(edges, prepend=0, append=height * width)
        return RunLengths(size_hw=self.size_hw, runs=runs[:-1] if runs[-1] == 0 else runs)


def _stretch(first: int, num: int, size: int, new_size: int) -> tuple[NDArray[np.int64], int]:
    """Return the nearest of ``num`` pixels of a side for each pixel of a new side that meets them.

    The second value is the first of those new pixels.
    """
    begin, end = first * new_size // size, -(-(first + num) * new_size // size)
    # Where a new pixel's centre lies in old ones.
    nearest = (2 * np.arange(begin, end) + 1) * size // (2 * new_size)
    return np.clip(nearest - first, 0, num - 1), begin


def encode_counts(runs: ArrayLike) -> str:
    """Compress run lengths: 5 bits a letter, from the fourth run on the change to two before."""
    values = np.array(runs, np.int64)
    values[3:] -= np.array(runs, np.int64)[1:-2]
    # A signed number x takes n letters if -2^(5n-1) <= x < 2^(5n-1).
    magnitude = np.where(values < 0, ~values, values)
    num_letters = np.ones(len(values), np.int64)
    for n in range(1, 12):
        more = magnitude >> (5 * n - 1) > 0
        if not more.any():
            break
        num_letters += more
    places = np.arange(num_letters.max(initial=1))
    letters = (values[:, None] >> (5 * places)) & 0x1F
    letters |= np.where(places < num_letters[:, None] - 1, 0x20, 0)
    used = letters[places < num_letters[:, None]]
    return (used + 48).astype(np.uint8).tobytes().decode("ascii")


def decode_counts(counts: str) -> NDArray[np.int64]:
    """Undo :func:`encode_counts`.

    Raises:
        ValueError: If it is no ASCII text; runs that make no mask are for the caller to refuse.
    """
    # pycocotools' own decoder reads outside its buffer when the counts are damaged.
    letters = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(letters & 0x20 == 0)
    if not len(ends):
        return np.zeros(0, np.int64)
    letters = letters[: ends[-1] + 1]
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    shifts = 5 * np.minimum(np.arange(len(letters)) - np.repeat(starts, lengths), 11)
    runs = np.add.reduceat((letters & 0x1F) << shifts, starts)
    runs -= np.where(letters[ends] & 0x10, np.left_shift(1, 5 * np.minimum(lengths, 12)), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
