"""SAM 2.1 on single pictures against transformers, with the same random weights, in fp32."""

import numpy as np
import pytest
import torch

from models.common.image_predictor import ImagePredictor
from models.common.mask_decoder import choose_single_mask
from models.common.prompting import ObjectPrompts
from models.sam2.model import Sam2, preprocess
from models.sam2.promptable import PromptableTracker
from tests.models.tiny_sam2 import SMALL
from tests.parity.closeness import relative_error
from tests.parity.sam2_reference import (
    build_image_reference,
    build_reference,
)
from tests.parity.variants import TransformersSam2

SIZE = SMALL.tracker.image_size


@pytest.fixture(scope="module")
def pair():
    state = build_reference(SMALL).state_dict()
    ours = TransformersSam2(SMALL).eval()
    ours.load_state_dict(state)
    return ours, build_image_reference(SMALL, state)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)
    with torch.no_grad():
        yield


@pytest.mark.parametrize("number", range(8))
def test_hiera_block_matches(pair, number):
    ours, theirs = (model.vision_encoder.backbone.blocks[number] for model in pair)
    side = SIZE // 4 // 2 ** sum(number > end for end in (1, 3, 6))
    x = torch.randn(2, side, side, theirs.dim)
    assert relative_error(ours(x), theirs(x)) <= 1e-5


def test_hiera_and_its_position_match(pair):
    ours, theirs = (model.vision_encoder.backbone for model in pair)
    images = torch.randn(2, 3, SIZE, SIZE)
    stages = theirs(images).intermediate_hidden_states
    for mine, reference in zip(ours(images), stages, strict=True):
        assert relative_error(mine, reference) <= 1e-5


def test_neck_matches(pair):
    ours, theirs = (model.vision_encoder.neck for model in pair)
    stages = tuple(
        torch.randn(2, SIZE >> n + 2, SIZE >> n + 2, dim)
        for n, dim in enumerate(SMALL.hiera.stage_dims)
    )
    expected = theirs(stages)[0][-3:][::-1]
    for mine, reference in zip(ours(stages), expected, strict=True):
        assert relative_error(mine, reference) <= 1e-5


PROMPTS = {
    "one point": {"points": 1},
    "points": {"points": 3},
    "box": {"points": 0, "box": True},
    "box and points": {"points": 2, "box": True},
    "mask": {"points": 0, "mask": True},
    "box, points and mask": {"points": 2, "box": True, "mask": True},
}


def make_prompts(points, box=False, mask=False):
    side = SIZE // 4
    return ObjectPrompts(
        points=torch.rand(3, points, 2),
        labels=torch.randint(0, 2, (3, points)),
        boxes=torch.tensor([[0.1, 0.2, 0.7, 0.9]] * 3) if box else None,
        mask_logits=torch.randn(3, 1, side, side) * 5 if mask else None,
    )


def as_theirs(prompts):
    has_points = prompts.points.shape[1] > 0
    return {
        "input_points": prompts.points[None] * SIZE if has_points else None,
        "input_labels": prompts.labels[None] if has_points else None,
        "input_boxes": None if prompts.boxes is None else prompts.boxes[None] * SIZE,
        "input_masks": prompts.mask_logits,
    }


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kind", PROMPTS)
def test_prompted_picture_matches(pair, kind, multimask):
    ours, theirs = pair
    pixels = torch.randint(0, 256, (1, 90, 150, 3), dtype=torch.uint8)
    prompts = make_prompts(**PROMPTS[kind])
    if prompts.mask_logits is not None:  # theirs takes one mask a picture
        prompts = prompts.rows(0, 1)
    reference = theirs(preprocess(pixels, SIZE), **as_theirs(prompts), multimask_output=multimask)
    model = PromptableTracker(ours, ours.encode_pixels)
    mine = model.decode_prompts(model.encode_picture(pixels), prompts, multimask=multimask)
    assert relative_error(mine.mask_logits, reference.pred_masks[0]) <= 1e-5
    assert relative_error(mine.predicted_iou, reference.iou_scores[0]) <= 1e-5


def test_lone_mask_has_no_point_beside_it_in_the_official_reading(pair):
    features = pair[0].encode_image(torch.randn(1, 3, SIZE, SIZE))
    prompts, frame = make_prompts(0, mask=True), torch.zeros(3, dtype=torch.int64)
    official = Sam2(SMALL).eval()
    official.load_state_dict(pair[0].state_dict())
    answers = [m.decode_prompts(features, frame, prompts).mask_logits for m in (official, pair[0])]
    sparse = torch.zeros(3, 0, SMALL.tracker.hidden_dim)
    image = features.top + official.no_memory_embedding[..., None].movedim(2, 1)
    dense = official.prompt_encoder.mask(prompts.mask_logits)
    expected = official._decode(features, frame, image.expand(3, -1, -1, -1), sparse, dense)
    assert relative_error(answers[0], expected.mask_logits) == 0
    assert relative_error(answers[0], answers[1]) > 1e-3


def test_unstable_single_mask_is_replaced_like_theirs(pair):
    ours, theirs = pair
    images, prompts = torch.randn(1, 3, SIZE, SIZE), make_prompts(2)
    features = ours.encode_image(images)
    decoded = ours.decode_prompts(features, torch.zeros(3, dtype=torch.int64), prompts)
    assert set(choose_single_mask(decoded).tolist()) != {0}
    reference = theirs(images, **as_theirs(prompts), multimask_output=False)
    mine = PromptableTracker(ours, ours.encode_pixels)
    answer = mine.decode_prompts(features, prompts, multimask=False)
    assert relative_error(answer.mask_logits, reference.pred_masks[0]) <= 1e-5


def test_logits_given_again_are_bounded_on_their_way_out_alone_as_published(pair):
    """The official predictor hands out at most 32; what it is given it takes as it is."""
    ours, theirs = pair
    predictor = ImagePredictor(PromptableTracker(ours, ours.encode_pixels))
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    predictor.set_image(pixels)
    given = torch.randn(1, 1, SIZE // 4, SIZE // 4) * 500
    prompts = {"input_masks": given, "input_points": torch.ones(1, 1, 1, 2)}
    reference = theirs(preprocess(torch.from_numpy(pixels)[None], SIZE), **prompts).pred_masks[0, 0]
    scale = 100 / reference.abs().max()
    for mlp in ours.mask_decoder.output_hypernetworks_mlps:
        mlp.proj_out.weight.mul_(scale)
        mlp.proj_out.bias.mul_(scale)
    found = predictor.predict([[1, 1]], mask_input=given[0].numpy(), return_logits=True)
    for mlp in ours.mask_decoder.output_hypernetworks_mlps:
        mlp.proj_out.weight.div_(scale)
        mlp.proj_out.bias.div_(scale)
    expected = reference * scale
    assert relative_error(torch.from_numpy(found.logits), expected.clamp(-32, 32)) <= 1e-5
    large = torch.nn.functional.interpolate(expected[None], (SIZE, SIZE), mode="bilinear")[0]
    assert np.abs(found.masks).max() > 50
    assert relative_error(torch.from_numpy(found.masks), large) <= 1e-5


def test_image_predictor_answers_in_pixels_of_the_picture(pair):
    ours, theirs = pair
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 110, 3), dtype=np.uint8)
    predictor = ImagePredictor(PromptableTracker(ours, ours.encode_pixels))
    predictor.set_image(pixels)
    found = predictor.predict([[30.0, 20.0]], [1], return_logits=True)
    reference = theirs(
        preprocess(torch.from_numpy(pixels)[None], SIZE),
        input_points=torch.tensor([[[[30 / 110 * SIZE, 20 / 60 * SIZE]]]]),
        input_labels=torch.ones(1, 1, 1, dtype=torch.int64),
    )
    assert found.masks.shape == (3, 60, 110)
    assert relative_error(torch.from_numpy(found.logits), reference.pred_masks[0, 0]) <= 1e-5
    large = torch.nn.functional.interpolate(reference.pred_masks[0], (60, 110), mode="bilinear")
    assert relative_error(torch.from_numpy(found.masks), large[0]) <= 1e-5
