"""Files of every kind that weights come in, and files that are none."""

import json
import os
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from models.checkpoints.checkpoint import open_checkpoint
from models.checkpoints.weights import CheckpointError

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(1, dtype=torch.bfloat16)}


def write_safetensors_file(folder):
    save_file(STATE, folder / "any.bin", {"made_by": "test"})
    return folder / "any.bin"


def write_torch_file(folder):
    torch.save(STATE, folder / "any.safetensors")
    return folder / "any.safetensors"


def write_wrapped_file(folder):
    torch.save({"model": STATE, "epoch": 3}, folder / "wrapped.pt")
    return folder / "wrapped.pt"


def write_old_torch_file(folder):
    torch.save(STATE, folder / "old.pth", _use_new_zipfile_serialization=False)
    return folder / "old.pth"


def write_shards(folder):
    shards = {"one.safetensors": ["a.weight"], "two.safetensors": ["b"]}
    for name, keys in shards.items():
        save_file({key: STATE[key] for key in keys}, folder / name)
    weight_map = {key: name for name, keys in shards.items() for key in keys}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def write_folder(folder):
    save_file(STATE, folder / "model.safetensors")
    torch.save({}, folder / "training_args.pt")
    return folder


def write_lone_file(folder):
    write_wrapped_file(folder)
    return folder


KINDS = [
    write_safetensors_file,
    write_torch_file,
    write_wrapped_file,
    write_old_torch_file,
    write_shards,
    write_folder,
    write_lone_file,
]


@pytest.mark.parametrize("write", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_gives_the_same_weights(tmp_path, write):
    checkpoint = open_checkpoint(write(tmp_path))
    assert checkpoint.state.keys() == STATE.keys()
    for name, value in STATE.items():
        assert torch.equal(checkpoint.state[name], value)
    assert checkpoint.folder == tmp_path
    assert checkpoint.num_bytes > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
@pytest.mark.parametrize("write", KINDS, ids=lambda kind: kind.__name__)
def test_only_old_or_misnamed_torch_files_are_not_mapped(tmp_path, write):
    checkpoint = open_checkpoint(write(tmp_path))
    assert checkpoint.is_mapped == (write not in (write_old_torch_file, write_torch_file))


def test_released_weights_are_read_again(tmp_path):
    state = {"large": torch.arange(2**20).float(), "other": torch.ones(2**16)}
    torch.save(state, tmp_path / "large.pt")
    checkpoint = open_checkpoint(tmp_path / "large.pt")
    checkpoint.release("large")
    for name, value in state.items():
        assert torch.equal(checkpoint.state[name], value)


def test_what_a_safetensors_file_says_is_kept(tmp_path):
    assert open_checkpoint(write_safetensors_file(tmp_path)).metadata == {"made_by": "test"}


def test_no_length_of_header_is_taken_for_another_kind(tmp_path):
    """Whatever the first byte: 0x80 begins a pickle too, and "PK" an archive."""
    seen = set()
    for length in range(0, 512, 8):
        file = tmp_path / "weights.safetensors"
        save_file(STATE, file, {"said": "x" * length})
        seen.add(file.read_bytes()[0])
        assert open_checkpoint(file).metadata == {"said": "x" * length}
    assert ord(b"\x80") in seen


class Attack:
    def __reduce__(self):
        return (os.mkdir, ("harmed",))


@pytest.mark.parametrize("is_zip", [True, False])
def test_code_is_refused_and_not_run(tmp_path, monkeypatch, is_zip):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Attack()}, "evil.pt", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(CheckpointError, match=r"evil\.pt' holds more than tensors.*refused"):
        open_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty; expected a .safetensors"),
        (b"<!DOCTYPE html><html>Sign in", "is a web page, not weights"),
        (b"  <html><body>404", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\nabc", "is no checkpoint .it begins with"),
        (b"\x10\0\0\0\0\0\0\0{not json at all", "cannot read checkpoint"),
        (b"PK\x03\x04 but nothing more", "damaged or cut short"),
        (b"\x80\x02 but nothing more", "damaged or cut short|holds more than tensors"),
    ],
)
def test_files_that_are_something_else_are_named(tmp_path, content, told):
    path = tmp_path / "sam.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=told):
        open_checkpoint(path)


@pytest.mark.parametrize("write", KINDS[:4], ids=lambda kind: kind.__name__)
@settings(max_examples=12, deadline=None)
@given(share=st.floats(0, 0.99))
def test_files_cut_short_are_refused(tmp_path_factory, write, share):
    path = write(tmp_path_factory.mktemp("cut"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match=path.name):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ({"epoch": 3, "lr": 0.1}, "2 entries that are no tensors, such as epoch, lr"),
        ([torch.ones(1)], "holds a list"),
        (torch.ones(1), "holds a Tensor"),
        ({}, "0 entries"),
    ],
)
def test_torch_files_without_named_tensors_are_told(tmp_path, held, told):
    torch.save(held, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=told):
        open_checkpoint(tmp_path / "x.pt")


def test_nothing_there_is_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*gone"):
        open_checkpoint(tmp_path / "gone")


def test_folder_with_two_or_none_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="holds these checkpoints: none"):
        open_checkpoint(tmp_path)
    for name in ("a.pt", "b.pth"):
        torch.save(STATE, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"a\.pt, b\.pth; expected one"):
        open_checkpoint(tmp_path)


def test_shard_that_lacks_or_lies_elsewhere_is_told(tmp_path):
    write_shards(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    text = index.read_text()
    index.write_text(text.replace("two.safetensors", "../two.safetensors"))
    with pytest.raises(CheckpointError, match=r"names '\.\./two\.safetensors'"):
        open_checkpoint(tmp_path)
    index.write_text(text.replace('"b"', '"c"'))
    with pytest.raises(CheckpointError, match="disagree on 2 names: b, c"):
        open_checkpoint(tmp_path)
    index.write_text("[]")
    with pytest.raises(CheckpointError, match="no index of shards"):
        open_checkpoint(tmp_path)
