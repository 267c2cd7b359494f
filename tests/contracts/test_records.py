"""What consumers of records build on: golden samples, and a reader of 1.0 that never changes."""

import json
from functools import partial

import jsonschema
import pytest

from connectors.json_lines import to_dead_letter_line
from connectors.record import Record, Topic
from pipeline.records.dead_letter import DeadLetterLine
from pipeline.records.json_schema import DESCRIBED, kind_of, schema_of
from pipeline.records.schema import RECORD_TYPES
from tests.contracts.golden.reader_1_0 import READERS
from tests.contracts.surfaces import GOLDEN, RECORDS, example_record, golden_text

FROZEN = GOLDEN / "schemas_1_0"
FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER


def frozen_schema(name):
    return json.loads((FROZEN / f"{name}.json").read_text())


def body_of(name):
    return json.loads(example_record(name)[1].value)


def validate(body, schema):
    jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(body)


def objects_of(schema):
    return [schema, *schema.get("$defs", {}).values()]


@pytest.mark.parametrize("topic", DESCRIBED)
def test_a_field_is_titled_by_its_name_alone(topic):
    for part in objects_of(schema_of(topic)):
        assert not any("title" in field for field in part.get("properties", {}).values())


def resolve(schema, root):
    """The schema that is meant: without null, other values of enumerations, and references."""
    for one in schema.get("anyOf", [schema]):
        if "$ref" in one:
            return root["$defs"][one["$ref"].split("/")[-1]]
        if one.get("type") != "null":
            return one
    raise AssertionError(schema)


def evolve(value, schema, root):
    """The record as 1.1 may write it: a new field everywhere, new values in all enumerations."""
    meant = resolve(schema, root)
    if "enum" in meant:
        return "later"
    if isinstance(value, list):
        return [evolve(one, meant["items"], root) for one in value]
    if not isinstance(value, dict) or "properties" not in meant:
        return value
    fields = meant["properties"]
    known = {
        name: evolve(one, fields[name], root) if name in fields else one
        for name, one in value.items()
    }
    return {"later_field": {"deep": [1]}, **known}


@pytest.mark.parametrize("name", RECORDS)
def test_records_are_as_consumers_have_seen_them(name):
    assert golden_text(name) == (GOLDEN / "records" / f"{name}.json").read_text()


@pytest.mark.parametrize("name", RECORDS)
def test_a_reader_of_1_0_reads_1_1(name):
    schema = frozen_schema(name)
    later = evolve(body_of(name), schema, schema) | {"schema_version": "1.1"}
    assert json.dumps(later).count("later") >= {"masklets": 7, "tracks": 4}.get(name, 3)
    today = RECORD_TYPES[RECORDS[name]].model_validate
    for read in (READERS[name].model_validate, partial(validate, schema=schema), today):
        read(later)


@pytest.mark.parametrize("name", RECORDS)
def test_a_reader_of_1_0_refuses_2_0(name):
    later = body_of(name) | {"schema_version": "2.0"}
    for read in (READERS[name].model_validate, partial(validate, schema=frozen_schema(name))):
        with pytest.raises((ValueError, jsonschema.ValidationError)):
            read(later)


@pytest.mark.parametrize("name", RECORDS)
def test_no_field_of_1_0_is_gone_or_optional_now(name):
    frozen, today = frozen_schema(name), schema_of(RECORDS[name])
    for then in objects_of(frozen):
        if "properties" not in then:
            continue
        now = next(one for one in objects_of(today) if one["title"] == then["title"])
        assert set(then["properties"]) <= set(now["properties"])
        assert set(then.get("required", ())) <= set(now.get("required", ()))


@pytest.mark.parametrize("topic", DESCRIBED, ids=kind_of)
def test_every_field_is_described(topic):
    schema = schema_of(topic)
    fields = [
        (one["title"], field, body)
        for one in objects_of(schema)
        for field, body in one.get("properties", {}).items()
    ]
    assert len(fields) > 7
    assert [(kind, field) for kind, field, body in fields if not body.get("description")] == []
    assert all(one.get("description") for one in objects_of(schema))


@pytest.mark.parametrize("name", RECORDS)
def test_null_is_accepted_where_a_field_may_be_left_out(name):
    schema = schema_of(RECORDS[name])
    (example,) = schema["examples"]
    nulls = {
        name: None for name, one in schema["properties"].items() if one.get("default", 0) is None
    }
    assert {"ce_id", "source_ref", "labels"} <= set(nulls)
    validate(nulls | example, schema)
    for field in schema["required"]:
        with pytest.raises(jsonschema.ValidationError):
            validate({key: value for key, value in example.items() if key != field}, schema)


@pytest.mark.parametrize("topic", DESCRIBED, ids=kind_of)
def test_the_example_fits_the_schema(topic):
    schema = schema_of(topic)
    for example in schema["examples"]:
        validate(example, schema)
    assert len(schema["examples"]) == 1


def test_a_line_of_dead_letters_is_as_its_schema_says():
    headers = (("note", "ü".encode()), ("bytes", b"\xff"))
    letter = Record(
        topic=Topic.DLQ, key="gate", value=b"\x00", headers=headers, timestamp_ms=1_787_393_704_123
    )
    line = json.loads(to_dead_letter_line(letter))
    validate(line, schema_of(Topic.DLQ))
    read = DeadLetterLine.model_validate(line)
    assert [(one.value, one.value_base64) for one in read.headers] == [("ü", None), (None, "/w==")]
    assert set(line) <= set(DeadLetterLine.model_fields)
