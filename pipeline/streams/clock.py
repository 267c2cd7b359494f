"""Stream time: what tracks and rules run on.

Capture times are reported, not trusted. Of what a frame says of its time, of its arrival and of the
wall clock, a timeline makes a time that never runs backwards; :class:`StreamClock` adds which part
of it was observed. All times are whole microseconds; nothing here reads a clock.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from statistics import median_low

from pipeline.clock import Moment
from pipeline.streams.timelines import (
    LiveState,
    LiveTimeline,
    Reading,
    StampState,
    StampTimeline,
    Step,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_US = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LATEST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_MIN_GAP_US = 2_000_000  # a camera that stutters for less still sees what happens
_GAP_INTERVALS = 5
_NUM_INTERVALS = 9  # outlives four odd ones in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What the clock makes of one frame.

    Attributes:
        stream_time_us: Time since the stream's first frame; grows by at least 1.
        observed_us: The same without the gaps.
        gap_us: Time before this frame in which nothing was observed.
        begins_session: The stream's first frame, or one after a gap that ends a session.
        is_same_stamp: The capture time equals that of the frame before.
    """

    stream_time_us: int
    observed_us: int
    gap_us: int
    begins_session: bool
    is_same_stamp: bool

    @property
    def moment(self) -> Moment:
        """The two times that tracks and rules count with."""
        return Moment(stream_us=self.stream_time_us, observed_us=self.observed_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class WallTime:
    """What stream time is in wall time.

    Attributes:
        zero_us: Wall time at stream time 0, microseconds since 1970.
    """

    zero_us: int

    def utc_of(self, stream_time_us: int) -> datetime:
        """Return the wall time of a stream time."""
        utc_us = min(max(self.zero_us + stream_time_us, _EARLIEST_US), _LATEST_US)
        return _EPOCH + timedelta(microseconds=utc_us)


@dataclass(slots=True, kw_only=True)
class ClockState:
    """What a :class:`StreamClock` knows.

    Attributes:
        timeline: What its timeline knows.
        tick: Of the last frame.
        captured_us: Capture time of the last frame.
        intervals: The last times between measured frames.
        measured_us: Stream time of the last measured frame.
        num_unmeasured: Frames since then.
    """

    timeline: LiveState | StampState
    tick: Tick | None = None
    captured_us: int = 0
    intervals: tuple[int, ...] = ()
    measured_us: int = 0
    num_unmeasured: int = 0


class StreamClock:
    """The clock of one stream, over all its sessions and connections.

    Args:
        is_live: Arrival tells how fast time goes: cameras. Else only stamps do: files, topics.
        session_gap_us: A longer step ends the session.
        state: What another clock of the same kind knew, to go on from.
    """

    def __init__(
        self, *, is_live: bool, session_gap_us: int, state: ClockState | None = None
    ) -> None:
        state = state or ClockState(timeline=LiveState() if is_live else StampState())
        self._state = replace(state)
        self._timeline = (
            LiveTimeline(session_gap_us, state.timeline)
            if isinstance(state.timeline, LiveState)
            else StampTimeline(session_gap_us, state.timeline)
        )

    @property
    def state(self) -> ClockState:
        """A copy of what it knows, from which another one goes on."""
        return replace(self._state, timeline=self._timeline.state)

    @property
    def is_live(self) -> bool:
        """Whether arrival tells how fast time goes."""
        return isinstance(self._timeline, LiveTimeline)

    @property
    def num_reanchored(self) -> int:
        """How often the source's clock was set otherwise for good."""
        return self._timeline.num_reanchored

    def advance(
        self,
        *,
        captured_us: int,
        arrived_us: int,
        now_us: int,
        nominal_us: int | None,
        is_doubtful: bool,
    ) -> Tick:
        """Return the time of the next frame.

        Args:
            captured_us: Capture time since 1970, as the source gives it.
            arrived_us: When the frame came in, on a clock that does not run backwards.
            now_us: Wall time since 1970.
            nominal_us: Usual time between two frames, if the source knows it.
            is_doubtful: The neighbours contradict ``captured_us``.
        """
        before, is_same_stamp = self._state.tick, captured_us == self._state.captured_us
        self._state.captured_us = captured_us
        reading = Reading(
            captured_us=captured_us,
            arrived_us=arrived_us,
            now_us=now_us,
            nominal_us=nominal_us if nominal_us and nominal_us > 0 else None,
            usual_us=median_low(self._state.intervals) if self._state.intervals else None,
            is_doubtful=is_doubtful,
        )
        if before is None:
            self._timeline.begin(reading)
            self._state.tick = Tick(
                stream_time_us=0,
                observed_us=0,
                gap_us=0,
                begins_session=True,
                is_same_stamp=False,
            )
            return self._state.tick
        step = self._timeline.advance(reading)
        step_us = step.time_us - before.stream_time_us
        gap_us = self._measure(step, step_us, reading.step_us)
        self._state.tick = Tick(
            stream_time_us=step.time_us,
            observed_us=before.observed_us + step_us - gap_us,
            gap_us=gap_us,
            begins_session=step.begins_session,
            is_same_stamp=is_same_stamp,
        )
        return self._state.tick

    @property
    def wall_time(self) -> WallTime:
        """How stream time becomes wall time, by the stamps believed last."""
        return WallTime(zero_us=self._timeline.zero_us)

    def utc_of(self, stream_time_us: int) -> datetime:
        """Return the wall time of a stream time, by the stamps believed last."""
        return self.wall_time.utc_of(stream_time_us)

    def _measure(self, step: Step, step_us: int, usual_us: int) -> int:
        """Return how much of a step is a gap, and learn from it what is usual.

        Frames whose stamps could not be believed share the time that the next one shows to have
        gone by: a false stamp is no gap.
        """
        if step.begins_session:  # another visit has a pace of its own
            self._state.intervals = ()
            self._state.measured_us, self._state.num_unmeasured = step.time_us, 0
            return max(step_us - usual_us, 0) if step.is_measured else 0
        if not step.is_measured:
            self._state.num_unmeasured += 1
            return 0
        interval_us = (step.time_us - self._state.measured_us) // (self._state.num_unmeasured + 1)
        self._state.measured_us, self._state.num_unmeasured = step.time_us, 0
        self._state.intervals = (*self._state.intervals, interval_us)[-_NUM_INTERVALS:]
        is_gap = interval_us > max(_MIN_GAP_US, _GAP_INTERVALS * usual_us)
        return max(step_us - usual_us, 0) if is_gap else 0


def resumed(state: ClockState) -> ClockState:
    """Return the state of a clock whose next frame arrives by the clock of another process."""
    timeline = state.timeline
    if not isinstance(timeline, LiveState):
        return state
    return replace(state, timeline=replace(timeline, is_resumed=True))


def advanced(state: ClockState, now: Moment) -> ClockState:
    """Return the state of a clock that has seen a frame at a later time, behind its last one."""
    tick, timeline = state.tick, state.timeline
    passed_us = 0 if tick is None else now.stream_us - tick.stream_time_us
    if tick is None or passed_us <= 0:
        return state
    if isinstance(timeline, LiveState):
        timeline = replace(
            timeline,
            arrived_us=timeline.arrived_us + passed_us,
            now_us=timeline.now_us + passed_us,
        )
    return replace(
        state,
        timeline=replace(timeline, time_us=now.stream_us),
        tick=replace(tick, stream_time_us=now.stream_us, observed_us=now.observed_us),
        measured_us=now.stream_us,
        num_unmeasured=0,
    )


def to_us(moment: datetime) -> int:
    """Return whole microseconds since 1970 of an aware time, without floats."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
