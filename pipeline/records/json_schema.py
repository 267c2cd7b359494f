"""JSON Schemas (2020-12) of the records."""

from collections.abc import Iterator
from typing import Any, cast

from connectors.record import Topic
from pipeline.records.base import RecordModel
from pipeline.records.dead_letter import DeadLetterLine
from pipeline.records.examples import EXAMPLES
from pipeline.records.schema import RECORD_TYPES

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_Schema = dict[str, Any]
# Dead letters have a schema as lines of JSON; on Kafka they are any bytes.
DESCRIBED: dict[Topic, type[RecordModel]] = {**RECORD_TYPES, Topic.DLQ: DeadLetterLine}


def kind_of(topic: Topic) -> str:
    """Return the short name of a topic's records: ``masklets``."""
    return topic.value.split(".")[1]


def schema_id(topic: Topic) -> str:
    """Return the URN of the schema of a topic's records, the same for all its minor versions."""
    return f"urn:{topic.value.replace('.', ':')}"


def schema_of(topic: Topic) -> _Schema:
    """Return the JSON Schema (2020-12) of a topic's records, with an example.

    Fields that may be null may be left out; all others are there in every record.
    """
    body = DESCRIBED[topic].model_json_schema(mode="serialization")
    for part in (body, *body.get("$defs", {}).values()):
        for field in part.get("properties", {}).values():
            field.pop("title", None)  # repeats the name
    for part in _parts_of(body):
        if isinstance(part.get("description"), str):
            part["description"] = " ".join(part["description"].split())
    return {"$schema": DIALECT, "$id": schema_id(topic), **body, "examples": [EXAMPLES[topic]]}


def _parts_of(node: object) -> Iterator[_Schema]:
    """Yield all objects in a schema."""
    if isinstance(node, dict):
        part = cast("_Schema", node)
        yield part
        for value in part.values():
            yield from _parts_of(value)
    elif isinstance(node, list):
        for value in cast("list[object]", node):
            yield from _parts_of(value)
