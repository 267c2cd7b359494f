"""Files of weights, and how what does not fit is named."""

import pytest
import torch
from safetensors.torch import save_file

from models.checkpoints.weights import CheckpointError, describe_faults, read_safetensors


def test_many_faults_are_counted_and_the_first_named():
    told = describe_faults(unexpected=[f"extra{i}" for i in range(9)], missing=[])
    assert told == ["9 unexpected: extra0, extra1, extra2, extra3, extra4 (+4 more)"]


def test_file_is_read_whole(tmp_path):
    save_file({"weight": torch.ones(2, 3)}, tmp_path / "good.safetensors")
    assert torch.equal(read_safetensors(tmp_path / "good.safetensors")["weight"], torch.ones(2, 3))


@pytest.mark.parametrize("kept", [0, 4, 60])
def test_damaged_file_is_refused_by_name(tmp_path, kept):
    path = tmp_path / "cut.safetensors"
    save_file({"weight": torch.ones(2, 3)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"cannot read checkpoint .*cut\.safetensors"):
        read_safetensors(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*gone\.safetensors"):
        read_safetensors(tmp_path / "gone.safetensors")
