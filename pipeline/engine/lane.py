"""One stream inside the engine: its buffer, its model session, its tracks and its rules.

The buffer and the ledger are used by the capture thread too; all else by the engine's thread alone.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from connectors.frame import Frame
from models.protocols import FrameInput, Prediction
from pipeline.config.run import RunConfig, StreamConfig
from pipeline.engine.buffer import FrameBuffer, FrameLedger
from pipeline.engine.scheduler import Waiting
from pipeline.events.event import Event, EventPhase
from pipeline.events.rules.machine import RuleBook
from pipeline.observe.metrics import Metrics
from pipeline.streams.result import FrameResult, FrameStamp, Scene
from pipeline.tracking.states import TrackChangeKind
from pipeline.tracking.tracks import SessionKey, TrackBook, TrackUpdate

_CAPTION_S = 3.0
_MAX_CAPTIONS = 5


@dataclass(slots=True, kw_only=True)
class _Session:
    """What belongs to an unbroken run of equal frames."""

    epoch: int
    shape: tuple[int, ...]
    book: TrackBook
    rules: RuleBook
    stamp: FrameStamp
    time_s: float


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
        self._run = run
        self._session: _Session | None = None
        self._last_stamp: FrameStamp | None = None
        self._next_no = 1
        self._lost_before = 0
        self._captions: deque[tuple[float, str]] = deque(maxlen=_MAX_CAPTIONS)

    @property
    def is_spent(self) -> bool:
        """Whether no frame is left and none will come."""
        return self.buffer.is_closed and len(self.buffer) == 0

    @property
    def last_stamp(self) -> FrameStamp | None:
        """Of the last frame processed."""
        return self._last_stamp

    def waiting(self) -> Waiting:
        """Return the scheduler's view of this stream."""
        return Waiting(stream_id=self.stream_id, num_frames=len(self.buffer))

    def fits_session(self, frame: Frame) -> bool:
        """Tell whether a frame continues the session: same epoch, same size, a later number."""
        session = self._session
        return (
            session is not None
            and session.epoch == frame.stream_epoch
            and session.shape == frame.pixels.shape
            and session.stamp.frame_seq < frame.frame_seq
        )

    def begin(self, frame: Frame) -> None:
        """Begin a session with this frame; one that is open must have been ended."""
        key = SessionKey(
            deployment=self._run.deployment,
            stream_id=self.stream_id,
            stream_epoch=frame.stream_epoch,
            began_at=frame.captured_at,
            first_seq=frame.frame_seq,
        )
        self._session = _Session(
            epoch=frame.stream_epoch,
            shape=frame.pixels.shape,
            book=TrackBook(key, self._run.tracking, first_no=self._next_no),
            rules=RuleBook(self.config.rules, self.config.zones),
            stamp=FrameStamp.of(frame),
            time_s=frame.captured_at.timestamp(),
        )

    def input_of(self, frame: Frame) -> FrameInput:
        """Return the model's input; its time never runs backwards within a session."""
        session = self._open_session()
        session.time_s = max(session.time_s, frame.captured_at.timestamp())
        session.stamp = FrameStamp.of(frame)
        return FrameInput(stream_id=self.stream_id, pixels=frame.pixels, time_s=session.time_s)

    def apply(self, frame: Frame, prediction: Prediction, *, now: datetime) -> FrameResult:
        """Return what a prediction means: tracks, changes and events."""
        session = self._open_session()
        update = session.book.apply(prediction, time_s=session.time_s)
        self._next_no = session.book.next_no
        events = session.rules.apply(update, time_s=session.time_s)
        self._note_captions(events, session.time_s)
        self._last_stamp = session.stamp
        self.num_model_errors = 0
        scene = Scene(
            frame=frame,
            tracks=update.tracks,
            presence=dict(prediction.presence),
            zones=self.config.zones,
            captions=tuple(text for _, text in self._captions),
            dropped_since_last=self._count_lost(),
        )
        return self._result(session.stamp, update, events, now=now, scene=scene)

    def end_session(self, reason: str, *, now: datetime) -> FrameResult | None:
        """End all tracks and events of the session, if one is open."""
        session, self._session = self._session, None
        if session is None:
            return None
        update = session.book.close(reason)
        events = session.rules.apply(update, time_s=session.time_s)
        self._captions.clear()
        if not update.changes and not events:
            return None
        return self._result(session.stamp, update, events, now=now)

    def _result(
        self,
        stamp: FrameStamp,
        update: TrackUpdate,
        events: tuple[Event, ...],
        *,
        now: datetime,
        scene: Scene | None = None,
    ) -> FrameResult:
        result = FrameResult(
            stamp=stamp,
            result_time=now,
            model=self._run.model.name,
            changes=update.changes,
            events=events,
            scene=scene,
        )
        self.totals.add(result)
        return result

    def _open_session(self) -> _Session:
        if self._session is None:
            raise RuntimeError(f"stream {self.stream_id!r} has no session (accepted: begin first)")
        return self._session

    def _note_captions(self, events: tuple[Event, ...], time_s: float) -> None:
        self._captions.extend(
            (time_s, event.caption) for event in events if event.phase is EventPhase.NEW
        )
        while self._captions and time_s - self._captions[0][0] > _CAPTION_S:
            self._captions.popleft()

    def _count_lost(self) -> int:
        counts = self.ledger.counts()
        lost = counts.gated + sum(counts.dropped.values())
        since, self._lost_before = lost - self._lost_before, lost
        return since
