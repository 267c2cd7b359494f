"""What a frame led to, and how it is written down."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from connectors.base import Overlay
from connectors.frame import CaptureClock, Frame
from connectors.record import Record
from pipeline.config.run import ZoneConfig
from pipeline.events.event import Event
from pipeline.events.zones import zones_at
from pipeline.records.codec import encode_record, make_uid
from pipeline.records.schema import (
    AnyRecord,
    EventPhase,
    EventRecord,
    FrameSize,
    MaskletsRecord,
    ObjectRecord,
    StatusRecord,
    TrackRecord,
    TrackState,
    encode_mask,
    to_concept_id,
)
from pipeline.tracking.tracks import Track, TrackChange


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameStamp:
    """Which frame a result is about; the fields are those of ``Frame``."""

    stream_id: str
    stream_epoch: int
    frame_seq: int
    captured_at: datetime
    capture_clock: CaptureClock
    capture_uncertainty_s: float
    pts_us: int

    @classmethod
    def of(cls, frame: Frame) -> "FrameStamp":
        """Return a frame's stamp, without its pixels."""
        return cls(
            stream_id=frame.stream_id,
            stream_epoch=frame.stream_epoch,
            frame_seq=frame.frame_seq,
            captured_at=frame.captured_at,
            capture_clock=frame.capture_clock,
            capture_uncertainty_s=frame.capture_uncertainty_s,
            pts_us=frame.pts_us,
        )


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
    """

    stamp: FrameStamp
    result_time: datetime
    model: str
    changes: tuple[TrackChange, ...] = ()
    events: tuple[Event, ...] = ()
    scene: Scene | None = None


@dataclass(slots=True, kw_only=True)
class Parcel:
    """Something on its way to all sinks. Encoded by the first sink that asks, once for all.

    Attributes:
        deployment: Name of this installation.
        result: A frame's result, or
        status: a stream's state, or
        letter: input that was refused, for the dead-letter topic.
        can_shed: A slow sink may leave it out.
    """

    deployment: str
    result: FrameResult | None = None
    status: StatusRecord | None = None
    letter: Record | None = None
    can_shed: bool = False
    _records: tuple[Record, ...] | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def records(self) -> tuple[Record, ...]:
        """Return the records, in the order in which they are to be written."""
        with self._lock:
            if self._records is None:
                models = [] if self.result is None else to_models(self.result)
                if self.status is not None:
                    models.append(self.status)
                encoded = [encode_record(model, deployment=self.deployment) for model in models]
                self._records = (*encoded, *([self.letter] if self.letter else []))
            return self._records


def to_models(result: FrameResult) -> list[AnyRecord]:
    """Return the masklets record, if a frame was processed, then track changes, then events."""
    common = _common_fields(result)
    models: list[AnyRecord] = []
    if result.scene is not None:
        models.append(_masklets(result.scene, result.model, common))
    models += [_track_record(change, common) for change in result.changes]
    models += [_event_record(event, common) for event in result.events]
    return models


def to_overlays(tracks: Sequence[Track]) -> list[Overlay]:
    """Return what is to be drawn: all tracks but those out of sight for long."""
    return [
        Overlay(
            number=track.no,
            label=track.concept,
            mask=track.last_mask,
            is_occluded=not track.is_visible,
            is_tentative=track.state is TrackState.TENTATIVE,
        )
        for track in tracks
        if track.is_visible or track.state is TrackState.OCCLUDED
    ]


def caption_of(event: Event) -> str:
    """Return one line for people: ``enter gate: deer #3``, with ``(ended)`` at the end."""
    place = f" {event.zone}" if event.zone else ""
    ended = " (ended)" if event.phase is EventPhase.END else ""
    return f"{event.kind}{place}: {event.track.concept} #{event.track.no}{ended}"


_Common = dict[str, object]


def _common_fields(result: FrameResult) -> _Common:
    stamp = result.stamp
    return {
        "stream_id": stamp.stream_id,
        "stream_epoch": stamp.stream_epoch,
        "frame_seq": stamp.frame_seq,
        "capture_time": stamp.captured_at,
        "capture_clock": stamp.capture_clock,
        "capture_uncertainty_s": stamp.capture_uncertainty_s,
        "pts_us": stamp.pts_us,
        "result_time": result.result_time,
    }


def _masklets(scene: Scene, model: str, common: _Common) -> MaskletsRecord:
    height, width = scene.frame.pixels.shape[:2]
    fields = {
        **common,
        "frame": FrameSize(width=width, height=height),
        "model": model,
        "dropped_since_last": scene.dropped_since_last,
        "presence": {name: _unit(value) for name, value in scene.presence.items()},
        "objects": tuple(_object(track, scene.zones) for track in scene.tracks),
    }
    return MaskletsRecord.model_validate(fields)


def _object(track: Track, zones: Sequence[ZoneConfig]) -> ObjectRecord:
    return ObjectRecord(
        track_uid=track.uid,
        track_no=track.no,
        concept_id=to_concept_id(track.concept),
        concept=track.concept,
        state=track.state,
        score=_unit(track.score),
        presence_score=_unit(track.presence_score),
        occlusion_score=_unit(track.occlusion_score),
        bbox=track.bbox,
        area=_unit(track.area, 6),
        mask=None if track.mask is None else encode_mask(track.mask),
        age_s=round(track.age_s, 6),
        last_seen_s=round(track.unseen_s, 6),
        zones=zones_at(zones, track.bbox),
    )


def _track_record(change: TrackChange, common: _Common) -> TrackRecord:
    track = change.track
    fields = {
        **common,
        **_about(track),
        "kind": change.kind,
        "state": track.state,
        "best_score": _unit(track.best_score),
        "age_s": round(track.age_s, 6),
        "visible_s": round(track.visible_s, 6),
        "reason": change.reason,
        "merged_into": change.merged_into,
    }
    return TrackRecord.model_validate(fields)


def _event_record(event: Event, common: _Common) -> EventRecord:
    start = datetime.fromtimestamp(event.start_s, UTC)
    stream = (str(common["stream_id"]), event.rule, event.track.uid)
    is_end = event.phase is EventPhase.END
    fields = {
        **common,
        **_about(event.track),
        "event_id": make_uid("event", *stream, start.isoformat(timespec="microseconds")),
        "phase": event.phase,
        "rule": event.rule,
        "kind": event.kind,
        "zone": event.zone,
        "start_time": start,
        "end_time": datetime.fromtimestamp(event.time_s, UTC) if is_end else None,
        "end_reason": event.end_reason,
        "value": event.value,
    }
    return EventRecord.model_validate(fields)


def _about(track: Track) -> dict[str, object]:
    return {
        "track_uid": track.uid,
        "track_no": track.no,
        "concept_id": to_concept_id(track.concept),
        "concept": track.concept,
        "score": _unit(track.score),
        "bbox": track.bbox,
    }


def _unit(value: float, num_digits: int = 4) -> float:
    """Round, and keep within 0 to 1 what float arithmetic left a hair outside."""
    return round(min(max(value, 0.0), 1.0), num_digits)
