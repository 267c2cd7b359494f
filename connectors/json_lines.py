"""Records as lines of JSON, whatever bytes they hold."""

import base64
import json
from typing import NoReturn

from connectors.record import Record, Topic


def to_json_line(record: Record) -> bytes:
    """Return a record's body on one line, without the newline.

    Bodies of our own making, which begin with ``{``, are taken as they are.

    Raises:
        ValueError: If the body is no JSON.
    """
    if record.topic is Topic.DLQ:
        return to_dead_letter_line(record)
    if b"\n" not in record.value and record.value.startswith(b"{"):
        return record.value
    try:
        body = json.loads(record.value, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a record of {record.key!r} is not JSON") from error
    return json.dumps(body, separators=(",", ":")).encode()


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


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
