"""Buffers keep their bound, and the account adds up under every policy."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.sections.stream import Overflow
from pipeline.engine.buffer import Arrived, FrameBuffer
from pipeline.engine.commits import CommitLog
from pipeline.engine.gate import RateGate
from pipeline.engine.ledger import DropCause, Ledger
from tests.pipeline.fakes import make_frame

US = 1_000_000


def arrive(seq, *, ticket=None, fps=10.0, size=(1, 1)):
    arrived_us = round(seq * US / fps)
    fields = {} if ticket is None else {"ticket": ticket}
    return Arrived(frame=make_frame(seq, size=size), arrived_us=arrived_us, now_us=0, **fields)


def make_buffer(capacity=2, overflow=Overflow.DROP_OLDEST, **fields):
    ledger = Ledger()
    buffer = FrameBuffer(
        "cam", capacity=capacity, overflow=overflow, ledger=ledger, on_frame=lambda: None, **fields
    )
    return buffer, ledger


def take_all(buffer):
    return [arrived.frame.frame_seq for arrived in iter(buffer.take, None)]


@pytest.mark.parametrize(
    ("overflow", "kept"), [(Overflow.DROP_OLDEST, [3, 4]), (Overflow.DROP_NEWEST, [0, 1])]
)
def test_a_full_buffer_drops_by_its_policy(overflow, kept):
    buffer, ledger = make_buffer(overflow=overflow)
    for seq in range(5):
        assert buffer.offer(arrive(seq))
    assert take_all(buffer) == kept
    assert ledger.counts("cam").dropped == {"overflow": 3}


@pytest.mark.parametrize(
    ("overflow", "done"), [(Overflow.DROP_OLDEST, [0, 1, 2]), (Overflow.DROP_NEWEST, [2, 3, 4])]
)
def test_frames_dropped_for_speed_or_gated_are_done_and_others_not(overflow, done):
    buffer, _ = make_buffer(overflow=overflow)
    tickets = [CommitLog().begin(None) for _ in range(5)]
    for seq, ticket in enumerate(tickets):
        buffer.offer(arrive(seq, ticket=ticket))
    assert [seq for seq, one in enumerate(tickets) if one.is_finished(0)] == done


def test_gated_frames_are_counted_and_done():
    gate = RateGate(5, is_live=True, session_gap_us=US)
    buffer, ledger = make_buffer(capacity=200, gate=gate)
    tickets = [CommitLog().begin(None) for _ in range(100)]
    for seq, ticket in enumerate(tickets):
        buffer.offer(arrive(seq, ticket=ticket))
    assert buffer.num_frames == 50
    assert ledger.counts("cam").gated == sum(one.is_finished(0) for one in tickets) == 50


def test_waiting_loses_nothing():
    buffer, ledger = make_buffer(overflow=Overflow.WAIT)
    offer_all = lambda: [buffer.offer(arrive(i)) for i in range(50)]  # noqa: E731
    thread = threading.Thread(target=offer_all, daemon=True)
    thread.start()
    taken = []
    while len(taken) < 50:
        taken += take_all(buffer)
        assert buffer.num_frames <= 2
    thread.join(10)
    assert taken == list(range(50))
    assert ledger.counts("cam").waiting == 50


def offer_into_full(buffer, ledger, *, ticket=None):
    """Return a thread whose frame waits for room, already counted as received."""
    num_before = ledger.counts("cam").received
    frame = arrive(9, ticket=ticket)
    thread = threading.Thread(target=buffer.offer, args=(frame,), daemon=True)
    thread.start()
    while ledger.counts("cam").received == num_before:
        thread.join(0.001)
    return thread


def test_closing_keeps_the_frame_that_was_waiting_for_room():
    buffer, ledger = make_buffer(capacity=1, overflow=Overflow.WAIT)
    buffer.offer(arrive(0))
    thread = offer_into_full(buffer, ledger)
    buffer.close()
    thread.join(10)
    assert take_all(buffer) == [0, 9]
    assert buffer.is_drained
    assert not buffer.offer(arrive(2))


def test_a_buffer_is_not_drained_while_a_frame_is_on_its_way_in():
    buffer, ledger = make_buffer(capacity=1, overflow=Overflow.WAIT)
    buffer.offer(arrive(0))
    thread = offer_into_full(buffer, ledger)
    buffer._is_closed = True  # as in the moment before the waiting thread notices
    buffer._frames.clear()
    assert not buffer.is_drained
    buffer.close()
    thread.join(10)
    assert not buffer.is_drained
    assert take_all(buffer) == [9]


def test_closing_with_a_cause_drops_what_is_inside_or_waits_for_room():
    buffer, ledger = make_buffer(capacity=1, overflow=Overflow.WAIT)
    ticket = CommitLog().begin(None)
    buffer.offer(arrive(0, ticket=ticket))
    thread = offer_into_full(buffer, ledger)
    buffer.close(drop_cause=DropCause.STOPPED)
    buffer.close(drop_cause=DropCause.STOPPED)
    thread.join(10)
    counts = ledger.counts("cam")
    assert (counts.dropped, counts.waiting) == ({"stopped": 2}, 0)
    assert buffer.is_drained
    assert not ticket.is_finished(100)


def test_arrivals_tell_how_often_frames_come():
    buffer, _ = make_buffer()
    assert (buffer.last_arrived_us, buffer.usual_interval_us) == (None, 0)
    for seq in range(30):
        buffer.offer(arrive(seq, fps=4))
    assert buffer.usual_interval_us == 250_000
    assert buffer.last_arrived_us == 29 * 250_000


def test_an_outage_changes_the_usual_interval_little():
    buffer, _ = make_buffer()
    for seq in [*range(30), 10_000]:
        buffer.offer(arrive(seq))
    assert 100_000 < buffer.usual_interval_us <= 140_000


ACTIONS = st.lists(st.sampled_from(["offer", "take"]), max_size=60)


@given(ACTIONS, st.integers(1, 4), st.sampled_from([Overflow.DROP_OLDEST, Overflow.DROP_NEWEST]))
def test_no_policy_exceeds_capacity_or_miscounts(actions, capacity, overflow):
    buffer, ledger = make_buffer(capacity=capacity, overflow=overflow)
    for number, action in enumerate(actions):
        if action == "offer":
            buffer.offer(arrive(number))
        elif buffer.take() is not None:
            ledger.finish("cam")
        assert buffer.num_frames <= capacity
        assert ledger.counts("cam").waiting == buffer.num_frames


def test_capacity_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        make_buffer(capacity=0)
