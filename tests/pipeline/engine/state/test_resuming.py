"""Streams go on in another process, exactly where frames can be read again."""

import json
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from shutil import copytree
from time import monotonic

import pytest

from connectors.frame import Frame
from connectors.kafka.config import KafkaSourceConfig
from connectors.memory import MemorySink, MemorySource, Pause
from connectors.record import Topic
from pipeline.clock import format_time
from pipeline.config.sections.engine import EngineConfig
from pipeline.engine.outbox import Outbox
from pipeline.engine.state.keeper import LEASED_NUMBERS
from pipeline.engine.state.snapshot_file import decode_snapshot_file
from tests.pipeline.engine.commands import change
from tests.pipeline.engine.runs import CAMERA, bodies, in_turn, make_app, make_config
from tests.pipeline.engine.sinks import GateSink
from tests.pipeline.fakes import BlobTracker, make_frame, make_walk

KAFKA = KafkaSourceConfig(bootstrap="127.0.0.1:1", topic="frames")
WALK = make_walk(24)
EAGER = EngineConfig(buffer_frames=64, commit_every_s=0.05)


class Replayed(MemorySource):
    """Frames that can be read again."""

    committed = None

    def commit(self, position):
        self.committed = dict(position)

    def interrupt(self):
        self.close()


@pytest.fixture
def config_of(tmp_path):
    def make(source, stream_id="cam", **fields):
        config = make_config(stream_id, source=source, engine={"buffer_frames": 64}, **fields)
        state = config.state.model_copy(update={"folder": tmp_path / "state"})
        return config.model_copy(update={"state": state})

    return make


def play(config, frames, *, until=None, committed=None, tracker=None):
    """Run an engine over frames, from those committed on, or until so many have a result."""
    frames = frames if until is None else [*frames[:until], Pause(600)]
    sink, made = MemorySink(), []

    def build(stream, position):
        kind = Replayed if stream.source.keeps_position else MemorySource
        mine = [
            replace(step, stream_id=stream.id) if isinstance(step, Frame) else step
            for step in frames
        ]
        made.append((kind(mine, stream_id=stream.id, position=position or committed), position))
        return made[-1][0]

    app = make_app(config, sink=sink, build=build, tracker=tracker or BlobTracker())
    if until is None:
        app.engine.run()
    else:
        in_turn(app.engine, (lambda: len(sink.of(Topic.MASKLETS)) == until, lambda: None))
    return app, sink, made


def told(*sinks):
    """By kind, ids and bodies but for times of results, in order."""
    found = {}
    for topic in (Topic.MASKLETS, Topic.TRACKS, Topic.EVENTS):
        for record in (record for sink in sinks for record in sink.of(topic)):
            body = json.loads(record.value)
            body.pop("result_time")
            found.setdefault(topic, []).append((dict(record.headers)["ce_id"], body))
    return found


@pytest.mark.parametrize("cut", [1, 2, 9, 17])
def test_stopped_stream_from_kafka_goes_on_equal_to_the_byte(config_of, tmp_path, cut):
    _, whole, _ = play(config_of(KAFKA), WALK)
    config = config_of(KAFKA)
    config = config.model_copy(
        update={"state": config.state.model_copy(update={"folder": tmp_path / "other"})}
    )
    _, first, _ = play(config, WALK, until=cut)
    app, second, _ = play(config, WALK)
    assert told(first, second) == told(whole)
    num_first = len(first.of(Topic.MASKLETS))
    counts = app.engine.summary().streams[0].counts
    assert counts.dropped == {"repeated": num_first}
    assert counts.processed == len(WALK) - num_first


def test_frames_are_committed_once_a_snapshot_holds_them(config_of):
    config = config_of(KAFKA)
    app, _, made = play(config, WALK, until=5)
    (source, _), *_ = made
    (snapshot,) = (config.state.folder / "snapshots").glob("*/newest.snapshot")
    assert source.committed == about_of(snapshot).source
    assert about_of(snapshot).is_full
    assert value_of(app, "snapshots_total") >= 1


def about_of(path):
    return decode_snapshot_file(path.read_bytes()).about


def value_of(app, name):
    return app.metrics.registry.get_sample_value(f"maskstream_{name}", {"stream": "cam"})


def test_camera_goes_on_with_its_track_and_its_events(config_of):
    config = config_of(CAMERA)
    _, first, made = play(config, WALK, until=20)
    assert made[0][1] is None
    assert [body["phase"] for body in bodies(first, Topic.EVENTS)] == ["new", "new"]
    _, second, made = play(config, WALK)
    assert made[0][1]["index"] == len(first.of(Topic.MASKLETS))
    (restored,) = {str(body["restored"]) for body in bodies(second, Topic.STATUS)}
    assert "'taken_at': '20" in restored
    assert "'age_s': " in restored
    assert "error" not in restored
    tracks = [*bodies(first, Topic.TRACKS), *bodies(second, Topic.TRACKS)]
    assert [body["kind"] for body in tracks] == ["started", "confirmed", "ended"]
    assert len({body["track_uid"] for body in tracks}) == 1
    events = bodies(second, Topic.EVENTS)
    assert [(body["rule"], body["phase"]) for body in events] == [
        ("seen", "end"),
        ("in-right", "end"),
    ]
    before = {body["rule"]: body for body in bodies(first, Topic.EVENTS)}
    for body in events:
        assert body["event_id"] == before[body["rule"]]["event_id"]
        assert body["start_time"] == before[body["rule"]]["start_time"]
        assert body["sequence"] == before[body["rule"]]["sequence"] + 1


def test_new_tracks_after_a_restart_have_numbers_of_their_own(config_of):
    config = config_of(CAMERA, concepts=("red", "green"))
    _, first, _ = play(config, WALK, until=20)
    green = [*WALK, *make_walk(40, concept="green")[24:]]
    _, second, _ = play(config, green)
    uids, numbers = set(), {}
    for body in [*bodies(first, Topic.TRACKS), *bodies(second, Topic.TRACKS)]:
        uids.add(body["track_uid"])
        numbers.setdefault(body["track_no"], set()).add(body["track_uid"])
    assert len(uids) == 2
    assert all(len(found) == 1 for found in numbers.values())


def test_without_resume_nothing_is_kept(config_of):
    config = config_of(CAMERA)
    state = config.state.model_copy(update={"resume": False})
    config = config.model_copy(update={"state": state})
    _, first, _ = play(config, WALK, until=20)
    assert [body["phase"] for body in bodies(first, Topic.EVENTS)][-2:] == ["end", "end"]
    assert not config.state.folder.exists()


def test_damaged_state_begins_anew_and_ends_what_was_open(config_of, caplog):
    config = config_of(CAMERA)
    _, first, _ = play(config, WALK, until=20)
    for path in (config.state.folder / "snapshots").glob("*/*.snapshot"):
        path.write_bytes(path.read_bytes()[:-7])
    _, second, _ = play(config, WALK)
    assert "cut or damaged" in caplog.text
    ended = bodies(second, Topic.EVENTS)[: len(bodies(first, Topic.EVENTS))]
    assert [body["event_id"] for body in ended] == [
        body["event_id"] for body in bodies(first, Topic.EVENTS)
    ]
    assert {(body["phase"], body["end_reason"]) for body in ended} == {("end", "state_lost")}
    assert bodies(second, Topic.EVENTS)[len(ended)]["phase"] == "new"
    for body in bodies(second, Topic.STATUS):
        assert body["restored"].keys() == {"error"}
        assert body["restored"]["error"].count("cut or damaged") == 2
        assert body["restored"]["error"].endswith("; the stream begins anew")


def test_one_damaged_snapshot_is_told_and_the_one_before_it_is_used(config_of):
    config = config_of(CAMERA, concepts=("red", "green"))
    play(config, WALK, until=10)
    (path,) = (config.state.folder / "snapshots").glob("*/newest.snapshot")
    path.write_bytes(path.read_bytes()[:-7])
    before = about_of(path.with_name("former.snapshot"))
    _, sink, made = play(config, [*WALK, *make_walk(40, concept="green")[24:]])
    assert made[0][1] == before.source
    for body in bodies(sink, Topic.STATUS):
        assert body["restored"]["taken_at"] == format_time(before.taken_at)
        assert body["restored"]["error"].endswith("wrong; the one before it is used")
    # By leave of the damaged one, numbers may have been given that are not in the one before.
    numbers = {body["track_no"] for body in bodies(sink, Topic.TRACKS)}
    assert numbers == {1, before.next_no + LEASED_NUMBERS}


class GapTracker(BlobTracker):
    """Remembers whether frames were missed before it went on."""

    has_gap = None

    def restore_stream(self, stream_id, concepts, memory):
        self.has_gap = memory.has_gap
        return super().restore_stream(stream_id, concepts, memory)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_no_id_is_given_twice_where_frames_behind_a_snapshot_do_not_come_again(
    config_of, is_damaged
):
    config = config_of(KAFKA, concepts=("red", "green", "blue"))
    things = [*[("red",)] * 2, *[("red", "green")] * 13, *[("red", "blue")] * 13]
    places = {"red": (2, 2), "green": (8, 10), "blue": (18, 10)}
    frames = [
        make_frame(number, blobs={name: places[name] for name in names})
        for number, names in enumerate(things)
    ]
    _, first, [(source, _)] = play(config, frames, until=15)
    assert source.committed["index"] == 15
    (path,) = (config.state.folder / "snapshots").glob("*/newest.snapshot")
    if is_damaged:
        path.write_bytes(path.read_bytes()[:-7])
    tracker = GapTracker()
    _, second, _ = play(config, frames, committed=source.committed, tracker=tracker)
    assert tracker.has_gap == is_damaged
    uids, phases = {}, {}
    for sink in (first, second):
        for body in bodies(sink, Topic.TRACKS):
            uids.setdefault(body["track_uid"], set()).add((body["concept"], body["track_no"]))
        for body in bodies(sink, Topic.EVENTS):
            phases.setdefault(body["event_id"], []).append(body["phase"])
    numbers = dict(about for told in uids.values() for about in told)
    assert len(uids) == sum(map(len, uids.values())) == len(set(numbers.values())) == 3
    assert (numbers["blue"] > LEASED_NUMBERS) == is_damaged
    assert list(phases.values()) == [["new", "end"]] * 4  # blue is in the right half, too


def test_damaged_state_of_one_camera_costs_the_others_nothing(config_of):
    config = config_of(CAMERA)
    yard = config.streams[0].model_copy(update={"id": "yard"})
    config = config.model_copy(update={"streams": (*config.streams, yard)})
    seen = WALK[:16]  # of pictures in which nothing is seen not each has a record
    play(config, seen, until=2 * len(seen))
    for path in (config.state.folder / "snapshots/yard").iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    _, sink, _ = play(config, WALK)
    ends = {(body["stream_id"], body["end_reason"]) for body in bodies(sink, Topic.EVENTS)
            if body["phase"] == "end"}  # fmt: skip
    assert ends == {("cam", "stream_ended"), ("yard", "state_lost"), ("yard", "stream_ended")}
    told = {body["stream_id"]: body["restored"] for body in bodies(sink, Topic.STATUS)}
    assert ("error" in told["cam"], "error" in told["yard"]) == (False, True)


def test_first_run_went_on_from_nothing(config_of):
    _, sink, _ = play(config_of(CAMERA), WALK)
    assert not any("restored" in body for body in bodies(sink, Topic.STATUS))


def test_state_of_another_model_is_told_and_its_tracks_end(config_of):
    config = config_of(CAMERA)
    play(config, WALK, until=20)
    model = config.model.model_copy(update={"name": "other"})
    _, sink, _ = play(config.model_copy(update={"model": model}), WALK)
    restored = bodies(sink, Topic.STATUS)[-1]["restored"]
    assert restored["error"] == f"its tracks ended: its memory is of model {config.model.name!r}"
    assert {"taken_at", "age_s"} < restored.keys()


def test_log_keeps_the_events_that_the_newest_snapshot_alone_holds(config_of, monkeypatch):
    config = config_of(CAMERA)
    state = config.state.model_copy(update={"snapshot_every_s": 0.02})
    config = config.model_copy(update={"state": state})
    folder, confirmed, real = config.state.folder / "snapshots", [], Outbox.confirm_state

    def confirm(self, seq):
        (before,) = folder.glob("*/former.snapshot")
        confirmed.append((seq, about_of(before).alerts_seq))
        real(self, seq)

    monkeypatch.setattr(Outbox, "confirm_state", confirm)
    # Frames for as long as the writer may need for two snapshots on a busy machine.
    walk = [step for frame in make_walk(1000) for step in (frame, Pause(0.03))]
    app = make_app(config, walk)
    in_turn(app.engine, (lambda: confirmed, lambda: None))
    assert 0 < confirmed[0][0] <= confirmed[0][1]


def test_log_forgets_events_once_both_snapshots_of_a_silent_camera_hold_them(
    config_of, monkeypatch
):
    monkeypatch.setattr("pipeline.engine.state.keeper._COVER_S", 0.05)
    config = config_of(CAMERA)
    state = config.state.model_copy(update={"snapshot_every_s": 0.3})
    config = config.model_copy(update={"state": state})
    folder, confirmed, real = config.state.folder / "snapshots", [], Outbox.confirm_state

    def confirm(self, seq):
        paths = folder.glob("*/*.snapshot")
        confirmed.append((seq, [about_of(path).alerts_seq for path in paths]))
        real(self, seq)

    monkeypatch.setattr(Outbox, "confirm_state", confirm)
    sink = MemorySink()
    app = make_app(config, [*WALK, Pause(600)], sink=sink)

    def is_forgotten():
        seq, held = confirmed[-1] if confirmed else (0, [])
        return len(held) == 2 and seq == max(held) and len(sink.of(Topic.EVENTS)) == 2

    in_turn(app.engine, (is_forgotten, lambda: None))
    assert all(seq <= min(held) for seq, held in confirmed)


def test_events_logged_behind_the_snapshot_of_a_killed_worker_go_on(config_of, tmp_path):
    config, sink, killed = config_of(CAMERA), MemorySink(), tmp_path / "killed"
    state = config.state.model_copy(update={"snapshot_every_s": 3600.0})
    config = config.model_copy(update={"state": state})
    app = make_app(config, [*WALK[:20], Pause(600)], sink=sink)

    def is_safe():
        return len(sink.of(Topic.EVENTS)) == 2 and value_of(app, "snapshots_total") == 1

    in_turn(app.engine, (is_safe, lambda: copytree(state.folder, killed)))
    state = state.model_copy(update={"folder": killed})
    config = config.model_copy(update={"state": state})
    _, second, _ = play(config, [WALK[0], *WALK[20:]])
    told = [(body["rule"], body["phase"]) for body in bodies(second, Topic.EVENTS)]
    assert told == [("seen", "end"), ("in-right", "end")]


def test_snapshot_waits_until_the_alerts_before_it_are_safe(config_of, monkeypatch):
    monkeypatch.setattr(Outbox, "are_alerts_safe", lambda *_: False)
    app, sink, _ = play(config_of(CAMERA), WALK, until=20)
    assert value_of(app, "snapshots_total") == 0
    assert len(sink.of(Topic.MASKLETS)) >= 20


def test_snapshot_of_a_stream_from_kafka_waits_until_its_records_have_arrived(config_of):
    config = config_of(KAFKA)
    engine = EngineConfig(buffer_frames=64, stop_timeout_s=1.0)
    config = config.model_copy(update={"engine": engine})
    source = Replayed([*WALK[:5], Pause(600)], stream_id="cam")
    app = make_app(config, sink=GateSink(), build=lambda *_: source)
    in_turn(app.engine, (lambda: app.engine.summary().num_processed == 5, lambda: None))
    assert value_of(app, "snapshots_total") == 0
    assert source.committed is None


def test_stream_that_has_ended_leaves_no_state(config_of):
    config = config_of(CAMERA)
    play(config, WALK)
    assert list((config.state.folder / "snapshots").glob("*")) == []


@contextmanager
def no_snapshots(config):
    """Let every snapshot fail: a file is in the place of their folder."""
    path = config.state.folder / "snapshots"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    yield path
    if path.is_file():
        path.unlink()


def test_snapshots_that_fail_keep_the_run_and_are_counted(config_of, caplog):
    config = config_of(CAMERA)
    sink, source = MemorySink(), MemorySource([*WALK, Pause(600)], stream_id="cam")
    app = make_app(config, sink=sink, build=lambda *_: source)

    def is_told():
        status = bodies(sink, Topic.STATUS)[-1:]
        return status and status[0].get("state_error") and len(sink.of(Topic.MASKLETS)) == len(WALK)

    with no_snapshots(config) as path:
        in_turn(app.engine, (is_told, lambda: None))
    assert value_of(app, "snapshot_errors_total") >= 1
    assert value_of(app, "snapshots_total") == 0
    assert caplog.text.count("; tried again") == 1
    error = f"snapshot not written: Not a directory ({path}/cam/next.snapshot)"
    assert bodies(sink, Topic.STATUS)[-1]["state_error"] == error
    assert app.health.readiness().reasons == (f"the state of 1 stream(s) is not kept: {error}",)
    summary = app.engine.summary()
    assert summary.unkept == {"cam": error}
    assert summary.errors == [f"stream 'cam': its state is not kept: {error}"]
    assert (summary.num_failed, summary.exit_code()) == (1, 0)


def test_failed_snapshot_of_an_idle_stream_is_tried_again_by_time(config_of):
    config = config_of(KAFKA)
    state = config.state.model_copy(update={"snapshot_every_s": 0.1})
    config = config.model_copy(update={"state": state, "engine": EAGER})
    source = Replayed([*WALK[:5], Pause(600)], stream_id="cam")
    sink, times = MemorySink(), []
    app = make_app(config, sink=sink, build=lambda *_: source)
    with no_snapshots(config) as path:
        in_turn(
            app.engine,
            (
                lambda: value_of(app, "snapshot_errors_total") >= 1,
                lambda: times.append(monotonic()),
            ),
            (
                lambda: value_of(app, "snapshot_errors_total") >= 4,
                lambda: times.append(monotonic()),
            ),
            (lambda: source.committed is None, path.unlink),
            (lambda: (source.committed or {}).get("index") == 5, lambda: None),
        )
    assert times[1] - times[0] > 0.2  # three waits
    states = [body.get("state_error") for body in bodies(sink, Topic.STATUS)]
    assert [error is None for error, _ in groupby(states)] == [True, False, True]
    assert app.engine.summary().unkept == {}


def test_snapshots_that_fail_do_not_hold_up_a_stop(config_of):
    config = config_of(KAFKA)
    engine = EngineConfig(buffer_frames=64, stop_timeout_s=60)
    config = config.model_copy(update={"engine": engine})
    with no_snapshots(config):
        app, _, ((source, _), *_) = play(config, WALK, until=5)
    assert app.engine.summary().wall_s < 15
    assert source.committed is None


def test_camera_that_is_replaced_does_not_go_on_from_the_one_before(config_of):
    config = config_of(CAMERA)
    other = CAMERA.model_copy(update={"url": "rtsp://camera.example/2"})
    changed = config.streams[0].model_copy(update={"source": other})
    sink, positions = MemorySink(), []

    def build(stream, position):
        positions.append(position)
        return MemorySource([*WALK[:20], Pause(600)], stream_id=stream.id, position=position)

    app = make_app(config, sink=sink, build=build)
    in_turn(
        app.engine,
        (lambda: value_of(app, "snapshots_total") >= 1, lambda: None),
        (
            lambda: len(sink.of(Topic.MASKLETS)) == 20,
            lambda: app.engine.execute(change(changed)),
        ),
        (lambda: len(sink.of(Topic.MASKLETS)) == 40, lambda: None),
    )
    assert positions == [None, None]
    tracks = bodies(sink, Topic.TRACKS)
    assert [body["kind"] for body in tracks[:3]] == ["started", "confirmed", "ended"]
    assert tracks[2]["reason"] == "changed"
    assert [body["kind"] for body in tracks[3:]] == ["started", "confirmed"]
    assert not any("restored" in body for body in bodies(sink, Topic.STATUS))


def test_frames_of_a_stream_that_comes_back_at_once_are_committed(config_of):
    """Its end waits for a sink that has nothing yet, and its return must not forget that."""
    config = config_of(KAFKA, stream_id="*")
    engine = EngineConfig(buffer_frames=64, commit_every_s=0.05, idle_close_s=0.2)
    config = config.model_copy(update={"engine": engine})
    gate = GateSink()
    source = Replayed([*WALK[:5], Pause(1.0), *WALK[5:10], Pause(600)], stream_id="cam")
    app = make_app(config, sink=gate, build=lambda *_: source)
    in_turn(
        app.engine,
        (lambda: app.engine.summary().num_processed == 10, gate.gate.set),
        (lambda: (source.committed or {}).get("index") == 11, lambda: None),
    )


def test_what_was_restored_is_kept_before_a_frame_has_come(config_of):
    config = config_of(CAMERA)
    play(config, WALK, until=20)
    (path,) = (config.state.folder / "snapshots").glob("*/newest.snapshot")
    before = about_of(path)
    silent = MemorySource([*WALK[:20], Pause(600)], stream_id="cam", position=before.source)
    app = make_app(config, build=lambda *_: silent)
    in_turn(app.engine, (lambda: value_of(app, "snapshots_total") >= 1, lambda: None))
    after = about_of(path)
    assert after.taken_at > before.taken_at
    assert after.next_no > before.next_no
    assert app.engine.summary().streams[0].counts.processed == 0


@pytest.mark.parametrize("function", ["restorer.replay_events", "snapshot_folder._read"])
def test_bug_in_reading_costs_its_stream_its_tracks(config_of, caplog, monkeypatch, function):
    config = config_of(CAMERA)
    play(config, WALK, until=20)

    def broken(*_, **__):
        raise ZeroDivisionError("bug")

    monkeypatch.setattr(f"pipeline.engine.state.{function}", broken)
    app, _, _ = play(config, WALK)
    assert "its state cannot be read; the stream begins anew" in caplog.text
    assert app.engine.summary().streams[0].counts.processed == len(WALK)
