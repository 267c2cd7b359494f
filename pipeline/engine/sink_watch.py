"""What one sink is doing: the one owner of its state, its log lines and what health is told."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.clock import Clock
from pipeline.observe.health import Health, SinkState
from pipeline.observe.live import LiveView
from pipeline.observe.metrics import Metrics

_logger = logging.getLogger("maskstream.sink")


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkLimits:
    """When a sink is in trouble.

    Attributes:
        behind_s: Age of its oldest waiting record from which it counts as behind.
        down_s: How long it must have failed without a break to count as down.
    """

    behind_s: float
    down_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Observers:
    """Who learns of sinks: the parts that all of them share.

    Attributes:
        metrics: For Prometheus.
        health: For probes.
        clock: The time.
        live: Learns of records once they are in the log; ``None``: nobody watches.
    """

    metrics: Metrics
    health: Health
    clock: Clock
    live: LiveView | None = None


class SinkWatch:
    """Judges one sink by what its writes come to. Any thread may use it.

    Args:
        name: Of the sink.
        is_durable: Whether a run is unready while it is down.
        limits: Limits between the states.
        observers: Learn of the state.
    """

    def __init__(
        self, name: str, *, is_durable: bool, limits: SinkLimits, observers: Observers
    ) -> None:
        self.name = name
        self._is_durable = is_durable
        self._limits = limits
        self._observers = observers
        self._lock = threading.Lock()
        self._state: SinkState | None = None
        self._error: str | None = None
        self._told: tuple[SinkState, str | None] | None = None
        self._failing_since_s: float | None = None
        self._succeeded_s = observers.clock.monotonic_s()

    @property
    def error(self) -> str | None:
        """Why it takes nothing at present; ``None`` while it does."""
        return self._error

    @property
    def is_down(self) -> bool:
        """Whether it has failed for long."""
        return self._state is SinkState.DOWN

    def open(self) -> None:
        """The sink was opened."""
        _logger.info("opened", extra={"sink": self.name})
        self._move(lambda: SinkState.UP)

    def succeed(self) -> None:
        """A write has arrived."""
        now_s = self._succeeded_s = self._observers.clock.monotonic_s()
        failing_since_s = self._failing_since_s
        if failing_since_s is None:
            return
        lasted_s = now_s - failing_since_s
        _logger.info("works again after %.1f s", lasted_s, extra={"sink": self.name})
        self._error, self._failing_since_s = None, None
        self._move(lambda: SinkState.UP)

    def fail(self, error: Exception, *, is_final: bool = False) -> None:
        """A write has failed, for good perhaps."""
        self._observers.metrics.sink_errors.labels(self.name).inc()
        self._error = str(error)
        if self._failing_since_s is None:
            self._failing_since_s = self._observers.clock.monotonic_s()
            outlook = (
                "tried again until it works" if self._is_durable else "left out until it works"
            )
            outlook = "given up" if is_final else outlook
            _logger.warning("%s; %s", error, outlook, extra={"sink": self.name})
        self.judge(0.0)

    def judge(self, oldest_age_s: float) -> None:
        """Judge by the time.

        Args:
            oldest_age_s: Age of the oldest record that it has not confirmed; 0 if none waits.
        """
        self._move(lambda: self._judged(oldest_age_s))

    def _judged(self, oldest_age_s: float) -> SinkState:
        since_s = self._failing_since_s
        if since_s is not None:
            failing_s = self._observers.clock.monotonic_s() - since_s
            return SinkState.DOWN if failing_s >= self._limits.down_s else SinkState.BEHIND
        stuck_s = min(oldest_age_s, self._observers.clock.monotonic_s() - self._succeeded_s)
        if oldest_age_s <= self._limits.behind_s and stuck_s < self._limits.down_s:
            self._error = None
            return SinkState.UP
        # A write that waits for a broker says nothing yet, but that it waits is known.
        self._error = (
            f"has confirmed nothing for {stuck_s:.0f} s"
            if stuck_s > self._limits.behind_s
            else f"is too slow: its oldest record has waited for {oldest_age_s:.0f} s"
        )
        return SinkState.DOWN if stuck_s >= self._limits.down_s else SinkState.BEHIND

    def _move(self, judge: Callable[[], SinkState]) -> None:
        with self._lock:  # judged and told in one, so that no older judgement is told last
            before, self._state = self._state, judge()
            state, error = self._state, self._error
            if (state, error) == self._told:
                return
            self._told = state, error
            self._observers.metrics.set_sink_state(self.name, state)
            self._observers.health.set_sink(
                self.name, state, error=error, is_durable=self._is_durable
            )
        if state is SinkState.DOWN and before is not state:
            _logger.error("down: %s", error, extra={"sink": self.name})
