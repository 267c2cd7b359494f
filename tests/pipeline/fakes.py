"""Builders, and a small ordinary concept tracker that needs no weights."""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from connectors.frame import CaptureClock, Frame
from models.common.masks import CropMask
from models.protocols import Concept, FrameInput, MaskletObservation, Prediction, to_concepts
from pipeline.clock import Moment, seconds_to_us
from pipeline.tracking.states import TrackState
from pipeline.tracking.track import Track

START = datetime(2026, 1, 1, tzinfo=UTC)
_JPEG_ERROR = 40  # of a level; at edges of blobs JPEG leaves colours in between
COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def make_frame(seq=0, *, blobs=None, stream_id="cam", epoch=0, fps=10.0, size=(24, 32)):
    """A black frame with square blobs: {"red": (x, y)}, 6 px wide."""
    pixels = np.zeros((*size, 3), np.uint8)
    for concept, (x, y) in (blobs or {}).items():
        pixels[y : y + 6, x : x + 6] = COLORS[concept]
    return Frame(
        stream_id=stream_id,
        stream_epoch=epoch,
        frame_seq=seq,
        pixels=pixels,
        pts_us=round(seq * 1e6 / fps),
        captured_at=START + timedelta(seconds=seq / fps),
        capture_clock=CaptureClock.WORLD,
    )


def make_walk(num_frames=20, *, stream_id="cam", concept="red"):
    """A blob that walks one pixel a frame from the left to the right."""
    return [
        make_frame(i, blobs={concept: (min(i, 26), 8)}, stream_id=stream_id)
        for i in range(num_frames)
    ]


def make_observation(number=1, *, box=(2, 3, 4, 5), concept="red", score=0.9, is_matched=True):
    """A masklet whose mask is the box x, y, width, height in pixels; none: out of sight."""
    mask = np.zeros((24, 32), np.bool_)
    if box is not None:
        x, y, width, height = box
        mask[y : y + height, x : x + width] = True
    return MaskletObservation(
        masklet_id=number,
        concept=concept,
        concept_id=concept,
        score=score,
        presence_score=0.95,
        occlusion_score=0.0 if box is None else 1.0,
        is_matched=is_matched and box is not None,
        first_seen_s=0.0,
        last_seen_s=0.0,
        mask=CropMask.of(mask),
        pointer=None,
    )


def make_prediction(*masklets, ended=(), stream_id="cam"):
    return Prediction(
        stream_id=stream_id, masklets=masklets, ended=tuple(ended), presence={"red": 0.95}
    )


def moment(seconds, *, gap_s=0.0):
    """A point of stream time before which ``gap_s`` seconds were not observed."""
    stream_us = seconds_to_us(seconds)
    return Moment(stream_us=stream_us, observed_us=stream_us - seconds_to_us(gap_s))


def make_track(no=1, *, center=(0.5, 0.5), state=TrackState.CONFIRMED, unseen_s=0.0, concept="red"):
    """A track of a tenth of the frame around ``center``."""
    x, y = center
    return Track(
        uid=f"uid-{no}",
        no=no,
        concept=concept,
        concept_id=concept,
        state=state,
        score=0.9,
        best_score=0.95,
        presence_score=0.9,
        occlusion_score=1.0,
        bbox=(x - 0.05, y - 0.05, 0.1, 0.1),
        area=0.01,
        is_visible=unseen_s == 0.0,
        has_place=True,
        last_mask=CropMask.of(np.ones((2, 2), np.bool_)),
        first_seen=moment(0.0),
        last_seen=moment(9.0 - unseen_s),
        now=moment(9.0),
        visible_us=1_000_000,
    )


@dataclass(frozen=True)
class SavedBlobs:
    """What :class:`BlobTracker` knows of a stream."""

    blobs: dict[str, MaskletObservation]
    next_masklet_id: int

    def numbers(self) -> str:
        blobs = {
            concept_id: (seen.masklet_id, seen.first_seen_s, seen.last_seen_s)
            for concept_id, seen in self.blobs.items()
        }
        return json.dumps({"next_id": self.next_masklet_id, "blobs": blobs})

    def arrays(self, *, is_full: bool) -> dict[str, np.ndarray]:
        return {"full": np.ones(1)} if is_full else {}


def _blob(number, concept, *, first_seen_s, last_seen_s):
    seen = make_observation(number, box=None, concept=concept)
    return replace(seen, first_seen_s=first_seen_s, last_seen_s=last_seen_s)


@dataclass
class BlobTracker:
    """Finds blobs of pure colour, in JPEG too; a phrase is a colour's name, a colour one masklet.

    A blob that is gone for more than ``memory_s`` is forgotten. A frame whose first pixel is
    white makes it fail, as a model may fail on an odd input.
    """

    memory_s: float = 5.0
    streams: dict[str, dict[str, MaskletObservation]] = field(default_factory=dict)
    concepts: dict[str, tuple[Concept, ...]] = field(default_factory=dict)
    next_id: int = 1
    batches: list[tuple[str, ...]] = field(default_factory=list)

    def open_stream(self, stream_id: str, concepts: Sequence[str | Concept]) -> None:
        if stream_id in self.streams:
            raise ValueError(f"stream {stream_id!r} is open")
        self._look_for(stream_id, to_concepts(concepts))
        self.streams[stream_id] = {}

    def _look_for(self, stream_id: str, concepts: Sequence[Concept]) -> None:
        if unknown := {one.phrase for one in concepts} - COLORS.keys():
            raise ValueError(f"unknown colours {sorted(unknown)!r}")
        for field_name in ("concept_id", "phrase", "name"):
            values = [getattr(one, field_name) for one in concepts]
            if len(set(values)) < len(values):
                raise ValueError(f"{field_name} twice in {values!r}")
        self.concepts[stream_id] = tuple(concepts)

    def add_concept(self, stream_id: str, concept: str, *, concept_id: str) -> None:
        added = Concept(concept_id=concept_id, phrase=concept, name=concept)
        self._look_for(stream_id, (*self.concepts[stream_id], added))

    def rename_concept(self, stream_id: str, concept_id: str, name: str) -> None:
        self._known(stream_id, concept_id)
        concepts = self.concepts[stream_id]
        renamed = [
            replace(one, name=name) if one.concept_id == concept_id else one for one in concepts
        ]
        self._look_for(stream_id, renamed)

    def remove_concept(self, stream_id: str, concept_id: str) -> None:
        removed = self._known(stream_id, concept_id)
        kept = [one for one in self.concepts[stream_id] if one is not removed]
        self._look_for(stream_id, kept)
        self.streams[stream_id].pop(concept_id, None)

    def _known(self, stream_id: str, concept_id: str) -> Concept:
        for one in self.concepts[stream_id]:
            if one.concept_id == concept_id:
                return one
        raise ValueError(f"no concept {concept_id!r}")

    def close_stream(self, stream_id: str) -> None:
        del self.streams[stream_id]

    def save_stream(self, stream_id: str) -> "SavedBlobs":
        return SavedBlobs(dict(self.streams[stream_id]), self.next_id)

    def restore_stream(self, stream_id, concepts, memory) -> tuple[str, ...]:
        """Go on with blobs; of those in a view, and of reminders, their place is enough."""
        numbers = json.loads(memory.numbers)
        self.open_stream(stream_id, concepts)
        self.next_id = max(self.next_id, numbers["next_id"])
        concept_ids = {one.concept_id for one in self.concepts[stream_id]}
        for concept_id, (number, first_seen_s, last_seen_s) in numbers["blobs"].items():
            if concept_id in concept_ids and number not in memory.forgotten:
                self.streams[stream_id][concept_id] = _blob(
                    number, concept_id, first_seen_s=first_seen_s, last_seen_s=last_seen_s
                )
        for one in memory.reminders:
            self.next_id = max(self.next_id, one.masklet_id + 1)
            self.streams[stream_id][one.concept_id] = _blob(
                one.masklet_id,
                one.concept_id,
                first_seen_s=one.last_seen_s,
                last_seen_s=one.last_seen_s,
            )
        return ()

    def step(self, inputs: Sequence[FrameInput]) -> list[Prediction]:
        self.batches.append(tuple(item.stream_id for item in inputs))
        return [self._look(item) for item in inputs]

    def _look(self, item: FrameInput) -> Prediction:
        if item.pixels[0, 0].min() == 255:
            raise RuntimeError("white corner")
        known, ended = self.streams[item.stream_id], []
        for concept in self.concepts[item.stream_id]:
            distance = np.abs(item.pixels.astype(np.int16) - COLORS[concept.phrase])
            mask = distance.max(axis=2) <= _JPEG_ERROR
            old = known.pop(concept.concept_id, None)
            if mask.any() or (old and item.time_s - old.last_seen_s <= self.memory_s):
                known[concept.concept_id] = self._observe(concept, mask, old, item.time_s)
            elif old:
                ended.append(old.masklet_id)
        return Prediction(
            stream_id=item.stream_id,
            masklets=tuple(sorted(known.values(), key=lambda seen: seen.masklet_id)),
            ended=tuple(ended),
            presence={seen.concept: 1.0 for seen in known.values()},
        )

    def _observe(self, concept, mask, old, time_s):
        is_seen = bool(mask.any())
        if old is None:
            self.next_id += 1
        return MaskletObservation(
            masklet_id=old.masklet_id if old else self.next_id - 1,
            concept=concept.name,
            concept_id=concept.concept_id,
            score=0.9,
            presence_score=float(is_seen),
            occlusion_score=float(is_seen),
            is_matched=is_seen,
            first_seen_s=old.first_seen_s if old else time_s,
            last_seen_s=time_s if is_seen or old is None else old.last_seen_s,
            mask=CropMask.of(mask),
            pointer=None,
        )


@dataclass
class LossyBlobTracker(BlobTracker):
    """Sees pure colours through a lossy codec; takes ``step_s`` for each batch."""

    step_s: float = 0.0

    def step(self, inputs: Sequence[FrameInput]) -> list[Prediction]:
        threading.Event().wait(self.step_s)
        pure = [np.where(item.pixels > 128, 255, 0).astype(np.uint8) for item in inputs]
        return super().step(
            [replace(item, pixels=pixels) for item, pixels in zip(inputs, pure, strict=True)]
        )
