"""A dead letter as a line of JSON: what could not be used, whatever bytes it is."""

from pipeline.records.base import RecordModel


class DeadLetterHeader(RecordModel):
    """One header of a dead letter."""

    name: str
    """Its name."""
    value: str | None = None
    """Its value, if that is UTF-8 text."""
    value_base64: str | None = None
    """Its value in base 64, if it is no text."""


class DeadLetterLine(RecordModel):
    """A dead letter in ``dlq.jsonl``; on Kafka its value and headers stand as they are."""

    topic: str
    """Topic of dead letters."""
    key: str
    """The stream's id."""
    timestamp_ms: int
    """When it was refused, milliseconds since the epoch."""
    headers: tuple[DeadLetterHeader, ...]
    """Headers as they came, and those that say where it was and what is wrong with it."""
    value_base64: str
    """The input as it came, in base 64."""
