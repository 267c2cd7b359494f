"""The state of streams in a compacted topic: bytes by key, read whole by partition."""

import time
from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer
from kafka.errors import KafkaTimeoutError

from connectors.errors import NotWritableError
from connectors.kafka.client import (
    MAX_RECORD_BYTES,
    build_client,
    client_options,
    require_listener,
    translate_source_error,
)
from connectors.kafka.config import StateTopicConfig
from connectors.kafka.poller import partition_at
from connectors.kafka.sink import KafkaSink
from connectors.record import Record, Topic

_POLL_MS = 200
_CLOSE_MS = 1000


class ValueRefusedError(NotWritableError):
    """The broker does not take the value, whatever is tried; a smaller one may pass."""


class StateTopic:
    """Writes values by key, and reads the last ones of a partition.

    Guarantee: a value is with the broker once ``write`` returns; one that was not confirmed may
        come later, but before any that is written after it.
    Ordering: that of the writes.
    Parallelism: one writer; any number of readers.

    Args:
        config: Of the topic.
    """

    def __init__(self, config: StateTopicConfig) -> None:
        self._config = config
        self._sink = KafkaSink(config=config.to_records(), kinds=[Topic.STATE])

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"topic {self._config.topic} at {self._config.bootstrap}"

    def write(self, key: str, value: bytes, *, partition: int) -> None:
        """Set the value of a key; an empty one deletes it. Waits for the broker.

        Args:
            key: The key.
            value: At most 64 MiB.
            partition: Its number, modulo how many the topic has.

        Raises:
            ValueRefusedError: If no broker takes it.
            SinkError: If it was not confirmed in time; what was written before is still there.
        """
        record = Record(
            topic=Topic.STATE,
            key=key,
            value=value,
            timestamp_ms=round(time.time() * 1000),
            partition=partition,
        )
        for refused in self._sink.write([record]):
            raise ValueRefusedError(self.name, f"{len(value)} bytes refused: {refused.reason}")

    def read(self, partition: int) -> Mapping[str, bytes]:
        """Return the last values of a partition by key, the newest last; none if there is no topic.

        Keys that are no text are left out.

        Raises:
            SourceError: If it cannot be read.
        """
        config = self._config
        try:
            require_listener(config)
            consumer, _ = build_client(KafkaConsumer, _options_of(config))
            try:
                return self._read(consumer, partition)
            finally:
                consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)
        except Exception as error:
            position = {"topic": config.topic, "partition": partition}
            raise translate_source_error(
                error, self.name, position=position, bootstrap=config.bootstrap
            ) from error

    def interrupt(self) -> None:
        """End a write that waits; called by another thread, at a stop."""
        self._sink.interrupt()

    def close(self) -> None:
        """Let go of the broker."""
        self._sink.close()

    def _read(self, consumer: Any, partition: int) -> Mapping[str, bytes]:  # noqa: ANN401 - untyped
        numbers = consumer.partitions_for_topic(self._config.topic)
        if not numbers:
            return {}
        one = partition_at(self._config.topic, partition % len(numbers))
        consumer.assign([one])
        consumer.seek_to_beginning(one)
        values: dict[str, bytes] = {}
        silent_s = time.monotonic()
        while (end := consumer.highwater(one)) is None or consumer.position(one) < end:
            for record in consumer.poll(timeout_ms=_POLL_MS).get(one, ()):
                silent_s = time.monotonic()
                _apply(values, record.key, record.value)
            if time.monotonic() - silent_s > self._config.connect_timeout_s:
                raise KafkaTimeoutError(f"nothing came for {self._config.connect_timeout_s} s")
        return values


def _apply(values: dict[str, bytes], key: bytes | None, value: bytes | None) -> None:
    try:
        name = (key or b"").decode()
    except UnicodeDecodeError:
        return
    values.pop(name, None)  # so that the newest is the last
    if value:
        values[name] = value


def _options_of(config: StateTopicConfig) -> dict[str, Any]:
    return {
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "allow_auto_create_topics": False,
        "max_partition_fetch_bytes": MAX_RECORD_BYTES,
        "fetch_max_bytes": MAX_RECORD_BYTES,
        **client_options(config),
    }
