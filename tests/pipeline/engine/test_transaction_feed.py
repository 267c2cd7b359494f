"""Transactions on their way to a sink: one at a time, again until they are there, or given up."""

import logging

import pytest

from connectors.base import Advance
from connectors.errors import FencedError, SinkUnreachableError
from connectors.record import Topic
from pipeline.clock import ManualClock
from pipeline.engine.log.kinds import Kind
from pipeline.engine.log.record_log import Consumer
from pipeline.engine.sink_watch import Observers, SinkLimits, SinkWatch
from pipeline.engine.transaction_feed import Transaction, TransactionFeed
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from tests.pipeline.engine.log.logs import make_record, make_records, open_log
from tests.pipeline.engine.runs import wait_until
from tests.pipeline.engine.sinks import value_of
from tests.pipeline.engine.transactions import Books

GROUPS = frozenset({"readers"})
AWAY = SinkUnreachableError("books", "away")
FENCED = FencedError("books", "another producer has begun")
MOVED = Advance(group="readers", membership=tuple, first={"f/0": 1}, last={"f/0": 2})


class Bench:
    """A feed over a log in memory, and what it told."""

    def __init__(self, books):
        self.books, self.metrics, clock = books, Metrics(tuple), ManualClock()
        consumer = Consumer(name="books", uses_log=False, is_durable=False, misses_nothing=True)
        self.log = open_log(None, consumer)
        health = Health(clock, stall_s=60)
        self.watch = SinkWatch(
            "books",
            is_durable=True,
            limits=SinkLimits(behind_s=2, down_s=10),
            observers=Observers(metrics=self.metrics, health=health, clock=clock),
        )
        self.progress = []
        self.feed = TransactionFeed(
            books,
            self.watch,
            self.log,
            metrics=self.metrics,
            clock=clock,
            on_progress=lambda: self.progress.append(self.feed.is_free),
        )
        self.feed.open()
        self.feed.start()

    def recovered(self):
        assert self.feed.recover(GROUPS, 10.0) is not None
        return self

    def append(self, *records):
        for record in records:
            kind = next(kind for kind in Kind if make_record(0, kind).topic is record.topic)
            self.log.append(kind, [record])

    def put(self, advances=(MOVED,), pointer="w#1", **last_seq):
        """Have all records committed, or those up to some numbers."""
        last = {kind: last_seq.get(kind.value, self.log.last_seq(kind)) for kind in Kind}
        self.feed.put(Transaction(last_seq=last, advances=advances, pointer=pointer))

    def committed(self, num):
        wait_until(lambda: len(self.books.commits) == num and self.feed.is_free, seconds=10)

    def entered(self, num):
        """Wait until the sink was called so often."""
        wait_until(lambda: self.books.num_entered == num, seconds=10)

    def ends(self):
        return self.feed.join(10.0)

    def counted(self, name, **labels):
        return value_of(self.metrics, name, sink="books", **labels) or 0


@pytest.fixture
def bench_of():
    made = []

    def make(books):
        made.append(Bench(books))
        return made[-1]

    yield make
    for bench in made:
        bench.feed.interrupt()
        bench.ends()
        bench.log.close()


def numbers(committed):
    return [record.timestamp_ms for record in committed.records]


def test_writer_before_is_shut_out_once_and_leaves_its_pointers(bench_of):
    bench = bench_of(books := Books(pointers=("w#3",)))
    assert bench.feed.recover(GROUPS, 10.0) == ("w#3",)
    assert bench.feed.recover(GROUPS, 10.0) == ("w#3",)
    assert books.asked == [GROUPS]
    assert bench.feed.is_free


def test_sink_that_is_away_is_asked_again_until_it_answers(bench_of):
    bench = bench_of(books := Books(num_allowed=0))
    books.errors.append(AWAY)
    assert bench.feed.recover(GROUPS, 0.01) is None
    books.allow()
    assert bench.feed.recover(GROUPS, 10.0) == ()
    wait_until(lambda: bench.watch.error is None)
    assert bench.counted("sink_errors_total") == 1


def test_transaction_takes_records_up_to_its_numbers_with_positions_and_pointer(bench_of):
    bench = bench_of(books := Books()).recovered()
    bench.append(
        *make_records(1, 3), *make_records(4, 5, Kind.TRACKS), make_record(6, Kind.MASKLETS)
    )
    assert books.commits == []
    bench.put(alerts=2, tracks=1)
    bench.committed(1)
    [first] = books.commits
    assert numbers(first) == [1, 2, 4, 6]
    assert (first.advances, first.pointer) == ((MOVED,), "w#1")
    wait_until(lambda: bench.progress == [True])
    assert bench.feed.num_waiting == 2
    assert bench.feed.has_output
    assert bench.counted("records_delivered_total", topic=Topic.EVENTS.value) == 2
    bench.put(pointer="w#2")
    bench.committed(2)
    assert numbers(books.commits[1]) == [3, 5]
    assert bench.feed.num_waiting == 0


def test_transaction_is_under_way_until_it_is_committed(bench_of):
    bench = bench_of(books := Books(num_allowed=1)).recovered()
    bench.append(make_record(1))
    bench.put()
    bench.entered(2)
    assert not bench.feed.is_free
    assert bench.feed.num_waiting == 1
    books.allow()
    bench.committed(1)


@pytest.mark.parametrize("error", [AWAY, ZeroDivisionError("a bug")])
def test_transaction_that_fails_is_made_again_as_it_was(bench_of, error, caplog):
    bench = bench_of(books := Books()).recovered()
    books.errors += [error, error]
    bench.append(make_record(1))
    bench.put()
    bench.committed(1)
    assert (numbers(books.commits[0]), books.commits[0].pointer) == ([1], "w#1")
    assert bench.counted("sink_errors_total") == 2
    wait_until(lambda: bench.watch.error is None)
    has_traceback = any(one.exc_info for one in caplog.records)
    assert has_traceback == (error is not AWAY)


def test_writer_that_is_shut_out_gives_up_and_says_so(bench_of):
    bench = bench_of(books := Books()).recovered()
    books.errors.append(FENCED)
    bench.append(make_record(1))
    bench.put()
    assert bench.ends()
    assert bench.feed.fenced is FENCED
    assert bench.progress == [False]
    assert books.commits == []
    assert books.is_closed
    assert books.num_entered == 2
    left = bench.feed.tell_left(1)
    assert left.is_failure
    assert left.num_kept is None
    assert left.text == f"{FENCED}; 1 records come again, with the frames that led to them"


def test_writer_that_is_shut_out_from_the_start_gives_up(bench_of):
    books = Books()
    books.errors.append(FENCED)
    bench = bench_of(books)
    assert bench.feed.recover(GROUPS, 0.01) is None
    assert bench.ends()
    assert bench.feed.fenced is FENCED
    assert books.is_closed


def test_feed_that_has_lost_its_partitions_breaks_off_and_says_why(bench_of, caplog):
    bench = bench_of(books := Books(num_allowed=1)).recovered()
    bench.append(*make_records(1, 2))
    bench.put(alerts=1)
    bench.entered(2)
    with caplog.at_level(logging.WARNING, "maskstream.sink"):
        bench.feed.lose(FENCED)
        assert bench.ends()
    assert books.commits == []
    assert (bench.feed.fenced, bench.watch.error) == (FENCED, str(FENCED))
    assert f"{FENCED}; given up" in caplog.text
    assert books.is_closed


def test_what_no_frame_has_led_to_is_written_at_the_end_without_positions(bench_of):
    bench = bench_of(books := Books()).recovered()
    bench.append(make_record(1), make_record(2, Kind.TRACKS))
    bench.put()
    bench.committed(1)
    bench.append(make_record(3), make_record(4, Kind.MASKLETS))
    books.errors.append(AWAY)
    bench.feed.drain()
    assert bench.ends()
    assert [(numbers(one), one.advances, one.pointer) for one in books.commits[1:]] == [
        ([3, 4], (), "")
    ]
    assert bench.feed.num_waiting == 0
    assert books.is_closed


def test_end_without_anything_left_is_no_transaction(bench_of):
    bench = bench_of(books := Books()).recovered()
    bench.feed.drain()
    assert bench.ends()
    assert books.commits == []
    assert books.is_closed


def test_end_before_any_source_was_to_read_asks_for_nothing(bench_of):
    bench = bench_of(books := Books())
    bench.append(make_record(1))
    bench.feed.drain()
    assert bench.ends()
    assert (books.asked, books.commits) == ([], [])
    assert books.is_closed


def test_given_transaction_is_committed_at_the_end_and_frames_behind_it_left(bench_of):
    bench = bench_of(books := Books(num_allowed=1)).recovered()
    bench.append(*make_records(1, 3))
    bench.put(alerts=2)
    bench.entered(2)
    bench.feed.leave_rest()
    bench.feed.drain()
    books.allow()
    assert bench.ends()
    assert [numbers(one) for one in books.commits] == [[1, 2]]
    left = bench.feed.tell_left(bench.feed.num_waiting)
    assert (left.num_kept, left.is_failure) == (1, False)
    assert left.text.startswith("ended between two transactions; 1 records come again")


def test_interrupted_commit_ends_and_leaves_all_for_the_next_run(bench_of):
    bench = bench_of(books := Books(num_allowed=1)).recovered()
    bench.append(*make_records(1, 2))
    bench.put(alerts=1)
    bench.entered(2)
    bench.feed.interrupt()
    assert bench.ends()
    assert books.commits == []
    assert books.num_entered == 2
    assert bench.feed.num_waiting == 2
    assert "interrupted" in bench.feed.tell_left(2).text


def test_interrupted_feed_that_waits_ends_and_writes_nothing(bench_of):
    bench = bench_of(books := Books()).recovered()
    bench.append(make_record(1))
    bench.feed.interrupt()
    assert bench.ends()
    assert books.commits == []
    assert books.is_closed


def test_rest_that_cannot_be_written_is_left_once_there_is_no_time(bench_of):
    bench = bench_of(books := Books(num_allowed=1)).recovered()
    bench.append(make_record(1))
    bench.feed.drain()
    bench.entered(2)
    bench.feed.interrupt()
    assert bench.ends()
    assert (books.commits, books.num_entered) == ([], 2)


def test_refused_record_is_left_out_and_its_letter_goes_next(bench_of, caplog):
    caplog.set_level(logging.ERROR)
    bench = bench_of(books := Books(refuses=frozenset({Topic.EVENTS}))).recovered()
    bench.append(make_record(1))
    bench.put()
    bench.committed(1)
    assert books.commits[0].records == ()
    assert bench.counted("records_refused_total") == 1
    assert bench.counted("records_delivered_total", topic=Topic.EVENTS.value) == 0
    assert not bench.feed.has_output
    assert bench.feed.num_waiting == 1
    bench.put(pointer="w#2")
    bench.committed(2)
    assert [record.topic for record in books.records] == [Topic.DLQ]
    assert bench.feed.num_waiting == 0
