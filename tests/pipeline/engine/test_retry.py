"""Sources are tried again for ever, at growing intervals, a few per host at once."""

import itertools
import threading
from random import Random

import pytest

from connectors.errors import (
    CorruptMediaError,
    StreamEndedError,
    UnauthorizedError,
    UnreachableError,
)
from pipeline.config.sections.stream import RetryConfig
from pipeline.engine.retry import HostLimit, RetryPolicy

CONFIG = RetryConfig(initial_s=1.0, maximum_s=60.0, healthy_s=30.0, unauthorized_s=60.0)
AWAY = UnreachableError("cam", "nobody answers")


def make_policy(*, is_live=True):
    return RetryPolicy(CONFIG, is_live=is_live, rng=Random(1))  # noqa: S311


def test_waits_grow_to_the_limit_and_never_end():
    policy = make_policy()
    waits = [policy.delay_s(AWAY, 0.0) for _ in range(50)]
    num_early = sum(moment < 60.0 for moment in itertools.accumulate(waits)) + 1
    early = [min(1.5**number, 6.0) for number in range(num_early)]
    planned = [*early, *(min(9.0 * 1.5**number, 60.0) for number in range(50 - num_early))]
    assert all(0.7 * plan <= wait <= plan for wait, plan in zip(waits, planned, strict=True))
    assert len(set(waits)) == 50


@pytest.mark.parametrize("away_s", [1, 5, 20, 35, 50])
def test_camera_back_within_50_s_is_tried_within_the_minute_in_which_tracks_wait(away_s):
    for seed in range(50):
        policy = RetryPolicy(CONFIG, is_live=True, rng=Random(seed))  # noqa: S311
        tries = list(itertools.accumulate(policy.delay_s(AWAY, 0.0) for _ in range(15)))
        assert any(away_s <= moment <= away_s + 6 for moment in tries)


def test_waits_begin_anew_after_health_and_not_before():
    policy = make_policy()
    for _ in range(30):
        policy.delay_s(AWAY, 0.0)
    policy.note_opened(100.0)
    assert policy.delay_s(StreamEndedError("cam", "hung up"), 129.9) > 40
    policy.note_opened(200.0)
    assert policy.delay_s(StreamEndedError("cam", "hung up"), 230.0) <= 1.0


def test_time_since_an_opening_that_was_lost_is_no_health():
    policy = make_policy()
    policy.note_opened(0.0)
    for _ in range(30):
        policy.delay_s(AWAY, 1.0)
    assert policy.delay_s(AWAY, 1000.0) > 40


def test_refused_password_is_tried_slowly_for_ever():
    policy = make_policy()
    waits = [policy.delay_s(UnauthorizedError("cam", "401"), 0.0) for _ in range(20)]
    assert all(60.0 <= wait <= 78.0 for wait in waits)


@pytest.mark.parametrize("is_live", [True, False])
def test_error_that_cannot_pass_is_not_tried_again(is_live):
    assert make_policy(is_live=is_live).delay_s(CorruptMediaError("cam", "torn"), 0.0) is None


def test_error_that_nobody_foresaw_is_tried_again_on_live_sources_only():
    assert make_policy(is_live=True).delay_s(ZeroDivisionError(), 0.0) is not None
    assert make_policy(is_live=False).delay_s(ZeroDivisionError(), 0.0) is None


def hold(limit, host, held, release):
    with limit.attempt(host, lambda: False):
        held.release()
        release.wait(10)


def test_only_a_few_connect_to_one_host_at_once():
    limit, held, release = HostLimit(2), threading.Semaphore(0), threading.Event()
    threads = [
        threading.Thread(target=hold, args=(limit, "nvr", held, release), daemon=True)
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert held.acquire(timeout=10)
    assert held.acquire(timeout=10)
    assert not held.acquire(timeout=0.05)
    with limit.attempt("another", lambda: False), limit.attempt(None, lambda: False):
        pass
    release.set()
    assert held.acquire(timeout=10)


def test_one_who_is_to_stop_waits_for_no_turn():
    limit = HostLimit(1)
    with limit.attempt("nvr", lambda: False), limit.attempt("nvr", lambda: True):
        pass
