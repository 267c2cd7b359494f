"""Record models to bytes with CloudEvents 1.0 headers (binary mode)."""

from datetime import datetime

from connectors.record import Record, Topic
from pipeline.clock import format_time
from pipeline.records.schema import (
    RECORD_TYPES,
    AnyRecord,
    EventRecord,
    MaskletsRecord,
    StatusRecord,
    TrackRecord,
)
from pipeline.tracking.identity import make_uid

CONTENT_TYPE = b"application/json"


def topic_of(model: AnyRecord) -> Topic:
    """Return the topic that carries this kind of record."""
    return next(topic for topic, kind in RECORD_TYPES.items() if isinstance(model, kind))


def _identity(model: AnyRecord) -> tuple[str, str, str, datetime]:
    """Return rule, track, phase and time: with stream, epoch and frame they name a record."""
    match model:
        case MaskletsRecord():
            return "", "", "masklets", model.capture_time
        case TrackRecord():
            return "", model.track_uid, model.kind.value, model.capture_time
        case EventRecord():
            return model.rule, model.track_uid, model.phase.value, model.capture_time
        case StatusRecord():
            return "", "", model.state.value, model.time


def _subject(model: AnyRecord) -> str:
    match model:
        case TrackRecord():
            return model.track_uid
        case EventRecord():
            return model.event_id
        case MaskletsRecord() | StatusRecord():
            return model.stream_id


def encode_record(model: AnyRecord, *, deployment: str = "default") -> Record:
    """Return the bytes of a record model.

    ``ce_id`` depends on what the record is about alone, so a retry or a replay repeats it. The
    capture time is part of it, because a restarted camera counts its frames from 0 again.

    Args:
        model: The record.
        deployment: Name of this installation, part of ``ce_source``.
    """
    topic = topic_of(model)
    rule, track, phase, moment = _identity(model)
    stamp = format_time(moment)
    uid = make_uid(
        topic.value, model.stream_id, model.stream_epoch, model.frame_seq, rule, track, phase, stamp
    )
    headers = {
        "ce_specversion": "1.0",
        "ce_id": uid,
        "ce_source": f"/maskstream/{deployment}/{model.stream_id}",
        "ce_type": topic.value,
        "ce_time": stamp,
        "ce_subject": _subject(model),
    }
    return Record(
        topic=topic,
        key=model.stream_id,
        value=model.model_dump_json().encode(),
        headers=(
            *((name, text.encode()) for name, text in headers.items()),
            ("content-type", CONTENT_TYPE),
        ),
        timestamp_ms=int(moment.timestamp() * 1000),
    )
