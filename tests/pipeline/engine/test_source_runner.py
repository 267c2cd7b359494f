"""Sources on their own threads: they end, fail, come back, hang, and are told to stop."""

import threading
from contextlib import contextmanager

import pytest

from connectors.base import Handover
from connectors.errors import (
    CorruptMediaError,
    NotFoundError,
    UnauthorizedError,
    UnreachableError,
)
from connectors.memory import Disconnect, MemorySource, Pause
from pipeline.clock import ManualClock, SystemClock
from pipeline.config.sections.stream import Overflow
from pipeline.engine.buffer import FrameBuffer
from pipeline.engine.inbox import (
    FileSkipped,
    Inbox,
    PartitionsLeave,
    SourceEnded,
    SourceLost,
    SourceOpened,
    UnknownStream,
)
from pipeline.engine.ledger import Ledger
from pipeline.engine.retry import HostLimit
from pipeline.engine.source_runner import RunnerParts, SourceRunner
from tests.pipeline.engine.runs import CAMERA, FILE, SOON, make_config, wait_until
from tests.pipeline.fakes import make_frame, make_walk


class Bench:
    """A runner without an engine: its inbox is drained by hand, its one buffer holds all."""

    def __init__(
        self, build, *, source=FILE, retry=SOON, overflow="wait", capacity=256, clock=None
    ):
        self.inbox, self.ledger, self.news = Inbox(), Ledger(), []
        config = make_config(source=source, retry=retry).streams[0]
        self.parts = RunnerParts(
            build=build,
            host_of=lambda stream: None,
            inbox=self.inbox,
            ledger=self.ledger,
            hosts=HostLimit(4),
            clock=clock or SystemClock(),
        )
        self.runner = SourceRunner(7, config, self.parts)
        self.buffer = FrameBuffer(
            "cam",
            capacity=capacity,
            overflow=Overflow(overflow),
            ledger=self.ledger,
            on_frame=lambda: None,
        )
        self.runner.router.open("cam", self.buffer)

    def await_news(self, kind, num=1):
        def has_come():
            self.news += self.inbox.drain()
            return sum(isinstance(one, kind) for one in self.news) >= num

        wait_until(has_come)
        return [one for one in self.news if isinstance(one, kind)]

    def seqs(self):
        return [arrived.frame.frame_seq for arrived in iter(self.buffer.take, None)]


@contextmanager
def bench(build, **fields):
    one = Bench(build, **fields)
    one.runner.start()
    try:
        yield one
    finally:
        one.runner.finish()
        one.runner.stop()
        one.buffer.close()
        one.inbox.close()


def playing(*script, kind=MemorySource, built=None, **fields):
    def build(stream, position):
        source = kind(script, stream_id=stream.id, position=position, **fields)
        if built is not None:
            built.append((source, position))
        return source

    return build


def test_a_source_is_opened_read_ended_and_closed():
    built = []
    with bench(playing(*make_walk(5), built=built)) as one:
        [ended] = one.await_news(SourceEnded)
        assert [type(news) for news in one.news] == [SourceOpened, SourceEnded]
        assert (ended.source, ended.error) == (7, None)
        assert one.seqs() == list(range(5))
        assert one.runner.join(10)
        assert built[0][0]._closed.is_set()


def test_a_lost_source_is_built_anew_where_it_was_lost():
    built = []
    walk = make_walk(4)
    with bench(playing(*walk[:2], Disconnect(), *walk[2:], built=built)) as one:
        one.await_news(SourceEnded)
        kinds = [type(news) for news in one.news]
        assert kinds == [SourceOpened, SourceLost, SourceOpened, SourceEnded]
        assert [position for _, position in built] == [None, {"index": 3, "lost_connections": 1}]
        assert built[0][0]._closed.is_set()
        assert one.seqs() == list(range(4))


def test_the_wait_is_short_again_after_a_connection_that_lasted():
    clock = ManualClock()
    script = [*[Disconnect()] * 5, Pause(30.0), Disconnect()]
    with bench(playing(*script, wait=clock.advance), clock=clock) as one:
        one.await_news(SourceEnded)
        waits = [news.retry_s for news in one.await_news(SourceLost, num=6)]
    assert waits[5] <= SOON["initial_s"] < waits[4]


class Away(MemorySource):
    """Nobody answers the first times."""

    num_left = 0
    error = UnreachableError("cam", "nobody answers")

    def open(self):
        if type(self).num_left:
            type(self).num_left -= 1
            raise self.error
        super().open()


@pytest.mark.parametrize(
    "error", [UnreachableError("cam", "nobody answers"), UnauthorizedError("cam", "401")]
)
def test_a_camera_that_is_down_at_the_start_is_tried_until_it_is_there(error):
    late = type("Late", (Away,), {"num_left": 40, "error": error})
    with bench(playing(*make_walk(3), kind=late), source=CAMERA) as one:
        one.await_news(SourceEnded)
        assert sum(isinstance(news, SourceLost) for news in one.news) == 40
        assert one.seqs() == [0, 1, 2]


def test_an_error_that_cannot_pass_ends_the_source_at_once():
    gone = type("Gone", (Away,), {"num_left": 9, "error": NotFoundError("cam", "no such file")})
    with bench(playing(kind=gone)) as one:
        [ended] = one.await_news(SourceEnded)
        assert isinstance(ended.error, NotFoundError)
        assert gone.num_left == 8


class Buggy(MemorySource):
    def read(self):
        raise ZeroDivisionError("oops")


def test_a_bug_ends_a_file_and_is_tried_again_on_a_camera():
    with bench(playing(kind=Buggy)) as one:
        [ended] = one.await_news(SourceEnded)
        assert isinstance(ended.error, ZeroDivisionError)
    with bench(playing(kind=Buggy), source=CAMERA) as one:
        assert len(one.await_news(SourceLost, num=3)) >= 3


def test_bad_files_in_a_row_are_told_and_reading_goes_on():
    class Card(MemorySource):
        def read(self):
            if self._next < 20:
                self._next += 1
                raise CorruptMediaError("cam", f"file {self._next}", continues=True)
            return super().read()

    with bench(playing(*make_walk(22), kind=Card)) as one:
        one.await_news(SourceEnded)
        assert sum(isinstance(news, FileSkipped) for news in one.news) == 20
        assert one.seqs() == [20, 21]
        assert sum(isinstance(news, SourceOpened) for news in one.news) == 1


def test_frames_are_stamped_with_their_arrival():
    clock = SystemClock()
    before_us = clock.monotonic_s() * 1e6
    with bench(playing(make_frame())) as one:
        one.await_news(SourceEnded)
        arrived = one.buffer.take()
    assert before_us - 1 <= arrived.arrived_us <= clock.monotonic_s() * 1e6 + 1


def test_stop_ends_a_read_that_waits():
    with bench(playing(make_frame(), Pause(600))) as one:
        wait_until(lambda: one.buffer.num_frames)
        one.runner.stop()
        [ended] = one.await_news(SourceEnded)
        assert ended.error is None
        assert one.runner.join(10)


def test_stop_ends_the_wait_for_the_next_try():
    late = type("Late", (Away,), {"num_left": 9})
    waits = {"initial_s": 3600.0, "maximum_s": 3600.0}
    with bench(playing(kind=late), source=CAMERA, retry=waits) as one:
        one.await_news(SourceLost)
        one.runner.stop()
        one.await_news(SourceEnded)


def test_stop_lets_go_of_a_frame_whose_stream_nobody_opens():
    with bench(playing(make_frame(stream_id="other"))) as one:
        pass
    one = Bench(playing(make_frame(stream_id="a")))
    one.runner = SourceRunner(7, make_config("*").streams[0], one.parts)
    one.runner.start()
    wait_until(lambda: any("UnknownStream" in repr(n) for n in one.inbox.drain()))
    one.runner.stop()
    one.await_news(SourceEnded)
    assert one.ledger.counts("*").dropped == {"stopped": 1}


def test_a_source_that_neither_opens_nor_lets_go_holds_nobody_up():
    stuck, release = threading.Event(), threading.Event()

    class Hung(MemorySource):
        def open(self):
            stuck.set()
            release.wait(60)

        def close(self):
            release.wait(60)

    with bench(playing(kind=Hung)) as one:
        assert stuck.wait(10)
        one.runner.stop()
        assert not one.runner.join(0.05)
        release.set()
        assert one.runner.join(10)


class Committing(MemorySource):
    """Keeps its position elsewhere."""

    commits = ()

    def commit(self, position):
        type(self).commits += (dict(position),)


def test_marks_reach_the_source_at_once_and_the_last_one_before_it_is_closed():
    kind = type("Kept", (Committing,), {})
    walk = make_walk(6)
    with bench(playing(*walk[:3], Pause(0.2), *walk[3:], kind=kind)) as one:
        wait_until(lambda: one.buffer.num_frames == 3)
        one.runner.commit({"index": 2})
        one.await_news(SourceEnded)
        assert kind.commits == ({"index": 2},)
        assert not one.runner.join(0.05)
        one.runner.commit({"index": 5})
        one.runner.commit({"index": 6})
        one.runner.finish()
        assert one.runner.join(10)
    assert kind.commits == ({"index": 2}, {"index": 5}, {"index": 6})


def test_a_mark_that_comes_while_a_source_is_away_reaches_the_next_one():
    kind = type("Kept", (Committing,), {})
    walk = make_walk(4)
    retry = {**SOON, "initial_s": 0.2, "maximum_s": 0.2}
    with bench(playing(*walk[:2], Disconnect(), *walk[2:], kind=kind), retry=retry) as one:
        one.await_news(SourceLost)
        one.runner.commit({"index": 2})
        one.await_news(SourceEnded)
        assert kind.commits == ({"index": 2},)


class Forgetful(Committing):
    """Takes marks while it is open, and loses them with its connection."""

    is_open = False

    def open(self):
        super().open()
        self.is_open = True

    def commit(self, position):
        if self.is_open:
            super().commit(position)


def test_marks_that_a_lost_source_may_not_have_committed_are_given_to_the_next_one():
    kind = type("Kept", (Forgetful,), {})
    walk = make_walk(2)
    retry = {**SOON, "initial_s": 0.2, "maximum_s": 0.2}
    with bench(playing(*walk, Pause(0.2), Disconnect(), kind=kind), retry=retry) as one:
        wait_until(lambda: one.buffer.num_frames == 2)
        one.runner.commit({"a/0": 2, "a/1": 1})
        one.await_news(SourceLost)
        one.runner.commit({"a/0": 3})
        one.await_news(SourceEnded)
    assert kind.commits == ({"a/0": 2, "a/1": 1}, {"a/0": 3, "a/1": 1})


def test_every_frame_has_a_ticket_and_the_end_of_the_source_too():
    kind = type("Kept", (Committing,), {})
    with bench(playing(*make_walk(2), kind=kind)) as one:
        one.await_news(SourceEnded)
        log = one.runner.commits
        assert len(log) == 3
        for arrived in iter(one.buffer.take, None):
            arrived.ticket.finish()
        assert log.take_mark(0) == {"index": 2, "lost_connections": 0}


def test_a_bad_file_is_passed_in_the_position_too():
    class Card(Committing):
        def read(self):
            self._next += 1
            if self._next > 3:
                return super().read()
            behind = {"index": self._next}
            raise CorruptMediaError("cam", "bad", continues=True, resume_position=behind)

    with bench(playing(kind=Card)) as one:
        one.await_news(FileSkipped, num=3)
        wait_until(lambda: len(one.runner.commits) >= 3)
        assert one.runner.commits.take_mark(0)["index"] >= 3


def test_a_frame_that_was_lost_by_stopping_is_never_passed():
    kind = type("Kept", (Committing,), {})
    with bench(playing(*make_walk(9), kind=kind), capacity=2) as one:
        wait_until(lambda: one.ledger.counts("cam").received == 3)  # the third waits for room
        one.runner.stop()
        one.buffer.take().ticket.finish()
        one.buffer.close()
        one.await_news(SourceEnded)
        assert one.runner.commits.take_mark(100) == {"index": 1, "lost_connections": 0}


class SharedSource(MemorySource):
    """Whose only frame is of a partition that leaves before it is read, or while it waits."""

    on_handover = None
    held = True

    def commit(self, position):
        """Nothing is kept."""

    def holds(self, position):
        return self.held


def test_partitions_that_leave_are_told_of_as_their_reader_hears_of_it():
    built = []
    with bench(playing(Pause(600), kind=SharedSource, built=built)) as one:
        one.await_news(SourceOpened)
        handover = Handover(partitions=frozenset({"frames/0"}))
        built[0][0].on_handover(handover)
        [news] = one.await_news(PartitionsLeave)
    assert (news.source, news.handover) == (7, handover)


class GoneSource(SharedSource):
    held = False


def test_frame_of_a_partition_that_has_left_goes_nowhere_and_holds_nothing_back():
    with bench(playing(*make_walk(1), kind=GoneSource)) as one:
        one.await_news(SourceEnded)
        assert one.seqs() == []
        assert one.ledger.counts("cam").dropped == {"moved": 1}
        assert one.runner.commits.take_mark(0) == {"index": 1, "lost_connections": 0}  # the end


def test_frame_that_waits_for_its_stream_is_dropped_when_its_partition_leaves():
    is_forgotten = threading.Event()
    script = (Pause(1.0), *make_walk(1))
    build = playing(*script, kind=SharedSource, wait=lambda _: is_forgotten.wait(10))
    with bench(build) as one:
        one.runner.router.forget("cam")
        is_forgotten.set()
        unknown = one.await_news(UnknownStream)[0]
        one.runner.commits.take_out({"index", "lost_connections"})
        assert unknown.ticket.is_void
        one.runner.router.open("cam", one.buffer)
        one.await_news(SourceEnded)
        assert one.seqs() == []
        assert one.ledger.counts("cam").dropped == {"moved": 1}
