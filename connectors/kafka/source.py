"""Encoded frames from Kafka."""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka.errors import CommitFailedError, KafkaError, RebalanceInProgressError
from kafka.structs import OffsetAndMetadata, TopicPartition
from numpy.typing import NDArray
from typing_extensions import override

from connectors.base import Source
from connectors.errors import BadFrameError, NotFoundError, Position, SourceError
from connectors.frame import CaptureClock, Frame
from connectors.kafka.client import (
    MAX_RECORD_BYTES,
    client_options,
    require_listener,
    translate_source_error,
)
from connectors.kafka.config import KafkaSourceConfig
from connectors.pictures.encoding import decode_image, image_kind

_log = logging.getLogger("maskstream.connectors.kafka")

_Partition = tuple[str, int]

_POLL_MS = 200
_CLOSE_S = 1.0
_RAW = b"application/x-maskstream-rgb24"


class KafkaSource(Source):
    """Reads encoded frames, keyed by stream; one source may carry many streams.

    A record's value is a JPEG, a PNG, or raw RGB with the headers ``width`` and ``height``; its
    timestamp is the capture time. The headers ``stream_epoch``, ``frame_seq`` and ``pts_us`` are
    optional; a missing ``frame_seq`` is the record's offset, so that it is the same when a record
    is delivered again.

    Guarantee: at least once: offsets are committed by ``commit`` alone, once the results are safe.
        A record that is no frame is a ``BadFrameError`` with its bytes; the next read goes on
        behind it.
    Ordering: that of the partition, so of each stream.
    Parallelism: the partitions, shared among the consumer group. ``close`` may come from another
        thread.
    """

    def __init__(
        self, *, stream_id: str, config: KafkaSourceConfig, position: Position | None = None
    ) -> None:
        self._stream_id = stream_id
        self._config = config
        self._start = {_partition_of(name): int(value) for name, value in (position or {}).items()}
        self._consumer: Any = None
        self._fetched: deque[Any] = deque()
        self._delivered: dict[_Partition, int] = {}
        self._ends: dict[_Partition, int] = {}
        self._closing = threading.Event()
        self._lock = threading.Lock()

    @override
    def open(self) -> None:
        self._closing.clear()
        config = self._config
        options: dict[str, Any] = {
            "group_id": config.group_id,
            "group_instance_id": config.group_instance_id,
            "enable_auto_commit": False,
            "auto_offset_reset": config.start,
            "allow_auto_create_topics": False,
            "session_timeout_ms": round(config.session_timeout_s * 1000),
            "heartbeat_interval_ms": round(config.session_timeout_s * 300),
            "max_partition_fetch_bytes": MAX_RECORD_BYTES,
            "fetch_max_bytes": MAX_RECORD_BYTES,
            "max_poll_records": 32,
        }
        with self._lock:
            try:
                require_listener(config)
                self._consumer = KafkaConsumer(**{**options, **client_options(config)})
                is_there = config.topic in self._consumer.topics()
                if is_there:
                    self._consumer.subscribe([config.topic], listener=_Rebalance(self))
            except (KafkaError, OSError) as error:
                self._drop_consumer()
                raise self._translate(error) from error
            if not is_there:
                self._drop_consumer()
                reason = f"no topic {config.topic!r} at {config.bootstrap}"
                raise NotFoundError(self._stream_id, reason, accepted="a topic that exists")

    @override
    def read(self) -> Frame | None:
        with self._lock:
            while not self._closing.is_set() and self._consumer is not None:
                frame = self._next_fetched()
                if frame is not None:
                    return frame
                if self._config.until_end and self._is_at_end():
                    return None
                self._fetch()
            return None

    def commit(self, position: Position) -> None:
        """Mark everything before ``position`` as done.

        Partitions that have moved to another member meanwhile are left to it: it reads again what
        was not committed.

        Raises:
            SourceError: If the broker cannot be reached.
        """
        done = {_partition_of(name): int(value) for name, value in position.items()}
        with self._lock:
            if self._consumer is None:
                return
            owned = self._consumer.assignment()
            offsets = {
                partition: OffsetAndMetadata(offset, "", -1)
                for partition, offset in done.items()
                if partition in owned
            }
            try:
                if offsets:
                    limit_ms = round(self._config.connect_timeout_s * 1000)
                    self._consumer.commit(offsets, timeout_ms=limit_ms)
            except (CommitFailedError, RebalanceInProgressError) as error:
                _log.warning("stream %r: commit left to the new owner: %s", self._stream_id, error)
            except KafkaError as error:
                raise self._translate(error) from error

    @override
    def position(self) -> dict[str, int | float | str]:
        return {f"{one[0]}/{one[1]}": offset for one, offset in sorted(self._delivered.items())}

    @override
    def interrupt(self) -> None:
        self._closing.set()

    @override
    def close(self) -> None:
        self._closing.set()
        with self._lock:
            self._drop_consumer()

    def on_assigned(self, partitions: Sequence[_Partition]) -> None:
        """Begin where the position given at the start says, else where the group left off."""
        for partition in partitions:
            if partition in self._start:
                self._consumer.seek(partition, self._start.pop(partition))

    def on_revoked(self, partitions: Sequence[_Partition]) -> None:
        """Forget what was fetched and not yet read of partitions that go to another member."""
        gone = set(partitions)
        for partition in gone:
            self._delivered.pop(partition, None)
            self._ends.pop(partition, None)
        kept = [one for one in self._fetched if _at(one.topic, one.partition) not in gone]
        self._fetched = deque(kept)

    def _next_fetched(self) -> Frame | None:
        while self._fetched:
            record = self._fetched.popleft()
            self._delivered[_at(record.topic, record.partition)] = record.offset + 1
            try:
                stream_id = _stream_of(record)
                if not self._config.streams or stream_id in self._config.streams:
                    return _to_frame(record, stream_id, self._config.max_pixels)
            except (ValueError, OverflowError) as error:
                raise BadFrameError(
                    record.key.decode("utf-8", "replace") if record.key else self._stream_id,
                    str(error),
                    position={
                        "topic": record.topic,
                        "partition": record.partition,
                        "offset": record.offset,
                    },
                    accepted="a JPEG, a PNG, or raw RGB with width and height, keyed by stream",
                    payload=record.value or b"",
                    headers=tuple(record.headers or ()),
                ) from error
        return None

    def _fetch(self) -> None:
        try:
            batches = self._consumer.poll(timeout_ms=_POLL_MS)
        except (KafkaError, OSError) as error:
            raise self._translate(error) from error
        for records in batches.values():
            self._fetched.extend(records)
        # What came with the records, not what a broker answers when asked for the end: that was
        # seen to be too low by all but one record of the last batch.
        for partition in self._consumer.assignment():
            end = self._consumer.highwater(partition)
            if end is not None:
                self._ends.setdefault(partition, end)

    def _is_at_end(self) -> bool:
        owned = self._consumer.assignment()
        return bool(owned) and all(
            one in self._ends and self._consumer.position(one) >= self._ends[one] for one in owned
        )

    def _translate(self, error: Exception) -> SourceError:
        position = {"topic": self._config.topic, **self.position()}
        bootstrap = self._config.bootstrap
        return translate_source_error(
            error, self._stream_id, position=position, bootstrap=bootstrap
        )

    def _drop_consumer(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._fetched.clear()
        if consumer is not None:
            consumer.close(autocommit=False, timeout_ms=round(_CLOSE_S * 1000))


class _Rebalance(ConsumerRebalanceListener):
    def __init__(self, source: KafkaSource) -> None:
        self._source = source

    @override
    def on_partitions_revoked(self, revoked: Any) -> None:
        self._source.on_revoked(list(revoked))

    @override
    def on_partitions_assigned(self, assigned: Any) -> None:
        self._source.on_assigned(list(assigned))


def _stream_of(record: Any) -> str:  # noqa: ANN401 - kafka-python is untyped
    key = cast("bytes | None", record.key)
    if not key:
        raise ValueError("a record without a key")
    return key.decode()


def _to_frame(record: Any, stream_id: str, max_pixels: int) -> Frame:  # noqa: ANN401 - as above
    # Left as bytes: a header that is not ours may hold anything.
    headers = {name: value for name, value in record.headers or () if value is not None}
    timestamp_ms = cast("int | None", record.timestamp)
    has_time = timestamp_ms is not None and timestamp_ms >= 0
    captured_at = datetime.now(tz=UTC)
    if timestamp_ms is not None and has_time:
        captured_at = datetime.fromtimestamp(timestamp_ms / 1000, tz=UTC)
    is_append_time = record.timestamp_type == 1 or not has_time
    stream_epoch = int(headers.get("stream_epoch", 0))
    frame_seq = int(headers.get("frame_seq", record.offset))
    pts_us = int(headers.get("pts_us", round(captured_at.timestamp() * 1e6)))
    if stream_epoch < 0 or frame_seq < 0:
        raise ValueError(f"stream_epoch {stream_epoch}, frame_seq {frame_seq}: a negative number")
    return Frame(
        stream_id=stream_id,
        stream_epoch=stream_epoch,
        frame_seq=frame_seq,
        pixels=_to_pixels(record.value or b"", headers, max_pixels),
        pts_us=pts_us,
        captured_at=captured_at,
        capture_clock=CaptureClock.KAFKA_TIMESTAMP if has_time else CaptureClock.ARRIVAL,
        capture_uncertainty_s=1.0 if is_append_time else 0.001,
        position={f"{record.topic}/{record.partition}": record.offset + 1},
    )


def _to_pixels(value: bytes, headers: dict[str, bytes], max_pixels: int) -> NDArray[np.uint8]:
    if headers.get("content-type") == _RAW:
        height, width = int(headers.get("height", 0)), int(headers.get("width", 0))
        if height < 1 or width < 1 or height * width > max_pixels:
            raise ValueError(f"raw RGB of {width}x{height} pixels; allowed are 1 to {max_pixels}")
        if len(value) != height * width * 3:
            raise ValueError(f"raw RGB of {width}x{height} pixels in {len(value)} bytes")
        return np.frombuffer(value, np.uint8).reshape(height, width, 3).copy()
    if image_kind(value) is None:
        raise ValueError(f"{len(value)} bytes beginning with {value[:4].hex()!r} are no picture")
    return decode_image(value, max_pixels=max_pixels)


def _at(topic: str, partition: int) -> _Partition:
    """Return kafka-python's named tuple, under a type that the checker knows."""
    return cast("_Partition", TopicPartition(topic, partition))


def _partition_of(name: str) -> _Partition:
    topic, _, partition = name.rpartition("/")
    if not topic or not partition.isdigit():
        raise ValueError(f"bad Kafka position {name!r}; accepted: topic/partition")
    return _at(topic, int(partition))
