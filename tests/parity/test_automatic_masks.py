"""Segment everything against the pieces that transformers has of it, on the same random SAM 1."""

import importlib

import numpy as np
import pytest
import torch

from models.common.automatic_masks import AutomaticMaskGenerator, AutomaticMaskOptions
from models.common.image_predictor import ImagePredictor
from models.common.mask_filters import boxes_around, crops_of, point_grid, stability_scores
from models.common.masks import RunLengths
from tests.models.common.test_mask_filters import slow_suppression
from tests.parity.closeness import relative_error
from tests.parity.sam1_reference import SMALL, build_ours, build_reference

# The plain Pillow variant: the other needs torchvision.
processing = importlib.import_module("transformers.models.sam.image_processing_pil_sam")
SIDE = SMALL.vision.image_size
PROCESSOR = processing.SamImageProcessorPil(
    size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}
)
HW = (180, 240)
# Random weights draw vague masks: the filters are set so that some pass each of them and some not.
OPTIONS = AutomaticMaskOptions(
    points_per_side=8,
    pred_iou_thresh=0.1,
    stability_score_thresh=0.314,  # no score lies on it: transformers drops those that do
    box_nms_thresh=0.9,
    crop_nms_thresh=0.8,
    stability_score_offset=0.02,
    crop_n_layers=1,
    crop_n_points_downscale_factor=2,
)
MASK_THRESHOLD = 0.4


@pytest.fixture(scope="module")
def pair():
    theirs = build_reference(SMALL, seed=1)
    with torch.no_grad():  # so that different clicks draw different masks
        for layer in theirs.mask_decoder.transformer.layers:
            layer.self_attn.v_proj.weight *= 3
            layer.self_attn.out_proj.weight *= 3
            for name in ("q_proj", "k_proj", "v_proj"):
                getattr(layer.cross_attn_image_to_token, name).weight.mul_(3)
        for mlp in theirs.mask_decoder.output_hypernetworks_mlps:
            mlp.proj_out.weight *= 20
        theirs.mask_decoder.iou_prediction_head.proj_out.weight *= 20
    return build_ours(SMALL, theirs.state_dict()), theirs


def picture():
    rng = np.random.default_rng(3)
    pixels = np.zeros((*HW, 3), np.uint8)
    for _ in range(25):
        (y, x), (height, width) = rng.integers(0, HW), rng.integers(8, 60, 2)
        pixels[y : y + height, x : x + width] = rng.integers(0, 256, 3)
    return pixels


def reference_crop(model, theirs, pixels, crop, grid):
    """Masks of one crop, by transformers' model and filters."""
    x0, y0, x1, y1 = crop.box
    hw, content = crop.size_hw, model.frame_of(crop.size_hw).content_hw
    images = model.preprocess(torch.from_numpy(pixels[y0:y1, x0:x1].copy())[None])
    points = torch.from_numpy(grid * np.array(content[::-1])).float()[None, :, None]
    out = theirs(images, input_points=points, multimask_output=True)
    (masks,) = PROCESSOR.post_process_masks([out.pred_masks[0]], [hw], [content], binarize=False)
    return PROCESSOR.filter_masks(
        masks,
        out.iou_scores[0],
        HW,
        crop.box,
        pred_iou_thresh=OPTIONS.pred_iou_thresh,
        stability_score_thresh=OPTIONS.stability_score_thresh,
        stability_score_offset=OPTIONS.stability_score_offset,
        mask_threshold=MASK_THRESHOLD,
    )


def reference_masks(model, theirs, pixels):
    runs, boxes, scores, ious = [], [], [], []
    for crop in crops_of(HW, OPTIONS.crop_n_layers, OPTIONS.crop_overlap_ratio):
        found, iou, corners = reference_crop(
            model, theirs, pixels, crop, OPTIONS.grids()[crop.layer]
        )
        kept = slow_suppression(corners.tolist(), iou.tolist(), OPTIONS.box_nms_thresh)
        runs += [found[i] for i in kept]
        boxes += corners[kept].tolist()
        ious += iou[kept].tolist()
        scores += [1 / np.prod(crop.size_hw)] * len(kept)
    kept = slow_suppression(boxes, scores, OPTIONS.crop_nms_thresh)
    return [(runs[i], boxes[i], ious[i]) for i in kept]


@torch.no_grad()
def test_masks_of_a_picture_match(pair):
    model, theirs = pair
    expected = reference_masks(model, theirs, picture())
    predictor = ImagePredictor(model, mask_threshold=MASK_THRESHOLD)
    found = AutomaticMaskGenerator(predictor, OPTIONS).generate(picture())
    assert len(found) == len(expected) > 5
    assert len({mask.crop_box for mask in found}) > 1
    for mask, (runs, box, iou) in zip(found, expected, strict=True):
        # A pixel may lie so near the threshold that rounding decides.
        assert (mask.segmentation != processing._rle_to_mask(runs)).sum() <= 2
        assert mask.bbox == (box[0], box[1], box[2] - box[0], box[3] - box[1])
        assert mask.predicted_iou == pytest.approx(iou, rel=1e-4)


@pytest.mark.parametrize("size", [HW, (240, 100), (SIDE, SIDE), (37, 51)])
def test_pictures_are_prepared_as_by_the_processor(pair, size):
    pixels = np.random.default_rng(4).integers(0, 256, (*size, 3), np.uint8)
    expected = PROCESSOR(pixels, return_tensors="pt")
    mine = pair[0].preprocess(torch.from_numpy(pixels)[None])
    assert tuple(expected["reshaped_input_sizes"][0]) == pair[0].frame_of(size).content_hw
    assert relative_error(mine, expected["pixel_values"]) <= 1e-5


@pytest.mark.parametrize("size", [HW, (240, 100), (1080, 1920)])
def test_masks_are_upscaled_as_by_the_processor(pair, size):
    model, logits = pair[0], torch.randn(2, 3, pair[0].mask_side, pair[0].mask_side)
    frame = model.frame_of(size)
    (expected,) = PROCESSOR.post_process_masks([logits], [size], [frame.content_hw], binarize=False)
    assert relative_error(model.upscale(logits, frame), expected) <= 1e-6


@pytest.mark.parametrize("hw", [HW, (1080, 1920), (101, 57)])
def test_crops_match(hw):
    boxes, layers = processing._generate_per_layer_crops(3, 512 / 1500, hw)
    mine = crops_of(hw, 3, 512 / 1500)
    assert [list(crop.box) for crop in mine] == boxes
    assert [crop.layer for crop in mine] == layers


def test_filters_match():
    logits = torch.nn.functional.interpolate(torch.randn(9, 1, 6, 6), (40, 70), mode="bicubic")[
        :, 0
    ]
    logits[4] = -1  # an empty mask
    masks = logits > 0
    assert torch.equal(boxes_around(masks), processing._batched_mask_to_box(masks[None])[0])
    assert [RunLengths.of(m).uncompressed() for m in masks.numpy()] == processing._mask_to_rle(
        masks
    )
    expected = processing._compute_stability_score(logits, 0.0, 0.3).nan_to_num(0.0)
    assert torch.equal(stability_scores(logits, 0.0, 0.3), expected)
    np.testing.assert_array_equal(point_grid(7), processing._build_point_grid(7))
