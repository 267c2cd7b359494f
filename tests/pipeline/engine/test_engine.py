"""The engine from scripted sources to records in memory."""

import json
import threading
from dataclasses import replace

import pytest

from connectors.base import FrameSink
from connectors.memory import Corrupt, Disconnect, MemorySink, MemorySource, Pause
from connectors.record import Topic
from models.protocols import DeviceLostError
from pipeline.app import build_app, build_observations
from pipeline.observe.live import LiveView
from tests.pipeline.engine.runs import (
    assert_settled,
    bodies,
    counts_of,
    make_app,
    make_config,
    playing,
    run,
    states_of,
)
from tests.pipeline.engine.sinks import FilmSink, GateSink, LoggedSink, opened
from tests.pipeline.engine.transactions import Books, Partitions, reading
from tests.pipeline.fakes import BlobTracker, make_frame, make_walk


def test_every_frame_gives_one_masklets_record_in_order():
    summary, sink = run(make_config(), make_walk(20))
    records = bodies(sink, Topic.MASKLETS)
    assert [record["frame_seq"] for record in records] == list(range(20))
    assert summary.exit_code(is_strict=True) == 0
    assert counts_of(summary).processed == 20


def test_a_walk_is_confirmed_enters_the_zone_and_ends():
    summary, sink = run(make_config(), make_walk(20))
    kinds = [record["kind"] for record in bodies(sink, Topic.TRACKS)]
    events = [(event["rule"], event["phase"]) for event in bodies(sink, Topic.EVENTS)]
    assert kinds == ["started", "confirmed", "ended"]
    assert events == [("seen", "new"), ("in-right", "new"), ("seen", "end"), ("in-right", "end")]
    [stream] = summary.streams
    assert (stream.num_started, stream.num_tracks, stream.concepts) == (1, 1, {"red": 1})
    assert stream.events == {"seen": 1, "in-right": 1}


def test_an_empty_stream_still_gives_records():
    _, sink = run(make_config(), [make_frame(i) for i in range(3)])
    assert [record["objects"] for record in bodies(sink, Topic.MASKLETS)] == [[], [], []]


def test_a_second_run_gives_the_same_bytes_but_for_result_times():
    first, second = (run(make_config(), make_walk(12))[1] for _ in range(2))
    for topic in (Topic.MASKLETS, Topic.TRACKS, Topic.EVENTS):
        ids = [
            [dict(record.headers)["ce_id"] for record in sink.of(topic)] for sink in (first, second)
        ]
        assert ids[0] == ids[1]
        assert len(set(ids[0])) == len(ids[0]) > 0


def test_a_reconnect_keeps_the_track_and_its_events():
    frames = make_walk(20)
    summary, sink = run(make_config(), [*frames[:10], Disconnect(), *frames[10:]])
    tracks = bodies(sink, Topic.TRACKS)
    new = [event["rule"] for event in bodies(sink, Topic.EVENTS) if event["phase"] == "new"]
    epochs = {record["stream_epoch"] for record in bodies(sink, Topic.MASKLETS)}
    assert [track["kind"] for track in tracks] == ["started", "confirmed", "ended"]
    assert len({track["track_uid"] for track in tracks}) == 1
    assert new == ["seen", "in-right"]
    assert epochs == {0, 1}
    assert summary.exit_code() == 0


def test_a_new_size_of_the_same_view_keeps_tracks_and_events():
    frames = make_walk(10)
    frames += [make_frame(i, blobs={"red": (2 * i, 16)}, size=(48, 64)) for i in range(10, 26)]
    _, sink = run(make_config(), frames)
    widths = [body["frame"]["width"] for body in bodies(sink, Topic.MASKLETS)]
    assert widths == [32] * 10 + [64] * 16
    tracks, events = bodies(sink, Topic.TRACKS), bodies(sink, Topic.EVENTS)
    assert [track["kind"] for track in tracks] == ["started", "confirmed", "ended"]
    assert [(event["rule"], event["phase"]) for event in events] == [
        ("seen", "new"),
        ("in-right", "new"),
        ("seen", "end"),
        ("in-right", "end"),
    ]


def test_another_aspect_ratio_begins_a_new_session():
    frames = [
        make_frame(0, blobs={"red": (2, 2)}),
        make_frame(1, blobs={"red": (2, 2)}, size=(20, 40)),
    ]
    _, sink = run(make_config(), frames)
    assert [r["frame"] for r in bodies(sink, Topic.MASKLETS)] == [
        {"width": 32, "height": 24},
        {"width": 40, "height": 20},
    ]
    tracks = bodies(sink, Topic.TRACKS)
    assert len({track["track_uid"] for track in tracks}) == 2
    ends = [track["reason"] for track in tracks if track["kind"] == "ended"]
    assert ends == ["discontinuity", "stream_ended"]


def test_a_broken_source_fails_its_stream_and_leaves_the_others():
    config = make_config("good", "bad")
    walks = [make_walk(10, stream_id="good"), [*make_walk(3, stream_id="bad"), Corrupt("torn")]]
    summary, sink = run(config, *walks)
    last = {s["stream_id"]: s for s in bodies(sink, Topic.STATUS)}
    assert counts_of(summary, "good").processed == 10
    assert counts_of(summary, "bad").processed == 3
    assert last["bad"]["state"] == "failed"
    assert last["bad"]["error"]["type"] == "CorruptMediaError"
    assert last["good"]["state"] == "ended"
    assert (summary.num_failed, summary.exit_code(), summary.exit_code(is_strict=True)) == (1, 0, 1)


@pytest.mark.parametrize("overflow", ["wait", "drop_oldest", "drop_newest"])
def test_the_account_adds_up(overflow):
    summary, sink = run(make_config(overflow=overflow), make_walk(200))
    assert counts_of(summary).received == 200
    assert counts_of(summary).processed == len(bodies(sink, Topic.MASKLETS))
    assert_settled(summary)


def test_a_source_may_name_its_streams():
    pairs = zip(make_walk(8, stream_id="a"), make_walk(8, stream_id="b"), strict=True)
    frames = [frame for pair in pairs for frame in pair]
    summary, sink = run(make_config("*"), frames)
    assert {record["stream_id"] for record in bodies(sink, Topic.MASKLETS)} == {"a", "b"}
    assert [stream.stream_id for stream in summary.streams] == ["*"]
    assert counts_of(summary, "*").processed == 16
    assert states_of(sink, "a")[-1] == states_of(sink, "*")[-1] == "ended"


def test_streams_beyond_the_limit_are_refused_and_counted():
    frames = [*make_walk(4, stream_id="a"), *make_walk(4, stream_id="b")]
    summary, _ = run(make_config("*", engine={"max_streams": 1}), frames)
    counts = counts_of(summary, "*")
    assert (counts.processed, counts.dropped) == (4, {"stream_limit": 4})


def test_a_stream_named_as_the_template_is_refused_and_counted():
    frames = [make_frame(stream_id="u"), make_frame(stream_id="*"), make_frame(stream_id="v")]
    summary, _ = run(make_config("*"), frames)
    assert counts_of(summary, "*").processed == 2
    assert counts_of(summary, "*").dropped == {"unknown_stream": 1}


def test_frames_of_a_stream_that_another_source_feeds_are_refused_and_counted():
    walks = make_walk(30, stream_id="a"), [make_frame(stream_id="a"), make_frame(stream_id="b")]
    summary, _ = run(make_config("a", "*"), *walks)
    assert counts_of(summary, "a").processed == 30
    assert counts_of(summary, "*").dropped == {"duplicate_stream": 1}
    assert counts_of(summary, "*").processed == 1


def test_frames_of_an_unknown_stream_are_warned_of_once(caplog):
    frames = [*make_walk(3), *make_walk(3, stream_id="other")]
    summary, _ = run(make_config(), frames)
    [warning] = [r.getMessage() for r in caplog.records if "unknown" in r.getMessage()]
    assert counts_of(summary).processed == 3
    assert counts_of(summary).dropped == {"unknown_stream": 3}
    assert all(word in warning for word in ("'other'", "'*'"))


def test_frames_above_the_rate_are_gated():
    summary, _ = run(make_config(max_fps=5), make_walk(20))
    counts = counts_of(summary)
    assert (counts.processed, counts.gated) == (10, 10)


def test_frames_left_out_are_told_with_the_next_result():
    _, sink = run(make_config(max_fps=5), make_walk(9))
    left_out = [record["dropped_since_last"] for record in bodies(sink, Topic.MASKLETS)]
    assert sum(left_out) == 4


def test_a_failing_sink_is_reported(caplog):
    summary, _ = run(make_config(), make_walk(10), sink=MemorySink(capacity=3))
    assert "MemorySink" in summary.sink_errors
    assert summary.sink_errors["MemorySink"] in [one.getMessage() for one in caplog.records]
    assert summary.exit_code() == 1


def test_no_thread_keeps_the_process_from_its_end():
    before, told, film = set(threading.enumerate()), set(), FilmSink()
    film.gate.set()

    def on_turn():
        told.update(set(threading.enumerate()) - before)

    run(make_config(), make_walk(5), others=[film, opened(kind=LoggedSink)], on_turn=on_turn)
    assert {"recorder", "delivery-judge", "delivery-housekeeper"} <= {one.name for one in told}
    assert all(one.daemon for one in told)


def test_an_engine_without_frames_rests():
    turns = []
    run(make_config(), [*make_walk(3), Pause(0.3)], on_turn=lambda: turns.append(None))
    assert len(turns) < 30


def test_stop_drops_what_waits_counts_it_and_ends_the_tracks():
    sink, tracker, turns = MemorySink(), BlobTracker(), iter(range(5))
    app = make_app(make_config(), make_walk(500), sink=sink, tracker=tracker)
    summary = app.engine.run(lambda: next(turns, None) is None and app.engine.stop())
    counts = counts_of(summary)
    assert 0 < counts.processed < 500
    assert set(counts.dropped) <= {"stopped"}
    assert_settled(summary)
    assert bodies(sink, Topic.TRACKS)[-1]["kind"] == "ended"
    assert states_of(sink, "cam")[-1] == "ended"
    assert not sink.is_open
    assert tracker.streams == {}


class LostDevice(BlobTracker):
    """Its accelerator goes away at the fourth batch."""

    def step(self, inputs):
        if len(self.batches) == 3:
            raise DeviceLostError("CUDA error: an illegal memory access was encountered")
        return super().step(inputs)


def test_a_lost_device_ends_the_run_with_a_code_of_its_own_and_flushes_sinks():
    sink = MemorySink()
    summary, _ = run(make_config(), make_walk(100), tracker=LostDevice(), sink=sink)
    assert "illegal memory access" in summary.device_error
    assert summary.exit_code() == 3
    assert len(bodies(sink, Topic.MASKLETS)) == 3
    assert bodies(sink, Topic.TRACKS)[-1]["kind"] == "ended"
    assert not sink.is_open
    assert_settled(summary)


def test_a_lost_device_writes_nothing_that_goes_with_no_transaction(run_of):
    books = Books()
    run = run_of(books, reading(p0=make_walk(20)), tracker=LostDevice())
    assert run.play_out().exit_code() == 3
    assert run.num_done == 3
    assert books.commits == []


def test_a_worker_that_waits_for_its_sink_at_the_start_is_known_to_turn(run_of):
    books = Books(num_allowed=0)
    run = run_of(books, Partitions(p0=[]))
    run.turn()
    run.clock.advance(3600.0)
    run.turn()
    assert run.app.health.liveness().is_good
    assert "the engine has not begun to turn" not in run.app.health.readiness().reasons
    books.allow()


def test_a_callback_that_raises_at_the_end_leaves_nothing_open():
    def on_result(result):
        if result.scene is None:
            raise ZeroDivisionError("a bug of the caller's")

    summary, sink = run(make_config(), make_walk(5), on_result=on_result)
    assert counts_of(summary).processed == 5
    assert not sink.is_open


class FrameKeeper(FrameSink):
    def __init__(self):
        self.frames = []

    def open(self):
        pass

    def write(self, frame):
        self.frames.append(frame)

    def flush(self):
        pass

    def close(self):
        pass


def test_a_run_with_frame_sinks_only_needs_no_model():
    sink = FrameKeeper()
    app = build_app(make_config(), build=playing({"cam": make_walk(7)}), sinks=[sink])
    summary = app.engine.run()
    assert app.engine._parts.worker is None
    assert [frame.frame_seq for frame in sink.frames] == list(range(7))
    assert counts_of(summary).processed == 7
    assert_settled(summary)


def test_frames_that_no_model_looks_at_are_shown():
    config = make_config()
    live, shown = LiveView(), set()
    seen = replace(build_observations(config), live=live)

    def look():
        shown.update(one.scene.frame.frame_seq for one in live.streams.values() if one.scene)

    build = playing({"cam": make_walk(7)})
    build_app(config, build=build, sinks=[FrameKeeper()], observations=seen).engine.run(look)
    assert shown >= set(range(6))  # with the last one the stream may end in the same turn


def test_records_name_the_process_that_they_come_from():
    config = make_config().model_copy(update={"worker": "edge-7"})
    _, sink = run(config, make_walk(6))
    assert {json.loads(record.value)["worker"] for record in sink.records} == {"edge-7"}


class Reluctant(MemorySource):
    """Does not let go when it is told to."""

    release = threading.Event()

    def read(self):
        self.release.wait(60)

    def interrupt(self):
        pass


def test_a_source_that_does_not_end_in_time_is_named(caplog):
    config = make_config(engine={"stop_timeout_s": 0.5})
    app = make_app(
        config, build=lambda stream, position: Reluctant([], stream_id=stream.id, position=position)
    )
    turns = app.engine.iterate()
    next(turns)
    app.engine.stop()
    for _ in turns:
        pass
    assert app.engine.summary().unfinished == ("source cam",)
    assert "source cam did not end in time and is left behind" in caplog.text
    assert app.engine.summary().exit_code(is_strict=True) == 1
    Reluctant.release.set()


def test_sinks_may_take_their_time_at_the_end_of_a_run():
    sink = GateSink()
    threading.Timer(0.8, sink.gate.set).start()
    summary, _ = run(make_config(), make_walk(3), sink=sink)
    assert len(bodies(sink, Topic.MASKLETS)) == 3
    assert summary.exit_code(is_strict=True) == 0


@pytest.mark.parametrize("how", ["lost device", "closed generator", "end of the sources"])
def test_whatever_breaks_a_run_off_asks_for_its_end(how):
    tracker = LostDevice() if how == "lost device" else BlobTracker()
    app = make_app(make_config(), make_walk(20), tracker=tracker)
    turns = app.engine.iterate()
    if how == "closed generator":
        next(turns)
        turns.close()
    else:
        for _ in turns:
            pass
    # Else sinks that get on slowly would be waited for without a bound.
    assert app.engine._parts.inbox.is_stop_requested is (how != "end of the sources")
