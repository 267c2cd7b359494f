"""What is committed together: when, behind which frames, and what partitions and ends wait for."""

import threading
from functools import partial

import pytest

from connectors.errors import FencedError, NotWritableError, SinkUnreachableError
from connectors.record import Topic
from pipeline.engine.state.snapshot_folder import SnapshotFolder
from pipeline.errors import ExitCode
from tests.pipeline.engine.runs import bodies
from tests.pipeline.engine.sinks import GateSink
from tests.pipeline.engine.state.test_resuming import told
from tests.pipeline.engine.test_handovers import BARN, GATE
from tests.pipeline.engine.transactions import (
    INTERVAL_S,
    PATIENCE_S,
    Books,
    Partitions,
    positions,
    reading,
    seqs,
)
from tests.pipeline.fakes import make_walk

WALK = make_walk(24)
OTHER = make_walk(24, stream_id="barn")


# When


def test_results_are_committed_once_the_interval_is_over_and_not_before(run_of):
    run = run_of(books := Books(), group := reading(p0=WALK[:9]))
    run.until_done(9)
    run.clock.advance(INTERVAL_S - 0.1)
    run.turn()
    assert books.commits == []
    run.clock.advance(0.1)
    run.until_committed(1)
    group.publish(GATE, WALK[9:12])
    run.until_done(12)
    run.turn()
    group.publish(GATE, WALK[12:14])
    run.until_done(14)
    run.pass_interval()
    run.until_committed(2)
    assert positions(books) == [{GATE: 9}, {GATE: 14}]
    assert [seqs(one)["cam"] for one in books.commits] == [[*range(9)], [*range(9, 14)]]
    assert [one.pointer for one in books.commits] == ["writer#1", "writer#2"]


def test_nothing_new_is_no_transaction(run_of):
    run = run_of(books := Books(), group := reading(p0=WALK[:9]))
    run.until_done(9)
    run.pass_interval()
    run.until_committed(1)
    run.pass_interval()
    run.turn()
    assert len(books.commits) == 1
    group.publish(GATE, WALK[9:10])
    run.until_committed(2)
    assert positions(books)[1] == {GATE: 10}


def test_many_results_are_committed_before_the_interval_is_over(run_of):
    run = run_of(books := Books(num_allowed=1), group := reading(p0=WALK[:12]), most=5)
    run.until(lambda: books.num_entered == 2)
    run.until_done(12)
    books.allow(1)
    run.until_committed(1)
    run.until(lambda: books.num_entered == 3)
    books.allow()
    run.until_committed(2)
    assert positions(books)[-1] == {GATE: 12}
    group.publish(GATE, WALK[12:14])
    run.until_done(14)
    run.turn()
    group.publish(GATE, WALK[14:17])
    run.until_committed(3)
    assert positions(books)[-1] == {GATE: 17}


def test_end_of_the_source_is_committed_at_once_with_all_it_led_to(run_of):
    group = reading(p0=WALK)
    group.end()
    summary = run_of(books := Books(), group).play_out()
    assert summary.exit_code() is ExitCode.DONE
    assert summary.unfinished == ()
    assert positions(books)[-1] == {GATE: 24}
    assert [one["state"] for one in bodies(books, Topic.STATUS)][-1] == "ended"
    ends = [one["phase"] for one in bodies(books, Topic.EVENTS)]
    assert ends == ["new", "new", "end", "end"]
    assert group.is_closed


def test_next_cut_waits_for_the_transaction_before(run_of):
    run = run_of(books := Books(num_allowed=1), group := reading(p0=WALK[:9]))
    run.until_done(9)
    run.pass_interval()
    run.until(lambda: books.num_entered == 2)
    group.publish(GATE, WALK[9:])
    run.until_done(24)
    run.pass_interval()
    run.turn()
    assert books.commits == []
    books.allow()
    run.until_committed(2)
    assert positions(books) == [{GATE: 9}, {GATE: 24}]


# What


def test_streams_that_are_ahead_wait_until_all_before_them_is_done(run_of):
    walks = [*WALK[:3], *OTHER[:3]]
    run = run_of(books := Books(), group := Partitions(p0=walks), most=3)
    group.assign(GATE)
    run.until_done(6)
    run.until_committed(1)
    assert positions(books)[0][GATE] == sum(map(len, seqs(books.commits[0]).values()))
    run.pass_interval()
    run.until(lambda: positions(books)[-1] == {GATE: 6})
    assert {name: sorted(found) for name, found in seqs(books).items()} == {
        "cam": [0, 1, 2],
        "barn": [0, 1, 2],
    }


def test_positions_name_their_group_and_its_reader_and_where_they_began(run_of):
    run = run_of(books := Books(), group := reading(p0=WALK[:4], p1=OTHER[:6]))
    run.until_done(10)
    run.pass_interval()
    run.until_committed(1)
    group.publish(GATE, WALK[4:8])
    run.until_done(14)
    run.pass_interval()
    run.until_committed(2)
    [first], [second] = (one.advances for one in books.commits)
    assert books.asked == [{"readers"}]
    assert (first.group, dict(first.first)) == ("readers", {GATE: 1, BARN: 1})
    assert dict(second.first) == {GATE: 5}
    assert dict(second.last) == {GATE: 8, BARN: 6}
    assert first.membership([GATE]) == (GATE,)
    group.revoke(GATE)
    assert first.membership([GATE]) is None


def test_source_that_has_read_nothing_moves_nothing(run_of):
    groups = {"cam": reading(p0=WALK[:5]), "barn": Partitions()}

    def build(stream, position):
        return groups[stream.id]

    run = run_of(books := Books(), groups["cam"], "cam", "barn", build=build)
    run.until_done(5)
    run.pass_interval()
    run.until_committed(1)
    assert books.asked == [{"readers", "barn"}]
    [moved] = books.commits[0].advances
    assert (moved.group, dict(moved.last)) == ("readers", {GATE: 5})


def test_frames_that_lead_to_nothing_are_passed_all_the_same(run_of):
    run = run_of(books := Books(), group := reading(p0=WALK[:4]), "cam")
    run.until_done(4)
    run.pass_interval()
    run.until_committed(1)
    group.publish(GATE, OTHER[:3])
    run.pass_interval()
    run.until_committed(2)
    run.until(lambda: not group.waiting)
    run.pass_interval()
    run.until(lambda: positions(books)[-1] == {GATE: 7})
    assert seqs(books) == {"cam": [0, 1, 2, 3]}


def test_transaction_waits_for_what_the_other_sinks_have(run_of):
    other = GateSink()
    run = run_of(books := Books(), reading(p0=WALK[:4]), others=[other])
    run.until_done(4)
    run.pass_interval()
    run.until(other.entered.is_set)
    run.turn()
    assert books.commits == []
    other.gate.set()
    run.until_committed(1)
    assert len(other.records) == len(books.records)


def test_transaction_waits_for_a_disk_that_was_full(run_of, monkeypatch):
    full = threading.Event()
    full.set()

    class FullFolder(SnapshotFolder):
        def save(self, snapshot):
            if full.is_set():
                raise NotWritableError("state", "No space left on device")
            return super().save(snapshot)

    monkeypatch.setattr("pipeline.app.SnapshotFolder", FullFolder)
    run = run_of(books := Books(), reading(p0=WALK[:4]))
    run.until_done(4)
    run.pass_interval()
    parts = run.app.engine._parts
    run.until(lambda: parts.keeper.error_of("cam"))
    assert "No space left" in parts.keeper.error_of("cam")
    full.clear()
    run.turn()
    assert books.commits == []
    run.clock.advance(1.0)
    run.until_committed(1)
    assert parts.keeper.error_of("cam") is None


# Restarts


def test_sources_read_nothing_until_the_writer_before_is_shut_out(run_of):
    books, opened = Books(num_allowed=0), []
    group = reading(p0=WALK[:4])
    group.open = partial(opened.append, True)
    run = run_of(books, group)
    run.turn()
    assert opened == []
    books.allow()
    run.until_done(4)
    assert opened == [True]
    assert books.asked == [{"readers"}]


def test_stop_while_the_sink_is_away_at_the_start_ends_the_run(run_of):
    books = Books(num_allowed=0)
    run = run_of(books, group := reading(p0=WALK[:4]))
    run.turn()
    run.app.engine.stop()
    run.clock.is_hasty = True
    run.play_out()
    assert (books.asked, books.commits) == ([], [])
    assert len(group.waiting) == 4


@pytest.mark.parametrize(
    ("pointers", "expected"),
    [
        ((), "writer#1"),
        (("",), "writer#1"),
        (("writer#7", "writer#3"), "writer#8"),
        (("other#9", "writer#2"), "writer#3"),
        (("writer#x", "writer", "9"), "writer#1"),
    ],
)
def test_transactions_are_counted_on_from_this_writers_pointer(run_of, pointers, expected):
    group = reading(p0=WALK[:4])
    group.end()
    run_of(books := Books(pointers=pointers), group).play_out()
    assert books.commits[0].pointer == expected


def test_stream_goes_on_from_its_last_transaction_as_if_never_broken_off(run_of):
    whole, group = Books(), reading(p0=WALK)
    run = run_of(whole, group, name="whole")
    run.until_done(24)
    run.pass_interval()
    run.until_committed(1)
    run.close()

    books, group = Books(), reading(p0=WALK[:9])
    run = run_of(books, group)
    run.until_done(9)
    run.pass_interval()
    run.until_committed(1)
    books.allow(0)
    group.publish(GATE, WALK[9:14])
    run.until_done(14)
    run.pass_interval()
    run.until(lambda: books.num_entered == 3)  # with the second cut's snapshot on disk
    run.close()
    assert len(books.commits) == 1

    after, group = Books(pointers=("writer#1",)), Partitions(p0=WALK)
    group.committed = books.commits[0].positions
    group.assign(GATE)
    run = run_of(after, group)
    run.until_done(15)
    run.pass_interval()
    run.until_committed(1)
    assert after.commits[0].pointer == "writer#2"
    assert told(books, after) == told(whole)


def test_results_without_a_transaction_are_not_written_when_the_run_is_broken_off(run_of):
    run = run_of(books := Books(), reading(p0=WALK[:9]))
    run.until_done(9)
    run.close()
    assert books.commits == []


def test_worker_that_is_shut_out_ends_as_failed(run_of):
    books = Books()
    run = run_of(books, reading(p0=WALK[:9]))
    run.until_done(9)
    books.errors.append(FencedError("books", "another producer has begun"))
    run.pass_interval()
    summary = run.play_out()
    assert "another producer has begun" in summary.sink_errors["kafka"]
    assert summary.exit_code() is ExitCode.FAILED
    assert books.commits == []


# Ends


def test_source_that_has_ended_stays_until_its_last_frames_are_committed(run_of):
    other = GateSink()
    group = reading(p0=WALK[:4])
    group.end()
    run = run_of(books := Books(), group, others=[other])
    run.until(other.entered.is_set)
    run.turn()
    assert not group.is_closed
    assert run.app.engine._parts.table.sources
    other.gate.set()
    run.play_out()
    assert group.is_closed
    assert positions(books)[-1] == {GATE: 4}


def test_sink_that_is_away_is_waited_for_with_patience_that_each_commit_renews(run_of):
    run = run_of(books := Books(num_allowed=1), group := reading(p0=WALK[:9]))
    run.until_done(9)
    run.pass_interval()
    run.until(lambda: books.num_entered == 2)
    group.publish(GATE, WALK[9:])
    group.end()
    run.until_done(24)
    [source] = run.app.engine._parts.table.sources
    run.until(lambda: source.last_delivery is not None)
    run.clock.advance(PATIENCE_S - 1)
    books.allow(1)
    run.until(lambda: books.num_entered == 3)
    run.clock.advance(PATIENCE_S - 1)
    run.turn()
    assert not group.is_closed
    group.on_close = books.allow  # it is back just then
    run.clock.advance(1)
    run.play_out()
    assert positions(books) == [{GATE: 9}, {GATE: 24}]
    assert [one.pointer for one in books.commits] == ["writer#1", "writer#2"]


def test_what_patience_has_left_out_is_not_written_without_its_positions(run_of):
    other = GateSink()
    group = reading(p0=WALK[:4])
    group.end()
    run = run_of(books := Books(), group, others=[other])
    run.until(other.entered.is_set)
    group.on_close = other.gate.set
    [source] = run.app.engine._parts.table.sources
    run.until(lambda: source.last_delivery is not None)
    run.clock.advance(PATIENCE_S)
    summary = run.play_out()
    assert books.commits == []
    assert summary.num_kept["kafka"] > 0
    assert "come again" in summary.sink_errors["kafka"]


def test_streams_that_end_leave_no_state_once_their_ends_are_committed(run_of, tmp_path):
    group = reading(p0=WALK[:4])
    run = run_of(books := Books(num_allowed=1), group)
    run.until_done(4)
    group.end()
    run.until(lambda: books.num_entered == 2)
    folder = tmp_path / "state/snapshots"
    assert [path.name for path in folder.glob("*")] == ["cam"]
    books.allow()
    run.play_out()
    assert list(folder.glob("*")) == []


def test_letters_of_records_that_were_refused_last_are_written_at_the_end(run_of):
    group = reading(p0=WALK[:4])
    group.end()
    summary = run_of(books := Books(refuses=frozenset({Topic.MASKLETS})), group).play_out()
    assert len(books.of(Topic.DLQ)) == 4
    assert positions(books)[-2:] == [{GATE: 4}, {}]
    assert summary.sink_errors == {}


def test_failed_commit_is_made_again_and_nothing_is_lost(run_of):
    books = Books()
    run = run_of(books, reading(p0=WALK[:9]))
    run.until_done(9)
    books.errors.append(SinkUnreachableError("books", "away"))
    run.pass_interval()
    run.until_committed(1)
    assert seqs(books) == {"cam": [*range(9)]}
