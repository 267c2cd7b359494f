"""Streams enter, change and leave while others run."""

import threading

import pytest

from connectors.errors import BadFrameError, NotFoundError
from connectors.memory import MemorySink, MemorySource, Pause
from connectors.record import Topic
from pipeline.clock import ManualClock
from tests.pipeline.engine.commands import add, change, remove
from tests.pipeline.engine.runs import (
    CAMERA,
    assert_settled,
    bodies,
    counts_of,
    in_turn,
    make_app,
    make_config,
    playing,
    run,
    states_of,
    wait_until,
)
from tests.pipeline.engine.sinks import FilmSink
from tests.pipeline.fakes import BlobTracker, make_frame, make_walk


def endless(stream_id="cam", *, num_frames=6, **fields):
    return [*make_walk(num_frames, stream_id=stream_id, **fields), Pause(600)]


def num_results(sink, stream_id):
    found = bodies(sink, Topic.MASKLETS)
    return sum(body["stream_id"] == stream_id for body in found)


def stream_config(stream_id, **fields):
    return make_config(stream_id, **fields).streams[0]


def app_of(sink, scripts, *first, others=(), **fields):
    build = playing(scripts)
    return make_app(make_config(*first, **fields), sink=sink, others=others, build=build)


def test_a_stream_enters_and_another_leaves_while_a_third_runs():
    sink = MemorySink()
    scripts = {"a": endless("a"), "b": endless("b"), "late": endless("late")}
    engine = app_of(sink, scripts, "a", "b").engine
    summary = in_turn(
        engine,
        (
            lambda: num_results(sink, "a") == 6,
            lambda: engine.execute(add(stream_config("late"))),
        ),
        (lambda: num_results(sink, "late") == 6, lambda: engine.execute(remove("a"))),
        (lambda: states_of(sink, "a")[-1] == "ended", lambda: None),
    )
    ends = [t for t in bodies(sink, Topic.TRACKS) if t["kind"] == "ended"]
    assert {t["stream_id"]: t["reason"] for t in ends} == {
        "a": "removed",
        "b": "stopped",
        "late": "stopped",
    }
    assert counts_of(summary, "late").processed == counts_of(summary, "b").processed == 6
    assert_settled(summary)


def test_a_removed_stream_leaves_no_account_and_no_series_of_its_own():
    sink = MemorySink()
    app = app_of(sink, {"a": endless("a"), "b": endless("b")}, "a", "b")
    summary = in_turn(
        app.engine,
        (lambda: num_results(sink, "a") == 6, lambda: app.engine.execute(remove("a"))),
        (lambda: states_of(sink, "a")[-1] == "ended", lambda: None),
    )
    assert b'stream="a"' not in app.metrics.exposition()
    assert "a" not in app.health.readiness().streams
    assert counts_of(summary, "*").processed == 6


def test_sinks_close_what_they_keep_open_for_a_removed_stream():
    sink, film = MemorySink(), FilmSink()
    film.gate.set()
    app = app_of(sink, {"a": endless("a"), "b": endless("b")}, "a", "b", others=[film])
    in_turn(
        app.engine,
        (lambda: num_results(sink, "a") == 6, lambda: app.engine.execute(remove("a"))),
        (lambda: "a closed" in film.told, lambda: None),
    )


def test_a_stream_that_was_removed_may_enter_again():
    sink = MemorySink()
    engine = app_of(sink, {"a": endless("a"), "b": endless("b")}, "a", "b").engine
    in_turn(
        engine,
        (lambda: num_results(sink, "a") == 6, lambda: engine.execute(remove("a"))),
        (
            lambda: states_of(sink, "a")[-1] == "ended",
            lambda: engine.execute(add(stream_config("a"))),
        ),
        (lambda: num_results(sink, "a") == 12, lambda: None),
    )


def test_the_same_configuration_may_be_added_right_behind_its_removal():
    sink = MemorySink()
    app = app_of(sink, {"a": endless("a"), "b": endless("b")}, "a", "b")
    config = stream_config("a")

    def replace_a():
        app.engine.execute(remove("a"))
        app.engine.execute(add(config))

    summary = in_turn(
        app.engine,
        (lambda: num_results(sink, "a") == 6, replace_a),
        (lambda: num_results(sink, "a") == 12, lambda: None),
    )
    assert counts_of(summary, "b").processed == 6
    assert_settled(summary)


def test_a_command_that_raises_is_told_and_the_others_go_on(caplog):
    sink = MemorySink()
    scripts = {"cam": endless(), "late": endless("late")}
    engine = app_of(sink, scripts, "cam").engine
    odd = stream_config("odd").model_copy(update={"max_fps": "fast"})

    def command():
        engine.execute(add(odd))
        engine.execute(add(stream_config("late")))

    in_turn(
        engine,
        (lambda: num_results(sink, "cam") == 6, command),
        (lambda: num_results(sink, "late") == 6, lambda: None),
    )
    assert "command add_stream failed" in caplog.text
    assert states_of(sink, "cam")[-1] == "ended"


def test_a_source_without_a_thread_fails_its_stream_and_leaves_the_others(monkeypatch):
    def start(self):
        if self.name == "source-late":
            raise RuntimeError("can't start new thread")
        begin(self)

    begin = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    sink = MemorySink()
    engine = app_of(sink, {"cam": endless()}, "cam").engine
    in_turn(
        engine,
        (
            lambda: num_results(sink, "cam") == 6,
            lambda: engine.execute(add(stream_config("late"))),
        ),
        (lambda: "failed" in states_of(sink, "late"), lambda: None),
    )
    assert states_of(sink, "cam")[-1] == "ended"
    assert not engine._parts.table.sources


def test_other_concepts_keep_the_source_and_end_the_tracks_of_those_before():
    sink = MemorySink()
    red, green = make_walk(6), make_walk(9, concept="green")[6:]
    engine = app_of(sink, {"cam": [*red, Pause(0.3), *green, Pause(600)]}, "cam").engine
    changed = stream_config("cam", concepts=("green",))
    in_turn(
        engine,
        (lambda: num_results(sink, "cam") == 6, lambda: engine.execute(change(changed))),
        (lambda: num_results(sink, "cam") == 9, lambda: None),
    )
    tracks = bodies(sink, Topic.TRACKS)
    begun = [(t["concept"], t["track_no"]) for t in tracks if t["kind"] == "started"]
    assert [t["reason"] for t in tracks if t["kind"] == "ended"] == ["concept_removed", "stopped"]
    assert begun == [("red", 1), ("green", 2)]
    assert states_of(sink, "cam").count("connecting") == 1


def test_another_rate_builds_the_source_anew():
    sink = MemorySink()
    engine = app_of(sink, {"cam": endless()}, "cam").engine
    changed = stream_config("cam", max_fps=5)
    in_turn(
        engine,
        (lambda: num_results(sink, "cam") == 6, lambda: engine.execute(change(changed))),
        (lambda: num_results(sink, "cam") == 9, lambda: None),
    )
    assert states_of(sink, "cam").count("connecting") == 2


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (remove("none"), "'none'"),
        (change(stream_config("none")), "'none'"),
        (add(stream_config("cam")), "runs already"),
    ],
)
def test_a_command_that_cannot_be_changes_nothing(command, words, caplog):
    sink = MemorySink()
    engine = app_of(sink, {"cam": endless()}, "cam").engine
    in_turn(
        engine,
        (lambda: num_results(sink, "cam") == 6, lambda: engine.execute(command)),
        (lambda: words in caplog.text, lambda: None),
    )
    assert states_of(sink, "cam") == ["connecting", "running", "ended"]


class Garbling(MemorySource):
    """Every third record is garbage."""

    def read(self):
        if self._next % 3 == 2:
            self._next += 1
            position = {"offset": self._next - 1}
            raise BadFrameError("cam", "no picture", position=position, payload=b"\xff\x00junk")
        return super().read()


def test_bad_frames_are_counted_and_become_dead_letters():
    def build(stream, position):
        return Garbling(make_walk(9), position=position)

    summary, sink = run(make_config(), build=build)
    letters = [record for record in sink.records if record.topic is Topic.DLQ]
    counts = counts_of(summary)
    assert (counts.received, counts.processed, counts.dropped) == (9, 6, {"bad_frame": 3})
    assert {letter.value for letter in letters} == {b"\xff\x00junk"}
    assert dict(letters[0].headers)["maskstream_position"] == b'{"offset": 2}'
    assert_settled(summary)


class Folder(MemorySource):
    """A folder in which every frame is a file; the numbers in ``bad`` cannot be read."""

    bad = frozenset()

    def read(self):
        if self._next in self.bad:
            self._next += 1
            raise NotFoundError("cam", f"file {self._next - 1} is cut off", continues=True)
        return super().read()


@pytest.mark.parametrize("bad", [range(8), range(2, 10), range(5, 12), (0, 11)])
def test_bad_files_are_counted_and_named_wherever_they_stand(bad):
    class Card(Folder):
        pass

    Card.bad = frozenset(bad)
    summary, _ = run(make_config(), build=lambda stream, at: Card(make_walk(12), position=at))
    counts = counts_of(summary)
    assert (counts.processed, counts.dropped) == (12 - len(bad), {"bad_file": len(bad)})
    assert len(summary.streams[0].bad_files) == len(bad) == summary.num_failed
    assert f"file {bad[0]} is cut off" in summary.errors[0]
    assert (summary.exit_code(), summary.exit_code(is_strict=True)) == (0, 1)


def test_a_source_without_one_good_file_is_code_1():
    card = type("Card", (Folder,), {"bad": frozenset(range(3))})
    summary, _ = run(make_config(), build=lambda stream, at: card(make_walk(3), position=at))
    assert summary.exit_code() == 1


def test_an_idle_stream_of_a_naming_source_is_closed_and_may_come_back():
    sink, clock = MemorySink(), ManualClock()
    walk = make_walk(4, stream_id="a")
    script = [*walk[:2], Pause(0.5), *walk[2:], Pause(600)]
    config = make_config("*", engine={"idle_close_s": 5.0}, status={"every_s": 3600})
    app = make_app(config, script, sink=sink, clock=clock)
    shown = []
    summary = in_turn(
        app.engine,
        (lambda: num_results(sink, "a") == 2, lambda: clock.advance(6.0)),
        (
            lambda: "ended" in states_of(sink, "a"),
            lambda: shown.append((app.metrics.exposition(), app.health.readiness())),
        ),
        (lambda: num_results(sink, "a") == 4, lambda: None),
    )
    exposition, report = shown[0]
    assert b'stream="a"' not in exposition
    assert "a" not in report.streams
    assert counts_of(summary, "*").processed == 4
    assert_settled(summary)


def test_streams_that_come_and_go_leave_nothing_behind():
    sink, clock = MemorySink(), ManualClock()
    frames = [make_frame(0, stream_id=f"key-{number}", size=(2, 2)) for number in range(150)]
    config = make_config("*", engine={"idle_close_s": 5.0}, status={"every_s": 3600})
    app = make_app(config, frames, sink=sink, clock=clock)
    summary = app.engine.run(lambda: clock.advance(6.0))
    shown = app.metrics.exposition()
    assert counts_of(summary, "*").processed == 150
    assert b"key-" not in shown
    assert app.health.readiness().streams.keys() == {"*"}
    assert not app.engine._parts.table.sources
    assert len(app.engine._parts.scheduler) == 0


def test_a_stream_is_not_idle_while_its_frames_wait():
    sink, clock = MemorySink(), ManualClock()
    walks = make_walk(4, stream_id="a"), make_walk(4, stream_id="b")
    config = make_config("*", engine={"idle_close_s": 5.0, "max_batch": 1})
    script = [frame for pair in zip(*walks, strict=True) for frame in pair]
    app = make_app(config, [*script, Pause(600)], sink=sink, clock=clock)
    table = app.engine._parts.table

    def on_turn():
        if len(table) == 2 and clock.monotonic_s() == began_s:
            wait_until(lambda: all(running.buffer.num_frames for running in table))
            clock.advance(6.0)  # the next turn takes long, and one of the two has to wait
        elif num_results(sink, "a") + num_results(sink, "b") == 8:
            app.engine.stop()

    began_s = clock.monotonic_s()
    app.engine.run(on_turn)
    ends = [t["reason"] for t in bodies(sink, Topic.TRACKS) if t["kind"] == "ended"]
    assert ends == ["stopped", "stopped"]


def test_a_naming_source_that_fails_is_in_the_summary_and_the_exit_code():
    def build(stream, position):
        class Gone(MemorySource):
            def open(self):
                raise NotFoundError("*", "no such folder")

        return Gone([])

    summary, sink = run(make_config("*"), build=build)
    assert "no such folder" in summary.errors[0]
    assert summary.exit_code() == 1
    assert states_of(sink, "*")[-1] == "failed"


def test_frames_that_wait_when_a_stream_is_closed_for_idleness_are_not_lost():
    sink, clock = MemorySink(), ManualClock()
    frames = [make_frame(seq, stream_id="a") for seq in range(40)]
    app = make_app(
        make_config("*", engine={"idle_close_s": 5.0, "buffer_frames": 4}),
        frames,
        sink=sink,
        clock=clock,
    )
    summary = app.engine.run(lambda: clock.advance(6.0))
    assert counts_of(summary, "*").processed == 40
    assert_settled(summary)


class Forgetful(BlobTracker):
    """Cannot go on with what it has kept."""

    def restore_stream(self, stream_id, concepts, memory):
        raise RuntimeError("not mine")


@pytest.mark.parametrize(("kind", "reasons"), [(BlobTracker, []), (Forgetful, ["model_error"])])
def test_tracks_of_a_camera_end_at_a_start_only_if_the_model_cannot_go_on(kind, reasons, tmp_path):
    config, walk = make_config(source=CAMERA, overflow="wait"), make_walk(24)
    state = config.state.model_copy(update={"folder": tmp_path})
    config = config.model_copy(update={"state": state})
    for tracker, first, last in ((BlobTracker(), 0, 20), (kind(), 20, 24)):
        sink = MemorySink()
        app = make_app(config, [*walk[:last], Pause(600)], sink=sink, tracker=tracker)
        in_turn(
            app.engine,
            (lambda sink=sink, num=last - first: num_results(sink, "cam") == num, lambda: None),
        )
    ended = [track for track in bodies(sink, Topic.TRACKS) if track["kind"] == "ended"]
    assert [track["reason"] for track in ended] == reasons
