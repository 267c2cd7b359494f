"""Standard streams whose reader goes away."""

import io
import os

import pytest

from connectors.console import ConsoleSink, ConsoleSinkConfig
from connectors.record import Record, Topic
from pipeline.cli.stdio import LeavableStream

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
