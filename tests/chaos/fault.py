"""One fault: how it is brought about, where it can be, and what it may cost."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.outcome import Limits, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How a fault is tried.

    Attributes:
        folder: For whatever it leaves.
        num_kills: How often workers are killed.
        calm_s: How long a camera beside is watched before the fault.
        away_s: How long what is away is away.
    """

    folder: Path
    num_kills: int = 20
    calm_s: float = 10.0
    away_s: float = 10.0


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A row of the table.

    Attributes:
        name: What fails.
        what: What is done, in words.
        run: Brings it about, and measures.
        limits: What it may cost.
        missing: Says what this machine lacks to try it; ``None``: nothing.
    """

    name: str
    what: str
    run: Callable[[Trial], Outcome]
    limits: Limits
    missing: Callable[[], str | None] = _nothing
