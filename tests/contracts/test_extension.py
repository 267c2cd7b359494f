"""What is added from outside: one module and one row."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import COMMANDS, app

ROOT = Path(__file__).parents[2]


@pytest.fixture
def new_module(tmp_path, monkeypatch):
    """Write a module that can be imported for the time of the test."""

    def write(name: str, code: str) -> str:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


def test_a_command_is_one_module_and_one_row(new_module, monkeypatch):
    name = new_module(
        "added_command",
        '''
        import typer

        def greet(name: str, *, loud: bool = False) -> None:
            """Greet somebody."""
            typer.echo(f"hello {name}{'!' if loud else ''}")
        ''',
    )
    monkeypatch.setitem(COMMANDS, "greet", f"{name}:greet")
    done = CliRunner().invoke(app, ["greet", "Ada", "--loud"])
    assert (done.exit_code, done.stdout) == (0, "hello Ada!\n")
    assert "Greet somebody." in CliRunner().invoke(app, ["--help"]).stdout


ADDED_SOURCE = """
    from typing import Literal

    from connectors.config import RecordedSourceConfig
    from connectors.memory import MemorySource
    from tests.pipeline.fakes import make_walk


    class WalkSourceConfig(RecordedSourceConfig, frozen=True):
        type: Literal["walk"] = "walk"
        num_frames: int

        @classmethod
        def from_url(cls, url):
            return cls(num_frames=int(url.partition(":")[2]))


    def build_walk(*, stream_id, config, position):
        return MemorySource(make_walk(config.num_frames, stream_id=stream_id), stream_id=stream_id)
"""
ADDED_SINK = """
    from pathlib import Path
    from typing import Literal

    from connectors.config import BaseSinkConfig
    from connectors.memory import MemorySink


    class CountSinkConfig(BaseSinkConfig, frozen=True):
        type: Literal["count"] = "count"
        path: Path

        @classmethod
        def from_url(cls, url):
            return cls(path=Path(url))


    class CountSink(MemorySink):
        def __init__(self, *, config):
            super().__init__()
            self._path = config.path

        def close(self):
            self._path.write_text(" ".join(record.topic.name for record in self.records))
"""
START = """
    import added_sink
    import added_source
    from connectors.registry import SINKS, SOURCES, SinkRow, SourceRow

    source = added_source.WalkSourceConfig
    SOURCES.append(SourceRow(config=source, connector="added_source:build_walk", schemes=["walk"]))
    sink = added_sink.CountSinkConfig
    SINKS.append(SinkRow(config=sink, connector="added_sink:CountSink", suffixes={".count"}))

    from pipeline.app import build_app
    from pipeline.cli.flags import OneCamera, Overrides, config_from_flags
    from tests.pipeline.fakes import BlobTracker

    camera = OneCamera(source="walk:3", sinks=["out.count"], concepts=["red"])
    build_app(config_from_flags(camera, Overrides()), tracker=BlobTracker()).engine.run()
"""


def test_a_source_and_a_sink_are_each_one_module_and_one_row(tmp_path):
    for name, code in (("added_source", ADDED_SOURCE), ("added_sink", ADDED_SINK)):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
    # In a process of its own: configurations accept the rows that are there when they are defined.
    command = [sys.executable, "-c", textwrap.dedent(START)]
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    subprocess.run(command, cwd=tmp_path, env=environ, check=True)
    assert (tmp_path / "out.count").read_text().split().count("MASKLETS") == 3


ADDED_RULE = """
    from typing import Literal

    from pipeline.events.rules.config import BaseRuleConfig
    from pipeline.events.rules.kind import RuleKind, Timing


    class LargeRule(BaseRuleConfig):
        type: Literal["large"]
        share: float


    LARGE = RuleKind(
        config=LargeRule,
        value_name="large_s",
        release_reason="small",
        condition=lambda config, _zones: lambda track: track.area >= config.share,
        timing=lambda _config: Timing(),
    )
"""
START_RULE = """
    import added_rule
    from pipeline.events.rules.catalogue import RULES

    RULES.append(added_rule.LARGE)

    from tests.pipeline.streams.player import Player, red

    rule = {"type": "large", "name": "big", "share": 0.04, "accepts": "tentative"}
    player = Player(rules=[rule])
    player.play(red(0), red(1))
    told = [(event.kind, event.phase.value, event.value) for event in player.events]
    assert told == [("large", "new", {"large_s": 0.0})], told
"""


def test_a_rule_is_one_module_and_one_row(tmp_path):
    (tmp_path / "added_rule.py").write_text(textwrap.dedent(ADDED_RULE))
    command = [sys.executable, "-c", textwrap.dedent(START_RULE)]
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    subprocess.run(command, cwd=tmp_path, env=environ, check=True)
