"""Masks from the model's grid to the frame."""

import numpy as np
import pytest
import torch

from models.sam3.masks import DrawnMasks, frame_masks, mask_iou, stack_masks, to_images

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
    assert [mask.shape for mask in masks] == [(8, 12), (8, 12)]
    assert masks[surer].sum() > masks[1 - surer].sum() > 0
    assert not (masks[0] & masks[1]).any()


def test_objects_of_different_phrases_may_share_pixels():
    logits = torch.stack((half("left"), half("left")))
    first, second = frame_masks(
        on_frame(logits, (8, 8)), groups=[0, 1], sureness=[1.0, 2.0], one_place_iou=0.7
    )
    assert first.any()
    assert np.array_equal(first, second)


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
    assert first[0].tolist() == [True, True, False, False]
    assert second[0].tolist() == [False, False, True, True]


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
        assert first.any()
        assert not second.any()


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
