"""Sources that keep their position elsewhere, go away, or name their streams."""

import threading

import pytest

from connectors.errors import BadFrameError, UnsupportedMediaError
from connectors.memory import Disconnect, MemorySink, MemorySource, Pause
from connectors.record import Topic
from pipeline.app import build_app
from pipeline.clock import ManualClock
from tests.pipeline.engine.test_engine import bodies, make_config
from tests.pipeline.fakes import BlobTracker, make_frame, make_walk


class CommittingSource(MemorySource):
    """Notes how many masklets records were durable at each commit."""

    def __init__(self, steps, sink, **fields):
        super().__init__(steps, **fields)
        self.sink, self.commits = sink, []

    def commit(self, position):
        durable = len(bodies(self.sink, Topic.MASKLETS))
        self.commits.append((position["index"], durable, self.sink.num_flushes))


def run(source, *, config=None, sink=None, **fields):
    sink = sink or MemorySink()
    app = build_app(
        config or make_config(), tracker=BlobTracker(), sources=[source], sinks=[sink], **fields
    )
    return app.engine.run(), sink


def test_positions_are_committed_only_when_the_results_are_durable():
    sink = MemorySink()
    source = CommittingSource(make_walk(40), sink)
    run(source, sink=sink, config=make_config(engine={"commit_every_s": 1e-6}))
    assert len(source.commits) > 10
    assert all(read == durable for read, durable, _ in source.commits)
    assert all(num > 0 for *_, num in source.commits)


def test_nothing_is_committed_when_the_sink_has_failed():
    sink = MemorySink(capacity=0)
    source = CommittingSource(make_walk(10), sink)
    summary, _ = run(source, sink=sink)
    assert source.commits == []
    assert not summary.is_good


def test_a_source_that_stays_away_fails_after_its_retries():
    script = [*make_walk(3), *[Disconnect()] * 3]
    source = MemorySource(script, stream_id="cam")
    summary, sink = run(source, config=make_config(engine={"source_retries": 2}))
    states = [status["state"] for status in bodies(sink, Topic.STATUS)]
    assert "hung up" in summary.streams[0].error
    assert states.count("reconnecting") == 2
    assert source.num_opened == 3


class RefusingSource(MemorySource):
    def open(self):
        super().open()
        raise UnsupportedMediaError("cam", "no picture")


def test_an_error_that_will_not_pass_is_not_tried_again():
    source = RefusingSource([], stream_id="cam")
    summary, _ = run(source)
    assert source.num_opened == 1
    assert "no picture" in summary.streams[0].error


class GarblingSource(MemorySource):
    """Every third record is garbage."""

    def read(self):
        if self._next % 3 == 2:
            self._next += 1
            position = {"offset": self._next - 1}
            raise BadFrameError("cam", "no picture", position=position, payload=b"\xff\x00junk")
        return super().read()


def test_bad_frames_are_counted_and_become_dead_letters():
    summary, sink = run(GarblingSource(make_walk(9)))
    letters = [record for record in sink.records if record.topic is Topic.DLQ]
    counts = summary.streams[0].counts
    assert (counts.received, counts.processed, counts.dropped) == (9, 6, {"bad_frame": 3})
    assert {letter.value for letter in letters} == {b"\xff\x00junk"}
    assert dict(letters[0].headers)["maskstream_position"] == b'{"offset": 2}'


class BuggySource(MemorySource):
    def read(self):
        raise ZeroDivisionError("oops")


def test_a_bug_in_a_source_fails_its_stream_only():
    config = make_config("good", "bad")
    sources = [MemorySource(make_walk(5, stream_id="good")), BuggySource([])]
    app = build_app(config, tracker=BlobTracker(), sources=sources, sinks=[MemorySink()])
    by_id = {stream.stream_id: stream for stream in app.engine.run().streams}
    assert by_id["good"].counts.processed == 5
    assert "oops" in by_id["bad"].error


def start(config, source, clock):
    sink = MemorySink()
    app = build_app(config, tracker=BlobTracker(), sources=[source], sinks=[sink], clock=clock)
    turns = threading.Semaphore(0)
    thread = threading.Thread(target=app.engine.run, args=(turns.release,))
    thread.start()
    return app, sink, thread, turns


def wait_for(turns, condition, *, num_turns=600):
    for _ in range(num_turns):
        assert turns.acquire(timeout=30)
        if condition():
            return
    pytest.fail("it did not come about")


def states_of(sink, stream_id):
    return [s["state"] for s in bodies(sink, Topic.STATUS) if s["stream_id"] == stream_id]


def test_a_silent_stream_says_so_every_second():
    clock = ManualClock()
    source = MemorySource([make_frame(0), Pause(600)])
    app, sink, thread, turns = start(make_config(), source, clock)
    wait_for(turns, lambda: bodies(sink, Topic.MASKLETS))
    for num_said in (1, 2):
        clock.advance(1.0)
        wait_for(turns, lambda num=num_said: states_of(sink, "cam").count("waiting") == num)
    app.engine.stop()
    thread.join(30)
    assert states_of(sink, "cam")[-1] == "ended"


def test_an_idle_stream_of_a_naming_source_is_closed_and_may_come_back():
    clock = ManualClock()
    walk = make_walk(4, stream_id="a")
    source = MemorySource([*walk[:2], Pause(600), *walk[2:]])
    config = make_config("*", engine={"idle_close_s": 5.0})
    app, sink, thread, turns = start(config, source, clock)
    wait_for(turns, lambda: len(bodies(sink, Topic.MASKLETS)) == 2)
    clock.advance(6.0)
    wait_for(turns, lambda: "ended" in states_of(sink, "a"))
    assert b'maskstream_buffer_frames{stream="a"}' not in app.metrics.exposition()
    app.engine.stop()
    thread.join(30)
    assert app.engine.summary().streams[0].counts.processed == 2


def test_reading_again_after_a_recoverable_error_keeps_the_frames():
    source = MemorySource([*make_walk(5), Disconnect("blip"), make_frame(5)])
    summary, _ = run(source)
    assert summary.streams[0].counts.processed == 6
