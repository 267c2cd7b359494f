import threading
import time
from functools import partial

import numpy as np
import pytest

from connectors.errors import SinkError, SinkUnreachableError
from connectors.kafka.config import FramesSinkConfig, KafkaSourceConfig
from connectors.kafka.frames import KafkaFrameSink
from connectors.kafka.producer import ProducerLink
from connectors.kafka.source import KafkaSource
from tests.connectors.kafka.helpers import write_until_taken
from tests.e2e.runs import read_topic
from tests.media import make_frame, number_of
from tests.servers import proxied_kafka_broker


def read_all(bootstrap, topic):
    settings = {"bootstrap": bootstrap, "topic": topic, "group_id": topic, "until_end": True}
    with KafkaSource(stream_id="frames", config=KafkaSourceConfig(**settings)) as source:
        return list(iter(source.read, None))


def test_frame_that_no_jpeg_can_hold_is_left_out_and_counted(kafka_bootstrap, topic, caplog):
    too_wide = make_frame(1, width=66_000, height=2)
    with KafkaFrameSink(config=FramesSinkConfig(bootstrap=kafka_bootstrap, topic=topic)) as sink:
        for frame in (make_frame(0), too_wide, make_frame(2)):
            sink.write(frame)
        assert sink.num_refused == 1
    assert "frame 1 of 'camera'" in caplog.text
    frames = read_all(kafka_bootstrap, topic)
    assert [number_of(frame.pixels) for frame in frames] == [0, 2]
    assert [frame.frame_seq for frame in frames] == [0, 2]


def test_quality_is_that_of_the_jpeg(kafka_bootstrap, topic):
    noise = make_frame(0)
    noise.pixels[:] = np.random.default_rng(0).integers(0, 256, (96, 128, 1))  # grey
    config = FramesSinkConfig(bootstrap=kafka_bootstrap, topic=topic)
    for quality in (5, 100):
        with KafkaFrameSink(config=config.model_copy(update={"quality": quality})) as sink:
            sink.write(noise)
    coarse, fine = (
        np.abs(frame.pixels.astype(int) - noise.pixels).mean()
        for frame in read_all(kafka_bootstrap, topic)
    )
    assert coarse > 10 * fine


def test_frames_need_no_model_and_go_to_their_topic_uncompressed():
    config = FramesSinkConfig(bootstrap="h:1", topic="cams", client_id="gate", acks="leader")
    assert not config.needs_model
    records = config.to_records()
    assert (records.topics.names, records.compression) == ({"frames": "cams"}, "none")
    assert (records.client_id, records.acks) == ("gate", "leader")


def test_frames_in_flight_are_bounded_and_follow_when_the_broker_is_back():
    options = {"max_pending": 2, "delivery_timeout_s": 0.5, "connect_timeout_s": 1}
    with proxied_kafka_broker() as (proxy, _):
        config = FramesSinkConfig(bootstrap=proxy.address, topic="cams", **options)
        with KafkaFrameSink(config=config) as sink:
            sink.write(make_frame(0))
            sink.flush()
            proxy.stall()
            sink.write(make_frame(1))
            sink.write(make_frame(2))
            for action in (lambda: sink.write(make_frame(3)), sink.flush):
                with pytest.raises(SinkUnreachableError):
                    action()
            proxy.restore()
            write_until_taken(sink.write, make_frame(3))
            write_until_taken(sink.flush)
        records = read_topic(proxy.address, "cams")
    assert [dict(record.headers)["frame_seq"] for record in records] == [b"0", b"1", b"2", b"3"]


def test_close_says_what_was_not_delivered_and_ends_though_the_broker_is_away():
    options = {"delivery_timeout_s": 0.5, "connect_timeout_s": 1}
    with proxied_kafka_broker() as (proxy, _):
        sink = KafkaFrameSink(config=FramesSinkConfig(bootstrap=proxy.address, **options))
        sink.open()
        proxy.stall()
        sink.write(make_frame(0))
        began_s = time.monotonic()
        with pytest.raises(SinkUnreachableError):
            sink.close()
        assert time.monotonic() - began_s < 10


def test_closing_what_was_never_opened_does_nothing():
    KafkaFrameSink(config=FramesSinkConfig(bootstrap="h:1")).close()


def test_frame_too_large_for_the_broker_is_left_out_and_counted(kafka_bootstrap, topic, caplog):
    options = {"image": "png", "options": {"max_request_size": 5_000}}
    noise = make_frame(1)
    noise.pixels[:] = np.random.default_rng(0).integers(0, 256, noise.pixels.shape)
    with KafkaFrameSink(
        config=FramesSinkConfig(bootstrap=kafka_bootstrap, topic=topic, **options)
    ) as sink:
        for frame in (make_frame(0), noise, make_frame(2)):
            sink.write(frame)
        sink.flush()
        assert sink.num_refused == 1
    assert "dropped a frame" in caplog.text
    records = read_topic(kafka_bootstrap, topic)
    assert [dict(record.headers)["frame_seq"] for record in records] == [b"0", b"2"]


def test_whatever_the_client_raises_reaches_the_writer_and_the_frame_is_tried_again(
    kafka_bootstrap, topic, monkeypatch
):
    def fail(*_):
        raise KeyError("x")

    with KafkaFrameSink(config=FramesSinkConfig(bootstrap=kafka_bootstrap, topic=topic)) as sink:
        with monkeypatch.context() as broken:
            broken.setattr(ProducerLink, "send", fail)
            sink.write(make_frame(0))
            with pytest.raises(SinkError, match="KeyError: 'x'") as caught:
                sink.flush()
            assert caught.value.recoverable
        write_until_taken(sink.flush)
    assert len(read_topic(kafka_bootstrap, topic)) == 1


def is_done(action):
    try:
        action()
    except SinkError:
        return False
    return True


def test_frame_on_which_the_client_always_raises_is_left_out_and_the_others_go_on(
    kafka_bootstrap, topic, monkeypatch, caplog
):
    send = ProducerLink.send

    def fail_on_one(link, topic, record):
        if dict(record.headers)["frame_seq"] == b"1":
            raise KeyError("x")
        return send(link, topic, record)

    monkeypatch.setattr(ProducerLink, "send", fail_on_one)
    with KafkaFrameSink(config=FramesSinkConfig(bootstrap=kafka_bootstrap, topic=topic)) as sink:
        for action in (*(partial(sink.write, make_frame(seq)) for seq in range(3)), sink.flush):
            assert any(is_done(action) for _ in range(20))
        assert (sink.num_refused, sink.num_pending) == (1, 0)
    assert "KeyError: 'x'" in caplog.text
    sent = {dict(record.headers)["frame_seq"] for record in read_topic(kafka_bootstrap, topic)}
    assert sent == {b"0", b"2"}


def test_frames_that_are_not_confirmed_are_pending():
    with proxied_kafka_broker() as (proxy, _):
        proxy.stall()
        sink = KafkaFrameSink(config=FramesSinkConfig(bootstrap=proxy.address))
        sink.open()
        for seq in range(3):
            sink.write(make_frame(seq))
        assert sink.num_pending == 3
        sink.interrupt()
        with pytest.raises(SinkError, match="interrupted"):
            sink.close()


@pytest.mark.parametrize("is_full", [True, False])
def test_interrupt_ends_a_write_and_a_flush_that_wait(is_full):
    with proxied_kafka_broker() as (proxy, _):
        proxy.stall()
        config = FramesSinkConfig(bootstrap=proxy.address, max_pending=1)
        sink = KafkaFrameSink(config=config)
        sink.open()
        sink.write(make_frame(0))
        threading.Timer(0.1, sink.interrupt).start()
        began_s = time.monotonic()
        with pytest.raises(SinkError, match="interrupted") as caught:
            sink.write(make_frame(1)) if is_full else sink.flush()
        assert caught.value.recoverable
        with pytest.raises(SinkError, match="interrupted"):
            sink.close()
        assert time.monotonic() - began_s < 8.0


def test_interrupt_ends_a_flush_whatever_the_client_waits_for(kafka_bootstrap, topic, monkeypatch):
    may_go_on = threading.Event()
    monkeypatch.setattr(ProducerLink, "send", lambda *_: may_go_on.wait(10))
    sink = KafkaFrameSink(config=FramesSinkConfig(bootstrap=kafka_bootstrap, topic=topic))
    sink.open()
    sink.write(make_frame(0))
    threading.Timer(0.1, sink.interrupt).start()
    began_s = time.monotonic()
    with pytest.raises(SinkError, match="interrupted"):
        sink.flush()
    assert time.monotonic() - began_s < 8.0
    may_go_on.set()
    with pytest.raises(SinkError):
        sink.close()
