"""The account of all streams holds at every moment."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.ledger import DropCause, Ledger


def adds_up(counts):
    lost = counts.gated + sum(counts.dropped.values())
    return counts.received == counts.processed + lost + counts.waiting


def test_frames_wait_until_their_fate_is_counted():
    ledger = Ledger()
    for _ in range(3):
        ledger.receive("cam")
    ledger.finish("cam")
    ledger.drop("cam", DropCause.OVERFLOW)
    counts = ledger.counts("cam")
    assert (counts.received, counts.processed, counts.waiting) == (3, 1, 1)
    assert counts.dropped == {"overflow": 1}


def test_gated_and_refused_frames_never_wait():
    ledger = Ledger()
    ledger.gate("cam")
    ledger.refuse("cam", DropCause.BAD_FRAME)
    counts = ledger.counts("cam")
    assert (counts.received, counts.gated, counts.waiting) == (2, 1, 0)
    assert counts.dropped == {"bad_frame": 1}
    assert ledger.num_left_out("cam") == 2


def test_load_counts_what_came_and_what_was_too_much():
    ledger = Ledger()
    for _ in range(5):
        ledger.receive("cam")
    ledger.drop("cam", DropCause.OVERFLOW, 2)
    ledger.drop("cam", DropCause.MODEL_ERROR)
    assert ledger.load("cam") == (5, 2)


def test_waiting_frames_of_a_stream_that_is_given_up_are_dropped():
    ledger = Ledger()
    ledger.receive("cam")
    ledger.drop_waiting("cam", DropCause.STOPPED)
    ledger.drop_waiting("cam", DropCause.STOPPED)
    counts = ledger.counts("cam")
    assert (counts.waiting, counts.dropped) == (0, {"stopped": 1})


def test_a_retired_stream_is_counted_under_the_other_name():
    ledger = Ledger()
    ledger.receive("a")
    ledger.finish("a")
    ledger.refuse("*", DropCause.UNKNOWN_STREAM)
    ledger.retire("a", into="*")
    assert [name for name, _ in ledger.snapshot()] == ["*"]
    counts = ledger.counts("*")
    assert (counts.received, counts.processed) == (2, 1)
    assert ledger.counts("a").received == 0


def test_snapshots_taken_while_others_write_always_add_up():
    ledger = Ledger()
    is_done = threading.Event()

    def write():
        while not is_done.is_set():
            ledger.receive("cam")
            ledger.finish("cam")
            ledger.gate("cam")

    threads = [threading.Thread(target=write, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    snapshots = [ledger.snapshot() for _ in range(300)]
    is_done.set()
    assert all(adds_up(counts) for snapshot in snapshots for _, counts in snapshot)


ACTIONS = {
    "receive": lambda ledger: ledger.receive("cam"),
    "gate": lambda ledger: ledger.gate("cam"),
    "refuse": lambda ledger: ledger.refuse("cam", DropCause.STOPPED),
    "finish": lambda ledger: ledger.counts("cam").waiting and ledger.finish("cam"),
    "drop": lambda ledger: ledger.counts("cam").waiting and ledger.drop("cam", DropCause.OVERFLOW),
}


@given(st.lists(st.sampled_from(sorted(ACTIONS)), max_size=40))
def test_account_adds_up_after_any_actions(names):
    ledger = Ledger()
    for name in names:
        ACTIONS[name](ledger)
        assert adds_up(ledger.counts("cam"))
        assert ledger.counts("cam").waiting >= 0
