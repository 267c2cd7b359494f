"""Records to bytes, their ids and headers."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.record import Topic
from pipeline.records.codec import encode_record, omit_masks, topic_of
from pipeline.records.json_schema import schema_of
from pipeline.records.reading import read_message, read_records
from pipeline.records.schema import EventRecord, StatusRecord
from pipeline.tracking.identity import make_uid
from tests.contracts.surfaces import RECORDS, example_record, make_example

TIME = datetime(2026, 8, 22, 11, tzinfo=UTC)
NAMES = ["Tür 3/außen", "50%25 off/?#", "a b", "..", "鹿", "tab\there"]


def header(model, name, **options):
    return dict(encode_record(model, **options).headers)[name].decode()


def id_of(model):
    return header(model, "ce_id")


@pytest.mark.parametrize("name", RECORDS)
def test_reading_undoes_encoding(name):
    model, record = example_record(name)
    assert list(read_records([record.value.decode()])) == [model]
    assert read_message(record.headers, record.value) == model.model_copy(
        update={"ce_id": id_of(model)}
    )


@pytest.mark.parametrize("name", RECORDS)
def test_values_fit_their_schema_which_the_headers_name(name):
    model = make_example(name, labels={"site": "north", "lat": 47.1})
    schema = schema_of(topic_of(model))
    jsonschema.validate(json.loads(encode_record(model).value), schema)
    assert header(model, "ce_dataschema") == schema["$id"]


@pytest.mark.parametrize("name", RECORDS)
def test_what_is_null_is_left_out_and_so_is_the_id(name):
    record = encode_record(make_example(name, ce_id="read"), worker="edge-2")
    body = json.loads(record.value)
    assert None not in body.values()
    assert ("ce_id" not in body, body["worker"]) == (True, "edge-2")
    assert encode_record(make_example(name), worker="edge-2").value == record.value


@pytest.mark.parametrize("name", NAMES)
def test_the_source_is_a_uri_reference_that_holds_the_names(name):
    source = header(make_example("status", stream_id=name), "ce_source", deployment=name)
    parts = urlsplit(source)
    assert source.isascii()
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert [unquote(part) for part in parts.path.split("/")] == ["", "maskstream", name, name]


def test_extensions_tell_what_an_event_is_about():
    model = make_example("events", severity="alert", rule="Tür 3", concept=None)
    names = ("ce_rule", "ce_phase", "ce_severity")
    assert [header(model, name) for name in names] == ["Tür 3", "new", "alert"]
    assert "ce_concept" not in dict(encode_record(model).headers)
    assert header(make_example("tracks"), "ce_concept") == "red deer"


def test_no_attribute_holds_a_control_character():
    assert header(make_example("masklets", stream_id="a\x00\x85"), "ce_subject") == "a%00%C2%85"


@pytest.mark.parametrize(
    "changes",
    [{"event_id": "e-2"}, {"phase": "end"}, {"sequence": 1}],
    ids=lambda changes: next(iter(changes)),
)
def test_ids_of_events_differ_by_event_phase_and_number(changes):
    assert id_of(make_example("events", **changes)) != id_of(make_example("events"))


def test_ids_of_events_hold_no_times_and_no_frames():
    later = {"capture_time": TIME, "start_time": TIME, "frame_seq": 7, "stream_epoch": 9}
    assert id_of(make_example("events", **later)) == id_of(make_example("events"))


@pytest.mark.parametrize("field", ["stream_id", "stream_epoch", "frame_seq", "capture_time"])
@pytest.mark.parametrize("name", ["masklets", "tracks"])
def test_ids_about_frames_differ_by_the_frame(name, field):
    other = {"stream_id": "b", "stream_epoch": 5, "frame_seq": 121, "capture_time": TIME}
    assert id_of(make_example(name, **{field: other[field]})) != id_of(make_example(name))


@pytest.mark.parametrize("name", RECORDS)
def test_ids_do_not_depend_on_when_and_where_a_result_was_made(name):
    model = make_example(name)
    later = make_example(name, result_time=TIME + timedelta(hours=1), worker="edge-2")
    assert id_of(model) == id_of(later)


def test_a_frame_of_kafka_without_a_time_is_named_by_its_offset():
    ref = {"topic": "frames", "partition": 0, "offset": 7}
    first = make_example("masklets", source_ref=ref, capture_clock="arrival")
    assert id_of(make_example("masklets", **first.model_dump() | {"capture_time": TIME})) == id_of(
        first
    )
    others = [
        make_example("masklets", **first.model_dump() | {"source_ref": ref | other})
        for other in ({"topic": "b"}, {"partition": 1}, {"offset": 8})
    ]
    dated = [
        make_example("masklets", source_ref=ref, capture_time=TIME),
        make_example("masklets", source_ref=ref),
    ]
    assert len({id_of(one) for one in (first, *others, *dated)}) == 6


@pytest.mark.parametrize("change", [{"state": "offline"}, {"time": TIME}, {"error": "Gone"}])
def test_ids_of_status_records_differ_by_what_they_say(change):
    error = {"type": change.pop("error"), "message": ""} if "error" in change else None
    assert id_of(make_example("status", error=error, **change)) != id_of(make_example("status"))


def test_where_a_track_came_from_is_given_by_python_s_name_and_written_as_from():
    model = EventRecord(**make_example("events").model_dump() | {"from_": "inside", "to": "unseen"})
    record = encode_record(model)
    body = json.loads(record.value)
    assert (body["from"], body["to"]) == ("inside", "unseen")
    assert read_message(record.headers, record.value).from_ == "inside"


def test_times_are_written_in_utc_with_microseconds():
    zone = timezone(timedelta(hours=2))
    model = make_example("status", time=datetime(2026, 1, 1, 2, 0, tzinfo=zone))
    assert json.loads(encode_record(model).value)["time"] == "2026-01-01T00:00:00.000000Z"


def test_omitting_masks_leaves_everything_else_and_the_id():
    record = encode_record(make_example("masklets"))
    reduced = omit_masks(record)
    before, after = (json.loads(one.value) for one in (record, reduced))
    assert before["objects"][0].pop("mask")
    assert after == before | {"masks_omitted": True}
    assert reduced.headers == record.headers
    jsonschema.validate(after, schema_of(Topic.MASKLETS))
    assert omit_masks(reduced) is None
    assert omit_masks(replace(record, value=b"{}")) is None  # of another version


@pytest.mark.parametrize("name", sorted(set(RECORDS) - {"masklets"}))
def test_other_records_have_no_masks_to_omit(name):
    assert omit_masks(example_record(name)[1]) is None


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_uids_are_equal_only_for_equal_parts(a, b):
    assert (make_uid(*a) == make_uid(*b)) == (a == b)


def test_what_nobody_knows_yet_is_zero_or_nothing():
    status = StatusRecord(stream_id="cam", state="connecting", since=TIME, time=TIME)
    assert (status.stream_epoch, status.frame_seq, status.error) == (0, -1, None)
    assert not any(status.counts.model_dump().values())
