"""Models that know the truth of held-out worlds, and bend it as they are told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from connectors.world.compose import WorldObject
from connectors.world.concepts import CONCEPTS
from connectors.world.scene import World
from models.common.masks import CropMask
from models.protocols import ConceptResult, Detection, FrameInput, MaskletObservation, Prediction
from pipeline.lab.evaluation.images import ImageSettings, draw_picture
from pipeline.lab.evaluation.video import VideoSettings, draw_clip

NAME_OF = {phrase: c.name for c in CONCEPTS for phrase in (c.name, *c.synonyms)}


def corner_mask(hw: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(hw, dtype=np.bool_)
    mask[:8, :8] = True
    return mask


@dataclass(kw_only=True)
class OracleDetector:
    """Finds what shows at all of an object; ``is_alarmed`` phrases get a false answer besides."""

    settings: ImageSettings
    is_found: Callable[[WorldObject], bool] = lambda thing: thing.visibility > 0
    is_alarmed: Callable[[str], bool] = lambda phrase: False
    score: float = 0.9
    concept_of: Callable[[str], str | None] = NAME_OF.get

    def __post_init__(self) -> None:
        frames = (draw_picture(self.settings, i)[0] for i in range(self.settings.num_pictures))
        self.truth = {frame.pixels.tobytes(): frame.objects for frame in frames}

    def detect(self, pixels: NDArray[np.uint8], phrases: Sequence[str]) -> list[ConceptResult]:
        found = {
            phrase: [
                thing.visible_mask
                for thing in self.truth[pixels.tobytes()]
                if thing.concept == self.concept_of(phrase) and self.is_found(thing)
            ]
            for phrase in phrases
        }
        for phrase in filter(self.is_alarmed, phrases):
            found[phrase].append(corner_mask(pixels.shape[:2]))
        return [
            ConceptResult(
                phrase=phrase,
                presence_score=1.0,
                detections=tuple(
                    Detection(
                        score=self.score, presence_score=1.0, box_xyxy=(0, 0, 1, 1), mask=mask
                    )
                    for mask in masks
                ),
            )
            for phrase, masks in found.items()
        ]


@dataclass(kw_only=True)
class OracleTracker:
    """Follows all objects; ``masklet_id`` renames or (0) loses them, a ghost is a still square.

    What is not on a frame is listed without pixels, as trackers do with what they remember.
    """

    settings: VideoSettings
    masklet_id: Callable[[int, int], int] = lambda object_id, index: object_id + 1
    has_ghost: bool = False
    concept_of: Callable[[str], str | None] = NAME_OF.get
    streams: dict[str, tuple[World, tuple[str, ...], list[int]]] = field(default_factory=dict)
    memory: dict[str, dict[int, str]] = field(default_factory=dict)

    def open_stream(self, stream_id: str, concepts: Sequence[str]) -> None:
        world, _ = draw_clip(self.settings, int(stream_id.rpartition("-")[2]))
        self.streams[stream_id] = (world, tuple(concepts), [0])
        self.memory[stream_id] = {}

    def close_stream(self, stream_id: str) -> None:
        del self.streams[stream_id]

    def step(self, inputs: Sequence[FrameInput]) -> list[Prediction]:
        return [self._predict(given) for given in inputs]

    def _predict(self, given: FrameInput) -> Prediction:
        world, concepts, position = self.streams[given.stream_id]
        index = position[0]
        position[0] += 1
        masklets = [
            observe(self.masklet_id(thing.object_id, index), phrase, thing.visible_mask)
            for thing in world.render(index).objects
            for phrase in concepts
            if self.concept_of(phrase) == thing.concept and self.masklet_id(thing.object_id, index)
        ]
        if self.has_ghost:
            masklets.append(observe(999, concepts[0], corner_mask(given.pixels.shape[:2])))
        listed = {seen.masklet_id: seen.concept for seen in masklets}
        memory = self.memory[given.stream_id]
        nothing = np.zeros(given.pixels.shape[:2], dtype=np.bool_)
        masklets += [
            observe(number, phrase, nothing)
            for number, phrase in memory.items()
            if number not in listed
        ]
        memory |= listed
        return Prediction(
            stream_id=given.stream_id, masklets=tuple(masklets), ended=(), presence={}
        )


def observe(masklet_id: int, phrase: str, mask: NDArray[np.bool_]) -> MaskletObservation:
    return MaskletObservation(
        masklet_id=masklet_id,
        concept=phrase,
        concept_id=phrase,
        score=0.9,
        presence_score=0.9,
        occlusion_score=0.9,
        is_matched=True,
        first_seen_s=0.0,
        last_seen_s=0.0,
        mask=CropMask.of(mask),
        pointer=None,
    )
