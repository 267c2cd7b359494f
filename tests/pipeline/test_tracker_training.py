"""Tracker training on tiny clips: it learns, and a stopped run goes on as if never stopped."""

import numpy as np
import pytest
import torch

from models.sam3.config import SAM3_SIZES
from models.sam3.vision import Backbone
from models.training.tracker_losses import TrackerLossWeights, clip_losses
from pipeline.training.clips import make_clips
from pipeline.training.tracker_loop import (
    ClipStage,
    Lesson,
    TrackerHalf,
    TrackerRecipe,
    TrackerRun,
    random_lesson,
    train_tracker,
    unroll,
)

CONFIG = SAM3_SIZES["sam3-nano"]
SIZE, GRID = 56, 16


def clips(seed, frames=4):
    rng = np.random.default_rng(seed)
    return make_clips(rng, clips=2, frames=frames, objects=2, size=SIZE, grid=GRID)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return Backbone(CONFIG.vision).eval()


def test_a_clip_depends_on_its_seed_alone():
    first, again, other = clips(1), clips(1), clips(2)
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.given, again.given)
    assert not torch.equal(first.pixels, other.pixels)


@pytest.mark.parametrize("seed", range(6))
def test_clips_start_in_view_and_tell_when_nothing_shows(seed):
    batch = clips(seed)
    assert batch.pixels.shape == (4 * 2, SIZE, SIZE, 3)
    assert bool(batch.targets[0].is_visible.all())
    assert bool((batch.given.amax((1, 2, 3)) > 0).all())
    for t, target in enumerate(batch.targets):
        assert bool((target.masks[target.is_visible].sum((1, 2)) > 0).all())
        assert torch.equal(batch.frame_index(t), t * 2 + batch.clip_index)


def test_objects_are_lost_from_sight_in_some_clips():
    batches = [clips(seed, frames=6) for seed in range(10)]
    visible = torch.cat([torch.stack([t.is_visible for t in b.targets], 1) for b in batches])
    is_back = (~visible[:, :-1] & visible[:, 1:]).any(1)
    assert 0 < int(is_back.sum()) < len(visible)


def test_a_fixed_clip_is_learned(backbone):
    torch.manual_seed(0)
    half, batch, weights = TrackerHalf(CONFIG), clips(3), TrackerLossWeights()
    optimiser = torch.optim.AdamW(half.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        outputs = unroll(half, backbone, batch, Lesson())
        loss = torch.stack(list(clip_losses(outputs, batch.targets, weights).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(half.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert min(losses[-3:]) < 0.6 * losses[0]


def test_every_lesson_can_be_taught(backbone):
    half, batch, rng = TrackerHalf(CONFIG), clips(4), np.random.default_rng(0)
    for _ in range(6):
        with torch.no_grad():
            outputs = unroll(half, backbone, batch, random_lesson(rng, 4))
        assert all(bool(output.all_mask_logits.isfinite().all()) for output in outputs)


def run_for(steps, backbone, folder):
    stage = ClipStage(
        name="s", steps=2, image_size=SIZE, images=1, frames=3, lr_start=1e-3, lr_end=1e-3
    )
    stages = (stage, stage.model_copy(update={"lr_start": 5e-4, "lr_end": 1e-4}))
    recipe = TrackerRecipe(stages=stages[: steps // 2], checkpoint_every=1)
    return train_tracker(TrackerRun(recipe=recipe, config=CONFIG, backbone=backbone, out=folder))


def test_a_resumed_run_equals_an_uninterrupted_one(backbone, tmp_path):
    whole = run_for(4, backbone, tmp_path / "whole")
    run_for(2, backbone, tmp_path / "parts")
    parts = run_for(4, backbone, tmp_path / "parts")
    for (name, a), b in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
