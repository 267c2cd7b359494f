"""The configuration file is read again while an engine runs on it."""

import pytest

from connectors.memory import MemorySink, MemorySource, Pause
from connectors.record import Topic
from pipeline.config.run import RunConfig
from pipeline.config.sections.engine import EngineConfig
from pipeline.engine.overlay import with_streams
from pipeline.errors import ConfigError
from tests.pipeline.engine.commands import command, reload
from tests.pipeline.engine.runs import RULES, bodies, in_turn, make_app, make_config
from tests.pipeline.fakes import make_frame

SEEN, IN_RIGHT = RULES


class Reloaded:
    """An engine over a file, and what it answers to commands in turn."""

    def __init__(self, *stream_ids, **fields):
        self.file, self.sink, self.answers = make_config(*stream_ids, **fields), MemorySink(), []
        self.app = make_app(self.file, sink=self.sink, build=self.build, load=self.load)

    def load(self):
        if isinstance(self.file, ConfigError):
            raise self.file
        return self.file

    @staticmethod
    def build(stream, position):
        blobs = {"red": (20, 8), "green": (4, 8)}
        frames = [make_frame(n, blobs=blobs, stream_id=stream.id) for n in range(6)]
        return MemorySource([*frames, Pause(600)], stream_id=stream.id)

    def edit(self, stream_id, **news):
        """Change a stream in the file."""
        streams = [
            type(one).model_validate({**dict(one), **news}) if one.id == stream_id else one
            for one in self.file.streams
        ]
        self.file = with_streams(self.file, streams)

    def run(self, *steps):
        """Carry out steps, commands or edits of the file, each after the one before; then stop."""
        num = 6 * len(self.app.engine._parts.desired.config.streams)
        at = [lambda: len(self.sink.of(Topic.MASKLETS)) >= num]
        at += [lambda: all(one.done() for one in self.answers)] * len(steps)
        does = [self.doing(one) for one in steps]
        in_turn(self.app.engine, *zip(at, [*does, lambda: None], strict=True))
        return [one.result(timeout=10) for one in self.answers]

    def doing(self, step):
        if callable(step):
            return step
        return lambda: self.answers.append(self.app.engine.execute(step))

    @property
    def config(self):
        return self.app.engine._parts.desired.config

    @property
    def running(self):
        """By stream, what runs; asked while the engine turns."""
        return {one.stream_id: one.config for one in self.app.engine._parts.table}


def test_streams_that_the_file_adds_changes_and_has_no_more_do_so():
    one = Reloaded("a", "b")
    late, seen = make_config("late").streams[0], []

    def edit():
        one.edit("a", rules=[SEEN])
        one.file = with_streams(one.file, [one.file.streams[0], late])

    (answer,) = one.run(edit, reload(), lambda: seen.append(one.running))
    assert answer.ok
    assert seen[0].keys() == {"a", "late"}
    assert [rule.name for rule in seen[0]["a"].rules] == ["seen"]
    ends = [body for body in bodies(one.sink, Topic.TRACKS) if body["kind"] == "ended"]
    assert {
        (body["stream_id"], body["reason"]) for body in ends if body["stream_id"] != "late"
    } == {
        ("a", "stopped"),
        ("b", "removed"),
    }


def test_a_field_that_a_command_has_changed_too_is_a_named_conflict_and_nothing_is_applied():
    one = Reloaded("a", "b")

    def edit():
        one.edit("a", rules=[IN_RIGHT])
        one.edit("b", rules=[])

    changed = command("set_rules", "a", rules=[SEEN])
    answers = one.run(changed, edit, reload())
    error = answers[-1].error
    assert (error.type, error.field) == ("conflict", "streams[a].rules")
    assert "ann" in error.message
    assert [len(stream.rules) for stream in one.config.streams] == [1, 2]


def test_by_force_the_file_wins():
    one = Reloaded("a")
    changed = command("set_rules", "a", rules=[SEEN])
    answers = one.run(changed, lambda: one.edit("a", rules=[IN_RIGHT]), reload(force=True))
    assert [answer.ok for answer in answers] == [True, True]
    assert [rule.name for rule in one.config.streams[0].rules] == ["in-right"]
    assert one.app.engine._parts.desired.overlay.changes == ()


def test_what_a_command_has_changed_and_the_file_has_not_stays():
    one = Reloaded("a", concepts=["red"])
    changed = command("add_concept", "a", phrase="green")
    answers = one.run(changed, lambda: one.edit("a", rules=[SEEN]), reload())
    assert [answer.ok for answer in answers] == [True, True]
    (stream,) = one.config.streams
    assert [concept.phrase for concept in stream.concepts] == ["red", "green"]
    assert [rule.name for rule in stream.rules] == ["seen"]


def test_a_reload_counts_as_a_revision_of_what_it_changes():
    one = Reloaded("a", "b")
    one.run(lambda: one.edit("a", rules=[SEEN]), reload())
    revisions = one.app.engine._parts.desired.overlay.revisions
    assert {name: (one.prompt, one.rule) for name, one in revisions.items()} == {"a": (None, 1)}


def test_a_file_with_an_error_is_told_and_nothing_is_applied():
    one = Reloaded("a")

    def damage():
        one.file = ConfigError(["c.yaml:3: streams[0].source: is missing"])

    (answer,) = one.run(damage, reload())
    assert (answer.error.type, answer.error.message) == (
        "invalid",
        "c.yaml:3: streams[0].source: is missing",
    )


def test_more_than_streams_takes_a_restart():
    one = Reloaded("a")

    def edit():
        one.edit("a", rules=[])
        sections = {**dict(one.file), "engine": EngineConfig(max_batch=3)}
        one.file = RunConfig.model_validate(sections)

    (answer,) = one.run(edit, reload())
    assert (answer.error.type, answer.error.field) == ("invalid", "engine")
    assert len(one.config.streams[0].rules) == 2


def test_what_the_model_refuses_takes_all_of_it_back():
    one, seen = Reloaded("a", "b"), []

    def edit():
        one.edit("a", concepts=["red", "green"])
        one.edit("b", concepts=["red", "mauve"])

    (answer,) = one.run(edit, reload(), lambda: seen.append(one.running))
    assert answer.error.type == "model_refused"
    assert [len(config.concepts) for config in seen[0].values()] == [1, 1]


@pytest.mark.parametrize("force", [False, True])
def test_without_a_file_there_is_nothing_to_reload(force):
    app = make_app(make_config(), [make_frame(0)])
    answer = app.engine.execute(reload(force=force)).result(timeout=10)
    assert (answer.ok, answer.error.type) == (False, "invalid")
    app.engine.run()
