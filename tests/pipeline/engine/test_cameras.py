"""Cameras that go away, fall silent, change their password or their clock; waits scaled down."""

import logging
import socket
import threading
import time
from contextlib import contextmanager
from itertools import groupby, pairwise

import av
import numpy as np
import pytest

from connectors.memory import MemorySink
from connectors.record import Topic
from connectors.video.config import RtspSourceConfig
from pipeline.app import build_app
from tests.pipeline.engine.runs import (
    assert_settled,
    bodies,
    counts_of,
    in_turn,
    make_config,
    states_of,
)
from tests.pipeline.fakes import LossyBlobTracker
from tests.servers import Camera

FPS = 10
USER, PASSWORD, CHANGED = "viewer", "right", "ch@nged"
STATUS = {"stalled_s": 0.5, "offline_s": 1.2}
RETRY = {"initial_s": 0.1, "maximum_s": 0.2, "unauthorized_s": 0.2}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A raw H.264 film of a red square that stands still."""
    path = tmp_path_factory.mktemp("film") / "standing.h264"
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[16:32, 16:32, 0] = 255
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"preset": "ultrafast", "bf": "0", "g": "5", "threads": "1"}
        for _ in range(20):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class Watched:
    """An engine that watches cameras, and what it has said so far."""

    def __init__(self, url, *stream_ids, tracker=None, status=None, source=None, **stream):
        settings = {"url": url, "open_timeout_s": 10, "read_timeout_s": 1.0, **(source or {})}
        config = make_config(
            *stream_ids or ("cam",),
            source=RtspSourceConfig(**settings),
            status={**STATUS, **(status or {})},
            retry=RETRY,
            rules=[{"type": "appear", "name": "seen", "update_every_s": 0}],
            engine={"stop_timeout_s": 4.0},
            **stream,
        )
        self.sink = MemorySink()
        self.app = build_app(config, tracker=tracker or LossyBlobTracker(), sinks=[self.sink])

    def run(self, *steps):
        return in_turn(self.app.engine, *steps, seconds=45)

    @property
    def state(self):
        return next(reversed(states_of(self.sink, "cam")), None)

    @property
    def changes(self):
        return [state for state, _ in groupby(states_of(self.sink, "cam"))]

    @property
    def num_results(self):
        return len(self.sink.of(Topic.MASKLETS))

    def events(self, phase):
        return [body for body in bodies(self.sink, Topic.EVENTS) if body["phase"] == phase]

    def track_uids(self):
        return {
            thing["track_uid"]
            for body in bodies(self.sink, Topic.MASKLETS)
            for thing in body["objects"]
        }

    def assert_same_object_and_one_event(self):
        assert len(self.track_uids()) == 1
        assert len(self.events("new")) == 1
        assert [event["end_reason"] for event in self.events("end")] in (["stopped"], [])


@contextmanager
def camera_of(serve, film, *, is_on=True, **options):
    camera = Camera(film, serve=serve, fps=FPS, **options)
    try:
        if is_on:
            camera.start()
        yield camera
    finally:
        camera.kill()


def test_camera_down_at_the_start_is_there_when_it_comes_up(gstreamer, film):
    with camera_of(gstreamer, film, is_on=False) as camera:
        watched = Watched(camera.url)
        summary = watched.run(
            (lambda: watched.state == "offline", camera.start),
            (lambda: watched.num_results >= 3, lambda: None),
        )
    assert watched.changes == ["connecting", "reconnecting", "offline", "running", "ended"]
    assert summary.exit_code(is_strict=True) == 0
    assert_settled(summary)


def test_camera_killed_for_a_while_keeps_ids_and_events(gstreamer, film, caplog):
    caplog.set_level(logging.INFO, logger="maskstream")
    with camera_of(gstreamer, film) as camera:
        watched = Watched(camera.url)
        seen = []

        def note():
            seen.append((watched.num_results, watched.app.health.readiness()))
            camera.start()

        watched.run(
            (lambda: watched.events("new"), camera.kill),
            (lambda: watched.state == "offline", note),
            (lambda: watched.num_results >= seen[0][0] + 5, lambda: None),
        )
    assert watched.changes == [
        *("connecting", "running", "reconnecting", "offline", "running", "ended"),
    ]
    offline = next(s for s in bodies(watched.sink, Topic.STATUS) if s["state"] == "offline")
    assert offline["error"]["type"] == "UnreachableError"
    assert offline["since"] < offline["time"]
    assert not seen[0][1].is_good
    watched.assert_same_object_and_one_event()
    assert b'maskstream_reconnects_total{stream="cam"} 1.0' in watched.app.metrics.exposition()
    assert "running again; was offline" in caplog.text


def test_silent_camera_is_noticed_at_its_time_out_and_keeps_its_ids(gstreamer, film):
    with camera_of(gstreamer, film) as camera:
        watched = Watched(camera.url)
        times_s = []

        def hold():
            times_s.append(time.monotonic())
            camera.hold()

        def release():
            times_s.append(time.monotonic())
            times_s.append(watched.num_results)
            camera.release()

        watched.run(
            (lambda: watched.events("new"), hold),
            (lambda: watched.state == "reconnecting", release),
            (lambda: watched.num_results >= times_s[2] + 5, lambda: None),
        )
    assert 0.9 <= times_s[1] - times_s[0] <= 2.5
    assert watched.changes[:4] == ["connecting", "running", "stalled", "reconnecting"]
    assert "StreamStalledError" in str(bodies(watched.sink, Topic.STATUS))
    watched.assert_same_object_and_one_event()


def test_changed_password_is_read_again_and_opens_the_camera(gstreamer, film, tmp_path):
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    with camera_of(gstreamer, film, user=USER, password=PASSWORD) as camera:
        source = {"user": USER, "password_file": secret}
        watched = Watched(camera.url, source=source)
        num_before = []

        def change():
            num_before.append(watched.num_results)
            camera.kill()
            camera.start(password=CHANGED)

        def refused():
            return "UnauthorizedError" in str(bodies(watched.sink, Topic.STATUS))

        watched.run(
            (lambda: watched.events("new"), change),
            (refused, lambda: secret.write_text(CHANGED)),
            (lambda: watched.num_results >= num_before[0] + 3, lambda: None),
        )
    assert watched.state == "ended"
    assert "running" in watched.changes[3:]
    assert "failed" not in watched.changes
    watched.assert_same_object_and_one_event()


def test_four_cameras_whose_clocks_are_30_s_late_leave_no_hole(gstreamer, film):
    ids = ("a", "b", "c", "d")
    with camera_of(gstreamer, film, behind_s=30) as camera:
        watched = Watched(camera.url, *ids, max_fps=2)

        def has_gone_on(stream_id):
            """The first frames come before the camera has told its clock, if it is not quick."""
            clocks = [record["capture_clock"] for record in results_of(watched, stream_id)]
            return clocks.count("rtcp_ntp") >= 5

        watched.run((lambda: all(map(has_gone_on, ids)), lambda: None))
    for stream_id in ids:
        records = results_of(watched, stream_id)
        times_us = [record["stream_time_us"] for record in records]
        uids = {seen["track_uid"] for record in records for seen in record["objects"]}
        assert all(0 < later - sooner < 1_500_000 for sooner, later in pairwise(times_us))
        assert "stalled" not in states_of(watched.sink, stream_id)
        assert len(uids) == 1
    assert len(watched.events("new")) == len(ids)


def results_of(watched, stream_id):
    records = bodies(watched.sink, Topic.MASKLETS)
    return [record for record in records if record["stream_id"] == stream_id]


def test_stop_is_in_time_though_a_mute_camera_is_being_opened():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"rtsp://127.0.0.1:{mute.getsockname()[1]}/camera"
        watched = Watched(url, source={"open_timeout_s": 55})
        mute.settimeout(30)
        connections = []
        thread = threading.Thread(target=lambda: connections.append(mute.accept()), daemon=True)
        thread.start()
        began_s = []
        watched.run((lambda: connections, lambda: began_s.append(time.monotonic())))
        assert time.monotonic() - began_s[0] < 4.5
        connections[0][0].close()


def counters_of(exposition):
    """Where the frames of each stream went, by the text of one scrape."""
    counters = {}
    for line in exposition.decode().splitlines():
        name, _, rest = line.partition("{")
        if name.startswith("maskstream_frames_"):
            labels, _, value = rest.rpartition(" ")
            stream = labels.partition('stream="')[2].partition('"')[0]
            kind = name.removeprefix("maskstream_frames_").removesuffix("_total")
            of_stream = counters.setdefault(stream, {})
            of_stream[kind] = of_stream.get(kind, 0) + float(value)
    return counters


def test_overloaded_cameras_share_the_model_and_every_scrape_adds_up(gstreamer, film):
    ids = ("a", "b", "c", "d")
    tracker = LossyBlobTracker()
    tracker.step_s = 0.15
    with camera_of(gstreamer, film) as camera:
        watched = Watched(camera.url, *ids, tracker=tracker, status={"overload_window_s": 1.0})
        scrapes = []

        def is_scraped():
            if all("overloaded" in states_of(watched.sink, name) for name in ids):
                scrapes.append(counters_of(watched.app.metrics.exposition()))
            return len(scrapes) >= 25

        summary = watched.run((is_scraped, lambda: None))
    for scrape in scrapes:
        for counts in scrape.values():
            accounted = sum(value for kind, value in counts.items() if kind != "received")
            assert counts["received"] == accounted
    assert any(counts["waiting"] for scrape in scrapes for counts in scrape.values())
    for name in ids:
        changes = [state for state, _ in groupby(states_of(watched.sink, name))]
        assert changes == ["connecting", "running", "overloaded", "ended"]
    processed = [counts_of(summary, name).processed for name in ids]
    assert max(processed) - min(processed) <= 0.3 * max(processed)
    assert_settled(summary)
