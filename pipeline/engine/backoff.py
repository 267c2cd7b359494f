"""Leaves a stream out for a while after the model has failed on it."""

from dataclasses import dataclass

_US = 1_000_000
_FIRST_US = _US // 2
_LONGEST_US = 60 * _US


@dataclass(slots=True)
class ModelBackoff:
    """The back-off of one stream, in its own time, so that a file gives the same result each time.

    One failure costs one frame. From the second in a row on the stream is left out: for half a
    second, then twice as long each time, up to a minute.
    """

    num_failures: int = 0
    _failed_us: int = 0
    _wait_us: int = 0

    def fail(self, time_us: int) -> None:
        """Note a failure at the stream's time ``time_us``."""
        self.num_failures += 1
        self._failed_us = time_us
        if self.num_failures > 1:
            self._wait_us = min(2 * self._wait_us or _FIRST_US, _LONGEST_US)

    def succeed(self) -> None:
        """Note a result: the next failure is the first again."""
        self.num_failures = 0
        self._wait_us = 0

    def leaves_out(self, time_us: int) -> bool:
        """Whether the frame at ``time_us`` is to be left out; a time that runs back ends it."""
        return 0 <= time_us - self._failed_us < self._wait_us
