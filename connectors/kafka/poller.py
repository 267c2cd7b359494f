"""A Kafka consumer with the thread that polls it, so that the group never waits for a reader."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, cast

from kafka.coordinator.base import MemberState
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    KafkaConnectionError,
    KafkaError,
    RebalanceInProgressError,
)
from kafka.structs import OffsetAndMetadata, TopicPartition

from connectors.base import Handover

_log = logging.getLogger("maskstream.connectors.kafka")

Partition = tuple[str, int]

# Fetched and not read yet; beyond it partitions are paused, and go on below half of it.
_BUFFER_BYTES = 16 * 1024 * 1024
_POLL_MS = 200
_PAUSED_POLL_MS = 20
_COMMIT_EVERY_S = 0.2
# A broker that answers commits in milliseconds; one that is away must not hold up a stop.
_COMMIT_S = 1.0
_COMMIT_AGAIN_S = 5.0
# How long a broker may take to say what is committed; shorter than what a close waits.
_ASK_S = 2.0
_END_S = 3.0
# How long a partition that goes to another member waits for what was read of it. A frame and its
# snapshot take a tenth of a second, a slow model some seconds; heartbeats go on meanwhile.
_HAND_OVER_S = 10.0
_LOOK_S = 0.01


class Poller:
    """Fetches records ahead of their reader, and commits what is done.

    The thread that polls is the only one to use the consumer until it has ended. kafka-python
    tells of rebalances on a further one, its own.

    Args:
        consumer: Of kafka-python, subscribed with the hooks of this poller.
        network: Of the consumer.
        name: The stream's, for the log.
        patience_s: How long there may be no connection to any broker.
        is_wanted: Whether a record is to be read; others are passed over.
        start: Offsets to begin at, unless another member has committed more.
        until_end: Whether reading ends at the records that were there at the start.
        on_handover: Called when partitions go to another member, by a thread that may not wait.
    """

    def __init__(  # noqa: PLR0913 - what it is made of, what it reads, and whom it tells
        self,
        consumer: Any,  # noqa: ANN401 - kafka-python is untyped
        network: Any,  # noqa: ANN401 - as above
        name: str,
        *,
        patience_s: float,
        is_wanted: Callable[[Any], bool],
        start: Mapping[Partition, int],
        until_end: bool,
        on_handover: Callable[[Handover], None],
    ) -> None:
        self._consumer = consumer
        self._network = network
        self._name = name
        self._patience_s = patience_s
        self._connected_s = time.monotonic()
        self._is_wanted = is_wanted
        self._start = dict(start)
        self._until_end = until_end
        self._on_handover = on_handover
        self._commits = True
        self._changed = threading.Condition()
        self._records: deque[Any] = deque()
        self._num_bytes = 0
        self._owned: set[Partition] = set()
        self._leaving: set[Partition] = set()  # still to be committed
        self._delivered: dict[Partition, int] = {}
        self._handed_out: dict[Partition, int] = {}
        self._done: dict[Partition, int] = {}
        self._first: dict[Partition, int] = {}
        self._committed: dict[Partition, int] = {}
        self._ends: dict[Partition, int] = {}
        self._is_paused = False
        self._next_commit_s = 0.0
        self._is_fenced = False  # as the last commit was told
        self._error: Exception | None = None
        self._has_ended = False
        self._is_interrupted = False
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-poll", daemon=True)

    def leave_offsets(self) -> None:
        """Commit nothing; called before ``start``."""
        self._commits = False

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def take(self) -> Any:  # noqa: ANN401 - as above
        """Return the next record that is wanted; waits for it. ``None`` at the end.

        Raises:
            Exception: What kafka-python raised, once all it had fetched is read.
        """
        with self._changed:
            while not self._is_interrupted:
                while self._records:
                    record = self._records.popleft()
                    self._num_bytes -= _size_of(record)
                    partition = partition_at(record.topic, record.partition)
                    if record.offset < self._delivered.get(partition, 0):
                        self._forget_marks(partition)
                    self._delivered[partition] = record.offset + 1
                    self._first.setdefault(partition, record.offset)
                    if self._is_wanted(record):
                        self._handed_out[partition] = record.offset + 1
                        return record
                if self._error is not None:
                    raise self._error
                if self._has_ended:
                    break
                self._changed.wait()
        return None

    def mark(self, offsets: Mapping[Partition, int]) -> None:
        """Note that everything before these offsets is done; those of others are passed over.

        Marks of partitions to begin at an offset are kept until those are assigned.
        """
        with self._changed:
            for partition, offset in offsets.items():
                end = self._start.get(partition, self._delivered.get(partition, 0))
                # What was handed out before a partition went to another member is left to that one.
                first = 0 if partition in self._start else self._first.get(partition, end)
                # Beyond what was read lies what was read before a log began anew.
                if first < offset <= end:
                    self._done[partition] = max(offset, self._done.get(partition, 0))

    def holds(self, offsets: Mapping[Partition, int]) -> bool:
        """Whether all before these offsets was taken since their partitions were assigned last."""
        with self._changed:
            return all(
                partition in self._owned and self._delivered.get(partition, -1) >= offset
                for partition, offset in offsets.items()
            )

    def membership(self, partitions: Collection[Partition]) -> object | None:
        """Return by what the broker knows this member; ``None``: not all partitions are its own.

        Raises:
            RebalanceInProgressError: Some are to be its own, and are not yet.
        """
        with self._changed:
            if not self._start.keys().isdisjoint(partitions):
                raise RebalanceInProgressError("the reader is not back in its group yet")
            is_reader = (self._owned | self._leaving).issuperset(partitions)
        return self._consumer.group_metadata() if is_reader else None

    def position(self) -> dict[Partition, int]:
        """Return the offsets behind what was taken."""
        with self._changed:
            return {**self._start, **self._delivered}

    def interrupt(self) -> None:
        """End a ``take`` that waits; commits go on."""
        with self._changed:
            self._is_interrupted = True
            self._changed.notify_all()

    def close(self, timeout_s: float) -> None:
        """Commit what is done, if the broker answers, and leave the group."""
        self.interrupt()
        self._is_closing.set()
        if self._thread.ident is not None:
            self._thread.join(_END_S)
        if not self._thread.is_alive():
            with suppress(FencedInstanceIdError):  # told by take, unless nobody takes any more
                self._commit()
        self._consumer.close(autocommit=False, timeout_ms=round(timeout_s * 1000))

    def on_assigned(self, partitions: Collection[Partition]) -> None:
        """Begin where the group left off; partitions to begin elsewhere wait for the next poll."""
        with self._changed:
            self._owned.update(set(partitions) - self._start.keys())

    async def on_revoked(self, partitions: Collection[Partition]) -> None:
        """Let what was read of partitions be finished, commit it, then forget them."""
        if self._is_closing.is_set():  # close has committed it, and the position is still asked for
            return
        with self._changed:
            self._leaving = set(partitions)
        self._stop_reading(partitions)
        await self._hand_over(partitions)
        with self._changed:
            offsets = self._list_done(partitions)
        if offsets:
            try:
                # Awaited, so that the next member begins there.
                await self._consumer.commit_async(_with_metadata(offsets))
            except KafkaError as error:
                self._warn("commit before a rebalance failed: %s", error)
        self._forget(partitions)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """Forget partitions that another member has already."""
        if self._is_closing.is_set():
            return
        self._stop_reading(partitions)
        self._forget(partitions)
        handover = _handover_of(partitions)
        handover.over.set()
        self._on_handover(handover)

    async def _hand_over(self, partitions: Collection[Partition]) -> None:
        """Return once nothing of partitions is on its way any more, or the time is over."""
        handover = _handover_of(partitions)
        self._on_handover(handover)
        ends_s = time.monotonic() + _HAND_OVER_S
        while not handover.over.is_set() and not self._is_closing.is_set():
            if time.monotonic() >= ends_s:
                self._warn("frames not finished in time are left to the new owner: %s", partitions)
                break
            await self._network.pause(_LOOK_S)
        handover.over.set()

    def _stop_reading(self, partitions: Collection[Partition]) -> None:
        gone = set(partitions)
        with self._changed:
            self._owned -= gone
            kept = [
                record
                for record in self._records
                if partition_at(record.topic, record.partition) not in gone
            ]
            self._records = deque(kept)
            self._num_bytes = sum(map(_size_of, kept))

    def _forget(self, partitions: Collection[Partition]) -> None:
        with self._changed:
            self._leaving.difference_update(partitions)
            by_partition = (
                self._start,
                self._first,
                self._delivered,
                self._handed_out,
                self._done,
                self._committed,
                self._ends,
            )
            for offsets in by_partition:
                for partition in partitions:
                    offsets.pop(partition, None)

    def _forget_marks(self, partition: Partition) -> None:
        """Begin with a log that has begun anew, on a broker that came back without its data."""
        for offsets in (self._first, self._handed_out, self._done, self._committed):
            offsets.pop(partition, None)

    def _run(self) -> None:
        try:
            while not self._is_closing.is_set():
                self._pause_or_resume()
                timeout_ms = _PAUSED_POLL_MS if self._is_paused else _POLL_MS
                fetched = self._consumer.poll(timeout_ms=timeout_ms)
                moved = self._begin_where_told()
                self._keep({one: records for one, records in fetched.items() if one not in moved})
                self._leave_unassigned()
                self._commit_now_and_then()
                self._check_connection()
        except Exception as error:  # noqa: BLE001 - raised by take
            if isinstance(error, FencedInstanceIdError):
                self.on_lost(self._owned | self._start.keys())
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _begin_where_told(self) -> set[Partition]:
        """Begin assigned partitions at their offset, unless another member has committed more.

        Returns:
            Those that were set to their offset: what was fetched of them before is not for them.
        """
        moved: set[Partition] = set()
        # Not where kafka-python tells of an assignment: its own thread would wait for itself there.
        for partition in self._start.keys() & self._consumer.assignment():
            committed = self._consumer.committed(partition, timeout_ms=round(_ASK_S * 1000)) or 0
            with self._changed:
                start = self._start.pop(partition, None)
                if start is None:  # it went to another member in the meantime
                    continue
                self._owned.add(partition)
                self._committed[partition] = committed
                if committed > start:
                    continue
                self._consumer.seek(partition, start)
                self._delivered[partition] = start
                # What a source before this one has handed out may not be done yet.
                self._handed_out[partition] = start
                self._first[partition] = 0
            moved.add(partition)
        return moved

    def _leave_unassigned(self) -> None:
        """Once in the group, let go of partitions to begin at that went to another member."""
        if not self._start or self._consumer.group_metadata().state is not MemberState.STABLE:
            return
        with self._changed:
            gone = self._start.keys() - self._consumer.assignment()
            for partition in gone:
                del self._start[partition]
        if gone:
            self.on_lost(gone)

    def _pause_or_resume(self) -> None:
        with self._changed:
            is_full = self._num_bytes > _BUFFER_BYTES // (2 if self._is_paused else 1)
        if is_full:  # each time: some may have been assigned meanwhile
            self._consumer.pause(*self._consumer.assignment())
        elif self._is_paused:
            self._consumer.resume(*self._consumer.paused())
        self._is_paused = is_full

    def _keep(self, batches: Mapping[Partition, list[Any]]) -> None:
        # What came with the records, not what a broker answers when asked for the end: that was
        # seen to be too low by all but one record of the last batch.
        ends = {one: self._consumer.highwater(one) for one in self._consumer.assignment()}
        with self._changed:
            for partition, records in batches.items():
                if partition in self._owned:  # else revoked while this was on its way
                    self._records.extend(records)
                    self._num_bytes += sum(map(_size_of, records))
            for partition, end in ends.items():
                if end is not None:
                    self._ends.setdefault(partition, end)
            is_begun = bool(ends) and not self._start
            self._has_ended = self._until_end and is_begun and self._is_at_end(ends)
            self._changed.notify_all()

    def _is_at_end(self, owned: Collection[Partition]) -> bool:
        return all(
            one in self._ends and self._consumer.position(one) >= self._ends[one] for one in owned
        )

    def _check_connection(self) -> None:
        """Raise if no broker has been connected for long."""
        now_s = time.monotonic()
        brokers = self._network.cluster.brokers()
        if any(self._network.connected(broker.node_id) for broker in brokers):
            self._connected_s = now_s
        elif now_s - self._connected_s > self._patience_s:
            raise KafkaConnectionError(f"no broker connected for {self._patience_s} s")

    def _commit_now_and_then(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_commit_s:
            is_done = self._commit()
            self._next_commit_s = now_s + (_COMMIT_EVERY_S if is_done else _COMMIT_AGAIN_S)

    def _commit(self) -> bool:
        """Commit what is done; tell whether the broker has taken it.

        Raises:
            FencedInstanceIdError: Another member has this one's ``group_instance_id``.
        """
        with self._changed:
            offsets = self._list_done(self._owned)
        if not offsets:
            return True
        try:
            self._consumer.commit(_with_metadata(offsets), timeout_ms=round(_COMMIT_S * 1000))
        except (CommitFailedError, RebalanceInProgressError) as error:
            self._warn("commit left to the new owner: %s", error)
        except FencedInstanceIdError:
            # Once it may be this one itself, which has joined anew while the commit was on its way.
            if self._is_fenced:
                raise
            self._is_fenced = True
            return False
        except KafkaError as error:
            self._warn("commit is tried again: %s", error)
            return False
        else:
            self._is_fenced = False
            with self._changed:
                for partition, offset in offsets.items():
                    if partition in self._owned:
                        self._committed[partition] = offset
        return True

    def _list_done(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return how far partitions are done, where that is further than what is committed.

        Records that are passed over count as done with the wanted one before them.
        """
        offsets: dict[Partition, int] = {}
        for partition in partitions if self._commits else ():
            done = self._done.get(partition, 0)
            if partition in self._delivered and done >= self._handed_out.get(partition, 0):
                done = max(done, self._delivered[partition])
            if done > self._committed.get(partition, 0):
                offsets[partition] = done
        return offsets

    def _warn(self, message: str, about: object) -> None:
        _log.warning(message, about, extra={"stream": self._name})


def partition_at(topic: str, number: int) -> Partition:
    """Return kafka-python's named tuple, under a type that the checker knows."""
    return cast("Partition", TopicPartition(topic, number))


def name_of(partition: Partition) -> str:
    """Return what positions call a partition."""
    return f"{partition[0]}/{partition[1]}"


def _handover_of(partitions: Collection[Partition]) -> Handover:
    return Handover(partitions=frozenset(map(name_of, partitions)))


def partition_of(name: str) -> Partition:
    """Return the partition that a position names. Raises ``ValueError`` if it is none of Kafka."""
    topic, _, number = name.rpartition("/")
    if not topic or not number.isdigit():
        raise ValueError(f"bad Kafka position {name!r}; accepted: topic/partition")
    return partition_at(topic, int(number))


def _with_metadata(offsets: Mapping[Partition, int]) -> dict[Partition, Any]:
    return {partition: OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}


def _size_of(record: Any) -> int:  # noqa: ANN401 - as above
    return len(record.value or b"")
