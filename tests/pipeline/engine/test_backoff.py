"""A stream on which the model fails is left out for growing times, and never for good."""

from pipeline.engine.backoff import ModelBackoff

S = 1_000_000


def test_one_failure_costs_one_frame():
    backoff = ModelBackoff()
    backoff.fail(10 * S)
    assert not backoff.leaves_out(10 * S + 1)


def test_failures_in_a_row_leave_the_stream_out_for_growing_times():
    backoff, now_us, waits = ModelBackoff(), 0, []
    for _ in range(12):
        backoff.fail(now_us)
        wait_us = next(
            us for us in range(0, 100 * S, S // 4) if not backoff.leaves_out(now_us + us)
        )
        waits.append(wait_us / S)
        now_us += wait_us
    assert waits == [0, 0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_result_ends_the_row():
    backoff = ModelBackoff()
    for _ in range(5):
        backoff.fail(0)
    backoff.succeed()
    assert backoff.num_failures == 0
    assert not backoff.leaves_out(1)
    backoff.fail(S)
    assert not backoff.leaves_out(S + 1)


def test_time_that_runs_back_ends_the_wait():
    backoff = ModelBackoff()
    for _ in range(5):
        backoff.fail(100 * S)
    assert backoff.leaves_out(101 * S)
    assert not backoff.leaves_out(99 * S)
