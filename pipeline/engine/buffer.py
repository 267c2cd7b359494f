"""Frames of one stream on their way to the model."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from connectors.frame import Frame
from pipeline.config.sections.stream import Overflow
from pipeline.engine.commits import Ticket
from pipeline.engine.gate import RateGate
from pipeline.engine.ledger import DropCause, Ledger

_SMOOTHING = 0.1  # of the usual interval: about the last ten frames count
_OUTLIER = 5.0  # no single step counts for more than this many usual ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A frame as it came in.

    Attributes:
        arrived_us: Monotonic time.
        now_us: UTC at the same moment, in microseconds since 1970.
        ticket: Finished when the frame is done.
    """

    frame: Frame
    arrived_us: int
    now_us: int
    ticket: Ticket = field(default_factory=Ticket)


class FrameBuffer:
    """A bounded queue of frames of one stream: its source's thread offers, the engine takes.

    Args:
        stream_id: Whose account in the ledger is written.
        capacity: Frames held at most.
        overflow: What happens to one frame more.
        ledger: Where frames are counted.
        on_frame: Called after a frame has come in.
        gate: Leaves frames out; none passes all.
    """

    def __init__(
        self,
        stream_id: str,
        *,
        capacity: int,
        overflow: Overflow,
        ledger: Ledger,
        on_frame: Callable[[], None],
        gate: RateGate | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"bad capacity {capacity!r} (accepted: at least 1)")
        self._stream_id = stream_id
        self._capacity = capacity
        self._overflow = overflow
        self._ledger = ledger
        self._on_frame = on_frame
        self._gate = gate
        self._frames: deque[Arrived] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._is_abandoned = False
        self._num_offered = 0  # frames that wait for room; counted as received already
        self._last_us: int | None = None
        self._interval_us = 0.0

    @property
    def num_frames(self) -> int:
        """Frames that wait for the model."""
        return len(self._frames)

    @property
    def head(self) -> Arrived | None:
        """The oldest frame, which :meth:`take` would return."""
        with self._changed:
            return self._frames[0] if self._frames else None

    @property
    def is_drained(self) -> bool:
        """Whether no frame is left and none will come."""
        with self._changed:
            return self._is_closed and not self._frames and not self._num_offered

    @property
    def last_arrived_us(self) -> int | None:
        """When the last frame came, gated ones included; ``None`` before the first."""
        return self._last_us

    @property
    def usual_interval_us(self) -> int:
        """How far apart frames come usually; 0 before the second."""
        return round(self._interval_us)

    def offer(self, arrived: Arrived) -> bool:
        """Put a frame in, by the overflow policy; under ``WAIT`` this waits for room.

        Returns:
            False if the buffer is closed; the frame is then not counted here.
        """
        with self._changed:
            if self._is_closed:
                return False
            self._note_arrival(arrived.arrived_us)
            if self._gate is not None and not self._gate.passes(
                arrived.frame, arrived_us=arrived.arrived_us, now_us=arrived.now_us
            ):
                self._ledger.gate(self._stream_id)
                arrived.ticket.finish()
                return True
            self._ledger.receive(self._stream_id)
            if self._overflow is Overflow.WAIT:
                self._num_offered += 1
                self._changed.wait_for(lambda: self._has_room() or self._is_closed)
                self._num_offered -= 1
            self._put(arrived)
        self._on_frame()
        return True

    def take(self) -> Arrived | None:
        """Return the oldest frame, ``None`` if there is none."""
        with self._changed:
            if not self._frames:
                return None
            self._changed.notify_all()
            return self._frames.popleft()

    def clear(self, cause: DropCause) -> None:
        """Drop and count the frames inside; others may come. For sources that cannot go back."""
        while (arrived := self.take()) is not None:
            self._ledger.drop(self._stream_id, cause)
            arrived.ticket.finish()

    def close(self, *, drop_cause: DropCause | None = None) -> None:
        """Let no more frames in; with a cause, drop and count those inside. Repeatable."""
        with self._changed:
            self._is_closed = True
            if drop_cause is not None and not self._is_abandoned:
                self._is_abandoned = True
                # Their tickets stay open: where the source keeps its position they come again.
                num_frames = len(self._frames) + self._num_offered
                self._ledger.drop(self._stream_id, drop_cause, num_frames)
                self._frames.clear()
            self._changed.notify_all()
        self._on_frame()

    def _note_arrival(self, arrived_us: int) -> None:
        if self._last_us is not None:
            step_us = arrived_us - self._last_us
            if self._interval_us:  # an outage says little about how often frames come
                step_us = min(step_us, round(_OUTLIER * self._interval_us))
            share = _SMOOTHING if self._interval_us else 1.0
            self._interval_us += share * (step_us - self._interval_us)
        self._last_us = arrived_us

    def _put(self, arrived: Arrived) -> None:
        if self._is_abandoned:  # while this frame waited for room; it was counted then
            return
        if self._has_room() or self._is_closed:
            # One above capacity on closing: the source has moved on, so the frame must not be lost.
            self._frames.append(arrived)
        elif self._overflow is Overflow.DROP_NEWEST:
            self._overflow_by(arrived)
        else:
            self._overflow_by(self._frames.popleft())
            self._frames.append(arrived)

    def _overflow_by(self, arrived: Arrived) -> None:
        self._ledger.drop(self._stream_id, DropCause.OVERFLOW)
        arrived.ticket.finish()

    def _has_room(self) -> bool:
        return len(self._frames) < self._capacity
