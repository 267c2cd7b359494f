"""How long to wait before the next try: capped, growing, jittered. Pure: it never sleeps."""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """A schedule of delays in seconds.

    Attributes:
        initial_s: First delay, before jitter.
        maximum_s: No delay is longer.
        factor: Each delay is this many times the one before.
        jitter: Share of each delay, 0 to 1, that is drawn at random, so that cameras which went
            away together do not come back together.
    """

    initial_s: float = 0.5
    maximum_s: float = 30.0
    factor: float = 1.5
    jitter: float = 0.3

    def delays(self, rng: random.Random | None = None) -> Iterator[float]:
        """Yield delays without end; each lies in ((1 - jitter) * d, d] of its planned d."""
        rng = rng or random.Random()  # noqa: S311 - spreads load, protects nothing
        delay = self.initial_s
        while True:
            planned = min(delay, self.maximum_s)
            yield planned * (1.0 - self.jitter * rng.random())
            delay = min(delay * self.factor, self.maximum_s)
