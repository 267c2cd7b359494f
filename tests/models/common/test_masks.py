"""Crops and run lengths against full masks and pycocotools."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from models.common.masks import CropMask, RunLengths, decode_counts, encode_counts

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24))


def counts_of(mask):
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()


@given(masks)
def test_a_crop_is_the_mask_and_its_run_lengths_are_cocos(mask):
    crop = CropMask.of(mask)
    assert np.array_equal(crop.full(), mask)
    assert crop.area == mask.sum()
    assert crop.run_lengths().counts == RunLengths.of(mask).counts == counts_of(mask)


@given(masks)
def test_an_untrimmed_crop_has_the_same_run_lengths(mask):
    whole = CropMask(size_hw=mask.shape, x0=0, y0=0, bits=mask)
    assert whole.run_lengths().counts == counts_of(mask)


@given(masks)
def test_counts_are_read_back(mask):
    assert np.array_equal(RunLengths.from_counts(counts_of(mask), mask.shape).mask(), mask)


@given(st.lists(st.integers(0, 10**9), max_size=9))
def test_letters_hold_any_run(runs):
    assert decode_counts(encode_counts(runs)).tolist() == runs


@given(st.data(), hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
def test_overlap_and_iou_are_those_of_full_masks(data, shape):
    a, b = (data.draw(hnp.arrays(np.bool_, shape)) for _ in range(2))
    union = (a | b).sum()
    assert CropMask.of(a).overlap(CropMask.of(b)) == (a & b).sum()
    assert CropMask.of(a).iou(CropMask.of(b)) == pytest.approx((a & b).sum() / max(union, 1))


def test_the_box_of_a_crop_is_a_share_of_the_frame():
    mask = np.zeros((10, 20), np.bool_)
    mask[2:4, 5:10] = True
    assert CropMask.of(mask).bbox == pytest.approx((0.25, 0.2, 0.25, 0.2))
    assert CropMask.of(mask).share == pytest.approx(10 / 200)
    assert CropMask.of(np.zeros((10, 20), np.bool_)).is_empty


@given(masks, st.integers(1, 60), st.integers(1, 60))
def test_a_resized_mask_lies_where_it_lay_and_is_never_lost(mask, height, width):
    old = CropMask.of(mask)
    new = old.resized((height, width))
    assert (new.full().shape, new.is_empty) == ((height, width), old.is_empty)
    assert new.bits.shape == new.trimmed().bits.shape
    if not old.is_empty:
        (x, y, w, h), (left, top, right, bottom) = old.bbox, box_of(new)
        assert x - 1 / width <= left < right <= x + w + 1 / width
        assert y - 1 / height <= top < bottom <= y + h + 1 / height


def box_of(mask):
    x, y, w, h = mask.bbox
    return x, y, x + w, y + h


@given(masks, st.integers(1, 4), st.integers(1, 4))
def test_a_mask_of_a_multiple_of_the_size_has_each_pixel_so_often(mask, rows, columns):
    large = CropMask.of(mask).resized((mask.shape[0] * rows, mask.shape[1] * columns))
    assert np.array_equal(large.full(), mask.repeat(rows, axis=0).repeat(columns, axis=1))
    if mask.shape[0] > 1 and rows % 2:
        assert np.array_equal(large.resized(mask.shape).full(), mask)


def test_a_crop_does_not_keep_the_frames_mask_alive():
    mask = np.zeros((100, 100), np.bool_)
    mask[1, 1] = True
    assert CropMask.of(mask).bits.base is None


@pytest.mark.parametrize("counts", ["", "1", "zz", "0é"])
def test_damaged_counts_are_refused(counts):
    with pytest.raises(ValueError, match=r"."):
        RunLengths.from_counts(counts, (3, 4))
