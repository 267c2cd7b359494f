"""The committed position never passes a frame whose result is not safe."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.commits import CommitLog


def begin(log, *offsets):
    return [log.begin({"frames/0": offset}) for offset in offsets]


def test_mark_follows_results_that_are_acknowledged():
    log = CommitLog()
    first, second = begin(log, 1, 2)
    first.finish(delivery=7)
    second.finish(delivery=8)
    assert log.take_mark(acknowledged=6) is None
    assert log.take_mark(acknowledged=7) == {"frames/0": 1}
    assert log.take_mark(acknowledged=8) == {"frames/0": 2}
    assert len(log) == 0


def test_mark_waits_for_the_first_frame_that_is_not_done():
    log = CommitLog()
    first, second = begin(log, 1, 2)
    second.finish(delivery=1)
    assert log.take_mark(acknowledged=9) is None
    first.finish(delivery=5)
    assert log.take_mark(acknowledged=9) == {"frames/0": 2}


def test_frame_that_was_lost_is_never_passed():
    log = CommitLog()
    done, _lost, behind = begin(log, 1, 2, 3)
    done.finish()
    behind.finish(delivery=1)
    assert log.take_mark(acknowledged=100) == {"frames/0": 1}
    assert log.take_mark(acknowledged=100) is None


def test_frame_without_a_result_is_done_at_once():
    log = CommitLog()
    [dropped] = begin(log, 4)
    dropped.finish()
    assert log.take_mark(acknowledged=0) == {"frames/0": 4}


def test_mark_names_only_what_has_moved():
    log = CommitLog()
    log.begin({"frames/0": 1}).finish()
    log.begin({"frames/1": 9}).finish()
    assert log.take_mark(0) == {"frames/0": 1, "frames/1": 9}
    log.begin({"frames/1": 10}).finish()
    assert log.take_mark(0) == {"frames/1": 10}


def test_what_has_no_position_holds_the_mark_back_until_it_is_done():
    log = CommitLog()
    letter = log.begin(None)
    log.begin({"frames/0": 2}).finish()
    assert log.take_mark(9) is None
    letter.finish(delivery=3)
    assert log.take_mark(2) is None
    assert log.take_mark(3) == {"frames/0": 2}


@given(st.permutations(range(8)), st.integers(0, 8))
def test_mark_is_the_longest_run_of_finished_frames(order, num_finished):
    log = CommitLog()
    tickets = begin(log, *range(1, 9))
    finished = order[:num_finished]
    for number in finished:
        tickets[number].finish()
    run = next((number for number in range(8) if number not in finished), 8)
    assert log.take_mark(0) == ({"frames/0": run} if run else None)


def test_partition_that_leaves_is_done_up_to_the_first_frame_that_is_not():
    log = CommitLog()
    done, waits, behind = begin(log, 1, 2, 3)
    done.is_taken = behind.is_taken = True
    other = log.begin({"frames/1": 8})
    leaving = log.take_out({"frames/0"})
    assert [one.is_void for one in (done, waits, behind, other)] == [False, True, False, False]
    done.finish(delivery=4)
    assert not leaving.is_settled(acknowledged=9)
    behind.finish(delivery=5)
    assert not leaving.is_settled(acknowledged=4)
    assert leaving.is_settled(acknowledged=5)
    assert leaving.mark(acknowledged=5) == {"frames/0": 1}
    assert leaving.mark(acknowledged=3) == {}
    other.finish()
    assert log.take_mark(acknowledged=9) == {"frames/1": 8}


def test_partitions_that_leave_together_have_marks_of_their_own():
    log = CommitLog()
    waits, done = log.begin({"frames/0": 1}), log.begin({"frames/1": 5})
    waits.is_taken = done.is_taken = True
    leaving = log.take_out({"frames/0", "frames/1"})
    done.finish()
    assert leaving.mark(0) == {"frames/1": 5}
    leaving.void()
    assert waits.is_void
    assert leaving.mark(0) == {}


def test_frame_of_another_worker_holds_nothing_back():
    log = CommitLog()
    foreign, own = begin(log, 1, 2)
    log.cancel(foreign)
    own.finish()
    assert foreign.is_void
    assert log.take_mark(0) == {"frames/0": 2}
    log.cancel(foreign)


def test_cut_waits_for_frames_read_before_the_last_one_with_a_result():
    log = CommitLog()
    done, behind, ahead, later = begin(log, 1, 2, 3, 4)
    done.finish(delivery=1)
    ahead.finish(delivery=2)
    assert log.has_results
    assert not any(map(log.is_behind_cut, (done, behind, ahead, later)))
    log.begin_cut()
    assert [log.is_behind_cut(one) for one in (behind, ahead, later)] == [False, False, True]
    assert not log.is_cut_ready
    behind.finish(delivery=3)
    assert log.is_cut_ready
    assert log.cut() == ({"frames/0": 1}, {"frames/0": 3})
    assert len(log) == 1
    assert not log.is_behind_cut(later)
    assert not log.has_results


def test_cut_without_results_holds_all_frames_and_names_what_moved_before():
    log = CommitLog()
    (first,) = begin(log, 1)
    log.begin_cut()
    assert log.is_behind_cut(first)
    assert log.is_cut_ready
    assert log.cut() == ({}, {})
    first.finish()
    log.begin_cut()
    assert log.cut() == ({"frames/0": 1}, {"frames/0": 1})
    log.begin({"frames/0": 1}).finish()  # the position where a source has ended
    log.begin_cut()
    assert log.cut() == ({}, {"frames/0": 1})


def test_partitions_that_another_worker_has_are_moved_no_more():
    log = CommitLog()
    log.begin({"frames/0": 1}).finish()
    log.begin({"frames/1": 8}).finish()
    assert log.has_results_of({"frames/1"})
    assert not log.has_results_of({"frames/2"})
    log.begin_cut()
    log.cut()
    log.forget({"frames/1", "frames/2"})
    log.begin({"frames/0": 2}).finish()
    log.begin_cut()
    assert log.cut() == ({"frames/0": 2}, {"frames/0": 2})
