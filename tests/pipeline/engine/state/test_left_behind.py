"""Cameras that are configured no more leave nothing open; streams from Kafka are left alone."""

import shutil
from dataclasses import replace

import pytest

from connectors.frame import KafkaOrigin
from connectors.kafka.config import KafkaSourceConfig
from connectors.memory import MemorySink, MemorySource, Pause
from connectors.record import Topic
from pipeline.clock import SystemClock
from pipeline.config.run import RunConfig
from pipeline.engine.state.restorer import StateRestorer
from pipeline.engine.state.snapshot_folder import SnapshotFolder
from tests.pipeline.engine.runs import CAMERA, bodies, in_turn, make_app, make_config
from tests.pipeline.engine.sinks import value_of
from tests.pipeline.fakes import make_walk

KAFKA = KafkaSourceConfig(bootstrap="127.0.0.1:1", topic="frames")
ORIGIN = KafkaOrigin(topic="frames", partition=0, offset=1)
NUM_FRAMES = 20  # both rules have begun an event by then


@pytest.fixture
def play(tmp_path):
    """Run streams until each has shown its frames, or been told of, and stop; returns the sink."""

    def run(*stream_ids, source=CAMERA, is_first=True, files=()):
        config = make_config(*files).model_dump()
        config["streams"] = config["streams"][: len(files)]
        for stream_id in stream_ids:
            group = {"group_id": stream_id} if source.keeps_position else {}
            mine = source.model_copy(update=group)
            one = make_config(stream_id, source=mine, overflow="wait").model_dump()
            config["streams"] += one["streams"]
        config = RunConfig.model_validate({**config, "state": {"folder": tmp_path / "state"}})
        sink = MemorySink()

        def build(stream, position):
            walk = make_walk(NUM_FRAMES, stream_id=stream.id)
            origin = ORIGIN if stream.source.keeps_position else None
            script = [*(replace(frame, origin=origin) for frame in walk), Pause(600)]
            return MemorySource(script, stream_id=stream.id, position=position)

        def is_done():
            num_playing = len(stream_ids) * is_first + len(files)
            is_played = len(sink.of(Topic.MASKLETS)) == NUM_FRAMES * num_playing
            return is_played and sink.of(Topic.STATUS)

        run.app = app = make_app(config, sink=sink, build=build)
        in_turn(app.engine, (is_done, lambda: None))
        return sink

    return run


def of(sink, topic, stream_id):
    return [body for body in bodies(sink, topic) if body["stream_id"] == stream_id]


def snapshots_of(tmp_path):
    return {path.name for path in (tmp_path / "state/snapshots").iterdir()}


def test_camera_that_is_configured_no_more_ends_its_tracks_and_events_once(play, tmp_path, caplog):
    first = play("cam", "yard")
    begun = of(first, Topic.EVENTS, "yard")
    assert [body["phase"] for body in begun] == ["new", "new"]
    second = play("cam", is_first=False)
    ended = of(second, Topic.EVENTS, "yard")
    assert [body["event_id"] for body in ended] == [body["event_id"] for body in begun]
    for before, body in zip(begun, ended, strict=True):
        assert (body["phase"], body["end_reason"]) == ("end", "stream_removed")
        assert body["sequence"] == before["sequence"] + 1
        assert body["start_time"] == before["start_time"] <= body["end_time"]
    (track,) = of(second, Topic.TRACKS, "yard")
    assert (track["kind"], track["reason"]) == ("ended", "stream_removed")
    assert caplog.text.count("is configured no more") == 1
    assert snapshots_of(tmp_path) == {"cam"}
    assert of(second, Topic.EVENTS, "cam") == []
    assert of(play("cam", is_first=False), Topic.EVENTS, "yard") == []


def test_what_was_told_before_a_kill_is_not_told_again(play, tmp_path):
    play("cam", "yard")
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "state/snapshots", kept)
    ends = [
        record for record in play("cam", is_first=False).of(Topic.EVENTS) if record.key == "yard"
    ]
    assert len(ends) == 2
    restorer = StateRestorer(SnapshotFolder(kept), ends, worker=None, clock=SystemClock())
    (left,) = restorer.end_left_behind({"cam"})
    assert restorer.end_left_behind({"cam", "yard"}) == []
    assert left.stream_id == "yard"
    assert left.orphans == ()
    assert left.ended is None or left.ended.events == ()


def test_events_that_are_in_the_log_alone_end_as_well(play, tmp_path):
    first = play("cam", "yard")
    shutil.rmtree(tmp_path / "state/snapshots/yard")
    ended = of(play("cam", is_first=False), Topic.EVENTS, "yard")
    assert [body["event_id"] for body in ended] == [
        body["event_id"] for body in of(first, Topic.EVENTS, "yard")
    ]
    assert {body["end_reason"] for body in ended} == {"stream_removed"}


def test_stream_from_kafka_may_be_another_workers(play, tmp_path, caplog):
    play("cam", "topic", source=KAFKA)
    assert of(play("cam", source=KAFKA, is_first=False), Topic.EVENTS, "topic") == []
    assert snapshots_of(tmp_path) == {"cam", "topic"}
    shutil.rmtree(tmp_path / "state/snapshots/topic")
    assert of(play("cam", source=KAFKA, is_first=False), Topic.EVENTS, "topic") == []
    assert "no more" not in caplog.text
    assert "left alone" not in caplog.text


@pytest.mark.parametrize("has_log", [True, False])
def test_damaged_snapshot_of_a_camera_that_is_gone_is_named(play, tmp_path, caplog, has_log):
    play("cam", "yard")
    for path in (tmp_path / "state/snapshots/yard").iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    if not has_log:
        shutil.rmtree(tmp_path / "state/log")
    sink = play("cam", is_first=False)
    assert "yard/newest.snapshot: is cut or damaged" in caplog.text
    ends = [body["end_reason"] for body in of(sink, Topic.EVENTS, "yard")]
    assert ends == ["stream_removed"] * 2 * has_log
    # Where nothing tells what it was, it may be a stream from Kafka.
    assert snapshots_of(tmp_path) == ({"cam"} if has_log else {"cam", "yard"})


def test_file_of_the_same_name_is_no_camera_any_more(play, tmp_path):
    begun = of(play("cam", "yard"), Topic.EVENTS, "yard")
    sink = play("cam", files=("yard",), is_first=False)
    ended = [body for body in of(sink, Topic.EVENTS, "yard") if body["phase"] == "end"]
    assert [body["event_id"] for body in ended[:2]] == [body["event_id"] for body in begun]
    assert {body["end_reason"] for body in ended[:2]} == {"stream_removed"}
    assert {body["end_reason"] for body in ended[2:]} == {"stopped"}
    tracks = of(sink, Topic.TRACKS, "yard")
    assert [body["reason"] for body in tracks if body["kind"] == "ended"] == [
        "stream_removed",
        "stopped",
    ]
    assert snapshots_of(tmp_path) == {"cam"}
    assert value_of(play.app.metrics, "snapshots_total", stream="yard") == 0


def test_what_others_find_as_well_is_left_to_them(play, tmp_path):
    class Shared(SnapshotFolder):
        is_shared = True

    first = play("cam", "yard")
    store = Shared(tmp_path / "state/snapshots")
    restorer = StateRestorer(store, first.of(Topic.EVENTS), worker=None, clock=SystemClock())
    assert restorer.end_left_behind({"cam"}) == []
