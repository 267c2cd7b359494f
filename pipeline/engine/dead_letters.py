"""Input that was refused, and records that no sink takes, as records for the dead-letter topic."""

import json
from datetime import datetime

from connectors.base import Refused
from connectors.errors import BadFrameError, Position
from connectors.record import Record, Topic

_MAX_CHARS = 4000


def to_dead_letter(error: BadFrameError, *, now: datetime) -> Record:
    """Return the input as it came, with headers that say where it was and what is wrong."""
    return _letter(
        error.stream_id,
        error.payload,
        kind=type(error).__name__,
        reason=error.reason,
        position=error.position,
        headers=error.headers,
        now=now,
    )


def refused_letter(refused: Refused, *, sink: str, now: datetime) -> Record:
    """Return a record that a sink refuses, with headers that name the sink and its reason."""
    record = refused.record
    return _letter(
        record.key,
        record.value,
        kind="Refused",
        reason=refused.reason,
        position={"sink": sink, "topic": record.topic.value},
        headers=record.headers,
        now=now,
    )


def unencodable_letter(thing: object, error: Exception, *, stream_id: str, now: datetime) -> Record:
    """Return what could not be made a record, as text for people."""
    return _letter(
        stream_id,
        repr(thing)[:_MAX_CHARS].encode("utf-8", "replace"),
        kind=type(error).__name__,
        reason=str(error)[:_MAX_CHARS],
        position={},
        headers=(),
        now=now,
    )


def _letter(
    stream_id: str,
    value: bytes,
    *,
    kind: str,
    reason: str,
    position: Position,
    headers: tuple[tuple[str, bytes], ...],
    now: datetime,
) -> Record:
    reasons = {
        "maskstream_error_type": kind,
        "maskstream_error_reason": reason,
        "maskstream_position": json.dumps(position),
    }
    return Record(
        topic=Topic.DLQ,
        key=stream_id,
        value=value,
        headers=(*headers, *((name, text.encode()) for name, text in reasons.items())),
        timestamp_ms=int(now.timestamp() * 1000),
    )
