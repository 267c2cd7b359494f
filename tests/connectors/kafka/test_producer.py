"""How producers compress, and when one that cannot reach its brokers any more is replaced."""

import socket
from contextlib import closing

import pytest
from kafka.record import MemoryRecordsBuilder

from connectors.kafka.producer import ProducerLink
from tests.connectors.kafka.helpers import sink_config
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
