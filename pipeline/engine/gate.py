"""Leaves frames out so that a stream stays below ``max_fps``. Used by its source's thread alone."""

from connectors.frame import Frame
from pipeline.streams.clock import StreamClock, to_us

_US = 1_000_000
# Cameras and networks jitter: a camera of exactly max_fps must not lose every frame that comes
# a little early. Media stamps are rounded to milliseconds by most containers.
_LIVE_TOLERANCE = 0.25  # of the interval
_MEDIA_TOLERANCE_US = 1_000


class RateGate:
    """Passes frames at most ``max_fps`` times a second, on average.

    Live frames are judged by their arrival, never by the camera's clock, which may jump. Files
    come as fast as they are read, so their stamps are judged, by the rules of stream time.

    Args:
        max_fps: Frames per second that pass.
        is_live: Whether the frames come as they are taken.
        session_gap_us: A longer gap between media stamps begins a new session.
    """

    def __init__(self, max_fps: float, *, is_live: bool, session_gap_us: int) -> None:
        self._interval_us = round(_US / max_fps)
        self._tolerance_us = (
            round(self._interval_us * _LIVE_TOLERANCE) if is_live else _MEDIA_TOLERANCE_US
        )
        self._media_clock = (
            None if is_live else StreamClock(is_live=False, session_gap_us=session_gap_us)
        )
        self._due_us: int | None = None

    def passes(self, frame: Frame, *, arrived_us: int, now_us: int) -> bool:
        """Tell whether a frame goes on.

        Args:
            frame: The next of its stream.
            arrived_us: Monotonic time at which it came.
            now_us: UTC in microseconds since 1970, to know stamps of the future by.
        """
        time_us = arrived_us
        if self._media_clock is not None:
            tick = self._media_clock.advance(
                captured_us=to_us(frame.captured_at),
                arrived_us=arrived_us,
                now_us=now_us,
                nominal_us=frame.nominal_step_us,
                is_doubtful=frame.is_time_doubtful,
            )
            time_us = tick.stream_time_us
            if tick.begins_session:
                self._due_us = None
        return self._passes_at(time_us)

    def _passes_at(self, time_us: int) -> bool:
        due_us = self._due_us
        if due_us is not None and time_us < due_us - self._tolerance_us:
            return False
        # On schedule the next one is due an interval after this one was, not after it came: so
        # the average rate is kept. After a gap the schedule begins anew.
        is_on_schedule = due_us is not None and abs(time_us - due_us) < self._interval_us
        base_us = due_us if due_us is not None and is_on_schedule else time_us
        self._due_us = base_us + self._interval_us
        return True
