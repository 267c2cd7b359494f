"""From capture and arrival times to a time that never runs backwards.

All times are whole microseconds. One false stamp moves nothing: what comes after it has the time
that it would have had without it.
"""

from dataclasses import dataclass, replace
from typing import Literal

_NOMINAL_US = 40_000  # 25 frames a second, the commonest rate of cameras
_FUTURE_US = 86_400_000_000  # more than any time zone can explain
_TRUST_US = 2_000_000
_SETTLE_US = 10_000_000
_SLEW = 100  # drift of a camera's clock is followed by at most 1 % of the time that went by


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is known of the time of one frame; see :meth:`StreamClock.advance`.

    Attributes:
        usual_us: Median time between the frames before, if some were measured.
    """

    captured_us: int
    arrived_us: int
    now_us: int
    nominal_us: int | None
    usual_us: int | None
    is_doubtful: bool

    @property
    def is_in_future(self) -> bool:
        """Whether the capture time cannot be: it lies more than a day ahead."""
        return self.captured_us > self.now_us + _FUTURE_US

    @property
    def step_us(self) -> int:
        """Step of a frame whose time cannot be believed."""
        return self.nominal_us or self.usual_us or _NOMINAL_US


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One frame on a timeline.

    Attributes:
        time_us: Since the first frame.
        is_measured: The step comes from a clock, not from what is usual.
        begins_session: The gap before it ends the session.
    """

    time_us: int
    is_measured: bool
    begins_session: bool = False


@dataclass(slots=True, kw_only=True)
class LiveState:
    """What a :class:`LiveTimeline` knows.

    Attributes:
        num_reanchored: How often the source's clock was set otherwise for good.
        origin_us: Arrival at the time 0.
        offset_us: Capture time less arrival, slowly following the stamps.
        time_us: Of the last frame.
        arrived_us: Arrival of the last frame.
        believed_at_us: Arrival of the frame whose stamp was believed last.
        disagrees_since_us: Arrival of the first frame in a row whose stamps were not believed.
        now_us: Wall time at the last frame.
        is_resumed: The next frame's arrival is on another clock than those before.
    """

    is_live: Literal[True] = True
    num_reanchored: int = 0
    origin_us: int = 0
    offset_us: int = 0
    time_us: int = 0
    arrived_us: int = 0
    believed_at_us: int = 0
    disagrees_since_us: int | None = None
    now_us: int = 0
    is_resumed: bool = False


class LiveTimeline:
    """Capture time as long as it agrees with arrival, else arrival.

    A reference offset between the source's clock and arrival is kept. Stamps that keep it within
    2 s are believed, and the offset follows them slowly. If they disagree for 10 s the source's
    clock has been set otherwise: the offset is taken anew, and no time is lost or invented.
    """

    def __init__(self, session_gap_us: int, state: LiveState | None = None) -> None:
        self._session_gap_us = session_gap_us
        self._state = replace(state) if state else LiveState()

    @property
    def state(self) -> LiveState:
        """A copy of what it knows, from which another one goes on."""
        return replace(self._state)

    @property
    def num_reanchored(self) -> int:
        """How often the source's clock was set otherwise for good."""
        return self._state.num_reanchored

    def begin(self, reading: Reading) -> None:
        """Take the first frame, whose time is 0."""
        self._state.origin_us = self._state.arrived_us = self._state.believed_at_us = (
            reading.arrived_us
        )
        self._state.offset_us = _live_capture_us(reading) - reading.arrived_us
        self._state.now_us, self._state.is_resumed = reading.now_us, False

    def advance(self, reading: Reading) -> Step:
        """Return the step to the next frame."""
        if self._state.is_resumed:
            self._resume(reading)
        self._state.now_us = reading.now_us
        arrived_us = max(reading.arrived_us, self._state.arrived_us)
        passed_us, self._state.arrived_us = arrived_us - self._state.arrived_us, arrived_us
        error_us = _live_capture_us(reading) - arrived_us - self._state.offset_us
        time_us = arrived_us - self._state.origin_us
        if abs(error_us) <= _TRUST_US and not reading.is_doubtful:
            time_us += error_us
            self._follow(error_us, arrived_us)
        else:
            self._disagree(error_us, arrived_us)
        if time_us <= self._state.time_us:
            # Half as fast as arrival until the true time has caught up: a rule's clock that stands
            # still for up to 2 s would be a hole.
            time_us = self._state.time_us + max(passed_us // 2, 1)
        begins_session = time_us - self._state.time_us > self._session_gap_us
        self._state.time_us = time_us
        return Step(time_us=time_us, is_measured=True, begins_session=begins_session)

    @property
    def zero_us(self) -> int:
        """Wall time of the time 0, microseconds since 1970."""
        return self._state.origin_us + self._state.offset_us

    def _resume(self, reading: Reading) -> None:
        """Go over to another clock of arrival: as much time went by as the wall clock says."""
        state = self._state
        passed_us = max(reading.now_us - state.now_us, 0)
        shift_us = reading.arrived_us - passed_us - state.arrived_us
        state.origin_us += shift_us
        state.arrived_us += shift_us
        state.believed_at_us += shift_us
        if state.disagrees_since_us is not None:
            state.disagrees_since_us += shift_us
        state.offset_us -= shift_us
        state.is_resumed = False

    def _follow(self, error_us: int, arrived_us: int) -> None:
        limit_us = (arrived_us - self._state.believed_at_us) // _SLEW
        self._state.offset_us += min(max(error_us, -limit_us), limit_us)
        self._state.believed_at_us = arrived_us
        self._state.disagrees_since_us = None

    def _disagree(self, error_us: int, arrived_us: int) -> None:
        if self._state.disagrees_since_us is None:
            self._state.disagrees_since_us = arrived_us
        elif arrived_us - self._state.disagrees_since_us >= _SETTLE_US:
            self._state.offset_us += error_us
            self._state.believed_at_us = arrived_us
            self._state.disagrees_since_us = None
            self._state.num_reanchored += 1


def _live_capture_us(reading: Reading) -> int:
    return reading.now_us if reading.is_in_future else reading.captured_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A stamp that was believed, and its place on the timeline."""

    captured_us: int
    time_us: int
    is_in_future: bool


@dataclass(slots=True, kw_only=True)
class StampState:
    """What a :class:`StampTimeline` knows.

    Attributes:
        num_reanchored: How often the source's clock was set otherwise for good.
        time_us: Of the last frame.
        raw_us: Capture time of the last frame whose neighbours did not contradict it; nothing
            before there is an anchor.
        anchor: The stamp that was believed last.
        was_far_behind: The last stamp lay before it by more than ends a session.
        zero_us: Wall time of the time 0.
    """

    is_live: Literal[False] = False
    num_reanchored: int = 0
    time_us: int = 0
    raw_us: int = 0
    anchor: Anchor | None = None
    was_far_behind: bool = False
    zero_us: int = 0


class StampTimeline:
    """Differences of capture times, where they can be; never arrival.

    A stamp that lies before the one believed last, equals it or lies in the future takes the
    nominal step and moves nothing. If the next stamp goes on from such a one, the source's clock
    has been set otherwise, and the run of stamps is adopted.
    """

    def __init__(self, session_gap_us: int, state: StampState | None = None) -> None:
        self._session_gap_us = session_gap_us
        self._state = replace(state) if state else StampState()

    @property
    def state(self) -> StampState:
        """A copy of what it knows, from which another one goes on."""
        return replace(self._state)

    @property
    def num_reanchored(self) -> int:
        """How often the source's clock was set otherwise for good."""
        return self._state.num_reanchored

    def begin(self, reading: Reading) -> None:
        """Take the first frame, whose time is 0."""
        self._state.zero_us = reading.now_us
        if not reading.is_doubtful:
            self._state.raw_us = reading.captured_us
            self._believe(reading, 0)

    def advance(self, reading: Reading) -> Step:
        """Return the step to the next frame."""
        anchor = self._state.anchor
        nominal = Step(time_us=self._state.time_us + reading.step_us, is_measured=False)
        is_impossible = reading.is_in_future and anchor is not None and not anchor.is_in_future
        if reading.is_doubtful or is_impossible:
            step = nominal
        elif anchor is None or (anchor.is_in_future and not reading.is_in_future):
            self._state.raw_us = reading.captured_us
            step = self._adopt(reading, nominal)  # nothing that could be believed came before
        else:
            raw_us, self._state.raw_us = self._state.raw_us, reading.captured_us
            step = self._compare(reading, anchor, raw_us)
        self._state.time_us = step.time_us
        return step

    @property
    def zero_us(self) -> int:
        """Wall time of the time 0, microseconds since 1970."""
        return self._state.zero_us

    def _compare(self, reading: Reading, anchor: Anchor, raw_us: int) -> Step:
        step_us = reading.captured_us - anchor.captured_us
        was_far_behind, self._state.was_far_behind = self._state.was_far_behind, False
        if step_us > self._session_gap_us:
            next_us = self._state.time_us + reading.step_us
            return self._adopt(
                reading, Step(time_us=next_us, is_measured=False, begins_session=True)
            )
        if step_us > 0:
            time_us = max(anchor.time_us + step_us, self._state.time_us + 1)
            return self._adopt(reading, Step(time_us=time_us, is_measured=True))
        if step_us == 0:
            # Within one second of whole-second stamps: the usual step may be longer than that.
            return Step(
                time_us=self._state.time_us + (reading.nominal_us or _NOMINAL_US), is_measured=False
            )
        is_far_behind = -step_us > self._session_gap_us
        raw_step_us = reading.captured_us - raw_us
        has_moved = 0 < raw_step_us <= self._session_gap_us
        if has_moved or (is_far_behind and was_far_behind):
            self._state.num_reanchored += 1
            time_us = self._state.time_us + (raw_step_us if has_moved else reading.step_us)
            step = Step(time_us=time_us, is_measured=has_moved, begins_session=is_far_behind)
            return self._adopt(reading, step)
        self._state.was_far_behind = is_far_behind
        return Step(time_us=self._state.time_us + reading.step_us, is_measured=False)

    def _adopt(self, reading: Reading, step: Step) -> Step:
        self._believe(reading, step.time_us)
        return step

    def _believe(self, reading: Reading, time_us: int) -> None:
        is_in_future = reading.is_in_future
        self._state.anchor = Anchor(
            captured_us=reading.captured_us, time_us=time_us, is_in_future=is_in_future
        )
        if not is_in_future:
            self._state.zero_us = reading.captured_us - time_us
