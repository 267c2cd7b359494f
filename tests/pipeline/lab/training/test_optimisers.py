import pytest
import torch
from torch import nn

from models.checkpoints.weights import read_safetensors
from pipeline.errors import ConfigError
from pipeline.lab.training import loop
from pipeline.lab.training import optimisers as optimisers_module
from pipeline.lab.training.optimisers import build_optimisers
from pipeline.lab.training.state import MODEL_FILE
from tests.pipeline.lab.training.runs import recipe, run, stage

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch below 2.9")


def parameters():
    torch.manual_seed(0)
    shapes = {
        # No token, whatever its name says.
        "token_to_image.weight": (32, 40),
        "layer.lora_up": (48, 32),
        "layer.weight": (48, 32),
        "layer.bias": (48,),
        "token_embedding.weight": (64, 32),
        "head.weight": (1, 32),
        "conv.weight": (32, 32, 3, 3),
        "patches.weight": (48, 3, 6, 6),
        "region.weight": (32, 32, 7, 7),
    }
    return {name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}


def step_of(kind, gradients, *, decay=0.0, rate=0.01):
    """Return by how much one step moves each parameter."""
    learned = parameters()
    before = {name: value.detach().clone() for name, value in learned.items()}
    chosen = build_optimisers(learned, kind, weight_decay=decay)
    chosen.set_rate(rate)
    for name, gradient in gradients.items():
        learned[name].grad = gradient.clone()
    chosen.step()
    return {name: value.detach() - before[name] for name, value in learned.items()}


def random_gradients():
    torch.manual_seed(1)
    return {name: torch.randn_like(value) for name, value in parameters().items()}


@needs_muon
def test_muon_turns_the_step_of_a_hidden_matrix_into_a_rotation():
    gradients = random_gradients()
    # One direction has nearly all of the gradient; the step goes along all directions alike.
    gradients["layer.weight"] += 100 * torch.outer(torch.ones(48), torch.ones(32))
    strength = torch.linalg.svdvals(step_of("muon", gradients)["layer.weight"])
    assert strength.max() < 2.5 * strength.median()
    strength = torch.linalg.svdvals(step_of("adamw", gradients)["layer.weight"])
    assert strength.max() > 10 * strength.median()


@needs_muon
def test_muon_leaves_everything_else_to_adamw():
    gradients = random_gradients()
    muon, adam = step_of("muon", gradients), step_of("adamw", gradients)
    for name in muon:
        is_hidden = name in {"layer.weight", "token_to_image.weight"}
        assert torch.equal(muon[name], adam[name]) != is_hidden, name


@pytest.mark.parametrize("kind", [pytest.param("muon", marks=needs_muon), "adamw"])
def test_what_pools_a_region_moves_as_slowly_as_its_inputs_are_many(kind):
    moved = step_of(kind, random_gradients(), rate=0.01)
    for name in ("conv.weight", "patches.weight", "head.weight", "layer.bias"):
        assert moved[name].abs().mean() == pytest.approx(0.01, rel=1e-3), name
    assert moved["region.weight"].abs().mean() == pytest.approx(0.01 * 9 / 49, rel=1e-3)


@needs_muon
def test_one_rate_serves_both():
    gradients = random_gradients()
    for kind in ("muon", "adamw"):
        size = step_of(kind, gradients, rate=0.01)["layer.weight"].square().mean().sqrt()
        assert 0.001 < size < 0.02, kind
        still = step_of(kind, gradients, rate=0.0)
        assert not any(bool(change.any()) for change in still.values())


@pytest.mark.parametrize("kind", [pytest.param("muon", marks=needs_muon), "adamw"])
def test_only_matrices_are_decayed(kind):
    nothing = {name: torch.zeros_like(value) for name, value in parameters().items()}
    moved = step_of(kind, nothing, decay=0.5)
    decayed = {name for name, change in moved.items() if bool(change.any())}
    assert decayed == {
        "layer.weight",
        "token_to_image.weight",
        "head.weight",
        "conv.weight",
        "patches.weight",
        "region.weight",
    }


@needs_muon
def test_what_is_remembered_of_a_parameter_is_found_by_it():
    learned = parameters()
    chosen = build_optimisers(learned, "muon", weight_decay=0.0)
    for name, gradient in random_gradients().items():
        learned[name].grad = gradient
    chosen.step()
    assert "momentum_buffer" in chosen.state_of(learned["layer.weight"])
    assert "exp_avg" in chosen.state_of(learned["layer.bias"])
    with pytest.raises(KeyError, match="no optimiser moves"):
        chosen.state_of(nn.Parameter(torch.zeros(2)))
    chosen.zero_grad()
    assert all(value.grad is None for value in learned.values())


def test_a_torch_without_muon_is_told(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ConfigError, match=r"'muon' needs torch 2\.9 or later"):
        build_optimisers(parameters(), "muon", weight_decay=0.0)
    build_optimisers(parameters(), "adamw", weight_decay=0.0)


@needs_muon
def test_a_muon_run_that_was_stopped_goes_on_as_if_it_was_not(tmp_path, monkeypatch):
    # The test's model has thin matrices only.
    monkeypatch.setattr(optimisers_module, "LEAST_SIDE", 8)
    plan = recipe(stage(steps=4), optimiser="muon")
    run(plan, tmp_path / "whole")
    first = recipe(stage(steps=4), optimiser="muon", checkpoint_every=2)
    stopped = tmp_path / "stopped"
    learn = loop._learn
    seen = []

    def learn_twice(*given):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(given)
        return learn(*given)

    monkeypatch.setattr(loop, "_learn", learn_twice)
    with pytest.raises(KeyboardInterrupt):
        run(first, stopped)
    monkeypatch.setattr(loop, "_learn", learn)
    run(first, stopped)
    ends = [read_safetensors(folder / MODEL_FILE) for folder in (stopped, tmp_path / "whole")]
    torch.testing.assert_close(*ends, rtol=0, atol=0)


@needs_muon
@pytest.mark.parametrize("kinds", [("muon", "adamw"), ("adamw", "muon")])
def test_a_run_does_not_go_on_with_another_optimiser(tmp_path, monkeypatch, kinds):
    monkeypatch.setattr(optimisers_module, "LEAST_SIDE", 8)
    first, then = (recipe(stage(), optimiser=kind) for kind in kinds)
    run(first, tmp_path)
    with pytest.raises(ConfigError, match="holds the state of another recipe"):
        run(then, tmp_path)
