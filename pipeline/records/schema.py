"""What leaves the pipeline: four kinds of record, their fields and their JSON Schemas.

Adding an optional field is a minor version. Anything else is a new major version and a new topic,
so readers ignore fields that they do not know.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.json_schema import WithJsonSchema

from connectors.frame import CaptureClock
from connectors.record import Topic
from models.common.masks import RunLengths
from pipeline.clock import format_time
from pipeline.events.event import EventPhase
from pipeline.tracking.states import TrackChangeKind, TrackState


def _as_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


UtcTime = Annotated[
    AwareDatetime,
    AfterValidator(_as_utc),
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Probability = Annotated[float, Field(ge=0, le=1)]


class StreamState(StrEnum):
    """What a stream is doing."""

    CONNECTING = "connecting"
    """Its source is being opened for the first time."""
    RUNNING = "running"
    """Frames come."""
    OVERLOADED = "overloaded"
    """Frames come faster than the model takes them: many are dropped."""
    STALLED = "stalled"
    """Connected, but no frame comes."""
    RECONNECTING = "reconnecting"
    """The connection was lost a short while ago."""
    OFFLINE = "offline"
    """The connection was lost long ago; it is tried again for ever."""
    ENDED = "ended"
    """The source came to its end, or the run did."""
    FAILED = "failed"
    """The configuration makes trying again senseless."""


class _Model(BaseModel):
    # Readers of 1.0 must be able to read 1.1, hence "ignore".
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class FrameSize(_Model):
    """Pixels of the frame that boxes and masks refer to."""

    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]


class MaskRecord(_Model):
    """A mask at frame size as COCO run lengths (column-major, first run counts zeros)."""

    encoding: Literal["coco_rle"] = "coco_rle"
    size: tuple[int, int]
    """Height and width."""
    counts: str
    """COCO's compressed run lengths, as ``pycocotools`` reads them."""

    def to_array(self) -> NDArray[np.bool_]:
        """Return the mask, shape (H, W).

        Raises:
            ValueError: If the run lengths do not fill the size.
        """
        return RunLengths.from_counts(self.counts, self.size).mask()


class ObjectRecord(_Model):
    """One object as it stands on one frame."""

    track_uid: str
    """Globally unique, never used again."""
    track_no: Annotated[int, Field(ge=1)]
    """Small number for people, unique within stream and epoch."""
    concept_id: str
    concept: str
    """The phrase that it was found with."""
    state: TrackState
    score: Probability
    """Of the last detection that matched it."""
    presence_score: Probability
    """That the concept is on this frame at all."""
    occlusion_score: Probability
    """That the object is visible now."""
    bbox: tuple[float, float, float, float]
    """x, y, width, height; 0 to 1 of the frame, origin top left; where it was last seen."""
    area: Probability
    """Share of the frame that the mask covers; 0 while it cannot be seen."""
    mask: MaskRecord | None
    """Null while it cannot be seen."""
    age_s: float
    last_seen_s: float
    """Seconds since it was last visible; 0 while it can be seen."""
    zones: tuple[str, ...] = ()
    """Names of the zones that hold its anchor point (bottom centre)."""


class _FrameRecord(_Model):
    schema_version: Literal["1.0"] = "1.0"
    stream_id: str
    stream_epoch: Annotated[int, Field(ge=0)]
    frame_seq: Annotated[int, Field(ge=0)]
    capture_time: UtcTime
    capture_clock: CaptureClock
    capture_uncertainty_s: Annotated[float, Field(ge=0)]
    stream_time_us: int
    """Time since the stream's first frame; never runs backwards."""
    pts_us: int
    """Media time."""
    """Media time in microseconds."""
    result_time: UtcTime


class MaskletsRecord(_FrameRecord):
    """All objects of one processed frame of one stream, also when there are none."""

    frame: FrameSize
    model: str
    dropped_since_last: Annotated[int, Field(ge=0)] = 0
    """Frames of this stream that were dropped or gated since the one before."""
    presence: dict[str, Probability] = {}
    """By concept: probability that it is on this frame at all."""
    objects: tuple[ObjectRecord, ...] = ()


class TrackRecord(_FrameRecord):
    """One step in a track's life."""

    kind: TrackChangeKind
    track_uid: str
    track_no: Annotated[int, Field(ge=1)]
    concept_id: str
    concept: str
    state: TrackState
    score: Probability
    best_score: Probability
    bbox: tuple[float, float, float, float]
    age_s: float
    visible_s: float
    """Seconds of its life in which it could be seen."""
    reason: str | None = None
    """Why it ended: tracker, expired, discontinuity, stream_ended, model_error."""
    merged_into: str | None = None
    """``track_uid`` that goes on in its place."""


class EventRecord(_FrameRecord):
    """One phase of a rule's event about one track."""

    event_id: str
    """The same for all phases of one event."""
    phase: EventPhase
    rule: str
    kind: str
    """The rule's type: appear, disappear, enter, leave, dwell."""
    track_uid: str
    track_no: Annotated[int, Field(ge=1)]
    concept_id: str
    concept: str
    zone: str | None = None
    start_time: UtcTime
    end_time: UtcTime | None = None
    end_reason: str | None = None
    score: Probability
    bbox: tuple[float, float, float, float]
    gap_s: Annotated[float, Field(ge=0)] | None = None
    """Seconds since the event began in which nothing was observed; they do not count in ``value``.
    Null if there were none."""
    value: dict[str, float] = {}
    """What the rule measured, for example ``dwell_s``."""


class StatusError(_Model):
    """Why a stream or sink is in trouble."""

    type: str
    message: str
    position: dict[str, int | float | str] = {}


class FrameCounts(_Model):
    """Where a stream's frames went: received = processed + gated + dropped + waiting, always."""

    received: int = 0
    processed: int = 0
    gated: int = 0
    dropped: dict[str, int] = {}
    """By cause."""
    waiting: int = 0
    """In the buffer or in the model; 0 once the stream has ended."""


class StatusRecord(_Model):
    """A stream's state: at each change of it, and every few seconds."""

    schema_version: Literal["1.0"] = "1.0"
    stream_id: str
    stream_epoch: int = 0
    frame_seq: int = -1
    """The last frame processed; -1 before the first."""
    state: StreamState
    since: UtcTime
    """Since when; of a lost connection, the moment of the loss."""
    time: UtcTime
    counts: FrameCounts = FrameCounts()
    error: StatusError | None = None


AnyRecord = MaskletsRecord | TrackRecord | EventRecord | StatusRecord

RECORD_TYPES: dict[Topic, type[AnyRecord]] = {
    Topic.MASKLETS: MaskletsRecord,
    Topic.TRACKS: TrackRecord,
    Topic.EVENTS: EventRecord,
    Topic.STATUS: StatusRecord,
}


def schema_of(topic: Topic) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a topic's records."""
    body = RECORD_TYPES[topic].model_json_schema(mode="serialization")
    name = topic.value.replace(".", ":")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:{name}", **body}
