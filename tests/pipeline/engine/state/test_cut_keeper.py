"""Snapshots that go with transactions: whole, of what has changed, on disk before the commit."""

import threading
from dataclasses import replace

import pytest

from connectors.errors import NotWritableError
from pipeline.clock import ManualClock
from pipeline.engine.buffer import FrameBuffer
from pipeline.engine.commits import Ticket
from pipeline.engine.ledger import Ledger
from pipeline.engine.state.cut_keeper import CutKeeper
from pipeline.engine.state.snapshot_folder import SnapshotFolder
from pipeline.engine.state.writer import SnapshotWriter
from pipeline.engine.stream_table import RunningStream
from pipeline.engine.worker import Worker
from pipeline.observe.metrics import Metrics
from tests.pipeline.engine.runs import make_config, wait_until
from tests.pipeline.engine.sinks import value_of
from tests.pipeline.fakes import START, BlobTracker, make_walk
from tests.pipeline.streams.steps import make_stream

WALK = make_walk(12)


class Disk(SnapshotFolder):
    """A folder that may be full, and that waits where it is held."""

    is_full = False

    def __init__(self, folder):
        super().__init__(folder)
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.num_saved = 0

    def save(self, snapshot):
        self.goes_on.wait(30)
        if self.is_full:
            raise NotWritableError("state", "No space left on device")
        self.num_saved += 1
        return super().save(snapshot)


class Bench:
    """A keeper over a folder, with a model and streams that tests play frames to."""

    def __init__(self, folder):
        self.disk, self.clock, self.metrics = Disk(folder), ManualClock(), Metrics(tuple)
        self.tracker = BlobTracker()
        self.worker = Worker(self.tracker, self.metrics)
        self.woken = threading.Event()
        self.keeper = CutKeeper(
            make_config(),
            SnapshotWriter(self.disk, on_done=self.woken.set),
            worker=self.worker,
            metrics=self.metrics,
            clock=self.clock,
        )
        self.keeper.start()

    def open(self, stream_id="cam", source=None):
        running = RunningStream(
            stream_id=stream_id,
            config=make_config(stream_id).streams[0],
            stream=make_stream(stream_id=stream_id),
            buffer=FrameBuffer(
                stream_id,
                capacity=4,
                overflow=make_config().streams[0].buffer_overflow,
                ledger=Ledger(),
                on_frame=lambda: None,
            ),
            source=None,
            active_s=0.0,
        )
        self.keeper.open(running, source)
        return running

    def play(self, running, frame, position=None):
        """Give a frame to a stream and its result to the keeper; returns the frame's ticket."""
        admission = running.stream.admit(frame, arrived_us=frame.pts_us, now=START)
        if admission.begins_session:
            self.worker.open(running.stream_id, ["red"])
        [outcome] = self.worker.step([admission.model_input])
        running.stream.apply(admission, outcome.prediction, now=START, dropped_since_last=0)
        ticket = Ticket(position)
        frame = replace(frame, position=position)
        self.keeper.follow(running, frame, ticket, number=7, is_first=admission.begins_session)
        return ticket

    def settle(self):
        """Take note of what the writer has done until all of the last cut is on disk."""

        def is_written():
            self.keeper.advance()
            return self.keeper.is_written

        wait_until(is_written, seconds=10)

    def cut(self, number):
        self.keeper.cut(number)
        self.settle()

    def kept(self, stream_id="cam"):
        stored, problems = self.disk.load(stream_id)
        assert problems == []
        return stored

    def counted(self, name):
        return value_of(self.metrics, name, stream="cam") or 0


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.disk.goes_on.set()
    bench.keeper.close(10.0)


def test_cut_holds_streams_whole_with_their_place_and_its_number(bench):
    running = bench.open(source={"frames/1": 4})
    assert not bench.keeper.has_changes
    for number, frame in enumerate(WALK[:6], 1):
        ticket = bench.play(running, frame, {"frames/0": number})
    assert ticket.is_finished(7)
    assert not ticket.is_finished(6)
    assert bench.keeper.has_changes
    assert not bench.keeper.is_busy
    bench.clock.advance(5)
    bench.cut(3)
    assert not bench.keeper.has_changes
    about = bench.kept().about
    assert (about.cut, about.is_full, about.model) == (3, True, make_config().model.name)
    assert about.source == {"frames/0": 6, "frames/1": 4}
    assert about.taken_at == bench.clock.utc_now()
    assert about.next_no == running.stream.next_no
    assert '"red": [1, 0.0, 0.5]' in about.tracker
    assert bench.kept().stream.session is not None
    assert bench.counted("snapshots_total") == 1


def test_frame_without_a_place_moves_none(bench):
    running = bench.open()
    bench.play(running, WALK[0], {"frames/0": 1})
    bench.play(running, WALK[1])
    bench.cut(1)
    assert bench.kept().about.source == {"frames/0": 1}


def test_cut_holds_only_what_has_changed_since_the_one_before(bench):
    running = bench.open()
    bench.open("barn")
    bench.play(running, WALK[0])
    bench.cut(1)
    bench.cut(2)
    assert bench.disk.num_saved == 1
    assert bench.kept("barn") is None
    bench.play(running, WALK[1])
    bench.cut(3)
    assert bench.kept().about.cut == 3


def test_cut_is_written_once_all_of_it_is_on_disk(bench):
    first, second = bench.open(), bench.open("barn")
    bench.play(first, WALK[0])
    bench.play(second, make_walk(1, stream_id="barn")[0])
    bench.disk.goes_on.clear()
    bench.keeper.cut(1)
    bench.keeper.advance()
    assert not bench.keeper.is_written
    bench.disk.goes_on.set()
    bench.settle()
    assert [bench.kept(one).about.cut for one in ("cam", "barn")] == [1, 1]


def test_disk_that_is_full_is_tried_again_after_a_second_and_said(bench, caplog):
    running = bench.open()
    bench.play(running, WALK[0])
    bench.disk.is_full = True
    bench.keeper.cut(1)

    def has_failed(num):
        bench.keeper.advance()
        return bench.counted("snapshot_errors_total") == num

    wait_until(lambda: has_failed(1), seconds=10)
    assert not bench.keeper.is_written
    assert "No space left on device" in bench.keeper.error_of("cam")
    assert bench.keeper.error_of("barn") is None
    bench.woken.clear()
    bench.clock.advance(0.9)
    bench.keeper.advance()
    assert not bench.woken.wait(0.1)
    bench.clock.advance(0.1)
    wait_until(lambda: has_failed(2), seconds=10)
    bench.disk.is_full = False
    bench.clock.advance(1.0)
    bench.settle()
    assert bench.keeper.error_of("cam") is None
    assert bench.kept().about.cut == 1
    assert bench.counted("snapshots_total") == 1
    assert caplog.text.count("No space left on device (state); tried again") == 1


def test_disk_that_stays_full_is_told_of_at_the_end(bench):
    bench.play(bench.open(), WALK[0])
    bench.disk.is_full = True
    bench.keeper.cut(1)
    [(stream_id, reason)] = bench.keeper.close(10.0).items()
    assert stream_id == "cam"
    assert "No space left" in reason


def test_stream_that_was_stopped_goes_with_the_next_cut_as_it_stood(bench):
    running = bench.open()
    bench.play(running, WALK[0])
    bench.cut(1)
    assert bench.keeper.stop(running)
    assert not bench.keeper.stop(running)
    assert bench.keeper.has_changes
    assert bench.kept().about.cut == 1
    bench.cut(2)
    assert not bench.keeper.has_changes
    assert bench.kept().about.cut == 2
    assert bench.kept().stream.session is not None
    assert not bench.keeper.is_forgetting("cam")
    bench.keeper.note_committed()
    bench.settle()
    assert bench.kept().about.cut == 2


def test_stream_that_has_ended_is_deleted_once_its_end_is_committed(bench):
    running = bench.open()
    bench.play(running, WALK[0])
    bench.cut(1)
    running.stream.end_session("stream_ended", now=START)
    bench.keeper.forget("cam")
    assert bench.keeper.is_forgetting("cam")
    assert bench.keeper.has_changes
    bench.keeper.note_committed()  # of the cut before
    bench.settle()
    assert bench.kept().about.cut == 1
    bench.cut(2)
    assert bench.keeper.is_forgetting("cam")
    assert bench.kept().stream.session is None
    bench.keeper.note_committed()
    bench.settle()
    assert not bench.keeper.is_forgetting("cam")
    assert bench.kept() is None


def test_stream_that_has_ended_and_comes_again_before_the_commit_is_kept(bench):
    bench.play(bench.open(), WALK[0])
    bench.keeper.forget("cam")
    bench.cut(1)
    bench.play(bench.open(), WALK[1])
    bench.keeper.note_committed()
    bench.cut(2)
    assert bench.kept().about.cut == 2
    assert not bench.keeper.is_forgetting("cam")


def test_stream_that_nothing_goes_on_with_is_deleted_once_its_ends_are_out(bench):
    bench.play(bench.open("cam"), WALK[0])
    bench.keeper.stop(bench.open("cam"))
    bench.cut(1)
    bench.keeper.bury("cam")
    assert bench.keeper.is_forgetting("cam")
    bench.cut(2)
    assert bench.kept() is not None
    bench.keeper.note_committed()
    bench.settle()
    assert bench.kept() is None


def test_stream_that_is_not_known_is_not_forgotten(bench):
    bench.keeper.forget("cam")
    assert not bench.keeper.is_forgetting("cam")
    assert not bench.keeper.has_changes


@pytest.mark.parametrize("verb", ["leave", "abandon"])
def test_no_other_worker_finds_what_goes_with_transactions(bench, verb):
    running = bench.open()
    argument = running if verb == "leave" else "cam"
    assert not getattr(bench.keeper, verb)(argument)
    assert not bench.keeper.has_left("cam")
    bench.keeper.forget("cam")
    assert bench.keeper.has_left("cam")
    assert bench.keeper.is_forgetting("cam")


def test_stream_that_cannot_be_saved_begins_anew_and_holds_no_other_up(bench, caplog, monkeypatch):
    save = bench.tracker.save_stream

    def fail(stream_id):
        return save(stream_id) if stream_id == "barn" else {}[stream_id]

    running, other = bench.open(), bench.open("barn")
    bench.play(running, WALK[0])
    bench.play(other, make_walk(1, stream_id="barn")[0])
    bench.cut(1)
    bench.play(running, WALK[1])
    bench.play(other, make_walk(2, stream_id="barn")[1])
    monkeypatch.setattr(bench.tracker, "save_stream", fail)
    bench.keeper.cut(2)
    assert "KeyError" in bench.keeper.error_of("cam")
    bench.settle()
    assert bench.kept() is None
    assert bench.kept("barn").about.cut == 2
    assert "no snapshot could be taken" in caplog.text
    assert bench.counted("snapshot_errors_total") == 1
