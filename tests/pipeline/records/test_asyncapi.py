"""The AsyncAPI document: every topic, and payloads and headers that are those of real records."""

import jsonschema
import pytest

from connectors.record import Topic
from pipeline.records.asyncapi import asyncapi_document
from pipeline.records.json_schema import kind_of
from tests.contracts.surfaces import CONFIGS, RECORDS, example_record

DOCUMENT = asyncapi_document()
MESSAGES = DOCUMENT["components"]["messages"]


def references(node):
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from references(one)


def test_every_topic_is_a_channel():
    addresses = {channel["address"] for channel in DOCUMENT["channels"].values()}
    assert addresses == {topic.value for topic in Topic}
    assert set(MESSAGES) == {kind_of(topic) for topic in Topic}


def test_all_references_lead_somewhere():
    found = set(references(DOCUMENT))
    assert len(found) >= 2 * len(Topic)
    for reference in found:
        file, _, pointer = reference.partition("#")
        if file:
            assert (CONFIGS / file).is_file()
        node = DOCUMENT
        for part in pointer.split("/")[1:]:
            node = node[part]


@pytest.mark.parametrize("name", RECORDS)
def test_headers_are_those_of_records(name):
    headers = {key: value.decode() for key, value in example_record(name)[1].headers}
    schema = MESSAGES[name]["headers"]
    jsonschema.validate(headers, schema)
    assert set(headers) <= set(schema["properties"])
    assert set(schema["required"]) <= set(headers)


def test_the_last_status_and_state_of_a_stream_are_kept_and_all_else_for_a_time():
    policies = {
        name: channel["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"]
        for name, channel in DOCUMENT["channels"].items()
    }
    assert policies.pop("status") == policies.pop("state") == ["compact"]
    assert set(map(tuple, policies.values())) == {("delete",)}
