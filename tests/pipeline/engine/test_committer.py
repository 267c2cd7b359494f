"""Sources that keep their position elsewhere are told how far their results are safe."""

import pytest

from connectors.errors import BadFrameError
from connectors.memory import Disconnect, MemorySink, MemorySource, Pause
from connectors.record import Topic
from tests.pipeline.engine.runs import bodies, counts_of, in_turn, make_app, make_config, run
from tests.pipeline.engine.sinks import LoggedSink, opened
from tests.pipeline.fakes import make_walk


class Kept(MemorySource):
    """Notes at each commit how many results were written and flushed."""

    sink = None
    commits = ()

    def commit(self, position):
        written = len(bodies(self.sink, Topic.MASKLETS))
        type(self).commits += ((position["index"], written, self.sink.num_flushes),)


def kept(*script, sink, base=Kept):
    """Return a builder of such sources, and the class that notes the commits."""
    kind = type("KeptHere", (base,), {"sink": sink})

    def build(stream, position):
        return kind(script, stream_id=stream.id, position=position)

    return build, kind


OFTEN = {"commit_every_s": 1e-6}


def test_positions_are_committed_only_when_the_results_are_durable():
    sink = MemorySink()
    build, kind = kept(*make_walk(40), sink=sink)
    run(make_config(engine=OFTEN), sink=sink, build=build)
    assert len(kind.commits) > 2
    assert all(position <= written for position, written, _ in kind.commits)
    assert all(num_flushes > 0 for *_, num_flushes in kind.commits)
    assert kind.commits[-1][0] == 40


def test_positions_only_grow_over_a_reconnect():
    sink = MemorySink()
    walk = make_walk(20)
    build, kind = kept(*walk[:10], Disconnect(), *walk[10:], sink=sink)
    run(make_config(engine=OFTEN), sink=sink, build=build)
    positions = [position for position, *_ in kind.commits]
    assert positions == sorted(positions)
    assert positions[-1] == 21


def test_the_last_position_is_committed_when_the_run_is_stopped_on_an_idle_source():
    sink = MemorySink()
    build, kind = kept(*make_walk(6), Pause(600), sink=sink)
    app = make_app(make_config(engine={"commit_every_s": 3600}), sink=sink, build=build)
    in_turn(app.engine, (lambda: len(bodies(sink, Topic.MASKLETS)) == 6, lambda: None))
    assert [position for position, *_ in kind.commits] == [6]


def test_frames_that_a_stop_drops_are_not_passed():
    sink = MemorySink()
    build, kind = kept(*make_walk(500), sink=sink)
    app = make_app(make_config(), sink=sink, build=build)
    turns = iter(range(5))
    summary = app.engine.run(lambda: next(turns, None) is None and app.engine.stop())
    assert counts_of(summary).dropped["stopped"] > 0
    assert kind.commits[-1][0] == counts_of(summary).processed


def test_nothing_is_committed_when_the_sink_has_failed():
    sink = MemorySink(capacity=0)
    build, kind = kept(*make_walk(10), sink=sink)
    other = MemorySink()
    app = make_app(make_config(engine=OFTEN), sink=sink, build=build, others=[other])
    summary = app.engine.run()
    assert kind.commits == ()
    assert summary.sink_errors
    assert len(bodies(other, Topic.MASKLETS)) == 10


def test_a_sink_of_pictures_that_was_given_up_holds_no_commit_back():
    good, bad = MemorySink(), MemorySink(capacity=0)
    bad.is_durable = False
    build, kind = kept(*make_walk(40), sink=good)
    app = make_app(make_config(engine=OFTEN), sink=bad, others=[good], build=build)
    summary = app.engine.run()
    assert summary.sink_errors
    assert kind.commits[-1][0] == 40


class Garbling(Kept):
    """The last record is garbage."""

    def read(self):
        if self._next == 3:
            self._next += 1
            raise BadFrameError("cam", "no picture", payload=b"junk")
        return super().read()


def test_garbage_is_passed_once_its_dead_letter_is_durable():
    sink = MemorySink()
    build, kind = kept(*make_walk(4), sink=sink, base=Garbling)
    run(make_config(engine=OFTEN), sink=sink, build=build)
    assert any(record.topic is Topic.DLQ for record in sink.records)
    assert kind.commits[-1][0] == 4


def test_frames_that_the_model_fails_on_hold_nothing_back():
    sink, walk = MemorySink(), make_walk(20)
    for frame in walk[5:8]:
        frame.pixels[0, 0] = 255
    build, kind = kept(*walk, sink=sink)
    summary, _ = run(make_config(), sink=sink, build=build)
    assert counts_of(summary).dropped["model_error"] >= 3
    assert kind.commits[-1][0] == 20


@pytest.mark.parametrize("fields", [{"max_fps": 2}, {"overflow": "drop_oldest"}])
def test_frames_left_out_on_the_way_hold_nothing_back(fields):
    sink = MemorySink()
    build, kind = kept(*make_walk(60), sink=sink)
    run(make_config(**fields), sink=sink, build=build)
    assert kind.commits[-1][0] == 60


def test_a_stop_commits_what_lies_on_disk_for_a_sink_that_is_away():
    build, kind = kept(*make_walk(6), Pause(600), sink=MemorySink())
    away = opened(kind=LoggedSink, is_away=True)
    app = make_app(make_config(engine={"commit_every_s": 3600}), sink=away, build=build)
    in_turn(app.engine, (lambda: counts_of(app.engine.summary()).processed == 6, lambda: None))
    assert [position for position, *_ in kind.commits] == [6]
    assert not away.keys
