"""Streams whose partitions go to another worker: nothing of them is lost, told twice or ended."""

import threading
from collections import deque
from dataclasses import replace

import pytest

from connectors.base import Handover, Source
from connectors.errors import BadFrameError, UnreachableError
from connectors.kafka.config import KafkaSourceConfig
from connectors.memory import MemorySink
from connectors.record import Topic
from pipeline.engine.commits import Ticket
from pipeline.engine.inbox import FrameRefused, UnknownStream
from pipeline.engine.state.snapshot_folder import SnapshotFolder
from pipeline.engine.state.snapshot_store import SnapshotRefusedError
from tests.pipeline.engine.runs import (
    assert_settled,
    bodies,
    in_turn,
    make_app,
    make_config,
    states_of,
    wait_until,
)
from tests.pipeline.engine.state.test_resuming import told
from tests.pipeline.fakes import BlobTracker, make_walk

KAFKA = KafkaSourceConfig(bootstrap="127.0.0.1:1", topic="frames")
WALK = make_walk(24)
GATE = "frames/0"
BARN = "frames/1"


class SharedFolder(SnapshotFolder):
    is_shared = True


class Group(Source):
    """Partitions of frames with what is committed of them, and one reader at a time.

    The reader's partitions come and go by ``assign`` and ``revoke``.
    """

    def __init__(self, **logs):
        self.logs = {f"frames/{name[1:]}": frames for name, frames in logs.items()}
        self.committed = {}
        self.revived()

    def revived(self):
        """The same group, for another reader."""
        self.owned, self.waiting, self.is_closed = {}, deque(), False
        self.changed = threading.Condition()
        self.on_handover = None
        return self

    def open(self):
        pass

    def assign(self, *names):
        with self.changed:
            for name in names:
                first = self.owned[name] = self.committed.get(name, 0)
                for offset, frame in enumerate(self.logs[name][first:], first):
                    self.waiting.append((name, offset + 1, frame))
            self.changed.notify_all()

    def publish(self, name, frames):
        """Add frames to a partition that the reader has."""
        with self.changed:
            for offset, frame in enumerate(frames, len(self.logs[name])):
                self.waiting.append((name, offset + 1, frame))
            self.logs[name] = [*self.logs[name], *frames]
            self.changed.notify_all()

    def revoke(self, *names, is_lost=False):
        with self.changed:
            for name in names:
                del self.owned[name]
            self.waiting = deque(one for one in self.waiting if one[0] in self.owned)
        handover = Handover(partitions=frozenset(names))
        if is_lost:
            handover.over.set()
        self.on_handover(handover)
        return handover

    def read(self):
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.is_closed)
            if self.is_closed:
                return None
            name, offset, frame = self.waiting.popleft()
            self.owned[name] = offset
            return replace(frame, position={name: offset})

    def holds(self, position):
        return all(self.owned.get(name, -1) >= offset for name, offset in position.items())

    def commit(self, position):
        self.committed.update({name: at for name, at in position.items() if name in self.logs})

    def position(self):
        return {}

    def close(self):
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()


class Worker:
    """An engine that reads a group, and what it told."""

    def __init__(self, config, group, tracker=None):
        self.sink, self.group = MemorySink(), group.revived()
        tracker = tracker or BlobTracker()
        self.app = make_app(config, sink=self.sink, build=lambda *_: group, tracker=tracker)

    def run(self, *steps):
        return in_turn(self.app.engine, *steps)

    def give(self):
        """Let the gate's partition go to another worker."""
        self.handover = self.group.revoke(GATE)

    def has_given(self):
        return self.handover.over.is_set()

    def has_told(self, num, stream_id="cam"):
        return lambda: self.num_told(stream_id) >= num

    def has_done(self, num):
        return lambda: sum(one.counts.processed for one in self.app.engine.summary().streams) == num

    def num_told(self, stream_id):
        return sum(one["stream_id"] == stream_id for one in bodies(self.sink, Topic.MASKLETS))


@pytest.fixture
def config_of(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.app.SnapshotFolder", SharedFolder)

    def make(*stream_ids, name="state", snapshot_every_s=2.0, **engine):
        engine = {"buffer_frames": 64, "commit_every_s": 0.01, **engine}
        config = make_config(*(stream_ids or ("*",)), source=KAFKA, engine=engine)
        update = {"folder": tmp_path / name, "snapshot_every_s": snapshot_every_s}
        state = config.state.model_copy(update=update)
        return config.model_copy(update={"state": state})

    return make


@pytest.fixture
def whole(config_of):
    """What one worker tells that has the stream from its beginning to a stop."""
    worker = Worker(config_of(name="whole"), group := Group(p0=WALK))
    group.assign(GATE)
    worker.run((worker.has_told(len(WALK)), lambda: None))
    return told(worker.sink)


@pytest.mark.parametrize("stream_id", ["*", "cam"])
def test_stream_that_moves_goes_on_equal_to_the_byte(config_of, whole, stream_id):
    config, group = config_of(stream_id), Group(p0=WALK[:9])
    first = Worker(config, group)
    group.assign(GATE)
    first.run(
        (first.has_told(9), first.give),
        (first.has_given, lambda: None),
    )
    assert group.committed == {GATE: 9}
    group.logs[GATE] = WALK
    second = Worker(config, group)
    group.assign(GATE)
    second.run((second.has_told(len(WALK) - 9), lambda: None))
    assert told(first.sink, second.sink) == whole


def test_worker_says_nothing_of_a_stream_that_has_left(config_of):
    group = Group(p0=WALK[:9], p1=make_walk(30, stream_id="barn"))
    worker = Worker(config_of(), group)
    group.assign(GATE)
    worker.run(
        (worker.has_told(9), worker.give),
        (worker.has_given, lambda: group.assign(BARN)),
        (worker.has_told(30, "barn"), lambda: None),
    )
    assert states_of(worker.sink, "barn")[-1] == "ended"
    assert "ended" not in states_of(worker.sink, "cam")
    assert 'stream="cam"' not in worker.app.metrics.exposition().decode()


def test_worker_without_its_stream_says_nothing_of_it_once_it_is_connected(config_of):
    worker = Worker(config_of("cam"), Group(p0=WALK))
    worker.run((lambda: "connecting" in states_of(worker.sink, "cam"), lambda: None))
    assert states_of(worker.sink, "cam") == ["connecting"]


def test_state_that_cannot_be_read_is_waited_for_and_said(config_of, whole, monkeypatch):
    num_asked = []

    class AwayFolder(SharedFolder):
        def prepare(self, position):
            num_asked.append(position)
            if len(num_asked) == 1:
                raise UnreachableError("state", "no broker")

    monkeypatch.setattr("pipeline.app.SnapshotFolder", AwayFolder)
    monkeypatch.setattr("pipeline.engine.source_runner._PREPARE_AGAIN_S", 0.05)
    worker = Worker(config_of("cam"), group := Group(p0=WALK))
    group.assign(GATE)
    worker.run((worker.has_told(len(WALK)), lambda: None))
    assert num_asked == [{GATE: 1}, {GATE: 1}]
    assert told(worker.sink) == whole
    states = [one["state"] for one in bodies(worker.sink, Topic.STATUS)]
    assert "reconnecting" in states


def test_stop_while_state_cannot_be_read_writes_nothing_over_it(config_of, monkeypatch):
    class AwayFolder(SharedFolder):
        def prepare(self, position):
            raise UnreachableError("state", "no broker")

    monkeypatch.setattr("pipeline.app.SnapshotFolder", AwayFolder)
    config = config_of()
    worker = Worker(config, group := Group(p0=WALK))
    group.assign(GATE)
    summary = worker.run((lambda: "reconnecting" in states_of(worker.sink, "*"), lambda: None))
    assert summary.unkept == {}
    assert list(config.state.folder.glob("snapshots/*")) == []


def test_frames_that_wait_come_again_where_their_partition_goes(config_of, whole):
    group = Group(p0=WALK)
    worker = Worker(config_of(), group)
    group.assign(GATE)
    summary = worker.run(
        (worker.has_done(7), worker.give),
        (worker.has_given, lambda: group.assign(GATE)),
        (worker.has_told(len(WALK)), lambda: None),
    )
    assert told(worker.sink) == whole
    [stream] = summary.streams
    assert stream.counts.processed == len(WALK)
    assert stream.counts.dropped["moved"] == stream.counts.received - len(WALK) > 0


def test_source_that_waits_for_room_is_let_go_when_its_stream_leaves(config_of):
    group = Group(p0=WALK, p1=make_walk(30, stream_id="barn"))
    worker = Worker(config_of(buffer_frames=1), group)

    def give():
        def is_waiting():
            [stream] = worker.app.engine.summary().streams
            return stream.counts.received == stream.counts.processed + 2

        wait_until(is_waiting)
        worker.give()

    group.assign(GATE)
    summary = worker.run(
        (worker.has_done(7), give),
        (worker.has_given, lambda: group.assign(BARN)),
        (worker.has_told(30, "barn"), lambda: None),
    )
    assert group.committed[GATE] == 7
    assert_settled(summary)


def test_stream_of_another_partition_goes_on_undisturbed(config_of):
    group = Group(p0=WALK, p1=make_walk(30, stream_id="barn"))
    worker = Worker(config_of(), group)
    group.assign(GATE, BARN)
    worker.run(
        (worker.has_told(len(WALK)), worker.give),
        (worker.has_given, lambda: None),
        (worker.has_told(30, "barn"), lambda: None),
    )
    assert group.committed == {GATE: len(WALK), BARN: 30}
    barn = [one for one in bodies(worker.sink, Topic.TRACKS) if one["stream_id"] == "barn"]
    assert [one["kind"] for one in barn] == ["started", "confirmed"]


def test_stream_with_frames_of_other_partitions_stays_without_those_that_leave(config_of, caplog):
    class Patient(BlobTracker):
        def step(self, inputs):
            wait_until(lambda: not group.waiting)
            return super().step(inputs)

    caplog.set_level("INFO")
    group = Group(p0=WALK[:8], p1=WALK[8:16])
    worker = Worker(config_of(), group, Patient())

    def give():
        worker.handover = group.revoke(BARN)
        group.publish(GATE, WALK[16:])

    group.assign(GATE, BARN)
    summary = worker.run(
        (worker.has_done(9), give),
        (worker.has_given, lambda: None),
        (lambda: group.committed == {GATE: 16, BARN: 1}, lambda: None),
    )
    assert worker.num_told("cam") == 17
    [stream] = summary.streams
    assert stream.counts.dropped == {"moved": 7}
    assert "goes to another worker" not in caplog.text


def test_news_of_frames_that_have_left_lead_to_nothing(config_of):
    worker = Worker(config_of(), Group(p0=WALK))
    left, here = Ticket({GATE: 1}, is_void=True), Ticket({GATE: 2})

    def post():
        inbox = worker.app.engine._parts.inbox
        for ticket, name in ((left, "left"), (here, "here")):
            error = BadFrameError(name, "no picture", payload=name.encode())
            inbox.post(FrameRefused(source=0, error=error, ticket=ticket))
            inbox.post(UnknownStream(source=0, stream_id=name, ticket=ticket))

    worker.run(
        (lambda: "connecting" in states_of(worker.sink, "*"), post),
        (lambda: worker.sink.of(Topic.DLQ) and states_of(worker.sink, "here"), lambda: None),
    )
    assert [record.value for record in worker.sink.of(Topic.DLQ)] == [b"here"]
    assert states_of(worker.sink, "left") == []


def test_stream_that_is_lost_goes_on_from_its_last_snapshot(config_of, whole):
    group = Group(p0=WALK)
    worker = Worker(config_of(snapshot_every_s=3600.0), group)  # the first frame's, no later one

    def lose():
        group.revoke(GATE, is_lost=True)
        group.assign(GATE)

    group.assign(GATE)
    worker.run(
        (lambda: worker.num_told("cam") >= 9 and group.committed, lose),
        (lambda: group.committed == {GATE: 1} and worker.num_told("cam") > 20, lambda: None),
        (lambda: set(told(worker.sink)) and covers(told(worker.sink), whole), lambda: None),
    )
    ids = [one for one, _ in told(worker.sink)[Topic.MASKLETS]]
    assert len(ids) > len(set(ids)) == len(WALK)


def test_stream_that_is_lost_and_not_kept_ends(config_of):
    config = config_of()
    state = config.state.model_copy(update={"resume": False})
    worker = Worker(config.model_copy(update={"state": state}), group := Group(p0=WALK[:20]))
    group.assign(GATE)
    worker.run((worker.has_told(20), lambda: group.revoke(GATE, is_lost=True)))
    ends = [one["end_reason"] for one in bodies(worker.sink, Topic.EVENTS) if "end_reason" in one]
    assert ends == ["moved", "moved"]


def covers(found, expected):
    return all(
        {one for one, _ in found.get(topic, ())} == {one for one, _ in records}
        for topic, records in expected.items()
    )


def test_stream_that_moves_where_no_worker_finds_it_ends(config_of, monkeypatch):
    monkeypatch.setattr("pipeline.app.SnapshotFolder", SnapshotFolder)
    group = Group(p0=WALK[:20])
    worker = Worker(config := config_of(), group)
    group.assign(GATE)
    worker.run(
        (worker.has_told(20), worker.give),
        (worker.has_given, lambda: None),
    )
    ends = [one["end_reason"] for one in bodies(worker.sink, Topic.EVENTS) if one["phase"] == "end"]
    assert ends == ["moved", "moved"]
    assert group.committed == {GATE: 20}
    assert list((config.state.folder / "snapshots").glob("*")) == []


def test_state_that_cannot_be_written_leaves_frames_to_the_next_worker(
    config_of, monkeypatch, whole
):
    full = threading.Event()

    class FillingFolder(SharedFolder):
        def save(self, snapshot):
            if full.is_set():
                raise OSError(28, "No space left on device")
            return super().save(snapshot)

    monkeypatch.setattr("pipeline.app.SnapshotFolder", FillingFolder)
    group = Group(p0=WALK[:9])
    worker = Worker(config_of(snapshot_every_s=3600.0), group)  # the first frame's

    def revoke():
        full.set()
        worker.give()

    group.assign(GATE)
    worker.run(
        (lambda: worker.num_told("cam") == 9 and group.committed, revoke),
        (worker.has_given, lambda: None),
    )
    assert group.committed == {GATE: 1}
    full.clear()
    group.logs[GATE] = WALK
    second = Worker(config_of(), group)
    group.assign(GATE)
    second.run((second.has_told(len(WALK) - 1), lambda: None))
    assert covers(told(worker.sink, second.sink), whole)


def test_state_too_large_for_its_store_goes_as_a_picture(config_of, monkeypatch, whole):
    kept = []

    class NarrowFolder(SharedFolder):
        def save(self, snapshot):
            if snapshot.about.is_full and snapshot.about.tracker:
                raise SnapshotRefusedError("state", "too large")
            kept.append(snapshot.about)
            return super().save(snapshot)

    monkeypatch.setattr("pipeline.app.SnapshotFolder", NarrowFolder)
    group = Group(p0=WALK[:4])
    first = Worker(config_of(), group)
    group.assign(GATE)
    first.run(
        (lambda: group.committed, lambda: group.publish(GATE, WALK[4:9])),
        (first.has_told(9), first.give),
        (first.has_given, lambda: None),
    )
    assert group.committed == {GATE: 9}
    assert [one.is_full for one in kept] == [False] * len(kept)
    group.logs[GATE] = WALK
    second = Worker(config_of(), group)
    group.assign(GATE)
    second.run((second.has_told(len(WALK) - 9), lambda: None))
    assert covers(told(first.sink, second.sink), whole)


def test_time_that_is_over_leaves_the_stream_as_it_was_written_last(config_of, monkeypatch):
    hangs, goes_on = threading.Event(), threading.Event()

    class HangingFolder(SharedFolder):
        def save(self, snapshot):
            if hangs.is_set():
                goes_on.wait(30)
            return super().save(snapshot)

    monkeypatch.setattr("pipeline.app.SnapshotFolder", HangingFolder)
    group = Group(p0=WALK[:9])
    worker = Worker(config_of(), group)

    def revoke():
        hangs.set()
        worker.give()

    def give_up():
        worker.handover.over.set()

    group.assign(GATE)
    worker.run(
        (lambda: worker.num_told("cam") == 9 and group.committed, revoke),
        (lambda: not worker.app.engine._parts.keeper.has_left("cam"), give_up),
        (lambda: worker.app.engine._parts.keeper.has_left("cam"), goes_on.set),
    )
    assert group.committed == {GATE: 1}
