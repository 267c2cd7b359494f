"""Partitions leave for other workers with a commit; where they are lost before it, the run ends."""

from connectors.record import Topic
from pipeline.errors import ExitCode
from tests.pipeline.engine.runs import bodies
from tests.pipeline.engine.test_handovers import BARN, GATE
from tests.pipeline.engine.transactions import Books, positions, reading, seqs
from tests.pipeline.fakes import make_walk

WALK = make_walk(24)
OTHER = make_walk(24, stream_id="barn")


def test_partition_goes_at_once_and_when_all_it_led_to_is_committed(run_of):
    run = run_of(books := Books(num_allowed=1), group := reading(p0=WALK[:9], p1=OTHER[:2]))
    run.until_done(11)
    handover = group.revoke(GATE)
    run.until(lambda: books.num_entered == 2)
    assert not handover.over.is_set()
    books.allow()
    run.until(handover.over.is_set)
    assert positions(books) == [{GATE: 9, BARN: 2}]
    group.publish(BARN, OTHER[2:5])
    run.until_done(14)
    run.turn()
    assert len(books.commits) == 1
    run.pass_interval()
    run.until_committed(2)
    assert positions(books)[1] == {BARN: 5}


def test_partition_of_which_nothing_was_read_goes_at_once(run_of):
    run = run_of(books := Books(), group := reading(p0=WALK[:9], p1=[]))
    run.until_done(9)
    run.pass_interval()
    run.until_committed(1)
    handover = group.revoke(BARN)
    run.until(handover.over.is_set)
    assert all(one == {GATE: 9} for one in positions(books))


def test_partition_that_comes_back_at_once_goes_on(run_of):
    run = run_of(books := Books(), group := reading(p0=WALK[:9]))
    run.until_done(9)
    handover = group.revoke(GATE)
    run.until(handover.over.is_set)
    group.committed = positions(books)[-1]
    group.logs[GATE] = WALK[:14]
    group.assign(GATE)
    run.until_done(14)
    run.pass_interval()
    run.until(lambda: positions(books)[-1] == {GATE: 14})
    assert seqs(books) == {"cam": [*range(14)]}


def is_shut_out(run, *places):
    """Play a run to its end, which must come because partitions are another worker's."""
    run.clock.is_hasty = True
    summary = run.play_out()
    assert summary.exit_code() is ExitCode.FAILED
    text = f"another worker has {', '.join(places)} before their results are committed"
    return text in summary.sink_errors["kafka"]


def test_worker_ends_if_partitions_are_lost_with_results_that_wait_for_a_cut(run_of):
    run = run_of(books := Books(), group := reading(p0=WALK[:9], p1=OTHER[:2]))
    run.until_done(11)
    group.revoke(GATE, BARN, is_lost=True)
    assert is_shut_out(run, GATE, BARN)
    assert books.commits == []


def test_worker_ends_if_a_partition_is_lost_with_its_transaction_under_way(run_of):
    run = run_of(books := Books(num_allowed=1), group := reading(p0=WALK[:9]))
    run.until_done(9)
    run.pass_interval()
    run.until(lambda: books.num_entered == 2)
    group.revoke(GATE, is_lost=True)
    assert is_shut_out(run, GATE)
    assert books.commits == []


def test_worker_ends_if_a_partition_that_leaves_is_lost_before_the_commit(run_of):
    run = run_of(books := Books(num_allowed=1), group := reading(p0=WALK[:9]))
    run.until_done(9)
    handover = group.revoke(GATE)
    run.until(lambda: books.num_entered == 2)
    handover.over.set()
    assert is_shut_out(run, GATE)
    assert books.commits == []


def test_worker_ends_if_one_of_two_partitions_that_leave_is_lost(run_of):
    run = run_of(books := Books(num_allowed=1), group := reading(p0=WALK[:9], p1=[]))
    run.until_done(9)
    run.pass_interval()
    run.until(lambda: books.num_entered == 2)
    group.publish(BARN, OTHER[:2])
    run.until_done(11)
    group.revoke(GATE)
    group.revoke(BARN, is_lost=True)
    assert is_shut_out(run, BARN)


def test_lost_partition_of_which_all_is_committed_is_let_go_of(run_of):
    run = run_of(books := Books(), group := reading(p0=WALK[:9], p1=OTHER[:2]))
    run.until_done(11)
    run.pass_interval()
    run.until_committed(1)
    group.revoke(GATE, is_lost=True)
    group.publish(BARN, OTHER[2:5])
    run.until_done(14)
    run.pass_interval()
    run.until(lambda: len(books.commits) > 1 and positions(books)[-1] == {BARN: 5})
    ended = [one["stream_id"] for one in bodies(books, Topic.STATUS) if one["state"] == "ended"]
    assert ended == []


def test_lost_partition_is_let_go_of_while_another_is_committed(run_of):
    run = run_of(books := Books(), group := reading(p0=WALK[:9], p1=OTHER[:2]))
    run.until_done(11)
    run.pass_interval()
    run.until_committed(1)
    books.allow(0)
    group.publish(BARN, OTHER[2:5])
    run.until_done(14)
    run.pass_interval()
    run.until(lambda: books.num_entered == 3)
    group.revoke(GATE, is_lost=True)
    run.turn()
    books.allow()
    run.until(lambda: len(books.commits) > 1 and positions(books)[-1][BARN] == 5)


def test_stream_that_was_lost_and_comes_back_begins_anew(run_of):
    run = run_of(books := Books(), group := reading(p0=WALK[:9]))
    run.until_done(9)
    run.pass_interval()
    run.until_committed(1)
    group.revoke(GATE, is_lost=True)
    run.until(lambda: not list(run.app.engine._parts.table))
    group.committed = positions(books)[0]
    group.logs[GATE] = WALK
    group.assign(GATE)
    run.until_done(24)
    group.end()
    run.play_out()
    events = [(one["event_id"], one["phase"]) for one in bodies(books, Topic.EVENTS)]
    assert len(set(events)) == len(events)
    assert seqs(books) == {"cam": [*range(24)]}
