"""Time, so that tests can set it. Rules never look here: they run on capture time."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from typing_extensions import override


def format_time(moment: datetime) -> str:
    """Return RFC 3339 in UTC with microseconds: ``2026-01-01T00:00:00.000000Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_to_us(seconds: float) -> int:
    """Return whole microseconds."""
    return round(seconds * 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A point in a stream's time, whole microseconds since its first frame.

    Attributes:
        stream_us: With the gaps in which nothing was observed.
        observed_us: Without them; durations and delays count this.
    """

    stream_us: int
    observed_us: int

    def gap_us_since(self, start: "Moment") -> int:
        """Return how much of the time since ``start`` was not observed."""
        return (self.stream_us - start.stream_us) - (self.observed_us - start.observed_us)


class Clock(Protocol):
    """Monotonic seconds for watchdogs, UTC for stamps."""

    def monotonic_s(self) -> float:
        """Seconds that never run backwards, from an arbitrary start."""
        ...

    def utc_now(self) -> datetime:
        """The wall time, aware, UTC."""
        ...


class SystemClock(Clock):
    """The machine's clocks."""

    @override
    def monotonic_s(self) -> float:
        return time.monotonic()

    @override
    def utc_now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock(Clock):
    """A clock that moves only when told to.

    Args:
        start: Aware UTC time at which the clock stands first.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_s = 0.0

    @override
    def monotonic_s(self) -> float:
        return self._elapsed_s

    @override
    def utc_now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_s)

    def advance(self, seconds: float) -> None:
        """Move on by ``seconds`` (not negative)."""
        if seconds < 0:
            raise ValueError(f"a clock cannot go back: seconds={seconds!r} (accepted: >= 0)")
        self._elapsed_s += seconds
