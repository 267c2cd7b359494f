"""What a fault led to, measured from outside, and how much of it is allowed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.chaos.records import Repeats

# Without any fault, two p99s of 200 frames differed by up to 34 ms on two cores with a load of 8.
NOISE_MS = 50.0
_NEIGHBOUR = 1.2
_MOST_LOAD = 1.5
_NO_REPEATS = Repeats()


def in_words(recovery_s: float) -> str:
    return f"{recovery_s:.1f} s" if math.isfinite(recovery_s) else "for ever"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What must not be exceeded. Records lost, repeats with another body and wrong events: none.

    Attributes:
        recovery_s: From the fault's end to the first record of after it.
        identities: Share of the standing things that keep their track.
        repeats: Whether records may come again.
    """

    recovery_s: float
    repeats: bool = True
    identities: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one fault.

    Attributes:
        recoveries_s: From each end of the fault to the first record of after it.
        frames_lost: By cause; those that a camera would have given while it was away are ``away``.
        records_lost: That one consumer had, or a frame calls for, and that never came; ``None``:
            nobody could count them.
        repeats: Records that came again.
        identities: Standing things that have kept their track, and how many there are.
        event_faults: Each event that began, ended or went on wrongly.
        latencies_ms: 99th percentiles of a camera beside, before and during the fault.
        load: Of the machine then, per core; 0: of no account.
        others: What else was wrong.
    """

    recoveries_s: tuple[float, ...]
    frames_lost: Mapping[str, int] = field(default_factory=dict)
    records_lost: int | None = None
    repeats: Repeats = _NO_REPEATS
    identities: tuple[int, int] = (0, 0)
    event_faults: tuple[str, ...] = ()
    latencies_ms: tuple[float, float] | None = None
    load: float = 0.0
    others: tuple[str, ...] = ()

    @property
    def is_timed(self) -> bool:
        """Whether a percentile tells of this program: on busier cores it tells of the others."""
        return self.load <= _MOST_LOAD

    def broken(self, limits: Limits) -> tuple[str, ...]:
        """Return each limit that does not hold."""
        found = [*self.others, *self.event_faults]
        slowest = max(self.recoveries_s, default=math.inf)
        if slowest > limits.recovery_s:
            found.append(f"recovery took {in_words(slowest)} (accepted: {limits.recovery_s:g} s)")
        if self.records_lost:
            found.append(f"{self.records_lost} records lost (accepted: 0)")
        if self.repeats.same and not limits.repeats:
            found.append(f"{self.repeats.same} repeats (accepted: 0)")
        if self.repeats.other:
            names = ", ".join(sorted(self.repeats.fields))
            found.append(f"{self.repeats.other} repeats with another {names} (accepted: 0)")
        kept, num_all = self.identities
        if kept < limits.identities * num_all:
            found.append(f"{kept} of {num_all} identities kept (accepted: {limits.identities:.0%})")
        if self.latencies_ms is not None and self.is_timed:
            before, during = self.latencies_ms
            accepted = max(_NEIGHBOUR * before, before + NOISE_MS)
            if during > accepted:
                found.append(f"a neighbour's p99 was {during:.0f} ms (accepted: {accepted:.0f} ms)")
        return tuple(found)
