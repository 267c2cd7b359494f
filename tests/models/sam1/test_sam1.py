"""SAM 1 on its own: how pictures lie in its input, prompts, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from models.catalogue import MODELS
from models.common.image_predictor import ImagePredictor
from models.common.prompting import ObjectPrompts
from models.sam1.config import Sam1Config, VisionConfig
from models.sam1.model import PIXEL_MEAN, PIXEL_STD, Sam1
from tests.models.tiny_sam1 import TINY_SAM1, build_tiny_sam1

SIDE = TINY_SAM1.vision.image_size


@pytest.fixture(scope="module")
def model():
    return build_tiny_sam1()


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("picture", "content"),
    [
        ((480, 640), (768, 1024)),
        ((1080, 1920), (576, 1024)),
        ((4320, 7680), (576, 1024)),
        ((1200, 1799), (683, 1024)),
        ((1024, 1024), (1024, 1024)),
        ((1, 1), (1024, 1024)),
        ((5000, 1), (1024, 1)),
    ],
)
def test_longest_side_fills_the_input(picture, content):
    with torch.device("meta"):
        frame = Sam1(MODELS["sam1-b"].network).frame_of(picture)
    assert frame.content_hw == content
    assert frame.side == 1024


@pytest.mark.parametrize("size", [(480, 640), (37, 91), (200, 150), (SIDE, SIDE), (1, 1)])
def test_preprocessing_is_pillows(model, size):
    pixels = noise(*size)
    height, width = model.frame_of(size).content_hw
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    levels = model.preprocess(torch.from_numpy(pixels)[None])[0, :, :height, :width]
    levels = levels.permute(1, 2, 0) * torch.tensor(PIXEL_STD) + torch.tensor(PIXEL_MEAN)
    np.testing.assert_array_equal(levels.round(), np.asarray(small))


def test_padding_is_zero_at_the_bottom_and_right(model):
    images = model.preprocess(torch.from_numpy(noise(30, 60))[None])
    assert images.shape == (1, 3, SIDE, SIDE)
    assert (images[..., SIDE // 2 :, :] == 0).all()
    assert (images[..., : SIDE // 2, :] != 0).any(dim=-1).all()


def test_upscaled_masks_lose_the_padding(model):
    frame = model.frame_of((40, 80))
    logits = torch.full((1, 1, model.mask_side, model.mask_side), -1.0)
    logits[..., : model.mask_side // 2, :] = 1  # exactly the content
    shown = model.upscale(logits, frame)
    assert shown.shape == (1, 1, 40, 80)
    assert (shown[..., :38, :] > 0).all()


def test_objects_do_not_see_each_other(model):
    state = model.encode_images(torch.randn(1, 3, SIDE, SIDE))
    prompts = ObjectPrompts(
        points=torch.rand(3, 2, 2),
        labels=torch.tensor([[1, 0]] * 3),
        boxes=None,
        mask_logits=torch.randn(3, 1, model.mask_side, model.mask_side),
    )
    together = model.decode_prompts(state, prompts, multimask=True).mask_logits
    alone = [model.decode_prompts(state, prompts.rows(i, i + 1), multimask=True) for i in range(3)]
    torch.testing.assert_close(together, torch.cat([a.mask_logits for a in alone]))


def test_predictor_answers_a_click(model):
    predictor = ImagePredictor(model)
    predictor.set_image(noise(50, 70))
    found = predictor.predict([[10, 20]], [1])
    assert found.masks.shape == (3, 50, 70)
    assert found.logits.shape == (3, model.mask_side, model.mask_side)


@pytest.mark.parametrize("shape", [(1, 3, SIDE, SIDE - 16), (1, 4, SIDE, SIDE), (3, SIDE, SIDE)])
def test_wrong_images_are_refused(model, shape):
    with pytest.raises(ValueError, match=r"images has shape .* accepted: \(\*, 3, "):
        model.encode_images(torch.zeros(shape))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"mask_decoder\.dim 256 differs"):
        Sam1Config(vision=VisionConfig(neck_dim=128))
    with pytest.raises(ValueError, match="image_size 1000 is not a multiple"):
        Sam1Config(vision=VisionConfig(image_size=1000))
    with pytest.raises(ValueError, match="dim 48 is not a multiple of num_heads 7"):
        Sam1(replace(TINY_SAM1, vision=replace(TINY_SAM1.vision, dim=48, num_heads=7)))


@pytest.mark.parametrize(
    ("name", "parameters"), [("sam1-b", 93.7), ("sam1-l", 312.3), ("sam1-h", 641.1)]
)
def test_published_sizes_have_the_published_weight(name, parameters):
    with torch.device("meta"):
        model = Sam1(MODELS[name].network)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(parameters, abs=0.1)
