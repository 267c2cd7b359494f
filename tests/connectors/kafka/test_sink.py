"""What of a batch is confirmed, refused or sent again, whatever the broker does meanwhile."""

import subprocess
import sys
import threading
import time
from collections import deque

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import TopicAuthorizationFailedError

from connectors.errors import SinkError, SinkUnauthorizedError, SinkUnreachableError
from connectors.kafka.sink import Batch, KafkaSink
from connectors.record import Topic
from tests.connectors.kafka.helpers import (
    consume,
    event,
    events,
    numbers,
    sink_config,
    wait_until,
    write_until_taken,
)
from tests.e2e.runs import read_topic
from tests.servers import free_port, kafka_broker, proxied_kafka_broker, strict_kafka_broker

QUICK = {"delivery_timeout_s": 0.5, "connect_timeout_s": 1}
BARE_CONSUMER = """
import sys
sys.modules.update(dict.fromkeys(["lz4", "lz4.frame", "zstandard", "snappy", "crc32c"]))
from kafka import KafkaConsumer
options = {"auto_offset_reset": "earliest", "consumer_timeout_ms": 10000}
consumer = KafkaConsumer(sys.argv[2], bootstrap_servers=sys.argv[1], **options)
print(next(consumer).value.decode())
"""


def network_threads():
    return [one for one in threading.enumerate() if one.name.startswith(("maskstream-n", "kafka"))]


@pytest.mark.parametrize("compression", ["zstd", "lz4", "gzip", "none"])
def test_records_are_there_when_write_returns_keyed_in_order(kafka_bootstrap, topic, compression):
    with KafkaSink(config=sink_config(kafka_bootstrap, topic, compression=compression)) as sink:
        assert list(sink.write(events(*range(200)))) == []
        records = consume(kafka_bootstrap, topic, 200)
    assert numbers(records) == list(range(200))
    assert {record.key for record in records} == {b"gate"}
    assert records[7].headers == [("ce_id", b"7"), ("content-type", b"application/json")]
    assert records[7].timestamp == event(7).timestamp_ms


def test_client_without_codecs_reads_what_is_written_by_default(kafka_bootstrap, topic):
    with KafkaSink(config=sink_config(kafka_bootstrap, topic)) as sink:
        sink.write([event(7, value=b"deer " * 100)])
    command = [sys.executable, "-c", BARE_CONSUMER, kafka_bootstrap, topic]
    read = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert read.stdout.startswith("deer deer")


def test_batch_larger_than_one_request_arrives_in_order(kafka_bootstrap, topic):
    padding = bytes(100_000)
    records = [event(n, value=b'{"number": %d}' % n + b" " * 100_000) for n in range(20)]
    with KafkaSink(config=sink_config(kafka_bootstrap, topic, compression="none")) as sink:
        assert len(padding) * len(records) > 3 * 512 * 1024
        sink.write(records)
    assert numbers(consume(kafka_bootstrap, topic, 20)) == list(range(20))


def test_record_too_large_for_the_client_is_returned_and_the_others_go_on(kafka_bootstrap, topic):
    options = {"max_request_size": 10_000}
    large = event(1, value=bytes(20_000))
    with KafkaSink(config=sink_config(kafka_bootstrap, topic, options=options)) as sink:
        refused = sink.write([event(0), large, event(2)])
    assert [one.record for one in refused] == [large]
    assert f"topic {topic}, key gate" in refused[0].reason
    assert sink.num_refused == 1
    assert numbers(consume(kafka_bootstrap, topic, 2)) == [0, 2]


def test_topic_that_was_deleted_is_made_anew_and_gets_what_came_later(topic, tmp_path):
    with (
        strict_kafka_broker(tmp_path) as address,  # Tansu confirms writes to topics it has not
        KafkaSink(config=sink_config(address, topic, **QUICK)) as sink,
    ):
        assert write_until_taken(sink.write, events(0, 1)) == []
        admin = KafkaAdminClient(bootstrap_servers=address)
        admin.delete_topics([topic])
        admin.close()
        sink._link._network.cluster.request_update()
        wait_until(lambda: topic not in sink._link._network.cluster.topics())
        assert write_until_taken(sink.write, events(2, 3)) == []
        assert numbers(read_topic(address, topic)) == [2, 3]


@pytest.mark.parametrize("limited_by", ["client", "broker", "earlier refusal"])
def test_record_too_large_goes_in_its_smaller_form_before_those_behind_it(
    topic, tmp_path, limited_by
):
    def shrink(record):
        return event(1) if len(record.value) == 200_000 else None

    large = event(1, value=bytes(200_000))
    with strict_kafka_broker(tmp_path) as address:
        admin = KafkaAdminClient(bootstrap_servers=address)
        admin.create_topics({topic: {"configs": {"max.message.bytes": "100000"}}})
        admin.close()
        options = {"max_request_size": 100_000} if limited_by == "client" else {}
        config = sink_config(address, topic, compression="none", options=options)
        with KafkaSink(config=config) as sink:
            if limited_by == "earlier refusal":
                assert len(sink.write([event(9, value=bytes(199_999))])) == 1
            sink.shrink = shrink
            assert sink.write([event(0), large, event(2), event(3)]) == []
        records = read_topic(address, topic)
    assert numbers(records) == [0, 1, 2, 3]


def test_record_whose_smaller_form_is_too_large_is_returned_as_it_was(kafka_bootstrap, topic):
    large, smaller = event(1, value=bytes(30_000)), event(1, value=bytes(20_000))
    options = {"max_request_size": 10_000}
    with KafkaSink(config=sink_config(kafka_bootstrap, topic, options=options)) as sink:
        sink.shrink = lambda record: smaller if record is large else None
        [refused] = sink.write([event(0), large, event(2)])
    assert refused.record is large
    assert numbers(consume(kafka_bootstrap, topic, 2)) == [0, 2]


@pytest.mark.parametrize("is_known", [False, True])
def test_dead_letter_too_large_goes_without_its_value_in_its_place(
    kafka_bootstrap, topic, is_known
):
    def letter(size):
        return event(size, topic=Topic.DLQ, value=bytes(size), headers=(("ce_id", b"x"),))

    options = {"max_request_size": 10_000}
    config = sink_config(kafka_bootstrap, topics={"names": {"dlq": topic}}, options=options)
    with KafkaSink(config=config) as sink:
        if is_known:
            sink.write([letter(12_000)])
        assert list(sink.write([letter(1), letter(20_000), letter(2)])) == []
        records = consume(kafka_bootstrap, topic, 3 + is_known)[is_known:]
    about = ("maskstream_value_bytes", b"20000")
    assert [(len(one.value), one.headers[1:]) for one in records] == [
        (1, []),
        (0, [about]),
        (2, []),
    ]


@pytest.mark.parametrize("value_bytes", [13, 12_000])
def test_dead_letter_whose_headers_are_too_large_is_returned_and_lowers_no_limit(
    kafka_bootstrap, topic, value_bytes
):
    options = {"max_request_size": 10_000}
    config = sink_config(kafka_bootstrap, topics={"names": {"dlq": topic}}, options=options)
    with KafkaSink(config=config) as sink:
        headers = (("x", bytes(20_000)),)
        large = event(0, topic=Topic.DLQ, value=bytes(value_bytes), headers=headers)
        [refused] = sink.write([large])
        assert sink.write([event(1, topic=Topic.DLQ, value=bytes(9_500))]) == []
        records = consume(kafka_bootstrap, topic, 1)
    assert len(records[0].value) == 9_500
    assert dict(refused.record.headers)["x"] == bytes(20_000)


def test_dead_letter_that_the_broker_refuses_goes_without_its_value(topic, tmp_path):
    with strict_kafka_broker(tmp_path) as address:
        admin = KafkaAdminClient(bootstrap_servers=address)
        admin.create_topics({topic: {"configs": {"max.message.bytes": "100000"}}})
        admin.close()
        names = {"names": {"dlq": topic}}
        config = sink_config(address, topics=names, compression="none")
        with KafkaSink(config=config) as sink:
            batch = [event(size, topic=Topic.DLQ, value=bytes(size)) for size in (1, 200_000, 2)]
            assert list(sink.write(batch)) == []
        records = consume(address, topic, 3)
    assert [len(record.value) for record in records] == [1, 0, 2]


def test_record_refused_by_the_broker_is_returned_alone_and_its_like_is_sent_no_more(
    topic, tmp_path
):
    with strict_kafka_broker(tmp_path) as address:
        admin = KafkaAdminClient(bootstrap_servers=address)
        admin.create_topics({topic: {"configs": {"max.message.bytes": "100000"}}})
        admin.close()
        large = event(1, value=bytes(200_000))  # goes out with its neighbours
        config = sink_config(address, topic, compression="none")
        with KafkaSink(config=config) as sink:
            refused = sink.write([event(0), large, event(2), event(3)])
            assert [one.record for one in refused] == [large]
            [again] = sink.write([event(4), event(5, value=bytes(150_001))])
            assert "after the broker has refused less; at most 150000 are sent" in again.reason
        assert numbers(consume(address, topic, 4)) == [0, 2, 3, 4]


@pytest.mark.parametrize(
    "fields",
    [{"key": "\ud800"}, {"headers": (("\ud800", b""),)}, {"timestamp_ms": 2**63}],
)
def test_record_that_cannot_be_encoded_is_returned_and_the_others_go_on(
    kafka_bootstrap, topic, fields
):
    bad = event(1, **fields)
    with KafkaSink(config=sink_config(kafka_bootstrap, topic)) as sink:
        [refused] = sink.write([event(0), bad, event(2)])
    assert refused.record == bad
    assert numbers(consume(kafka_bootstrap, topic, 2)) == [0, 2]


def test_broker_that_is_not_there_yet_is_no_error_at_open_and_is_met_by_a_later_write():
    port = free_port()
    sink = KafkaSink(config=sink_config(f"127.0.0.1:{port}"))
    sink.open()
    batch = events(0, 1)
    for _ in range(2):
        with pytest.raises(SinkUnreachableError, match="accepted: a Kafka broker at") as caught:
            sink.write(batch)
        assert caught.value.recoverable
    with kafka_broker(port) as (address, _), sink:
        write_until_taken(sink.write, batch)
        assert numbers(consume(address, "events", 2)) == [0, 1]


@pytest.mark.parametrize("how", ["cut", "stall", "lost answers"])
def test_nothing_is_lost_or_doubled_by_a_connection_that_breaks(how):
    with proxied_kafka_broker() as (proxy, _):
        with KafkaSink(config=sink_config(proxy.address, **QUICK)) as sink:
            write_until_taken(sink.write, events(0, 1))
            if how == "cut":
                proxy.cut()
            else:
                proxy.stall(only_answers=how == "lost answers")
            batch = events(2, 3, 4)
            for _ in range(2):
                with pytest.raises(SinkUnreachableError, match="3 records not confirmed"):
                    sink.write(batch)
            if how == "lost answers":  # the broker has them, and the producer cannot know it
                proxy.cut()
            proxy.restore()
            write_until_taken(sink.write, batch)
            write_until_taken(sink.write, events(5))
        assert numbers(read_topic(proxy.address, "events")) == [0, 1, 2, 3, 4, 5]


def test_other_records_may_follow_a_batch_that_was_given_up():
    with proxied_kafka_broker() as (proxy, _):
        with KafkaSink(config=sink_config(proxy.address, **QUICK)) as sink:
            write_until_taken(sink.write, events(0))
            proxy.cut()
            with pytest.raises(SinkUnreachableError):
                sink.write(events(1))
            proxy.restore()
            write_until_taken(sink.write, events(2))
        assert numbers(read_topic(proxy.address, "events")) in ([0, 1, 2], [0, 2])


def test_producer_that_a_restarted_broker_forgot_is_replaced():
    port = free_port()
    sink = KafkaSink(config=sink_config(f"127.0.0.1:{port}", **QUICK))
    with kafka_broker(port):
        sink.open()
        write_until_taken(sink.write, events(0))
    with kafka_broker(port) as (address, _), sink:
        write_until_taken(sink.write, events(1, 2))
        write_until_taken(sink.write, events(3))
        assert numbers(consume(address, "events", 3)) == [1, 2, 3]


def test_cluster_that_moved_to_another_address_is_found_again():
    old, new = free_port(), free_port()
    config = sink_config(f"127.0.0.1:{old},127.0.0.1:{new}", **QUICK)
    sink = KafkaSink(config=config)
    with kafka_broker(old):
        sink.open()
        write_until_taken(sink.write, events(0))
    with kafka_broker(new) as (address, _), sink:
        write_until_taken(sink.write, events(1, 2))
        assert numbers(read_topic(address, "events")) == [1, 2]


def test_error_of_the_broker_that_is_not_the_records_fault_is_typed_and_they_are_sent_later(
    kafka_bootstrap, topic, monkeypatch
):
    def refuse(*_, **__):
        raise TopicAuthorizationFailedError("events")

    batch = events(0, 1)
    with KafkaSink(config=sink_config(kafka_bootstrap, topic)) as sink:
        with monkeypatch.context() as patch:
            patch.setattr(KafkaProducer, "send", refuse)
            with pytest.raises(SinkUnauthorizedError, match=f"topic {topic}, key gate") as caught:
                sink.write(batch)
            assert caught.value.recoverable
        sink.write(batch)
    assert numbers(read_topic(kafka_bootstrap, topic)) == [0, 1]


@pytest.mark.parametrize("is_connected", [True, False])
def test_interrupt_ends_a_write_that_waits(is_connected):
    with proxied_kafka_broker() as (proxy, _):
        with KafkaSink(config=sink_config(proxy.address, connect_timeout_s=5)) as sink:
            if is_connected:
                write_until_taken(sink.write, events(0))
            proxy.stall()
            threading.Timer(0.1, sink.interrupt).start()
            began_s = time.monotonic()
            with pytest.raises(SinkError, match="interrupted") as caught:
                sink.write(events(1))
            assert caught.value.recoverable
        assert time.monotonic() - began_s < 4.0


def test_producers_whose_broker_is_gone_end_at_once_and_leave_no_thread():
    before = len(network_threads())
    with proxied_kafka_broker() as (proxy, _):
        for _ in range(3):
            proxy.restore()
            sink = KafkaSink(config=sink_config(proxy.address, **QUICK))
            sink.open()
            write_until_taken(sink.write, events(0))
            proxy.cut()
            with pytest.raises(SinkUnreachableError):
                sink.write(events(1))
            began_s = time.monotonic()
            sink.close()
            assert time.monotonic() - began_s < 5.0
        wait_until(lambda: len(network_threads()) <= before)


def test_producer_that_a_sink_was_closed_before_it_had_is_ended():
    links = []

    class Sink(KafkaSink):
        def _build_link(self):
            links.append(super()._build_link())  # or its finalizer would end it
            return links[0]

    before = len(network_threads())
    with proxied_kafka_broker() as (proxy, _):
        proxy.stall()
        sink = Sink(config=sink_config(proxy.address, delivery_timeout_s=0.1, connect_timeout_s=30))
        sink.open()
        with pytest.raises(SinkUnreachableError):
            sink.write(events(0))
        sink.close()
        assert not links
        proxy.restore()
        wait_until(lambda: links and len(network_threads()) <= before)


@pytest.mark.parametrize(("num_alone", "then_alone"), [(0, 0), (2, 3)])
def test_records_of_a_transaction_that_is_begun_anew_come_before_those_sent_one_by_one(
    num_alone, then_alone
):
    first, *rest = events(0, 1, 2)
    batch = Batch(
        (first, *rest), deque(rest), num_alone=num_alone, is_transaction=True, settled=[first]
    )
    batch.take_back()
    assert list(batch.waiting) == [first, *rest]
    assert batch.num_alone == then_alone  # the one at fault is still among them


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": {"batsch": 1}}, "n option 'batsch'"),
        ({"ssl_cafile": "/no/ca.pem"}, "no file"),
    ],
)
def test_what_can_never_work_is_said_at_open(options, message):
    with pytest.raises(SinkError, match=message) as caught:
        KafkaSink(config=sink_config("h:1", **options)).open()
    assert not caught.value.recoverable


@pytest.mark.slow
def test_three_thousand_records_a_second_go_through(kafka_bootstrap, topic):
    masks = ", ".join(str(number * 7919 % 401) for number in range(400))
    records = [
        event(n, value=b'{"number": %d, "m": [%b]}' % (n, masks.encode())) for n in range(300)
    ]
    assert len(records[0].value) > 1900
    with KafkaSink(config=sink_config(kafka_bootstrap, topic)) as sink:
        sink.write(records)
        began_s = time.monotonic()
        for _ in range(20):
            sink.write(records)
        assert 20 * len(records) / (time.monotonic() - began_s) > 3000
