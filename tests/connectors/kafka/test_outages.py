"""Long outages of a real broker that keeps what it has confirmed: away, stopped and killed."""

import os
import signal
import threading
import time
from contextlib import ExitStack, suppress

import pytest

from connectors.errors import SinkUnreachableError
from connectors.kafka.sink import KafkaSink
from tests.connectors.kafka.helpers import consume, events, numbers, sink_config, write_until_taken
from tests.servers import durable_kafka_broker, free_port, kafka_broker, object_store

pytestmark = pytest.mark.slow


def write_batches(sink, count, stopped):
    """Write batches of ten as the engine does, until all are confirmed."""
    for first in range(0, count, 10):
        write_until_taken(sink.write, events(*range(first, first + 10)), timeout_s=60)
    stopped.set()


def test_killed_broker_has_everything_in_order_when_it_is_back_and_repeats_one_batch_at_most():
    port = free_port()
    with object_store() as store, ExitStack() as brokers:
        brokers.enter_context(durable_kafka_broker(store, port))
        config = sink_config(f"127.0.0.1:{port}", delivery_timeout_s=1, connect_timeout_s=1)
        with KafkaSink(config=config) as sink:
            is_over = threading.Event()
            arguments = (sink, 1200, is_over)
            writer = threading.Thread(target=write_batches, args=arguments, daemon=True)
            writer.start()
            for _ in range(3):
                assert not is_over.wait(0.5)  # some batches later
                brokers.close()
                assert not is_over.wait(1.5)
                brokers.enter_context(durable_kafka_broker(store, port))
            writer.join(60)
            assert is_over.is_set()
        seen = numbers(consume(f"127.0.0.1:{port}", "events", 3000, wait_s=2))
    assert sorted(set(seen)) == list(range(1200))
    first_seen = sorted(set(seen), key=seen.index)
    assert first_seen == list(range(1200))
    assert len(seen) - 1200 <= 3 * 10


def test_stopped_broker_has_everything_once_when_it_goes_on():
    with kafka_broker() as (address, process):
        config = sink_config(address, delivery_timeout_s=1, connect_timeout_s=1)
        with KafkaSink(config=config) as sink:
            write_until_taken(sink.write, events(0))
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)  # or it may still answer
            ends_s = time.monotonic() + 60
            batch = events(1, 2)
            while time.monotonic() < ends_s:
                with suppress(SinkUnreachableError):
                    sink.write(batch)
                    raise AssertionError("confirmed by a stopped broker")
            process.send_signal(signal.SIGCONT)
            began_s = time.monotonic()
            write_until_taken(sink.write, batch)
            assert time.monotonic() - began_s < 5
        assert numbers(consume(address, "events", 4, wait_s=1)) == [0, 1, 2]
