"""Encoded frames from Kafka."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka.errors import CommitFailedError, KafkaError, RebalanceInProgressError
from kafka.structs import OffsetAndMetadata, TopicPartition
from numpy.typing import NDArray
from typing_extensions import override

from connectors.base import Source
from connectors.errors import BadFrameError, NotFoundError, Position, SourceError
from connectors.frame import CaptureClock, Frame, KafkaOrigin
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
_EPOCH = datetime.fromtimestamp(0, tz=UTC)

_POLL_MS = 200
_CLOSE_S = 1.0
# A broker that answers commits in milliseconds; one that is away must not hold up a stop.
_COMMIT_S = 2.0
_COMMIT_AGAIN_S = 5.0
_RAW = b"application/x-maskstream-rgb24"


class KafkaSource(Source):
    """Reads encoded frames, keyed by stream; one source may carry many streams.

    A record's value is a JPEG, a PNG, or raw RGB with the headers ``width`` and ``height``; its
    timestamp is the capture time. The headers ``stream_epoch``, ``frame_seq`` and ``pts_us`` are
    optional; a missing ``frame_seq`` is the record's offset, so that it is the same when a record
    is delivered again.

    Guarantee: at least once: offsets are committed by ``commit`` alone, once the results are safe,
        and what was given to it is committed by ``close`` at the latest if the broker answers. A
        record that is no frame is a ``BadFrameError`` with its bytes and the offset behind it; the
        next read goes on there.
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
        self._handed_out: dict[_Partition, int] = {}
        self._revoked: dict[_Partition, int] = {}
        self._ends: dict[_Partition, int] = {}
        self._marks: dict[_Partition, int] = {}
        self._marks_lock = threading.Lock()
        self._next_commit_s = 0.0
        self._closing = threading.Event()
        self._lock = threading.Lock()

    @override
    def open(self) -> None:
        if self._closing.is_set():
            return
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
            except Exception as error:
                self._drop_consumer()
                raise self._translate(error) from error
            if not is_there:
                self._drop_consumer()
                reason = f"no topic {config.topic!r} at {config.bootstrap}"
                accepted = "a topic that exists"
                raise NotFoundError(self._stream_id, reason, accepted=accepted, recoverable=True)

    @override
    def read(self) -> Frame | None:
        with self._lock:
            while not self._closing.is_set() and self._consumer is not None:
                self._commit_marks()
                frame = self._next_fetched()
                if frame is not None:
                    return frame
                if self._config.until_end and self._is_at_end():
                    return None
                self._fetch()
            return None

    def commit(self, position: Position) -> None:
        """Mark everything before ``position`` as done; from any thread, and without waiting.

        The thread that reads commits it, within 200 ms while it waits for a record, and ``close``
        at the latest. What the broker does not take is tried again until it does. Partitions that
        have moved to another member meanwhile are left to it: it reads again what was not
        committed.
        """
        with self._marks_lock:
            for name, offset in position.items():
                self._marks[_partition_of(name)] = int(offset)

    @override
    def position(self) -> dict[str, int | float | str]:
        offsets = {**self._start, **self._delivered}
        return {f"{one[0]}/{one[1]}": offset for one, offset in sorted(offsets.items())}

    @override
    def interrupt(self) -> None:
        self._closing.set()

    @override
    def close(self) -> None:
        self._closing.set()
        with self._lock:
            if self._consumer is not None:
                self._next_commit_s = 0.0
                self._commit_marks()
            self._drop_consumer()

    def on_assigned(self, partitions: Sequence[_Partition]) -> None:
        """Begin where the position given at the start says, else where the group left off."""
        for partition in partitions:
            if partition in self._start:
                self._consumer.seek(partition, self._start[partition])
                self._delivered[partition] = self._start[partition]
            if partition in self._revoked:
                self._delivered[partition] = self._revoked[partition]
        self._revoked.clear()
        if partitions:
            # Of those that come later another member may have read more by then.
            self._start.clear()

    def on_revoked(self, partitions: Sequence[_Partition]) -> None:
        """Commit what is done, then forget all about partitions that may go to another member.

        Nothing that was fetched waits to be read here: the client tells of this while it polls,
        and it is polled when all is read.
        """
        self._commit_marks()
        gone = set(partitions)
        self._revoked = {one: done for one, done in self._delivered.items() if one in gone}
        with self._marks_lock:
            for partition in gone:
                for kept_of in (self._delivered, self._handed_out, self._ends, self._marks):
                    kept_of.pop(partition, None)

    def _next_fetched(self) -> Frame | None:
        while self._fetched:
            record = self._fetched.popleft()
            partition = _at(record.topic, record.partition)
            self._delivered[partition] = record.offset + 1
            try:
                stream_id = _stream_of(record)
                if self._config.streams and stream_id not in self._config.streams:
                    continue
                self._handed_out[partition] = record.offset + 1
                return _to_frame(record, stream_id, self._config.max_pixels)
            except (ValueError, OverflowError) as error:
                self._handed_out[partition] = record.offset + 1
                raise BadFrameError(
                    record.key.decode("utf-8", "replace") if record.key else self._stream_id,
                    str(error),
                    position={
                        "topic": record.topic,
                        "partition": record.partition,
                        "offset": record.offset,
                    },
                    accepted="a JPEG, a PNG, or raw RGB with width and height, keyed by stream",
                    resume_position=_position_behind(record),
                    payload=record.value or b"",
                    headers=tuple(record.headers or ()),
                ) from error
        return None

    def _fetch(self) -> None:
        try:
            batches = self._consumer.poll(timeout_ms=_POLL_MS)
        except Exception as error:
            raise self._translate(error) from error
        for records in batches.values():
            self._fetched.extend(records)
        # What came with the records, not what a broker answers when asked for the end: that was
        # seen to be too low by all but one record of the last batch.
        for partition in self._consumer.assignment():
            end = self._consumer.highwater(partition)
            if end is not None:
                self._ends.setdefault(partition, end)

    def _commit_marks(self) -> None:
        """Commit what has been marked as done and not been committed yet; holds the lock."""
        if not self._marks or self._consumer is None or time.monotonic() < self._next_commit_s:
            return
        owned = self._consumer.assignment()
        with self._marks_lock:
            marks = {one: offset for one, offset in self._marks.items() if one in owned}
            self._marks.clear()
            self._marks.update(marks)
        offsets = {
            partition: OffsetAndMetadata(self._behind_unwanted(partition, mark), "", -1)
            for partition, mark in marks.items()
        }
        try:
            if offsets:
                self._consumer.commit(offsets, timeout_ms=round(_COMMIT_S * 1000))
        except (CommitFailedError, RebalanceInProgressError) as error:
            extra = {"stream": self._stream_id}
            _log.warning("commit left to the new owner: %s", error, extra=extra)
        except KafkaError as error:
            self._next_commit_s = time.monotonic() + _COMMIT_AGAIN_S
            extra = {"stream": self._stream_id}
            _log.warning("commit is tried again: %s", error, extra=extra)
            return
        with self._marks_lock:
            for partition, mark in marks.items():
                if self._marks.get(partition) == mark:
                    del self._marks[partition]

    def _behind_unwanted(self, partition: _Partition, mark: int) -> int:
        """Return a mark, moved behind the records of other streams that follow it."""
        is_last = mark >= self._handed_out.get(partition, mark + 1)
        return max(mark, self._delivered.get(partition, mark)) if is_last else mark

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


def _position_behind(record: Any) -> Position:  # noqa: ANN401 - kafka-python is untyped
    return {f"{record.topic}/{record.partition}": record.offset + 1}


def _stream_of(record: Any) -> str:  # noqa: ANN401 - as above
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
        captured_at = _EPOCH + timedelta(milliseconds=timestamp_ms)
    is_append_time = record.timestamp_type == 1 or not has_time
    stream_epoch = int(headers.get("stream_epoch", 0))
    frame_seq = int(headers.get("frame_seq", record.offset))
    pts_us = int(headers.get("pts_us", (captured_at - _EPOCH) // timedelta(microseconds=1)))
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
        position=_position_behind(record),
        origin=KafkaOrigin(topic=record.topic, partition=record.partition, offset=record.offset),
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
