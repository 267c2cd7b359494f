"""The one message type that sinks carry."""

from dataclasses import dataclass, field
from enum import StrEnum


class Topic(StrEnum):
    """Kinds of record, named as their Kafka topics are by default."""

    MASKLETS = "maskstream.masklets.v1"
    TRACKS = "maskstream.tracks.v1"
    EVENTS = "maskstream.events.v1"
    STATUS = "maskstream.status.v1"
    STATE = "maskstream.state.v1"
    FRAMES = "maskstream.frames.v1"
    DLQ = "maskstream.dlq.v1"


RECORD_TOPICS = (Topic.MASKLETS, Topic.TRACKS, Topic.EVENTS, Topic.STATUS, Topic.DLQ)
"""What a sink of records may be given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Bytes with a key and headers, ready for any sink.

    Attributes:
        topic: What kind of record this is.
        key: The stream's id; records of one key keep their order.
        value: The body, UTF-8 JSON unless the headers say otherwise.
        headers: CloudEvents attributes and others, in order.
        timestamp_ms: Capture time, milliseconds since the epoch.
        partition: Number of its partition, modulo how many the topic has; ``None``: by its key.
    """

    topic: Topic
    key: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = field(default=())
    timestamp_ms: int
    partition: int | None = None
