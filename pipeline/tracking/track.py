"""A track as it stands on one frame, and the steps of its life."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, TypeAdapter

from models.common.masks import Box, CocoRle, CropMask, RunLengths
from pipeline.clock import Moment
from pipeline.tracking.states import TrackChangeKind, TrackState

_RLE = TypeAdapter(CocoRle)


def _to_mask(value: object) -> CropMask:
    if isinstance(value, CropMask):
        return value
    rle = _RLE.validate_python(value)
    height, width = rle["size"]
    return CropMask.of(RunLengths.from_counts(rle["counts"], (height, width)).mask())


# In JSON a mask is run lengths.
_Mask = Annotated[
    CropMask,
    PlainValidator(_to_mask),
    PlainSerializer(lambda mask: mask.run_lengths().compressed(), return_type=CocoRle),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A track as it stands on one frame.

    Attributes:
        uid: Globally unique, never used again.
        no: Small number for people, from 1, unique in its stream.
        score: Of the last detection that matched, 0 to 1.
        best_score: The highest of them, 0 to 1.
        bbox: x, y, width, height, 0 to 1 of the frame, where it was last seen.
        area: Share of the frame covered, 0 while out of sight.
        is_visible: Whether any of it can be seen on this frame.
        has_place: Whether it counts as being where it was last seen: not if unseen for long.
        last_mask: Its pixels when it was last visible.
        first_seen: When it was first seen.
        last_seen: When it was last seen; now, while visible.
        now: This frame.
        visible_us: Observed time in which it was seen.
    """

    uid: str
    no: int
    concept: str
    concept_id: str
    state: TrackState
    score: float
    best_score: float
    presence_score: float
    occlusion_score: float
    bbox: Box
    area: float
    is_visible: bool
    has_place: bool
    last_mask: _Mask
    first_seen: Moment
    last_seen: Moment
    now: Moment
    visible_us: int

    @property
    def mask(self) -> CropMask | None:
        """Its pixels on this frame; ``None`` while out of sight."""
        return self.last_mask if self.is_visible else None

    @property
    def age_us(self) -> int:
        """Observed time since it was first seen."""
        return self.now.observed_us - self.first_seen.observed_us

    @property
    def unseen_us(self) -> int:
        """Observed time since it was last seen; 0 while visible."""
        return self.now.observed_us - self.last_seen.observed_us


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackChange:
    """One step in a track's life, and the track as it stands after it."""

    kind: TrackChangeKind
    track: Track
    reason: str | None = None
    merged_into: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackUpdate:
    """What one frame did to a stream's tracks.

    Attributes:
        tracks: All living tracks, by number; at the end of a session those confirmed by it.
        changes: In the order in which they happened.
    """

    tracks: tuple[Track, ...]
    changes: tuple[TrackChange, ...]
