"""Records as lines of JSON."""

import json

import pytest

from connectors.json_lines import to_json_line
from connectors.record import Record, Topic


def record(value, **headers):
    pairs = tuple((name, text.encode()) for name, text in headers.items())
    return Record(topic=Topic.EVENTS, key="gate", value=value, headers=pairs, timestamp_ms=0)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'{"a":1}', b'{"ce_id":"x\\"1","a":1}'),
        (b'{\n "a": 1\n}', b'{"ce_id":"x\\"1","a":1}'),
        (b'{"a":\r1}', b'{"ce_id":"x\\"1","a":1}'),
        (b"{}", b'{"ce_id":"x\\"1"}'),
        (b"[1, 2]", b"[1,2]"),
    ],
)
def test_the_id_is_the_first_key_of_a_line(body, line):
    assert to_json_line(record(body, ce_type="t", ce_id='x"1')) == line


def test_a_record_without_id_is_its_body():
    body = '{"text": "größer \u2028"}'.encode()
    assert to_json_line(record(body)) == body


@pytest.mark.parametrize(
    "body", [b"\xff\xd8", b"", b"[NaN]", b"[" * 100_000, b'{"a":"\xff"}', b'{"a":1']
)
def test_what_is_no_json_is_no_line(body):
    with pytest.raises(ValueError, match="'gate' is not JSON"):
        to_json_line(record(body, ce_id="1"))


def test_the_line_is_still_the_body(tmp_path):
    body = {"stream_id": "gate", "objects": [{"mask": {"counts": "a"}}]}
    line = json.loads(to_json_line(record(json.dumps(body).encode(), ce_id="1")))
    assert line == {"ce_id": "1", **body}
