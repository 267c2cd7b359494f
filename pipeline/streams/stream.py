"""One stream, pure: frames and predictions in, results out.

Knows no threads, metrics, sinks and no clock: arrival and wall time are arguments. A stream lives
over all connections of its source; a session is what lies between two gaps and is what tracks and
the model's memory live in.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from connectors.frame import Frame
from models.protocols import FrameInput, Prediction
from pipeline.clock import Moment, seconds_to_us
from pipeline.errors import SnapshotError
from pipeline.events.event import Event, EventPhase, OpenEvent, RuleUpdate
from pipeline.events.rules.config import BaseRuleConfig
from pipeline.events.rules.machine import RuleBook
from pipeline.events.zones import ZoneConfig
from pipeline.streams.clock import StreamClock, Tick, WallTime, resumed, to_us
from pipeline.streams.result import FrameResult, FrameStamp, Revisions, Scene
from pipeline.streams.snapshot import SessionState, StreamSnapshot
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.track import TrackUpdate
from pipeline.tracking.tracks import BookState, SessionKey, TrackBook

_CAPTION_US = 3_000_000
_MAX_CAPTIONS = 5
# Streams of one camera are rounded to blocks of pixels: 848 x 480 beside 1920 x 1080 is 0.6 % off,
# 640 x 368 is 2.2 %. Views that are really others differ by more: 5:4 and 4:3 by 6.7 %.
_MAX_STRETCH = 0.025
# These ends leave nothing unseen; others cut a session short.
_COMPLETE_REASONS = frozenset({"discontinuity", "stream_ended"})


@dataclass(slots=True, kw_only=True)
class _Session:
    """What belongs to an unbroken run of frames of one view.

    Attributes:
        wall_time: Of its last frame; the stream's may be another when a gap ends the session.
    """

    shape: tuple[int, ...]
    book: TrackBook
    rules: RuleBook
    stamp: FrameStamp
    now: Moment
    wall_time: WallTime

    def fit(self, shape: tuple[int, ...]) -> bool:
        """Go on with frames of a shape; ``False``: they show another view than those before."""
        if shape == self.shape:
            return True
        (height, width), (new_height, new_width) = self.shape[:2], shape[:2]
        stretch = (height * new_width) / (width * new_height)
        if abs(stretch - 1) > _MAX_STRETCH:
            return False
        self.book.resize((new_height, new_width))
        self.shape = shape
        return True

    @property
    def state(self) -> SessionState:
        """A copy of how it stands."""
        return SessionState(
            shape=self.shape,
            book=self.book.state,
            rules=self.rules.state,
            stamp=self.stamp,
            now=self.now,
            wall_time=self.wall_time,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A frame on its way to the model.

    Attributes:
        frame: The frame.
        tick: Its time.
        model_input: What the model is to see.
        begins_session: The model's stream must be opened anew before.
        ended: What the end of the session before led to; published before the frame's result.
    """

    frame: Frame
    tick: Tick
    model_input: FrameInput
    begins_session: bool
    ended: FrameResult | None


class Stream:
    """One stream over all its sessions.

    Attributes:
        revisions: By which changes frames are judged from the next one on.

    Args:
        stream_id: Its name; differs from the configured one when a source names its streams.
        deployment: Name of the installation, part of what makes track ids unique.
        model: Name of the model.
        tracking: Life times of tracks and sessions.
        is_live: Frames come as fast as time goes by; see :class:`StreamClock`.
        zones: Its zones.
        rules: Its rules.
        first_no: Number of its first track.
    """

    def __init__(  # noqa: PLR0913 - the last three may be left out
        self,
        stream_id: str,
        *,
        deployment: str,
        model: str,
        tracking: TrackingConfig,
        is_live: bool,
        zones: Sequence[ZoneConfig] = (),
        rules: Sequence[BaseRuleConfig] = (),
        first_no: int = 1,
    ) -> None:
        self.stream_id = stream_id
        self.revisions = Revisions()
        self._zones, self._rules = tuple(zones), tuple(rules)
        self._deployment = deployment
        self._model = model
        self._tracking = tracking
        self._clock = StreamClock(
            is_live=is_live, session_gap_us=seconds_to_us(tracking.session_gap_s)
        )
        self._session: _Session | None = None
        self._last_stamp: FrameStamp | None = None
        self._next_no = first_no
        self._captions: deque[tuple[int, str]] = deque(maxlen=_MAX_CAPTIONS)

    def snapshot(self) -> StreamSnapshot:
        """Return how it stands: between two frames, none of them admitted and not yet applied."""
        session = self._session
        return StreamSnapshot(
            stream_id=self.stream_id,
            clock=self._clock.state,
            session=None if session is None else session.state,
            next_no=self._next_no,
            captions=tuple(self._captions),
            last_stamp=self._last_stamp,
        )

    def restore(self, snapshot: StreamSnapshot, *, first_no: int | None = None) -> None:
        """Go on from where another one of the same name stood; nothing may have been admitted yet.

        Zones, rules and thresholds are this one's. Of a rule that was another one there, or is no
        more, open events end with the next result (``rule_changed``).

        Args:
            snapshot: How the other one stood.
            first_no: Not needed if the next frame is the one behind the snapshot. Else a number
                that no track has had: new ones count from there. Of a live stream as much time has
                gone by as the wall clock says, by whatever clock frames arrive now.

        Raises:
            SnapshotError: If it is of another stream or of another kind of source; nothing changes.
        """
        is_live = snapshot.clock.timeline.is_live
        if (snapshot.stream_id, is_live) != (self.stream_id, self._clock.is_live):
            raise SnapshotError(
                f"snapshot: is of stream {snapshot.stream_id!r}, live {is_live} "
                f"(accepted: {self.stream_id!r}, live {self._clock.is_live})"
            )
        self._clock = StreamClock(
            is_live=is_live,
            session_gap_us=seconds_to_us(self._tracking.session_gap_s),
            state=snapshot.clock if first_no is None else resumed(snapshot.clock),
        )
        self._next_no = max(snapshot.next_no, first_no or 0)
        state = snapshot.session
        self._session = None if state is None else self._reopen(state)
        self._last_stamp = snapshot.last_stamp
        self._captions = deque(snapshot.captions, maxlen=_MAX_CAPTIONS)

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._model

    @property
    def next_no(self) -> int:
        """Number of its next track."""
        return self._next_no

    @property
    def last_stamp(self) -> FrameStamp | None:
        """Of the last frame with a result."""
        return self._last_stamp

    @property
    def open_events(self) -> tuple[OpenEvent, ...]:
        """Events that have begun and not ended."""
        return () if self._session is None else self._session.rules.open_events

    @property
    def concept_ids(self) -> frozenset[str]:
        """Concepts of the tracks that live."""
        session = self._session
        lives = () if session is None else session.book.state.lives.values()
        return frozenset(life.track.concept_id for life in lives)

    @property
    def num_reanchored(self) -> int:
        """How often the source's clock was set otherwise for good."""
        return self._clock.num_reanchored

    def admit(self, frame: Frame, *, arrived_us: int, now: datetime) -> Admission:
        """Give a frame its time and its session.

        A session begins with the first frame, after a gap, with another aspect ratio and after
        :meth:`end_session`; a new connection continues the one that is open, and so does another
        size of the same aspect ratio: the masks of its tracks are rescaled.

        Args:
            frame: The next frame that the model is to see.
            arrived_us: When it came in, on a clock that does not run backwards.
            now: Wall time.
        """
        tick = self._clock.advance(
            captured_us=to_us(frame.captured_at),
            arrived_us=arrived_us,
            now_us=to_us(now),
            nominal_us=frame.nominal_step_us,
            is_doubtful=frame.is_time_doubtful,
        )
        session, ended = self._session, None
        if session is not None and (tick.begins_session or not session.fit(frame.pixels.shape)):
            ended, session = self.end_session("discontinuity", now=now), None
        if session is None:
            self._session = self._begin(frame, tick)
        return Admission(
            frame=frame,
            tick=tick,
            model_input=FrameInput(
                stream_id=self.stream_id,
                pixels=frame.pixels,
                time_s=tick.observed_us / 1_000_000,
            ),
            begins_session=session is None,
            ended=ended,
        )

    def apply(
        self,
        admission: Admission,
        prediction: Prediction,
        *,
        now: datetime,
        dropped_since_last: int,
    ) -> FrameResult:
        """Return what a prediction means: tracks, changes and events.

        A rule that raises costs its own events of that track and is named in ``rule_failures``. If
        this raises, what the model said could not be used: the frame has led to nothing, tracks
        and rules stand as before it, and the next one goes on.

        Args:
            admission: The frame, admitted into the session that is open.
            prediction: The model's word on it.
            now: Wall time.
            dropped_since_last: Frames dropped or gated since the one before.
        """
        session, tick, frame = self._open_session(), admission.tick, admission.frame
        update = session.book.apply(
            prediction,
            now=tick.moment,
            stream_epoch=frame.stream_epoch,
            is_same_stamp=tick.is_same_stamp,
        )
        session.now, session.wall_time = tick.moment, self._clock.wall_time
        session.stamp = FrameStamp.of(frame, stream_time_us=tick.stream_time_us)
        self._next_no = session.book.state.next_no
        self._last_stamp = session.stamp
        ruled = _rule(session, update)
        self._note_captions(ruled.events, session.now)
        scene = Scene(
            frame=frame,
            tracks=update.tracks,
            presence=dict(prediction.presence),
            zones=self._zones,
            captions=tuple(text for _, text in self._captions),
            dropped_since_last=dropped_since_last,
        )
        return self._result(session.stamp, update, ruled, now=now, scene=scene)

    def end_session(self, reason: str, *, now: datetime) -> FrameResult | None:
        """End all tracks and events; the next frame begins a session.

        Never raises: a rule that does costs its own events of that track, see ``rule_failures``.

        Args:
            reason: Why: discontinuity, stream_ended, stopped, model_error, changed, removed.
            now: Wall time.

        Returns:
            ``None`` if that ended nothing and no rule raised.
        """
        session, self._session = self._session, None
        if session is None:
            return None
        update = session.book.close(reason, is_complete=reason in _COMPLETE_REASONS)
        ruled = _rule(session, update)
        self._captions.clear()
        if not (update.changes or ruled.events or ruled.failures):
            return None
        return self._result(session.stamp, update, ruled, now=now)

    def end_concept(self, concept_id: str, *, now: datetime) -> FrameResult | None:
        """End the tracks of a concept and their events; all others go on.

        The model is to look for it no more.

        Args:
            concept_id: The concept.
            now: Wall time.

        Returns:
            ``None`` if that ended nothing.
        """
        session = self._session
        if session is None:
            return None
        update = session.book.end_concept(concept_id)
        if not update.changes:
            return None
        return self._result(session.stamp, update, _rule(session, update), now=now)

    def change(self, *, zones: Sequence[ZoneConfig], rules: Sequence[BaseRuleConfig]) -> None:
        """Take other zones and rules from the next frame on; tracks go on.

        Of a rule that was another one before, or is no more, open events end with the next result
        (``rule_changed``); all others go on.
        """
        self._zones, self._rules = tuple(zones), tuple(rules)
        session = self._session
        if session is not None:
            session.rules = RuleBook(self._rules, self._zones, session.rules.state)

    def _begin(self, frame: Frame, tick: Tick) -> _Session:
        key = SessionKey(
            deployment=self._deployment,
            stream_id=self.stream_id,
            stream_epoch=frame.stream_epoch,
            began_at=frame.captured_at,
            first_seq=frame.frame_seq,
        )
        return _Session(
            shape=frame.pixels.shape,
            book=TrackBook(BookState.begin(key, first_no=self._next_no), self._tracking),
            rules=RuleBook(self._rules, self._zones),
            stamp=FrameStamp.of(frame, stream_time_us=tick.stream_time_us),
            now=tick.moment,
            wall_time=self._clock.wall_time,
        )

    def _reopen(self, state: SessionState) -> _Session:
        return _Session(
            shape=state.shape,
            book=TrackBook(replace(state.book, next_no=self._next_no), self._tracking),
            rules=RuleBook(self._rules, self._zones, state.rules),
            stamp=state.stamp,
            now=state.now,
            wall_time=state.wall_time,
        )

    def _result(
        self,
        stamp: FrameStamp,
        update: TrackUpdate,
        ruled: RuleUpdate,
        *,
        now: datetime,
        scene: Scene | None = None,
    ) -> FrameResult:
        return FrameResult(
            stamp=stamp,
            result_time=now,
            model=self._model,
            changes=update.changes,
            events=ruled.events,
            scene=scene,
            position=scene.frame.position if scene else None,
            rule_failures=ruled.failures,
            revisions=self.revisions,
        )

    def _open_session(self) -> _Session:
        if self._session is None:
            raise RuntimeError(f"stream {self.stream_id!r} has no session (accepted: admit first)")
        return self._session

    def _note_captions(self, events: tuple[Event, ...], now: Moment) -> None:
        self._captions.extend(
            (now.stream_us, event.caption) for event in events if event.phase is EventPhase.NEW
        )
        while self._captions and now.stream_us - self._captions[0][0] > _CAPTION_US:
            self._captions.popleft()


def _rule(session: _Session, update: TrackUpdate) -> RuleUpdate:
    return session.rules.apply(update, now=session.now, utc_of=session.wall_time.utc_of)
