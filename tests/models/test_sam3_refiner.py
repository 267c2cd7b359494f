"""Outlines drawn anew on windows of the picture."""

import pytest
import torch

from models.sam3.config import RefinerConfig
from models.sam3.masks import DrawnMasks, frame_masks
from models.sam3.refiner import MOST_ODDS, MaskRefiner, Windows, colour_odds

SIDE = 16
SMALL = RefinerConfig(side=SIDE, fine_dim=8, coarse_dim=8, full_dim=4)


@pytest.fixture
def refiner():
    torch.manual_seed(0)
    return MaskRefiner(SMALL).eval().requires_grad_(requires_grad=False)


class Brightness(MaskRefiner):
    """Takes for an object whatever is brighter than the middle of 0 to 1."""

    def __init__(self):
        super().__init__(SMALL)

    def forward(self, pixels, logits):
        del logits
        return 20 * (pixels.mean(1) - 0.5)


def blob(rows=slice(3, 6), columns=slice(4, 8), grid=(10, 12)):
    logits = torch.full(grid, -6.0)
    logits[rows, columns] = 6.0
    return logits


def picture(height=50, width=60):
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8)


def test_untrained_refiner_changes_no_sign(refiner):
    pixels, logits = torch.rand(3, 3, SIDE, SIDE), 3 * torch.randn(3, SIDE, SIDE)
    with torch.no_grad():
        refined = refiner(pixels, logits)
    assert refined.shape == logits.shape
    assert torch.equal(refined > 0, logits > 0)


def test_refiner_sees_no_difference_between_light_and_dark(refiner):
    torch.nn.init.normal_(refiner.outline.weight)
    pixels, logits = torch.rand(2, 3, SIDE, SIDE), torch.randn(2, SIDE, SIDE)
    with torch.no_grad():
        light, dark = refiner(pixels, logits), refiner(0.1 + 0.3 * pixels, logits)
    assert not torch.allclose(light, logits, atol=0.1)
    torch.testing.assert_close(light, dark, atol=1e-3, rtol=1e-3)


def test_colours_tell_what_a_mask_covers_from_what_is_round_it():
    """A red thing on green, of which the mask covers most and some of the green."""
    generator = torch.Generator().manual_seed(0)
    colours = 0.2 * torch.randn(1, 3, SIDE, SIDE, generator=generator)
    thing = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    thing[4:12, 5:11] = True
    colours[0, 0, thing] += 2
    colours[0, 1, ~thing] += 2
    inside = torch.full((1, SIDE, SIDE), 0.05)
    inside[:, 5:13, 4:10] = 0.95
    odds = colour_odds(colours, inside)[0]
    assert odds.abs().max() <= MOST_ODDS
    assert torch.equal(odds > 0, thing)


def test_colours_of_a_plain_window_tell_nothing():
    colours = torch.zeros(1, 3, SIDE, SIDE)
    for inside in (torch.zeros(1, SIDE, SIDE), torch.full((1, SIDE, SIDE), 0.5)):
        odds = colour_odds(colours, inside)
        assert torch.isfinite(odds).all()
        torch.testing.assert_close(odds, torch.zeros_like(odds), atol=1e-4, rtol=0)


def test_window_holds_its_mask_and_some_more():
    logits = torch.stack((blob(), blob(slice(0, 10), slice(0, 12)), torch.full((10, 12), -1.0)))
    windows = Windows.of(logits, (50, 60))
    assert windows.of_mask == [0, 1]
    # Cells are 5 px: the mask is px 15 to 30 down and 20 to 40 along.
    x0, y0, x1, y1 = windows.corners[0]
    assert 0 < x0 < 20 - 5
    assert 40 + 5 < x1 < 60
    assert 0 < y0 < 15 - 5
    assert 30 + 5 < y1 < 50
    assert windows.corners[1] == (0, 0, 60, 50)


@pytest.mark.parametrize("hw", [(1, 1), (2, 200), (7, 3)])
def test_window_on_the_smallest_picture_is_not_empty(refiner, hw):
    pixels = picture(*hw)
    drawn = DrawnMasks.draw(blob()[None], hw, refiner=refiner, pixels=pixels)
    x0, y0, x1, y1 = drawn.windows.corners[0]
    assert 0 <= x0 < x1 <= hw[1]
    assert 0 <= y0 < y1 <= hw[0]
    assert drawn.masks().shape == (1, *hw)
    assert torch.isfinite(drawn.logits_of([0])).all()


def test_windows_are_cut_where_they_lie():
    """A picture and a mask that both tell their place agree within a window."""
    across = torch.linspace(-1, 1, 121)[1::2]
    pixels = ((across + 1) * 127.5).round().to(torch.uint8)[None, :, None].expand(50, -1, 3)
    on_grid = torch.linspace(-1, 1, 25)[1::2][None, None].expand(1, 10, -1)
    windows = Windows(corners=[(10, 5, 40, 25)], of_mask=[0], picture_hw=(50, 60))
    seen = windows.cut(pixels, SIDE)[0, 0] * 2 - 1
    drawn = windows.cut_logits(on_grid, SIDE)[0]
    assert seen.shape == drawn.shape == (SIDE, SIDE)
    torch.testing.assert_close(seen, drawn, atol=0.02, rtol=0)


def test_masks_follow_the_picture_and_not_the_grid():
    pixels = torch.zeros(50, 60, 3, dtype=torch.uint8)
    pixels[17:28, 23:39] = 255
    drawn = DrawnMasks.draw(blob()[None], (50, 60), refiner=Brightness(), pixels=pixels)
    truth = pixels[..., 0] > 0
    mask = drawn.masks()[0]
    coarse = DrawnMasks.draw(blob()[None], (50, 60), refiner=None, pixels=None).masks()[0]

    def iou(one):
        return float((one & truth).sum() / (one | truth).sum())

    assert iou(mask) > 0.85 > iou(coarse)
    assert torch.equal(drawn.logits_of([0])[0] > 0, mask)


def test_no_mask_and_an_empty_one_need_no_window(refiner):
    for logits in (torch.zeros(0, 10, 12), torch.full((2, 10, 12), -1.0)):
        drawn = DrawnMasks.draw(logits, (50, 60), refiner=refiner, pixels=picture())
        assert drawn.masks().shape == (len(logits), 50, 60)
        assert not drawn.masks().any()
        assert drawn.logits_of(range(len(logits))).shape == (len(logits), 50, 60)


@pytest.mark.parametrize("groups", [(0, 0), (0, 1)])
@pytest.mark.parametrize("by_pixel", [True, False])
def test_neighbours_that_grew_into_each_other_are_divided(groups, by_pixel):
    """On the grid they lie apart; both windows see the same bright thing."""
    pixels = torch.zeros(50, 60, 3, dtype=torch.uint8)
    pixels[15:30, 10:50] = 255
    logits = torch.stack((blob(columns=slice(2, 5)), blob(columns=slice(7, 10))))
    drawn = DrawnMasks.draw(logits, (50, 60), refiner=Brightness(), pixels=pixels)
    assert (drawn.masks()[0] & drawn.masks()[1]).any()
    one, other = frame_masks(
        drawn, groups=groups, sureness=[1.0, 2.0], one_place_iou=0.7, by_pixel=by_pixel
    )
    assert one.any()
    assert other.any()
    assert not (one & other).any()


def test_weights_may_be_narrower_than_the_picture(refiner):
    refiner.to(torch.bfloat16)
    drawn = DrawnMasks.draw(
        blob()[None].to(torch.bfloat16), (50, 60), refiner=refiner, pixels=picture()
    )
    assert drawn.refined.dtype == torch.float32
    assert drawn.masks().any()
