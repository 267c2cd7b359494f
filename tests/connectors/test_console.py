import io
import json
import os
import sys
from pathlib import Path

import pytest

from connectors.console import ConsoleSink, ConsoleSinkConfig
from connectors.errors import DeliveryFailedError
from connectors.record import Record, Topic


def printed(records, **options):
    stream = io.StringIO()
    with ConsoleSink(config=ConsoleSinkConfig(**options), stream=stream) as sink:
        sink.write(records)
    return stream.getvalue().splitlines()


def record(topic, **fields):
    return Record(topic=topic, key="gate", value=json.dumps(fields).encode(), timestamp_ms=1500)


def test_events_are_readable_lines_and_masklets_are_left_out():
    event = record(Topic.EVENTS, phase="new", rule="enter", zone="[yard]", track_no=3)
    lines = printed([record(Topic.MASKLETS, objects=[{}]), event])
    assert len(lines) == 1
    assert lines[0].startswith("00:00:01.500  events")
    for part in ("gate", "phase=new", "rule=enter", "zone=[yard]", "track_no=3"):
        assert part in lines[0]


def test_names_from_outside_do_not_steer_the_terminal():
    body = json.dumps({"reason": "a\nb\x9b2J"}).encode()
    [line] = printed([Record(topic=Topic.STATUS, key="\x1b[2J", value=body, timestamp_ms=0)])
    assert "\\x1b[2J" in line
    assert "reason=a\\nb\\x9b2J" in line


def test_json_lines_are_every_record_as_it_is():
    records = [record(Topic.MASKLETS, objects=[1]), record(Topic.STATUS, state="ok")]
    assert [json.loads(line) for line in printed(records, json_lines=True)] == [
        {"objects": [1]},
        {"state": "ok"},
    ]


def test_record_that_is_not_json():
    bad = Record(topic=Topic.EVENTS, key="gate", value=b"\xff", timestamp_ms=0)
    assert "1 bytes" in printed([bad])[0]
    assert json.loads(printed([bad], json_lines=True)[0])["value_base64"] == "/w=="


@pytest.mark.parametrize("json_lines", [False, True])
def test_control_characters_and_markup_do_nothing(json_lines):
    hostile = "[/b]\x1b[2J\x9b31m\r\u202e"
    event = Record(
        topic=Topic.EVENTS,
        key=hostile,
        value=json.dumps({"concept": hostile}, ensure_ascii=False).encode(),
        timestamp_ms=0,
    )
    [line] = printed([event], json_lines=json_lines)
    assert not set(line) & set("\x1b\x9b\r\u202e")
    assert "[/b]" in line


@pytest.mark.parametrize("json_lines", [False, True])
def test_lines_are_handed_over_at_once_and_a_broken_pipe_ends_nothing(json_lines, caplog):
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    event = record(Topic.EVENTS, rule="enter")
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        sink = ConsoleSink(config=ConsoleSinkConfig(json_lines=json_lines), stream=stream)
        sink.write([event])
        assert b"enter" in os.read(reader, 1000)
        os.close(reader)
        for _ in range(2):
            sink.write([event, event])
        sink.close()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
    assert sink.num_refused >= 3
    assert caplog.text.count("nobody reads the console") == 1


@pytest.mark.parametrize("json_lines", [False, True])
def test_a_console_that_is_closed_already_takes_nothing(json_lines, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with ConsoleSink(config=ConsoleSinkConfig(json_lines=json_lines)) as sink:
        sink.write([record(Topic.EVENTS, rule="enter")])
    assert sink.num_refused == 1


def test_a_full_disk_behind_the_console_is_told():
    with Path("/dev/full").open("w", encoding="utf-8") as stream:
        sink = ConsoleSink(config=ConsoleSinkConfig(), stream=stream)
        with pytest.raises(DeliveryFailedError, match="No space left") as caught:
            sink.write([record(Topic.EVENTS, rule="enter")])
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    assert caught.value.recoverable


def test_what_a_terminal_or_a_calendar_does_not_know_is_written_out():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with ConsoleSink(config=ConsoleSinkConfig(), stream=stream) as sink:
        sink.write([Record(topic=Topic.EVENTS, key="Tür", value=b'"', timestamp_ms=10**18)])
        sink.write([record(Topic.EVENTS, rule="\ud800")])
    shown = stream.buffer.getvalue().decode()
    assert "1000000000000000000 ms  events    T\\xfcr" in shown
    assert "rule=\\ud800" in shown
