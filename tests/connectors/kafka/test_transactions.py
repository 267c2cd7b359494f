"""Records and positions arrive together, once, whatever happens to the transaction."""

import signal
import threading
import time
from functools import partial

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from connectors.base import Advance
from connectors.errors import FencedError, SinkUnreachableError
from connectors.kafka.config import KafkaSinkConfig
from connectors.kafka.sink import KafkaSink
from connectors.kafka.transactions import TransactionalKafkaSink, build_kafka_sink
from tests.connectors.kafka import helpers
from tests.connectors.kafka.helpers import (
    PNG,
    kafka_source,
    numbers,
    produce,
    sink_config,
    wait_until,
    write_until_taken,
)
from tests.servers import transaction_broker

# This broker deletes what is older than a week.
event = partial(helpers.event, timestamp_ms=round(time.time() * 1000))


def events(*numbers):
    return [event(number) for number in numbers]


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """The address of a broker with transactions, and its process."""
    with transaction_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def bootstrap(broker):
    return broker[0]


def make_sink(bootstrap, topic, *, topics=None, timeout_s=60.0, **options):
    transactions = {"id": topic, "timeout_s": timeout_s}
    config = sink_config(
        bootstrap, topic, topics, delivery="exactly_once", transactions=transactions, **options
    )
    sink = build_kafka_sink(config=config)
    sink.open()
    return sink


@pytest.fixture
def reader(bootstrap, topic):
    """A source of four frames that has read them all, and commits nothing itself."""
    for _ in range(4):
        produce(bootstrap, f"{topic}.frames", value=PNG)
    source = kafka_source(bootstrap, f"{topic}.frames", group_id=topic, group_instance_id="reader")
    source.leave_offsets()
    with source:
        for _ in range(4):
            source.read()
        yield source


def advance(topic, reader, first, last=None):
    """Positions behind frames, counted from 0."""
    place = f"{topic}.frames/0"
    return Advance(
        group=topic,
        membership=reader.membership,
        first={place: first + 1},
        last={place: (first if last is None else last) + 1},
    )


def position_of(bootstrap, group):
    """Return where a group is, and the pointer there."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    found = admin.list_group_offsets({group: None})[group].values()
    admin.close()
    return [(one.offset, one.metadata) for one in found]


def committed(bootstrap, topic):
    """Return the numbers of all events that a reader of what is committed sees."""
    options = {"auto_offset_reset": "earliest", "consumer_timeout_ms": 500}
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, isolation_level="read_committed", **options
    )
    records = list(consumer)
    consumer.close()
    return numbers(records)


@pytest.fixture
def sink(bootstrap, topic):
    with make_sink(bootstrap, topic) as sink:
        assert sink.recover([topic]) == frozenset()
        yield sink


def test_configuration_decides_how_a_sink_delivers(topic):
    once = sink_config("h:1", topic, delivery="exactly_once", transactions={"id": "w"})
    assert type(build_kafka_sink(config=once)) is TransactionalKafkaSink
    assert not build_kafka_sink(config=once).needs_log
    assert type(build_kafka_sink(config=sink_config("h:1", topic))) is KafkaSink


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"acks": "leader"}, "acks: all"),
        ({"options": {"transactional_id": "w"}}, "'transactions.id'"),
        ({"options": {"transaction_timeout_ms": 1}}, "'transactions.timeout_s'"),
    ],
)
def test_what_breaks_the_promise_is_refused(fields, text):
    with pytest.raises(ValueError, match=text):
        KafkaSinkConfig(bootstrap="h:1", delivery="exactly_once", **fields)


def test_records_and_positions_arrive_together_with_their_pointer(bootstrap, topic, sink, reader):
    assert list(sink.commit(events(0, 1), [advance(topic, reader, 0, 1)], "w#1")) == []
    assert position_of(bootstrap, topic) == [(2, "w#1")]
    sink.commit(events(2), [advance(topic, reader, 2)], "w#2")
    assert position_of(bootstrap, topic) == [(3, "w#2")]
    sink.write(events(3))
    assert position_of(bootstrap, topic) == [(3, "w#2")]
    assert committed(bootstrap, topic) == [0, 1, 2, 3]


def test_positions_move_without_records(bootstrap, topic, sink, reader):
    sink.commit([], [advance(topic, reader, 0)], "w#1")
    assert position_of(bootstrap, topic) == [(1, "w#1")]


def test_next_writer_shuts_out_the_one_before_and_learns_its_pointer(
    bootstrap, topic, sink, reader
):
    sink.commit(events(0), [advance(topic, reader, 0)], "w#1")
    with make_sink(bootstrap, topic) as other:
        assert other.recover([topic]) == {"w#1"}
        with pytest.raises(FencedError, match="another producer has begun"):
            sink.commit(events(1), [advance(topic, reader, 1)], "w#2")
        other.commit(events(2), [advance(topic, reader, 1)], "w#3")
    assert committed(bootstrap, topic) == [0, 2]


def test_reader_that_has_lost_its_partition_moves_no_position(bootstrap, topic, sink):
    lost = Advance(group=topic, membership=lambda _: None, first={"f/0": 1}, last={"f/0": 1})
    with pytest.raises(FencedError, match=f"another member of group '{topic}' reads f/0"):
        sink.commit(events(0), [lost], "w#1")
    assert committed(bootstrap, topic) == []


def test_position_that_another_worker_has_moved_is_not_moved_again(bootstrap, topic, sink, reader):
    sink.commit(events(0), [advance(topic, reader, 0)], "w#1")
    with make_sink(bootstrap, f"{topic}.other", topics={"names": {"events": topic}}) as other:
        other.recover([topic])
        with pytest.raises(FencedError, match=r"is at 1 of .*; another worker has read it"):
            other.commit(events(1), [advance(topic, reader, 0)], "v#1")
    assert committed(bootstrap, topic) == [0]
    assert position_of(bootstrap, topic) == [(1, "w#1")]


def test_transaction_that_takes_too_long_is_begun_again(bootstrap, topic, reader):
    """What a broker does then is what a producer of the same id does; kafka-python tells nobody."""
    late, moved = [], advance(topic, reader, 0)

    def membership(names):
        if not late:
            late.append(threading.Event().wait(1.1))
            usurper = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=topic)
            usurper.init_transactions()
            usurper.close()
        return moved.membership(names)

    slow = Advance(group=topic, membership=membership, first=moved.first, last=moved.last)
    with make_sink(bootstrap, topic, timeout_s=1.0) as sink:
        sink.recover([topic])
        write_until_taken(sink.commit, events(0), [slow], "w#1")
    assert late == [False]
    assert committed(bootstrap, topic) == [0]
    assert position_of(bootstrap, topic) == [(1, "w#1")]


def test_commit_whose_topic_is_gone_meanwhile_is_made_by_another_producer(bootstrap, topic, reader):
    goes_on, late, moved = threading.Event(), [], advance(topic, reader, 0)

    def membership(names):
        if not late:
            late.append(names)
            sink._link.topics |= {f"{topic}.deleted"}
            goes_on.wait(30)
        return moved.membership(names)

    slow = Advance(group=topic, membership=membership, first=moved.first, last=moved.last)
    with make_sink(bootstrap, topic, delivery_timeout_s=1) as sink:
        write_until_taken(sink.recover, [topic])
        write_until_taken(sink.commit, events(0), [slow], "w#1")
        goes_on.set()
    assert committed(bootstrap, topic) == [0]
    assert position_of(bootstrap, topic) == [(1, "w#1")]


def test_commit_that_is_known_from_its_pointer_is_not_made_again(bootstrap, topic, sink, reader):
    moved = [advance(topic, reader, 0)]
    sink.commit(events(0), moved, "w#1")
    with make_sink(bootstrap, topic) as other:
        other.recover([topic])
        assert list(other.commit(events(0), moved, "w#1")) == []
    assert committed(bootstrap, topic) == [0]


@pytest.mark.parametrize("stopped_s", [0.3, 1.5])
def test_broker_that_does_not_answer_gets_each_record_once(broker, topic, reader, stopped_s):
    bootstrap, process = broker
    with make_sink(bootstrap, topic, delivery_timeout_s=0.5, connect_timeout_s=1) as sink:
        write_until_taken(sink.recover, [topic])
        write_until_taken(sink.commit, events(0), [advance(topic, reader, 0)], "w#1")
        process.send_signal(signal.SIGSTOP)
        timer = threading.Timer(stopped_s, process.send_signal, [signal.SIGCONT])
        timer.start()
        write_until_taken(sink.commit, events(1, 2), [advance(topic, reader, 1, 2)], "w#2")
        timer.join()
        write_until_taken(sink.commit, events(3), [advance(topic, reader, 3)], "w#3")
    assert committed(bootstrap, topic) == [0, 1, 2, 3]
    assert position_of(bootstrap, topic) == [(4, "w#3")]


def test_record_too_large_is_sent_smaller_in_its_place(bootstrap, topic, reader):
    large = event(1, value=b'{"number": 1}' + b" " * 3_000_000)
    with make_sink(bootstrap, topic, compression="none") as sink:
        sink.recover([topic])
        sink.shrink = lambda record: event(1) if record == large else None
        assert not sink.commit([event(0), large, event(2)], [advance(topic, reader, 0)], "w#1")
        sink.shrink = lambda record: None
        [refused] = sink.commit([large, event(3)], [advance(topic, reader, 1)], "w#2")
    assert refused.record == large
    assert committed(bootstrap, topic) == [0, 1, 2, 3]
    assert position_of(bootstrap, topic) == [(2, "w#2")]


def test_interrupted_commit_ends_at_once_and_leaves_nothing(broker, topic, reader):
    bootstrap, process = broker
    sink = make_sink(bootstrap, topic, delivery_timeout_s=60)
    sink.recover([topic])
    process.send_signal(signal.SIGSTOP)
    try:
        threading.Timer(0.2, sink.interrupt).start()
        with pytest.raises(Exception, match="interrupted"):
            sink.commit(events(0), [advance(topic, reader, 0)], "w#1")
        sink.close()
    finally:
        process.send_signal(signal.SIGCONT)
    with make_sink(bootstrap, topic) as other:
        other.recover([topic])
    assert committed(bootstrap, topic) == []


def test_reader_that_is_not_connected_is_waited_for(bootstrap, topic, sink, reader):
    unopened = kafka_source(bootstrap, f"{topic}.frames", group_id=topic)
    with pytest.raises(SinkUnreachableError, match="not connected"):
        sink.commit(events(0), [advance(topic, unopened, 0)], "w#1")
    sink.commit(events(0), [advance(topic, reader, 0)], "w#1")
    assert committed(bootstrap, topic) == [0]


def test_source_that_leaves_offsets_commits_nothing(bootstrap, topic, reader):
    reader.commit({f"{topic}.frames/0": 4})
    reader.close()
    assert position_of(bootstrap, topic) == []
    assert reader.position() == {f"{topic}.frames/0": 4}


def test_source_that_leaves_offsets_reads_only_what_is_committed(bootstrap, topic):
    frames = f"{topic}.frames"
    produce(bootstrap, frames, value=PNG)
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topic}.camera")
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(frames, key=b"gate", value=PNG)
    producer.flush()
    producer.abort_transaction()
    producer.close()
    produce(bootstrap, frames, value=PNG)
    source = kafka_source(bootstrap, frames, group_id=topic, until_end=False)
    source.leave_offsets()
    with source:
        assert [source.read().frame_seq for _ in range(2)] == [0, 3]
        wait_until(lambda: source.position() == {f"{frames}/0": 4})
