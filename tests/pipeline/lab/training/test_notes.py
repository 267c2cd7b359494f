"""Weights tell the recipe, seed, steps and curves that they came about by."""

import json

import pytest
from safetensors import safe_open
from typer.testing import CliRunner

from models.catalogue import NANO_FOLDER
from models.checkpoints.weights import read_safetensors, write_safetensors
from pipeline.cli.main import app
from pipeline.lab.training.state import MODEL_FILE
from pipeline.lab.training.weight_metadata import (
    LOG_FILE,
    MAX_CURVES,
    curves_of,
    read_rows,
)
from tests.pipeline.lab.training.runs import recipe, run, stage

TERMS = ("presence", "boxes", "masks", "loss", "lr", "grad_norm")


def notes_in(folder):
    with safe_open(folder / MODEL_FILE, framework="pt") as file:
        return file.metadata()


def rows_of(count, stage_name="find"):
    return [
        {"step": 20 * (i + 1), "stage": stage_name, "seconds": 0.3}
        | dict.fromkeys(TERMS, (i + 1) * 1.2345678)
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("noted")
    run(recipe(stage("look", task="backbone", steps=1), stage("again", task="backbone")), out)
    return out


def test_weights_tell_how_they_came_about(trained):
    notes = notes_in(trained)
    told = json.loads(notes["recipe"])
    assert [one["name"] for one in told["stages"]] == ["look", "again"]
    assert (notes["seed"], notes["steps"]) == ("0", "3")
    curves = json.loads(notes["curves"])
    assert [columns["step"] for columns in curves.values()] == [[1], [3]]
    (row,) = (row for row in read_rows(trained / LOG_FILE, upto=3) if row["step"] == 3)
    assert curves["again"]["loss"][0] == pytest.approx(row["loss"], rel=1e-3)
    assert "seconds" not in curves["again"]


def test_inspect_shows_the_notes(trained, tmp_path):
    folder = tmp_path / "noted"
    folder.mkdir()
    for file in NANO_FOLDER.glob("*.json"):
        (folder / file.name).write_bytes(file.read_bytes())
    notes = notes_in(trained) | {"recipe": "# why so\nseed: 0\n"}
    state = read_safetensors(NANO_FOLDER / MODEL_FILE)
    write_safetensors(state, folder / MODEL_FILE, metadata=notes)
    done = CliRunner().invoke(app, ["models", "inspect", str(folder)])
    assert done.exit_code == 0, done.stderr
    lines = {line.strip() for line in done.stdout.splitlines()}
    assert "seed: 0" in lines
    assert any(line.startswith("says steps") and line.endswith(" 3") for line in lines)
    assert any(line.startswith("again, steps 3 to 3: loss ") for line in lines)


def test_long_curves_are_averaged_until_they_are_small():
    rows = rows_of(1500)
    text = curves_of(rows)
    assert MAX_CURVES / 4 < len(text) <= MAX_CURVES
    (columns,) = json.loads(text).values()
    assert columns["step"][-1] == rows[-1]["step"]
    merged = columns["step"][0] // 20
    assert columns["loss"][0] == pytest.approx(1.2345678 * (merged + 1) / 2, rel=1e-3)


def test_what_is_not_finite_leaves_a_gap():
    rows = [
        row | {"loss": value}
        for row, value in zip(rows_of(3), (1.0, float("nan"), 2.0), strict=True)
    ]
    assert json.loads(curves_of(rows))["find"]["loss"] == [1.0, None, 2.0]


def test_rows_that_a_kill_cut_off_or_lost_are_passed_over(tmp_path):
    text = "".join(json.dumps(row) + "\n" for row in rows_of(3))
    (tmp_path / LOG_FILE).write_text(text[:-20])
    assert [row["step"] for row in read_rows(tmp_path / LOG_FILE, upto=20)] == [20]
    assert [row["step"] for row in read_rows(tmp_path / LOG_FILE, upto=999)] == [20, 40]
    assert read_rows(tmp_path / "none", upto=9) == []
