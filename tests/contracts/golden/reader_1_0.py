"""A consumer's models of records 1.0, as they were when 1.0 was made. Never to be changed.

They stand by themselves: nothing that happens to the product may change what they accept.
"""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

Share = Annotated[float, Field(ge=0, le=1)]
Box = tuple[float, float, float, float]
Count = Annotated[int, Field(ge=0)]
Number = Annotated[int, Field(ge=1)]
Version = Annotated[str, Field(pattern=r"^1\.\d+$")]


class SourceRef(BaseModel):
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    media: str | None = None
    frame_index: int | None = None


class Common(BaseModel):
    ce_id: str | None = None
    schema_version: Version
    stream_id: str
    source_ref: SourceRef | None = None
    worker: str | None = None
    generation: int | None = None
    prompt_revision: int | None = None
    rule_revision: int | None = None
    mode: str | None = None
    view: str | None = None
    labels: dict[str, str | float | bool] | None = None


class OfFrame(Common):
    stream_epoch: Count
    frame_seq: Count
    capture_time: datetime
    capture_clock: str
    capture_uncertainty_s: Annotated[float, Field(ge=0)]
    stream_time_us: int
    pts_us: int
    result_time: datetime


class FrameSize(BaseModel):
    width: Number
    height: Number


class Mask(BaseModel):
    encoding: str
    size: tuple[int, int]
    counts: str


class ConceptScore(BaseModel):
    id: str
    score: Share


class Thing(BaseModel):
    track_uid: str
    track_no: Number
    concept_id: str
    concept: str
    state: str
    sight: str | None = None
    score: Share
    presence_score: Share | None = None
    visibility_score: Share
    bbox: Box
    area: Share
    mask: Mask | None = None
    age_s: float
    last_seen_s: float
    concepts: list[ConceptScore] | None = None
    zones: list[str]


class Masklets(OfFrame):
    frame: FrameSize
    model: str
    dropped_since_last: Count
    presence: dict[str, Share]
    objects: list[Thing]
    masks_omitted: bool | None = None


class Track(OfFrame):
    kind: str
    track_uid: str
    track_no: Number
    concept_id: str
    concept: str
    state: str
    score: Share
    best_score: Share
    bbox: Box
    age_s: float
    visible_s: float
    reason: str | None = None
    merged_into: str | None = None


class Subject(BaseModel):
    type: str
    id: str


class Media(BaseModel):
    type: str
    url: str


class Event(OfFrame):
    event_id: str
    phase: str
    sequence: Count
    rule: str
    kind: str
    subjects: Annotated[list[Subject], Field(min_length=1)]
    track_uid: str | None = None
    track_no: Number | None = None
    concept_id: str | None = None
    concept: str | None = None
    score: Share | None = None
    bbox: Box | None = None
    zone: str | None = None
    visit_id: str | None = None
    initial: bool | None = None
    origin: Annotated[str | None, Field(alias="from")] = None
    to: str | None = None
    start_time: datetime
    believed_time: datetime | None = None
    end_time: datetime | None = None
    end_reason: str | None = None
    gap_s: Annotated[float, Field(ge=0)] | None = None
    value: dict[str, float]
    changed: list[str] | None = None
    suppressed: Count | None = None
    corrects: str | None = None
    severity: str | None = None
    media: list[Media] | None = None
    playback_url: str | None = None


class Error(BaseModel):
    type: str
    message: str
    position: dict[str, int | float | str]


class Counts(BaseModel):
    received: int
    processed: int
    gated: int
    dropped: dict[str, int]
    waiting: int


class Status(Common):
    stream_epoch: int
    frame_seq: int
    state: str
    since: datetime
    time: datetime
    valid_until: datetime | None = None
    counts: Counts
    error: Error | None = None
    open_event_ids: list[str] | None = None


READERS: dict[str, type[Common]] = {
    "masklets": Masklets,
    "tracks": Track,
    "events": Event,
    "status": Status,
}
