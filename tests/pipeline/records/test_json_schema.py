"""JSON Schemas of the records, as those who validate and generate code by them want them."""

import pytest

from pipeline.records.json_schema import DESCRIBED, schema_of


def objects_of(node):
    if isinstance(node, dict):
        yield from ([node] if isinstance(node.get("properties"), dict) else [])
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from objects_of(one)


@pytest.mark.parametrize("topic", DESCRIBED)
def test_what_may_be_null_is_not_required(topic):
    for part in objects_of(schema_of(topic)):
        required = part.get("required", ())
        assert not [name for name in required if part["properties"][name].get("default", 0) is None]


@pytest.mark.parametrize("topic", DESCRIBED)
def test_fields_have_descriptions_on_one_line_and_no_titles(topic):
    for part in objects_of(schema_of(topic)):
        for field in part["properties"].values():
            assert "title" not in field
            assert "  " not in field["description"]
            assert "\n" not in field["description"]
