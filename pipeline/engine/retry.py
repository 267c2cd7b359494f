"""When a source is tried again. The one place in which anything is."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace

from connectors.backoff import Backoff
from connectors.errors import UnauthorizedError
from pipeline.config.sections.stream import RetryConfig

_POLL_S = 0.1  # how soon one who waits for its turn notices that it is to stop
# Tracks wait for their camera for a minute (tracking.session_gap_s). With free growth tries fall
# near 42 and 64 s on the average, and one that was away for 50 s came too late for them.
_EARLY_S, _EARLY_WAIT_S = 60.0, 6.0


class RetryPolicy:
    """The waits between the tries of one source; used by its runner alone.

    Waits grow and are jittered, so that cameras which went away together do not come back
    together. In the first minute none is longer than 6 s. A source that was well for ``healthy_s``
    begins with short waits again. A refused password is tried slowly: cameras lock out whoever
    tries often.

    Args:
        config: Bounds of the waits.
        is_live: Whether even an error that nobody foresaw is tried again.
        rng: Draws the jitter.
    """

    def __init__(
        self, config: RetryConfig, *, is_live: bool, rng: random.Random | None = None
    ) -> None:
        self._config = config
        self._is_live = is_live
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, protects nothing
        self._delays = self._new_delays()
        self._opened_s: float | None = None

    def note_opened(self, now_s: float) -> None:
        """The source was opened; from now on it counts as well until an error."""
        self._opened_s = now_s

    def delay_s(self, error: Exception, now_s: float) -> float | None:
        """Return how long to wait after an error; ``None``: trying again is senseless."""
        opened_s, self._opened_s = self._opened_s, None
        if isinstance(error, UnauthorizedError):
            return self._config.unauthorized_s * (1.0 + 0.3 * self._rng.random())
        if not getattr(error, "recoverable", self._is_live):
            return None
        if opened_s is not None and now_s - opened_s >= self._config.healthy_s:
            self._delays = self._new_delays()
        return next(self._delays)

    def _new_delays(self) -> Iterator[float]:
        config, waited_s = self._config, 0.0
        backoff = Backoff(initial_s=config.initial_s, maximum_s=config.maximum_s)
        short = replace(backoff, maximum_s=min(config.maximum_s, _EARLY_WAIT_S))
        for delay in short.delays(self._rng):
            waited_s += delay
            yield delay
            if waited_s >= _EARLY_S:
                break
        longer = max(config.initial_s, short.maximum_s * backoff.factor)
        yield from replace(backoff, initial_s=longer).delays(self._rng)


class HostLimit:
    """Lets only a few sources connect to one host at once; shared by all runners.

    Args:
        num_attempts: At once, per host.
    """

    def __init__(self, num_attempts: int) -> None:
        self._num_attempts = num_attempts
        self._running: Counter[str] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def attempt(self, host: str | None, should_stop: Callable[[], bool]) -> Generator[None]:
        """Wait for a turn at ``host`` and hold it; ``None`` is no host and never waits."""
        if host is None:
            yield
            return
        with self._changed:
            while self._running[host] >= self._num_attempts and not should_stop():
                self._changed.wait(_POLL_S)
            self._running[host] += 1
        try:
            yield
        finally:
            with self._changed:
                self._running[host] -= 1
                if not self._running[host]:
                    del self._running[host]
                self._changed.notify_all()
