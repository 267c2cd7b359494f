"""What the pipeline asks of a streaming concept tracker. Importing this costs no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.common.concept_ids import unique_concept_ids
from models.common.masks import CropMask


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """What a stream is searched for, under an id of its own.

    Attributes:
        concept_id: Unique within its stream, and safe in keys: small letters, digits and hyphens.
            It stays when the concept is renamed.
        phrase: What to look for.
        name: What results call it.
    """

    concept_id: str
    phrase: str
    name: str


def to_concepts(given: Sequence[str | Concept]) -> tuple[Concept, ...]:
    """Return concepts; a phrase is its own name and gets an id that no other concept has."""
    taken = [one.concept_id for one in given if isinstance(one, Concept)]
    phrases = [one for one in given if isinstance(one, str)]
    ids = iter(unique_concept_ids(phrases, taken=taken))
    return tuple(
        Concept(concept_id=next(ids), phrase=one, name=one) if isinstance(one, str) else one
        for one in given
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameInput:
    """One frame of one stream for one step.

    Attributes:
        stream_id: Stream opened with :meth:`ConceptTracker.open_stream`.
        pixels: RGB, shape (H, W, 3), uint8, any H and W of at least 1.
        time_s: Observed stream time in seconds, on any clock that does not run backwards.
    """

    stream_id: str
    pixels: NDArray[np.uint8]
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskletObservation:
    """One masklet as it stands on one frame.

    Attributes:
        masklet_id: Unique within its stream for the tracker's life, from 1.
        concept: Name of the concept it was found with, or what a person who chose it calls it.
        concept_id: Id of that concept; see :class:`Concept`.
        score: Probability of the last detection that matched it, 0 to 1.
        presence_score: Probability that its concept is on this frame at all, 0 to 1; 1 for a chosen
            object.
        occlusion_score: Probability that the object is visible now (SAM 2 object score), 0 to 1.
        is_matched: Whether a detection of this frame confirmed it.
        first_seen_s: ``time_s`` of the frame on which it was born.
        last_seen_s: ``time_s`` of the last frame on which it was visible.
        mask: Its pixels on the frame, trimmed; empty while occluded.
        pointer: The tracker's token of the object on this frame (SAM 2, object pointer), shape
            (C,); ``None`` if it was not tracked into this frame: new there, or hidden for long.
    """

    masklet_id: int
    concept: str
    concept_id: str
    score: float
    presence_score: float
    occlusion_score: float
    is_matched: bool
    first_seen_s: float
    last_seen_s: float
    mask: CropMask
    pointer: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """All masklets of one stream on one frame.

    Attributes:
        masklets: Living masklets, by ``masklet_id``.
        ended: Ids that ended on this frame (expired, duplicate, unconfirmed).
        presence: Presence probability of each concept of the stream, by name.
    """

    stream_id: str
    masklets: tuple[MaskletObservation, ...]
    ended: tuple[int, ...]
    presence: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A picture on which some masklets were seen, to rebuild what a tracker remembers of them.

    Attributes:
        pixels: RGB, shape (H, W, 3), uint8; may be smaller than the frame was.
        masks: By masklet, their pixels; of any size, over the same field of view.
    """

    pixels: NDArray[np.uint8]
    masks: Mapping[int, CropMask]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reminder:
    """An object that a tracker knows nothing of but where it was last.

    Attributes:
        masklet_id: What to call it, if it is found there again.
        concept_id: Its concept.
        score: Probability of the last detection, 0 to 1.
        centre_xy: Of its mask, as shares of the picture.
        last_seen_s: ``time_s`` of the frame on which it was last seen.
    """

    masklet_id: int
    concept_id: str
    score: float
    centre_xy: tuple[float, float]
    last_seen_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMemory:
    """What goes into :meth:`ConceptTracker.restore_stream`.

    Attributes:
        numbers: As :meth:`SavedStream.numbers` gave them.
        arrays: As :meth:`SavedStream.arrays` gave them.
        views: For masklets of which ``arrays`` holds no whole memory.
        reminders: Further objects.
        forgotten: Masklets that have ended since.
        has_gap: Frames were missed since: objects may have moved.
    """

    numbers: str
    arrays: Mapping[str, NDArray[np.generic]]
    views: Sequence[View] = ()
    reminders: Sequence[Reminder] = ()
    forgotten: Sequence[int] = ()
    has_gap: bool = False


class SavedStateError(ValueError):
    """What was saved does not fit: another version, another model, a missing array."""


class SavedStream(Protocol):
    """A stream as it stood between two steps. Any thread may read it while the tracker goes on."""

    @property
    def next_masklet_id(self) -> int:
        """The tracker has given the stream no number from here on."""
        ...

    def numbers(self) -> str:
        """Return all but tensors, as JSON text that only this kind of tracker reads."""
        ...

    def arrays(self, *, is_full: bool) -> dict[str, NDArray[np.generic]]:
        """Return tensors by name, in the CPU's memory.

        Args:
            is_full: All, so that what follows is equal to the bit; otherwise the few kilobytes an
                object that cannot be rebuilt from a view.
        """
        ...


class DeviceLostError(RuntimeError):
    """The accelerator failed for good: no more work can be done in this process."""


class ConceptTracker(Protocol):
    """Detects and tracks concepts on several streams, frame by frame, with bounded memory."""

    def open_stream(self, stream_id: str, concepts: Sequence[str | Concept]) -> None:
        """Begin a stream with the concepts to look for; see :func:`to_concepts`.

        Raises ``ValueError`` if it is open or a concept is given twice, and
        :class:`DeviceLostError` as :meth:`step` does.
        """
        ...

    def close_stream(self, stream_id: str) -> None:
        """Forget a stream and all its memory."""
        ...

    def step(self, inputs: Sequence[FrameInput]) -> list[Prediction]:
        """Track one frame of each given stream (at most one per stream), in one batch.

        Returns one prediction per input, in order. A step that raises has changed no stream: it may
        be repeated with all or some of its frames. Raises :class:`DeviceLostError` if that is no
        use.
        """
        ...


@runtime_checkable
class ResumableTracker(ConceptTracker, Protocol):
    """A tracker whose streams can go on in another process."""

    def save_stream(self, stream_id: str) -> SavedStream:
        """Return what is known of a stream; costs no copy of a tensor."""
        ...

    def restore_stream(
        self, stream_id: str, concepts: Sequence[str | Concept], memory: StreamMemory
    ) -> tuple[str, ...]:
        """Begin a stream with the concepts to look for, and with what is known of it.

        Masklets of concepts whose ids are not among them are left out.

        Returns:
            What of single masklets could not be used, and why: they are known by their place alone.

        Raises:
            SavedStateError: If the memory does not fit; the stream is not open then.
            ValueError: As :meth:`open_stream` does.
        """
        ...


@runtime_checkable
class EditableTracker(ConceptTracker, Protocol):
    """A tracker that can be told to look for something else while its streams go on.

    All methods raise ``ValueError`` if the stream is not open, and :class:`DeviceLostError` as
    :meth:`step` does; whatever raises has changed nothing.
    """

    def add_concept(self, stream_id: str, concept: str, *, concept_id: str) -> None:
        """Look for one phrase more from the stream's next frame on; it is its own name.

        Raises ``ValueError`` if the stream has a concept of this phrase, name or id.
        """
        ...

    def rename_concept(self, stream_id: str, concept_id: str, name: str) -> None:
        """Call a concept otherwise from the next frame on; what is looked for stays.

        Raises ``ValueError`` if there is no such concept, or another has that name.
        """
        ...

    def remove_concept(self, stream_id: str, concept_id: str) -> None:
        """Look for a concept no more; its masklets are gone, in no prediction's ``ended``.

        A stream without concepts goes on and finds nothing. Raises ``ValueError`` if there is no
        such concept.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExemplarBox:
    """A box on the picture itself that shows what is meant, or with ``is_positive`` false what not.

    ``box_xyxy`` holds x0, y0, x1, y1 as shares of the picture's width and height.
    """

    box_xyxy: tuple[float, float, float, float]
    is_positive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ExemplarPoint:
    """A point on what is meant, or with ``is_positive`` false on what is not.

    ``point_xy`` holds x and y as shares of the picture's width and height. Only checkpoints in the
    official layout know points as exemplars.
    """

    point_xy: tuple[float, float]
    is_positive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptQuery:
    """What to find all instances of: a noun phrase, exemplars, or both (SAM 3, section 3).

    Without a phrase the exemplars alone say it; SAM 3 then reads the word "visual".
    """

    phrase: str | None = None
    exemplars: tuple[ExemplarBox | ExemplarPoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One instance of a concept on one picture, without identity.

    Attributes:
        score: Query score times presence, 0 to 1.
        presence_score: Probability that the concept is on the picture at all, 0 to 1.
        box_xyxy: Corners, normalised to the picture.
        mask: Shape (H, W), bool, the picture's size.
    """

    score: float
    presence_score: float
    box_xyxy: tuple[float, float, float, float]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptResult:
    """What one query finds on one picture.

    Attributes:
        phrase: The phrase that was read: the query's own, or "visual" for exemplars alone.
        presence_score: Probability that the concept is on the picture at all, 0 to 1.
        detections: Best first.
        semantic_map: Probability of each pixel to show the concept, shape (H, W), if asked for.
    """

    phrase: str
    presence_score: float
    detections: tuple[Detection, ...]
    semantic_map: NDArray[np.float32] | None = None


class ConceptDetector(Protocol):
    """Finds all instances of concepts on single pictures."""

    def detect(
        self, pixels: NDArray[np.uint8], queries: Sequence[str | ConceptQuery]
    ) -> list[ConceptResult]:
        """Look for concepts on an RGB picture (H, W, 3); one result per query, in order."""
        ...
