"""All measures of masklets on annotated clips at once, as SA-Co/VEval's evaluator reports them.

A question is one category asked of one clip. Overlaps are computed once per frame, of everything
with everything, and every measure takes its part of them.

Shape legend:
    P predicted and T true masklets of a clip.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.lab.data.datasets.clips import Clip, ClipSet, Masklet
from pipeline.lab.data.datasets.shapes import Shape, box_ious, mask_ious
from pipeline.lab.metrics.average_precision import (
    PrecisionScores,
    RankedAnswer,
    average_precision,
)
from pipeline.lab.metrics.hota import FrameOverlap, HotaScores, HotaSums, hota_scores, hota_sums
from pipeline.lab.metrics.identity import IdentityCounts, identity_counts
from pipeline.lab.metrics.overlap import (
    SCORE_THRESHOLD,
    ConceptScores,
    Floats,
    QuestionScore,
    ScoreCurves,
    concept_scores,
    iou_from_counts,
    score_curves,
    score_question,
)
from pipeline.lab.metrics.teta import CategoryClip, TetaScores, teta_scores

Ious = Callable[[Sequence[Shape], Sequence[Shape]], Floats]
QuestionKey = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionReport:
    """How one question was answered.

    Attributes:
        score: Its masklets, matched by volume.
        hota: Frame by frame; None if nothing is there and nothing was predicted.
    """

    score: QuestionScore
    hota: HotaScores | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskletScores:
    """Every measure over a set of clips, of masks or of boxes.

    Attributes:
        scores: cgF1 and its parts, on volumes.
        curves: The same at each threshold.
        hota: Each question a sequence of its own (pHOTA); None without masklets.
        identity: ID switches, IDF1 and MOTA of the same sequences.
        teta: None for boxes, or without masklets.
        phrase_ap: All questions ranked together; None without masklets.
        category_ap: Mean of the categories' own; None without masklets.
        questions: Each by clip and category.
    """

    scores: ConceptScores
    curves: ScoreCurves
    hota: HotaScores | None
    identity: IdentityCounts
    teta: TetaScores | None
    phrase_ap: PrecisionScores | None
    category_ap: float | None
    questions: dict[QuestionKey, QuestionReport]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one clip adds to the sums."""

    questions: dict[QuestionKey, QuestionScore]
    sequences: dict[QuestionKey, HotaSums]
    identities: list[IdentityCounts]
    ranked: dict[QuestionKey, RankedAnswer]
    teta: CategoryClip


def score_masklets(
    clips: ClipSet, predictions: Sequence[Masklet], *, use_boxes: bool = False
) -> MaskletScores:
    """Score predictions for a set of clips.

    Args:
        clips: The truth.
        predictions: Of any of its clips; a category that was not asked is a question of its own.
        use_boxes: Boxes instead of masks.
    """
    found: dict[int, list[Masklet]] = defaultdict(list)
    for masklet in predictions:
        found[masklet.video_id].append(masklet)
    ious = box_ious if use_boxes else mask_ious
    parts = [_score_clip(clip, found[clip.video_id], ious) for clip in clips.clips]
    questions = {key: score for part in parts for key, score in part.questions.items()}
    sequences = {key: sums for part in parts for key, sums in part.sequences.items()}
    ranked = {key: answer for part in parts for key, answer in part.ranked.items()}
    return MaskletScores(
        scores=concept_scores(questions.values()),
        curves=score_curves(list(questions.values())),
        hota=hota_scores(HotaSums.total(sequences.values())) if sequences else None,
        identity=IdentityCounts.total(one for part in parts for one in part.identities),
        teta=None if use_boxes else teta_scores([part.teta for part in parts], list(clips.phrases)),
        phrase_ap=average_precision(list(ranked.values())),
        category_ap=_category_ap(ranked),
        questions={
            key: QuestionReport(
                score=score, hota=hota_scores(sequences[key]) if key in sequences else None
            )
            for key, score in questions.items()
        },
    )


def _score_clip(clip: Clip, found: Sequence[Masklet], ious: Ious) -> _Part:
    frames = [_overlap(found, clip.truth, index, ious) for index in range(len(clip.frames))]
    volumes = _volume_ious(found, clip.truth, frames, ious)
    categories = {one.category_id for one in (*found, *clip.truth)} | set(clip.asked)
    questions: dict[QuestionKey, QuestionScore] = {}
    sequences: dict[QuestionKey, HotaSums] = {}
    identities: list[IdentityCounts] = []
    ranked: dict[QuestionKey, RankedAnswer] = {}
    for category in sorted(categories):
        key = (clip.video_id, category)
        rows = _numbers(found, lambda one, c=category: one.category_id == c)
        columns = _numbers(clip.truth, lambda one, c=category: one.category_id == c)
        ranked[key] = RankedAnswer(
            scores=[found[row].score for row in rows],
            ious=volumes[np.ix_(rows, columns)],
            is_crowd=[clip.truth[column].is_crowd for column in columns],
        )
        asked = [column for column in columns if not clip.truth[column].is_crowd]
        sure = [row for row in rows if found[row].score >= SCORE_THRESHOLD]
        questions[key] = score_question(volumes[np.ix_(sure, asked)])
        surer = [row for row in rows if found[row].score > SCORE_THRESHOLD]
        if surer or columns:
            mine = [_only(frame, surer, columns) for frame in frames]
            sequences[key] = hota_sums(mine)
            identities.append(identity_counts(mine))
    sure = _numbers(found, lambda one: one.score >= SCORE_THRESHOLD)
    everything = list(range(len(clip.truth)))
    return _Part(
        questions=questions,
        sequences=sequences,
        identities=identities,
        ranked=ranked,
        teta=CategoryClip(
            frames=[_only(frame, sure, everything) for frame in frames],
            predicted_categories=_categories(found),
            truth_categories=_categories(clip.truth),
        ),
    )


def _overlap(
    found: Sequence[Masklet], truth: Sequence[Masklet], index: int, ious: Ious
) -> FrameOverlap:
    sides = [
        [(number, shape) for number, one in enumerate(side) if (shape := one.shapes[index])]
        for side in (found, truth)
    ]
    predicted, true = (np.array([n for n, _ in side], dtype=np.int64) for side in sides)
    shapes = [[shape for _, shape in side] for side in sides]
    return FrameOverlap(predicted=predicted, truth=true, ious=ious(shapes[0], shapes[1]))


def _volume_ious(
    found: Sequence[Masklet],
    truth: Sequence[Masklet],
    frames: Sequence[FrameOverlap],
    ious: Ious,
) -> Floats:
    """Return sums of intersections over sums of unions, shape (P, T)."""
    sizes = [[_sizes(one, ious) for one in side] for side in (found, truth)]
    shared = np.zeros((len(found), len(truth)))
    for index, frame in enumerate(frames):
        rows, columns = (
            np.array([side[int(number)][index] for number in numbers], dtype=np.float64)
            for side, numbers in zip(sizes, (frame.predicted, frame.truth), strict=True)
        )
        if rows.size and columns.size:
            both = rows[:, None] + columns[None, :]
            place = np.ix_(frame.predicted, frame.truth)
            shared[place] += frame.ious * both / (1 + frame.ious)
    volumes = [np.array([sum(size) for size in side], dtype=np.float64) for side in sizes]
    return iou_from_counts(shared, *volumes)


def _sizes(masklet: Masklet, ious: Ious) -> list[float]:
    if ious is mask_ious:
        return [0.0 if shape is None else float(shape.area) for shape in masklet.shapes]
    return [
        0.0 if shape is None else shape.box_xywh[2] * shape.box_xywh[3] for shape in masklet.shapes
    ]


def _category_ap(ranked: Mapping[QuestionKey, RankedAnswer]) -> float | None:
    by_category: dict[int, list[RankedAnswer]] = defaultdict(list)
    for (_, category), answer in ranked.items():
        by_category[category].append(answer)
    scores = [average_precision(answers) for answers in by_category.values()]
    there = [score.ap for score in scores if score is not None]
    return float(np.mean(there)) if there else None


def _numbers(masklets: Sequence[Masklet], is_meant: Callable[[Masklet], bool]) -> list[int]:
    return [number for number, one in enumerate(masklets) if is_meant(one)]


def _only(frame: FrameOverlap, rows: Sequence[int], columns: Sequence[int]) -> FrameOverlap:
    predicted: NDArray[np.bool_] = np.isin(frame.predicted, rows)
    return frame.only(predicted=predicted, truth=np.isin(frame.truth, columns))


def _categories(masklets: Sequence[Masklet]) -> dict[int, int]:
    return {number: one.category_id for number, one in enumerate(masklets)}
