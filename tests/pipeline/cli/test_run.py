"""How a run of the command ends."""

import json

import pytest
import typer

from models.protocols import DeviceLostError
from pipeline.cli.run import finish, run_engine
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
