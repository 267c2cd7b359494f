"""What people see: names from outside as they are, and nothing that steers the terminal."""

import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.cli.output import (
    RunProgress,
    progress_bar,
    show_summary,
    write_error,
    write_warning,
)
from pipeline.engine.summary import RunSummary, StreamSummary
from pipeline.records.schema import FrameCounts


def summary_of(name):
    stream = StreamSummary(
        stream_id=name,
        counts=FrameCounts(received=1, dropped={name: 1}),
        concepts={name: 1},
        events={name: 1},
    )
    return RunSummary(wall_s=1.0, streams=(stream,), sink_errors={name: name})


def test_brackets_in_names_are_no_markup(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    show_summary(summary_of("[/b][red]x"), files=[], json_lines=False)
    assert capsys.readouterr().out.count("[/b][red]x") == 6


def test_the_last_line_says_what_is_kept_for_the_next_run(capsys):
    text = "away; 7 records are kept in /state for the next run"
    summary = replace(summary_of("a"), sink_errors={"k": text}, num_kept={"k": 7})
    show_summary(summary, files=[], json_lines=False)
    told = capsys.readouterr().out
    assert told.endswith(f"1 failed\nsink k: {text}\n")
    assert told.count(text) == 1


@pytest.mark.parametrize("write", [write_error, write_warning])
def test_escape_sequences_do_not_reach_the_terminal(write, capsys):
    show_summary(summary_of("a\x1b[2Jb"), files=[], json_lines=False)
    write("at rtsp://gate/\x1b]0;title\x07\nnext line")
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err
    assert "title\\x07\nnext line" in told.err


@pytest.mark.parametrize(
    "shows", [lambda: RunProgress(json_lines=False), lambda: progress_bar("a")]
)
def test_lines_go_into_a_pipe_while_progress_is_on_the_terminal(shows, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # stderr is a terminal
    with shows():
        print("a line")  # noqa: T201
    assert capsys.readouterr().out == "a line\n"


def test_progress_is_left_out_and_that_is_said_once_while_stdout_takes_none(caplog, monkeypatch):
    caplog.set_level(logging.WARNING, logger="maskstream.output")
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        RunProgress(json_lines=True) as progress,
    ):
        monkeypatch.setattr(sys, "stdout", RawText(full))
        progress.show(summary_of("a"))
        progress.show(summary_of("a"))
    [warning] = caplog.messages
    assert warning.endswith("No space left on device; progress is left out until it can")


class RawText:
    """A stream of text without a buffer."""

    def __init__(self, file):
        self._file = file

    def write(self, text):
        return self._file.write(text.encode())

    def flush(self):
        """Holds nothing."""
