"""The engine from a scripted source to records in memory."""

import json

import pytest

from connectors.memory import Corrupt, Disconnect, MemorySink, MemorySource, Pause
from connectors.record import Topic
from connectors.video.config import FileSourceConfig
from pipeline.app import build_app
from pipeline.clock import ManualClock
from pipeline.config.run import RunConfig
from tests.pipeline.fakes import BlobTracker, make_frame, make_walk

RULES = [
    {"type": "appear", "name": "seen"},
    {"type": "enter", "name": "in-right", "zone": "right", "settle_s": 0.0},
]
ZONES = [{"name": "right", "polygon": [(0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)]}]


def make_config(*stream_ids, concepts=("red",), engine=None, **stream):
    source = FileSourceConfig(path="unused.mp4")
    streams = [
        {"id": i, "source": source, "concepts": concepts, "zones": ZONES, "rules": RULES, **stream}
        for i in stream_ids or ("cam",)
    ]
    return RunConfig.model_validate({"streams": streams, "engine": engine or {}})


def run(config, *scripts, tracker=None, sink=None):
    sink = sink or MemorySink()
    ids = [stream.id for stream in config.streams]
    sources = [MemorySource(steps, stream_id=i) for i, steps in zip(ids, scripts, strict=True)]
    app = build_app(config, tracker=tracker or BlobTracker(), sources=sources, sinks=[sink])
    return app.engine.run(), sink


def bodies(sink, topic):
    return [json.loads(record.value) for record in sink.records if record.topic is topic]


def test_every_frame_gives_one_masklets_record_in_order():
    summary, sink = run(make_config(), make_walk(20))
    records = bodies(sink, Topic.MASKLETS)
    assert [record["frame_seq"] for record in records] == list(range(20))
    assert summary.is_good
    assert summary.streams[0].counts.processed == 20


def test_a_walk_is_confirmed_enters_the_zone_and_ends():
    _, sink = run(make_config(), make_walk(20))
    kinds = [record["kind"] for record in bodies(sink, Topic.TRACKS)]
    events = [(event["rule"], event["phase"]) for event in bodies(sink, Topic.EVENTS)]
    assert kinds == ["started", "confirmed", "ended"]
    assert events == [("seen", "new"), ("in-right", "new"), ("seen", "end"), ("in-right", "end")]


def test_an_empty_stream_still_gives_records():
    _, sink = run(make_config(), [make_frame(i) for i in range(3)])
    assert [record["objects"] for record in bodies(sink, Topic.MASKLETS)] == [[], [], []]


def test_a_second_run_gives_the_same_bytes_but_for_result_times():
    first, second = (run(make_config(), make_walk(12))[1] for _ in range(2))
    ids = [
        [dict(r.headers)["ce_id"] for r in s.records if r.topic is not Topic.STATUS]
        for s in (first, second)
    ]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(ids[0])


def test_a_reconnect_within_the_gap_keeps_tracks_and_raises_nothing():
    frames = make_walk(20)
    summary, sink = run(make_config(), [*frames[:10], Disconnect(), *frames[10:]])
    tracks = bodies(sink, Topic.TRACKS)
    assert [track["kind"] for track in tracks] == ["started", "confirmed", "ended"]
    assert tracks[-1]["reason"] == "stream_ended"
    seen = [event for event in bodies(sink, Topic.EVENTS) if event["kind"] == "appear"]
    assert [event["phase"] for event in seen].count("new") == 1
    assert summary.is_good


def test_a_new_frame_size_begins_a_new_session():
    frames = [
        make_frame(0, blobs={"red": (2, 2)}),
        make_frame(1, blobs={"red": (2, 2)}, size=(20, 40)),
    ]
    _, sink = run(make_config(), frames)
    assert [r["frame"] for r in bodies(sink, Topic.MASKLETS)] == [
        {"width": 32, "height": 24},
        {"width": 40, "height": 20},
    ]


def test_a_broken_source_fails_its_stream_and_leaves_the_others():
    config = make_config("good", "bad")
    walks = [make_walk(10, stream_id="good"), [*make_walk(3, stream_id="bad"), Corrupt("torn")]]
    summary, sink = run(config, *walks)
    by_id = {stream.stream_id: stream for stream in summary.streams}
    last = {s["stream_id"]: s for s in bodies(sink, Topic.STATUS)}
    assert not summary.is_good
    assert by_id["good"].counts.processed == 10
    assert by_id["bad"].counts.processed == 3
    assert last["bad"]["state"] == "failed"
    assert last["bad"]["error"]["type"] == "CorruptMediaError"
    assert last["good"]["state"] == "ended"


def white(frame):
    frame.pixels[0, 0] = 255
    return frame


def test_a_frame_that_the_model_fails_on_is_dropped_and_the_stream_goes_on():
    frames = make_walk(10)
    white(frames[4])
    summary, sink = run(make_config(), frames)
    counts = summary.streams[0].counts
    assert (counts.processed, counts.dropped) == (9, {"model_error": 1})
    assert "model_error" in [track["reason"] for track in bodies(sink, Topic.TRACKS)]


def test_a_batch_failure_costs_only_the_stream_that_caused_it():
    bad = [white(frame) for frame in make_walk(5, stream_id="bad")]
    summary, _ = run(make_config("good", "bad"), make_walk(5, stream_id="good"), bad)
    by_id = {stream.stream_id: stream for stream in summary.streams}
    assert by_id["good"].counts.processed == 5
    assert by_id["bad"].counts.processed == 0
    assert "white corner" in by_id["bad"].error


def test_concepts_that_the_model_refuses_fail_the_stream():
    summary, _ = run(make_config(concepts=("mauve",)), make_walk(3))
    assert "mauve" in summary.streams[0].error


@pytest.mark.parametrize("overflow", ["wait", "drop_oldest", "drop_newest"])
def test_the_account_adds_up(overflow):
    summary, sink = run(make_config(overflow=overflow), make_walk(200))
    counts = summary.streams[0].counts
    assert counts.received == 200
    assert counts.processed + counts.gated + sum(counts.dropped.values()) == 200
    assert counts.processed == len(bodies(sink, Topic.MASKLETS))


def test_a_source_may_name_its_streams():
    frames = [
        f
        for pair in zip(make_walk(8, stream_id="a"), make_walk(8, stream_id="b"), strict=True)
        for f in pair
    ]
    sink = MemorySink()
    source = MemorySource(frames, stream_id="*")
    app = build_app(make_config("*"), tracker=BlobTracker(), sources=[source], sinks=[sink])
    summary = app.engine.run()
    assert not app.engine._supervisor._owners
    assert {record["stream_id"] for record in bodies(sink, Topic.MASKLETS)} == {"a", "b"}
    assert summary.streams[0].counts.processed == 16


def test_streams_beyond_the_limit_are_refused_and_counted():
    frames = [*make_walk(4, stream_id="a"), *make_walk(4, stream_id="b")]
    summary, _ = run(make_config("*", engine={"max_streams": 1}), frames)
    counts = summary.streams[0].counts
    assert (counts.processed, counts.dropped) == (4, {"stream_limit": 4})


def test_frames_above_the_rate_are_gated():
    summary, _ = run(make_config(max_fps=5), make_walk(20))
    counts = summary.streams[0].counts
    assert (counts.processed, counts.gated) == (10, 10)


def test_a_failing_sink_is_reported():
    summary, _ = run(make_config(), make_walk(10), sink=MemorySink(capacity=3))
    assert "MemorySink" in summary.sink_errors
    assert not summary.is_good


def test_stop_processes_what_was_read_and_ends_the_tracks():
    sink = MemorySink()
    source = MemorySource(make_walk(500))
    app = build_app(make_config(), tracker=BlobTracker(), sources=[source], sinks=[sink])
    turns = iter(range(5))
    summary = app.engine.run(on_turn=lambda: next(turns, None) is None and app.engine.stop())
    counts = summary.streams[0].counts
    assert counts.received == counts.processed < 500
    assert bodies(sink, Topic.TRACKS)[-1]["kind"] == "ended"
    assert not sink.is_open


def test_frames_of_an_unknown_stream_are_warned_of_once(caplog):
    frames = [*make_walk(3), *make_walk(3, stream_id="other")]
    summary, _ = run(make_config(), frames)
    warnings = [r.getMessage() for r in caplog.records if r.name == "maskstream.supervisor"]
    assert summary.streams[0].counts.processed == 3
    assert len(warnings) == 1
    assert all(word in warnings[0] for word in ("'cam'", "'other'", "'*'"))


def test_a_stream_runs_again_after_a_gap():
    sink, clock = MemorySink(), ManualClock()
    source = MemorySource([*make_walk(3), Pause(1.0), *make_walk(6)[3:]], stream_id="cam")
    app = build_app(
        make_config(), tracker=BlobTracker(), sources=[source], sinks=[sink], clock=clock
    )
    app.engine.run(on_turn=lambda: clock.advance(20.0))
    states = [status["state"] for status in bodies(sink, Topic.STATUS)]
    assert "running" in states[states.index("waiting") :]
    assert states[-1] == "ended"
