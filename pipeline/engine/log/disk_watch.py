"""Whether the disk of the log answers."""

from collections.abc import Generator
from contextlib import contextmanager

from pipeline.clock import Clock

# Long for a disk, whose fsync takes 1 s under the worst load; short for one who waits for alerts.
HANG_S = 5.0


class DiskWatch:
    """Times what one thread does with the disk, so that any other may see that it hangs.

    Args:
        clock: Says how long it takes.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_s: float | None = None

    @contextmanager
    def timed(self) -> Generator[None]:
        """Time one use of the disk."""
        self._began_s = self._clock.monotonic_s()
        try:
            yield
        finally:
            self._began_s = None

    @property
    def is_overdue(self) -> bool:
        """Whether the disk is in use for longer than one that works takes."""
        began_s = self._began_s
        return began_s is not None and self._clock.monotonic_s() - began_s >= HANG_S
