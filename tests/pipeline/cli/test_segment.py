"""``maskstream segment`` with the shipped model: pictures of every kind, and what goes wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from connectors.pictures.stills import write_picture
from connectors.world.still import StillConfig, render_still
from models.common.masks import RunLengths
from pipeline.cli.main import app
from tests.connectors.pictures.test_stills import STORED, png_rgb16

# A picture on which the shipped model is sure of the one object.
BUS = StillConfig(
    concepts=("bus",), max_objects=1, empty_probability=0, night_probability=0, prop_probability=0
)
ASK = ("--concept", "bus")


@pytest.fixture(scope="module")
def still():
    return render_still(np.random.default_rng(0), size=168, config=BUS)


def call(*words):
    return CliRunner().invoke(app, ["segment", *map(str, words)])


def lines_of(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def mask_of(segmentation):
    return RunLengths.from_counts(segmentation["counts"], segmentation["size"]).mask()


def masks_of(folder):
    """Masks by the name of their picture, best first."""
    body = json.loads((folder / "annotations.json").read_text())
    return {
        image["file_name"]: [
            mask_of(one["segmentation"])
            for one in body["annotations"]
            if one["image_id"] == image["id"]
        ]
        for image in body["images"]
    }


def iou(one, other):
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


def save_every_kind(folder, pixels):
    """Write one picture in every way that keeps, or nearly keeps, its colours."""
    image = Image.fromarray(pixels)
    image.save(folder / "plain.png")
    for mode in ("RGBA", "P", "CMYK"):
        kind = "tif" if mode == "CMYK" else "png"
        image.convert(mode).save(folder / f"{mode}.{kind}")
    image.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    for kind in ("jpg", "webp", "bmp", "gif", "avif", "tif", "ppm"):
        image.save(folder / f"kind-{kind}.{kind}")
    (folder / "deep.png").write_bytes(png_rgb16(pixels.astype(np.uint16) * 257))


def test_pictures_of_every_kind_give_the_same_object(still, tmp_path):
    (tmp_path / "in").mkdir()
    save_every_kind(tmp_path / "in", still.pixels)
    done = call(tmp_path / "in", *ASK, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    found = masks_of(tmp_path / "out")
    assert len(found) == 13
    for [mask] in found.values():
        assert iou(mask, still.objects[0].visible_mask) > 0.85
        assert iou(mask, found["plain.png"][0]) > 0.9


def test_masks_of_turned_pictures_are_upright(still, tmp_path):
    upright = still.pixels[:140]
    for orientation, stored in STORED.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = Image.fromarray(np.ascontiguousarray(stored(upright)))
        turned.save(tmp_path / f"{orientation}.png", exif=exif)
    assert call(tmp_path / "*.png", *ASK, "--out", tmp_path / "out").exit_code == 0
    first, *others = masks_of(tmp_path / "out").values()
    assert iou(first[0], still.objects[0].visible_mask[:140]) > 0.7
    for masks in others:
        assert np.array_equal(masks, first)


def test_pictures_without_colours_are_answered(still, tmp_path):
    grey = Image.fromarray(still.pixels).convert("L")
    for mode in ("L", "LA", "1"):
        grey.convert(mode).save(tmp_path / f"{mode}.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    grey.convert("F").save(tmp_path / "float.tif")
    assert call(tmp_path, *ASK, "--out", tmp_path / "out").exit_code == 0
    found = masks_of(tmp_path / "out")
    assert len(found) == 5
    for name in ("LA.png", "deep.png", "float.tif"):
        assert np.array_equal(found[name], found["L.png"])


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (7680, 4320)])
def test_pictures_of_any_size_are_answered(tmp_path, size):
    Image.new("RGB", size, (90, 120, 60)).save(tmp_path / "a.png", compress_level=1)
    done = call(tmp_path / "a.png", *ASK, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    for mask in masks_of(tmp_path / "out")["a.png"]:
        assert mask.shape == size[::-1]


def test_a_broken_picture_is_told_and_the_others_go_on(still, tmp_path):
    for name in ("a", "c"):
        write_picture(tmp_path / f"{name}.png", still.pixels)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:5000])
    done = call(tmp_path, tmp_path / "none.png", *ASK, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0
    assert [name for name, masks in masks_of(tmp_path / "out").items() if masks] == [
        "a.png", "c.png"
    ]  # fmt: skip
    told = [line["reason"] for line in lines_of(done) if line["type"] == "error"]
    assert ["none.png" in told[0], "b.png" in told[1], len(told)] == [True, True, 2]
    assert lines_of(done)[-1] == {
        "type": "summary", "pictures": 2, "failed": 2, "objects": 2, "ok": False,
        "out": str(tmp_path / "out"),
    }  # fmt: skip


def test_an_exemplar_off_the_picture_is_about_that_picture_alone(still, tmp_path):
    write_picture(tmp_path / "a.png", still.pixels)
    write_picture(tmp_path / "b.png", still.pixels[:50, :50])
    box = ("--exemplar", "70,70,60,50")
    done = call(tmp_path, *ASK, *box, "--out", tmp_path / "out", "--strict")
    assert done.exit_code == 1
    assert "1 objects on 1 pictures, 1 failed: " in done.stdout.splitlines()[-1]
    assert "b.png': --exemplar 70,70,60,50 is not on the picture; accepted" in done.stderr
    assert list(masks_of(tmp_path / "out")) == ["a.png"]


def test_no_answer_at_all_is_code_1(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    done = call(tmp_path, *ASK, "--out", tmp_path / "out", "--json")
    assert (done.exit_code, lines_of(done)[-1]["failed"]) == (1, 1)


def test_min_score_decides_what_is_found(still, tmp_path):
    write_picture(tmp_path / "a.png", still.pixels)
    numbers = []
    for bound in ("0", "0.5", "1"):
        call(tmp_path / "a.png", *ASK, "--min-score", bound, "--out", tmp_path / bound)
        numbers.append(len(masks_of(tmp_path / bound)["a.png"]))
    assert numbers[0] > numbers[1] == 1 > numbers[2] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "nothing is asked"),
        (["--point", "1;2"], "--point: bad value '1;2' (accepted: x,y in px"),
        (["--concept", "deer", "--everything"], "cannot be answered at once"),
        (["--concept", "deer", "--model", "yolo"], "sam3-nano"),
        (["--concept", "deer", "--device", "tpu"], "device"),
        (["--concept", "deer", "--min-score", "2"], "min-score"),
        (["--concept", "deer", "--model", "sam3"], "checkpoint"),
        (
            ["--concept", "deer", "--model", "sam1-b"],
            "sam1-b knows no concepts (accepted with it: ",
        ),
        (["--exemplar", "1,2,3,4", "--model", "sam2.1-tiny"], "--point, --box and --mask, or"),
        (["--point", "1,2", "--checkpoint", "none.pth"], "none.pth"),
        (["--mask", "none.png"], "--mask: picture 'none.png': no such file"),
    ],
)
def test_bad_usage_is_told_with_code_2(tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    done = call("a.png", *words)
    assert (done.exit_code, told in done.stderr) == (2, True), done.output
    assert not Path("segment-out").exists()


def test_results_that_cannot_be_written_are_told(still, tmp_path):
    write_picture(tmp_path / "a.png", still.pixels)
    (tmp_path / "taken").touch()
    done = call(tmp_path / "a.png", *ASK, "--out", tmp_path / "taken")
    assert (done.exit_code, "taken" in done.stderr) == (1, True)
