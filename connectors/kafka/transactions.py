"""Records and positions of sources to Kafka, in transactions."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, cast

from kafka.errors import InvalidProducerEpochError, KafkaError, ProducerFencedError
from kafka.structs import OffsetAndMetadata
from typing_extensions import override

from connectors.base import Advance, Refused, TransactionSink
from connectors.errors import FencedError, SinkError
from connectors.kafka.aside import Aside
from connectors.kafka.client import build_admin
from connectors.kafka.config import KafkaSinkConfig
from connectors.kafka.poller import partition_of
from connectors.kafka.producer import ProducerLink
from connectors.kafka.sink import LOOK_S, Batch, KafkaSink
from connectors.record import RECORD_TOPICS, Record, Topic

# What a producer hears once another one has begun under its id, but also where the broker has
# given up its transaction: kafka-python makes no difference.
_IS_FENCED = (ProducerFencedError, InvalidProducerEpochError)


class TransactionLink(ProducerLink):
    """A producer that has shut out those of the same id before it.

    Args:
        config: Of the sink.
        groups: Whose positions it will move.

    Raises:
        KafkaError: Nobody answers in time, or the user is turned away.
        OSError: Nobody listens.
    """

    def __init__(self, config: KafkaSinkConfig, groups: Collection[str]) -> None:
        super().__init__(config)
        self._began_s: float | None = None
        self._known: set[tuple[Any, ...]] = set()
        try:
            self._producer.init_transactions()
            # Asked only now: what the producer before had begun to commit is there by now.
            offsets = [_list_offsets(config, group) for group in groups]
        except BaseException:
            self.end()
            raise
        self.pointers = frozenset(one.metadata for group in offsets for one in group.values())

    @property
    def may_be_overdue(self) -> bool:
        """Whether the broker may have given the transaction up for the time it has taken."""
        began_s, limit_s = self._began_s, self._config.transactions.timeout_s
        return began_s is not None and time.monotonic() - began_s >= limit_s

    @override
    def send(self, topic: str, record: Record) -> Any:
        self._begin()
        return super().send(topic, record)

    def complete(self, advances: Sequence[Advance], pointer: str) -> None:
        """Move positions and commit the transaction; waits for brokers, for ever if need be.

        Raises:
            FencedError: Another reader has partitions of these positions, or has moved them.
            KafkaError: What is committed is not known.
        """
        self._begin()
        for advance in advances:
            member = self._membership(advance)
            offsets = {
                partition_of(name): OffsetAndMetadata(int(offset), pointer, -1)
                for name, offset in advance.last.items()
            }
            self._producer.send_offsets_to_transaction(offsets, member)
        self._producer.commit_transaction()
        self._began_s = None

    def _begin(self) -> None:
        if self._began_s is None:
            self._producer.begin_transaction()
            self._began_s = time.monotonic()

    def _membership(self, advance: Advance) -> Any:  # noqa: ANN401 - kafka-python is untyped
        """Return what the broker knows the reader by.

        A member that is new, to this producer, may have lost its partitions and got them back:
        then another reader may have moved the positions that frames on their way were read from.
        """
        name, member = self._name, cast("Any", advance.membership(advance.last.keys()))
        if member is None:
            places = ", ".join(sorted(advance.last))
            raise FencedError(name, f"another member of group {advance.group!r} reads {places}")
        identity = member[:4]  # without the state
        if identity not in self._known:
            offsets = _list_offsets(self._config, advance.group)
            for place, first in advance.first.items():
                found = offsets.get(partition_of(place))
                if found is not None and found.offset >= int(first):
                    reason = f"group {advance.group!r} is at {found.offset} of {place} already"
                    raise FencedError(name, f"{reason}; another worker has read it")
            self._known.add(identity)
        return member

    @property
    def _name(self) -> str:
        return f"kafka://{self._config.bootstrap}"


class TransactionalKafkaSink(TransactionSink, KafkaSink):
    """Writes records as :class:`KafkaSink` does, and with them the positions of their frames.

    A transaction that is not known to be committed is sent again by a new producer, under the same
    id: that ends the one before. The pointer kept with the positions tells whether that one had
    been committed after all.

    Guarantee: exactly once for whoever reads what is committed: of a call to ``commit`` all
        records are there and all positions moved, or none. Also where the process is killed, the
        broker away, or the transaction given up by it.
    Ordering: that of the commits for each key.
    Parallelism: one writer for each ``transactions.id``. A second one shuts out the first, which
        raises a ``FencedError``; so does a member of a group that has lost its partitions.
    """

    def __init__(self, *, config: KafkaSinkConfig, kinds: Sequence[Topic] = RECORD_TOPICS) -> None:
        super().__init__(config=config, kinds=kinds)
        self._groups: frozenset[str] = frozenset()
        self._completing: Aside[None] | None = None

    @override
    def recover(self, groups: Collection[str]) -> Collection[str]:
        self._groups = frozenset(groups)
        batch = self._batch_of((), is_transaction=True)
        link = self._connect(batch, time.monotonic() + self._config.delivery_timeout_s)
        return _as_transactional(link).pointers

    @override
    def commit(
        self, records: Sequence[Record], advances: Sequence[Advance], pointer: str
    ) -> Sequence[Refused]:
        deadline_s = time.monotonic() + self._config.delivery_timeout_s
        batch = self._batch_of(records, is_transaction=True)
        is_committed = False
        while not is_committed:
            link = _as_transactional(self._connect(batch, deadline_s))
            # By an attempt before this one, of which nobody knew what had become of it.
            is_committed = bool(advances) and pointer in link.pointers
            if not is_committed:
                self._carry(batch, deadline_s)
                is_committed = self._link is link and self._complete(
                    link, batch, partial(link.complete, advances, pointer), deadline_s
                )
        self._batch = self._examining = None
        return batch.refused

    @override
    def close(self) -> None:
        if self._completing is not None:
            self._completing.abandon()
        super().close()

    @override
    def _build_link(self) -> ProducerLink:
        return TransactionLink(self._config, self._groups)

    @override
    def _send_some(self, batch: Batch, deadline_s: float) -> None:
        try:
            super()._send_some(batch, deadline_s)
        except SinkError as error:
            if isinstance(error.__cause__, KafkaError):  # else it is still waited for
                self._give_up(batch, error.__cause__)
            raise

    @override
    def _settle(self, batch: Batch) -> None:
        for _, future in batch.sent:
            self._refuse_if_fenced(future.exception)
        super()._settle(batch)

    def _complete(
        self,
        link: TransactionLink,
        batch: Batch,
        complete: Callable[[], None],
        deadline_s: float,
    ) -> bool:
        """Commit what was sent; ``False``: the producer was lost meanwhile."""
        if self._completing is None:
            self._completing = Aside(complete)
        while not self._completing.wait(LOOK_S):
            if not self._is_worth_waiting(link, batch, deadline_s):
                self._completing = None
                return False
        completing, self._completing = self._completing, None
        try:
            completing.result()
        except FencedError:
            self._drop_link(batch)
            raise
        except Exception as error:
            self._give_up(batch, error)
            raise self._translate(error) from error
        return True

    def _give_up(self, batch: Batch, error: Exception) -> None:
        """Leave the transaction to be ended by the next producer, unless there is to be none."""
        self._refuse_if_fenced(error)
        self._drop_link(batch)

    def _refuse_if_fenced(self, error: Exception | None) -> None:
        if error is None or not _is_fencing(error):
            return
        if self._link is not None and _as_transactional(self._link).may_be_overdue:
            return  # given up by the broker, perhaps: the positions say whether by somebody else
        name = self._config.transactions.id
        reason = f"another producer has begun under the id {name!r}; this one writes no more"
        raise FencedError(self.name, reason, accepted="one worker for each transactions.id")


def _as_transactional(link: ProducerLink) -> TransactionLink:
    if not isinstance(link, TransactionLink):
        raise TypeError(f"{type(link).__name__} (accepted: a producer with transactions)")
    return link


def _is_fencing(error: Exception) -> bool:
    # A producer that is fenced already says so in the words of another error.
    return any(isinstance(one, _IS_FENCED) for one in (error, *error.args))


def _list_offsets(config: KafkaSinkConfig, group: str) -> Mapping[Any, Any]:
    """Return what a group has committed, by partition. Waits for brokers."""
    admin = build_admin(config)
    try:
        return admin.list_group_offsets({group: None})[group]
    finally:
        admin.close()


def build_kafka_sink(*, config: KafkaSinkConfig) -> KafkaSink:
    """Return the sink that delivers as configured."""
    kind = TransactionalKafkaSink if config.is_transactional else KafkaSink
    return kind(config=config)
