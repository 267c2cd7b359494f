"""Input that was refused, as a record for the dead-letter topic."""

import json
from datetime import datetime

from connectors.errors import BadFrameError
from connectors.record import Record, Topic


def to_dead_letter(error: BadFrameError, *, now: datetime) -> Record:
    """Return the input as it came, with headers that say where it was and what is wrong."""
    reasons = {
        "maskstream_error_type": type(error).__name__,
        "maskstream_error_reason": error.reason,
        "maskstream_position": json.dumps(error.position),
    }
    return Record(
        topic=Topic.DLQ,
        key=error.stream_id,
        value=error.payload,
        headers=(*error.headers, *((name, text.encode()) for name, text in reasons.items())),
        timestamp_ms=int(now.timestamp() * 1000),
    )
