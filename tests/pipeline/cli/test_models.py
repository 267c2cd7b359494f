"""The commands ``maskstream models …``: what they print, write and refuse."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from models.build import build_network
from models.catalogue import MODELS, NANO_FOLDER
from models.checkpoints.checkpoint import open_checkpoint
from models.sam3.network.keys import REFINER
from pipeline.cli.main import app


def call(*words):
    return CliRunner().invoke(app, ["models", *(str(word) for word in words)])


def lines_of(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKSTREAM_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_list_names_all_models_and_where_they_are(own_folder):
    (own_folder / "sam1-b").mkdir(parents=True)
    (own_folder / "sam1-b" / "model.safetensors").write_bytes(b"")
    found = {line["name"]: line for line in lines_of(call("list", "--json"))}
    assert tuple(found) == tuple(MODELS)
    assert found["sam1-b"]["folder"] == str(own_folder / "sam1-b")
    assert found["sam3"]["folder"] is None
    assert found["sam3"]["is_gated"]


def test_list_is_a_table_for_people():
    done = call("list")
    assert all(name in done.stdout for name in MODELS)
    assert "pull, on request" in done.stdout


def test_list_imports_no_torch():
    script = (
        "import sys; from typer.testing import CliRunner; from pipeline.cli.main import app;"
        "done = CliRunner().invoke(app, ['models', 'list']);"
        "sys.exit(done.exit_code or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("what", ["sam3-nano", NANO_FOLDER, NANO_FOLDER / "model.safetensors"])
def test_inspect_takes_a_name_a_folder_or_a_file(what):
    (told,) = lines_of(call("inspect", what, "--json"))
    assert (told["name"], told["layout"], told["part"]) == ("sam3-nano", "transformers", "whole")
    assert told["num_parameters"] == sum(told["components"].values()) == 3_954_417
    assert told["missing"] == []


def test_inspect_tells_people_the_size_of_each_part():
    done = call("inspect", "sam3")
    assert "859,921,848" in done.stdout
    assert "none here" in done.stdout
    assert "detector_model.text_encoder" in done.stdout


def test_inspect_tells_what_is_missing(tmp_path):
    assert call("convert", NANO_FOLDER, tmp_path / "n.pt", "--layout", "official").exit_code == 0
    done = call("inspect", tmp_path / "n.pt")
    assert "official" in done.stdout
    assert "fault: no vocabulary at" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("inspect", "yolo"), 2, "unknown model 'yolo'"),
        (("inspect", "sam3", "--checkpoint", NANO_FOLDER), 1, "holds sam3-nano; expected sam3"),
        (("inspect", "pyproject.toml"), 1, "is no checkpoint"),
        (("pull", "yolo"), 2, "unknown model 'yolo'"),
        (("pull", "sam3-nano"), 1, "ships with the package"),
        (("convert", "gone.pt", "out"), 1, "no checkpoint at 'gone.pt'"),
        (("convert", NANO_FOLDER, "out.pt"), 2, "accepted with --layout transformers: a folder"),
        (("convert", NANO_FOLDER, "out", "--layout", "official"), 2, "a .pt or .pth file"),
        (("convert", NANO_FOLDER, "out", "--dtype", "int4"), 2, "float32"),
    ],
)
def test_what_cannot_be_done_is_told(words, code, told):
    done = call(*words)
    assert done.exit_code == code
    assert told in " ".join(done.stderr.split())


def test_an_unexpected_key_is_told_as_a_fault(tmp_path):
    state = load_file(NANO_FOLDER / "model.safetensors")
    save_file(state | {"extra.weight": torch.zeros(3)}, tmp_path / "m.safetensors")
    (tmp_path / "tokenizer.json").write_bytes((NANO_FOLDER / "tokenizer.json").read_bytes())
    done = call("inspect", tmp_path / "m.safetensors")
    assert done.stderr == "warning: fault: 1 unexpected: extra.weight\n"


def test_weights_without_their_vocabulary_are_not_converted_by_half(tmp_path):
    assert call("convert", NANO_FOLDER, tmp_path / "n.pt", "--layout", "official").exit_code == 0
    done = call("convert", tmp_path / "n.pt", tmp_path / "out")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: no vocabulary at")
    assert not (tmp_path / "out").exists()


def test_a_target_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "taken").touch()
    done = call("convert", NANO_FOLDER, tmp_path / "taken" / "out", "--json")
    assert done.exit_code == 1
    assert "taken" in done.stderr
    assert "cannot be read or written: Not a directory" in done.stderr
    assert [line["type"] for line in lines_of(done)] == ["error"]


def test_convert_writes_a_folder_that_opens_again(tmp_path):
    target = tmp_path / "half"
    (done,) = lines_of(call("convert", NANO_FOLDER, target, "--dtype", "bfloat16", "--json"))
    assert {path.rsplit("/")[-1] for path in done["files"]} == {
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
        "tokenizer_config.json",
        "tokenizer.json",
    }
    (told,) = lines_of(call("inspect", target, "--json"))
    assert set(told["dtypes"]) == {"bfloat16"}
    assert told["missing"] == []


def test_convert_there_and_back_changes_nothing_that_is_used(tmp_path):
    official = tmp_path / "n.pt"
    assert call("convert", NANO_FOLDER, official, "--layout", "official").exit_code == 0
    (tmp_path / "tokenizer.json").write_bytes((NANO_FOLDER / "tokenizer.json").read_bytes())
    assert call("convert", official, tmp_path / "back").exit_code == 0
    before, after = (open_checkpoint(p).state for p in (NANO_FOLDER, tmp_path / "back"))
    left_out = before.keys() - after.keys()
    assert left_out == {name for name in before if name.startswith(REFINER)}
    assert after.keys() <= before.keys()
    assert all(before[name].equal(after[name]) for name in after)


def test_what_the_weights_say_of_themselves_is_kept(tmp_path):
    call("convert", NANO_FOLDER, tmp_path / "copy", "--layout", "maskstream")
    with safe_open(tmp_path / "copy" / "model.safetensors", framework="pt") as file:
        assert file.metadata()["format"] == "pt"


def test_exported_part_gives_the_models_numbers(tmp_path):
    (done,) = lines_of(call("export", "sam3-nano", tmp_path / "onnx", "--part", "text", "--json"))
    assert (done["part"], done["inputs"]) == ("text", {"token_ids": ["objects", 16]})
    session = onnxruntime.InferenceSession(done["file"])
    token_ids = np.array([[1, 5, 6, 2, *[0] * 12]] * 3)
    with torch.no_grad():
        expected = build_network("sam3-nano").detector_model.encode_text(torch.tensor(token_ids))
    text, is_valid = session.run(done["outputs"], {"token_ids": token_ids})
    assert is_valid.tolist() == expected.is_valid.tolist()
    # What is masked is not computed here and is in the graph.
    error = np.abs(text - expected.tokens.numpy())[is_valid]
    assert error.max() < 1e-4


def test_export_names_the_parts_there_are(tmp_path):
    done = call("export", "sam3-nano", tmp_path / "onnx", "--part", "decoder")
    assert done.exit_code == 1
    assert "no part 'decoder'; accepted: encoder, text, detector" in done.stderr
