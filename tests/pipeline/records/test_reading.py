"""Records from JSON lines: the kind of each is known by its fields."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.common.masks import RunLengths
from pipeline.errors import RecordError
from pipeline.records.reading import read_records
from pipeline.records.schema import (
    EventRecord,
    MaskletsRecord,
    MaskRecord,
    StatusRecord,
    TrackRecord,
)

GOLDEN = Path(__file__).parent / "golden"
KINDS = {
    "masklets": MaskletsRecord,
    "tracks": TrackRecord,
    "events": EventRecord,
    "status": StatusRecord,
}


def line_of(kind):
    return json.dumps(json.loads((GOLDEN / f"{kind}.json").read_text())["value"]) + "\n"


UNKNOWN_STATE = line_of("status").strip().replace('"state": "', '"state": "un')


@pytest.mark.parametrize(("kind", "model"), KINDS.items())
def test_a_line_is_read_as_the_record_it_is(kind, model):
    [record] = read_records([line_of(kind)])
    assert type(record) is model


def test_a_folder_gives_the_records_of_its_files_but_no_dead_letters(tmp_path):
    for kind in ("status", "events"):
        (tmp_path / f"{kind}.jsonl").write_text(line_of(kind) * 2)
    for name in ("dlq.jsonl", "dlq-20261129T014500Z.jsonl"):
        (tmp_path / name).write_text('{"value_base64": ""}\n')
    kinds = [type(record) for record in read_records(str(tmp_path))]
    assert kinds == [EventRecord] * 2 + [StatusRecord] * 2


def test_rotated_files_are_read_before_the_present_one(tmp_path):
    numbers = {"": 4, "-20261129T014500Z": 1, "-20261129T014500Z_002": 2, "-20261129T014501Z": 3}
    for mark, number in numbers.items():
        body = {**json.loads(line_of("masklets")), "ce_id": "1", "frame_seq": number}
        (tmp_path / f"masklets{mark}.jsonl").write_text(json.dumps(body) + "\n")
    assert [record.frame_seq for record in read_records(tmp_path)] == [1, 2, 3, 4]


def test_a_last_line_without_its_end_is_left_out(tmp_path):
    path = tmp_path / "status.jsonl"
    path.write_text(line_of("status") + line_of("status")[:-2])
    assert len(list(read_records(path))) == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "status.jsonl:2: is not JSON"),
        ("[1]", "status.jsonl:2: is no record (accepted: MaskletsRecord, "),
        ('{"state": "running"}', "status.jsonl:2: is no record"),
        (
            line_of("status").replace('"state": "', '"state": "un').strip(),
            "status.jsonl:2: state: ",
        ),
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
