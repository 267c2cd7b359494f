"""What all records share: field types, open enumerations, and the fields of every record."""

from datetime import UTC, datetime
from typing import Annotated, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.json_schema import WithJsonSchema

from pipeline.clock import format_time

_Known = TypeVar("_Known")


def _as_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


UtcTime = Annotated[
    AwareDatetime,
    AfterValidator(_as_utc),
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Probability = Annotated[float, Field(ge=0, le=1)]
# Without prefixItems, which the drafts before 2020-12 do not know.
BoxField = Annotated[
    tuple[float, float, float, float],
    WithJsonSchema({"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}),
]
SizeField = Annotated[
    tuple[int, int],
    WithJsonSchema({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}),
]
# The values known today, and whatever a later minor version adds: readers must not fail at it.
Open = Annotated[_Known | str, Field(union_mode="left_to_right")]


class RecordModel(BaseModel):
    """Part of a record. Readers ignore fields that they do not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        populate_by_name=True,
        allow_inf_nan=False,  # JSON knows neither
    )


class SourceRef(RecordModel):
    """Which piece of input a frame was: a Kafka record, or a picture of a file."""

    topic: str | None = None
    """Kafka topic that the frame came from."""
    partition: int | None = None
    """Its partition."""
    offset: int | None = None
    """Its offset."""
    media: str | None = None
    """File that the frame came from, as its source was told to read it."""
    frame_index: int | None = None
    """Number of the frame in that file, from 0."""


class CommonFields(RecordModel):
    """Fields of every record. What is null may be left out, and is."""

    ce_id: str | None = None
    """The record's id, the same when it is delivered again. In JSON lines alone; on Kafka the
    header ``ce_id`` holds it."""
    schema_version: Annotated[str, Field(pattern=r"^1\.\d+$")] = "1.0"
    """Major and minor version of the record's schema; a reader of 1.0 can read every 1.x."""
    stream_id: str
    """Name of the stream: the camera's name, or the key of its Kafka records."""
    source_ref: SourceRef | None = None
    """Which piece of input the frame was; null for live cameras."""
    worker: str | None = None
    """Name of the process that made the record."""
    generation: int | None = None
    """How often the stream has changed its worker; the higher one is right."""
    prompt_revision: int | None = None
    """Number of the last command that changed what is looked for; grows. Null: none has."""
    rule_revision: int | None = None
    """Number of the last command that changed rules or zones; grows. Null: none has."""
    mode: str | None = None
    """How the frame was processed: ``still`` if nothing moved and the model did not look at it.
    Null: by the model."""
    view: str | None = None
    """How the camera's view is: ok, changing, dark, covered, frozen, moved. Null: not judged."""
    labels: dict[str, str | float | bool] | None = None
    """The stream's labels, such as site, building, lat and lon."""
