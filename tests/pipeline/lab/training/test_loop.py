"""A run can be stopped anywhere, shared out, and narrowed to a few parameters."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from models.training.lora import UP
from pipeline.errors import ConfigError
from pipeline.lab.training import loop
from pipeline.lab.training import state as state_module
from pipeline.lab.training.detector_task import DetectorTask
from pipeline.lab.training.optimisers import build_optimisers
from pipeline.lab.training.state import MODEL_FILE, STATE_FILE, MovingAverage, TrainingState
from tests.pipeline.lab.training.runs import TASKS, make_model, recipe, run, stage

PLAN = recipe(
    stage("look", task="backbone"),
    stage("find", task="detector", steps=3),
    stage("again", task="detector"),
    stage("follow", task="tracker"),
    stage("outline", task="refiner"),
    stage("low", train=("detector_model.detr_decoder.",), lora_rank=2),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    run(PLAN, out)
    return out


def weights(folder):
    return load_file(folder / MODEL_FILE)


class StoppedError(Exception):
    pass


@pytest.mark.parametrize(
    ("last", "file"),
    [
        *((1, STATE_FILE), (4, MODEL_FILE), (8, STATE_FILE)),
        *((11, STATE_FILE), (13, MODEL_FILE), (13, STATE_FILE)),
    ],
)
def test_a_run_stopped_anywhere_ends_as_one_that_was_not(last, file, whole, tmp_path, monkeypatch):
    write = state_module.write_safetensors
    saved = []

    def write_and_stop(*given, **named):
        write(*given, **named)
        saved.append(given[1].name)
        if saved.count(file) == last:
            raise StoppedError

    monkeypatch.setattr(state_module, "write_safetensors", write_and_stop)
    with pytest.raises(StoppedError):
        run(PLAN, tmp_path)
    monkeypatch.undo()
    run(PLAN, tmp_path)
    torch.testing.assert_close(weights(tmp_path), weights(whole), rtol=0, atol=0)
    rows = [json.loads(row) for row in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 5, 7, 9, 11, 13]


def test_a_finished_run_is_left_as_it_is(whole):
    before = (whole / STATE_FILE).read_bytes()
    run(PLAN, whole)
    assert (whole / STATE_FILE).read_bytes() == before
    assert not list(whole.glob("*.partial"))


@pytest.mark.parametrize(
    "other",
    [
        recipe(stage(), stage("low", train=("detector_model.",), lora_rank=3)),
        recipe(stage(train=("detector_model.mask_decoder.",))),
    ],
)
def test_the_state_of_another_recipe_is_refused(tmp_path, other):
    run(recipe(stage(), stage("low", train=("detector_model.",), lora_rank=2)), tmp_path)
    before = weights(tmp_path)
    with pytest.raises(ConfigError, match="holds the state of another recipe"):
        run(other, tmp_path)
    torch.testing.assert_close(weights(tmp_path), before, rtol=0, atol=0)


def test_the_weights_fit_the_model_and_only_what_a_stage_learns_changes(whole):
    state = weights(whole)
    make_model().load_state_dict(state)
    out = make_model().state_dict()
    tracker_only = recipe(stage(task="tracker", freeze=("tracker_model.memory_",)))
    folder = whole.parent / "narrow"
    run(tracker_only, folder, is_fresh=False)
    changed = {n for n, v in weights(folder).items() if not torch.equal(v, out[n])}
    assert changed
    assert all(n.startswith(("tracker_model.", "tracker_neck.")) for n in changed)
    assert not any(n.startswith("tracker_model.memory_") for n in changed)


def test_low_rank_changes_are_merged_under_the_models_own_names(tmp_path):
    plan = recipe(stage(train=("detector_model.detr_decoder.",), lora_rank=2, lr_start=1e-2))
    run(plan, tmp_path, is_fresh=False)
    before, after = make_model().state_dict(), weights(tmp_path)
    assert after.keys() == before.keys()
    changed = {n: after[n] - before[n] for n in after if not torch.equal(after[n], before[n])}
    assert changed
    assert all("detr_decoder" in name for name in changed)
    assert all(torch.linalg.matrix_rank(change, rtol=1e-3) <= 2 for change in changed.values())
    assert any(name.endswith(UP) for name in load_file(tmp_path / STATE_FILE))


def test_low_rank_changes_of_no_linear_layer_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'s' has lora_rank 2, and no linear layer learns in it"):
        run(recipe(stage(task="refiner", lora_rank=2)), tmp_path)


def test_a_stage_that_learns_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="learns nothing"):
        run(recipe(stage(train=("no_such_part.",))), tmp_path)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    run(recipe(stage()), tmp_path)
    before = weights(tmp_path)
    write = state_module.write_safetensors

    def no_space(tensors, path, **named):
        write(tensors, path.with_suffix(".lost"), **named)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_module, "write_safetensors", no_space)
    with pytest.raises(OSError, match="No space left"):
        run(recipe(stage(), stage("more")), tmp_path)
    torch.testing.assert_close(weights(tmp_path), before, rtol=0, atol=0)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_both_shares(tmp_path):
    run(recipe(stage(accumulate=2)), tmp_path / "one")
    script = "from tests.pipeline.lab.training.shared import main; main()"
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "--no-python", sys.executable, "-c", script),
            str(tmp_path / "two"),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    # Sums of gradients differ in their last bits, and Adam's first steps magnify the tiny ones.
    torch.testing.assert_close(
        weights(tmp_path / "two"), weights(tmp_path / "one"), rtol=1e-2, atol=1e-4
    )


class EmptySource:
    def draw(self, rng, size, stage):
        return []


@pytest.mark.parametrize("workers", [0, 1])
def test_data_of_which_nothing_can_be_asked_is_one_problem(workers, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "detector", DetectorTask(source=EmptySource(), patch_size=14))
    with pytest.raises(ConfigError, match="nothing could be asked") as caught:
        run(recipe(stage(), workers=workers), tmp_path)
    assert len(caught.value.problems) == 1


def test_figures_that_not_every_batch_has_are_averaged_over_those_that_do(tmp_path, monkeypatch):
    task = TASKS["detector"]
    told = iter([{"rare": 0.5, "usual": 1.0}, {"usual": 3.0}] * 2)

    class Telling:
        learns, draw, initialise = task.learns, task.draw, task.initialise

        def losses(self, *given):
            return replace(task.losses(*given), figures=next(told))

    monkeypatch.setitem(TASKS, "detector", Telling())
    run(recipe(stage(accumulate=2, steps=1)), tmp_path)
    (row,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert (json.loads(row)["rare"], json.loads(row)["usual"]) == (0.5, 2.0)


def test_the_scale_of_fp16_falls_with_an_overflow_and_rises_again(monkeypatch):
    monkeypatch.setattr(loop, "CALM_STEPS", 2)
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    learned = {"weight": weight}
    state = TrainingState(
        model=torch.nn.Module(),
        learned=learned,
        optimisers=build_optimisers(learned, "adamw", weight_decay=0.0),
        average=MovingAverage(learned, 0.9),
        scale=loop.FIRST_SCALE,
    )
    state.optimisers.set_rate(0.1)
    scales = []
    for gradient in (float("inf"), 1.0, 1.0, 1.0, 1.0):
        weight.grad = torch.full((2, 2), gradient)
        loop._learn(state, recipe(stage(), precision="fp16"))
        scales.append(state.scale / loop.FIRST_SCALE)
    assert scales == [0.5, 0.5, 1.0, 1.0, 1.0]
    assert bool(weight.isfinite().all())


def test_half_precision_learns_too(tmp_path):
    run(recipe(stage(), precision="bf16"), tmp_path)
    assert all(bool(value.isfinite().all()) for value in weights(tmp_path).values())
