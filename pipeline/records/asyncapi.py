"""The topics on Kafka as an AsyncAPI 3 document, whose payloads are the records' JSON Schemas."""

from dataclasses import dataclass
from typing import Any

from connectors.record import Topic
from pipeline.records.examples import EXAMPLES
from pipeline.records.json_schema import kind_of, schema_id
from pipeline.records.schema import RECORD_TYPES

_Json = dict[str, Any]

_BINDING = "0.5.0"
_COMPACTED = frozenset({Topic.STATUS, Topic.STATE})
_ABOUT = """\
What maskstream writes to Kafka. Every record is keyed by its stream's id, so that those of one
stream keep their order. Records carry CloudEvents 1.0 attributes as headers (Kafka binding, binary
mode). A record that is delivered again has the same ce_id and the same body."""


@dataclass(frozen=True, slots=True)
class _Attribute:
    """A header: its type in JSON Schema and what it says."""

    schema: _Json
    is_required: bool = True


def _text(description: str, *, is_required: bool = True, **schema: object) -> _Attribute:
    return _Attribute({"type": "string", "description": description, **schema}, is_required)


_CLOUD_EVENT = {
    "ce_specversion": _text("Version of CloudEvents.", const="1.0"),
    "ce_id": _text("Id of the record, the same when it is delivered again."),
    "ce_source": _text(
        "/maskstream/DEPLOYMENT/STREAM, both percent-encoded.", format="uri-reference"
    ),
    "ce_time": _text("Capture time; of status records, when it was so.", format="date-time"),
    "ce_subject": _text("What it is about: the track, the event, or else the stream."),
    "content-type": _text("Of the value.", const="application/json"),
}
_CONCEPT = {"ce_concept": _text("The phrase that the object was found with.", is_required=False)}
_EXTENSIONS: dict[Topic, dict[str, _Attribute]] = {
    Topic.TRACKS: _CONCEPT,
    Topic.EVENTS: {
        "ce_rule": _text("Name of the rule."),
        "ce_phase": _text("Phase of the event: new, update, end."),
        "ce_severity": _text("How much it matters.", is_required=False),
        **_CONCEPT,
    },
}
_FRAME_HEADERS = {
    "content-type": _text("image/jpeg, image/png or application/x-maskstream-rgb24."),
    "stream_epoch": _text("Grows at each discontinuity.", is_required=False),
    "frame_seq": _text("Number of the frame; else the record's offset is.", is_required=False),
    "pts_us": _text("Media time in microseconds.", is_required=False),
    "width": _text("Of raw RGB, in pixels.", is_required=False),
    "height": _text("Of raw RGB, in pixels.", is_required=False),
}
_LETTER_HEADERS = {
    "ce_id": _text("Id of the dead letter, the same when its input is read again."),
    "content-type": _text("Of the value, as it came; else application/octet-stream."),
    "maskstream_error_type": _text("Name of the kind of error."),
    "maskstream_error_reason": _text("What is wrong with it."),
    "maskstream_position": _text("Where it was, as JSON."),
    "maskstream_value_bytes": _text(
        "Size of the value, where it is left out as too large for the broker.", is_required=False
    ),
}
_SUMMARIES = {
    Topic.MASKLETS: "All objects of one processed frame of one stream",
    Topic.TRACKS: "One step in a track's life",
    Topic.EVENTS: "One phase of an event of a rule",
    Topic.STATUS: "A stream's state",
    Topic.STATE: "What another worker of the same version needs to go on with a stream",
    Topic.FRAMES: "An encoded frame of one stream",
    Topic.DLQ: "Input that could not be used, as it came",
}


def asyncapi_document() -> _Json:
    """Return the document; payloads refer to the files ``schemas/KIND.json`` beside it."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "maskstream",
            "version": "1.0.0",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {kind_of(topic): _channel(topic) for topic in Topic},
        "operations": {f"send_{kind_of(topic)}": _operation(topic) for topic in Topic},
        "components": {"messages": {kind_of(topic): _message(topic) for topic in Topic}},
    }


def _channel(topic: Topic) -> _Json:
    kind, policy = kind_of(topic), "compact" if topic in _COMPACTED else "delete"
    return {
        "address": topic.value,
        "title": _SUMMARIES[topic],
        "messages": {kind: {"$ref": f"#/components/messages/{kind}"}},
        "bindings": {
            "kafka": {
                "topicConfiguration": {"cleanup.policy": [policy]},
                "bindingVersion": _BINDING,
            }
        },
    }


def _operation(topic: Topic) -> _Json:
    kind = kind_of(topic)
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{kind}"},
        "summary": _SUMMARIES[topic],
        "messages": [{"$ref": f"#/channels/{kind}/messages/{kind}"}],
    }


def _message(topic: Topic) -> _Json:
    slot = "0/ or 1/, the deployment, / and the stream's id."
    about = slot if topic is Topic.STATE else "The stream's id."
    key = {"type": "string", "description": about}
    common = {
        "name": topic.value,
        "title": kind_of(topic),
        "summary": _SUMMARIES[topic],
        "headers": _headers(topic),
        "bindings": {"kafka": {"key": key, "bindingVersion": _BINDING}},
    }
    if topic not in RECORD_TYPES:
        any_bytes = {"type": "string", "format": "binary", "description": "Any bytes."}
        return {**common, "contentType": "application/octet-stream", "payload": any_bytes}
    return {
        **common,
        "payload": {"$ref": f"./schemas/{kind_of(topic)}.json"},
        "examples": [{"name": kind_of(topic), "payload": EXAMPLES[topic]}],
    }


def _headers(topic: Topic) -> _Json:
    match topic:
        case Topic.FRAMES:
            headers = _FRAME_HEADERS
        case Topic.DLQ:
            headers = _LETTER_HEADERS
        case Topic.STATE:
            headers = {}
        case _:
            headers = {
                **_CLOUD_EVENT,
                "ce_type": _text("Kind of record.", const=topic.value),
                "ce_dataschema": _text("Id of its JSON Schema.", const=schema_id(topic)),
                **_EXTENSIONS.get(topic, {}),
            }
    return {
        "type": "object",
        "properties": {name: one.schema for name, one in headers.items()},
        "required": [name for name, one in headers.items() if one.is_required],
    }
