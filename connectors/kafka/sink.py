"""Records to Kafka."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

from kafka.errors import KafkaError
from typing_extensions import override

from connectors.base import RecordSink, Refused
from connectors.errors import SinkError, SinkUnreachableError
from connectors.kafka.aside import Aside
from connectors.kafka.client import (
    MAY_PASS,
    PRODUCER_IS_LOST,
    RECORD_IS_REFUSED,
    RECORD_IS_TOO_LARGE,
    translate_sink_error,
)
from connectors.kafka.config import KafkaSinkConfig
from connectors.kafka.limits import SizeLimits
from connectors.kafka.producer import BATCH_BYTES, ProducerLink
from connectors.kafka.topics import Partition, Topics
from connectors.record import RECORD_TOPICS, Record, Topic

_log = logging.getLogger("maskstream.connectors.kafka")

# How soon a write that waits notices an interruption.
LOOK_S = 0.05
# What Kafka adds to a record of its own: lengths, time and offset, each a few bytes.
_OVERHEAD_BYTES = 64


@dataclass(slots=True)
class Batch:
    """Records of one write, until all of them are settled.

    Attributes:
        records: As they were given.
        waiting: Those not sent yet, in order.
        sent: Those given to the producer, with their futures.
        refused: Those at fault.
        num_alone: How many of those that wait are to be sent one by one.
        is_believed: Confirmations without an offset are taken as such.
        origins: What was given, by the smaller record in its place.
        is_transaction: What is confirmed counts only once all is: a new producer sends all again.
        settled: Of a transaction, those that are confirmed.
    """

    records: tuple[Record, ...]
    waiting: deque[Record] = field(default_factory=deque[Record])
    sent: list[tuple[Record, Any]] = field(default_factory=list[tuple[Record, Any]])
    refused: list[Refused] = field(default_factory=list[Refused])
    num_alone: int = 0
    is_believed: bool = False
    origins: dict[Record, Record] = field(default_factory=dict[Record, Record])
    is_transaction: bool = False
    settled: list[Record] = field(default_factory=list[Record])

    @property
    def num_left(self) -> int:
        """How many are not confirmed."""
        return len(self.waiting) + sum(not future.is_done for _, future in self.sent)

    def has_arrived(self, future: Any) -> bool:  # noqa: ANN401 - kafka-python is untyped
        """Whether a record is confirmed, and not only taken for a repeat."""
        return future.succeeded() and (self.is_believed or future.value.offset >= 0)

    def let_go(self) -> None:
        """Keep in mind nothing of what was sent but, of a transaction, that it was."""
        if self.is_transaction:
            self.settled += [record for record, _ in self.sent]
        self.sent.clear()

    def take_back(self) -> None:
        """Let what was sent and is to be sent again wait, before all others."""
        left = [
            record
            for record, future in self.sent
            if self.is_transaction or not self.has_arrived(future)
        ]
        self.sent.clear()
        self.waiting.extendleft(reversed([*self.settled, *left]))
        if self.num_alone:
            self.num_alone += len(self.settled)
        self.settled.clear()

    def replace(self, record: Record, smaller: Sequence[Record]) -> None:
        """Let others wait in the place of a record that waits."""
        place = self.waiting.index(record)
        del self.waiting[place]
        for number, one in enumerate(smaller):
            self.waiting.insert(place + number, one)


class KafkaSink(RecordSink):
    """Writes records to topics, keyed by stream, with their headers and capture time.

    Opening waits for nothing: the broker is met by the first write. A broker that is away is an
    error that may pass; the producer keeps what it has not confirmed, and the next write of the
    same records waits for it. A producer that the broker has forgotten or turned away, or whose
    cluster has moved to other addresses, is replaced. Records that are refused or cannot be
    encoded are returned; the others go on. What is too large goes in its place in a smaller form:
    as ``shrink`` makes it, but a dead letter without its value, whose size is in the header
    ``maskstream_value_bytes``, as nobody writes a letter about a letter.

    Guarantee: at least once: what ``write`` does not return as refused is confirmed by the
        broker. With ``acks`` all the producer is idempotent, so that records arrive twice only
        after its replacement: at most those of one write, with the same deterministic ids.
    Ordering: that of the writes for each key.
    Parallelism: one writer; several sinks may write to one topic.
    """

    needs_log: ClassVar[bool] = True

    def __init__(self, *, config: KafkaSinkConfig, kinds: Sequence[Topic] = RECORD_TOPICS) -> None:
        self._config = config
        self._topics = Topics(config, kinds)
        self._link: ProducerLink | None = None
        self._connecting: Aside[ProducerLink] | None = None
        self._examining: Aside[bool] | None = None
        self._batch: Batch | None = None
        self._limits = SizeLimits()
        self._ends: dict[Partition, int] = {}  # behind the last record known to be kept
        self._interrupted = threading.Event()
        self._num_refused = 0

    @property
    @override
    def num_refused(self) -> int:
        return self._num_refused

    @override
    def open(self) -> None:
        for field_name, reason in self._config.find_faults().items():
            raise SinkError(self.name, f"{field_name}: {reason}")
        self._interrupted.clear()

    @override
    def write(self, records: Sequence[Record]) -> Sequence[Refused]:
        deadline_s = time.monotonic() + self._config.delivery_timeout_s
        batch = self._batch_of(records)
        self._carry(batch, deadline_s)
        self._batch = self._examining = None
        return batch.refused

    @override
    def flush(self) -> None:
        """Return at once: what a write has taken is durable."""

    @override
    def interrupt(self) -> None:
        self._interrupted.set()

    @override
    def close(self) -> None:
        for aside in (self._connecting, self._examining):
            if aside is not None:
                aside.abandon()
        self._connecting = self._examining = None
        if self._link is not None:
            (self._link.close if self._batch is None else self._link.end)()
            self._link = None
        self._batch = None

    def _batch_of(self, records: Sequence[Record], *, is_transaction: bool = False) -> Batch:
        """Return the batch of a write, the one before if it is the same write again."""
        batch = self._batch
        if batch is None or batch.records != tuple(records):
            batch = Batch(tuple(records), deque(records), is_transaction=is_transaction)
            batch.is_believed = is_transaction  # the commit says it
            self._batch = batch
        return batch

    def _carry(self, batch: Batch, deadline_s: float) -> None:
        """Return once all of a batch is confirmed or refused."""
        while batch.waiting or batch.sent:
            if not batch.sent:
                self._send_some(batch, deadline_s)
            self._await(batch, deadline_s)
            self._settle(batch)

    def _send_some(self, batch: Batch, deadline_s: float) -> None:
        """Give the producer as many of the waiting records as go into one batch."""
        link = self._connect(batch, deadline_s)
        num_bytes = 0
        while batch.waiting:
            record = batch.waiting[0]
            num_bytes += _size_of(record)
            if batch.sent and (batch.num_alone or num_bytes > BATCH_BYTES):
                return
            try:
                smaller = self._send(link, batch, record)
            except RECORD_IS_TOO_LARGE as error:
                smaller = self._refuse_size(batch, record, error)
            except KafkaError as error:
                raise self._translate(error, record) from error
            batch.waiting.popleft()
            batch.waiting.extendleft(smaller)

    def _send(self, link: ProducerLink, batch: Batch, record: Record) -> Sequence[Record]:
        """Send a record, or refuse it, or return what is to be sent in its place."""
        size, limit = len(record.value), self._limits.of(record.topic)
        reason = _why_not_encodable(record)
        if reason is not None:
            return self._refuse(batch, record, reason)
        if size > limit:
            reason = f"{size} bytes, after the broker has refused less; at most {limit} are sent"
            return self._shrink_or_refuse(batch, record, reason)
        batch.sent.append((record, link.send(self._topics.name_of(record.topic), record)))
        return ()

    def _await(self, batch: Batch, deadline_s: float) -> None:
        """Return once everything sent is settled, or waits to be sent again."""
        while self._link is not None and not all(future.is_done for _, future in batch.sent):
            if not self._is_worth_waiting(self._link, batch, deadline_s):
                return
            self._link.wait(LOOK_S)

    def _is_worth_waiting(self, link: ProducerLink, batch: Batch, deadline_s: float) -> bool:
        """Whether the producer may still get through; what it has is else to be sent by the next.

        Raises:
            SinkError: The time is over, or the user is turned away.
        """
        refusal = link.refusal
        if refusal is not None:
            self._drop_link(batch)
            raise self._translate(refusal) from refusal
        if self._is_stranded():
            _log.warning("sink %r: its brokers have moved, or lost a topic", self.name)
            self._drop_link(batch)
            return False
        self._check_time(batch, deadline_s)
        return True

    def _settle(self, batch: Batch) -> None:
        """Let go of confirmed records, sort out those at fault, and let all others wait again."""
        confirmed = [future.value for _, future in batch.sent if future.succeeded()]
        batch.is_believed = self._are_kept(confirmed) or batch.is_believed
        failed = [
            (record, future) for record, future in batch.sent if not batch.has_arrived(future)
        ]
        if not failed:
            batch.num_alone = max(batch.num_alone - len(batch.sent), 0)
            batch.let_go()
            return
        is_alone, num_before = len(batch.sent) == 1, len(batch.settled)
        first, error = failed[0][0], failed[0][1].exception
        # kafka-python gives up everything it holds when one record is refused, and after any
        # other error it has lost count of what the broker has.
        self._drop_link(batch)
        if any(future.succeeded() for _, future in failed):
            _log.warning("sink %r: confirmed without an offset; sent again", self.name)
            batch.is_believed = True
        elif any(isinstance(future.exception, RECORD_IS_REFUSED) for _, future in failed):
            batch.num_alone = max(batch.num_alone, num_before + len(failed))
            if is_alone:
                batch.num_alone -= 1
                batch.replace(first, self._refuse_as_told(batch, first, error))
        elif isinstance(error, (*PRODUCER_IS_LOST, MAY_PASS)):
            _log.warning("sink %r: %s; building a new producer", self.name, type(error).__name__)
        else:
            raise self._translate(error, first) from error

    def _are_kept(self, confirmed: Sequence[Any]) -> bool:
        """Whether the topics hold what was confirmed; asks them if an offset is missing.

        A broker that takes a batch for a repeat may not know its offset. One that was killed may
        say so of a batch that it has never kept: then the partition has not grown by it.
        """
        num_unknown = Counter[Partition]()
        for one in confirmed:
            partition = one.topic, one.partition
            if one.offset >= 0:
                self._ends[partition] = max(one.offset + 1, self._ends.get(partition, 0))
            else:
                num_unknown[partition] += 1
        if not num_unknown.keys() <= self._ends.keys():
            return False
        try:
            ends = self._topics.find_ends(num_unknown) if num_unknown else {}
        except KafkaError:
            return False
        # Not by how much: a broker was seen to count the last batch as one record.
        if any(ends[one] <= self._ends[one] for one in num_unknown):
            return False
        for one, num in num_unknown.items():
            self._ends[one] = max(ends[one], self._ends[one] + num)
        return bool(num_unknown)

    def _refuse_as_told(self, batch: Batch, record: Record, error: Exception) -> Sequence[Record]:
        if isinstance(error, RECORD_IS_TOO_LARGE):
            return self._refuse_size(batch, record, error)
        return self._refuse(batch, record, str(self._translate(error, record)))

    def _refuse_size(self, batch: Batch, record: Record, error: Exception) -> Sequence[Record]:
        if len(record.value) > _size_of(record) // 2:  # else its headers are at fault
            self._limits.learn(record.topic, len(record.value))
        return self._shrink_or_refuse(batch, record, str(self._translate(error, record)))

    def _shrink_or_refuse(self, batch: Batch, record: Record, reason: str) -> Sequence[Record]:
        """Return what is to be sent in the place of a record that is too large."""
        is_letter = record.topic is Topic.DLQ
        smaller = _without_value(record) if is_letter else self.shrink(record)
        if smaller is None:
            return self._refuse(batch, record, reason)
        batch.origins[smaller] = batch.origins.get(record, record)
        return (smaller,)

    def _refuse(self, batch: Batch, record: Record, reason: str) -> Sequence[Record]:
        self._num_refused += 1
        batch.refused.append(Refused(record=batch.origins.get(record, record), reason=reason))
        return ()

    def _connect(self, batch: Batch, deadline_s: float) -> ProducerLink:
        """Return a producer that knows the topics of what waits; keeps on trying beyond a call."""
        topics = {self._topics.name_of(record.topic) for record in batch.waiting}
        while self._link is None or not topics <= self._link.topics:
            self._check_time(batch, deadline_s)
            if self._connecting is None:
                call = partial(_connect, self._build_link, self._topics, topics, self._link)
                self._connecting = Aside(call, ProducerLink.end)
            elif self._connecting.wait(LOOK_S):
                connecting, self._connecting = self._connecting, None
                try:
                    self._link = connecting.result()
                except Exception as error:
                    raise self._translate(error) from error
        return self._link

    def _build_link(self) -> ProducerLink:
        """Return a new producer; on a thread of its own."""
        return ProducerLink(self._config)

    def _drop_link(self, batch: Batch) -> None:
        """End the producer; what it has not confirmed waits to be sent by the next."""
        if self._link is not None:
            self._link.end()
            self._link = None
        batch.take_back()

    def _is_stranded(self) -> bool:
        examining = self._examining
        if examining is None or not examining.is_done:
            return False
        self._examining = None
        return examining.result()

    def _check_time(self, batch: Batch, deadline_s: float) -> None:
        if self._interrupted.is_set():
            raise SinkError(self.name, "interrupted while it waited", recoverable=True)
        if time.monotonic() < deadline_s:
            return
        if self._examining is None and self._link is not None:
            self._examining = Aside(self._link.is_stranded)
        reason = f"{batch.num_left} records not confirmed in {self._config.delivery_timeout_s} s"
        raise SinkUnreachableError(self.name, reason, accepted=f"a Kafka broker at {self.name}")

    def _translate(self, error: Exception, record: Record | None = None) -> SinkError:
        if isinstance(error, SinkError):
            return error
        position: dict[str, int | float | str] = {}
        if record is not None:
            position = {
                "topic": self._topics.name_of(record.topic),
                "key": record.key,
                "timestamp_ms": record.timestamp_ms,
            }
        return translate_sink_error(error, self.name, position=position)

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"kafka://{self._config.bootstrap}"


def _connect(
    build: Callable[[], ProducerLink], topics: Topics, required: set[str], link: ProducerLink | None
) -> ProducerLink:
    """Return a producer that knows the required topics, and more if there are more."""
    connected = link or build()
    try:
        connected.learn(topics.ensure(required))
    except BaseException:
        if link is None:
            connected.end()
        raise
    return connected


def _size_of(record: Record) -> int:
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return len(record.value) + len(record.key) + headers + _OVERHEAD_BYTES


def _without_value(letter: Record) -> Record | None:
    if not letter.value:
        return None
    size = ("maskstream_value_bytes", str(len(letter.value)).encode())
    return replace(letter, value=b"", headers=(*letter.headers, size))


def _why_not_encodable(record: Record) -> str | None:
    """Return what Kafka's format has no room for; ``None``: nothing."""
    try:
        for name in (record.key, *(name for name, _ in record.headers)):
            name.encode()
    except UnicodeEncodeError as error:
        return f"a key or header that is no UTF-8: {error.reason}"
    if not -(2**63) <= record.timestamp_ms < 2**63:
        return f"a timestamp of {record.timestamp_ms} ms"
    return None
