"""Buffers keep their bound, and the account adds up under every policy."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.run import Overflow
from pipeline.engine.buffer import FrameBuffer, FrameLedger
from pipeline.observe.metrics import Metrics
from tests.pipeline.fakes import make_frame


def make_buffer(capacity=2, overflow=Overflow.DROP_OLDEST, **fields):
    ledger = FrameLedger("cam", Metrics())
    buffer = FrameBuffer(
        capacity=capacity, overflow=overflow, ledger=ledger, on_frame=lambda: None, **fields
    )
    return buffer, ledger


def take_all(buffer):
    return [frame.frame_seq for frame in iter(buffer.take, None)]


@pytest.mark.parametrize(
    ("overflow", "kept"), [(Overflow.DROP_OLDEST, [3, 4]), (Overflow.DROP_NEWEST, [0, 1])]
)
def test_a_full_buffer_drops_by_its_policy(overflow, kept):
    buffer, ledger = make_buffer(overflow=overflow)
    for seq in range(5):
        assert buffer.offer(make_frame(seq))
    assert take_all(buffer) == kept
    assert ledger.counts().dropped == {"overflow": 3}


def test_waiting_loses_nothing():
    buffer, ledger = make_buffer(overflow=Overflow.WAIT)
    thread = threading.Thread(target=lambda: [buffer.offer(make_frame(i)) for i in range(50)])
    thread.start()
    taken = []
    while len(taken) < 50:
        taken += take_all(buffer)
        assert len(buffer) <= 2
    thread.join()
    assert taken == list(range(50))
    assert ledger.num_open == 50


def test_closing_keeps_the_frame_that_was_waiting_for_room():
    buffer, ledger = make_buffer(capacity=1, overflow=Overflow.WAIT)
    buffer.offer(make_frame(0))
    thread = threading.Thread(target=buffer.offer, args=(make_frame(1),))
    thread.start()
    while ledger.counts().received < 2:
        thread.join(0.001)
    buffer.close()
    thread.join()
    assert take_all(buffer) == [0, 1]
    assert not buffer.offer(make_frame(2))


def test_closing_with_a_cause_drops_what_is_inside():
    buffer, ledger = make_buffer()
    buffer.offer(make_frame(0))
    buffer.close(drop_cause="stream_failed")
    assert ledger.counts().dropped == {"stream_failed": 1}
    assert ledger.num_open == 0


@pytest.mark.parametrize(("fps", "max_fps", "passed"), [(10, 5, 50), (30, 4, 14), (10, 10, 100)])
def test_gating_keeps_the_rate(fps, max_fps, passed):
    buffer, ledger = make_buffer(capacity=200, max_fps=max_fps)
    for seq in range(100):
        buffer.offer(make_frame(seq, fps=fps))
    assert len(buffer) == passed
    assert ledger.counts().gated == 100 - passed


def test_a_clock_that_jumps_back_does_not_gate_for_long():
    buffer, _ = make_buffer(capacity=200, max_fps=5)
    for seq in [*range(1000, 1010), *range(10)]:
        buffer.offer(make_frame(seq))
    assert len(buffer) == 10


ACTIONS = st.lists(st.sampled_from(["offer", "take"]), max_size=60)


@given(ACTIONS, st.integers(1, 4), st.sampled_from([Overflow.DROP_OLDEST, Overflow.DROP_NEWEST]))
def test_no_policy_exceeds_capacity_or_miscounts(actions, capacity, overflow):
    buffer, ledger = make_buffer(capacity=capacity, overflow=overflow)
    for number, action in enumerate(actions):
        if action == "offer":
            buffer.offer(make_frame(number, size=(1, 1)))
        elif buffer.take() is not None:
            ledger.finish()
        assert len(buffer) <= capacity
        assert ledger.num_open == len(buffer)


def test_capacity_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        make_buffer(capacity=0)
