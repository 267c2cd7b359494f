"""What automatic masks are made of and judged by: grids, crops, boxes, overlaps, small regions.

Boxes are x0, y0, x1, y1 in px, the last two naming the last pixel that belongs to the mask, as the
original of SAM has them.

Shape legend:
    n masks, H W the picture in px.
"""

import math
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

Boxes = NDArray[np.float64]
# Distance in px below which a box touches the edge of its crop.
EDGE_TOLERANCE = 20.0
_EIGHT_NEIGHBOURS = np.ones((3, 3), np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A part of the picture, x0, y0, x1, y1 in px without the last, and the layer it is of."""

    box: tuple[int, int, int, int]
    layer: int

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in px."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0


def point_grid(points_per_side: int) -> Boxes:
    """Centres of the cells of a square grid, shape (points_per_side², 2), 0 to 1, row by row."""
    offset = 1 / (2 * points_per_side)
    steps = np.linspace(offset, 1 - offset, points_per_side)
    return np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)


def crops_of(picture_hw: tuple[int, int], num_layers: int, overlap_ratio: float) -> list[Crop]:
    """The picture, then 4, 16, … overlapping crops of it.

    Args:
        picture_hw: Height and width in px.
        num_layers: Layers of crops below the picture itself; the i-th has 2^i crops a side.
        overlap_ratio: Overlap of the first layer's crops, as a share of the picture's short side.
    """
    height, width = picture_hw
    crops = [Crop(box=(0, 0, width, height), layer=0)]
    for layer in range(1, num_layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(picture_hw) * (2 / count))
        crop_h, crop_w = (math.ceil((overlap * (count - 1) + x) / count) for x in picture_hw)
        for column, row in product(range(count), range(count)):
            x0, y0 = (crop_w - overlap) * column, (crop_h - overlap) * row
            # A picture smaller than its grid of crops leaves some of them empty.
            if x0 < width and y0 < height:
                box = (x0, y0, min(x0 + crop_w, width), min(y0 + crop_h, height))
                crops.append(Crop(box=box, layer=layer))
    return crops


def stability_scores(mask_logits: Tensor, threshold: float, offset: float) -> Tensor:
    """IoU of each mask (n, H, W) at a threshold a little higher with itself a little lower, (n,).

    An empty mask has 0.
    """
    inner, outer = (
        _count(mask_logits > level) for level in (threshold + offset, threshold - offset)
    )
    return inner / outer.clamp(min=1)


def _count(masks: Tensor) -> Tensor:
    """Pixels of each bool mask (n, H, W)."""
    # 16 bits first is 15 times faster on a CPU than the default of 64, where they can hold a row.
    narrow = torch.int16 if masks.shape[-1] < 2**15 else torch.int32
    return masks.sum(dim=-1, dtype=narrow).sum(dim=-1, dtype=torch.int64)


def boxes_around(masks: Tensor) -> Tensor:
    """Boxes (n, 4), int64, around bool masks (n, H, W); zeros around an empty one."""
    # On a CPU the maximum of bytes is 15 times faster than ``any``.
    levels = masks.view(torch.uint8)
    found: list[Tensor] = []
    for hit in (levels.amax(dim=1), levels.amax(dim=2)):
        last = hit.shape[1] - 1 - hit.flip(1).argmax(dim=1)
        found += [hit.argmax(dim=1), torch.where(hit.amax(dim=1) > 0, last, 0)]
    x0, x1, y0, y1 = found
    return torch.stack([x0, y0, x1, y1], dim=1)


def touches_crop_edge(boxes: Boxes, crop: Crop, picture_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether boxes (n, 4), in px of the picture, end at an edge of the crop inside the picture."""
    near_crop = np.abs(boxes - np.array(crop.box)) <= EDGE_TOLERANCE
    edges = np.array((0, 0, picture_hw[1], picture_hw[0]))
    near_picture = np.abs(boxes - edges) <= EDGE_TOLERANCE
    return np.asarray((near_crop & ~near_picture).any(axis=1))


def suppress_overlaps(boxes: Boxes, scores: NDArray[np.floating], iou: float) -> NDArray[np.int64]:
    """Non-maximum suppression.

    Args:
        boxes: Shape (n, 4).
        scores: Shape (n,); of equal ones the first wins.
        iou: A box that overlaps a better one that stays by more than this is dropped.

    Returns:
        Indices of those that stay, best first.
    """
    order = np.argsort(-scores, kind="stable")
    low, high = boxes[order, :2], boxes[order, 2:]
    area = (high - low).prod(axis=1)
    is_in = np.ones(len(order), np.bool_)
    for place in range(len(order)):
        if not is_in[place]:
            continue
        rest = place + 1 + np.flatnonzero(is_in[place + 1 :])
        sides = np.minimum(high[place], high[rest]) - np.maximum(low[place], low[rest])
        shared = sides.clip(min=0).prod(axis=1)
        # Not a quotient: two boxes without area do not overlap.
        is_in[rest[shared > iou * (area[place] + area[rest] - shared)]] = False
    return order[is_in]


def remove_small_regions(
    mask: NDArray[np.bool_], min_area: float, kind: Literal["holes", "islands"]
) -> tuple[NDArray[np.bool_], bool]:
    """Fill holes, or drop islands, of fewer than ``min_area`` px that touch not even by a corner.

    Args:
        mask: Shape (H, W).
        min_area: Smallest region that stays.
        kind: What to remove. If all islands are too small, the largest stays.

    Returns:
        The mask and whether there was such a region.
    """
    is_holes = kind == "holes"
    labelled: Any = ndimage.label(mask ^ is_holes, _EIGHT_NEIGHBOURS)
    regions: NDArray[np.int32] = labelled[0]
    areas = np.bincount(regions.ravel())
    is_small = areas < min_area
    is_small[0] = False
    if not is_small.any():
        return mask, False
    if is_holes:
        return mask | is_small[regions], True
    keeps = ~is_small
    keeps[0] = False
    if not keeps.any():
        keeps[1 + areas[1:].argmax()] = True
    return keeps[regions], True
