"""How a run of the command ends."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
import typer

from connectors.files.jsonl import JsonlSink, JsonlSinkConfig
from models.protocols import DeviceLostError
from pipeline.cli.demo import demo_config
from pipeline.cli.errors import reporting_errors
from pipeline.cli.run import files_since, finish, run_engine
from pipeline.engine.summary import RunSummary
from tests.pipeline.engine.log.logs import make_records
from tests.pipeline.engine.runs import make_app, make_config
from tests.pipeline.fakes import BlobTracker, make_walk

LOST = DeviceLostError("CUDA error: an illegal memory access was encountered")


class LostInStep(BlobTracker):
    """Its accelerator goes away at the third batch."""

    def step(self, inputs):
        if len(self.batches) == 2:
            raise LOST
        return super().step(inputs)


class LostInOpen(BlobTracker):
    """Its accelerator was gone before the first stream."""

    def open_stream(self, stream_id, concepts):
        raise LOST


@pytest.mark.parametrize(("tracker", "num"), [(LostInStep(), 2), (LostInOpen(), 0)])
def test_a_lost_accelerator_is_code_3_and_said_to_people_and_programs(tracker, num, capsys):
    app = make_app(make_config(), make_walk(20), tracker=tracker)
    summary = run_engine(app.engine, json_lines=True)
    with pytest.raises(typer.Exit) as ended:
        finish(summary, files=[], json_lines=True)
    shown = capsys.readouterr()
    told = json.loads(shown.out.splitlines()[-1])
    assert ended.value.exit_code == 3
    assert "illegal memory access" in shown.err
    assert (told["type"], told["ok"], told["failed"]) == ("summary", False, 1)
    assert told["streams"][0]["counts"]["processed"] == num


def test_a_full_disk_behind_stdout_hides_no_error(capsys, monkeypatch):
    summary = RunSummary(wall_s=1.0, streams=(), sink_errors={}, unkept={"cam": "away"})
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OSError, match="No space left"):
            finish(summary, files=[], json_lines=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert "away" in capsys.readouterr().err


def test_files_of_former_runs_are_not_named_at_the_end(tmp_path):
    former = tmp_path / "events-20261129T014500Z.jsonl"
    for path in (former, tmp_path / "events.jsonl", tmp_path / "demo.mp4"):
        path.touch()
    os.utime(former, (0, 0))
    (tmp_path / "gone.jsonl").symlink_to("nowhere")
    names = [path.name for path in files_since(demo_config(tmp_path), time.time() - 60)]
    assert names == ["demo.mp4", "events.jsonl"]


def test_a_folder_that_another_sink_writes_is_refused_and_harms_nothing(tmp_path, capsys):
    first, second = (JsonlSink(config=JsonlSinkConfig(folder=tmp_path)) for _ in range(2))
    records = make_records(1, 5)
    with first:
        first.write(records[:3])
        with pytest.raises(typer.Exit) as ended, reporting_errors():
            make_app(make_config(), make_walk(2), sink=second)
        first.write(records[3:])
    assert ended.value.exit_code == 1
    assert "another sink writes there: process" in capsys.readouterr().err
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 5
