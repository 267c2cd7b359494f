"""Outlines drawn anew on windows of the picture."""

import numpy as np
import pytest
import torch

from models.build import build_sam3
from models.protocols import ConceptQuery, ExemplarBox, FrameInput
from models.sam3.masks import DrawnMasks, frame_masks
from models.sam3.network.config import RefinerConfig
from models.sam3.network.refiner import MOST_ODDS, MaskRefiner, Windows, colour_odds
from models.sam3.picture_rules import PictureRules
from models.sam3.predictor import Sam3ImageDetector, Sam3ImagePredictor
from models.sam3.tracking.session import Sam3Session

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
    logits = torch.stack((torch.full((10, 12), -1.0), blob()))
    windows = Windows.of(logits, (50, 60), most_cells=SIDE)
    # Cells are 5 px: the mask is px 15 to 30 down and 20 to 40 along.
    assert list(windows.corners) == [1]
    x0, y0, x1, y1 = windows.corners[1]
    assert 0 < x0 < 20 - 5
    assert 40 + 5 < x1 < 60
    assert 0 < y0 < 15 - 5
    assert 30 + 5 < y1 < 50


def test_mask_of_more_cells_than_the_square_has_stays_as_it_is(refiner):
    """A frame one cell thick round the picture would be lost on fewer cells."""
    ring = blob(slice(0, 20), slice(0, 20), grid=(20, 20))
    ring[1:-1, 1:-1] = -6.0
    logits = torch.stack((ring, blob(slice(8, 11), slice(8, 11), grid=(20, 20))))
    drawn = DrawnMasks.draw(logits, (60, 60), refiner=refiner, pixels=picture(60, 60))
    plain = DrawnMasks.draw(logits, (60, 60), refiner=None, pixels=None)
    assert list(drawn.refined) == [1]
    assert np.array_equal(drawn.masks()[0], plain.masks()[0])
    assert torch.equal(drawn.mask_logits()[0], plain.mask_logits()[0])


@pytest.mark.parametrize("hw", [(1, 1), (2, 200), (7, 3), (1100, 2000)])
def test_pictures_of_any_size_are_looked_at(refiner, hw):
    drawn = DrawnMasks.draw(blob()[None], hw, refiner=refiner, pixels=picture(*hw))
    x0, y0, x1, y1 = drawn.refined[0].corners
    assert 0 <= x0 < x1 <= hw[1]
    assert 0 <= y0 < y1 <= hw[0]
    assert drawn.masks().shape == (1, *hw)
    assert np.array_equal(drawn.mask_logits() > 0, drawn.masks())


def test_windows_are_cut_where_they_lie():
    """A picture and a mask that both tell their place agree within a window."""
    across = torch.linspace(-1, 1, 121)[1::2]
    pixels = ((across + 1) * 127.5).round().to(torch.uint8)[None, :, None].expand(50, -1, 3)
    on_grid = torch.linspace(-1, 1, 25)[1::2][None, None].expand(1, 10, -1)
    windows = Windows(corners={0: (10, 5, 40, 25)}, picture_hw=(50, 60))
    seen = windows.cut(pixels, SIDE)[0, 0] * 2 - 1
    drawn = windows.cut_logits(on_grid, SIDE)[0]
    covered = windows.cut_masks(pixels[None, ..., 0] > 127, SIDE)[0]
    assert seen.shape == drawn.shape == covered.shape == (SIDE, SIDE)
    torch.testing.assert_close(seen, drawn, atol=0.02, rtol=0)
    assert torch.equal(covered > 0.5, seen > 0)


def test_masks_follow_the_picture_and_not_the_grid():
    pixels = torch.zeros(50, 60, 3, dtype=torch.uint8)
    pixels[17:28, 23:39] = 255
    drawn = DrawnMasks.draw(blob()[None], (50, 60), refiner=Brightness(), pixels=pixels)
    truth = (pixels[..., 0] > 0).numpy()
    mask = drawn.masks()[0]
    coarse = DrawnMasks.draw(blob()[None], (50, 60), refiner=None, pixels=None).masks()[0]

    def iou(one):
        return float((one & truth).sum() / (one | truth).sum())

    assert iou(mask) > 0.85 > iou(coarse)
    assert np.array_equal(drawn.mask_logits()[0] > 0, mask)
    x0, y0, x1, y1 = drawn.refined[0].corners
    part = drawn.logits_in(0, (x0 + 2, y0 + 1, x1 - 3, y1))
    assert torch.equal(part, drawn.mask_logits()[0, y0 + 1 : y1, x0 + 2 : x1 - 3])


def test_no_mask_and_an_empty_one_need_no_window(refiner):
    for logits in (torch.zeros(0, 10, 12), torch.full((2, 10, 12), -1.0)):
        drawn = DrawnMasks.draw(logits, (50, 60), refiner=refiner, pixels=picture())
        assert drawn.masks().shape == drawn.mask_logits().shape == (len(logits), 50, 60)
        assert not drawn.masks().any()


def test_a_mask_of_which_nothing_would_be_left_stays_as_it_is():
    logits = torch.stack((blob(), blob(slice(7, 10), slice(0, 3))))
    pixels = torch.zeros(50, 60, 3, dtype=torch.uint8)
    pixels[38:50, 0:6] = 255
    drawn = DrawnMasks.draw(logits, (50, 60), refiner=Brightness(), pixels=pixels)
    plain = DrawnMasks.draw(logits, (50, 60), refiner=None, pixels=None)
    assert list(drawn.refined) == [1]
    assert np.array_equal(drawn.masks()[0], plain.masks()[0])


def test_a_mask_that_is_no_number_somewhere_spoils_no_other(refiner):
    broken = blob()
    broken[4, 5] = torch.nan
    logits = torch.stack((broken, blob(slice(6, 9), slice(2, 5))))
    drawn = DrawnMasks.draw(logits, (50, 60), refiner=refiner, pixels=picture())
    alone = DrawnMasks.draw(logits[1:], (50, 60), refiner=refiner, pixels=picture())
    assert np.array_equal(drawn.masks()[1], alone.masks()[0])
    assert drawn.masks()[0].any()


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
    assert not one.is_empty
    assert not other.is_empty
    assert one.overlap(other) == 0
    assert np.array_equal(one.full() | other.full(), drawn.masks().any(0))


def test_weights_may_be_narrower_than_the_picture(refiner):
    refiner.to(torch.bfloat16)
    drawn = DrawnMasks.draw(
        blob()[None].to(torch.bfloat16), (50, 60), refiner=refiner, pixels=picture()
    )
    assert drawn.refined[0].logits.dtype == torch.float32
    assert drawn.masks().any()


class Everything(MaskRefiner):
    """Takes all of a window for the object."""

    def __init__(self):
        super().__init__(RefinerConfig())

    def forward(self, pixels, logits):
        del pixels
        return torch.full_like(logits, 10.0)


@pytest.fixture
def nano():
    return build_sam3("sam3-nano", checkpoint=None, device="cpu")


@pytest.fixture
def thing(frame):
    return max(frame.visible_objects, key=lambda one: int(one.visible_mask.sum()))


def test_what_a_box_shows_is_drawn_within_it(nano, frame, thing):
    nano[0].mask_refiner = Everything()
    rows, columns = (np.flatnonzero(thing.visible_mask.any(axis)) for axis in (1, 0))
    x0, y0, x1, y1 = columns[0] + 4, rows[0] + 4, columns[-1] - 3, rows[-1] - 3
    shown = ExemplarBox(box_xyxy=(x0 / 200, y0 / 150, x1 / 200, y1 / 150))
    query = ConceptQuery(phrase=thing.concept, exemplars=(shown,))
    detector = Sam3ImageDetector(*nano, rules=PictureRules(nms_iou=0.5, answer_shown=True))
    (found,) = detector.detect(frame.pixels, [query])
    inside = np.zeros((150, 200), dtype=bool)
    # What shows no more than a fifth of a grid cell beyond the box is not seen at all here.
    inside[y0 - 1 : y1 + 1, x0 - 1 : x1 + 1] = True
    filled = [(one.mask & inside).sum() / inside.sum() for one in found.detections]
    answer = found.detections[int(np.argmax(filled))].mask
    assert max(filled) > 0.7
    assert not (answer & ~inside).any()
    detector.rules = PictureRules(nms_iou=0.5)
    (free,) = detector.detect(frame.pixels, [query])
    assert any((one.mask & inside).any() and (one.mask & ~inside).any() for one in free.detections)


def test_pictures_are_kept_as_they_were_given(nano, frame):
    nano[0].mask_refiner = Brightness()
    predictor = Sam3ImagePredictor(*nano, confidence_threshold=0.2)
    pixels = frame.pixels.copy()
    predictor.set_image(pixels)
    before = predictor.set_text_prompt("cow")
    pixels[:] = 0
    assert before.masks.any()
    assert np.array_equal(predictor.ask().masks, before.masks)


def test_sizes_are_those_of_the_pictures(nano, frame):
    nano[0].mask_refiner = Everything()
    detector = Sam3ImageDetector(*nano)
    with pytest.raises(ValueError, match=r"\(300, 400\); accepted: \(150, 200\)"):
        detector.search(detector.encode([frame.pixels]), [(300, 400)], [["cow"]])


def test_only_a_mask_that_no_person_gave_is_drawn_anew(nano, frame, thing):
    nano[0].mask_refiner = Everything()
    session = Sam3Session(*nano)
    session.open_stream("s", ["zebra"])
    session.step([FrameInput(stream_id="s", pixels=frame.pixels, time_s=0.0)])
    given = session.add_object("s", mask=thing.visible_mask).mask.full()
    assert (given & thing.visible_mask).sum() > 0.8 * (given | thing.visible_mask).sum()
    (seen,) = session.step([FrameInput(stream_id="s", pixels=frame.pixels, time_s=0.1)])[0].masklets
    assert seen.mask.bits.all()
    assert seen.mask.area > 1.3 * given.sum()
