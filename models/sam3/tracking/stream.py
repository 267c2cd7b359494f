"""What a session knows of one stream, between frames and during one."""

import math
from dataclasses import dataclass, field, replace

from torch import Tensor

from models.common.concept_ids import to_concept_id
from models.protocols import Concept
from models.sam2.outputs import TrackerFeatures
from models.sam3.network.text import TextFeatures
from models.sam3.prompts import Exemplar
from models.sam3.tracking.masklet import Masklet

SURE_LOGIT = 10.0


@dataclass(slots=True, kw_only=True)
class SearchedConcept:
    """A concept that a stream is searched for.

    Attributes:
        concept: Its id, its phrase, or "visual", and its name.
        text: Features of the phrase.
        has_phrase: Whether the phrase alone says what to look for.
        pending: Exemplars that lie on the next frame.
        shown: Prompt tokens, for the next frame, of exemplars that lie on the one before it.
        kept: Prompt tokens of earlier exemplars, if they are kept.
        presence: Probability on the last frame that it was looked for, 0 to 1.
    """

    concept: Concept
    text: TextFeatures
    has_phrase: bool
    pending: tuple[Exemplar, ...] = ()
    shown: TextFeatures | None = None
    kept: TextFeatures | None = None
    presence: float = 0.0

    @property
    def concept_id(self) -> str:
        """Names it within the stream."""
        return self.concept.concept_id

    @property
    def name(self) -> str:
        """What it is called."""
        return self.concept.name

    @property
    def is_due(self) -> bool:
        """Whether there is anything to look for on the next frame."""
        return self.has_phrase or bool(self.pending) or bool(self.shown or self.kept)

    @property
    def prompt(self) -> TextFeatures:
        """All that says what is meant and does not depend on the next frame."""
        prompt = self.text
        for tokens in (self.kept, self.shown):
            prompt = prompt if tokens is None else prompt.extend(tokens)
        return prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class LastFrame:
    """The frame that a person looks at who chooses an object or shows an exemplar.

    Attributes:
        features: The tracker's features of it, N = 1.
        coarse: The coarsest level of the detector's pyramid, shape (1, D, G, G).
        frame_hw: Its height and width in px.
        pixels: The frame, shape (H, W, 3), uint8, if the model draws outlines anew.
    """

    features: TrackerFeatures
    coarse: Tensor
    frame_hw: tuple[int, int]
    pixels: Tensor | None

    @classmethod
    def of(
        cls, features: TrackerFeatures, coarse: Tensor, n: int, pixels: Tensor, *, refines: bool
    ) -> "LastFrame":
        """Take frame ``n`` of a step, which has these pixels."""
        is_alone = len(features.top) == 1
        # Of several, copies: a view would keep the frames of all streams alive.
        return cls(
            features=features
            if is_alone
            else TrackerFeatures(
                fine0=features.fine0[n : n + 1].clone(),
                fine1=features.fine1[n : n + 1].clone(),
                top=features.top[n : n + 1].clone(),
            ),
            coarse=coarse if is_alone else coarse[n : n + 1].clone(),
            frame_hw=(pixels.shape[0], pixels.shape[1]),
            # A copy: whoever gave the frame may write to it.
            pixels=pixels.clone() if refines else None,
        )


@dataclass(slots=True, kw_only=True)
class Stream:
    """State of one open stream.

    Attributes:
        is_resumed: No frame has been seen since it was restored: objects may have moved meanwhile.
    """

    stream_id: str
    concepts: tuple[SearchedConcept, ...]
    masklets: list[Masklet] = field(default_factory=list)
    next_id: int = 1
    frame_index: int = -1
    time_s: float = -math.inf
    is_resumed: bool = False
    last: LastFrame | None = None

    def draft(self) -> "Stream":
        """Return a copy that can be changed, or thrown away, without a trace in this one.

        Tensors are shared, for none is ever written to.
        """
        return replace(
            self,
            concepts=tuple(replace(concept) for concept in self.concepts),
            masklets=[masklet.draft() for masklet in self.masklets],
        )

    def searched(self, concept_id: str) -> SearchedConcept:
        """Return one of the concepts. Raises ``ValueError`` if there is none of that id."""
        for concept in self.concepts:
            if concept.concept_id == concept_id:
                return concept
        known = [concept.concept_id for concept in self.concepts]
        raise ValueError(
            f"stream {self.stream_id!r} has no concept of id {concept_id!r}; accepted: {known!r}"
        )

    def name_of(self, masklet: Masklet) -> str:
        """Return what a masklet is called."""
        if masklet.concept_id is None:
            return masklet.label
        return self.searched(masklet.concept_id).name

    def concept_id_of(self, masklet: Masklet) -> str:
        """Return the id of a masklet's concept; of a chosen object one made of its label."""
        return to_concept_id(masklet.label) if masklet.concept_id is None else masklet.concept_id

    def presence_of(self, masklet: Masklet) -> float:
        """Return how sure it is that a masklet's concept is there at all."""
        if masklet.concept_id is None:
            return 1.0
        return self.searched(masklet.concept_id).presence


@dataclass(slots=True, kw_only=True)
class Tracked:
    """A masklet on this frame: its logits as decided so far, and what the tracker said.

    Attributes:
        masklet: The object.
        mask_logits: Shape (4g, 4g).
        object_logit: Object score.
        pointer: Shape (C,); ``None`` of a masklet that was not tracked into this frame.
        quality: How much the tracker's step is worth remembering, 0 to 1.
        is_matched: Whether a detection agrees.
        is_new: Whether it begins on this frame.
        is_prompted: Whether its mask was given, and not tracked.
        is_dormant: Whether it was not tracked at all; its mask is empty then.
        is_withheld: Whether its memory stays as it is: nothing says that this is the object.
    """

    masklet: Masklet
    mask_logits: Tensor
    object_logit: float
    pointer: Tensor | None
    quality: float
    is_matched: bool = False
    is_new: bool = False
    is_prompted: bool = False
    is_dormant: bool = False
    is_withheld: bool = False

    @classmethod
    def dormant(cls, masklet: Masklet, blank: Tensor) -> "Tracked":
        """Return a masklet that is not tracked; ``blank`` holds logits without an object."""
        return cls(
            masklet=masklet,
            mask_logits=blank,
            object_logit=-SURE_LOGIT,
            pointer=None,
            quality=0.0,
            is_dormant=True,
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the object is to be seen."""
        return self.is_dormant or not bool((self.mask_logits > 0).any())

    def is_reminder_of(self, concept_id: str) -> bool:
        """Whether of an object of a concept nothing is known but its place."""
        masklet = self.masklet
        return self.is_dormant and masklet.concept_id == concept_id and masklet.is_reminder
