import json
import threading
import time

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError

from connectors.errors import (
    BadFrameError,
    NotFoundError,
    SinkUnauthorizedError,
    SinkUnreachableError,
    UnreachableError,
)
from connectors.frame import CaptureClock
from connectors.kafka.config import FramesSinkConfig, KafkaSinkConfig, KafkaSourceConfig
from connectors.kafka.frames import KafkaFrameSink
from connectors.kafka.sink import KafkaSink
from connectors.kafka.source import KafkaSource
from connectors.pictures.encoding import encode_image
from connectors.record import Record, Topic
from tests.media import make_frame, number_of, numbered_picture
from tests.servers import free_port, kafka_broker

RGB = "application/x-maskstream-rgb24"


def sink_config(bootstrap, topic="events", **options):
    return KafkaSinkConfig(bootstrap=bootstrap, topics={"events": topic}, **options)


def kafka_source(bootstrap, topic, position=None, **options):
    settings = {"group_id": topic, "until_end": True, "session_timeout_s": 6}
    config = KafkaSourceConfig(bootstrap=bootstrap, topic=topic, **{**settings, **options})
    return KafkaSource(stream_id="frames", config=config, position=position)


def publish(bootstrap, topic, frames):
    config = FramesSinkConfig(bootstrap=bootstrap, topic=topic, image="png")
    with KafkaFrameSink(config=config) as sink:
        for frame in frames:
            sink.write(frame)


def produce(bootstrap, topic, **record):
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    producer.send(topic, **{"key": b"gate", **record}).get(10)
    producer.close()


def consume(bootstrap, topic, count):
    options = {"auto_offset_reset": "earliest", "consumer_timeout_ms": 10_000}
    consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap, **options)
    records = [record for _, record in zip(range(count), consumer, strict=False)]
    consumer.close()
    return records


def event(number, **fields):
    value = json.dumps({"number": number}).encode()
    headers = (("ce_id", str(number).encode()), ("content-type", b"application/json"))
    record = {"key": "gate", "value": value, "headers": headers, "timestamp_ms": 1000 + number}
    return Record(topic=Topic.EVENTS, **{**record, **fields})


def numbers(records):
    return [json.loads(record.value)["number"] for record in records]


@pytest.mark.parametrize("compression", ["zstd", "lz4", "gzip", "none"])
def test_records_arrive_keyed_in_order_with_headers_and_times(kafka_bootstrap, topic, compression):
    with KafkaSink(config=sink_config(kafka_bootstrap, topic, compression=compression)) as sink:
        sink.write([event(number) for number in range(200)])
        sink.flush()
        assert sink.num_pending == 0
    records = consume(kafka_bootstrap, topic, 200)
    assert numbers(records) == list(range(200))
    assert {record.key for record in records} == {b"gate"}
    assert records[7].headers == [("ce_id", b"7"), ("content-type", b"application/json")]
    assert records[7].timestamp == 1007


def test_topic_names_take_prefix_and_replacement():
    sink = KafkaSink(config=sink_config("h:1", "alerts", topic_prefix="farm."))
    assert sink.topic_of(Topic.EVENTS) == "farm.alerts"
    assert sink.topic_of(Topic.TRACKS) == "farm.maskstream.tracks.v1"


def test_pending_records_are_bounded(kafka_bootstrap, topic):
    with KafkaSink(config=sink_config(kafka_bootstrap, topic, max_pending=20)) as sink:
        for number in range(0, 200, 10):
            sink.write([event(number + step) for step in range(10)])
            assert sink.num_pending <= 20
    assert numbers(consume(kafka_bootstrap, topic, 200)) == list(range(200))


def test_refused_record_is_dropped_and_named_and_the_others_go_on(kafka_bootstrap, topic, caplog):
    options = {"max_request_size": 10_000}
    with KafkaSink(config=sink_config(kafka_bootstrap, topic, options=options)) as sink:
        sink.write([event(0), event(1, value=bytes(20_000)), event(2)])
        sink.flush()
        assert (sink.num_refused, sink.num_pending) == (1, 0)
    assert f"topic {topic}, key gate" in caplog.text
    assert "20000 bytes" in caplog.text
    assert numbers(consume(kafka_bootstrap, topic, 2)) == [0, 2]


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        (KafkaTimeoutError("no metadata"), SinkUnreachableError),
        (TopicAuthorizationFailedError("events"), SinkUnauthorizedError),
    ],
)
def test_record_that_the_producer_did_not_take_is_a_typed_error_and_is_sent_later(
    kafka_bootstrap, topic, monkeypatch, foreign, ours
):
    def refuse(*_, **__):
        raise foreign

    with KafkaSink(config=sink_config(kafka_bootstrap, topic)) as sink:
        with monkeypatch.context() as patch:
            patch.setattr(KafkaProducer, "send", refuse)
            sink.write([event(0), event(1)])
            for _ in range(2):
                with pytest.raises(ours, match=f"topic {topic}, key gate"):
                    sink.write([event(2)])
        sink.write([event(2)])
        sink.flush()
    assert numbers(consume(kafka_bootstrap, topic, 3)) == [0, 1, 2]


def test_dead_broker_is_unreachable_within_the_connect_timeout():
    config = sink_config(f"127.0.0.1:{free_port()}", connect_timeout_s=1)
    began = time.monotonic()
    with pytest.raises(SinkUnreachableError, match="accepted: a Kafka broker at") as caught:
        KafkaSink(config=config).open()
    with pytest.raises(UnreachableError, match="stream 'frames'"):
        kafka_source(f"127.0.0.1:{free_port()}", "t", connect_timeout_s=1).open()
    assert caught.value.recoverable
    assert time.monotonic() - began < 10


def test_producer_that_a_restarted_broker_forgot_is_replaced_and_loses_nothing():
    port = free_port()
    config = sink_config(f"127.0.0.1:{port}", connect_timeout_s=5, delivery_timeout_s=10)
    sink = KafkaSink(config=config)
    with kafka_broker(port):
        sink.open()
        sink.write([event(0)])
        sink.flush()
    with kafka_broker(port) as (address, _):
        sink.write([event(1), event(2)])
        sink.flush()
        sink.close()
        seen = numbers(consume(address, "events", 2))
    assert seen == [1, 2]
    assert sink.num_rebuilt >= 1


def test_records_written_while_the_broker_is_away_follow_when_it_is_back():
    port = free_port()
    config = sink_config(f"127.0.0.1:{port}", connect_timeout_s=1, delivery_timeout_s=1)
    sink = KafkaSink(config=config)
    with kafka_broker(port):
        sink.open()
    sink.write([event(0), event(1)])
    with pytest.raises(SinkUnreachableError):
        sink.flush()
    assert sink.num_pending == 2
    with kafka_broker(port) as (address, _):
        sink.flush()
        sink.close()
        assert numbers(consume(address, "events", 2)) == [0, 1]


def test_frames_come_back_as_they_were_published(kafka_bootstrap, topic):
    sent = [make_frame(number, stream_id=f"camera{number % 2}", epoch=3) for number in range(20)]
    publish(kafka_bootstrap, topic, sent)
    with kafka_source(kafka_bootstrap, topic) as source:
        frames = list(iter(source.read, None))
    for stream_id in ("camera0", "camera1"):
        got = [frame for frame in frames if frame.stream_id == stream_id]
        want = [frame for frame in sent if frame.stream_id == stream_id]
        assert [number_of(one.pixels) for one in got] == [one.frame_seq for one in want]
        assert [one.captured_at for one in got] == [one.captured_at for one in want]
    assert {frame.capture_clock for frame in frames} == {CaptureClock.KAFKA_TIMESTAMP}
    assert (frames[0].stream_epoch, frames[0].pts_us) == (3, sent[frames[0].frame_seq].pts_us)


def test_committed_frames_are_not_read_again_and_others_are(kafka_bootstrap, topic):
    publish(kafka_bootstrap, topic, [make_frame(number) for number in range(6)])
    with kafka_source(kafka_bootstrap, topic) as source:
        first = [source.read().frame_seq for _ in range(2)]
        done = source.position()
        unsafe = [source.read().frame_seq for _ in range(2)]
        source.commit(done)
    with kafka_source(kafka_bootstrap, topic) as source:
        again = [frame.frame_seq for frame in iter(source.read, None)]
    assert (first, unsafe, again) == ([0, 1], [2, 3], [2, 3, 4, 5])


def test_interrupt_ends_a_read_that_waits_and_leaves_the_commit_possible(kafka_bootstrap, topic):
    publish(kafka_bootstrap, topic, [make_frame(number) for number in range(2)])
    with kafka_source(kafka_bootstrap, topic, until_end=False) as source:
        position = source.read().position or source.position()
        source.read()
        answers = []
        reader = threading.Thread(target=lambda: answers.append(source.read()), daemon=True)
        reader.start()
        source.interrupt()
        reader.join(10)
        assert answers == [None]
        source.commit(position)
    with kafka_source(kafka_bootstrap, topic) as source:
        assert [frame.frame_seq for frame in iter(source.read, None)] == [1]


def test_given_position_is_where_reading_begins(kafka_bootstrap, topic):
    publish(kafka_bootstrap, topic, [make_frame(number) for number in range(4)])
    with kafka_source(kafka_bootstrap, topic) as source:
        frames = list(iter(source.read, None))
        (partition,) = source.position()
    with kafka_source(kafka_bootstrap, topic, {partition: 3}, group_id=f"{topic}2") as source:
        assert [frame.frame_seq for frame in iter(source.read, None)] == [frames[3].frame_seq]


PNG = encode_image(numbered_picture(1), "png")
JPEG = encode_image(numbered_picture(1), "jpeg")
GARBAGE = (
    ({"value": b"\xff\xd8\xff garbage"}, "without a size"),
    ({"value": b"hello"}, "no picture"),
    ({"value": None}, "no picture"),
    ({"value": JPEG[: len(JPEG) // 2]}, "cut off"),
    ({"value": b"x", "headers": [("content-type", RGB.encode())]}, "raw RGB of 0x0"),
    ({"value": PNG, "key": None}, "without a key"),
    ({"value": PNG, "headers": [("pts_us", b"soon")]}, "invalid literal"),
    ({"value": PNG, "headers": [("frame_seq", b"-1")]}, "negative"),
    ({"value": PNG, "headers": [("stream_epoch", b"-1")]}, "negative"),
    ({"value": PNG, "headers": [("frame_seq", b"\xff")]}, "invalid literal"),
)


def test_garbage_is_a_typed_error_with_its_place_and_bytes_and_reading_goes_on(
    kafka_bootstrap, topic
):
    for record, _ in GARBAGE:
        produce(kafka_bootstrap, topic, partition=0, **record)
    produce(kafka_bootstrap, topic, partition=0, value=PNG)
    with kafka_source(kafka_bootstrap, topic) as source:
        for offset, (record, reason) in enumerate(GARBAGE):
            with pytest.raises(BadFrameError, match=reason) as caught:
                source.read()
            assert caught.value.position == {"topic": topic, "partition": 0, "offset": offset}
            assert caught.value.payload == (record["value"] or b"")
        assert number_of(source.read().pixels) == 1


def test_binary_header_that_is_not_ours_does_no_harm(kafka_bootstrap, topic):
    produce(kafka_bootstrap, topic, value=PNG, headers=[("trace", b"\xff\xfe")])
    with kafka_source(kafka_bootstrap, topic) as source:
        assert number_of(source.read().pixels) == 1


def test_raw_pictures_and_stream_filter(kafka_bootstrap, topic):
    pixels = numbered_picture(9, width=16, height=8)
    headers = [("content-type", RGB.encode()), ("width", b"16"), ("height", b"8")]
    for key in (b"gate", b"barn"):
        produce(kafka_bootstrap, topic, value=pixels.tobytes(), headers=headers, key=key)
    with kafka_source(kafka_bootstrap, topic, streams=("gate",)) as source:
        (frame,) = iter(source.read, None)
    assert frame.stream_id == "gate"
    assert (frame.pixels == pixels).all()
    assert frame.frame_seq == 0


def test_missing_topic_is_not_found(kafka_bootstrap, topic):
    with pytest.raises(NotFoundError, match=topic):
        kafka_source(kafka_bootstrap, topic).open()
