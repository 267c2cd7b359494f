"""Each filter of automatic masks against an oracle that does one thing at a time."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from models.common.mask_filters import (
    Crop,
    boxes_around,
    crops_of,
    point_grid,
    remove_small_regions,
    stability_scores,
    suppress_overlaps,
    touches_crop_edge,
)
from models.common.masks import RunLengths

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MASKS = arrays(np.bool_, SHAPES)


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)) - shared
    return shared / union if union else 0.0


def slow_suppression(boxes, scores, threshold):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept


@st.composite
def scored_boxes(draw):
    corners = st.integers(0, 12)
    rows = draw(st.lists(st.tuples(corners, corners, corners, corners), max_size=25))
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in rows]
    scores = draw(st.lists(st.integers(0, 5), min_size=len(boxes), max_size=len(boxes)))
    return np.array(boxes, np.float64).reshape(-1, 4), np.array(scores, np.float64)


@given(scored_boxes(), st.sampled_from([0.0, 0.3, 0.71, 1.0]))
def test_suppression_is_that_of_the_plain_loop(scored, threshold):
    boxes, scores = scored
    kept = suppress_overlaps(boxes, scores, threshold).tolist()
    assert kept == slow_suppression(boxes.tolist(), scores.tolist(), threshold)


@given(MASKS)
def test_boxes_end_at_the_outermost_pixels(mask):
    rows, columns = np.nonzero(mask)
    expected = [columns.min(), rows.min(), columns.max(), rows.max()] if rows.size else [0] * 4
    assert boxes_around(torch.from_numpy(mask)[None])[0].tolist() == expected


def test_no_masks_have_no_boxes():
    assert boxes_around(torch.zeros(0, 5, 6, dtype=torch.bool)).shape == (0, 4)


@given(MASKS)
def test_run_lengths_come_back(mask):
    found = RunLengths.of(mask)
    np.testing.assert_array_equal(found.mask(), mask)
    assert found.area == mask.sum()
    assert found.size_hw == mask.shape


@given(MASKS)
def test_compressed_runs_are_those_of_pycocotools(mask):
    found = RunLengths.of(mask)
    expected = coco.encode(np.asfortranarray(mask, np.uint8))
    assert found.compressed() == {
        "size": expected["size"],
        "counts": expected["counts"].decode(),
    }
    assert sum(found.uncompressed()["counts"]) == mask.size


def region_areas(mask):
    """Flood fill with eight neighbours; area of the region of each pixel."""
    areas, open_pixels = np.zeros(mask.shape, int), set(zip(*np.nonzero(mask), strict=True))
    while open_pixels:
        front = [open_pixels.pop()]
        region = list(front)
        while front:
            y, x = front.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & open_pixels
            open_pixels -= near
            front += near
            region += near
        areas[tuple(np.transpose(region))] = len(region)
    return areas


@given(MASKS, st.integers(1, 12))
def test_small_holes_are_filled(mask, min_area):
    areas = region_areas(~mask)
    is_small = (areas > 0) & (areas < min_area)
    found, has_changed = remove_small_regions(mask, min_area, "holes")
    np.testing.assert_array_equal(found, mask | is_small)
    assert has_changed == is_small.any()


@given(MASKS, st.integers(1, 12))
def test_small_islands_go_but_the_largest_stays(mask, min_area):
    areas = region_areas(mask)
    found, has_changed = remove_small_regions(mask, min_area, "islands")
    assert has_changed == bool(((areas > 0) & (areas < min_area)).any())
    if (areas >= min_area).any() or not mask.any():
        np.testing.assert_array_equal(found, areas >= min_area)
    else:
        assert found.sum() == areas.max()
        assert (areas[found] == areas.max()).all()


def test_stability_is_the_overlap_of_two_thresholds():
    logits = torch.tensor([[[3.0, 1.5, 0.5, -0.5]], [[-3.0, -3.0, -3.0, -3.0]]])
    assert stability_scores(logits, 0.0, 1.0).tolist() == [0.5, 0.0]
    assert stability_scores(logits, 1.0, 1.0).tolist() == pytest.approx([1 / 3, 0])


@pytest.mark.parametrize(
    ("box", "touches"),
    [
        ((130, 130, 180, 180), False),
        ((119, 130, 180, 180), True),
        ((130, 130, 280, 260), True),
        ((130, 130, 180, 380), False),  # the crop's lower edge is the picture's
    ],
)
def test_boxes_at_an_inner_edge_of_the_crop_touch_it(box, touches):
    crop = Crop(box=(100, 100, 300, 400), layer=1)
    assert touches_crop_edge(np.array([box], float), crop, (400, 600)).tolist() == [touches]


def test_points_are_the_centres_of_cells():
    assert point_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    assert point_grid(1).tolist() == [[0.5, 0.5]]


@given(SHAPES, st.integers(0, 3), st.floats(0, 0.5))
def test_crops_are_never_empty_and_cover_the_picture(hw, layers, overlap):
    crops = crops_of(hw, layers, overlap)
    assert crops[0] == Crop(box=(0, 0, hw[1], hw[0]), layer=0)
    for layer in range(layers + 1):
        seen = np.zeros(hw, bool)
        for crop in (crop for crop in crops if crop.layer == layer):
            x0, y0, x1, y1 = crop.box
            assert min(crop.size_hw) > 0
            seen[y0:y1, x0:x1] = True
        assert seen.all()


def test_crops_of_a_layer_overlap_as_asked():
    boxes = [crop.box for crop in crops_of((600, 900), 1, 0.25)[1:]]
    assert boxes[0] == (0, 0, 525, 375)
    assert all(a[2] - b[0] in (150, 525) for a, b in pairwise(boxes) if b[0] >= a[0])
