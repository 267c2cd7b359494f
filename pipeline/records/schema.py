"""What leaves the pipeline: four kinds of record and their fields.

Adding an optional field or a value of an enumeration is a minor version, which every reader of 1.0
can read: it ignores fields that it does not know and takes any value of an enumeration. Anything
else is a new major version and a new topic.
"""

from enum import StrEnum
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from connectors.frame import CaptureClock
from connectors.record import Topic
from models.common.masks import RunLengths
from pipeline.events.event import EventPhase
from pipeline.records.base import (
    BoxField,
    CommonFields,
    Open,
    Probability,
    RecordModel,
    SizeField,
    UtcTime,
)
from pipeline.tracking.states import TrackChangeKind, TrackState

_COCO_RLE = "coco_rle"


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
    PAUSED = "paused"
    """Not looked at, because someone has said so."""
    OFFLINE = "offline"
    """The connection was lost long ago; it is tried again for ever."""
    ENDED = "ended"
    """The source came to its end, or the run did."""
    FAILED = "failed"
    """The configuration makes trying again senseless."""


class Sight(StrEnum):
    """Whether an object can be seen."""

    VISIBLE = "visible"
    """On this frame."""
    HIDDEN = "hidden"
    """Not seen for a short while; it counts as being where it was last seen."""
    UNKNOWN = "unknown"
    """Not seen for longer; nobody knows where it is."""


class SubjectType(StrEnum):
    """What kind of thing an event is about."""

    TRACK = "track"
    ZONE = "zone"
    STREAM = "stream"


class FrameSize(RecordModel):
    """Pixels of the frame that boxes and masks refer to."""

    width: Annotated[int, Field(ge=1)]
    """Pixels from left to right, of the upright picture."""
    height: Annotated[int, Field(ge=1)]
    """Pixels from top to bottom."""


class MaskRecord(RecordModel):
    """A mask at frame size as COCO run lengths (column-major, first run counts zeros)."""

    encoding: str = _COCO_RLE
    """How ``counts`` is to be read; always ``coco_rle`` so far."""
    size: SizeField
    """Height and width of the frame in pixels."""
    counts: str
    """COCO's compressed run lengths, as ``pycocotools`` reads them."""

    def to_array(self) -> NDArray[np.bool_]:
        """Return the mask, shape (H, W).

        Raises:
            ValueError: If the run lengths do not fill the size, or it is encoded otherwise.
        """
        if self.encoding != _COCO_RLE:
            raise ValueError(f"a mask in encoding {self.encoding!r} (accepted: {_COCO_RLE})")
        return RunLengths.from_counts(self.counts, self.size).mask()


class ConceptScore(RecordModel):
    """One of several concepts that an object was found with."""

    id: str
    """The concept's id."""
    score: Probability
    """Of the concept's last detection that matched the object."""


class ObjectRecord(RecordModel):
    """One object as it stands on one frame."""

    track_uid: str
    """Globally unique, never used again."""
    track_no: Annotated[int, Field(ge=1)]
    """Small number for people, unique within its stream."""
    concept_id: str
    """Id of the concept that it was found with."""
    concept: str
    """The phrase that it was found with."""
    state: Open[TrackState]
    """Where the track stands in its life."""
    sight: Open[Sight] | None = None
    """Whether it can be seen."""
    score: Probability
    """Of the last detection that matched it."""
    presence_score: Probability | None = None
    """Probability that the concept is on this frame at all; null for models that do not say."""
    visibility_score: Probability
    """Probability that the object can be seen now, as the tracker judges it."""
    bbox: BoxField
    """x, y, width, height; 0 to 1 of the frame, origin top left; where it was last seen."""
    area: Probability
    """Share of the frame that the mask covers; 0 while it cannot be seen."""
    mask: MaskRecord | None = None
    """Its pixels. Null while it cannot be seen, and in records with ``masks_omitted``."""
    age_s: float
    """Observed seconds since it was first seen."""
    last_seen_s: float
    """Observed seconds since it was last visible; 0 while it can be seen."""
    concepts: tuple[ConceptScore, ...] | None = None
    """All concepts that it was found with, if there are several."""
    zones: tuple[str, ...] = ()
    """Ids of the zones that hold its anchor point (bottom centre)."""


class FrameFields(CommonFields):
    """Fields of every record about a frame."""

    stream_epoch: Annotated[int, Field(ge=0)]
    """Grows at each discontinuity of the stream, such as a loop."""
    frame_seq: Annotated[int, Field(ge=0)]
    """Number of the frame in its stream, not reset by a new epoch."""
    capture_time: UtcTime
    """When the frame was taken, as its source says; reported, not trusted."""
    capture_clock: Open[CaptureClock]
    """Where ``capture_time`` comes from."""
    capture_uncertainty_s: Annotated[float, Field(ge=0)]
    """Half width of the interval that holds the true capture time, in seconds."""
    stream_time_us: int
    """Microseconds since the stream's first frame; never runs backwards."""
    pts_us: int
    """Media time in microseconds."""
    result_time: UtcTime
    """When the result was known; differs when a frame is processed again."""


class MaskletsRecord(FrameFields):
    """All objects of one processed frame of one stream, also when there are none."""

    frame: FrameSize
    """The frame's size."""
    model: str
    """Name of the model."""
    dropped_since_last: Annotated[int, Field(ge=0)] = 0
    """Frames of this stream that were dropped or gated since the one before."""
    presence: dict[str, Probability] = Field(default={})
    """By concept: probability that it is on this frame at all."""
    objects: tuple[ObjectRecord, ...] = ()
    """Objects that live on this frame, hidden ones included, by number."""
    masks_omitted: bool | None = None
    """True if masks were left out because the record would have been too large with them."""


class TrackRecord(FrameFields):
    """One step in a track's life."""

    kind: Open[TrackChangeKind]
    """What happened to the track."""
    track_uid: str
    """Globally unique, never used again."""
    track_no: Annotated[int, Field(ge=1)]
    """Small number for people, unique within its stream."""
    concept_id: str
    """Id of the concept that it was found with."""
    concept: str
    """The phrase that it was found with."""
    state: Open[TrackState]
    """Where the track stands after this step."""
    score: Probability
    """Of the last detection that matched it."""
    best_score: Probability
    """The highest score of all detections that matched it."""
    bbox: BoxField
    """x, y, width, height; 0 to 1 of the frame, origin top left; where it was last seen."""
    age_s: float
    """Observed seconds since it was first seen."""
    visible_s: float
    """Seconds of its life in which it could be seen."""
    reason: str | None = None
    """Why it ended, for example tracker, expired, discontinuity, stream_ended, model_error."""
    merged_into: str | None = None
    """``track_uid`` that goes on in its place."""


class Subject(RecordModel):
    """What an event is about."""

    type: Open[SubjectType]
    """What kind of thing it is."""
    id: str
    """``track_uid``, the zone's id or ``stream_id``."""


class EventMedia(RecordModel):
    """A picture or clip of an event."""

    type: str
    """What it shows, for example snapshot or clip."""
    url: str
    """Where it can be fetched."""


class EventRecord(FrameFields):
    """One phase of an event of a rule."""

    event_id: str
    """The same for all phases of one event."""
    phase: Open[EventPhase]
    """Where the event stands in its life."""
    sequence: Annotated[int, Field(ge=0)]
    """Number of this record among those of its event, from 0."""
    rule: str
    """Name of the rule."""
    kind: str
    """The rule's type, for example appear, disappear, enter, leave, dwell."""
    subjects: Annotated[tuple[Subject, ...], Field(min_length=1)]
    """What the event is about; the first one names it."""
    track_uid: str | None = None
    """The track that the event is about; null, as the next five, if it is about no single one."""
    track_no: Annotated[int, Field(ge=1)] | None = None
    """The track's number for people."""
    concept_id: str | None = None
    """Id of the concept that the track was found with."""
    concept: str | None = None
    """The phrase that the track was found with."""
    score: Probability | None = None
    """Of the last detection that matched the track."""
    bbox: BoxField | None = None
    """The track's box: x, y, width, height; 0 to 1 of the frame, origin top left."""
    zone: str | None = None
    """Id of the rule's zone."""
    visit_id: str | None = None
    """The same for all events of one visit of one track to one zone."""
    initial: bool | None = None
    """True if this was so already when watching began."""
    from_: Annotated[str | None, Field(alias="from")] = None
    """Where the track was before: inside, outside, out of the picture, unseen."""
    to: str | None = None
    """Where the track went: inside, outside, out of the picture, unseen."""
    start_time: UtcTime
    """When the event began; the same in all its phases."""
    believed_time: UtcTime | None = None
    """When the rule had seen enough to believe it."""
    end_time: UtcTime | None = None
    """When the event ended; of the phase ``end`` alone."""
    end_reason: str | None = None
    """Why the event ended; of the phase ``end`` alone."""
    gap_s: Annotated[float, Field(ge=0)] | None = None
    """Seconds since the event began in which nothing was observed; they do not count in ``value``.
    Null if there were none."""
    value: dict[str, float] = Field(default={})
    """What the rule measured, for example ``dwell_s``."""
    changed: tuple[str, ...] | None = None
    """Names of the fields that differ from the record before."""
    suppressed: Annotated[int, Field(ge=0)] | None = None
    """Events that were held back since the one before, because they came too soon after it."""
    corrects: str | None = None
    """``ce_id`` of the record that this one sets right."""
    severity: str | None = None
    """How much it matters, as the rule was configured."""
    media: tuple[EventMedia, ...] | None = None
    """Pictures and clips of the event."""
    playback_url: str | None = None
    """Where the recording can be watched from the event's beginning on."""


class StatusError(RecordModel):
    """Why a stream is in trouble."""

    type: str
    """Name of the kind of error."""
    message: str
    """What happened, for people, without secrets."""
    position: dict[str, int | float | str] = Field(default={})
    """Where it happened, for example file and time."""


class FrameCounts(RecordModel):
    """Where a stream's frames went: received = processed + gated + dropped + waiting, always."""

    received: int = 0
    """Frames that the source gave."""
    processed: int = 0
    """Frames that led to a result."""
    gated: int = 0
    """Frames left out on purpose, for example beyond ``max_fps``."""
    dropped: dict[str, int] = Field(default={})
    """Frames that were lost, by cause."""
    waiting: int = 0
    """In the buffer or in the model; 0 once the stream has ended."""


class RestoredState(RecordModel):
    """What a stream went on from."""

    taken_at: UtcTime | None = None
    """When its snapshot was taken. Null: none could be used, and the stream began anew."""
    age_s: Annotated[float, Field(ge=0)] | None = None
    """How old the snapshot was then, in seconds."""
    error: str | None = None
    """Why a newer one could not be used, or none at all, or why its tracks ended all the same."""


class StatusRecord(CommonFields):
    """A stream's state: at each change of it, and every few seconds."""

    schema_version: Annotated[str, Field(pattern=r"^1\.\d+$")] = "1.2"
    """Major and minor version of the record's schema; a reader of 1.0 can read every 1.x. Of 1.1
    are ``restored`` and ``state_error``, of 1.2 is the state ``paused``."""
    stream_epoch: int = 0
    """Of the last frame processed."""
    frame_seq: int = -1
    """The last frame processed; -1 before the first."""
    state: Open[StreamState]
    """What the stream is doing."""
    since: UtcTime
    """Since when; of a lost connection, the moment of the loss."""
    time: UtcTime
    """When this was so."""
    valid_until: UtcTime | None = None
    """By then there is another record, or the worker is gone. Null: nothing more is to come."""
    counts: FrameCounts = FrameCounts()
    """Where its frames went, since the worker started."""
    error: StatusError | None = None
    """What is wrong now."""
    open_event_ids: tuple[str, ...] | None = None
    """``event_id`` of all events that have begun and not ended; null if not known."""
    restored: RestoredState | None = None
    """What it went on from, after a restart or errors of the model; null: from nothing."""
    state_error: str | None = None
    """Why its newest state is not on disk. Null: it is, or nothing of the stream is kept."""


AnyRecord = MaskletsRecord | TrackRecord | EventRecord | StatusRecord

RECORD_TYPES: dict[Topic, type[AnyRecord]] = {
    Topic.MASKLETS: MaskletsRecord,
    Topic.TRACKS: TrackRecord,
    Topic.EVENTS: EventRecord,
    Topic.STATUS: StatusRecord,
}
