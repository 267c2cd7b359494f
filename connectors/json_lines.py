"""Records as lines of JSON, whatever bytes they hold."""

import base64
import json
from typing import NoReturn

from connectors.record import Record, Topic


def to_json_line(record: Record) -> bytes:
    """Return a record's body on one line, without the newline; its ``ce_id`` is the first key.

    Bodies of our own making, from ``{`` to ``}`` on one line, are taken as they are.

    Raises:
        ValueError: If the body is no JSON.
    """
    if record.topic is Topic.DLQ:
        return to_dead_letter_line(record)
    try:
        line = record.value if _is_line(record.value) else _to_line(record.value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a record of {record.key!r} is not JSON") from error
    uid = next((value for name, value in record.headers if name == "ce_id"), None)
    if uid is None or not line.startswith(b"{"):
        return line
    first = json.dumps(uid.decode(errors="replace")).encode()
    return b'{"ce_id":%b%b%b' % (first, b"" if line == b"{}" else b",", line[1:])


def to_dead_letter_line(record: Record) -> bytes:
    """Return a record of any bytes as one line, with its value in base 64.

    Headers keep their order; those that are no UTF-8 are in base 64 too.
    """
    letter = {
        "topic": record.topic.value,
        "key": record.key,
        "timestamp_ms": record.timestamp_ms,
        "headers": [_to_header(name, value) for name, value in record.headers],
        "value_base64": base64.b64encode(record.value).decode(),
    }
    return json.dumps(letter, separators=(",", ":")).encode()


def _to_header(name: str, value: bytes) -> dict[str, str]:
    try:
        return {"name": name, "value": value.decode()}
    except UnicodeDecodeError:
        return {"name": name, "value_base64": base64.b64encode(value).decode()}


def _is_line(body: bytes) -> bool:
    body.decode()  # what is no UTF-8 is no JSON
    is_object = body.startswith(b'{"') and body.endswith(b"}")
    return is_object and b"\n" not in body and b"\r" not in body


def _to_line(body: bytes) -> bytes:
    value = json.loads(body, parse_constant=_refuse_constant)
    return json.dumps(value, separators=(",", ":")).encode()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
