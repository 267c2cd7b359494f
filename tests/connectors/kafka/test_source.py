"""What of a topic counts as done, and who says so."""

import threading
import time
from contextlib import contextmanager

import pytest
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.admin import NewTopic
from kafka.errors import KafkaTimeoutError
from kafka.structs import TopicPartition

from connectors.errors import BadFrameError, SourceError
from connectors.frame import KafkaOrigin
from tests.connectors.kafka.test_kafka import PNG, kafka_source, produce, publish
from tests.media import make_frame


def committed(bootstrap, topic, *, partition=0):
    options = {"group_id": topic, "enable_auto_commit": False}
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, **options)
    try:
        return consumer.committed(TopicPartition(topic, partition))
    finally:
        consumer.close()


def wait_until(is_so, timeout_s=20.0):
    ends_s = time.monotonic() + timeout_s
    pace = threading.Event()
    while not is_so():
        assert not pace.wait(0.05)
        assert time.monotonic() < ends_s, "not in time"


@contextmanager
def reading(source):
    """Read on a thread of its own, into a list, until the source is interrupted."""
    frames = []
    reader = threading.Thread(target=lambda: frames.extend(iter(source.read, None)), daemon=True)
    reader.start()
    yield frames
    source.interrupt()
    reader.join(10)
    assert not reader.is_alive()


def test_mark_is_committed_while_a_read_waits_on_an_idle_topic(kafka_bootstrap, topic):
    for _ in range(3):
        produce(kafka_bootstrap, topic, partition=0, value=PNG)
    with (
        kafka_source(kafka_bootstrap, topic, until_end=False) as source,
        reading(source) as frames,
    ):
        wait_until(lambda: len(frames) == 3)
        source.commit(frames[1].position)
        wait_until(lambda: committed(kafka_bootstrap, topic) == 2)


def test_mark_passes_a_record_that_is_no_frame(kafka_bootstrap, topic):
    produce(kafka_bootstrap, topic, partition=0, value=PNG)
    produce(kafka_bootstrap, topic, partition=0, value=b"hello")
    with kafka_source(kafka_bootstrap, topic) as source:
        source.read()
        with pytest.raises(BadFrameError) as caught:
            source.read()
        source.commit(caught.value.resume_position)
    assert caught.value.continues
    assert committed(kafka_bootstrap, topic) == 2


@pytest.mark.parametrize(("num_done", "offset"), [(1, 1), (2, 4)])
def test_mark_of_the_last_frame_passes_the_records_of_other_streams_behind_it(
    kafka_bootstrap, topic, num_done, offset
):
    for key in (b"gate", b"gate", b"barn", b"barn"):
        produce(kafka_bootstrap, topic, value=PNG, key=key, partition=0)
    with kafka_source(kafka_bootstrap, topic, streams=("gate",)) as source:
        frames = list(iter(source.read, None))
        source.commit(frames[num_done - 1].position)
    assert committed(kafka_bootstrap, topic) == offset


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


def test_partitions_that_moved_to_another_member_are_forgotten(kafka_bootstrap, topic):
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    admin.create_topics([NewTopic(topic, 2, 1)])
    admin.close()
    for partition in (0, 1):
        produce(kafka_bootstrap, topic, partition=partition, value=PNG)
    both = {f"{topic}/0", f"{topic}/1"}
    options = {"until_end": False, "session_timeout_s": 2}
    with kafka_source(kafka_bootstrap, topic, **options) as first, reading(first) as frames:
        wait_until(lambda: len(frames) == 2)
        marks = first.position()
        assert set(marks) == both
        with kafka_source(kafka_bootstrap, topic, **options) as second, reading(second) as others:
            wait_until(lambda: len(first.position()) == 1 and others)
            (kept,) = first.position()
            (moved,) = both - {kept}
            assert set(others[0].position) == {moved}
            first.commit(marks)
            wait_until(lambda: committed(kafka_bootstrap, topic, partition=int(kept[-1])) == 1)
            assert committed(kafka_bootstrap, topic, partition=int(moved[-1])) is None


def test_commit_that_failed_is_done_by_close_at_the_latest(kafka_bootstrap, topic, monkeypatch):
    def fail(*_, **__):
        raise KafkaTimeoutError

    produce(kafka_bootstrap, topic, value=PNG, partition=0)
    with kafka_source(kafka_bootstrap, topic) as source:
        position = source.read().position
        with monkeypatch.context() as broken:
            broken.setattr(KafkaConsumer, "commit", fail)
            source.commit(position)  # raises nothing: the results are safe, and reading goes on
        assert committed(kafka_bootstrap, topic) is None
    assert committed(kafka_bootstrap, topic) == 1


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("y"), OverflowError("z")])
def test_whatever_the_client_raises_is_one_of_ours(kafka_bootstrap, topic, error, monkeypatch):
    def fail(*_, **__):
        raise error

    produce(kafka_bootstrap, topic, value=PNG)
    with kafka_source(kafka_bootstrap, topic) as source:
        monkeypatch.setattr(KafkaConsumer, "poll", fail)
        with pytest.raises(SourceError, match=type(error).__name__) as caught:
            source.read()
    assert caught.value.recoverable
    assert caught.value.position["topic"] == topic
