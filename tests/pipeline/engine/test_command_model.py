"""Random commands, repeats and restarts leave an engine equal to a plain model of it."""

import shutil
import tempfile
import time
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from connectors.memory import MemorySink, MemorySource, Pause
from pipeline.records.command import Reload
from tests.pipeline.engine.commands import add, command, reload, remove
from tests.pipeline.engine.runs import CAMERA, RULES, ZONES, make_app, make_config
from tests.pipeline.fakes import BlobTracker, make_frame

STREAMS = st.sampled_from(["a", "b", "c"])
COLOURS = st.sampled_from(["red", "green", "blue"])
# In memory where there is such a folder: each command is on disk before it is answered.
FAST_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
NAMES = st.sampled_from(["red", "Rot", "Grün"])
RULE_SETS = st.lists(st.sampled_from(RULES), unique_by=lambda one: one["name"])


class Commands(RuleBasedStateMachine):
    """An engine turned by hand, and by stream what it is to be: concepts, rules, zones, paused."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=FAST_DISK))
        self.last = None

    def config_of(self, *stream_ids):
        config = make_config(*stream_ids, source=CAMERA, engine={"buffer_frames": 8})
        state = config.state.model_copy(update={"folder": self.folder / "state"})
        return config.model_copy(update={"state": state})

    @initialize()
    def begin(self):
        self.model = {name: self.fresh() for name in ("a", "b")}
        self.start()

    @staticmethod
    def fresh():
        rules = [one["name"] for one in RULES]
        return {"concepts": {"red": "red"}, "rules": rules, "zones": ["right"], "paused": False}

    def start(self):
        def build(stream, position):
            blobs = {"red": (20, 8), "green": (4, 8)}
            frames = [make_frame(number, blobs=blobs, stream_id=stream.id) for number in range(3)]
            return MemorySource([*frames, Pause(600)], stream_id=stream.id)

        self.tracker = BlobTracker()
        config = self.config_of("a", "b")
        app = make_app(
            config, sink=MemorySink(), build=build, tracker=self.tracker, load=lambda: config
        )
        self.engine, self.turns = app.engine, app.engine.iterate()
        next(self.turns)

    def execute(self, made, *, ok):
        """Execute a command; returns what its stream is to be, to be changed where it is done."""
        future, deadline_s = self.engine.execute(made), time.monotonic() + 30
        while not future.done():
            assert time.monotonic() < deadline_s
            next(self.turns)
        answer = future.result()
        assert answer.ok is ok, answer
        self.last = made, answer
        return self.model.get(made.stream_id) if ok and not isinstance(made, Reload) else None

    @rule(stream_id=STREAMS)
    def add_stream(self, stream_id):
        config = self.config_of(stream_id).streams[0]
        if stream_id not in self.model:
            self.execute(add(config), ok=True)
            self.model[stream_id] = self.fresh()
        else:
            self.execute(add(config), ok=False)

    @rule(stream_id=STREAMS)
    def remove_stream(self, stream_id):
        ok = stream_id in self.model and len(self.model) > 1
        self.execute(remove(stream_id), ok=ok)
        if ok:
            del self.model[stream_id]

    @rule(stream_id=STREAMS, colour=COLOURS)
    def add_concept(self, stream_id, colour):
        known = self.model.get(stream_id, {}).get("concepts")
        ok = known is not None and colour not in known and colour not in known.values()
        stream = self.execute(command("add_concept", stream_id, phrase=colour), ok=ok)
        if stream:
            stream["concepts"][colour] = colour

    @rule(stream_id=STREAMS, colour=COLOURS, name=NAMES)
    def rename_concept(self, stream_id, colour, name):
        known = self.model.get(stream_id, {}).get("concepts", {})
        others = [one for concept_id, one in known.items() if concept_id != colour]
        made = command("rename_concept", stream_id, concept_id=colour, name=name)
        stream = self.execute(made, ok=colour in known and name not in others)
        if stream:
            stream["concepts"][colour] = name

    @rule(stream_id=STREAMS, colour=COLOURS)
    def remove_concept(self, stream_id, colour):
        known = self.model.get(stream_id, {}).get("concepts", {})
        made = command("remove_concept", stream_id, concept_id=colour)
        stream = self.execute(made, ok=colour in known and len(known) > 1)
        if stream:
            del stream["concepts"][colour]

    @rule(stream_id=STREAMS, rules=RULE_SETS)
    def set_rules(self, stream_id, rules):
        names = [one["name"] for one in rules]
        known = self.model.get(stream_id)
        ok = known is not None and ("in-right" not in names or bool(known["zones"]))
        stream = self.execute(command("set_rules", stream_id, rules=rules), ok=ok)
        if stream:
            stream["rules"] = names

    @rule(stream_id=STREAMS, zones=st.sampled_from([[], ZONES]))
    def set_zones(self, stream_id, zones):
        known = self.model.get(stream_id)
        ok = known is not None and (bool(zones) or "in-right" not in known["rules"])
        stream = self.execute(command("set_zones", stream_id, zones=zones), ok=ok)
        if stream:
            stream["zones"] = [one["name"] for one in zones]

    @rule(stream_id=STREAMS, name=st.sampled_from(["pause_stream", "resume_stream"]))
    def pause_or_resume(self, stream_id, name):
        stream = self.execute(command(name, stream_id), ok=stream_id in self.model)
        if stream:
            stream["paused"] = name == "pause_stream"

    @rule()
    def repeat(self):
        if self.last is not None:
            made, answer = self.last
            self.execute(made, ok=answer.ok)
            assert self.last == (made, answer)

    @rule()
    def reload_the_same_file(self):
        self.execute(reload(), ok=True)

    @rule()
    def restart(self):
        self.turns.close()
        self.start()

    @invariant()
    def engine_equals_model(self):
        parts = self.engine._parts
        found = {one.id: self.said(one) for one in parts.desired.config.streams}
        assert found == self.model
        assert {one.stream_id: self.said(one.config) for one in parts.table} == found
        for one in parts.table:
            if one.stream_id in self.tracker.streams:
                assert set(self.tracker.concepts[one.stream_id]) == set(one.config.searched)

    @staticmethod
    def said(config):
        return deepcopy(
            {
                "concepts": {one.concept_id: one.name for one in config.searched},
                "rules": [one.name for one in config.rules],
                "zones": [one.name for one in config.zones],
                "paused": config.paused,
            }
        )

    def teardown(self):
        self.turns.close()
        shutil.rmtree(self.folder)


TestCommands = Commands.TestCase
TestCommands.settings = settings(max_examples=4, stateful_step_count=25, deadline=None)


@pytest.mark.slow
def test_a_thousand_commands():
    many = settings(max_examples=40, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(Commands, settings=many)
