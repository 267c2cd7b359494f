"""What a run tells: its log, pictures and TensorBoard curves, also after it was stopped."""

import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from connectors.pictures.stills import read_picture
from pipeline.lab.training.report import CURVES_FOLDER, Reporter
from pipeline.lab.training.weight_metadata import LOG_FILE, read_rows
from tests.pipeline.lab.training.runs import make_model, stage

CELL = np.full((12, 16, 3), (200, 40, 10), np.uint8)


def reporter(out, **fields):
    return Reporter(out=out, panel=lambda model, stage: [CELL], has_curves=True, **fields)


def tell(out, *, begin, losses):
    report = reporter(out)
    report.begin(step=begin, total=60)
    for step, loss in losses.items():
        report.log(step, stage(task="tracker"), {"loss": loss, "mask": loss / 2})
    report.show(max(losses), stage(task="tracker"), make_model())
    report.end()


def curves_in(out):
    found = EventAccumulator(str(out / CURVES_FOLDER))
    found.Reload()
    return found


def test_curves_and_pictures_can_be_read_back(tmp_path):
    tell(tmp_path, begin=0, losses={20: 4.0, 40: 3.0})
    found = curves_in(tmp_path)
    assert set(found.Tags()["scalars"]) == {"tracker/loss", "tracker/mask"}
    points = [(event.step, event.value) for event in found.Scalars("tracker/loss")]
    assert points == [(20, 4.0), (40, 3.0)]
    (image,) = found.Images("tracker")
    sheet = read_picture(tmp_path / "pictures" / "0000040.png")
    assert (image.step, image.height, image.width) == (40, *sheet.shape[:2])
    assert (sheet == CELL[0, 0]).all(2).any()


def test_curves_of_steps_that_were_lost_are_told_anew(tmp_path):
    tell(tmp_path, begin=0, losses={20: 4.0, 40: 3.0, 60: 2.5})
    tell(tmp_path, begin=20, losses={40: 2.0})
    points = [(event.step, event.value) for event in curves_in(tmp_path).Scalars("tracker/loss")]
    assert points == [(20, 4.0), (40, 2.0)]
    assert [row["loss"] for row in read_rows(tmp_path / LOG_FILE, upto=60)] == [4.0, 2.0]


def test_curves_without_tensorboard_name_what_is_missing(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ModuleNotFoundError) as found:
        reporter(tmp_path).begin(step=0, total=1)
    assert found.value.name == "tensorboard"


def test_a_process_that_does_not_lead_tells_nothing(tmp_path):
    report = reporter(tmp_path, is_quiet=True)
    report.begin(step=0, total=1)
    report.log(1, stage(), {"loss": 1.0})
    report.show(1, stage(), make_model())
    report.end()
    assert not list(tmp_path.iterdir())
