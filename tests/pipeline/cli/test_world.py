import json

import av
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from typer.testing import CliRunner

from connectors.pictures.stills import read_picture
from connectors.world.config import WorldSourceConfig
from connectors.world.source import open_world
from connectors.world.wide.phrases import PHRASES, Verdict
from pipeline.cli.main import app
from pipeline.lab.data.datasets.problems import OnBad, Problems
from pipeline.lab.data.datasets.ytvis import read_clips

# pycocotools' own decoder warns with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FLAGS = ("--width", "96", "--height", "80", "--duration", "4", "--fps", "5")
SEEDS = (2, 3)


def film(folder, *flags):
    return CliRunner().invoke(app, ["world", "--out", str(folder), *FLAGS, *flags])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("films")
    done = film(out, "--seed", "2", "--films", "2", "--night", "0")
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def content(folder):
    return json.loads((folder / "annotations.json").read_text())


@pytest.fixture(scope="module")
def worlds():
    fields = {"style": "wide", "width": 96, "height": 80, "duration_s": 4, "fps": 5.0,
              "max_objects": 6, "night_probability": 0.0}  # fmt: skip
    return [open_world(WorldSourceConfig(seed=seed, **fields).to_world()) for seed in SEEDS]


def decode(segmentation):
    return coco_mask.decode(segmentation).astype(bool)


def test_frames_and_videos_are_there(folder, content, worlds):
    for video, world in zip(content["videos"], worlds, strict=True):
        assert video["length"] == len(video["file_names"]) == world.num_frames == 20
        pixels = read_picture(folder / "frames" / video["file_names"][9]).astype(int)
        assert np.abs(pixels - world.render(9).pixels).mean() < 6
        with av.open(folder / "videos" / f"{video['video_name']}.mp4") as container:
            frames = list(container.decode(video=0))
        assert (frames[0].width, frames[0].height, len(frames)) == (96, 80, 20)


def test_objects_hold_the_worlds_truth(content, worlds):
    for thing in content["objects"]:
        world = worlds[thing["video_id"]]
        for index in (0, 7, 19):
            found = {o.object_id: o for o in world.render(index).objects}.get(thing["object_id"])
            full = thing["full_segmentations"][index]
            assert (full is None) == (found is None)
            if found is not None:
                assert np.array_equal(decode(full), found.full_mask)
                assert thing["visibilities"][index] == pytest.approx(found.visibility, abs=1e-4)


def test_only_the_wide_world_has_parts(tmp_path, folder):
    done = film(tmp_path / "meadow", "--style", "meadow", "--split", "train")
    assert done.exit_code == 2
    assert "--split: not with --style meadow (accepted: --style wide)" in done.stderr
    film(tmp_path, "--style", "meadow", "--no-video", "--duration", "0.2")
    told = [
        json.loads((out / "annotations.json").read_text())["info"]["description"]
        for out in (folder, tmp_path)
    ]
    assert told == ["maskstream's wide world, split train", "maskstream's meadow world"]


def test_masklets_are_what_is_visible_with_box_and_area(content):
    truth = {(t["video_id"], t["object_id"]): t for t in content["objects"]}
    assert content["annotations"]
    for masklet in content["annotations"]:
        shown = truth[masklet["video_id"], masklet["object_id"]]["visible_segmentations"]
        assert masklet["segmentations"] == shown
        for segmentation, box, area in zip(shown, masklet["bboxes"], masklet["areas"], strict=True):
            assert (segmentation is None) == (box is None) == (area is None)
            if segmentation is not None:
                assert decode(segmentation).sum() == area
                assert coco_mask.toBbox(segmentation).tolist() == box


def test_every_phrase_has_all_its_masklets_and_negatives_none(content):
    names = {category["id"]: category["name"] for category in content["categories"]}
    counts = []
    for pair in content["video_np_pairs"]:
        assert names[pair["category_id"]] == pair["noun_phrase"]
        phrase = PHRASES[pair["noun_phrase"]]
        masklets = [
            m["object_id"]
            for m in content["annotations"]
            if (m["video_id"], m["category_id"]) == (pair["video_id"], pair["category_id"])
        ]
        covered = [
            t["object_id"]
            for t in content["objects"]
            if t["video_id"] == pair["video_id"]
            and any(t["visible_segmentations"])
            and covers(phrase, t)
        ]
        assert sorted(masklets) == sorted(covered)
        assert len(masklets) == pair["num_masklets"]
        counts.append(len(masklets))
    assert counts.count(0) >= 6
    assert max(counts) >= 1


def covers(phrase, thing):
    from tests.connectors.world.test_wide_catalogue import make_thing

    made = make_thing(thing["concept"], *thing["attributes"])
    return phrase.verdict(made) is Verdict.YES


def test_evaluations_reader_takes_it(folder, content):
    problems = Problems(on_bad=OnBad.FAIL)
    clips = read_clips(folder / "annotations.json", problems, root=folder / "frames")
    assert problems.lines == []
    assert clips.has_negatives
    assert sum(len(clip.asked) for clip in clips.clips) == len(content["video_np_pairs"])
    assert sum(len(clip.truth) for clip in clips.clips) == len(content["annotations"])


def test_cocos_own_reader_takes_the_single_frames(folder, capsys):
    coco = COCO(folder / "instances.json")
    assert len(coco.getImgIds()) == 40
    annotations = coco.loadAnns(coco.getAnnIds())
    assert annotations
    assert all(coco.annToMask(one).sum() == one["area"] for one in annotations)


def test_same_flags_give_the_same_bytes(folder, tmp_path):
    assert film(tmp_path, "--seed", "2", "--films", "2", "--night", "0").exit_code == 0
    for name in ("annotations.json", "instances.json", "frames/wide_000003/00019.jpg"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_meadow_is_filmed_too_and_told_as_json(tmp_path):
    done = film(tmp_path, "--style", "meadow", "--json", "--no-video", "--seed", "5")
    (line,) = map(json.loads, done.stdout.splitlines())
    assert (line["name"], line["frames"], line["concepts"]) == ("meadow_000005", 20, 12)
    assert 0 < line["negatives"] < line["phrases"]
    assert not (tmp_path / "videos").exists()


@pytest.mark.parametrize("flag", [("--night", "3"), ("--max-objects", "0"), ("--fps", "0")])
def test_bad_flags_are_named(tmp_path, flag):
    done = film(tmp_path, *flag)
    assert done.exit_code == 2
    assert flag[0] in done.stderr


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "taken").touch()
    done = film(tmp_path / "taken")
    assert done.exit_code == 1
    assert "taken" in done.stderr
