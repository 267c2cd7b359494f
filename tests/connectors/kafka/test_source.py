"""What is read from a topic, what of it counts as done, and who says so."""

import threading
from contextlib import contextmanager

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic
from kafka.errors import CommitFailedError, KafkaTimeoutError
from kafka.structs import TopicPartition

from connectors.errors import BadFrameError, NotFoundError, SourceError, UnreachableError
from connectors.frame import CaptureClock
from connectors.kafka import poller
from connectors.pictures.encoding import encode_image
from tests.connectors.kafka.helpers import (
    PNG,
    committed,
    kafka_source,
    produce,
    publish,
    wait_until,
)
from tests.media import make_frame, number_of, numbered_picture
from tests.servers import free_port, proxied_kafka_broker


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


def test_records_of_other_streams_alone_are_committed_too(kafka_bootstrap, topic):
    for _ in range(3):
        produce(kafka_bootstrap, topic, value=PNG, key=b"barn", partition=0)
    with kafka_source(kafka_bootstrap, topic, streams=("gate",)) as source:
        assert source.read() is None
    assert committed(kafka_bootstrap, topic) == 3


def test_reader_that_takes_long_stays_in_the_group(kafka_bootstrap, topic):
    produce(kafka_bootstrap, topic, value=PNG, partition=0)
    options = {"until_end": False, "options": {"max_poll_interval_ms": 1000}}
    with kafka_source(kafka_bootstrap, topic, **options) as source:
        position = source.read().position
        threading.Event().wait(2.5)  # a model that takes its time
        source.commit(position)
        wait_until(lambda: committed(kafka_bootstrap, topic) == 1, timeout_s=5)


def test_fetching_ahead_is_bounded_in_bytes(kafka_bootstrap, topic, monkeypatch):
    monkeypatch.setattr(poller, "_BUFFER_BYTES", 30_000)
    pixels = numbered_picture(9, width=100, height=10).tobytes()
    headers = [("content-type", RGB.encode()), ("width", b"100"), ("height", b"10")]
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap)
    for _ in range(200):
        producer.send(topic, value=pixels, headers=headers, key=b"gate", partition=0)
    producer.close()
    with kafka_source(kafka_bootstrap, topic) as source:
        frames = [source.read()]
        wait_until(lambda: source._poller._is_paused)
        assert source._poller._num_bytes < 30_000 + 32 * len(pixels)
        frames += iter(source.read, None)
    assert [frame.frame_seq for frame in frames] == list(range(200))


def fill_two_partitions(bootstrap, topic):
    """Two frames in each."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics({topic: {"num_partitions": 2, "replication_factor": 1}})
    admin.close()
    for partition in (0, 1):
        for _ in range(2):
            produce(bootstrap, topic, partition=partition, value=PNG)


@pytest.mark.parametrize("is_in_time", [True, False])
def test_partition_moves_once_what_was_read_of_it_is_done_or_time_is_over(
    kafka_bootstrap, topic, monkeypatch, is_in_time
):
    monkeypatch.setattr(poller, "_HAND_OVER_S", 30.0 if is_in_time else 0.3)
    fill_two_partitions(kafka_bootstrap, topic)
    handovers, options = [], {"until_end": False, "session_timeout_s": 2}
    first = kafka_source(kafka_bootstrap, topic, **options)
    first.on_handover = handovers.append
    with first, reading(first) as frames:
        wait_until(lambda: len(frames) == 4)
        assert all(first.holds(frame.position) for frame in frames)
        with kafka_source(kafka_bootstrap, topic, **options) as second, reading(second) as others:
            wait_until(lambda: handovers)
            (handover,) = handovers
            (moved,) = handover.partitions
            gone = [frame.position for frame in frames if moved in frame.position]
            assert not any(first.holds(position) for position in gone)
            assert not others
            if is_in_time:
                first.commit(gone[0])
                handover.over.set()
            wait_until(lambda: len(others) == (1 if is_in_time else 2))
            assert handover.over.is_set()
            assert [frame.position for frame in others] == gone[-len(others) :]
            kept = [frame.position for frame in frames if moved not in frame.position]
            assert all(first.holds(position) for position in kept)
    assert len(handovers) == 1


def test_static_member_comes_back_to_its_partitions_and_nobody_hands_over(kafka_bootstrap, topic):
    def hand_over(handover):
        handovers.append(handover)
        handover.over.set()

    fill_two_partitions(kafka_bootstrap, topic)
    handovers, options = [], {"until_end": False, "session_timeout_s": 6}
    stays = kafka_source(kafka_bootstrap, topic, group_instance_id="b", **options)
    stays.on_handover = hand_over
    goes = kafka_source(kafka_bootstrap, topic, group_instance_id="a", **options)
    with stays, goes, reading(stays) as kept:
        with reading(goes):
            # This broker answers a join after half of the session timeout. Who comes too late for
            # the first answer gets a partition from the other, two answers later.
            both = stays, goes
            wait_until(lambda: all([*one.position().values()] == [2] for one in both), timeout_s=60)
        num_kept = len(kept)
        handovers.clear()
        (place,) = goes.position()
        goes.commit({place: 1})
        goes.close()
        again = kafka_source(kafka_bootstrap, topic, group_instance_id="a", **options)
        with again, reading(again) as rest:
            wait_until(lambda: rest)
            assert [frame.position for frame in rest] == [{place: 2}]
        assert not handovers
        assert len(kept) == num_kept


def test_partitions_to_go_on_with_that_another_member_has_are_left_to_it(kafka_bootstrap, topic):
    fill_two_partitions(kafka_bootstrap, topic)
    handovers, options = [], {"until_end": False, "session_timeout_s": 2}
    with kafka_source(kafka_bootstrap, topic, **options) as other, reading(other) as others:
        wait_until(lambda: len(others) == 4)
        start = {f"{topic}/0": 2, f"{topic}/1": 2}
        back = kafka_source(kafka_bootstrap, topic, start, **options)
        back.on_handover = handovers.append
        with back, reading(back):
            wait_until(lambda: len(back.position()) == 1 and handovers)
            assert all(one.over.is_set() for one in handovers)
            (kept,) = back.position()
            assert {name for one in handovers for name in one.partitions} >= start.keys() - {kept}


def test_what_is_done_is_committed_before_a_partition_moves(kafka_bootstrap, topic, monkeypatch):
    monkeypatch.setattr(poller, "_COMMIT_EVERY_S", 1000.0)
    fill_two_partitions(kafka_bootstrap, topic)
    options = {"until_end": False, "session_timeout_s": 2}
    with kafka_source(kafka_bootstrap, topic, **options) as first, reading(first) as frames:
        wait_until(lambda: len(frames) == 4)
        for frame in frames:
            if frame.frame_seq == 0:
                first.commit(frame.position)
        with kafka_source(kafka_bootstrap, topic, **options) as second, reading(second) as others:
            wait_until(lambda: others)
            (moved,) = others[0].position
            assert [frame.frame_seq for frame in others] == [1]
            assert committed(kafka_bootstrap, topic, partition=int(moved[-1])) == 1


def test_marks_of_a_log_that_has_begun_anew_hold_for_it_no_more(kafka_bootstrap, topic):
    for _ in range(2):
        produce(kafka_bootstrap, topic, partition=0, value=PNG)
    old = {f"{topic}/0": 1000}
    with kafka_source(kafka_bootstrap, topic, old, until_end=False) as source:
        source.commit(old)
        wait_until(lambda: committed(kafka_bootstrap, topic) == 1000)
        # As kafka-python does where a broker says that an offset is out of range: ours does not.
        source._poller._consumer.seek(TopicPartition(topic, 0), 0)
        position = source.read().position
        source.commit(old)
        source.commit(position)
        wait_until(lambda: committed(kafka_bootstrap, topic) == 1)


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


@pytest.mark.parametrize(
    ("error", "is_tried_again"),
    [(KafkaTimeoutError("away"), True), (CommitFailedError("moved"), False)],
)
def test_commit_that_failed_is_tried_again_later_than_others_follow(
    kafka_bootstrap, topic, monkeypatch, error, is_tried_again
):
    produce(kafka_bootstrap, topic, partition=0, value=PNG)
    failed, is_over = [], threading.Event()

    def fail(*_, **__):
        waits = ("_COMMIT_EVERY_S", "_COMMIT_AGAIN_S")
        for name, is_next in zip(waits, (not is_tried_again, is_tried_again), strict=True):
            monkeypatch.setattr(poller, name, 0.0 if is_next else 1000.0)
        failed.append(1)
        if len(failed) == 3:
            is_over.set()
        raise error

    with kafka_source(kafka_bootstrap, topic, until_end=False) as source:
        position = source.read().position
        monkeypatch.setattr(KafkaConsumer, "commit", fail)
        source.commit(position)
        assert is_over.wait(10)


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


RGB = "application/x-maskstream-rgb24"
JPEG = encode_image(numbered_picture(1), "jpeg")
GARBAGE = (
    ({"value": b"\xff\xd8\xff garbage"}, "without a size"),
    ({"value": b"hello"}, "no picture"),
    ({"value": None}, "no picture"),
    ({"value": JPEG[: len(JPEG) // 2]}, "cut off"),
    ({"value": b"x", "headers": [("content-type", RGB.encode())]}, "raw RGB of 0x0"),
    ({"value": PNG, "key": None}, "neither a key"),
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
    with kafka_source(kafka_bootstrap, topic, stream_id="*") as source:
        for offset, (record, reason) in enumerate(GARBAGE):
            with pytest.raises(BadFrameError, match=reason) as caught:
                source.read()
            assert caught.value.position == {"topic": topic, "partition": 0, "offset": offset}
            assert caught.value.payload == (record["value"] or b"")
            assert list(caught.value.headers) == record.get("headers", [])
        assert number_of(source.read().pixels) == 1


def test_header_without_a_value_is_an_empty_one_in_a_dead_letter(
    kafka_bootstrap, topic, monkeypatch
):
    produce(kafka_bootstrap, topic, partition=0, value=b"hello")
    poll = KafkaConsumer.poll

    def poll_null(*args, **options):  # which kafka-python reads, and does not write
        return {
            partition: [record._replace(headers=[("trace", None)]) for record in records]
            for partition, records in poll(*args, **options).items()
        }

    monkeypatch.setattr(KafkaConsumer, "poll", poll_null)
    with kafka_source(kafka_bootstrap, topic) as source, pytest.raises(BadFrameError) as caught:
        source.read()
    assert caught.value.headers == (("trace", b""),)


def test_record_without_a_key_is_a_frame_of_the_one_stream(kafka_bootstrap, topic):
    for headers in ([], [("stream_id", b"barn")]):
        produce(kafka_bootstrap, topic, partition=0, value=PNG, key=None, headers=headers)
    with kafka_source(kafka_bootstrap, topic, stream_id="gate") as source:
        assert [frame.stream_id for frame in iter(source.read, None)] == ["gate", "barn"]


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


@pytest.mark.parametrize(("width", "height"), [(0, 8), (16, 0), (-16, -8), (16, 1 << 40)])
def test_raw_picture_of_an_impossible_size_is_refused(kafka_bootstrap, topic, width, height):
    sizes = [("width", str(width).encode()), ("height", str(height).encode())]
    produce(kafka_bootstrap, topic, value=b"", headers=[("content-type", RGB.encode()), *sizes])
    with kafka_source(kafka_bootstrap, topic) as source, pytest.raises(BadFrameError) as refused:
        source.read()
    assert f"raw RGB of {width}x{height} pixels; allowed are 1 to " in str(refused.value)


def test_broker_that_is_not_there_is_unreachable_at_once():
    with pytest.raises(UnreachableError, match="stream 'frames'"):
        kafka_source(f"127.0.0.1:{free_port()}", "t", connect_timeout_s=1).open()


def test_lost_broker_is_unreachable_and_another_source_goes_on_when_it_is_back():
    options = {"until_end": False, "connect_timeout_s": 1}
    with proxied_kafka_broker() as (proxy, _):
        for _ in range(2):
            produce(proxy.address, "frames", value=PNG, partition=0)
        with kafka_source(proxy.address, "frames", **options) as source:
            source.commit(source.read().position)
            source.read()
            proxy.cut()
            with pytest.raises(UnreachableError) as caught:
                source.read()
            assert caught.value.recoverable
        position = source.position()
        assert position == {"frames/0": 2}
        proxy.restore()
        with kafka_source(proxy.address, "frames", position, **options) as source:
            wait_until(lambda: source._poller._owned)
        # The second frame, read before, is not done.
        assert committed(proxy.address, "frames") in (None, 1)
        produce(proxy.address, "frames", value=PNG, partition=0)
        with kafka_source(proxy.address, "frames", position, **options) as source:
            assert source.read().frame_seq == 2


def test_missing_topic_is_not_found(kafka_bootstrap, topic):
    with pytest.raises(NotFoundError, match=topic):
        kafka_source(kafka_bootstrap, topic).open()
