"""Producers of kafka-python that end when told to, and say why they cannot go on."""

import socket
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import Any, cast

from kafka import KafkaProducer, codec
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.record import default_records
from typing_extensions import override

from connectors.kafka.client import (
    MAX_RECORD_BYTES,
    build_client,
    client_options,
    has_proxy,
    require_listener,
)
from connectors.kafka.config import KafkaSinkConfig
from connectors.kafka.network import TURNED_AWAY, Network
from connectors.record import Record, Topic

# kafka-python compresses at level 9 and has no option for it, so its encoder is replaced, for the
# whole process. Outlines are the worst case of high levels, being runs of few different letters:
# records with five smooth ones of 1080p (3.4 kB), one core, 1,300 a second at level 9 in 0.24 of
# their bytes, 26,000 at level 1 in 0.33.
_gzip_encode = cast("Any", codec).gzip_encode
cast("Any", default_records).gzip_encode = partial(_gzip_encode, compresslevel=1)

# One batch of a partition at a time, so that nothing overtakes a batch that fails. Brokers take
# 1 MiB by default; half of it makes 10,000 records of 2 kB a second over loopback.
BATCH_BYTES = 512 * 1024
# kafka-python keeps a batch, with its sequence number, until this has passed: 24 days. While it
# does, the broker tells a repeat from a new batch; a batch sent by another producer may be twice.
_KEEP_MS = 2**31 - 1
# How long records may wait for others; far longer than a write takes to hand over a batch, which
# then asks for it to be sent.
_LINGER_MS = 1000
_RECONNECT_MS = 5_000
_NOT_READY_MS = 100.0
_END_S = 1.0


class _Network(Network):
    @override
    def maybe_connect(self, node_id: Any, **options: Any) -> None:
        # Once turned away, it raises at every attempt, without making one.
        with suppress(*TURNED_AWAY):
            super().maybe_connect(node_id, **options)

    @override
    def connection_delay(self, node_id: Any) -> float:
        """Return for how many milliseconds a batch need not ask for a broker that is not ready."""
        # kafka-python's sender takes for milliseconds what are seconds, and asks without a pause
        # while a connection is being made: a broker that was stopped for 10 s cost a whole core
        # and held frames up by 0.6 s. Connections that are ready wake it, so no record waits.
        delay_s = cast("float", super().connection_delay(node_id))
        return max(delay_s * 1000, _NOT_READY_MS)


class _Producer(KafkaProducer):
    is_ending = False

    @override
    def flush(self, timeout: float | None = None) -> None:
        # The first thing that close does; it gives up on closing where a broker that is away
        # keeps this from coming to an end.
        if not self.is_ending:
            super().flush(timeout)


class ProducerLink:
    """A producer that has met its cluster.

    Args:
        config: Of the sink.

    Raises:
        KafkaError: Nobody answers in time, or the user is turned away.
        OSError: Nobody listens.
    """

    def __init__(self, config: KafkaSinkConfig) -> None:
        require_listener(config)
        self._config = config
        limit_ms = round(config.connect_timeout_s * 1000)
        build_network = partial(_Network, socket_connection_setup_timeout_max_ms=limit_ms)
        self._producer, self._network = build_client(_Producer, _options_of(config), build_network)
        # Topics are made on purpose or not at all, as their settings say.
        self._network.cluster.config["allow_auto_create_topics"] = False
        self.topics: frozenset[str] = frozenset()

    @property
    def refusal(self) -> Exception | None:
        """Why the broker lets this producer in no more, if it does not."""
        return self._network.refusal

    def learn(self, topics: Collection[str]) -> None:
        """Ask for the partitions of existing topics, so that sending to them waits for nothing."""
        for topic in topics:  # or each would be asked for on its own, 100 ms after the one before
            self._network.cluster.add_topic(topic)
        for topic in topics:
            self._producer.partitions_for(topic)
        self.topics |= frozenset(topics)

    def send(self, topic: str, record: Record) -> Any:  # noqa: ANN401 - kafka-python is untyped
        """Hand over a record; returns its future. Raises what kafka-python raises."""
        try:
            return self._send(topic, record)
        except KafkaTimeoutError:  # nobody tells of its partitions: it is to be looked for anew
            self.topics -= {topic}
            raise

    def _send(self, topic: str, record: Record) -> Any:  # noqa: ANN401 - as above
        partition = record.partition
        if partition is not None:
            partition %= len(self._producer.partitions_for(topic))
        # Compaction keeps empty values and in time forgets keys that have none.
        is_deletion = record.topic is Topic.STATE and not record.value
        return self._producer.send(
            topic,
            value=None if is_deletion else record.value,
            key=record.key.encode(),
            headers=list(record.headers),
            partition=partition,
            timestamp_ms=record.timestamp_ms,
        )

    def wait(self, timeout_s: float) -> None:
        """Send what was handed over and wait until all of it is settled, or the time is over."""
        try:
            self._producer.flush(timeout_s)
        except KafkaError:
            return  # the futures say it

    def is_stranded(self) -> bool:
        """Whether what it knows is no more: a topic was deleted, or the cluster has moved.

        A cluster that has moved can be reached, but by none of the addresses known: kafka-python
        asks the bootstrap addresses once only. Waits for connections.
        """
        if not self.topics <= self._network.cluster.topics():
            return True
        if has_proxy(self._config) or self._can_reach_known():
            return False
        try:
            require_listener(self._config)
        except OSError:
            return False
        # Asked once more: an outage may have ended in between.
        return not self._can_reach_known()

    def _can_reach_known(self) -> bool:
        timeout_s = self._config.connect_timeout_s
        brokers = self._network.cluster.brokers()
        return any(_listens(broker.host, broker.port, timeout_s) for broker in brokers)

    def close(self) -> None:
        """End a producer without unconfirmed records."""
        self._producer.is_ending = True
        self._producer.close(timeout=_END_S)

    def end(self) -> None:
        """End the producer at once, whatever it still holds, and wherever its broker is."""
        self._producer.is_ending = True
        self._producer.close(timeout=0)


def _options_of(config: KafkaSinkConfig) -> dict[str, Any]:
    transactions: dict[str, Any] = {}
    if config.is_transactional:
        transactions["transactional_id"] = config.transactions.id
        transactions["transaction_timeout_ms"] = round(config.transactions.timeout_s * 1000)
    return {
        **transactions,
        "enable_idempotence": config.acks == "all",
        "linger_ms": _LINGER_MS,
        "batch_size": BATCH_BYTES,
        "max_request_size": MAX_RECORD_BYTES,
        "max_block_ms": round(config.connect_timeout_s * 1000),
        "reconnect_backoff_max_ms": _RECONNECT_MS,
        "metrics_enabled": False,
        **client_options(config),
        "acks": "all" if config.acks == "all" else 1,
        "compression_type": None if config.compression == "none" else config.compression,
        "request_timeout_ms": round(config.delivery_timeout_s * 1000),
        "delivery_timeout_ms": _KEEP_MS,
    }


def _listens(host: str, port: int, timeout_s: float) -> bool:
    try:
        with socket.create_connection((host, port), timeout_s):
            return True
    except OSError:
        return False
