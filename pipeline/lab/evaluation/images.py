"""Measures a detector on pictures of held-out worlds."""

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from connectors.world.compose import WorldFrame
from connectors.world.scene import World, WorldConfig
from connectors.world.wide.casting import WideContent
from models.protocols import ConceptDetector, ConceptResult, Detection
from pipeline.lab.data.wide_worlds import draw_wide_picture, held_out_content
from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.evaluation.held_out import (
    Phrasing,
    Question,
    draw_questions,
    held_out_rng,
    held_out_world_seed,
    is_counted,
    rest_on_ignored,
)
from pipeline.lab.metrics.average_precision import (
    PrecisionScores,
    RankedAnswer,
    average_precision,
)
from pipeline.lab.metrics.overlap import (
    SCORE_THRESHOLD,
    ConceptScores,
    Mask,
    QuestionScore,
    concept_scores,
    iou_matrix,
    score_question,
)

_EMPTY_PROBABILITY = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """Which pictures to ask about.

    Attributes:
        num_pictures: How many.
        seed: Chooses the set; every seed gives held-out pictures.
        width: Picture width in pixels.
        height: Picture height in pixels.
        world: What the scenes are like.
        night_probability: Share of infrared nights, in place of the world's own; the scenes are
            the same ones, lit otherwise.
        crowd_probability: Share of crowds, in place of the world's own; wide worlds only.
    """

    num_pictures: int = 200
    seed: int = 0
    width: int = 168
    height: int = 168
    world: HeldOutWorld = HeldOutWorld.PLAIN
    night_probability: float | None = None
    crowd_probability: float | None = None

    def __post_init__(self) -> None:
        if self.num_pictures < 1:
            raise ValueError(f"at least 1 picture expected, got {self.num_pictures!r}")
        if self.crowd_probability is not None and self.world.wide_split is None:
            raise ValueError(
                f"crowd_probability {self.crowd_probability!r} in the {self.world.value} world; "
                "accepted: None, or a wide world"
            )

    @property
    def wide_content(self) -> WideContent | None:
        """What scenes of a wide world hold; ``None`` for the other worlds."""
        if self.world.wide_split is None:
            return None
        content = held_out_content(self.world.wide_split)
        if self.night_probability is not None:
            content = replace(content, night_probability=self.night_probability)
        if self.crowd_probability is not None:
            content = replace(content, crowd_probability=self.crowd_probability)
        return content


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One question with its truth and what the detector said.

    Attributes:
        question: What was asked.
        truth: Visible masks of the counted objects, each (H, W).
        detections: What counts of the answer: score reached, not resting on an ignored object.
        score: How truth and detections agree.
        ranked: All detections, however unsure, but those resting on an ignored object.
    """

    question: Question
    truth: tuple[Mask, ...]
    detections: tuple[Detection, ...]
    score: QuestionScore
    ranked: RankedAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureOutcome:
    """One picture with all its answers."""

    index: int
    frame: WorldFrame
    answers: tuple[Answer, ...]
    seconds: float

    @property
    def quality(self) -> float:
        """Mean over the questions of F1 at overlap 0.5, a rightly empty answer counting 1."""
        marks = [
            answer.score.local_f1[0]
            if answer.truth or answer.detections
            else 1.0  # F1 of nothing against nothing is 0 / 0
            for answer in self.answers
        ]
        return float(sum(marks) / len(marks))


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureMark:
    """How one picture went: what is needed to find the best and the worst.

    Attributes:
        index: Its number in the set.
        quality: See :attr:`PictureOutcome.quality`.
        num_objects: Counted objects on it.
    """

    index: int
    quality: float
    num_objects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReport:
    """How a detector did.

    Attributes:
        settings: The pictures.
        scores: All questions.
        phrase_ap: Mask AP of all questions ranked together; None if nothing was there.
        by_concept: Questions about each concept of the world, there or not.
        by_phrasing: Questions by :class:`Phrasing`; those of one sign only have no correlation.
        pictures: Mark of each picture, by index.
        seconds_per_picture: Mean time of ``detect``.
    """

    settings: ImageSettings
    scores: ConceptScores
    phrase_ap: PrecisionScores | None
    by_concept: dict[str, ConceptScores]
    by_phrasing: dict[str, ConceptScores]
    pictures: tuple[PictureMark, ...]
    seconds_per_picture: float


def evaluate_images(
    detector: ConceptDetector,
    settings: ImageSettings,
    *,
    on_progress: Callable[[], None] | None = None,
) -> ImageReport:
    """Ask a detector about every picture; ``on_progress`` is called after each."""
    by_concept: dict[str, list[QuestionScore]] = defaultdict(list)
    by_phrasing: dict[str, list[QuestionScore]] = defaultdict(list)
    pictures: list[PictureMark] = []
    ranked: list[RankedAnswer] = []
    seconds = 0.0
    for index in range(settings.num_pictures):
        outcome = examine_picture(detector, settings, index)
        for answer in outcome.answers:
            by_phrasing[answer.question.phrasing].append(answer.score)
            ranked.append(answer.ranked)
            if answer.question.phrasing != Phrasing.FOREIGN:
                listed_as = answer.question.listed_as or answer.question.concept
                by_concept[listed_as].append(answer.score)
        num_objects = sum(len(answer.truth) for answer in outcome.answers)
        pictures.append(PictureMark(index=index, quality=outcome.quality, num_objects=num_objects))
        seconds += outcome.seconds
        if on_progress is not None:
            on_progress()
    return ImageReport(
        settings=settings,
        scores=concept_scores(score for scores in by_phrasing.values() for score in scores),
        phrase_ap=average_precision(ranked),
        by_concept={name: concept_scores(by_concept[name]) for name in sorted(by_concept)},
        by_phrasing={
            kind: concept_scores(by_phrasing[kind]) for kind in Phrasing if kind in by_phrasing
        },
        pictures=tuple(pictures),
        seconds_per_picture=seconds / settings.num_pictures,
    )


def examine_picture(
    detector: ConceptDetector, settings: ImageSettings, index: int
) -> PictureOutcome:
    """Draw picture ``index`` of the set, ask about it and judge the answers."""
    frame, questions = draw_picture(settings, index)
    began = perf_counter()
    results = detector.detect(frame.pixels, [question.phrase for question in questions])
    seconds = perf_counter() - began
    return PictureOutcome(
        index=index,
        frame=frame,
        answers=tuple(
            judge(frame, question, result)
            for question, result in zip(questions, results, strict=True)
        ),
        seconds=seconds,
    )


def draw_picture(settings: ImageSettings, index: int) -> tuple[WorldFrame, list[Question]]:
    """Return picture ``index`` of the set and what to ask about it."""
    rng = held_out_rng(settings.seed, index)
    if (content := settings.wide_content) is not None:
        return draw_wide_picture(rng, content=content, width=settings.width, height=settings.height)
    nights = settings.night_probability
    world = World(
        WorldConfig(
            seed=held_out_world_seed(rng),
            width=settings.width,
            height=settings.height,
            duration_s=20.0,
            min_objects=2,
            max_objects=settings.world.max_objects,
            night_probability=settings.world.night_probability if nights is None else nights,
            empty_probability=_EMPTY_PROBABILITY,
        )
    )
    # Casts of a scene follow one another about every 10 s; this is where most of one is on stage.
    frame = world.render(int(rng.uniform(10.5, 11.5) * world.config.fps))
    present = {thing.concept for thing in frame.objects if is_counted(thing)}
    seen = {thing.concept for thing in frame.objects}
    return frame, draw_questions(rng, present=present, seen=seen)


def judge(
    frame: WorldFrame,
    question: Question,
    result: ConceptResult,
    *,
    left_out: Collection[int] = (),
) -> Answer:
    """Compare one answer with the truth; objects of the ids ``left_out`` are ignored."""
    things = [thing for thing in frame.objects if thing.concept == question.concept]
    is_asked = [is_counted(thing) and thing.object_id not in left_out for thing in things]
    truth = [thing.visible_mask for thing, asked in zip(things, is_asked, strict=True) if asked]
    is_neutral = rest_on_ignored(
        [found.mask for found in result.detections],
        counted=truth,
        ignored=[thing for thing, asked in zip(things, is_asked, strict=True) if not asked],
    )
    kept = [
        found for found, neutral in zip(result.detections, is_neutral, strict=True) if not neutral
    ]
    ious = iou_matrix([found.mask for found in kept], truth)
    is_sure = [found.score >= SCORE_THRESHOLD for found in kept]
    return Answer(
        question=question,
        truth=tuple(truth),
        detections=tuple(found for found, sure in zip(kept, is_sure, strict=True) if sure),
        score=score_question(ious[np.array(is_sure, dtype=np.bool_)]),
        ranked=RankedAnswer(
            scores=[found.score for found in kept],
            ious=ious,
            is_crowd=[False] * len(truth),
            areas=[float(np.count_nonzero(found.mask)) for found in kept],
            truth_areas=[float(np.count_nonzero(mask)) for mask in truth],
        ),
    )
