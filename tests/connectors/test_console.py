import io
import json

import pytest

from connectors.console import ConsoleSink, ConsoleSinkConfig
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
