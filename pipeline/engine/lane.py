"""One stream inside the engine: its buffer and its account around the pure stream.

The buffer and the ledger are used by the capture thread too; all else by the engine's thread alone.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from connectors.frame import Frame
from models.protocols import Prediction
from pipeline.config.run import Overflow, RunConfig, StreamConfig
from pipeline.engine.buffer import FrameBuffer, FrameLedger
from pipeline.engine.scheduler import Waiting
from pipeline.events.event import EventPhase
from pipeline.observe.metrics import Metrics
from pipeline.streams.result import FrameResult, FrameStamp
from pipeline.streams.stream import Admission, Stream
from pipeline.tracking.states import TrackChangeKind


@dataclass(slots=True, kw_only=True)
class LaneTotals:
    """What a stream led to so far."""

    num_started: int = 0
    num_confirmed: int = 0
    events: Counter[str] = field(default_factory=Counter[str])
    concepts: Counter[str] = field(default_factory=Counter[str])

    def add(self, result: FrameResult) -> None:
        """Count what a result holds: tracks by concept, new events by rule."""
        for change in result.changes:
            self.num_started += change.kind is TrackChangeKind.STARTED
            if change.kind is TrackChangeKind.CONFIRMED:
                self.num_confirmed += 1
                self.concepts[change.track.concept] += 1
        for event in result.events:
            self.events[event.rule] += event.phase is EventPhase.NEW


class Lane:
    """One stream inside the engine.

    Args:
        stream_id: Its name; differs from the configured one when a source names its streams.
        config: What to look for.
        run: The whole configuration.
        metrics: Where frames are counted.
        on_frame: Called when a frame has come in.
    """

    def __init__(
        self,
        stream_id: str,
        config: StreamConfig,
        run: RunConfig,
        metrics: Metrics,
        *,
        on_frame: Callable[[], None],
    ) -> None:
        self.stream_id = stream_id
        self.config = config
        self.ledger = FrameLedger(stream_id, metrics)
        self.buffer = FrameBuffer(
            capacity=run.engine.buffer_frames,
            overflow=config.buffer_overflow,
            ledger=self.ledger,
            on_frame=on_frame,
            max_fps=config.max_fps,
        )
        self.totals = LaneTotals()
        self.error: Exception | None = None
        self.num_model_errors = 0
        self.active_s = 0.0
        self._stream = Stream(
            stream_id,
            config,
            deployment=run.deployment,
            model=run.model.name,
            tracking=run.tracking,
            is_live=config.buffer_overflow is not Overflow.WAIT,
        )
        self._lost_before = 0

    @property
    def is_spent(self) -> bool:
        """Whether no frame is left and none will come."""
        return self.buffer.is_closed and len(self.buffer) == 0

    @property
    def last_stamp(self) -> FrameStamp | None:
        """Of the last frame processed."""
        return self._stream.last_stamp

    def waiting(self) -> Waiting:
        """Return the scheduler's view of this stream."""
        return Waiting(stream_id=self.stream_id, num_frames=len(self.buffer))

    def admit(self, frame: Frame, *, arrived_us: int, now: datetime) -> Admission:
        """Give a frame its time and its session; see :meth:`Stream.admit`."""
        admission = self._stream.admit(frame, arrived_us=arrived_us, now=now)
        if admission.ended is not None:
            self.totals.add(admission.ended)
        return admission

    def apply(self, admission: Admission, prediction: Prediction, *, now: datetime) -> FrameResult:
        """Return what a prediction means; see :meth:`Stream.apply`."""
        result = self._stream.apply(
            admission, prediction, now=now, dropped_since_last=self._count_lost()
        )
        self.num_model_errors = 0
        self.totals.add(result)
        return result

    def end_session(self, reason: str, *, now: datetime) -> FrameResult | None:
        """End all tracks and events of the session, if one is open."""
        result = self._stream.end_session(reason, now=now)
        if result is not None:
            self.totals.add(result)
        return result

    def _count_lost(self) -> int:
        counts = self.ledger.counts()
        lost = counts.gated + sum(counts.dropped.values())
        since, self._lost_before = lost - self._lost_before, lost
        return since
