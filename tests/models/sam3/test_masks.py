"""Masks from the model's grid to the frame."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.masks import CropMask
from models.sam3.masks import (
    DrawnMasks,
    RefinedMask,
    frame_masks,
    mask_iou,
    stack_masks,
    to_images,
)

CPU = torch.device("cpu")


def half(side):
    """Logits (1, 4, 4) of one half of the square."""
    logits = torch.full((4, 4), -5.0)
    logits[:, :3] = 5.0
    return logits if side == "left" else logits.flip(1)


def on_frame(logits, frame_hw):
    return DrawnMasks.draw(logits, frame_hw, refiner=None, pixels=None)


def test_overlap_equals_counting_cells():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(n, 5, 6, generator=generator) > 0.5 for n in (3, 4))
    wanted = [[float((x & y).sum() / (x | y).sum()) for y in b] for x in a]
    np.testing.assert_allclose(mask_iou(a, b), wanted, rtol=1e-6)


def test_empty_masks_overlap_nothing():
    empty = torch.zeros(2, 4, 4, dtype=torch.bool)
    assert mask_iou(empty, empty).tolist() == [[0, 0], [0, 0]]
    assert mask_iou(empty[:0], empty).shape == (0, 2)


def test_stack_of_nothing_has_the_grid_of_its_like():
    assert stack_masks([], torch.ones(3, 5, 6)).shape == (0, 5, 6)


@pytest.mark.parametrize("sureness", [(1.0, 2.0), (2.0, 1.0)])
def test_surer_object_takes_the_shared_pixels(sureness):
    logits = torch.stack((half("left"), half("right")))
    masks = frame_masks(
        on_frame(logits, (8, 12)), groups=[0, 0], sureness=sureness, one_place_iou=0.7
    )
    surer = int(np.argmax(sureness))
    assert [mask.size_hw for mask in masks] == [(8, 12), (8, 12)]
    assert masks[surer].area > masks[1 - surer].area > 0
    assert masks[0].overlap(masks[1]) == 0


def test_objects_of_different_phrases_may_share_pixels():
    logits = torch.stack((half("left"), half("left")))
    first, second = frame_masks(
        on_frame(logits, (8, 8)), groups=[0, 1], sureness=[1.0, 2.0], one_place_iou=0.7
    )
    assert not first.is_empty
    assert np.array_equal(first.full(), second.full())


@pytest.mark.parametrize("groups", [(0, 1), (0, 0)])
def test_two_things_that_meet_divide_what_they_share_by_pixel(groups):
    """Of the two middle columns each goes to the mask that is surer of it."""
    logits = torch.stack((half("left"), half("right")))
    logits[0, :, 2], logits[1, :, 1] = 1.0, 2.0
    first, second = frame_masks(
        on_frame(logits, (4, 4)),
        groups=groups,
        sureness=[1.0, 2.0],
        one_place_iou=0.7,
        by_pixel=groups[0] == groups[1],
    )
    assert first.full()[0].tolist() == [True, True, False, False]
    assert second.full()[0].tolist() == [False, False, True, True]


def test_of_two_objects_on_one_place_the_surer_takes_all():
    logits = torch.stack((half("left"), half("left") + 1))
    for by_pixel in (False, True):
        first, second = frame_masks(
            on_frame(logits, (4, 4)),
            groups=[0, 0],
            sureness=[2.0, 1.0],
            one_place_iou=0.7,
            by_pixel=by_pixel,
        )
        assert not first.is_empty
        assert second.is_empty


def full_frames(drawn, groups, sureness, one_place_iou, *, by_pixel):
    """The same rules on whole frames, as they were before crops: slow and plain."""
    logits = drawn.mask_logits()
    masks = (logits > 0).numpy()
    for k, mask in drawn.refined.items():  # outside its window it is empty, whatever the grid says
        x0, y0, x1, y1 = mask.corners
        inside = masks[k, y0:y1, x0:x1].copy()
        masks[k] = False
        masks[k, y0:y1, x0:x1] = inside
    on_grid = drawn.logits > 0
    overlap = mask_iou(on_grid, on_grid)
    order = sorted(range(len(groups)), key=lambda k: -sureness[k])
    for place, k in enumerate(order):
        for other in order[:place]:
            if not {k, other} & drawn.refined.keys() and overlap[k, other] == 0:
                continue
            shared = masks[k] & masks[other]
            is_one_place = overlap[k, other] >= one_place_iou
            if groups[other] == groups[k] and (is_one_place or not by_pixel):
                masks[k] &= ~shared
            elif not is_one_place:
                is_others = (logits[other] >= logits[k]).numpy()
                masks[k] &= ~(shared & is_others)
                masks[other] &= ~(shared & ~is_others)
    return masks


@st.composite
def drawings(draw):
    """Objects of any shape and size, some of them drawn anew within a window."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    grid = draw(st.tuples(st.integers(1, 16), st.integers(1, 16)))
    picture_hw = draw(st.tuples(st.integers(1, 50), st.integers(1, 50)))
    count = draw(st.integers(0, 5))
    sizes = draw(st.lists(st.integers(-9, 5), min_size=count, max_size=count))
    logits = 4 * torch.randn(count, *grid, generator=generator)
    drawn = on_frame(logits + torch.tensor(sizes).view(-1, 1, 1), picture_hw)
    refined = {}
    for k in range(draw(st.integers(0, count))):
        (y0, y1), (x0, x1) = (
            sorted(draw(st.lists(st.integers(0, side), min_size=2, max_size=2, unique=True)))
            for side in picture_hw
        )
        inside = 4 * torch.randn(8, 8, generator=generator)
        refined[k] = RefinedMask(corners=(x0, y0, x1, y1), logits=inside)
    return replace(drawn, refined=refined)


@settings(deadline=None, max_examples=150)
@given(drawings(), st.booleans(), st.integers(0, 2**20))
def test_crops_hold_what_whole_frames_held(drawn, by_pixel, seed):
    rng = np.random.default_rng(seed)
    count = len(drawn.logits)
    groups, sureness = rng.integers(0, 2, count).tolist(), rng.random(count).tolist()
    masks = frame_masks(
        drawn, groups=groups, sureness=sureness, one_place_iou=0.3, by_pixel=by_pixel
    )
    wanted = full_frames(drawn, groups, sureness, 0.3, by_pixel=by_pixel)
    for mask, full in zip(masks, wanted, strict=True):
        assert np.array_equal(mask.full(), full)
        assert mask.bits.shape == CropMask.of(full).bits.shape


def test_no_object_gives_no_mask():
    drawn = on_frame(torch.zeros(0, 4, 4), (8, 8))
    assert frame_masks(drawn, groups=[], sureness=[], one_place_iou=0.7) == []


def test_pixels_become_one_picture():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[:, ::-1]
    assert np.array_equal(to_images(pixels, CPU)[0].numpy(), pixels)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
)
def test_pixels_of_another_kind_are_refused(pixels):
    with pytest.raises(ValueError, match=r"accepted: RGB, uint8, shape \(H, W, 3\)"):
        to_images(pixels, CPU)
