"""A camera with a password, the shipped model, a broker: what is published is what was filmed."""

import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from kafka import KafkaConsumer

from connectors.world.scene import World
from tests.e2e.runs import (
    KINDS,
    RUN_S,
    assert_ids_are_unique,
    assert_published_as_promised,
    bodies,
    maskstream,
    read_all,
    topic_of,
)
from tests.e2e.scenes import BUS, DEER, FPS, ZONE, ZONE_X, ious_with_truth, make_world, write_world
from tests.servers import gst_rtsp_server, plain_rtsp_server, why_no_gstreamer

PREFIX, USER, PASSWORD = "e2e.camera.", "viewer", "p@ss:w/d%"
ENOUGH_FRAMES = 16
CONFIG = f"""\
deployment: test
streams:
  - id: gate
    source:
      type: rtsp
      url: ${{CAMERA_URL}}
      user: ${{CAMERA_USER:-}}
      password: ${{CAMERA_PASSWORD:-}}
    concepts: [deer, bus]
    zones: [{ZONE}]
    rules:
      - {{type: appear, name: seen}}
      - {{type: enter, name: comes in, zone: right, concepts: [deer]}}
sinks:
  - {{type: kafka, bootstrap: "${{KAFKA}}", topics: {{prefix: {PREFIX}}}}}
"""


@dataclass(frozen=True)
class Watched:
    """What a run left behind."""

    world: World
    exit_code: int
    stderr: str
    records: dict[str, list]

    def bodies(self, kind):
        return bodies(self.records[kind])


@contextmanager
def camera(folder, world):
    """Film the world in a loop; with a password where GStreamer can run."""
    if why_no_gstreamer() is None:
        video = write_world(folder / "camera.h264", world)
        with gst_rtsp_server(video, user=USER, password=PASSWORD, fps=FPS) as (url, _):
            yield {"CAMERA_URL": url, "CAMERA_USER": USER, "CAMERA_PASSWORD": PASSWORD}
    else:
        write_world(folder / "camera.mp4", world)
        with plain_rtsp_server(folder) as (url, _):
            yield {"CAMERA_URL": f"{url}/camera.mp4?play_count=0"}


def wait_for_the_deer(bootstrap, process):
    """Return when the deer has come into the zone and enough frames were published."""
    topics = [topic_of(PREFIX, kind) for kind in ("masklets", "events")]
    options = {"auto_offset_reset": "earliest", "metadata_max_age_ms": 1000}
    consumer = KafkaConsumer(*topics, bootstrap_servers=bootstrap, **options)
    num_frames, has_entered, deadline = 0, False, time.monotonic() + RUN_S
    while not (has_entered and num_frames >= ENOUGH_FRAMES) and time.monotonic() < deadline:
        if process.poll() is not None:
            break
        for batch in consumer.poll(timeout_ms=500).values():
            num_frames += batch[0].topic == topics[0] and len(batch)
            has_entered |= any(body.get("kind") == "enter" for body in bodies(batch))
    consumer.close()


@pytest.fixture(scope="module")
def watched(tmp_path_factory, kafka_bootstrap):
    folder, world = tmp_path_factory.mktemp("camera"), make_world(DEER, BUS)
    config = folder / "camera.yaml"
    config.write_text(CONFIG)
    with camera(folder, world) as environ:
        options = {**environ, "KAFKA": kafka_bootstrap, "folder": folder}
        with maskstream("run", config, **options) as process:
            wait_for_the_deer(kafka_bootstrap, process)
            assert process.poll() is None, (folder / "stderr").read_text()
            process.send_signal(signal.SIGINT)
            code = process.wait(timeout=60)
    return Watched(
        world=world,
        exit_code=code,
        stderr=(folder / "stderr").read_text(),
        records=read_all(kafka_bootstrap, PREFIX),
    )


def test_interrupt_ends_the_run_well_and_everything_is_accounted_for(watched):
    last = watched.bodies("status")[-1]
    counts = last["counts"]
    assert (watched.exit_code, last["state"], last.get("error")) == (0, "ended", None)
    assert counts["processed"] == len(watched.records["masklets"]) >= ENOUGH_FRAMES
    lost = counts["gated"] + sum(counts["dropped"].values())
    assert counts["processed"] + lost == counts["received"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_is_as_published(watched, kind):
    for record in watched.records[kind]:
        assert record.key == b"gate"
        assert_published_as_promised(kind, record)
    assert_ids_are_unique(watched.records[kind])


def test_frames_of_a_stream_are_in_order(watched):
    frames = [(body["frame_seq"], body["capture_time"]) for body in watched.bodies("masklets")]
    assert frames == sorted(frames)
    assert len({number for number, _ in frames}) == len(frames) > 0


def test_confirmed_tracks_are_what_was_filmed(watched):
    tracks = watched.bodies("tracks")
    confirmed = sorted(body["concept"] for body in tracks if body["kind"] == "confirmed")
    assert confirmed == ["bus", "deer"]


def test_deer_is_reported_when_it_comes_into_the_zone(watched):
    events = [body for body in watched.bodies("events") if body["kind"] == "enter"]
    first = next(body for body in events if body["phase"] == "new")
    left, _, width, _ = first["bbox"]
    assert {body["concept"] for body in events} == {"deer"}
    assert (first["zone"], first["rule"]) == ("right", "comes in")
    assert ZONE_X - 0.02 <= left + width / 2 <= 0.9


def test_each_object_is_reported_to_have_appeared(watched):
    events = [body for body in watched.bodies("events") if body["kind"] == "appear"]
    assert {body["concept"] for body in events if body["phase"] == "new"} == {"bus", "deer"}


def test_masks_lie_on_what_was_filmed(watched):
    # A viewer does not learn where in its loop the camera is, but one shift must explain all.
    frames = watched.bodies("masklets")
    period = watched.world.num_frames

    def ious_if_shifted_by(shift):
        return [
            iou
            for body in frames
            for iou in ious_with_truth(
                watched.world, body, (round(body["pts_us"] * FPS / 1e6) + shift) % period
            )
        ]

    ious = max(map(ious_if_shifted_by, range(period)), key=lambda some: np.mean(some or [0]))
    assert len(ious) >= ENOUGH_FRAMES
    assert np.quantile(ious, 0.1) >= 0.5


def test_password_is_told_to_nobody(watched):
    told = b"".join(record.value for some in watched.records.values() for record in some)
    assert told
    assert PASSWORD not in watched.stderr
    assert PASSWORD.encode() not in told
