"""Fair batches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.scheduler import Scheduler, Waiting


def waiting(**frames):
    return [Waiting(stream_id=name, num_frames=num) for name, num in frames.items()]


def test_streams_take_turns_when_the_batch_is_small():
    scheduler = Scheduler(max_batch=2)
    always = waiting(a=9, b=9, c=9)
    assert [scheduler.next_batch(always) for _ in range(3)] == [("a", "b"), ("c", "a"), ("b", "c")]


def test_a_stream_without_frames_is_left_out():
    assert Scheduler(max_batch=4).next_batch(waiting(a=0, b=1)) == ("b",)


def test_a_fuller_buffer_goes_first_among_equals():
    assert Scheduler(max_batch=1).next_batch(waiting(a=1, b=3)) == ("b",)


def test_ended_streams_are_forgotten():
    scheduler = Scheduler(max_batch=1)
    for number in range(100):
        (stream_id,) = scheduler.next_batch(waiting(**{f"s{number}": 1}))
        scheduler.forget(stream_id)
    assert len(scheduler) == 0


@given(st.integers(1, 6), st.integers(1, 9))
def test_nobody_starves(max_batch, num_streams):
    scheduler = Scheduler(max_batch=max_batch)
    always = waiting(**{f"s{i}": i + 1 for i in range(num_streams)})
    served = [name for _ in range(30) for name in scheduler.next_batch(always)]
    counts = [served.count(stream.stream_id) for stream in always]
    assert max(counts) - min(counts) <= 1


def test_a_batch_needs_room():
    with pytest.raises(ValueError, match="at least 1"):
        Scheduler(max_batch=0)
