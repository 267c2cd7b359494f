"""One record of each kind, for schemas, documents and tests."""

from connectors.record import Topic

_Json = dict[str, object]

_FRAME: _Json = {
    "schema_version": "1.0",
    "stream_id": "north gate/3",
    "stream_epoch": 4,
    "frame_seq": 120,
    "worker": "edge-1",
    "capture_time": "2026-08-22T10:15:04.123456Z",
    "capture_clock": "rtcp_ntp",
    "capture_uncertainty_s": 0.008,
    "stream_time_us": 12_480_000,
    "pts_us": 12_500_000,
    "result_time": "2026-08-22T10:15:04.203456Z",
}
_TRACK: _Json = {
    "track_uid": "9f6b1f0e-3c53-5f0e-8a49-6c7a2d1f4b10",
    "track_no": 3,
    "concept_id": "red-deer",
    "concept": "red deer",
    "score": 0.91,
    "bbox": [0.25, 0.1667, 0.625, 0.5],
}
_EVENT_ID = "0c7f2b5a-7d0b-5b5e-9e0f-2f6f1f7f7c3d"

EXAMPLES: dict[Topic, _Json] = {
    Topic.MASKLETS: {
        **_FRAME,
        "frame": {"width": 8, "height": 6},
        "model": "sam3-nano",
        "dropped_since_last": 2,
        "presence": {"red deer": 0.97},
        "objects": [
            {
                **_TRACK,
                "state": "confirmed",
                "sight": "visible",
                "presence_score": 0.97,
                "visibility_score": 0.99,
                "area": 0.3125,
                "mask": {"encoding": "coco_rle", "size": [6, 8], "counts": "=3300000005"},
                "age_s": 6.4,
                "last_seen_s": 0.0,
                "zones": ["gate"],
            }
        ],
    },
    Topic.TRACKS: {
        **_FRAME,
        **_TRACK,
        "kind": "ended",
        "state": "lost",
        "best_score": 0.95,
        "age_s": 6.4,
        "visible_s": 5.0,
        "reason": "expired",
    },
    Topic.EVENTS: {
        **_FRAME,
        **_TRACK,
        "event_id": _EVENT_ID,
        "phase": "new",
        "sequence": 0,
        "rule": "enters gate",
        "kind": "enter",
        "subjects": [{"type": "track", "id": _TRACK["track_uid"]}],
        "zone": "gate",
        "start_time": "2026-08-22T10:15:03.123456Z",
        "value": {"inside_s": 1.0},
    },
    Topic.STATUS: {
        "schema_version": "1.2",
        "stream_id": "north gate/3",
        "stream_epoch": 4,
        "frame_seq": 120,
        "worker": "edge-1",
        "state": "stalled",
        "since": "2026-08-22T10:15:07.000000Z",
        "time": "2026-08-22T10:15:09.000000Z",
        "valid_until": "2026-08-22T10:15:39.000000Z",
        "counts": {
            "received": 5,
            "processed": 3,
            "gated": 1,
            "dropped": {"overflow": 1},
            "waiting": 0,
        },
        "open_event_ids": [_EVENT_ID],
        "restored": {"taken_at": "2026-08-22T10:15:02.500000Z", "age_s": 1.25},
        "state_error": "snapshot not written: No space left on device",
    },
    Topic.DLQ: {
        "topic": "maskstream.dlq.v1",
        "key": "north gate/3",
        "timestamp_ms": 1_787_393_704_123,
        "headers": [
            {"name": "maskstream_error_type", "value": "BadFrameError"},
            {"name": "maskstream_error_reason", "value": "no picture"},
        ],
        "value_base64": "R0lGODlh",
    },
}
