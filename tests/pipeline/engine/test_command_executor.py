"""Commands to a running engine: what they change, what they leave alone, what they answer."""

from dataclasses import replace

import pytest
import yaml

from connectors.memory import MemorySink, MemorySource, Pause
from connectors.record import Topic
from models.protocols import DeviceLostError
from tests.pipeline.engine.commands import add, command, remove
from tests.pipeline.engine.runs import (
    CAMERA,
    FILE,
    RULES,
    bodies,
    in_turn,
    make_app,
    make_config,
    playing,
    states_of,
)
from tests.pipeline.fakes import BlobTracker, make_frame, make_walk

SEEN, IN_RIGHT = RULES
LEFT = {"name": "right", "polygon": [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]}
STANDING = [make_frame(number, blobs={"red": (20, 8)}) for number in range(40)]
# Long enough for a command to come between the frames before and those behind it.
SPLIT = [*STANDING[:20], Pause(0.4), *STANDING[20:], Pause(600)]


def app_of(sink, *scripts, ids=("cam",), **fields):
    config = make_config(*ids, **fields)
    build = playing(dict(zip(ids, scripts, strict=True)))
    return make_app(config, sink=sink, build=build)


def num_results(sink):
    return len(sink.of(Topic.MASKLETS))


def run_split(*commands, script=SPLIT, num=20, more=20, **fields):
    """Execute commands between two halves of a script; returns the sink and the answers."""
    sink, answers = MemorySink(), []
    app = app_of(sink, script, **fields)

    def execute():
        answers.extend(app.engine.execute(one) for one in commands)

    in_turn(
        app.engine,
        (lambda: num_results(sink) == num, execute),
        (lambda: all(one.done() for one in answers), lambda: None),
        (lambda: num_results(sink) == num + more, lambda: None),
    )
    return sink, [one.result(timeout=10) for one in answers]


def phases(sink, rule):
    events = [body for body in bodies(sink, Topic.EVENTS) if body["rule"] == rule]
    return [(body["phase"], body.get("end_reason")) for body in events]


def test_rules_change_inside_a_session_and_the_others_go_on():
    dwell = {"type": "dwell", "name": "stays", "zone": "right", "dwell_s": 0.5, "settle_s": 0}
    quiet = {"type": "appear", "name": "seen", "update_every_s": 0}
    news = command("set_rules", rules=[quiet, dwell])
    sink, (answer,) = run_split(news, rules=[quiet, IN_RIGHT])
    assert answer.ok
    assert phases(sink, "seen") == [("new", None), ("end", "stopped")]
    assert phases(sink, "in-right") == [("new", None), ("end", "rule_changed")]
    assert phases(sink, "stays")[0] == ("new", None)
    kinds = [body["kind"] for body in bodies(sink, Topic.TRACKS)]
    assert kinds == ["started", "confirmed", "ended"]


def test_a_zone_that_changes_ends_the_events_of_its_rules_alone():
    sink, (answer,) = run_split(command("set_zones", zones=[LEFT]))
    assert answer.ok
    assert ("end", "rule_changed") in phases(sink, "in-right")
    assert phases(sink, "seen")[-1] == ("end", "stopped")
    zones = [body["objects"][0]["zones"] for body in bodies(sink, Topic.MASKLETS)]
    assert zones == [["right"]] * 20 + [[]] * 20


def test_an_answer_names_the_first_frame_that_the_command_holds_for():
    sink, (answer,) = run_split(command("set_rules", rules=[]))
    assert (answer.first_frame.stream_epoch, answer.first_frame.frame_seq) == (0, 20)
    ended = [body for body in bodies(sink, Topic.EVENTS) if body["phase"] == "end"]
    assert {body["frame_seq"] for body in ended} == {20}
    revisions = [body.get("rule_revision") for body in bodies(sink, Topic.MASKLETS)]
    assert revisions == [None] * 20 + [1] * 20


def test_an_answer_before_any_frame_names_none():
    sink = MemorySink()
    app = app_of(sink, [Pause(0.3), *STANDING[:5], Pause(600)])
    early = app.engine.execute(command("set_rules", rules=[SEEN]))
    in_turn(app.engine, (lambda: num_results(sink) == 5, lambda: None))
    assert early.result(timeout=10).ok
    assert early.result().first_frame is None
    assert phases(sink, "in-right") == []


KAFKA = {"type": "kafka", "bootstrap": "kafka.example:1", "topic": "frames"}
ZONED = {"type": "enter", "name": "in", "zone": "moon"}


@pytest.mark.parametrize(
    ("made", "kind", "field"),
    [
        (command("set_rules", "none", rules=[]), "unknown_stream", "stream_id"),
        (remove("none"), "unknown_stream", "stream_id"),
        (command("set_rules", rules=[ZONED]), "invalid", "args"),
        (command("set_rules", rules=[SEEN, SEEN]), "invalid", "args"),
        (command("set_zones", zones=[]), "invalid", "args"),
        (add(make_config().streams[0]), "stream_exists", "stream_id"),
        (remove("cam"), "invalid", "stream_id"),
        (
            command("change_stream", source={**KAFKA, "ssl_cafile": "/nothing/here.pem"}),
            "invalid",
            "args.source.ssl_cafile",
        ),
        (command("add_stream", "late", source=FILE, concepts=[]), "invalid", "streams[1].concepts"),
    ],
    ids=lambda value: getattr(value, "command", str(value)),
)
def test_what_is_not_accepted_is_answered_and_changes_nothing(made, kind, field):
    sink, (answer,) = run_split(made)
    assert (answer.ok, answer.error.type, answer.error.field) == (False, kind, field)
    assert answer.error.message
    assert phases(sink, "in-right")[-1] == ("end", "stopped")
    assert states_of(sink, "cam").count("connecting") == 1


def test_a_command_that_comes_again_is_not_carried_out_again():
    first = command("set_rules", command_id="once", rules=[])
    between = command("set_rules", rules=RULES)
    sink, answers = run_split(first, between, first)
    assert answers[0] == answers[2]
    assert phases(sink, "seen")[-1] == ("end", "stopped")
    assert num_results(sink) == 40


def test_another_command_of_the_same_id_is_refused():
    other = command("set_rules", command_id="once", rules=[])
    _, answers = run_split(command("set_rules", command_id="once", rules=[SEEN]), other)
    assert [answer.ok for answer in answers] == [True, False]
    assert answers[1].error.type == "id_taken"


def test_a_command_behind_the_end_is_answered():
    sink = MemorySink()
    app = app_of(sink, STANDING[:3])
    app.engine.run()
    answer = app.engine.execute(command("set_rules", rules=[])).result(timeout=10)
    assert (answer.ok, answer.error.type) == (False, "stopped")


def test_a_command_that_nobody_took_from_the_inbox_is_answered():
    sink = MemorySink()
    app = app_of(sink, SPLIT)
    answers = []

    def stop():
        app.engine.stop()
        answers.append(app.engine.execute(command("set_rules", rules=[])))

    in_turn(app.engine, (lambda: num_results(sink) == 20, stop))
    answer = answers[0].result(timeout=10)
    assert (answer.ok, answer.error.type) == (False, "stopped")


def test_too_many_commands_at_once_are_told_to_come_later():
    app = app_of(MemorySink(), STANDING[:3])
    answers = [app.engine.execute(command("set_rules", rules=[])) for _ in range(300)]
    assert [one.result().error.type for one in answers if one.done()] == ["busy"] * 44
    app.engine.run()
    assert all(one.done() for one in answers)


@pytest.fixture
def kept(tmp_path):
    """Builds configurations of cameras whose state is kept in one folder."""

    def make(*ids, **fields):
        config = make_config(*ids, source=CAMERA, engine={"buffer_frames": 64}, **fields)
        state = config.state.model_copy(update={"folder": tmp_path / "state"})
        return config.model_copy(update={"state": state})

    return make


def execute_at(config, scripts, at, *commands):
    """Run until so many results, execute commands, and stop; returns the sink and the answers."""
    sink, answers = MemorySink(), []

    def build(stream, position):  # a camera has what it has, wherever it was left
        return MemorySource(scripts[stream.id], stream_id=stream.id)

    app = make_app(config, sink=sink, build=build)

    def execute():
        answers.extend(app.engine.execute(one) for one in commands)

    in_turn(
        app.engine,
        (lambda: num_results(sink) >= at, execute),
        (lambda: all(one.done() for one in answers), lambda: None),
    )
    return sink, [one.result(timeout=10) for one in answers]


def test_changes_hold_behind_a_restart_and_a_repeat_is_known(kept, tmp_path):
    scripts = {name: [*make_walk(6, stream_id=name), Pause(600)] for name in ("a", "b", "late")}
    late = kept("late").streams[0]
    commands = [command("set_rules", "a", rules=[SEEN]), add(late), remove("b")]
    _, answers = execute_at(kept("a", "b"), scripts, 12, *commands)
    assert [(answer.ok, answer.is_kept) for answer in answers] == [(True, True)] * 3
    path = tmp_path / "state" / "overlay.yaml"
    assert path.stat().st_mode & 0o777 == 0o600
    changes = yaml.safe_load(path.read_text())["changes"]
    assert {one["issued_by"] for one in changes} == {"ann"}

    sink, again = execute_at(kept("a", "b"), scripts, 12, *commands)
    assert again == answers
    found = bodies(sink, Topic.MASKLETS)
    revisions = {(one["stream_id"], one["rule_revision"]) for one in found}
    assert revisions == {("a", 1), ("late", 2)}


def test_a_conflict_with_the_changed_file_is_named(kept, caplog):
    scripts = {"a": [*make_walk(6, stream_id="a"), Pause(600)]}
    execute_at(kept("a"), scripts, 6, command("set_rules", "a", rules=[SEEN]))
    execute_at(kept("a", rules=[]), scripts, 6)
    assert "rules of stream 'a' was changed by ann at 2026-11-29T12:00:00" in caplog.text


def test_a_change_that_cannot_be_written_holds_and_says_so(kept, tmp_path):
    scripts = {"a": [*make_walk(6, stream_id="a"), Pause(600)]}
    (tmp_path / "state" / ".overlay.yaml.part").mkdir(parents=True)
    _, (answer,) = execute_at(kept("a"), scripts, 6, command("set_rules", "a", rules=[]))
    assert (answer.ok, answer.is_kept) == (True, False)


def test_without_a_state_folder_changes_end_with_the_run():
    _, (answer,) = run_split(command("set_rules", rules=[]))
    assert (answer.ok, answer.is_kept) == (True, False)


@pytest.mark.parametrize(("source", "num_built"), [(CAMERA, 2), (FILE, 1)], ids=["camera", "file"])
def test_a_paused_stream_waits_and_its_tracks_go_on(source, num_built):
    sink, built, answers = MemorySink(), [], []
    config = make_config(source=source, engine={"buffer_frames": 32}, max_fps=None)

    def build(stream, position):
        built.append(MemorySource(SPLIT, stream_id=stream.id, position=position))
        return built[-1]

    app = make_app(config, sink=sink, build=build)

    def say(name):
        answers.append(app.engine.execute(command(name)))

    def waits():
        """The camera is let go of; of the file all that comes waits in the buffer."""
        counts = app.engine._parts.ledger.counts("cam")
        is_held = built[0]._closed.is_set() if source.is_live else counts.waiting == 20
        return is_held and states_of(sink, "cam")[-1:] == ["paused"]

    in_turn(
        app.engine,
        (lambda: num_results(sink) == 20, lambda: say("pause_stream")),
        (waits, lambda: say("resume_stream")),
        (lambda: num_results(sink) == 40, lambda: None),
    )
    assert [answer.result(timeout=10).ok for answer in answers] == [True, True]
    assert len(built) == num_built
    states = states_of(sink, "cam")
    assert states[states.index("paused") + 1 :][-2:] == ["running", "ended"]
    reasons = {body.get("reason") for body in bodies(sink, Topic.TRACKS)}
    assert reasons <= {None, "stopped"}


def test_streams_that_a_paused_source_names_are_paused():
    sink = MemorySink()
    frames = [make_frame(number, stream_id="gate") for number in range(3)]
    app = app_of(sink, [*frames, Pause(600)], ids=("*",), paused=True)
    in_turn(app.engine, (lambda: states_of(sink, "gate")[-1:] == ["paused"], lambda: None))
    assert num_results(sink) == 0


def test_a_stream_may_begin_paused():
    sink, built = MemorySink(), []
    config = make_config(source=CAMERA, engine={"buffer_frames": 32}, paused=True)

    def build(stream, position):
        built.append(stream.id)
        return MemorySource([*STANDING[:5], Pause(600)], stream_id=stream.id, position=position)

    app = make_app(config, sink=sink, build=build)
    in_turn(
        app.engine,
        (
            lambda: "paused" in states_of(sink, "cam"),
            lambda: app.engine.execute(command("resume_stream")),
        ),
        (lambda: num_results(sink) == 5, lambda: None),
    )
    assert built == ["cam"]


GREEN = [make_frame(number, blobs={"red": (20, 8), "green": (4, 8)}) for number in range(40)]
BOTH = [*GREEN[:20], Pause(0.4), *GREEN[20:], Pause(600)]
ALL = [{"type": "appear", "name": "seen", "update_every_s": 0}]


def tracks_of(sink):
    found = bodies(sink, Topic.TRACKS)
    return {
        (one["concept_id"], one["kind"], one.get("reason"))
        for one in found
        if one["kind"] in ("started", "ended")
    }


def test_an_added_concept_is_found_on_the_next_frame_and_nothing_else_changes():
    sink, (answer,) = run_split(command("add_concept", phrase="green"), script=BOTH, rules=ALL)
    assert (answer.ok, answer.first_frame.frame_seq) == (True, 20)
    started = [one for one in bodies(sink, Topic.TRACKS) if one["kind"] == "started"]
    assert [(one["concept"], one["frame_seq"]) for one in started] == [("red", 0), ("green", 20)]
    assert tracks_of(sink) >= {("red", "ended", "stopped"), ("green", "ended", "stopped")}
    revisions = [body.get("prompt_revision") for body in bodies(sink, Topic.MASKLETS)]
    assert revisions == [None] * 20 + [1] * 20


def test_a_removed_concept_ends_its_tracks_and_events_alone():
    gone = {"type": "disappear", "name": "gone", "after_s": 0.1}
    fields = {"concepts": ["red", "green"], "rules": [*ALL, gone]}
    sink, (answer,) = run_split(command("remove_concept", concept_id="red"), script=BOTH, **fields)
    assert answer.ok
    assert tracks_of(sink) >= {
        ("red", "ended", "concept_removed"),
        ("green", "ended", "stopped"),
    }
    ends = [body for body in bodies(sink, Topic.EVENTS) if body["phase"] == "end"]
    assert {(one["concept_id"], one["end_reason"]) for one in ends} == {
        ("red", "concept_removed"),
        ("green", "stopped"),
    }
    assert phases(sink, "gone") == []
    later = [body for body in bodies(sink, Topic.MASKLETS) if body["frame_seq"] >= 20]
    assert {one["concept_id"] for body in later for one in body["objects"]} == {"green"}


def test_a_renamed_concept_keeps_its_tracks_and_rules():
    rules = [{"type": "appear", "name": "seen", "concepts": ["red"], "update_every_s": 0.1}]
    news = command("rename_concept", concept_id="red", name="rouge")
    sink, (answer,) = run_split(news, rules=rules)
    assert answer.ok
    names = [body["objects"][0]["concept"] for body in bodies(sink, Topic.MASKLETS)]
    assert names == ["red"] * 20 + ["rouge"] * 20
    assert phases(sink, "seen")[-1] == ("end", "stopped")
    assert len({one["track_uid"] for one in bodies(sink, Topic.TRACKS)}) == 1


@pytest.mark.parametrize(
    ("made", "kind", "field"),
    [
        (command("add_concept", phrase="RED"), "invalid", "args.concepts"),
        (command("add_concept", phrase="green", id="red"), "invalid", "args.concepts"),
        (command("add_concept", phrase="mauve"), "model_refused", "stream_id"),
        (command("remove_concept", concept_id="blue"), "unknown_concept", "args.concept_id"),
        (command("remove_concept", concept_id="red"), "invalid", "args"),
        (command("rename_concept", concept_id="x", name="y"), "unknown_concept", "args.concept_id"),
    ],
    ids=lambda value: getattr(value, "command", str(value)),
)
def test_a_concept_that_is_not_accepted_changes_nothing(made, kind, field):
    rules = [{**ALL[0], "concepts": ["red"]}]
    sink, (answer,) = run_split(made, rules=rules)
    assert (answer.ok, answer.error.type, answer.error.field) == (False, kind, field)
    assert phases(sink, "seen") == [("new", None), ("end", "stopped")]


def test_concepts_changed_at_run_time_are_looked_for_behind_a_restart(kept):
    script = {"a": [*(replace(frame, stream_id="a") for frame in GREEN[:6]), Pause(600)]}
    commands = [
        command("add_concept", "a", phrase="green", id="leaf", name="leaf"),
        command("remove_concept", "a", concept_id="red"),
    ]
    _, answers = execute_at(kept("a", rules=ALL), script, 6, *commands)
    assert [answer.ok for answer in answers] == [True, True]
    sink, _ = execute_at(kept("a", rules=ALL), script, 6)
    found = [one for body in bodies(sink, Topic.MASKLETS) for one in body["objects"]]
    assert {(one["concept_id"], one["concept"]) for one in found} == {("leaf", "leaf")}


def test_tracks_of_a_concept_that_the_file_has_no_more_end_as_removed(kept):
    gone = {"type": "disappear", "name": "gone", "after_s": 0.1}
    script = {"a": [*(replace(frame, stream_id="a") for frame in GREEN[:6]), Pause(600)]}
    execute_at(kept("a", rules=[gone], concepts=["red", "green"]), script, 6)
    sink, _ = execute_at(kept("a", rules=[gone], concepts=["green"]), script, 6)
    assert ("red", "ended", "concept_removed") in tracks_of(sink)
    assert phases(sink, "gone") == []


class Lost(BlobTracker):
    """Its accelerator is gone once a concept is added."""

    def add_concept(self, stream_id, concept, *, concept_id):
        raise DeviceLostError("gone")


def test_an_accelerator_that_is_lost_by_a_command_ends_the_run_and_answers():
    sink, answers = MemorySink(), []
    app = make_app(make_config(), SPLIT, sink=sink, tracker=Lost())

    def on_turn():
        if num_results(sink) == 20 and not answers:
            answers.append(app.engine.execute(command("add_concept", phrase="green")))

    summary = app.engine.run(on_turn)
    assert summary.device_error == "gone"
    assert answers[0].result(timeout=10).error.type == "stopped"
