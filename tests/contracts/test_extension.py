"""What is added from outside: one module and one row."""

import json
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


ADDED_SIZE = """
    from models.catalogue import ModelSize
    from models.sam2.config import TrackerConfig
    from models.sam3.network.config import DetectorConfig, Sam3Config, TextConfig, VisionConfig
    from models.sam3.tracking.options import SessionOptions

    SPECK = ModelSize(
        name="sam3-speck",
        summary="a speck of sam3",
        network=Sam3Config(
            vision=VisionConfig(
                image_size=112, dim=32, mlp_dim=64, num_blocks=2, num_heads=2, window=2,
                global_blocks=(1,), pretrain_grid=2, neck_dim=16,
            ),
            text=TextConfig(
                vocab_size=1024, dim=16, mlp_dim=32, num_blocks=1, num_heads=2,
                context_length=16, projection_dim=16,
            ),
            detector=DetectorConfig(
                dim=16, num_heads=2, mlp_dim=32, exemplar_layers=1, fusion_layers=1,
                decoder_layers=2, num_queries=9,
            ),
            tracker=TrackerConfig(
                image_size=112, hidden_dim=16, memory_dim=16, num_heads=2,
                mask_decoder_mlp_dim=32, iou_head_dim=16, memory_attention_layers=1,
                memory_attention_mlp_dim=32, memory_fuser_dim=16,
            ),
        ),
        num_parameters=1,
        session=SessionOptions(detection_score=0.0, nms_iou=1.0, memory_maps=2),
    )
"""
START_SIZE = """
    import shutil
    from pathlib import Path

    import torch
    from safetensors.torch import save_file

    import added_size
    from models.catalogue import MODELS, NANO_FOLDER, VOCABULARY_FILE, WEIGHTS_FILE

    MODELS[added_size.SPECK.name] = added_size.SPECK

    from models.build import build_image_predictor
    from models.sam3.network.model import Sam3

    torch.manual_seed(0)
    weights = Path("weights")
    weights.mkdir()
    save_file(Sam3(added_size.SPECK.network).state_dict(), weights / WEIGHTS_FILE)
    shutil.copy(NANO_FOLDER / VOCABULARY_FILE, weights)
    # The checkpoint alone tells the size.
    assert build_image_predictor(checkpoint=weights).is_image_set is False

    from pipeline.cli.main import app

    app(["run", "run.yaml"])
"""
RUN_SIZE = """
    model: {name: sam3-speck, checkpoint: weights, device: cpu}
    streams:
      - id: meadow
        source: {type: world, width: 112, height: 112, duration_s: 0.5}
        concepts: [deer]
    sinks: [{type: jsonl, folder: out}]
"""


def test_a_model_size_is_one_row(tmp_path):
    (tmp_path / "added_size.py").write_text(textwrap.dedent(ADDED_SIZE))
    (tmp_path / "run.yaml").write_text(textwrap.dedent(RUN_SIZE))
    command = [sys.executable, "-c", textwrap.dedent(START_SIZE)]
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=tmp_path, env=environ, check=True)
    lines = (tmp_path / "out" / "masklets.jsonl").read_text().splitlines()
    assert len(lines) == 5
    assert json.loads(lines[-1])["model"] == "sam3-speck"
