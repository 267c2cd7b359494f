"""What one frame of a stream led to."""

from dataclasses import dataclass
from datetime import datetime

from connectors.errors import Position
from connectors.frame import CaptureClock, Frame, KafkaOrigin, MediaOrigin
from pipeline.events.event import Event, RuleFailure
from pipeline.events.zones import ZoneConfig
from pipeline.tracking.track import Track, TrackChange


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameStamp:
    """Which frame a result is about; all fields but one are those of ``Frame``.

    Attributes:
        stream_time_us: Time since the stream's first frame.
    """

    stream_id: str
    stream_epoch: int
    frame_seq: int
    captured_at: datetime
    capture_clock: CaptureClock
    capture_uncertainty_s: float
    pts_us: int
    stream_time_us: int
    origin: KafkaOrigin | MediaOrigin | None = None

    @classmethod
    def of(cls, frame: Frame, *, stream_time_us: int) -> "FrameStamp":
        """Return a frame's stamp, without its pixels."""
        return cls(
            stream_id=frame.stream_id,
            stream_epoch=frame.stream_epoch,
            frame_seq=frame.frame_seq,
            captured_at=frame.captured_at,
            capture_clock=frame.capture_clock,
            capture_uncertainty_s=frame.capture_uncertainty_s,
            pts_us=frame.pts_us,
            stream_time_us=stream_time_us,
            origin=frame.origin,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Revisions:
    """By which changes at run time a frame was judged; ``None``: none has changed it.

    Numbers grow over all streams, so that none comes twice.

    Attributes:
        prompt: Of what is looked for.
        rule: Of rules and zones.
    """

    prompt: int | None = None
    rule: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A processed frame with all that was found on it.

    Attributes:
        tracks: Living tracks, by number.
        presence: By concept: probability that it is on this frame at all.
        zones: The stream's zones.
        captions: Lines for the corner of a picture, newest last.
        dropped_since_last: Frames dropped or gated since the one before.
    """

    frame: Frame
    tracks: tuple[Track, ...]
    presence: dict[str, float]
    zones: tuple[ZoneConfig, ...]
    captions: tuple[str, ...]
    dropped_since_last: int

    @classmethod
    def bare(cls, frame: Frame) -> "Scene":
        """Return a frame on which nothing was looked for."""
        return cls(frame=frame, tracks=(), presence={}, zones=(), captions=(), dropped_since_last=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameResult:
    """What one frame, or the end of a session, led to.

    Attributes:
        stamp: The frame; at the end of a session, its last one.
        result_time: UTC time at which this was known.
        model: Name of the model.
        changes: Steps in tracks' lives.
        events: Rule events.
        scene: ``None`` if no frame was processed: a session ended.
        position: Resume point behind the frame, if its source knows one.
        rule_failures: Rules that raised; all others have given their events.
        revisions: By which changes it was judged.
    """

    stamp: FrameStamp
    result_time: datetime
    model: str
    changes: tuple[TrackChange, ...] = ()
    events: tuple[Event, ...] = ()
    scene: Scene | None = None
    position: Position | None = None
    rule_failures: tuple[RuleFailure, ...] = ()
    revisions: Revisions = Revisions()

    @property
    def frame(self) -> Frame | None:
        """The frame with its pixels; ``None`` at the end of a session."""
        return None if self.scene is None else self.scene.frame

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Living tracks on the frame, by number; none at the end of a session."""
        return () if self.scene is None else self.scene.tracks
