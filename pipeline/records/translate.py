"""From results to record models, and to what is drawn on pictures."""

from collections.abc import Sequence

from connectors.base import Overlay
from models.common.masks import CropMask
from pipeline.events.event import Event
from pipeline.events.zones import ZoneConfig, zones_at
from pipeline.records.schema import (
    AnyRecord,
    EventRecord,
    FrameSize,
    MaskletsRecord,
    MaskRecord,
    ObjectRecord,
    TrackRecord,
)
from pipeline.streams.result import FrameResult, Scene
from pipeline.tracking.identity import make_uid
from pipeline.tracking.states import TrackState
from pipeline.tracking.track import Track, TrackChange

_US = 1_000_000


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
            x0=track.last_mask.x0,
            y0=track.last_mask.y0,
            bits=track.last_mask.bits,
            is_occluded=not track.is_visible,
            is_tentative=track.state is TrackState.TENTATIVE,
        )
        for track in tracks
        if track.is_visible or track.state is TrackState.OCCLUDED
    ]


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
        "stream_time_us": stamp.stream_time_us,
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
        concept_id=track.concept_id,
        concept=track.concept,
        state=track.state,
        score=_unit(track.score),
        presence_score=_unit(track.presence_score),
        occlusion_score=_unit(track.occlusion_score),
        bbox=track.bbox,
        area=_unit(track.area, 6),
        mask=None if track.mask is None else _mask(track.mask),
        age_s=track.age_us / _US,
        last_seen_s=track.unseen_us / _US,
        zones=zones_at(zones, track.bbox) if track.has_place else (),
    )


def _mask(mask: CropMask) -> MaskRecord:
    return MaskRecord(size=mask.size_hw, counts=mask.run_lengths().counts)


def _track_record(change: TrackChange, common: _Common) -> TrackRecord:
    track = change.track
    fields = {
        **common,
        **_about(track),
        "kind": change.kind,
        "state": track.state,
        "best_score": _unit(track.best_score),
        "age_s": track.age_us / _US,
        "visible_s": track.visible_us / _US,
        "reason": change.reason,
        "merged_into": change.merged_into,
    }
    return TrackRecord.model_validate(fields)


def _event_record(event: Event, common: _Common) -> EventRecord:
    subject = (str(common["stream_id"]), event.rule, event.track.uid)
    fields = {
        **common,
        **_about(event.track),
        "event_id": make_uid("event", *subject, event.ordinal),
        "phase": event.phase,
        "rule": event.rule,
        "kind": event.kind,
        "zone": event.zone,
        "start_time": event.started_at,
        "end_time": event.ended_at,
        "end_reason": event.end_reason,
        "gap_s": event.gap_us / _US if event.gap_us else None,
        "value": event.value,
    }
    return EventRecord.model_validate(fields)


def _about(track: Track) -> dict[str, object]:
    return {
        "track_uid": track.uid,
        "track_no": track.no,
        "concept_id": track.concept_id,
        "concept": track.concept,
        "score": _unit(track.score),
        "bbox": track.bbox,
    }


def _unit(value: float, num_digits: int = 4) -> float:
    """Round, and keep within 0 to 1 what float arithmetic left a hair outside."""
    return round(min(max(value, 0.0), 1.0), num_digits)
