"""Where reading begins when a source goes on from a position."""

import pytest
from kafka import KafkaConsumer
from kafka.errors import KafkaTimeoutError

from connectors.errors import UnreachableError
from connectors.frame import KafkaOrigin
from tests.connectors.kafka.helpers import (
    PNG,
    committed,
    kafka_source,
    produce,
    publish,
    wait_until,
)
from tests.media import make_frame


def test_position_goes_on_behind_the_frame_that_bears_it(kafka_bootstrap, topic):
    publish(kafka_bootstrap, topic, [make_frame(number) for number in range(4)])
    with kafka_source(kafka_bootstrap, topic) as source:
        frames = list(iter(source.read, None))
    with kafka_source(kafka_bootstrap, topic, frames[1].position) as source:
        rest = list(iter(source.read, None))
    assert [frame.position for frame in rest] == [frame.position for frame in frames[2:]]
    (place,) = frames[0].position
    partition = int(place.removeprefix(f"{topic}/"))
    assert [frame.origin for frame in rest] == [
        KafkaOrigin(topic=topic, partition=partition, offset=offset) for offset in (2, 3)
    ]


def test_mark_given_before_the_partition_is_assigned_is_committed_on_an_idle_topic(
    kafka_bootstrap, topic
):
    for _ in range(2):
        produce(kafka_bootstrap, topic, partition=0, value=PNG)
    position = {f"{topic}/0": 2}
    with kafka_source(kafka_bootstrap, topic, position, until_end=False) as source:
        source.commit(position)
        wait_until(lambda: committed(kafka_bootstrap, topic) == 2)


def test_what_another_member_has_committed_meanwhile_is_not_read_again_nor_set_back(
    kafka_bootstrap, topic
):
    for _ in range(4):
        produce(kafka_bootstrap, topic, partition=0, value=PNG)
    with kafka_source(kafka_bootstrap, topic) as source:
        frames = list(iter(source.read, None))
        source.commit(frames[2].position)
    assert committed(kafka_bootstrap, topic) == 3
    position = frames[0].position
    with kafka_source(kafka_bootstrap, topic, position) as source:
        source.commit(position)
        assert [frame.frame_seq for frame in iter(source.read, None)] == [3]
    assert committed(kafka_bootstrap, topic) == 3


def test_broker_that_does_not_say_what_is_committed_is_an_error_that_may_pass(
    kafka_bootstrap, topic, monkeypatch
):
    def fail(*_, **__):
        raise KafkaTimeoutError("away")

    produce(kafka_bootstrap, topic, value=PNG, partition=0)
    monkeypatch.setattr(KafkaConsumer, "committed", fail)
    start = {f"{topic}/0": 1}
    with kafka_source(kafka_bootstrap, topic, start, until_end=False) as source:
        with pytest.raises(UnreachableError, match="away") as caught:
            source.read()
        assert source.position() == start  # where another source goes on
    assert caught.value.recoverable


def test_what_came_before_a_partition_was_set_to_its_offset_is_not_read(
    kafka_bootstrap, topic, monkeypatch
):
    for _ in range(3):
        produce(kafka_bootstrap, topic, value=PNG, partition=0)
    poll, fetched = KafkaConsumer.poll, {}

    def poll_until_there_is_something(consumer, **options):
        while not fetched:
            fetched.update(poll(consumer, **options))
            if fetched:
                return fetched
        return poll(consumer, **options)

    monkeypatch.setattr(KafkaConsumer, "poll", poll_until_there_is_something)
    with kafka_source(kafka_bootstrap, topic, {f"{topic}/0": 1}) as source:
        assert [frame.frame_seq for frame in iter(source.read, None)] == [1, 2]
    assert fetched


def test_given_position_is_where_reading_begins(kafka_bootstrap, topic):
    publish(kafka_bootstrap, topic, [make_frame(number) for number in range(4)])
    with kafka_source(kafka_bootstrap, topic) as source:
        frames = list(iter(source.read, None))
        (partition,) = source.position()
    with kafka_source(kafka_bootstrap, topic, {partition: 3}, group_id=f"{topic}2") as source:
        assert [frame.frame_seq for frame in iter(source.read, None)] == [frames[3].frame_seq]
