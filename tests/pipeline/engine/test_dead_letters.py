"""What a dead letter says of the input that it holds."""

from datetime import UTC, datetime, timedelta

import pytest

from connectors.base import Refused
from connectors.errors import BadFrameError
from connectors.record import Record, Topic
from pipeline.engine.dead_letters import refused_letter, to_dead_letter

NOW = datetime(2026, 11, 29, 2, tzinfo=UTC)
PLACE = {"topic": "frames", "partition": 3, "offset": 7}


def letter_of(payload=b"\xff\x00", position=PLACE, headers=(), now=NOW, stream_id="gate"):
    error = BadFrameError(
        stream_id, "no picture", position=position, payload=payload, headers=headers
    )
    return to_dead_letter(error, now=now)


def test_letter_holds_the_input_and_says_where_it_was_and_what_is_wrong():
    letter = letter_of()
    headers = dict(letter.headers)
    assert (letter.topic, letter.key, letter.value) == (Topic.DLQ, "gate", b"\xff\x00")
    assert headers["content-type"] == b"application/octet-stream"
    assert headers["maskstream_error_reason"] == b"no picture"
    assert headers["maskstream_position"] == b'{"offset": 7, "partition": 3, "topic": "frames"}'


def test_headers_of_the_input_are_kept_but_for_those_that_are_the_letters_own():
    names = [("content-type", b"image/png"), ("ce_id", b"x"), ("trace", b"\xfe"), ("\ud800", b"")]
    headers = letter_of(headers=tuple(names)).headers
    assert headers[:3] == (("content-type", b"image/png"), ("trace", b"\xfe"), ("?", b""))
    assert [name for name, _ in headers].count("ce_id") == 1
    assert dict(headers)["ce_id"] != b"x"


def test_input_that_is_read_again_has_the_same_id():
    again = letter_of(now=NOW + timedelta(hours=1))
    assert dict(again.headers)["ce_id"] == dict(letter_of().headers)["ce_id"]


@pytest.mark.parametrize("changed", [{"payload": b"y"}, {"position": {**PLACE, "offset": 8}}])
def test_other_input_has_another_id(changed):
    assert dict(letter_of(**changed).headers)["ce_id"] != dict(letter_of().headers)["ce_id"]


def test_input_has_another_id_where_the_same_bytes_mean_something_else():
    first = letter_of(stream_id="gate", position={}, payload=b"{}x")
    second = letter_of(stream_id="gate{}", position={}, payload=b"x")
    assert dict(first.headers)["ce_id"] != dict(second.headers)["ce_id"]


def test_record_refused_for_its_key_becomes_a_letter_that_every_sink_takes():
    record = Record(topic=Topic.EVENTS, key="a\ud800", value=b"{}", timestamp_ms=1)
    letter = refused_letter(Refused(record=record, reason="key \ud800"), sink="kafka", now=NOW)
    assert (letter.key, dict(letter.headers)["maskstream_error_reason"]) == ("a?", b"key ?")
