"""Measures a tracker on clips of held-out worlds.

A clip is drawn three times, which costs little against tracking it and keeps memory small: to see
what is in it, to track it, and to judge the masks once it is known which track is whose.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import tee

import numpy as np

from connectors.world.compose import WorldFrame
from connectors.world.scene import World, WorldConfig
from models.protocols import ConceptTracker
from pipeline.lab.data.occlusion_clips import cast_hiding
from pipeline.lab.data.wide_worlds import AskedWorld, draw_wide_clip
from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.evaluation.following import Stopwatch, TimedTracker, follow_phrases
from pipeline.lab.evaluation.held_out import (
    Question,
    draw_questions,
    held_out_rng,
    held_out_world_seed,
    is_counted,
)
from pipeline.lab.evaluation.ledger import ClipLedger, MaskCounts
from pipeline.lab.metrics.hota import FrameOverlap, HotaScores, HotaSums, hota_scores, hota_sums
from pipeline.lab.metrics.identity import IdentityCounts, identity_counts
from pipeline.lab.metrics.overlap import (
    ConceptScores,
    QuestionScore,
    boundary_accuracy,
    concept_scores,
    match_tracks,
    region_similarity,
    score_question,
)
from pipeline.lab.metrics.recovery import Recovery
from pipeline.lab.metrics.teta import CategoryClip, TetaScores, split_questions, teta_scores


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSettings:
    """Which clips to track.

    Attributes:
        num_clips: How many.
        seed: Chooses the set; every seed gives held-out clips.
        width: Frame width in pixels.
        height: Frame height in pixels.
        fps: Frames per second.
        duration_s: Length of each clip.
        confirm_frames: A track seen on fewer frames counts for nothing.
        world: What the scenes are like.
        is_hiding: Whether everything passes behind something, see
            :mod:`pipeline.lab.data.occlusion_clips`; for the plain and the full world.
    """

    num_clips: int = 10
    seed: int = 0
    width: int = 168
    height: int = 168
    fps: float = 10.0
    duration_s: float = 10.0
    confirm_frames: int = 3
    world: HeldOutWorld = HeldOutWorld.PLAIN
    is_hiding: bool = False

    def __post_init__(self) -> None:
        if self.num_clips < 1:
            raise ValueError(f"at least 1 clip expected, got {self.num_clips!r}")
        if self.is_hiding and self.world.wide_split is not None:
            raise ValueError(f"is_hiding with world {self.world.value!r}; accepted: plain, full")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectScore:
    """How well one true object was followed.

    Attributes:
        clip: Number of its clip.
        object_id: Its id in the clip's truth.
        concept: Its concept.
        track_no: Number of the track matched to it over the whole clip, if any.
        num_frames: Frames on which enough of it shows to count, at least 1.
        j: Mean region similarity over those frames, in [0, 1]; 0 if never matched.
        f: Mean boundary accuracy over those frames, in [0, 1]; 0 if never matched.
    """

    clip: int
    object_id: int
    concept: str
    track_no: int | None
    num_frames: int
    j: float
    f: float

    @property
    def j_and_f(self) -> float:
        """Mean of ``j`` and ``f``."""
        return (self.j + self.f) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoReport:
    """How a tracker did.

    Attributes:
        settings: The clips.
        num_frames: Frames of all clips.
        j: Mean over objects of their mean region similarity.
        f: Mean over objects of their mean boundary accuracy.
        j_and_f: Mean of the two (DAVIS 2017; unlike there, first and last frames count too).
        scores: Tracks as answers to (clip, phrase) questions, by volume IoU (SA-Co/VEval).
        counts: Masks, identity switches and false tracks of all clips.
        hota: Each question a sequence of its own (pHOTA).
        identity: IDF1 and MOTA of the same sequences.
        teta: Localisation, association and classification apart; None without objects.
        objects: Every true object.
        recoveries: Every time that one of them was hidden whole and showed again.
        seconds_per_frame: Mean time of ``step``.
    """

    settings: VideoSettings
    num_frames: int
    j: float
    f: float
    j_and_f: float
    scores: ConceptScores
    counts: MaskCounts
    hota: HotaScores
    identity: IdentityCounts
    teta: TetaScores | None
    objects: tuple[ObjectScore, ...]
    recoveries: tuple[Recovery, ...]
    seconds_per_frame: float

    @property
    def by_concept(self) -> dict[str, float]:
        """Mean J&F of the objects of each concept."""
        return {
            name: _mean([one.j_and_f for one in self.objects if one.concept == name])
            for name in sorted({one.concept for one in self.objects})
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClipResult:
    questions: list[QuestionScore]
    objects: list[ObjectScore]
    recoveries: list[Recovery]
    counts: MaskCounts
    overlaps: CategoryClip
    concepts: tuple[str, ...]
    num_frames: int
    seconds: float

    @property
    def sequences(self) -> list[list[FrameOverlap]]:
        """Each question's frames."""
        return split_questions(self.overlaps, range(len(self.concepts)))


def evaluate_video(
    tracker: ConceptTracker,
    settings: VideoSettings,
    *,
    on_progress: Callable[[], None] | None = None,
) -> VideoReport:
    """Track every clip; ``on_progress`` is called after each."""
    clips: list[_ClipResult] = []
    for number in range(settings.num_clips):
        clips.append(_evaluate_clip(tracker, settings, number))
        if on_progress is not None:
            on_progress()
    objects = [one for clip in clips for one in clip.objects]
    num_frames = sum(clip.num_frames for clip in clips)
    sequences = [sequence for clip in clips for sequence in clip.sequences]
    return VideoReport(
        settings=settings,
        num_frames=num_frames,
        j=_mean([one.j for one in objects]),
        f=_mean([one.f for one in objects]),
        j_and_f=_mean([one.j_and_f for one in objects]),
        scores=concept_scores(score for clip in clips for score in clip.questions),
        counts=MaskCounts.total(clip.counts for clip in clips),
        hota=hota_scores(HotaSums.total(map(hota_sums, sequences))),
        identity=IdentityCounts.total(map(identity_counts, sequences)),
        teta=_teta(clips),
        objects=tuple(objects),
        recoveries=tuple(event for clip in clips for event in clip.recoveries),
        seconds_per_frame=sum(clip.seconds for clip in clips) / num_frames,
    )


def draw_clip(settings: VideoSettings, number: int) -> tuple[World | AskedWorld, list[Question]]:
    """Return clip ``number`` of the set and what to look for in it."""
    rng = held_out_rng(settings.seed, number)
    if settings.world.wide_split is not None:
        return draw_wide_clip(
            rng,
            split=settings.world.wide_split,
            size_wh=(settings.width, settings.height),
            fps=settings.fps,
            duration_s=settings.duration_s,
        )
    config = WorldConfig(
        seed=held_out_world_seed(rng),
        width=settings.width,
        height=settings.height,
        fps=settings.fps,
        duration_s=settings.duration_s,
        min_objects=2,
        max_objects=settings.world.max_objects,
        night_probability=settings.world.night_probability,
        empty_probability=0.05,
    )
    if settings.is_hiding:
        cast, props = cast_hiding(
            rng, width=settings.width, height=settings.height, duration_s=settings.duration_s
        )
        config = replace(config, cast=cast, props=props)
    world = World(config)
    things = [thing for index in range(world.num_frames) for thing in world.render(index).objects]
    present = {thing.concept for thing in things if is_counted(thing)}
    return world, draw_questions(rng, present=present, seen={thing.concept for thing in things})


def _evaluate_clip(tracker: ConceptTracker, settings: VideoSettings, number: int) -> _ClipResult:
    world, questions = draw_clip(settings, number)
    ledger = ClipLedger({question.phrase: question.concept for question in questions})
    seconds = _track(tracker, world, ledger, stream_id=f"clip-{number}", fps=settings.fps)
    matches: dict[int, int] = {}
    scores: list[QuestionScore] = []
    for question in questions:
        volume = ledger.volume_of(question.concept, confirm_frames=settings.confirm_frames)
        scores.append(score_question(volume.judged_ious))
        for object_id, row in zip(volume.object_ids, match_tracks(volume.ious), strict=True):
            if row is not None:
                matches[object_id] = volume.track_nos[row]
    return _ClipResult(
        questions=scores,
        objects=_score_objects(world, ledger, matches, number),
        recoveries=ledger.recoveries(fps=settings.fps, clip=number),
        counts=ledger.counts(confirm_frames=settings.confirm_frames),
        overlaps=ledger.category_clip(confirm_frames=settings.confirm_frames),
        concepts=ledger.concepts,
        num_frames=world.num_frames,
        seconds=seconds,
    )


def _track(
    tracker: ConceptTracker,
    world: World | AskedWorld,
    ledger: ClipLedger,
    *,
    stream_id: str,
    fps: float,
) -> float:
    """Run the clip through the tracker into the ledger; return the seconds it took."""
    stopwatch = Stopwatch()
    frames, shown = tee(world.render(index) for index in range(world.num_frames))
    tracks_of = follow_phrases(
        TimedTracker(tracker=tracker, stopwatch=stopwatch),
        (frame.pixels for frame in shown),
        stream_id=stream_id,
        phrases=ledger.phrases,
        fps=fps,
    )
    for frame, tracks in zip(frames, tracks_of, strict=True):
        ledger.add(frame, tracks)
    return stopwatch.seconds


def _score_objects(
    world: World | AskedWorld, ledger: ClipLedger, matches: dict[int, int], clip: int
) -> list[ObjectScore]:
    concepts: dict[int, str] = {}
    regions: dict[int, list[float]] = defaultdict(list)
    boundaries: dict[int, list[float]] = defaultdict(list)
    for index in range(world.num_frames):
        frame: WorldFrame = world.render(index)
        for thing in filter(is_counted, frame.objects):
            concepts[thing.object_id] = thing.concept
            track_no = matches.get(thing.object_id)
            found = None if track_no is None else ledger.mask(index, track_no)
            if found is None:
                found = np.zeros_like(thing.visible_mask)
            regions[thing.object_id].append(region_similarity(found, thing.visible_mask))
            boundaries[thing.object_id].append(boundary_accuracy(found, thing.visible_mask))
    return [
        ObjectScore(
            clip=clip,
            object_id=object_id,
            concept=concept,
            track_no=matches.get(object_id),
            num_frames=len(regions[object_id]),
            j=_mean(regions[object_id]),
            f=_mean(boundaries[object_id]),
        )
        for object_id, concept in sorted(concepts.items())
    ]


def _teta(clips: Sequence[_ClipResult]) -> TetaScores | None:
    """Score clips whose categories are numbered apart: by name they are the same everywhere."""
    names = sorted({name for clip in clips for name in clip.concepts})
    parts: list[CategoryClip] = []
    for clip in clips:
        number_of = [names.index(name) for name in clip.concepts]
        overlaps = clip.overlaps
        parts.append(
            CategoryClip(
                frames=overlaps.frames,
                predicted_categories={
                    n: number_of[c] for n, c in overlaps.predicted_categories.items()
                },
                truth_categories={n: number_of[c] for n, c in overlaps.truth_categories.items()},
            )
        )
    return teta_scores(parts, range(len(names)))


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0
