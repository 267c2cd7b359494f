"""SAM 3's visual prompts on pictures against transformers, same random weights, fp32.

From the picture through backbone, the tracker's neck, prompt encoder and mask decoder. Relative L2
error <= 1e-5: a few hundred fp32 roundings, the cost of different orders of summation.
"""

import numpy as np
import pytest
import torch

from models.common.image_predictor import ImagePredictor
from models.sam2.promptable import PromptableTracker
from models.sam3.network.model import Sam3, preprocess
from tests.parity.closeness import relative_error
from tests.parity.sam3_reference import (
    SMALL,
    spread,
    visual_config,
    visual_names,
    visual_reference,
)
from tests.parity.variants import build_sam3

TOLERANCE, SIZE, SIDE = 1e-5, SMALL.vision.image_size, 4 * SMALL.vision.grid


def build_theirs(**changes):
    torch.manual_seed(3)
    return spread(visual_reference.Sam3TrackerModel(visual_config(SMALL, **changes)))


def load_ours(theirs, build=build_sam3):
    ours = build(SMALL).eval()
    report = ours.load_state_dict(visual_names(theirs.state_dict()), strict=False)
    assert not report.unexpected_keys
    return ours


@pytest.fixture(scope="module")
def theirs():
    return build_theirs()


@pytest.fixture(scope="module")
def ours(theirs):
    return load_ours(theirs)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(4).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)


def predictor_of(model, pixels):
    predictor = ImagePredictor(PromptableTracker(model.tracker_model, model.encode_pixels))
    predictor.set_image(pixels)
    return predictor


def images_of(pixels):
    return preprocess(torch.from_numpy(pixels)[None], SIZE)


@torch.no_grad()
def answer(theirs, pixels, prompts, multimask):
    """Ask transformers, whose prompts have an axis of pictures before that of objects."""
    given = {name: None if v is None else torch.as_tensor(v)[None] for name, v in prompts.items()}
    masks = prompts["masks"]
    return theirs(
        pixel_values=images_of(pixels),
        input_points=given["points"],
        input_labels=given["labels"],
        input_boxes=given["boxes"],
        input_masks=None if masks is None else torch.as_tensor(masks),
        multimask_output=multimask,
    )


POINTS = np.array([[[20.0, 30.0]], [[70.5, 3.25]]], np.float32)
SEVERAL = np.array([[[20.0, 30.0], [60.0, 50.0], [7.0, 80.0]]] * 2, np.float32)
BOXES = np.array([[10.0, 20.0, 40.5, 70.0], [0.0, 0.0, 84.0, 84.0]], np.float32)
MASK = np.random.default_rng(5).normal(0, 5, (1, 1, SIDE, SIDE)).astype(np.float32)
PROMPTS = {
    "points": (POINTS, np.array([[1], [0]]), None, None),
    "several points": (SEVERAL, np.array([[1, 0, 1], [1, 1, -1]]), None, None),
    "boxes": (None, None, BOXES, None),
    "boxes and points": (POINTS, np.array([[1], [0]]), BOXES, None),
    "mask": (None, None, None, MASK),
    "mask, box and points": (SEVERAL[:1], np.array([[1, 0, 1]]), BOXES[:1], MASK),
}


@pytest.mark.parametrize("multimask", [True, False], ids=["three masks", "one mask"])
@pytest.mark.parametrize("kind", PROMPTS)
def test_prompts_give_the_same_masks(ours, theirs, pixels, kind, multimask):
    points, labels, boxes, masks = PROMPTS[kind]
    found = predictor_of(ours, pixels).predict_batch(
        points, labels, boxes, masks, multimask_output=multimask
    )
    prompts = {"points": points, "labels": labels, "boxes": boxes, "masks": masks}
    expected = answer(theirs, pixels, prompts, multimask)
    assert found.logits.shape[1] == (3 if multimask else 1)
    assert relative_error(torch.from_numpy(found.logits), expected.pred_masks[0]) < TOLERANCE
    assert relative_error(torch.from_numpy(found.scores), expected.iou_scores[0]) < TOLERANCE


def test_features_of_the_tracker_equal(ours, theirs, pixels):
    with torch.no_grad():
        mine = ours.encode_pixels(torch.from_numpy(pixels)[None])
        expected = theirs.get_image_embeddings(images_of(pixels))
        top = mine.top + ours.tracker_model.no_memory_embedding[0, 0][:, None, None]
    for level, wanted in zip((mine.fine0, mine.fine1, top), expected, strict=True):
        assert relative_error(level, wanted) < TOLERANCE


def test_a_lone_mask_is_read_without_points_as_published(theirs, ours, pixels):
    published = load_ours(theirs, build=Sam3)
    both = [predictor_of(model, pixels).predict(mask_input=MASK[0]) for model in (ours, published)]
    assert relative_error(*(torch.from_numpy(found.logits) for found in both)) > 1e-3


def test_no_memory_is_added_where_published_and_not_to_an_unused_level(pixels):
    """With its own four scales, transformers leaves the embedding out of all levels it reads."""
    theirs = build_theirs(scales=(4.0, 2.0, 1.0, 0.5))
    ours = load_ours(theirs)
    prompts = {"points": POINTS, "labels": np.array([[1], [0]]), "boxes": None, "masks": None}
    expected = answer(theirs, pixels, prompts, multimask=True).pred_masks[0]
    published = predictor_of(ours, pixels).predict_batch(POINTS, prompts["labels"]).logits
    ours.tracker_model.no_memory_embedding.data.zero_()
    without = predictor_of(ours, pixels).predict_batch(POINTS, prompts["labels"]).logits
    assert relative_error(torch.from_numpy(published), expected) > 1e-3
    assert relative_error(torch.from_numpy(without), expected) < TOLERANCE
