"""Records to bytes and back; the golden files are what consumers have seen."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.frame import CaptureClock
from models.common.masks import RunLengths
from pipeline.records.codec import encode_record, topic_of
from pipeline.records.reading import read_records
from pipeline.records.schema import (
    RECORD_TYPES,
    EventRecord,
    FrameCounts,
    FrameSize,
    MaskletsRecord,
    MaskRecord,
    ObjectRecord,
    StatusRecord,
    TrackRecord,
    schema_of,
)
from pipeline.tracking.identity import make_uid

GOLDEN = Path(__file__).parent / "golden"
TIME = datetime(2026, 8, 22, 10, 15, 4, 123456, tzinfo=UTC)
STAMP = {
    "stream_id": "gate-3",
    "stream_epoch": 4,
    "frame_seq": 120,
    "capture_time": TIME,
    "capture_clock": CaptureClock.RTCP_NTP,
    "capture_uncertainty_s": 0.008,
    "stream_time_us": 12_480_000,
    "pts_us": 12_500_000,
    "result_time": TIME + timedelta(milliseconds=80),
}
ABOUT = {"track_uid": "u-1", "track_no": 3, "concept_id": "red-deer", "concept": "red deer",
         "score": 0.91, "bbox": (0.41, 0.22, 0.08, 0.19)}  # fmt: skip


def make_mask():
    mask = np.zeros((6, 8), np.bool_)
    mask[1:4, 2:7] = True
    return MaskRecord(size=mask.shape, counts=RunLengths.of(mask).counts)


def make_records():
    thing = ObjectRecord(
        **ABOUT, state="confirmed", presence_score=0.97, occlusion_score=1.0, area=0.3125,
        mask=make_mask(), age_s=6.4, last_seen_s=0.0, zones=("gate",),
    )  # fmt: skip
    return {
        "masklets": MaskletsRecord(
            **STAMP, frame=FrameSize(width=8, height=6), model="sam3-nano", dropped_since_last=2,
            presence={"red deer": 0.97}, objects=(thing,),
        ),
        "tracks": TrackRecord(
            **STAMP, **ABOUT, kind="ended", state="lost", best_score=0.95, age_s=6.4, visible_s=5.0,
            reason="expired",
        ),
        "events": EventRecord(
            **STAMP, **ABOUT, event_id="e-1", phase="new", rule="enters gate", kind="enter",
            zone="gate", start_time=TIME - timedelta(seconds=1), value={"dwell_s": 1.0},
        ),
        "status": StatusRecord(
            stream_id="gate-3", stream_epoch=4, frame_seq=120, state="stalled",
            since=TIME, time=TIME,
            counts=FrameCounts(received=5, processed=3, gated=1, dropped={"overflow": 1}),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", make_records())
def test_bytes_and_headers_are_as_in_the_golden_file(name):
    record = encode_record(make_records()[name], deployment="site-1")
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    assert json.loads(record.value) == golden["value"]
    assert {key: value.decode() for key, value in record.headers} == golden["headers"]
    assert (record.topic, record.key) == (golden["topic"], golden["key"])


@pytest.mark.parametrize("name", make_records())
def test_reading_undoes_encoding(name):
    model = make_records()[name]
    assert list(read_records([encode_record(model).value.decode()])) == [model]


@pytest.mark.parametrize("name", make_records())
def test_values_fit_their_schema(name):
    model = make_records()[name]
    jsonschema.validate(json.loads(encode_record(model).value), schema_of(topic_of(model)))


def test_a_reader_ignores_fields_of_later_minor_versions():
    model = make_records()["status"]
    body = json.loads(encode_record(model).value) | {"mood": "calm"}
    assert list(read_records([json.dumps(body)])) == [model]


def test_ids_differ_by_what_a_record_is_about():
    event = make_records()["events"]
    variants = [
        event,
        event.model_copy(update={"phase": "end"}).model_validate(
            event.model_dump() | {"phase": "end"}
        ),
        event.model_copy(update={"rule": "other"}),
        event.model_copy(update={"frame_seq": 121}),
        event.model_copy(update={"stream_epoch": 5}),
        event.model_copy(update={"track_uid": "u-2"}),
    ]
    ids = {dict(encode_record(variant).headers)["ce_id"] for variant in variants}
    assert len(ids) == len(variants)


def test_id_does_not_depend_on_when_the_result_was_made():
    event = make_records()["events"]
    later = event.model_copy(update={"result_time": TIME + timedelta(hours=1)})
    ids = [dict(encode_record(one).headers)["ce_id"] for one in (event, later)]
    assert ids[0] == ids[1]


def test_times_are_written_in_utc_with_microseconds():
    status = make_records()["status"].model_dump()
    zone = timezone(timedelta(hours=2))
    model = StatusRecord(**status | {"time": datetime(2026, 1, 1, 2, 0, tzinfo=zone)})
    assert json.loads(model.model_dump_json())["time"] == "2026-01-01T00:00:00.000000Z"


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_uids_are_equal_only_for_equal_parts(a, b):
    assert (make_uid(*a) == make_uid(*b)) == (a == b)


def test_what_nobody_knows_yet_is_zero_or_nothing():
    status = StatusRecord(stream_id="cam", state="connecting", since=TIME, time=TIME)
    assert (status.stream_epoch, status.frame_seq, status.error) == (0, -1, None)
    assert not any(status.counts.model_dump().values())


def test_every_record_type_has_a_golden_file():
    names = {topic.value.split(".")[1] for topic in RECORD_TYPES}
    assert {path.stem for path in GOLDEN.glob("*.json")} == names
