"""Values by key in a compacted topic: what is written last is read, by partition."""

import time

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from connectors.errors import SinkUnreachableError, UnreachableError
from connectors.kafka.config import StateTopicConfig
from connectors.kafka.state_topic import StateTopic, ValueRefusedError
from tests.connectors.kafka.helpers import produce
from tests.servers import free_port, strict_kafka_broker


@pytest.fixture
def state(kafka_bootstrap, topic):
    one = StateTopic(config_of(kafka_bootstrap, topic))
    yield one
    one.close()


def config_of(bootstrap, topic="state", **fields):
    return StateTopicConfig(
        bootstrap=bootstrap, topic=topic, topic_setup={"partitions": 3}, **fields
    )


def test_last_values_of_a_partition_come_back_the_newest_last(state):
    state.write("0/gate", b"old", partition=1)
    state.write("0/barn", b"barn", partition=1)
    state.write("1/gate", b"gone", partition=1)
    state.write("0/gate", b"new", partition=1)
    state.write("1/gate", b"", partition=1)
    state.write("0/yard", b"other", partition=2)
    found = state.read(1)
    assert list(found.items()) == [("0/barn", b"barn"), ("0/gate", b"new")]
    assert state.read(0) == {}


def test_partitions_beyond_those_of_the_topic_begin_again(state):
    state.write("0/gate", b"gate", partition=5)
    assert state.read(2) == state.read(8) == {"0/gate": b"gate"}


def test_topic_that_is_not_there_holds_nothing(state):
    assert state.read(0) == {}


@pytest.mark.parametrize("key", [b"\xff\xfe", None])
def test_key_that_is_no_text_is_left_out(state, kafka_bootstrap, topic, key):
    state.write("0/gate", b"gate", partition=0)
    produce(kafka_bootstrap, topic, key=key, value=b"garbage", partition=0)
    produce(kafka_bootstrap, topic, key=b"0/barn", value=b"barn", partition=0)
    found = state.read(0)
    assert found.pop("", b"garbage") == b"garbage"
    assert found == {"0/gate": b"gate", "0/barn": b"barn"}


def test_topic_is_made_compacted_for_large_values_and_too_large_ones_are_refused(tmp_path):
    with strict_kafka_broker(tmp_path) as address:
        state = StateTopic(config_of(address))
        large = bytes(3_000_000)
        state.write("0/gate", large, partition=0)
        assert state.read(0) == {"0/gate": large}
        state.close()
        admin = KafkaAdminClient(bootstrap_servers=address)
        made = str(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "state")]))
        assert "'compact'" in made
        admin.create_topics({"small": {"num_partitions": 1, "replication_factor": 1}})
        admin.close()
        small = StateTopic(config_of(address, "small"))
        with pytest.raises(ValueRefusedError, match="3000000 bytes refused"):
            small.write("0/gate", large, partition=0)
        small.write("0/gate", b"less", partition=0)
        assert small.read(0) == {"0/gate": b"less"}
        small.close()


def test_broker_that_is_away_is_told():
    options = {"delivery_timeout_s": 0.3, "connect_timeout_s": 60}
    state = StateTopic(config_of(f"127.0.0.1:{free_port()}", **options))
    began_s = time.monotonic()
    with pytest.raises(UnreachableError, match="connection refused"):
        state.read(0)
    assert time.monotonic() - began_s < 30  # a refusal is told at once
    with pytest.raises(SinkUnreachableError):
        state.write("0/gate", b"gate", partition=0)
    state.close()
