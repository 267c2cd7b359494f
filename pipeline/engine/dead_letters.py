"""Input that was refused, and records that no sink takes, as records for the dead-letter topic."""

import hashlib
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
    place = json.dumps(position, sort_keys=True)
    about = {
        "ce_id": _id_of(stream_id, place, value),
        "maskstream_error_type": kind,
        "maskstream_error_reason": reason,
        "maskstream_position": place,
    }
    kept = [(_to_text(name).decode(), text) for name, text in headers if name not in about]
    if "content-type" not in dict(kept):
        kept.append(("content-type", b"application/octet-stream"))
    return Record(
        topic=Topic.DLQ,
        key=_to_text(stream_id).decode(),
        value=value,
        headers=(*kept, *((name, _to_text(text)) for name, text in about.items())),
        timestamp_ms=int(now.timestamp() * 1000),
    )


def _id_of(stream_id: str, place: str, value: bytes) -> str:
    """Return an id without times: input that is read again becomes the same letter."""
    digest = hashlib.sha256()
    for part in (_to_text(stream_id), place.encode(), value):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.hexdigest()[:32]


def _to_text(text: str) -> bytes:
    """Return UTF-8 that every sink takes, whatever was refused for not being any."""
    return text.encode("utf-8", "replace")
