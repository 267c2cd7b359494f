"""``maskstream segment`` as people run it: pictures in, COCO, masks and drawings out."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import CliRunner

from connectors.pictures.stills import write_picture
from connectors.world.still import StillConfig, render_still
from pipeline.cli.main import app
from tests.e2e.runs import run_to_end

# pycocotools' decoder is older than numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SCENE = StillConfig(
    concepts=("bus", "car"),
    min_objects=2,
    max_objects=2,
    empty_probability=0,
    night_probability=0,
    prop_probability=0,
)


@pytest.fixture(scope="module")
def still():
    return render_still(np.random.default_rng(7), size=320, config=SCENE)


@pytest.fixture
def picture(still, tmp_path):
    path = tmp_path / "in" / "field.png"
    path.parent.mkdir()
    write_picture(path, still.pixels)
    return path


@dataclass(frozen=True)
class Ran:
    """What a run of the command said and left behind, opened as other people's tools do."""

    code: int
    lines: list
    told: str
    coco: COCO


def segment(*words, folder, in_process=True):
    """Run the command, here or in a process of its own, which takes long to start."""
    words = ["segment", *map(str, words), "--out", str(folder / "out"), "--json"]
    if in_process:
        done = CliRunner().invoke(app, words)
        code, said, told = done.exit_code, done.stdout, done.stderr
    else:
        code = run_to_end(*words, folder=folder)
        said, told = ((folder / name).read_text() for name in ("stdout", "stderr"))
    lines = [json.loads(line) for line in said.splitlines()]
    return Ran(code, lines, told, COCO(folder / "out" / "annotations.json"))


def assert_files_agree(coco, folder):
    """Every mask file is the mask of the JSON, and every picture has its drawing."""
    for annotation in coco.anns.values():
        plane = np.asarray(Image.open(folder / "out" / annotation["mask"]))
        mask = coco.annToMask(annotation)
        assert set(np.unique(plane)) <= {0, 255}
        assert np.array_equal(plane > 0, mask)
        assert annotation["area"] == mask.sum() > 0
        columns, rows = np.nonzero(mask.any(axis=0))[0], np.nonzero(mask.any(axis=1))[0]
        box = [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert annotation["bbox"] == box
    for image in coco.imgs.values():
        name = image["file_name"].rpartition(".")[0]
        with Image.open(folder / "out" / "overlays" / f"{name}.jpg") as drawn:
            assert min(drawn.size) >= 960


def best_iou(coco, truth):
    masks = [coco.annToMask(annotation).astype(bool) for annotation in coco.anns.values()]
    return max(np.count_nonzero(m & truth) / np.count_nonzero(m | truth) for m in masks)


def box_around(mask):
    columns, rows = np.nonzero(mask.any(axis=0))[0], np.nonzero(mask.any(axis=1))[0]
    return f"{columns[0]},{rows[0]},{np.ptp(columns) + 1},{np.ptp(rows) + 1}"


def test_phrases_find_what_is_there_and_broken_pictures_are_passed_over(still, picture, tmp_path):
    (picture.parent / "broken.jpg").write_bytes(b"\xff\xd8\xff garbage")
    words = ("--concept", "bus", "--concept", "car", "--concept", "pig")
    ran = segment(picture.parent, *words, folder=tmp_path, in_process=False)
    assert ran.code == 0  # one picture was answered, and nobody asked for --strict
    assert "broken.jpg" in ran.told
    assert ran.lines[-1]["failed"] == ran.lines[-1]["pictures"] == 1
    assert [category["name"] for category in ran.coco.cats.values()] == ["bus", "car", "pig"]
    assert ran.coco.imgs[1]["presence_scores"]["pig"] < 0.5
    for thing in still.objects:
        assert best_iou(ran.coco, thing.visible_mask) > 0.6
    assert_files_agree(ran.coco, tmp_path)


def test_an_exemplar_finds_its_like(still, picture, tmp_path):
    box = box_around(still.objects[0].visible_mask)
    ran = segment(picture, "--exemplar", box, folder=tmp_path)
    assert (ran.code, ran.coco.cats[1]["name"]) == (0, "visual")
    assert best_iou(ran.coco, still.objects[0].visible_mask) > 0.6
    assert_files_agree(ran.coco, tmp_path)


def test_a_mask_finds_its_object(still, picture, tmp_path):
    truth = still.objects[0].visible_mask
    write_picture(tmp_path / "mask.png", truth.astype(np.uint8) * 255)
    ran = segment(picture, "--mask", tmp_path / "mask.png", folder=tmp_path)
    assert (ran.code, len(ran.coco.anns)) == (0, 1)
    assert best_iou(ran.coco, truth) > 0.7
    assert ran.coco.anns[1]["predicted_iou"] == ran.coco.anns[1]["score"] > 0.5
    assert_files_agree(ran.coco, tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ["--point", "100,100", "--point", "5,5,neg", "--box", "60,60,200,200"],
        ["--box", "20,20,80,80", "--box", "60,60,200,200"],
        ["--everything", "--min-score", "0.1"],
    ],
    ids=["points", "boxes", "everything"],
)
def test_clicks_are_answered_with_a_warning_by_a_model_that_did_not_learn_them(
    picture, tmp_path, words
):
    ran = segment(picture, *words, folder=tmp_path)
    assert (ran.code, ran.lines[-1]["ok"]) == (0, True)
    assert "warning: sam3-nano was not trained to answer points and boxes" in ran.told
    assert all("predicted_iou" in annotation for annotation in ran.coco.anns.values())
    assert_files_agree(ran.coco, tmp_path)
