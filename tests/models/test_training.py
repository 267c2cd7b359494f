"""Training of a tiny detector: it learns, and an interrupted run ends as one that was not."""

import numpy as np
import pytest
import torch

from connectors.world.still import StillConfig
from models.registry import NANO_FOLDER, VOCABULARY_FILE
from models.sam3.detector import Detector
from models.sam3.model import preprocess
from models.sam3.tokenizer import Tokenizer
from models.training.detector_losses import DetectorLossWeights, detector_losses
from models.training.initialise import initialise_detector
from pipeline.training.batches import make_batch
from pipeline.training.checkpoint import load_average
from pipeline.training.detector_loop import DetectorRun, train_detector
from pipeline.training.recipe import Recipe, Stage
from tests.models.tiny import TINY

SIZE, GRID = 56, 16
# The checkpoints carry these, and the published graph reads none of them.
UNREAD = (
    "vision_encoder.neck.fpn_layers.3.",
    "mask_decoder.pixel_decoder.conv_layers.2.",
    "mask_decoder.pixel_decoder.norms.2.",
    "text_encoder.text_projection.",
)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(NANO_FOLDER / VOCABULARY_FILE, context_length=16, vocab_size=1024)


@pytest.fixture(scope="module")
def batch():
    return make_batch(
        np.random.default_rng(3),
        images=3,
        size=SIZE,
        grid=GRID,
        config=StillConfig(max_objects=3),
        exemplar_probability=1.0,
    )


def make_detector(seed=0):
    torch.manual_seed(seed)
    return Detector(TINY)


def losses(detector, tokenizer, batch):
    vision = detector.vision_encoder(preprocess(batch.pixels, SIZE))
    text = detector.encode_text(tokenizer.encode(batch.phrases))
    output = detector(vision, batch.image_index, text, batch.exemplars)
    return detector_losses(detector, output, batch.targets, DetectorLossWeights())


def test_loss_falls_on_a_fixed_batch(tokenizer, batch):
    detector = make_detector()
    initialise_detector(detector, seed=0)
    optimiser = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    course = []
    for _ in range(15):
        loss = torch.stack(list(losses(detector, tokenizer, batch).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        course.append(float(loss.detach()))
    assert course[-1] < 0.8 * course[0]


def test_every_part_that_takes_part_learns(tokenizer, batch):
    detector = make_detector()
    assert batch.exemplars.is_valid.any()
    torch.stack(list(losses(detector, tokenizer, batch).values())).sum().backward()
    idle = {name for name, p in detector.named_parameters() if p.grad is None}
    assert {name.rpartition(".")[0] for name in idle if not name.startswith(UNREAD)} == set()
    assert all(any(name.startswith(part) for name in idle) for part in UNREAD)


def test_start_depends_on_the_seed_alone():
    first, second, third = make_detector(1), make_detector(2), make_detector(3)
    for detector, seed in ((first, 5), (second, 5), (third, 6)):
        initialise_detector(detector, seed=seed)
    name = "detr_decoder.box_rpb_embed_x.layer1.weight"
    weights = [detector.state_dict()[name] for detector in (first, second, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def make_recipe(num_stages):
    stages = [
        Stage(name=name, steps=2, image_size=SIZE, images=2, lr_start=1e-3, lr_end=5e-4)
        for name in ("first", "second")
    ]
    return Recipe(warmup_steps=2, checkpoint_every=1, stages=tuple(stages[:num_stages]))


def train(tokenizer, folder, *, num_stages, seed):
    detector = make_detector(seed)
    recipe = make_recipe(num_stages)
    train_detector(DetectorRun(recipe=recipe, detector=detector, tokenizer=tokenizer, out=folder))
    return detector.state_dict()


def test_resumed_run_ends_as_an_uninterrupted_one(tokenizer, tmp_path):
    whole = train(tokenizer, tmp_path / "whole", num_stages=2, seed=0)
    half = train(tokenizer, tmp_path / "cut", num_stages=1, seed=0)
    resumed = train(tokenizer, tmp_path / "cut", num_stages=2, seed=1)
    torch.testing.assert_close(resumed, whole, rtol=0, atol=1e-6)
    averages = [load_average(tmp_path / name) for name in ("cut", "whole")]
    torch.testing.assert_close(*averages, rtol=0, atol=1e-6)
    name = "dot_product_scoring.query_proj.weight"
    assert not torch.allclose(half[name], whole[name], rtol=0, atol=1e-6)


def test_finished_run_is_left_as_it_is(tokenizer, tmp_path):
    once = train(tokenizer, tmp_path, num_stages=1, seed=0)
    before = (tmp_path / "state.pt").read_bytes()
    again = train(tokenizer, tmp_path, num_stages=1, seed=1)
    torch.testing.assert_close(again, once, rtol=0, atol=0)
    assert (tmp_path / "state.pt").read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))
