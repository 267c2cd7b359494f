"""Standard streams whose reader goes away, or whose disk is full."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.console import ConsoleSink, ConsoleSinkConfig
from connectors.record import Record, Topic
from pipeline.cli.stdio import LeavableStream, StandardStreamError

EVENT = Record(topic=Topic.EVENTS, key="gate", value=b"{}", timestamp_ms=0)


@pytest.fixture
def pipe():
    """A stream into a pipe, and the pipe's two ends."""
    reader, writer = os.pipe()
    binary = open(writer, "wb", closefd=False)  # noqa: SIM115 - as Python opens its own
    yield LeavableStream.over(io.TextIOWrapper(binary, "utf-8")), reader, writer
    os.close(writer)


def test_what_is_written_before_the_reader_leaves_arrives(pipe):
    stream, reader, _ = pipe
    stream.write("Tür\n")
    stream.flush()
    assert os.read(reader, 100).decode() == "Tür\n"
    os.close(reader)


def test_a_stream_is_closed_once_its_reader_has_left_and_keeps_its_number(pipe):
    stream, reader, writer = pipe
    os.close(reader)
    assert stream.write("x" * 100_000) == 100_000
    stream.flush()
    assert (stream.closed, stream.isatty()) == (True, False)
    assert stream.write("more") == 4
    assert os.fstat(writer)
    with pytest.raises(TypeError):
        stream.write(b"bytes")


def test_records_that_nobody_reads_are_counted_by_the_console(pipe):
    stream, reader, _ = pipe
    os.close(reader)
    sink = ConsoleSink(config=ConsoleSinkConfig(), stream=stream)
    sink.write([EVENT] * 3)
    sink.close()
    assert sink.num_refused == 3


@pytest.fixture
def full_disk():
    """A stream that Python opened on a file that takes nothing."""
    number = os.open("/dev/full", os.O_WRONLY)
    binary = open(number, "wb", closefd=False)  # noqa: SIM115 - as Python opens its own
    yield io.TextIOWrapper(binary, "utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def test_a_full_disk_is_an_error_that_names_the_stream(full_disk):
    stream = LeavableStream.over(full_disk)
    stream.write("lost\n")
    with pytest.raises(StandardStreamError, match="cannot be written: No space left") as caught:
        stream.flush()
    assert (caught.value.errno, caught.value.strerror) == (errno.ENOSPC, "No space left on device")


def test_what_a_full_disk_has_not_taken_is_let_go(full_disk):
    stream = LeavableStream.over(full_disk)
    stream.write("lost\n")
    stream.give_up()
    stream.flush()


def test_nobody_can_be_told_that_stderr_is_full(full_disk):
    stream = LeavableStream.over(full_disk, is_optional=True)
    stream.write("lost\n")
    stream.flush()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--version"], 1, "error: stdout cannot be written: No space left on device"),
        (["check", "/nowhere.yaml"], 2, "error: /nowhere.yaml: cannot be read"),
    ],
)
def test_a_command_says_once_that_stdout_takes_nothing(arguments, code, told, unbuffered):
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            text=True,
            check=False,
        )
    assert done.returncode == code
    [line] = done.stderr.splitlines()
    assert line.startswith(told)
