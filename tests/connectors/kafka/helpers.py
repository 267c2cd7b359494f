"""What the tests of Kafka's connectors share."""

import json
import threading
import time
from contextlib import suppress

from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from connectors.errors import SinkUnreachableError
from connectors.kafka.config import FramesSinkConfig, KafkaSinkConfig, KafkaSourceConfig
from connectors.kafka.frames import KafkaFrameSink
from connectors.kafka.source import KafkaSource
from connectors.pictures.encoding import encode_image
from connectors.record import Record, Topic
from tests.media import numbered_picture

PNG = encode_image(numbered_picture(1), "png")
_NOW_MS = round(time.time() * 1000)  # the strict broker deletes what is older than a week


def sink_config(bootstrap, topic="events", topics=None, **options):
    return KafkaSinkConfig(
        bootstrap=bootstrap, topics={"names": {"events": topic}, **(topics or {})}, **options
    )


def event(number, **fields):
    value = json.dumps({"number": number}).encode()
    headers = (("ce_id", str(number).encode()), ("content-type", b"application/json"))
    record = {"topic": Topic.EVENTS, "key": "gate", "value": value, "headers": headers}
    return Record(**{**record, "timestamp_ms": _NOW_MS + number, **fields})


def events(*numbers):
    return [event(number) for number in numbers]


def kafka_source(bootstrap, topic, position=None, *, stream_id="frames", **options):
    settings = {"group_id": topic, "until_end": True, "session_timeout_s": 6}
    config = KafkaSourceConfig(bootstrap=bootstrap, topic=topic, **{**settings, **options})
    return KafkaSource(stream_id=stream_id, config=config, position=position)


def publish(bootstrap, topic, frames, **options):
    config = FramesSinkConfig(bootstrap=bootstrap, topic=topic, image="png", **options)
    with KafkaFrameSink(config=config) as sink:
        for frame in frames:
            sink.write(frame)


def produce(bootstrap, topic, **record):
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    producer.send(topic, **{"key": b"gate", **record}).get(10)
    producer.close()


def consume(bootstrap, topic, count, *, wait_s=10.0):
    """Return the first records of a topic; fewer if no more come in time."""
    options = {"auto_offset_reset": "earliest", "consumer_timeout_ms": round(wait_s * 1000)}
    consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap, **options)
    records = [record for _, record in zip(range(count), consumer, strict=False)]
    consumer.close()
    return records


def committed(bootstrap, topic, *, partition=0):
    options = {"group_id": topic, "enable_auto_commit": False}
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, **options)
    try:
        return consumer.committed(TopicPartition(topic, partition))
    finally:
        consumer.close()


def numbers(records):
    return [json.loads(record.value)["number"] for record in records]


def wait_until(is_so, timeout_s=20.0):
    ends_s = time.monotonic() + timeout_s
    pace = threading.Event()
    while not is_so():
        assert not pace.wait(0.02)
        assert time.monotonic() < ends_s, "not in time"


def write_until_taken(write, *arguments, timeout_s=20.0):
    """Write as the engine does: again and again, with the same arguments."""
    ends_s = time.monotonic() + timeout_s
    while time.monotonic() < ends_s:
        with suppress(SinkUnreachableError):
            return write(*arguments)
    raise AssertionError("not taken in time")
