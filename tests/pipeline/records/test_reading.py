"""Records from JSON lines: the kind of each is known by its fields."""

import json

import numpy as np
import pytest

from models.common.masks import RunLengths
from pipeline.errors import RecordError
from pipeline.records.reading import read_message, read_records
from pipeline.records.schema import (
    EventRecord,
    MaskletsRecord,
    MaskRecord,
    StatusRecord,
    TrackRecord,
)
from tests.contracts.surfaces import example_record

KINDS = {
    "masklets": MaskletsRecord,
    "tracks": TrackRecord,
    "events": EventRecord,
    "status": StatusRecord,
}


def line_of(kind, **changes):
    return json.dumps(json.loads(example_record(kind)[1].value) | changes) + "\n"


@pytest.mark.parametrize(("kind", "model"), KINDS.items())
def test_a_line_is_read_as_the_record_it_is(kind, model):
    [record] = read_records([line_of(kind)])
    assert type(record) is model


def test_a_folder_gives_the_records_of_its_files_but_no_dead_letters(tmp_path):
    for kind in ("status", "events"):
        (tmp_path / f"{kind}.jsonl").write_text(line_of(kind) * 2)
    for name in ("dlq.jsonl", "dlq-20261129T014500Z.jsonl", "notes.jsonl"):
        (tmp_path / name).write_text('{"value_base64": ""}\n')
    kinds = [type(record) for record in read_records(str(tmp_path))]
    assert kinds == [EventRecord] * 2 + [StatusRecord] * 2


def test_rotated_files_are_read_before_the_present_one(tmp_path):
    numbers = {"": 4, "-20261129T014500Z": 1, "-20261129T014500Z_002": 2, "-20261129T014501Z": 3}
    for mark, number in numbers.items():
        body = {**json.loads(line_of("masklets")), "ce_id": "1", "frame_seq": number}
        (tmp_path / f"masklets{mark}.jsonl").write_text(json.dumps(body) + "\n")
    assert [record.frame_seq for record in read_records(tmp_path)] == [1, 2, 3, 4]


def test_a_line_s_id_is_kept():
    lines = [line_of("status", ce_id="a"), line_of("status")]
    assert [record.ce_id for record in read_records(lines)] == ["a", None]


def test_messages_are_read_as_the_records_that_their_headers_name():
    records = [example_record(kind)[1] for kind in KINDS]
    read = list(read_records((record.headers, record.value) for record in records))
    assert [type(one) for one in read] == list(KINDS.values())
    assert [one.ce_id for one in read] == [dict(one.headers)["ce_id"].decode() for one in records]


@pytest.mark.parametrize(
    ("headers", "value", "told"),
    [
        ([("ce_type", b"maskstream.frames.v1")], b"", "bad ce_type 'maskstream.frames.v1'"),
        ([], b"{}", "bad ce_type ''"),
        (None, b"{}", "bad ce_type ''"),
        ([("ce_type", None)], b"{}", "bad ce_type ''"),
        ([("ce_type", b"maskstream.status.v1")], None, "has no value"),
        ([("ce_type", b"maskstream.status.v1")], b"{}", "stream_id: Field required"),
    ],
)
def test_a_message_that_is_no_record_is_named(headers, value, told):
    with pytest.raises(RecordError, match=told):
        read_message(headers, value)


def test_a_header_that_is_no_text_is_no_bar():
    record = example_record("status")[1]
    headers = [*record.headers, ("ce_id", b"\xff"), ("note", None)]
    assert read_message(headers, record.value).ce_id == "\ufffd"


def test_a_last_line_without_its_end_is_left_out(tmp_path):
    path = tmp_path / "status.jsonl"
    path.write_text(line_of("status") + line_of("status")[:-2])
    assert len(list(read_records(path))) == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "status.jsonl:2: is not JSON"),
        ("[" * 100_000, "status.jsonl:2: is not JSON"),
        ("[1]", "status.jsonl:2: is no record (accepted: MaskletsRecord, "),
        ('{"state": "running"}', "status.jsonl:2: is no record"),
        (line_of("status", since="noon").strip(), "status.jsonl:2: since: "),
        (line_of("status", schema_version="2.0").strip(), "status.jsonl:2: schema_version: "),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path, line, told):
    path = tmp_path / "status.jsonl"
    path.write_text(line_of("status") + line + "\n")
    with pytest.raises(RecordError) as found:
        list(read_records(path))
    assert told in str(found.value)


def test_masks_are_arrays_of_the_frame_s_size():
    mask = np.array([[0, 1, 1], [0, 0, 1]], np.bool_)
    record = MaskRecord(size=(2, 3), counts=RunLengths.of(mask).counts)
    assert np.array_equal(record.to_array(), mask)


def test_a_mask_in_another_encoding_is_no_array():
    with pytest.raises(ValueError, match="encoding 'polygon'"):
        MaskRecord(encoding="polygon", size=(2, 3), counts="").to_array()


def test_a_line_that_may_be_two_kinds_of_record_is_refused():
    both = json.loads(line_of("tracks")) | json.loads(line_of("events"))
    with pytest.raises(RecordError, match="is no record"):
        next(read_records([json.dumps(both)]))
