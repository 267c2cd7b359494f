"""Checkpoints that do not fit are refused by name."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.checkpoints.weights import CheckpointError, load_strictly, read_safetensors


def make_state(**changes):
    return {"weight": torch.ones(2, 3), "bias": torch.zeros(2)} | changes


def test_file_fills_the_module(tmp_path):
    module, path = nn.Linear(3, 2), tmp_path / "good.safetensors"
    save_file(make_state(), path)
    load_strictly(module, read_safetensors(path), source="good")
    assert torch.equal(module(torch.ones(1, 3)), torch.full((1, 2), 3.0))


def test_module_without_storage_is_filled():
    with torch.device("meta"):
        module = nn.Linear(3, 2)
    load_strictly(module, make_state(), source="x")
    assert module.weight.device.type == "cpu"


def test_missing_key_is_named():
    state = make_state()
    del state["bias"]
    with pytest.raises(CheckpointError, match=r"'a\.st' does not fit Linear: 1 missing: bias"):
        load_strictly(nn.Linear(3, 2), state, source="a.st")


def test_unexpected_key_is_named():
    with pytest.raises(CheckpointError, match="1 unexpected: extra"):
        load_strictly(nn.Linear(3, 2), make_state(extra=torch.zeros(1)), source="x")


def test_misshapen_key_is_named_with_both_shapes():
    with pytest.raises(CheckpointError, match=r"weight is \(3, 2\), expected \(2, 3\)"):
        load_strictly(nn.Linear(3, 2), make_state(weight=torch.ones(3, 2)), source="x")


def test_refused_state_changes_nothing():
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    with pytest.raises(CheckpointError):
        load_strictly(module, make_state(extra=torch.zeros(1)), source="x")
    assert torch.equal(module.weight, before)


def test_many_faults_are_counted_not_listed():
    state = make_state(**{f"extra{i}": torch.zeros(1) for i in range(9)})
    with pytest.raises(CheckpointError, match=r"9 unexpected: .*extra4 \(\+4 more\)"):
        load_strictly(nn.Linear(3, 2), state, source="x")


@pytest.mark.parametrize("kept", [0, 4, 60])
def test_damaged_file_is_refused_by_name(tmp_path, kept):
    path = tmp_path / "cut.safetensors"
    save_file(make_state(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"cannot read checkpoint .*cut\.safetensors"):
        read_safetensors(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*gone\.safetensors"):
        read_safetensors(tmp_path / "gone.safetensors")
