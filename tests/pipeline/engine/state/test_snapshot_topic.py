"""Snapshots in a topic: any worker finds them, and none that cannot be believed is used."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from connectors.kafka.config import StateTopicConfig
from connectors.kafka.state_topic import StateTopic
from pipeline.engine.state.snapshot_file import StoredSnapshot, encode_snapshot_file
from pipeline.engine.state.snapshot_topic import SnapshotTopic
from tests.connectors.kafka.helpers import produce
from tests.pipeline.engine.state.test_snapshot_folder import ABOUT, STREAM, with_stream

GATE = "frames/2"
NAME = "gate / Süd"


def snapshot(offset, *, at_s=0, stream_id=NAME, **arrays):
    about = replace(
        ABOUT,
        stream_id=stream_id,
        source={GATE: offset},
        taken_at=datetime.fromtimestamp(1_700_000_000 + at_s, tz=UTC),
    )
    return StoredSnapshot(about=about, stream=STREAM, arrays=arrays)


@pytest.fixture
def topics(kafka_bootstrap, topic):
    """Makes the stores of workers."""
    made = []

    def make(deployment="farm/1"):
        setup = {"partitions": 4}
        config = StateTopicConfig(bootstrap=kafka_bootstrap, topic=topic, topic_setup=setup)
        made.append(SnapshotTopic(StateTopic(config), deployment=deployment))
        return made[-1]

    yield make
    for one in made:
        one.close()


def loaded(store, stream_id=NAME):
    store.prepare({GATE: 1})
    return store.load(stream_id)


def offset_of(found):
    stored, problems = found
    return None if stored is None else stored.about.source[GATE], len(problems)


def test_another_worker_finds_the_newest_snapshot_as_it_was(topics):
    first = topics()
    num_bytes = first.save(snapshot(4))
    stored = snapshot(7, maps=np.arange(6, dtype=np.float32).reshape(2, 3))
    assert first.save(stored) > num_bytes == len(encode_snapshot_file(snapshot(4)))
    first.save(snapshot(9, stream_id="barn"))
    found, problems = loaded(topics())
    assert problems == []
    assert found.about == stored.about
    np.testing.assert_array_equal(found.arrays["maps"], stored.arrays["maps"])


def test_only_the_partition_of_the_frames_is_read(topics):
    topics().save(snapshot(4))
    other = topics()
    other.prepare({"frames/1": 1})
    assert other.load(NAME) == (None, [])


def test_streams_of_another_deployment_are_its_own(topics, caplog):
    topics().save(snapshot(4))
    other = topics("farm")
    assert loaded(other) == (None, [])
    other.save(snapshot(9))
    assert offset_of(loaded(topics())) == (4, 0)
    assert "left out" not in caplog.text


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (encode_snapshot_file(snapshot(9))[:-7], "is cut or damaged"),
        (b"MSTRMSNP\x00\x03" + bytes(32), "is of version 3"),
        (with_stream('{"version": 9}'), "is of version 9"),
        (b"hello", "is no snapshot"),
        (encode_snapshot_file(snapshot(9, stream_id="barn")), "is of stream 'barn'"),
    ],
)
@pytest.mark.parametrize("slot", ["0", "1"])
def test_garbage_leaves_the_snapshot_before(topics, kafka_bootstrap, topic, garbage, reason, slot):
    first = topics()
    first.save(snapshot(4))
    first.save(snapshot(5))
    key = f"{slot}/farm%2F1/{NAME}"
    produce(kafka_bootstrap, topic, key=key.encode(), value=garbage, partition=2)
    second = topics()
    found, [problem] = loaded(second)
    assert found.about.source[GATE] == (5 if slot == "0" else 4)
    assert reason in problem
    assert f"key {key}: " in problem
    assert topic in problem
    second.save(snapshot(6))
    assert offset_of(loaded(topics())) == (6, 0)


def test_garbage_alone_is_a_new_beginning(topics, kafka_bootstrap, topic, caplog):
    topics().save(snapshot(4, stream_id="barn"))
    strays = ("k" * 9000, "other", "another")
    for key in (f"0/farm%2F1/{NAME}", f"1/farm%2F1/{NAME}", *strays):
        produce(kafka_bootstrap, topic, key=key.encode(), value=b"garbage", partition=2)
    assert offset_of(loaded(topics())) == (None, 2)
    [told] = [one.getMessage() for one in caplog.records if "left out" in one.message]
    assert told.endswith(f"partition 2: 3 keys are no stream's, such as '{'k' * 100}'; left out")


def test_what_a_worker_that_was_cut_off_writes_late_is_not_used(topics):
    old, new = topics(), topics()
    old.save(snapshot(4))
    loaded(new)
    new.save(snapshot(6, at_s=1))
    new.save(snapshot(7, at_s=2))
    old.save(snapshot(5, at_s=3))
    assert offset_of(loaded(topics()))[0] == 7


def test_of_two_at_the_same_frame_the_later_is_used(topics):
    store = topics()
    store.save(replace(snapshot(4, at_s=1)))
    store.save(snapshot(4, at_s=2))
    assert loaded(topics())[0].about.taken_at == snapshot(4, at_s=2).about.taken_at


def test_newest_snapshot_stays_at_hand_while_the_stream_is_here(topics):
    store = topics()
    store.save(snapshot(4))
    assert offset_of(store.load(NAME)) == (4, 0)
    other = topics()
    assert offset_of(loaded(other)) == offset_of(other.load(NAME)) == (4, 0)
    other.release({GATE})
    assert other.load(NAME) == (None, [])


def test_stream_that_has_ended_leaves_nothing(topics):
    first = topics()
    first.save(snapshot(4))
    first.save(snapshot(5))
    second = topics()
    loaded(second)
    second.delete(NAME)
    assert second.load(NAME) == loaded(topics()) == (None, [])


def test_partition_that_comes_back_is_read_again(topics):
    first, second = topics(), topics()
    first.save(snapshot(4))
    second.prepare({GATE: 1})
    first.save(snapshot(5))
    second.prepare({GATE: 1})
    second.release({GATE})
    assert offset_of(loaded(second)) == (5, 0)


def test_partition_that_leaves_while_it_is_read_is_not_kept(topics, monkeypatch):
    first, second = topics(), topics()
    first.save(snapshot(4))
    read = StateTopic.read

    def read_and_leave(self, partition):
        found = read(self, partition)
        second.release({GATE})
        return found

    with monkeypatch.context() as patched:
        patched.setattr(StateTopic, "read", read_and_leave)
        second.prepare({GATE: 1})
    first.save(snapshot(5))
    assert offset_of(loaded(second)) == (5, 0)
