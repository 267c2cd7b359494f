"""Every kind of error has one line and one exit code."""

import json

import pytest
import typer

from connectors.errors import NotWritableError
from models.protocols import DeviceLostError
from pipeline.cli.errors import reporting_errors
from pipeline.errors import ConfigError, RecordError


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigError(["a: bad", "b: bad"]), 2, "error: a: bad\nerror: b: bad\n"),
        (
            ModuleNotFoundError("No module", name="matplotlib.figure"),
            2,
            "error: matplotlib is not installed (accepted: pip install 'maskstream[lab]')\n",
        ),
        (RecordError("line 1: bad"), 1, "error: line 1: bad\n"),
        (DeviceLostError("the device is gone"), 3, "error: the device is gone\n"),
        (KeyError("x"), 1, "error: KeyError: 'x' (--debug shows where)\n"),
        # Of a socket: standard streams raise none.
        (BrokenPipeError("x"), 1, "error: BrokenPipeError: x (--debug shows where)\n"),
    ],
)
def test_an_error_is_one_line_for_people_and_for_programs(error, code, told, capsys, monkeypatch):
    monkeypatch.delenv("MASKSTREAM_DEBUG", raising=False)
    with pytest.raises(typer.Exit) as ended, reporting_errors(json_lines=True):
        raise error
    shown = capsys.readouterr()
    assert (ended.value.exit_code, shown.err) == (code, told)
    reasons = [json.loads(line)["reason"] for line in shown.out.splitlines()]
    assert [f"error: {reason}" for reason in reasons] == told.splitlines()


def test_secrets_are_not_shown(capsys):
    with pytest.raises(typer.Exit) as ended, reporting_errors():
        raise NotWritableError("rtsp://bob:hunter2@host/1", "no")
    assert ended.value.exit_code == 1
    assert "hunter2" not in capsys.readouterr().err
