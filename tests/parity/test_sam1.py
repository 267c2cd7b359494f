"""SAM 1 against transformers' port of it, with the same random weights, in fp32."""

import gc

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.catalogue import MODELS, Family, sizes_of
from models.common.prompting import ObjectPrompts
from models.sam1.image_encoder import RelativeAttention
from models.sam1.model import Sam1
from tests.parity.closeness import relative_error
from tests.parity.sam1_reference import (
    SMALL,
    build_ours,
    build_reference,
)

GRID, SIDE = SMALL.vision.grid, SMALL.vision.image_size


@pytest.fixture(scope="module")
def pair():
    theirs = build_reference(SMALL)
    return build_ours(SMALL, theirs.state_dict()), theirs


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)
    with torch.no_grad():
        yield


def prompts_of(kind, batch=2, grid=GRID):
    """Points with a padding one, boxes, both, or masks; shares of the input."""
    points = torch.rand(batch, 3, 2) if "points" in kind else torch.zeros(batch, 0, 2)
    labels = torch.tensor([1, 0, -1]).expand(batch, 3)[:, : points.shape[1]]
    corners = torch.rand(batch, 2, 2).sort(dim=1).values.flatten(1)
    masks = torch.randn(batch, 1, 4 * grid, 4 * grid) * 5
    return ObjectPrompts(
        points=points,
        labels=labels,
        boxes=corners if "boxes" in kind else None,
        mask_logits=masks if "masks" in kind else None,
    )


def reference_arguments(prompts, side):
    """Bring prompts into transformers' form: px of the input, one picture."""
    has_points, boxes = prompts.points.shape[1] > 0, prompts.boxes
    return {
        "input_points": prompts.points[None] * side if has_points else None,
        "input_labels": prompts.labels[None] if has_points else None,
        "input_boxes": None if boxes is None else boxes[None] * side,
        "input_masks": prompts.mask_logits,
    }


@pytest.mark.parametrize("index", [0, 1], ids=["windowed", "global"])
def test_vision_layer_matches(pair, index):
    ours, theirs = pair
    x = torch.randn(2, GRID, GRID, SMALL.vision.dim)
    mine = ours.vision_encoder.layers[index](x)
    assert relative_error(mine, theirs.vision_encoder.layers[index](x)) <= 1e-5


def test_neck_matches(pair):
    ours, theirs = pair
    x = torch.randn(2, GRID, GRID, SMALL.vision.dim)
    assert relative_error(ours.vision_encoder.neck(x), theirs.vision_encoder.neck(x)) <= 1e-5


def test_image_embedding_matches(pair):
    ours, theirs = pair
    images = torch.randn(2, 3, SIDE, SIDE)
    assert relative_error(ours.encode_images(images), theirs.get_image_embeddings(images)) <= 1e-5


def test_bias_in_slices_changes_nothing(pair, monkeypatch):
    attention: RelativeAttention = pair[0].vision_encoder.layers[1].attn
    x = torch.randn(2, GRID**2, SMALL.vision.dim)
    whole = attention(x, (GRID, GRID))
    monkeypatch.setattr("models.sam1.image_encoder.BIAS_ELEMENTS", 3 * 2 * 4 * GRID**3)
    assert relative_error(attention(x, (GRID, GRID)), whole) <= 1e-6


def test_positions_match(pair):
    ours, theirs = pair
    expected = theirs.get_image_wide_positional_embeddings()
    assert relative_error(ours.shared_image_embedding.image(GRID), expected) <= 1e-5


@pytest.mark.parametrize("kind", ["points", "boxes", "points and boxes"])
def test_prompt_tokens_match(pair, kind):
    ours, theirs = pair
    prompts = prompts_of(kind)
    expected, _ = theirs.prompt_encoder(**reference_arguments(prompts, SIDE))
    assert relative_error(ours._sparse(prompts, GRID), expected[0]) <= 1e-5


def test_mask_prompt_matches(pair):
    ours, theirs = pair
    prompts = prompts_of("masks")
    _, expected = theirs.prompt_encoder(**reference_arguments(prompts, SIDE))
    assert relative_error(ours.prompt_encoder.mask(prompts.mask_logits), expected) <= 1e-5


@pytest.mark.parametrize("multimask", [True, False])
def test_mask_decoder_matches(pair, multimask):
    ours, theirs = pair
    dim = SMALL.vision.neck_dim
    image, dense, pos = torch.randn(3, 1, dim, GRID, GRID)
    sparse = torch.randn(4, 5, dim)
    masks, iou = theirs.mask_decoder(image, pos, sparse[None], dense, multimask)
    mine = ours.mask_decoder(image.expand(4, -1, -1, -1), pos, sparse, dense)
    which = slice(1, None) if multimask else slice(0, 1)
    assert relative_error(mine.mask_logits[:, which], masks[0]) <= 1e-5
    assert relative_error(mine.iou[:, which], iou[0]) <= 1e-5


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kind", ["points", "boxes", "points and boxes", "points and masks"])
def test_whole_forward_matches(pair, kind, multimask):
    ours, theirs = pair
    # transformers takes one mask for all objects of a picture
    prompts = prompts_of(kind, batch=1 if "masks" in kind else 3)
    images = torch.randn(1, 3, SIDE, SIDE)
    expected = theirs(images, **reference_arguments(prompts, SIDE), multimask_output=multimask)
    found = ours.decode_prompts(ours.encode_images(images), prompts, multimask=multimask)
    assert relative_error(found.mask_logits, expected.pred_masks[0]) <= 1e-5
    assert relative_error(found.predicted_iou, expected.iou_scores[0]) <= 1e-5


def test_default_epsilon_is_the_originals_and_not_that_of_transformers(pair):
    ours, _ = pair
    original = Sam1(SMALL).eval()
    original.load_state_dict(ours.state_dict())
    assert {m.eps for m in original.mask_decoder.transformer.modules() if hasattr(m, "eps")} == {
        1e-5
    }
    prompts = prompts_of("points")
    state = ours.encode_images(torch.randn(1, 3, SIDE, SIDE))
    mine, port = (m.decode(state, prompts).mask_logits for m in (original, ours))
    assert 1e-7 < relative_error(mine, port) < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [size.name for size in sizes_of(Family.SAM1)])
def test_published_size_matches(name, tmp_path):
    config, path = MODELS[name].network, tmp_path / "model.safetensors"
    side, grid = config.vision.image_size, config.vision.grid
    images, prompts = torch.randn(1, 3, side, side), prompts_of("points and boxes", grid=grid)
    theirs = build_reference(config)
    expected = theirs(images, **reference_arguments(prompts, side), multimask_output=True)
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith("shared_image")}
    save_file(state, path)
    del theirs, state
    gc.collect()
    ours = build_ours(config, load_file(path))
    found = ours.decode_prompts(ours.encode_images(images), prompts, multimask=True)
    assert relative_error(found.mask_logits, expected.pred_masks[0]) <= 1e-5
    assert relative_error(found.predicted_iou, expected.iou_scores[0]) <= 1e-5
