"""The demo, whole: what it says it saw is what was there."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from connectors.world.scene import DEMO, World
from tests.e2e.runs import KINDS, SCHEMAS, run_to_end
from tests.e2e.scenes import ious_with_truth

NUM_FRAMES = World(DEMO).num_frames


@dataclass(frozen=True)
class Shown:
    """What the demo left behind."""

    exit_code: int
    summary: dict
    folder: Path

    def bodies(self, kind):
        text = (self.folder / f"{kind}.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    code = run_to_end("demo", "--out", folder / "out", "--json", folder=folder)
    summary = json.loads((folder / "stdout").read_text().splitlines()[-1])
    return Shown(exit_code=code, summary=summary, folder=folder / "out")


def test_demo_ends_well_with_a_summary(shown):
    assert (shown.exit_code, shown.summary["ok"]) == (0, True)
    [stream] = shown.summary["streams"]
    assert stream["counts"]["processed"] == stream["counts"]["received"] == NUM_FRAMES


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_fits_its_schema(shown, kind):
    bodies = shown.bodies(kind)
    for body in bodies:
        SCHEMAS[kind].validate(body)
    assert bodies


def test_two_deer_a_car_and_a_turkey_are_seen(shown):
    tracks = shown.bodies("tracks")
    confirmed = Counter(body["concept"] for body in tracks if body["kind"] == "confirmed")
    # The deer that hides behind the trunk may be given a second number when it comes out.
    assert confirmed["car"] == confirmed["turkey"] == 1
    assert 2 <= confirmed["deer"] <= 3
    assert set(confirmed) == {"deer", "car", "turkey"}


def test_events_tell_what_each_rule_is_about(shown):
    rules = Counter(body["rule"] for body in shown.bodies("events") if body["phase"] == "new")
    assert rules["seen"] >= 4
    assert rules["out of sight"] >= 1
    assert rules["enters clearing"] >= 2


def test_masks_lie_on_what_was_drawn(shown):
    world = World(DEMO)
    ious = [
        iou
        for body in shown.bodies("masklets")[::5]
        for iou in ious_with_truth(world, body, body["frame_seq"])
    ]
    assert len(ious) >= NUM_FRAMES // 5
    assert np.median(ious) >= 0.5


def test_video_has_every_frame_and_the_picture_shows_one(shown):
    with av.open(shown.folder / "demo.mp4") as container:
        frames = list(container.decode(video=0))
    assert len(frames) == NUM_FRAMES
    picture = cv2.imread(str(shown.folder / "demo.png"))
    assert picture.shape[:2] == (frames[0].height, frames[0].width)
    assert picture.std() > 10
