"""Media time that grows by plausible steps, whatever a container or camera says."""

from dataclasses import dataclass

DEFAULT_STEP_US = 40_000
# Pictures stamped in the order of decoding lie less than a second from their place.
_BACKWARD_JUMP_US = 1_000_000
# No recording pauses for a day; a damaged Matroska file was seen to jump by 10^16 ms.
_FORWARD_JUMP_US = 86_400_000_000
_SAME_TIME_US = 1_000


@dataclass(slots=True)
class MediaClock:
    """Turns stamps into times that grow from picture to picture. No picture is refused.

    A missing or repeated stamp takes the nominal step. A stamp that lags by less than a second
    belongs to a picture in the order of decoding and comes a millisecond after the one before. A
    larger jump back, or one of a day ahead, is a discontinuity: time goes on by the nominal step.

    Attributes:
        step_us: Nominal step.
        origin_us: Stamp at which the container says that it begins.
    """

    step_us: int = DEFAULT_STEP_US
    origin_us: int = 0
    _time: int | None = None
    _stamp: int | None = None

    def advance(self, stamp_us: int | None) -> tuple[int, bool]:
        """Return (media time, whether it is discontinuous) of the next picture."""
        expected = 0 if self._time is None else self._time + self.step_us
        if stamp_us is None:
            self._time = expected
            return expected, False
        last, self._stamp = self._stamp, stamp_us
        if last is None:
            return self._begin(stamp_us, expected), False
        if not -_BACKWARD_JUMP_US < stamp_us - last < _FORWARD_JUMP_US:
            self.origin_us, self._time = stamp_us - expected, expected
            return expected, True
        time, now = self._time or 0, stamp_us - self.origin_us
        if now <= time:
            now = expected if stamp_us == last else time + _SAME_TIME_US
        self._time = now
        return now, False

    def _begin(self, stamp_us: int, expected: int) -> int:
        """Return the time of the first stamp; the pictures before it had none."""
        is_believable = abs(stamp_us - self.origin_us) < _FORWARD_JUMP_US
        if self._time is not None or not is_believable:
            self.origin_us = stamp_us - expected
        self._time = stamp_us - self.origin_us
        return self._time
