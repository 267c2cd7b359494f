"""A refiner learns outlines on what a frozen detector finds."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from connectors.world.still import render_still
from models.build import build_sam3
from models.catalogue import NANO_FOLDER, VOCABULARY_FILE
from models.checkpoints.weights import read_safetensors, write_safetensors
from models.sam3.network.config import RefinerConfig
from models.sam3.network.refiner import MaskRefiner
from pipeline.errors import ConfigError
from pipeline.lab.training.build import build_run
from pipeline.lab.training.pictures import WorldPictures, choose_crops
from pipeline.lab.training.refiner_task import VIEWS, RefinerTask, look_again
from tests.pipeline.lab.training.runs import ALONE, STILLS, make_model, recipe, stage, tokenizer

SIDE = 64
TASK = RefinerTask(source=WorldPictures(config=replace(STILLS, empty_probability=0.0)))


@pytest.fixture(scope="module")
def nano():
    model, vocabulary = build_sam3("sam3-nano", checkpoint=None, device="cpu")
    torch.manual_seed(0)
    model.mask_refiner = MaskRefiner(RefinerConfig(side=SIDE))
    return model, vocabulary


@pytest.fixture(scope="module")
def batch():
    plan = stage(task="refiner", images=6, uncut=True).model_copy(update={"image_size": 280})
    return TASK.draw(np.random.default_rng(5), plan)


def test_what_is_found_is_looked_at_again(nano, batch):
    looks = look_again(*nano, batch, np.random.default_rng(0), side=SIDE)
    assert 3 * VIEWS <= len(looks.truth) <= VIEWS * sum(batch.targets.counts)
    assert looks.pixels.shape == (len(looks.truth), 3, SIDE, SIDE)
    inside = looks.truth > 0.5
    overlap = ((looks.logits > 0) & inside).sum((1, 2)) / inside.sum((1, 2))
    assert (overlap > 0.25).all()
    # A window leaves room round its object, so that there is an edge to see.
    assert (inside.float().mean((1, 2)) < 0.7).all()


def test_a_fixed_batch_is_learned(nano, batch):
    model, vocabulary = nano
    learned = [p for n, p in model.named_parameters() if n.startswith(TASK.learns)]
    for parameter in learned:
        parameter.requires_grad = True
    optimiser = torch.optim.AdamW(learned, lr=1e-2)
    course, figures = [], {}
    for _ in range(40):  # the grid alone is right on nine tenths: there is little to gain
        losses = TASK.losses(model, vocabulary, batch, np.random.default_rng(1))
        loss = torch.stack(list(losses.terms.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        course.append(float(loss.detach()))
        figures = losses.figures
    assert course[-1] < 0.9 * course[0]
    assert figures["outline_iou"] > figures["grid_iou"]
    others = [p for n, p in model.named_parameters() if not n.startswith(TASK.learns)]
    assert all(parameter.grad is None for parameter in others)


def test_a_batch_of_which_nothing_is_found_teaches_nothing():
    model = make_model()
    plan = stage(task="refiner", images=1)
    losses = TASK.losses(
        model, tokenizer(), TASK.draw(np.random.default_rng(1), plan), np.random.default_rng(1)
    )
    loss = torch.stack(list(losses.terms.values())).sum()
    loss.backward()
    assert float(loss.detach()) == 0
    assert losses.figures == {}
    assert all(
        parameter.grad is not None
        for name, parameter in model.named_parameters()
        if name.startswith(TASK.learns)
    )


@pytest.mark.parametrize(("side", "uncut"), [(56, True), (56, False), (80, True)])
def test_only_uncut_scenes_of_the_pictures_size_are_shown_px_for_px(side, uncut):
    frame = render_still(np.random.default_rng(3), size=side, config=STILLS)
    crops = choose_crops(np.random.default_rng(4), frame, 56, stage(uncut=uncut))
    is_same = len(crops) == 1 and np.array_equal(crops[0].cut(frame.pixels), frame.pixels)
    assert is_same == (uncut and side == 56)


def test_weights_without_a_refiner_get_one(tmp_path, nano):
    state = {
        name: value.clone()
        for name, value in nano[0].state_dict().items()
        if not name.startswith(TASK.learns)
    }
    shutil.copy(NANO_FOLDER / VOCABULARY_FILE, tmp_path)
    write_safetensors(state, tmp_path / "model.safetensors", metadata={})
    plan = recipe(stage(task="refiner"), start=tmp_path / "model.safetensors")
    model = build_run(plan, out=tmp_path, group=ALONE).make_model()
    added = model.state_dict().keys() - read_safetensors(tmp_path / "model.safetensors").keys()
    assert added
    assert all(name.startswith(TASK.learns) for name in added)
    plain = recipe(stage(), start=tmp_path / "model.safetensors")
    assert build_run(plain, out=tmp_path, group=ALONE).make_model().mask_refiner is None


def test_a_size_without_a_refiner_cannot_learn_one(tmp_path):
    plan = recipe(stage(task="refiner"), model="sam3", start=tmp_path)
    with pytest.raises(ConfigError, match="'sam3'"):
        build_run(plan, out=tmp_path, group=ALONE)
