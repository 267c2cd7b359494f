"""What a sink is doing, judged by its writes and by the time, with the cause."""

import pytest

from connectors.errors import SinkUnreachableError
from pipeline.clock import ManualClock
from pipeline.engine.sink_watch import Observers, SinkLimits, SinkWatch
from pipeline.observe.health import Health, SinkState
from pipeline.observe.metrics import Metrics

AWAY = SinkUnreachableError("kafka://b:1", "5 records not confirmed in 10 s")


class Bench:
    """A watch over a durable sink, with a clock that moves when told to."""

    def __init__(self, *, is_durable=True):
        self.clock = ManualClock()
        self.health = Health(self.clock, stall_s=60)
        observers = Observers(metrics=Metrics(tuple), health=self.health, clock=self.clock)
        limits = SinkLimits(behind_s=2, down_s=10)
        self.watch = SinkWatch("k", is_durable=is_durable, limits=limits, observers=observers)
        self.watch.open()

    def judge_at(self, time_s, *, oldest_age_s):
        """Judge at a time; returns what health says then."""
        self.clock.advance(time_s - self.clock.monotonic_s())
        self.watch.judge(oldest_age_s)
        return self.told

    @property
    def told(self):
        sink = self.health.readiness().sinks["k"]
        return sink.state, sink.error


@pytest.fixture
def bench():
    return Bench()


def test_a_write_that_waits_is_told_of_before_it_fails(bench):
    assert bench.judge_at(2, oldest_age_s=2) == (SinkState.UP, None)
    told = SinkState.BEHIND, "has confirmed nothing for 3 s"
    assert bench.judge_at(3, oldest_age_s=3) == told
    bench.watch.succeed()
    assert bench.judge_at(3, oldest_age_s=0) == (SinkState.UP, None)


def test_a_sink_that_confirms_too_slowly_says_how_long_its_records_wait(bench):
    bench.judge_at(4, oldest_age_s=1)
    bench.watch.succeed()
    told = SinkState.BEHIND, "is too slow: its oldest record has waited for 5 s"
    assert bench.judge_at(5, oldest_age_s=5) == told


def test_the_cause_of_a_failure_is_told_at_once_and_kept_until_a_write_arrives(bench):
    bench.judge_at(3, oldest_age_s=3)  # behind already: the state is the same, the cause is not
    bench.watch.fail(AWAY)
    assert bench.told == (SinkState.BEHIND, str(AWAY))
    assert bench.judge_at(20, oldest_age_s=20) == (SinkState.DOWN, str(AWAY))
    bench.watch.succeed()
    assert bench.told == (SinkState.UP, None)


@pytest.mark.parametrize(
    ("is_durable", "options", "outlook"),
    [
        (True, {}, "tried again until it works"),
        (False, {}, "left out until it works"),
        (True, {"is_final": True}, "given up"),
    ],
)
def test_the_log_says_once_what_becomes_of_records_while_a_sink_fails(
    is_durable, options, outlook, caplog
):
    watch = Bench(is_durable=is_durable).watch
    for _ in range(2):
        watch.fail(AWAY, **options)
    assert [one.getMessage() for one in caplog.records] == [f"{AWAY}; {outlook}"]
