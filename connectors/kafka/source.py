"""Encoded frames from Kafka."""

import threading
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, cast

import numpy as np
from kafka import KafkaConsumer
from kafka.consumer import subscription_state
from kafka.errors import KafkaConnectionError, KafkaError
from numpy.typing import NDArray
from typing_extensions import override

from connectors.base import Handover, Source
from connectors.errors import BadFrameError, NotFoundError, Position, SourceError
from connectors.frame import CaptureClock, Frame, KafkaOrigin
from connectors.kafka.client import (
    MAX_RECORD_BYTES,
    build_client,
    client_options,
    require_listener,
    translate_source_error,
)
from connectors.kafka.config import KafkaSourceConfig
from connectors.kafka.poller import Partition, Poller, name_of, partition_of
from connectors.pictures.encoding import decode_image, image_kind

_EPOCH = datetime.fromtimestamp(0, tz=UTC)
_ANY_STREAM = "*"

_CLOSE_S = 1.0
# Those who describe kafka-python's types do not know them yet.
_sticky: Any = import_module("kafka.coordinator.assignors.cooperative_sticky")
_Assignor = _sticky.CooperativeStickyAssignor
_Listener = cast("type[Any]", cast("Any", subscription_state).AsyncConsumerRebalanceListener)
_RAW = b"application/x-maskstream-rgb24"


class KafkaSource(Source):
    """Reads encoded frames, keyed by stream; one source may carry many streams.

    A record's value is a JPEG, a PNG, or raw RGB with the headers ``width`` and ``height``; its
    timestamp is the capture time. The headers ``stream_epoch``, ``frame_seq`` and ``pts_us`` are
    optional; a missing ``frame_seq`` is the record's offset, so that it is the same when a record
    is delivered again. A record without a key is a frame of the stream that its header
    ``stream_id`` names, else of the source's, unless that stands for any stream.

    A thread of its own fetches ahead, 16 MiB at most, and keeps the group's membership however
    long a reader takes. No broker at all for ``connect_timeout_s`` is an error that may pass:
    kafka-python itself would go on silently, and never finds a cluster that has moved.

    Guarantee: at least once: what was given to ``commit``, once its results are safe, is committed
        within 200 ms, before a partition goes to another member, and by ``close`` at the latest,
        if the broker answers. Records of other streams are committed with the frames before them.
        Before a partition goes to another member ``on_handover`` is told, and what was read of it
        has 10 s to be committed.
        A record that is no frame is a ``BadFrameError`` with its bytes and the offset behind it;
        the next read goes on there.
        After ``leave_offsets`` it commits nothing, and reads only what others have committed.
    Ordering: that of the partition, so of each stream.
    Parallelism: the partitions, shared among the consumer group; a rebalance moves as few as it
        can. ``close`` may come from another thread.
    """

    def __init__(
        self, *, stream_id: str, config: KafkaSourceConfig, position: Position | None = None
    ) -> None:
        self._stream_id = stream_id
        self._config = config
        self._start = {partition_of(name): int(value) for name, value in (position or {}).items()}
        self.on_handover: Callable[[Handover], None] = _let_go
        self._commits = True
        self._poller: Poller | None = None
        self._is_closing = threading.Event()
        self._lock = threading.Lock()

    @override
    def open(self) -> None:
        with self._lock:
            if self._is_closing.is_set():
                return
            try:
                require_listener(self._config)
                consumer, network = build_client(KafkaConsumer, self._options())
            except Exception as error:
                raise self._translate(error) from error
            try:
                self._subscribe(consumer, network)
            except SourceError:
                consumer.close(autocommit=False, timeout_ms=round(_CLOSE_S * 1000))
                raise
            except Exception as error:
                consumer.close(autocommit=False, timeout_ms=round(_CLOSE_S * 1000))
                raise self._translate(error) from error

    @override
    def read(self) -> Frame | None:
        poller = self._poller
        if poller is None:
            return None
        try:
            record = poller.take()
        except Exception as error:
            raise self._translate(error) from error
        return None if record is None else self._to_frame(record)

    def commit(self, position: Position) -> None:
        """Mark everything before ``position`` as done; from any thread, and without waiting.

        Marks that come before ``open`` has returned are to be given again.
        What the broker does not take is tried again until it does. Partitions that have moved to
        another member meanwhile are left to it: it reads again what was not committed.
        """
        poller = self._poller
        if poller is not None:
            poller.mark({partition_of(name): int(offset) for name, offset in position.items()})

    def leave_offsets(self) -> None:
        """Commit nothing: positions are moved by transactions. Called before ``open``."""
        self._commits = False

    def membership(self, names: Collection[str]) -> object | None:
        """Return by what the broker knows the reader of partitions; ``None``: another reads them.

        Any thread may ask.

        Raises:
            SourceError: It is not in its group yet.
        """
        poller = self._poller
        try:
            if poller is None:
                raise KafkaConnectionError("the reader is not connected")
            return poller.membership([partition_of(one) for one in names])
        except KafkaError as error:
            raise self._translate(error) from error

    def holds(self, position: Position) -> bool:
        """Whether a frame that bears ``position`` is still this reader's, not another member's."""
        poller = self._poller
        if poller is None:
            return False
        return poller.holds({partition_of(name): int(at) for name, at in position.items()})

    @override
    def position(self) -> dict[str, int | float | str]:
        offsets = self._start if self._poller is None else self._poller.position()
        return {name_of(one): offset for one, offset in sorted(offsets.items())}

    @override
    def interrupt(self) -> None:
        self._is_closing.set()
        if self._poller is not None:
            self._poller.interrupt()

    @override
    def close(self) -> None:
        self.interrupt()
        with self._lock:
            if self._poller is not None:
                self._poller.close(_CLOSE_S)

    def _options(self) -> dict[str, Any]:
        config = self._config
        options: dict[str, Any] = {
            "group_id": config.group_id,
            "group_instance_id": config.group_instance_id,
            "partition_assignment_strategy": [_Assignor],
            "enable_auto_commit": False,
            "auto_offset_reset": config.start,
            "allow_auto_create_topics": False,
            "session_timeout_ms": round(config.session_timeout_s * 1000),
            "heartbeat_interval_ms": round(config.session_timeout_s * 300),
            "max_partition_fetch_bytes": MAX_RECORD_BYTES,
            "fetch_max_bytes": MAX_RECORD_BYTES,
            "max_poll_records": 32,
        }
        if not self._commits:  # nor begin before what another transaction is about to commit
            options["isolation_level"] = "read_committed"
        return {**options, **client_options(config)}

    def _subscribe(self, consumer: Any, network: Any) -> None:  # noqa: ANN401 - of kafka-python
        config = self._config
        if config.topic not in consumer.topics():
            reason = f"no topic {config.topic!r} at {config.bootstrap}"
            accepted = "a topic that exists"
            raise NotFoundError(self._stream_id, reason, accepted=accepted, recoverable=True)
        poller = Poller(
            consumer,
            network,
            self._stream_id,
            patience_s=config.connect_timeout_s,
            is_wanted=self._is_wanted,
            start=self._start,
            until_end=config.until_end,
            on_handover=self.on_handover,
        )
        if not self._commits:
            poller.leave_offsets()
        consumer.subscribe([config.topic], listener=_Rebalance(poller))
        poller.start()
        self._poller = poller

    def _is_wanted(self, record: Any) -> bool:  # noqa: ANN401 - as above
        if not self._config.streams:
            return True
        try:
            return _stream_of(record, self._stream_id) in self._config.streams
        except ValueError:
            return True  # to be told of

    def _to_frame(self, record: Any) -> Frame:  # noqa: ANN401 - as above
        try:
            stream_id = _stream_of(record, self._stream_id)
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
                resume_position=_position_behind(record),
                payload=record.value or b"",
                headers=tuple((name, value or b"") for name, value in record.headers or ()),
            ) from error

    def _translate(self, error: Exception) -> SourceError:
        position = {"topic": self._config.topic, **self.position()}
        bootstrap = self._config.bootstrap
        return translate_source_error(
            error, self._stream_id, position=position, bootstrap=bootstrap
        )


def _let_go(handover: Handover) -> None:
    """Wait for nobody, where nobody wants to be asked."""
    handover.over.set()


class _Rebalance(_Listener):
    """Tells a poller of rebalances; awaited, since a commit may not block kafka-python's thread."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller

    async def on_partitions_revoked(self, revoked: Collection[Partition]) -> None:
        await self._poller.on_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Collection[Partition]) -> None:
        self._poller.on_assigned(assigned)

    async def on_partitions_lost(self, lost: Collection[Partition]) -> None:
        self._poller.on_lost(lost)


def _position_behind(record: Any) -> Position:  # noqa: ANN401 - kafka-python is untyped
    return {name_of((record.topic, record.partition)): record.offset + 1}


def _stream_of(record: Any, stream_id: str) -> str:  # noqa: ANN401 - as above
    """Return the stream of a record in the source of a stream, or of any stream."""
    headers: dict[str, bytes] = dict(record.headers or ())
    key = cast("bytes | None", record.key) or headers.get("stream_id")
    if key:
        return key.decode()
    if stream_id == _ANY_STREAM:
        raise ValueError("neither a key nor a header stream_id, where each record names its stream")
    return stream_id


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
