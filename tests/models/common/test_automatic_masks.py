"""Segment everything, on pictures of which every region is known."""

import numpy as np
import pytest
from pycocotools import mask as coco

from models.common import image_predictor
from models.common.automatic_masks import AutomaticMaskGenerator, AutomaticMaskOptions
from models.common.image_predictor import ImagePredictor
from tests.models.colour_model import ColourModel
from tests.models.tiny_sam1 import build_tiny_sam1

REGIONS = {  # colour: x0, y0, x1, y1 without the last
    1: (8, 8, 40, 24),
    2: (60, 30, 100, 90),
    3: (4, 60, 28, 92),
}


def picture(height=96, width=128):
    pixels = np.zeros((height, width, 3), np.uint8)
    for colour, (x0, y0, x1, y1) in REGIONS.items():
        pixels[y0:y1, x0:x1] = colour
    return pixels


def generate(pixels, model=None, **options):
    predictor = ImagePredictor(ColourModel(side=128) if model is None else model)
    return AutomaticMaskGenerator(predictor, AutomaticMaskOptions(**options)).generate(pixels)


def by_area(masks):
    return sorted(masks, key=lambda mask: mask.area)


def test_every_region_is_found_once():
    found = generate(picture(), points_per_side=16)
    pixels = picture()[..., 0]
    expected = sorted(((pixels == colour) for colour in range(4)), key=np.sum)
    for mask, region in zip(by_area(found), expected, strict=True):
        np.testing.assert_array_equal(mask.segmentation, region)
        assert mask.area == region.sum()


def test_a_mask_tells_where_it_came_from():
    mask = by_area(generate(picture(), points_per_side=16))[0]
    x0, y0, x1, y1 = REGIONS[1]
    assert mask.bbox == (x0, y0, x1 - x0 - 1, y1 - y0 - 1)
    assert mask.predicted_iou == pytest.approx(0.95)
    assert mask.stability_score == 1
    assert mask.crop_box == (0, 0, 128, 96)
    x, y = mask.point_coords
    assert x0 <= x < x1
    assert y0 <= y < y1


def test_doubtful_candidates_stay_when_nothing_is_filtered():
    options = {"pred_iou_thresh": 0, "stability_score_thresh": 0, "box_nms_thresh": 1}
    found = generate(picture(), points_per_side=4, **options)
    assert len(found) == 3 * 16
    assert {round(mask.stability_score, 3) for mask in found} == {0, 1}
    ious = [mask.predicted_iou for mask in found]
    assert ious == sorted(ious, reverse=True)


@pytest.mark.parametrize("limit", [{"pred_iou_thresh": 0.96}, {"stability_score_thresh": 1.01}])
def test_nothing_may_pass_a_filter(limit):
    assert generate(picture(), points_per_side=4, **limit) == []


def test_forms_of_output_are_one_mask():
    forms = ("binary_mask", "uncompressed_rle", "coco_rle")
    binary, plain, packed = (
        generate(picture(), points_per_side=16, output_mode=form) for form in forms
    )
    for mask, runs, letters in zip(binary, plain, packed, strict=True):
        assert letters.segmentation == {
            "size": [96, 128],
            "counts": coco.encode(np.asfortranarray(mask.segmentation, np.uint8))[
                "counts"
            ].decode(),
        }
        assert sum(runs.segmentation["counts"][1::2]) == mask.area == runs.area == letters.area


def test_batches_and_chunks_change_nothing(monkeypatch):
    whole = generate(picture(), points_per_side=16, points_per_batch=256)
    monkeypatch.setattr(image_predictor, "CHUNK_PIXELS", 1)
    for mask, other in zip(
        generate(picture(), points_per_side=16, points_per_batch=5), whole, strict=True
    ):
        np.testing.assert_array_equal(mask.segmentation, other.segmentation)
        assert mask.point_coords == other.point_coords


def test_crops_find_what_the_picture_as_a_whole_hides():
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[61:64, 59:62] = 9  # between the pixels that a model of 32 x 32 sees
    grid = {"points_per_side": None, "point_grids": [[[0.1, 0.1]], [[0.345, 0.358], [0.9, 0.9]]]}
    assert {mask.area for mask in generate(pixels, ColourModel(32), **grid)} == {256**2}
    model = ColourModel(256)
    found = generate(pixels, model, crop_n_layers=1, **grid)
    small = by_area(found)[0]
    assert small.area == 9
    assert small.crop_box != (0, 0, 256, 256)
    assert small.segmentation[61:64, 59:62].all()
    assert len(model.pictures_seen) == 5


def test_masks_cut_by_an_edge_of_their_crop_are_dropped():
    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[20:180, 20:180] = 5
    found = generate(pixels, ColourModel(200), points_per_side=8, crop_n_layers=1)
    assert {mask.crop_box for mask in found} == {(0, 0, 200, 200)}


def test_fewer_points_on_smaller_crops():
    options = AutomaticMaskOptions(
        points_per_side=16, crop_n_layers=2, crop_n_points_downscale_factor=4
    )
    assert [len(grid) for grid in options.grids()] == [256, 16, 1]


def test_own_points_are_used():
    found = generate(picture(), points_per_side=None, point_grids=[np.array([[0.2, 0.1]])])
    assert [mask.area for mask in found] == [32 * 16]
    assert found[0].point_coords == (0.2 * 128, 0.1 * 96)


def test_small_regions_are_cleaned():
    pixels = picture()
    pixels[40, 70] = 0  # a hole in region 2
    pixels[2, 2] = 2  # and an island of it
    before = [mask for mask in generate(pixels, points_per_side=16) if mask.segmentation[50, 80]]
    assert [mask.area for mask in before] == [40 * 60]
    cleaned = generate(pixels, points_per_side=16, min_mask_region_area=5)
    (mask,) = [mask for mask in cleaned if mask.segmentation[50, 80]]
    np.testing.assert_array_equal(mask.segmentation, picture()[..., 0] == 2)
    assert mask.bbox == (60, 30, 39, 59)


def test_cleaning_prefers_what_it_need_not_touch():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[10:50, 10:50] = 1
    pixels[20:22, 20:22] = 0
    plain = generate(pixels, ColourModel(64), points_per_side=32)
    assert len(plain) == 2
    assert len(generate(pixels, ColourModel(64), points_per_side=32, min_mask_region_area=9)) == 2


def test_the_predictors_own_picture_stays():
    predictor = ImagePredictor(ColourModel())
    predictor.set_image(picture())
    AutomaticMaskGenerator(predictor).generate(picture(30, 40))
    assert predictor.image_hw == (96, 128)


@pytest.mark.parametrize("hw", [(1, 1), (1, 40), (3, 2), (64, 64)])
def test_any_size_of_picture(hw):
    found = generate(np.zeros((*hw, 3), np.uint8), points_per_side=4, crop_n_layers=2)
    assert max(mask.area for mask in found) == hw[0] * hw[1]


def test_sam1_segments_everything():
    predictor = ImagePredictor(build_tiny_sam1())
    options = AutomaticMaskOptions(
        points_per_side=6, pred_iou_thresh=0, stability_score_offset=1e-3, min_mask_region_area=4
    )
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    found = AutomaticMaskGenerator(predictor, options).generate(pixels)
    assert found
    assert all(mask.segmentation.shape == (90, 120) for mask in found)
    assert all(mask.segmentation.sum() == mask.area > 0 for mask in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points_per_side": 0}, "points_per_side is 0; accepted: at least 1"),
        ({"points_per_batch": 0}, "points_per_batch is 0; accepted: at least 1"),
        ({"crop_n_layers": -1}, "crop_n_layers is -1; accepted: at least 0"),
        ({"points_per_side": None}, "points_per_side is None and point_grids is absent"),
        ({"point_grids": [[[0.5, 0.5]]]}, "points_per_side is 32 and point_grids is given"),
        ({"output_mode": "png"}, "output_mode is 'png'; accepted: binary_mask, uncompressed_rle"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AutomaticMaskOptions(**options)


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        ([[[0.5, 0.5]]], "point_grids has 1 grids; accepted: 2"),
        ([[[0.5, 0.5]], [0.5]], r"point_grids\[1\] has shape \(1,\); accepted: \(\*, 2\)"),
    ],
)
def test_grids_that_do_not_fit_the_crops_are_refused(grids, message):
    options = AutomaticMaskOptions(points_per_side=None, point_grids=grids, crop_n_layers=1)
    with pytest.raises(ValueError, match=message):
        AutomaticMaskGenerator(ImagePredictor(ColourModel()), options)
