"""How producers compress, and when one that cannot reach its brokers any more is replaced."""

import os
import signal
import socket
from contextlib import closing

import pytest
from kafka.record import MemoryRecordsBuilder

from connectors.kafka import producer
from connectors.kafka.network import Network
from connectors.kafka.producer import ProducerLink
from tests.connectors.kafka.helpers import event, produce, sink_config
from tests.servers import free_port, kafka_broker


@pytest.mark.parametrize(
    ("is_elsewhere", "has_proxy", "is_stranded"),
    [(True, False, True), (False, False, False), (True, True, False)],
)
def test_producer_is_stranded_if_the_cluster_is_known_to_be_elsewhere(
    is_elsewhere, has_proxy, is_stranded
):
    old, new = free_port(), free_port()
    with kafka_broker(old):  # alone: kafka-python asks one address, by chance
        link = ProducerLink(sink_config(f"127.0.0.1:{old}"))
        assert not link.is_stranded()
    with closing(link), socket.socket() as listener:
        listener.bind(("127.0.0.1", new))
        link._config = sink_config(f"127.0.0.1:{old},127.0.0.1:{new}")
        if is_elsewhere:
            listener.listen()
        if has_proxy:  # behind which brokers may have addresses that mean nothing here
            options = {"socks5_proxy": "socks5://127.0.0.1:1"}
            link._config = link._config.model_copy(update={"options": options})
        assert link.is_stranded() is is_stranded


def test_producer_is_stranded_if_a_topic_of_its_own_is_no_more(kafka_bootstrap, topic):
    with closing(ProducerLink(sink_config(kafka_bootstrap))) as link:
        link.topics |= {topic}
        assert link.is_stranded()


def test_batches_are_compressed_by_the_fastest_level():
    batch = MemoryRecordsBuilder(magic=2, compression_type=1, batch_size=100_000)
    batch.append(timestamp=0, key=None, value=b"outline" * 1000, headers=[])
    batch.close()
    packed = bytes(batch.buffer()).partition(b"\x1f\x8b\x08")[2]
    assert packed[5] == 4  # RFC 1952, XFL: 2 is the best compression, 4 the fastest


def test_producer_asks_now_and_then_for_a_broker_that_is_not_ready(topic, monkeypatch):
    asked = []

    def note(network, node_id, **options):
        asked.append(node_id)
        return Network.maybe_connect(network, node_id, **options)

    monkeypatch.setattr(producer._Network, "maybe_connect", note)
    with kafka_broker() as (address, process):
        config = sink_config(address, delivery_timeout_s=0.2, connect_timeout_s=2)
        with closing(ProducerLink(config)) as link:
            produce(address, topic, value=b"made")
            link.learn([topic])
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)  # or it may still answer
            future = link.send(topic, event(1))
            link.wait(3.0)
            num_asked = len(asked)
            process.send_signal(signal.SIGCONT)
            link.wait(20.0)
            assert future.succeeded()
    assert 0 < num_asked < 100  # without a pause 164,000
