"""Recipes: the shipped ones are good, and a wrong one is told by file and field."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from typer.testing import CliRunner

from models.catalogue import NANO_FOLDER, VOCABULARY_FILE
from pipeline.cli.main import app
from pipeline.errors import ConfigError
from pipeline.lab.training.build import build_run
from pipeline.lab.training.recipe import Recipe
from tests.pipeline.lab.training.runs import ALONE, recipe, stage

RECIPES = sorted((Path(__file__).parents[4] / "configs" / "recipes").glob("*.yaml"))
GOOD = "stages: [{name: s, steps: 1, image_size: 56, lr_start: 0.1, lr_end: 0.1}]\n"
OWN_DATA = "data: [{type: coco, images: i, annotations: a}]"


def _sharing(shares, task="detector"):
    return GOOD.replace("steps: 1", f"steps: 1, task: {task}, shares: {shares}")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_can_be_read(path):
    plan = Recipe.load(path)
    assert plan.rate_at(0) <= plan.stages[0].lr_start
    last = plan.stages[-1]
    one_step = (last.lr_start - last.lr_end) / last.steps
    assert plan.rate_at(plan.total_steps - 1) == pytest.approx(last.lr_end + one_step)


def test_a_recipe_builds_a_run_with_its_vocabulary(tmp_path):
    (tmp_path / "r.yaml").write_text("start: shipped\n" + GOOD)
    run = build_run(Recipe.load(tmp_path / "r.yaml"), out=tmp_path, group=ALONE)
    assert not run.is_fresh
    assert run.tokenizer.encode(["deer"]).any()
    assert (NANO_FOLDER / VOCABULARY_FILE).is_file()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stages: []", "stages"),
        (GOOD + "sedd: 3", "sedd"),
        (GOOD.replace("steps: 1", "steps: 0"), r":1: stages\[0\]\.steps"),
        (GOOD + "data: [{type: coco}]", r":2: data\[0\]\.images"),
        (_sharing("[1, 1]"), "'s' has 2 shares; expected one for each of the 1 data"),
        (_sharing("[0]"), "expected one above 0 for data that has pictures"),
        (_sharing("[-1]"), r"stages\[0\]\.shares\[0\]"),
        (GOOD.replace("steps: 1", "steps: 1, rehearse: 8"), "a detector stage with contrast"),
        (
            GOOD.replace("steps: 1", "steps: 1, uncut: true") + OWN_DATA,
            "'s' has uncut True, which only a world obeys",
        ),
        (
            _sharing("[0, 1], questions: 3") + OWN_DATA.replace("[", "[{type: world}, "),
            "'s' has questions 3, which only a world obeys",
        ),
        (
            _sharing("[1], mask_weight: 3", task="refiner"),
            "'s' has mask_weight and task 'refiner'; expected it left out",
        ),
        (
            _sharing("[1]", task="tracker") + OWN_DATA,
            "expected one above 0 for data that has clips",
        ),
        (":", "is not YAML"),
        ("words", "accepted: lines such as 'name: value'"),
    ],
)
def test_a_wrong_recipe_is_told_by_file_and_field(tmp_path, text, told):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"(?s)r\.yaml.*{told}"):
        Recipe.load(path)


def test_a_model_that_is_not_ours_needs_a_start(tmp_path):
    with pytest.raises(ConfigError, match="accepted for sam3: a checkpoint"):
        build_run(recipe(stage(), model="sam3"), out=tmp_path, group=ALONE)
    with pytest.raises(ConfigError, match=r"unknown model .sam9.; known: sam3-nano, sam3"):
        build_run(recipe(stage(), model="sam9"), out=tmp_path, group=ALONE)


def test_train_tells_where_the_weights_are_also_when_nothing_is_left_to_do(tmp_path):
    text = "# My own.\nstart: shipped\n" + GOOD
    (tmp_path / "r.yaml").write_text(text)
    for _ in range(2):
        words = ["train", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "out"), "--json"]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        last = json.loads(done.stdout.splitlines()[-1])
        assert (last["type"], last["steps"]) == ("trained", 1)
        with safe_open(last["weights"], framework="pt") as file:
            assert file.metadata()["recipe"] == text


def test_pictures_of_no_whole_number_of_patches_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"stages\[0\]\.image_size: 57 \(accepted: a multiple"):
        build_run(recipe(stage().model_copy(update={"image_size": 57})), out=tmp_path, group=ALONE)


@pytest.mark.parametrize(
    ("start", "told"),
    [
        ("none.safetensors", "start: no checkpoint at .*none.safetensors"),
        ("r.yaml", "start: .*r.yaml"),
    ],
)
def test_weights_that_cannot_be_started_from_are_told(tmp_path, start, told):
    (tmp_path / "r.yaml").write_text(f"start: {start}\n" + GOOD)
    with pytest.raises(ConfigError, match=told):
        build_run(Recipe.load(tmp_path / "r.yaml"), out=tmp_path, group=ALONE)


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_train_on_a_device_that_is_not_there_is_bad_usage(tmp_path, device):
    (tmp_path / "r.yaml").write_text("start: shipped\n" + GOOD)
    words = ["train", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "out"), "--device", device]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert repr(device) in done.stderr
    assert "accepted: auto, cpu" in done.stderr
