"""Whatever raises costs one frame of one stream, counted by cause, and disturbs no other."""

from dataclasses import replace
from datetime import timedelta

import pytest

from connectors.memory import MemorySink, Pause
from connectors.record import Topic
from pipeline.events.event import RuleFailure
from pipeline.events.rules.machine import RuleBook, RuleMachine
from pipeline.streams.stream import Stream
from pipeline.tracking.tracks import TrackBook
from tests.pipeline.engine.runs import (
    CAMERA,
    assert_settled,
    bodies,
    counts_of,
    in_turn,
    make_app,
    make_config,
    run,
    states_of,
)
from tests.pipeline.engine.sinks import FilmSink, value_of
from tests.pipeline.fakes import BlobTracker, make_frame, make_walk


def white(*frames):
    """Let the model fail on these frames."""
    for frame in frames:
        frame.pixels[0, 0] = 255


def uids(sink, stream_id):
    tracks = bodies(sink, Topic.TRACKS)
    return {track["track_uid"] for track in tracks if track["stream_id"] == stream_id}


def test_a_frame_that_the_model_fails_on_costs_itself_alone():
    frames = make_walk(20)
    white(frames[8])
    sink = MemorySink()
    app = make_app(make_config(), frames, sink=sink)
    summary = app.engine.run()
    assert value_of(app.metrics, "model_resets_total", stream="cam") == 0
    counts = counts_of(summary)
    reasons = [t["reason"] for t in bodies(sink, Topic.TRACKS) if t["kind"] == "ended"]
    new = [event["rule"] for event in bodies(sink, Topic.EVENTS) if event["phase"] == "new"]
    assert (counts.processed, counts.dropped) == (19, {"model_error": 1})
    assert (reasons, new) == (["stream_ended"], ["seen", "in-right"])
    assert summary.num_failed == 0
    assert_settled(summary)


def test_two_failures_in_a_row_cost_the_session_where_nothing_is_saved_of_it():
    frames = make_walk(26)
    white(*frames[8:10])
    sink = MemorySink()
    app = make_app(make_config(), frames, sink=sink)
    summary = app.engine.run()
    assert value_of(app.metrics, "model_resets_total", stream="cam") == 1
    reasons = [t["reason"] for t in bodies(sink, Topic.TRACKS) if t["kind"] == "ended"]
    assert reasons == ["model_error", "stream_ended"]
    assert len(uids(sink, "cam")) == 2
    assert_settled(summary)


def test_innocent_streams_of_a_failing_batch_keep_their_tracks():
    bad = make_walk(40, stream_id="bad")
    white(*bad)
    summary, sink = run(make_config("good", "bad"), make_walk(40, stream_id="good"), bad)
    assert counts_of(summary, "good").processed == 40
    assert len(uids(sink, "good")) == 1
    assert_settled(summary)


def test_a_model_that_always_fails_is_stated_and_the_stream_is_never_given_up():
    frames = make_walk(100)
    white(*frames[:80])
    tracker = BlobTracker()
    summary, sink = run(make_config(), frames, tracker=tracker)
    status = bodies(sink, Topic.STATUS)
    errors = [body["error"]["type"] if body.get("error") else None for body in status]
    counts = counts_of(summary)
    # Failures at 0, 0.1, then left out for 0.5, 1, 2 and 4 s: frames 6, 16, 36 and 76.
    assert len(tracker.batches) == 6
    assert (counts.processed, counts.dropped) == (0, {"model_error": 100})
    assert "ModelError" in errors
    assert states_of(sink, "cam")[-1] == "ended"
    assert "white corner" in summary.errors[0]
    assert (summary.num_failed, summary.exit_code()) == (1, 0)
    assert_settled(summary)


def test_a_model_that_works_again_is_no_failure_any_more():
    frames = make_walk(40)
    white(*frames[:3])
    summary, sink = run(make_config(), frames)
    counts = counts_of(summary)
    # After the second failure half a second, five frames, is left out; then it works.
    assert (counts.processed, counts.dropped) == (34, {"model_error": 6})
    assert bodies(sink, Topic.STATUS)[-1].get("error") is None
    assert summary.num_failed == 0


def test_failures_with_results_between_them_leave_nothing_out():
    frames = make_walk(20)
    white(frames[3], frames[5], frames[7])
    summary, _ = run(make_config(), frames)
    counts = counts_of(summary)
    assert (counts.processed, counts.dropped) == (17, {"model_error": 3})


@pytest.mark.parametrize("source_fields", [{}, {"source": CAMERA}])
def test_concepts_that_the_model_refuses_are_stated_and_tried_again(source_fields):
    config = make_config(concepts=("mauve",), overflow="wait", **source_fields)
    summary, sink = run(config, make_walk(30))
    assert "mauve" in summary.errors[0]
    assert counts_of(summary).dropped == {"model_error": 30}
    assert any(body.get("error") for body in bodies(sink, Topic.STATUS))
    assert_settled(summary)


def test_the_model_forgets_a_stream_that_it_fails_on():
    frames = make_walk(12)
    white(*frames[2:])
    tracker, held = BlobTracker(), []
    app = make_app(make_config(), frames, tracker=tracker)

    def on_turn():
        if app.engine._parts.ledger.counts("cam").dropped.get("model_error", 0) > 1:
            held.append("cam" in tracker.streams)

    app.engine.run(on_turn)
    assert held
    assert not any(held)


def test_a_camera_clock_that_was_set_back_is_counted():
    frames = make_walk(12)
    late = [replace(f, captured_at=f.captured_at - timedelta(seconds=30)) for f in frames[6:]]
    app = make_app(make_config(), [*frames[:6], *late])
    app.engine.run()
    assert b'maskstream_clock_reanchors_total{stream="cam"} 1.0' in app.metrics.exposition()


def raise_on(monkeypatch, name, frames):
    """Let a method of every stream called "bad" raise on frames of these numbers."""
    method = getattr(Stream, name)

    def raising(self, first, *args, **fields):
        frame = getattr(first, "frame", first)
        if self.stream_id == "bad" and frame.frame_seq in frames:
            raise ZeroDivisionError("a bug in a rule")
        return method(self, first, *args, **fields)

    monkeypatch.setattr(Stream, name, raising)


@pytest.mark.parametrize("name", ["admit", "apply"])
@pytest.mark.parametrize("frames", [{4}, set(range(20))])
def test_a_bug_in_tracks_or_rules_costs_the_result_of_its_frame(monkeypatch, name, frames):
    raise_on(monkeypatch, name, frames)
    walks = [make_walk(20, stream_id=stream_id) for stream_id in ("good", "bad")]
    summary, sink = run(make_config("good", "bad"), *walks)
    counts = counts_of(summary, "bad")
    assert (counts.processed, counts.dropped) == (20 - len(frames), {"stream_error": len(frames)})
    assert counts_of(summary, "good").processed == 20
    assert len(uids(sink, "good")) == 1
    assert states_of(sink, "bad")[-1] == "ended"
    assert_settled(summary)


def test_a_rule_that_raises_is_counted_and_costs_no_result(monkeypatch, caplog):
    def failing(self, *args, **fields):
        update = apply(self, *args, **fields)
        return replace(update, failures=(RuleFailure(rule="seen", error=ZeroDivisionError("x")),))

    apply = RuleBook.apply
    monkeypatch.setattr(RuleBook, "apply", failing)
    sink = MemorySink()
    app = make_app(make_config(), make_walk(5), sink=sink)
    assert counts_of(app.engine.run()).processed == 5
    shown = app.metrics.exposition().decode()
    assert 'maskstream_rule_errors_total{rule="seen",stream="cam"} 6.0' in shown
    assert "rule 'seen' raised" in caplog.text


@pytest.mark.parametrize("step", ["_begin", "_tell", "_end_track"])
def test_a_rule_that_raises_when_a_session_ends_disturbs_nobody(monkeypatch, caplog, step):
    method = getattr(RuleMachine, step)

    def raising(self, *args, **fields):
        if self._config.name == "in-right":
            raise ZeroDivisionError("a bug in a rule")
        return method(self, *args, **fields)

    monkeypatch.setattr(RuleMachine, step, raising)
    bad = make_walk(20, stream_id="bad")
    white(bad[15])
    walks = make_walk(20, stream_id="good"), bad
    summary, sink = run(make_config("good", "bad"), *walks)
    events = [e for e in bodies(sink, Topic.EVENTS) if e["stream_id"] == "good"]
    seen = [event["phase"] for event in events if event["rule"] == "seen"]
    assert counts_of(summary, "good").processed == 20
    assert counts_of(summary, "bad").processed == 19
    assert len(uids(sink, "good")) == 1
    assert seen == ["new", "end"]
    assert "rule 'in-right' raised" in caplog.text
    assert_settled(summary)


def test_a_session_that_cannot_be_ended_after_a_model_error_disturbs_nobody(monkeypatch):
    def raising(self, reason, *, now):
        raise ZeroDivisionError("a bug at the end")

    monkeypatch.setattr(Stream, "end_session", raising)
    bad = make_walk(20, stream_id="bad")
    white(*bad[5:7])
    summary, _ = run(make_config("good", "bad"), make_walk(20, stream_id="good"), bad)
    assert counts_of(summary, "good").processed == 20
    assert_settled(summary)


def test_a_bug_at_the_end_of_a_stream_ends_it_all_the_same(monkeypatch):
    def raising(self, reason, *, is_complete):
        raise ZeroDivisionError("a bug at the end")

    monkeypatch.setattr(TrackBook, "close", raising)
    sink = MemorySink()
    app = make_app(make_config(), make_walk(5), sink=sink)
    summary = app.engine.run()
    shown = app.metrics.exposition().decode()
    assert counts_of(summary).processed == 5
    assert states_of(sink, "cam")[-1] == "ended"
    assert 'maskstream_session_errors_total{stream="cam"} 1.0' in shown
    assert 'maskstream_tracks{state="confirmed",stream="cam"} 0.0' in shown
    assert 'maskstream_sink_waiting{sink="MemorySink"} 0.0' in shown


def test_garbage_of_one_source_costs_the_others_nothing():
    odd = [make_frame(seq, stream_id="odd", size=(1 + seq % 3, 1 + seq % 2)) for seq in range(12)]
    summary, sink = run(make_config("good", "odd"), make_walk(12, stream_id="good"), odd)
    assert counts_of(summary, "good").processed == 12
    assert len(uids(sink, "good")) == 1
    assert_settled(summary)


def test_a_hanging_sink_slows_files_and_never_cameras():
    film = FilmSink()
    config = make_config("file", "live", delivery={"queue": 2})
    file, live = config.streams
    live = live.model_copy(update={"source": CAMERA})
    config = config.model_copy(update={"streams": (file, live)})
    file_walk, live_walk = (make_walk(30, stream_id=name) for name in ("file", "live"))
    app = make_app(config, file_walk, [*live_walk, Pause(600)], sink=film)

    def is_live_done():
        counts = counts_of(app.engine.summary(), "live")
        return counts.received == 30 and counts.waiting == 0

    def let_go():
        assert counts_of(app.engine.summary(), "file").processed <= 3
        film.gate.set()

    summary = in_turn(
        app.engine,
        (is_live_done, let_go),
        (lambda: counts_of(app.engine.summary(), "file").processed == 30, lambda: None),
    )
    assert not counts_of(summary, "file").dropped
