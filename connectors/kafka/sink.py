"""Records to Kafka."""

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError
from typing_extensions import override

from connectors.base import RecordSink, Refused
from connectors.errors import SinkError, SinkUnreachableError
from connectors.kafka.client import (
    MAX_RECORD_BYTES,
    PRODUCER_IS_LOST,
    RECORD_IS_REFUSED,
    client_options,
    require_listener,
    translate_sink_error,
)
from connectors.kafka.config import KafkaSinkConfig
from connectors.record import Record, Topic

_log = logging.getLogger("maskstream.connectors.kafka")

_CLOSE_S = 1.0


@dataclass(slots=True)
class _Pending:
    record: Record
    future: Any = None


class KafkaSink(RecordSink):
    """Writes records to topics, keyed by stream, with their headers and capture time.

    A producer that the broker has forgotten (restarted without its state) or fenced is replaced.
    A record that is refused, such as one too large, is dropped, logged and counted in
    ``num_refused``; the others go on.

    Guarantee: at least once: a record is kept, up to ``max_pending`` of them, until the broker
        has confirmed or refused it, and sent again with a new producer if need be; repeats carry
        the same deterministic id. With ``acks`` all the producer is idempotent, so repeats happen
        only after such a replacement. When ``flush`` returns all are confirmed or refused.
        A ``write`` that raises has taken none of its records.
    Ordering: that of the writes for each key; a repeat repeats a whole tail in order.
    Parallelism: one writer; several sinks may write to one topic.
    """

    def __init__(self, *, config: KafkaSinkConfig) -> None:
        self._config = config
        self._producer: Any = None
        self._pending: deque[_Pending] = deque()
        self._must_resend = False
        self._num_refused = 0
        self.num_rebuilt = 0

    @property
    def num_pending(self) -> int:
        """Records taken and not confirmed yet; at most ``max_pending``."""
        return len(self._pending)

    @property
    @override
    def num_refused(self) -> int:
        return self._num_refused

    @override
    def open(self) -> None:
        if self._producer is None:
            self._producer = self._build_producer()

    @override
    def write(self, records: Sequence[Record]) -> Sequence[Refused]:
        deadline = time.monotonic() + self._config.delivery_timeout_s
        self._reap(deadline=None)
        while self._pending and len(self._pending) + len(records) > self._config.max_pending:
            self._reap(deadline=deadline, keep=max(self._config.max_pending - len(records), 0))
        taken = [_Pending(record) for record in records]
        self._pending.extend(taken)
        if not self._must_resend:  # else they would overtake what is still to be sent again
            self._send(taken)
        return ()

    @override
    def flush(self) -> None:
        deadline = time.monotonic() + self._config.delivery_timeout_s
        self._reap(deadline=deadline)

    @override
    def close(self) -> None:
        try:
            if self._producer is not None:
                self.flush()
        finally:
            self._pending.clear()
            self._drop_producer()

    def topic_of(self, topic: Topic) -> str:
        """Return the Kafka topic's name for a kind of record."""
        kind = topic.value.split(".")[1]
        names = cast("dict[str, str]", self._config.topics)
        return f"{self._config.topic_prefix}{names.get(kind, topic.value)}"

    def _reap(self, *, deadline: float | None, keep: int = 0) -> None:
        """Let go of confirmed records; with a deadline wait until at most ``keep`` are left."""
        if self._must_resend:
            self._resend_all()
        while len(self._pending) > keep:
            head = self._pending[0]
            if not head.future.is_done:
                if deadline is None:
                    return
                self._wait(head, deadline)
            elif head.future.succeeded():
                self._pending.popleft()
            else:
                self._recover(head)

    def _wait(self, head: _Pending, deadline: float) -> None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            reason = f"{len(self._pending)} records not confirmed in time"
            raise SinkUnreachableError(self._name, reason)
        try:
            head.future.get(timeout=min(left_s, 1.0))
        except KafkaError:
            return  # looked at by the caller: done and failed, or still not done

    def _recover(self, head: _Pending) -> None:
        error = head.future.exception
        if isinstance(error, RECORD_IS_REFUSED):
            self._pending.popleft()
            self._num_refused += 1
            size = len(head.record.value)
            _log.error("%s; dropped, %d bytes", self._translate(error, head.record), size)
            return
        self._must_resend = True
        if not isinstance(error, PRODUCER_IS_LOST):
            raise self._translate(error, head.record) from error
        _log.warning("sink %r: %s; building a new producer", self._name, type(error).__name__)
        self._resend_all()

    def _resend_all(self) -> None:
        self._drop_producer()
        self._producer = self._build_producer()
        self.num_rebuilt += 1
        self._must_resend = False
        self._send(list(self._pending))

    def _send(self, batch: Sequence[_Pending]) -> None:
        """Hand records to the producer; what it does not take now is sent at the next call.

        The first that is not taken keeps the error, for when all before it are settled.
        """
        for one in batch:
            record = one.record
            try:
                one.future = self._producer.send(
                    self.topic_of(record.topic),
                    value=record.value,
                    key=record.key.encode(),
                    headers=list(record.headers),
                    timestamp_ms=record.timestamp_ms,
                )
            except RECORD_IS_REFUSED as error:
                one.future = _NotTaken(error)
            except KafkaError as error:
                one.future = _NotTaken(error)
                _log.warning("sink %r: cannot send: %s", self._name, error)
                self._must_resend = True
                return

    def _build_producer(self) -> Any:  # noqa: ANN401 - kafka-python is untyped
        config = self._config
        timeout_ms = round(config.delivery_timeout_s * 1000)
        options: dict[str, Any] = {
            "acks": "all" if config.acks == "all" else 1,
            "enable_idempotence": config.acks == "all",
            "compression_type": None if config.compression == "none" else config.compression,
            "linger_ms": 5,
            "batch_size": 256 * 1024,
            "max_request_size": MAX_RECORD_BYTES,
            "max_block_ms": round(config.connect_timeout_s * 1000),
            "request_timeout_ms": max(min(30_000, timeout_ms - 10), 1),
            "delivery_timeout_ms": timeout_ms,
        }
        try:
            require_listener(config)
            return KafkaProducer(**{**options, **client_options(config)})
        except (KafkaError, OSError) as error:
            raise self._translate(error) from error

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        # Only this ends a producer whose broker is gone: its close waits for the queue otherwise.
        producer._sender.force_close()  # noqa: SLF001
        try:
            producer.close(timeout=_CLOSE_S)
        except KafkaTimeoutError:
            _log.warning("sink %r: a producer ended with records in flight", self._name)

    def _translate(self, error: Exception, record: Record | None = None) -> SinkError:
        position: dict[str, int | float | str] = {}
        if record is not None:
            position = {
                "topic": self.topic_of(record.topic),
                "key": record.key,
                "timestamp_ms": record.timestamp_ms,
            }
        return translate_sink_error(error, self._name, position=position)

    @property
    def _name(self) -> str:
        return f"kafka://{self._config.bootstrap}"


@dataclass(frozen=True, slots=True)
class _NotTaken:
    """Stands for the future of a record that the producer did not even take."""

    exception: KafkaError
    is_done: bool = True

    def succeeded(self) -> bool:
        return False
