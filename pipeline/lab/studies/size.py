"""How large objects must be: recall, F1 and precision by the side of an object in pixels."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from pipeline.lab.detector import build_image_detector
from pipeline.lab.evaluation.images import Answer
from pipeline.lab.metrics.average_precision import RankedAnswer, average_precision
from pipeline.lab.metrics.overlap import (
    AT_50,
    IOU_THRESHOLDS,
    SCORE_THRESHOLD,
    QuestionScore,
    assign,
    concept_scores,
)
from pipeline.lab.studies.pictures import outcomes, settings_of, told
from pipeline.lab.studies.spread import compare_steps
from pipeline.lab.studies.study import Measure, Point, StudyContext, StudyResult

# Side of an object: root of the pixels that show of it.
EDGES_PX = (0, 16, 32, 64, 100_000)
NAMES = ("< 16", "16-32", "32-64", "> 64")


@dataclass(slots=True)
class _OfSize:
    """What is known of the objects of one size.

    Attributes:
        questions: Per question, its objects and predictions of that size.
        overlaps: Overlap of each object with its prediction, 0 if missed.
    """

    questions: list[QuestionScore] = field(default_factory=list[QuestionScore])
    overlaps: list[float] = field(default_factory=list[float])


def run(context: StudyContext) -> StudyResult:
    """Measure all sizes on the same pictures."""
    settings = settings_of(context)
    detector = build_image_detector(context.model)
    found: dict[tuple[int, int], _OfSize] = defaultdict(_OfSize)
    ranked: dict[int, list[RankedAnswer]] = defaultdict(list)
    for seed, outcome in outcomes(detector, context, settings):
        for answer in outcome.answers:
            ranked[seed].append(answer.ranked)
            for size, score in enumerate(split_by_size(answer)):
                found[seed, size].questions.append(score)
                # A missed object has no pair, a pair of nothing an overlap of 0: one and the same.
                missed = score.num_truth - len(score.matched_ious)
                found[seed, size].overlaps += [*score.matched_ious, *[0.0] * missed]
    result = StudyResult(
        name="size",
        title="Size of objects",
        settings=NAMES,
        x_label="side of the object, px of 168",
        points=tuple(
            Point(
                setting=name,
                seed=seed,
                measures=_measures(found[seed, size], ranked[seed], size),
            )
            for seed in context.seeds
            for size, name in enumerate(NAMES)
        ),
        plotted=("recall @ .50", "pmF1", "mean IoU", "AP"),
        is_ordered=True,
        note=f"{told(settings)} Side: root of the pixels that show. Recall and mean IoU are of all "
        "objects that are asked for, missed ones as 0.",
    )
    return replace(result, comparisons=compare_steps(result, "pmF1", pairwise(NAMES)))


def split_by_size(answer: Answer) -> list[QuestionScore]:
    """Return the score of a question for each size of :data:`NAMES`.

    A prediction is of the size of the object that it is matched with, and of its own without one.
    """
    ranked = answer.ranked
    is_sure = np.array(ranked.scores, dtype=np.float64) >= SCORE_THRESHOLD
    ious, areas = ranked.ious[is_sure], np.array(ranked.areas, dtype=np.float64)[is_sure]
    sizes, truth_sizes = _size_of(areas), _size_of(np.array(ranked.truth_areas, dtype=np.float64))
    pairs = [(row, column) for row, column in assign(ious) if ious[row, column] > 0]
    for row, column in pairs:
        sizes[row] = truth_sizes[column]
    scores: list[QuestionScore] = []
    for size in range(len(NAMES)):
        matched = [float(ious[pair]) for pair in pairs if truth_sizes[pair[1]] == size]
        hits = tuple(sum(iou >= float(least) for iou in matched) for least in IOU_THRESHOLDS)
        scores.append(
            QuestionScore(
                num_truth=int((truth_sizes == size).sum()),
                num_predicted=int((sizes == size).sum()),
                true_positives=hits,
                matched_ious=tuple(matched),
            )
        )
    return scores


def _size_of(areas: np.ndarray) -> np.ndarray:
    return np.digitize(np.sqrt(areas), EDGES_PX) - 1


def _measures(found: _OfSize, ranked: list[RankedAnswer], size: int) -> tuple[Measure, ...]:
    scores, number = concept_scores(found.questions), len(found.overlaps)
    hits = sum(question.true_positives[AT_50] for question in found.questions)
    # COCO's ranges include both ends, and areas are whole pixels.
    area_range = EDGES_PX[size] ** 2, EDGES_PX[size + 1] ** 2 - 0.5
    ap = average_precision(ranked, area_range=area_range) if number else None
    return (
        Measure(name="recall @ .50", value=hits / number if number else None, count=number),
        Measure(name="pmF1", value=scores.positive_micro_f1 if number else None, count=number),
        Measure(
            name="mean IoU", value=sum(found.overlaps) / number if number else None, count=number
        ),
        Measure(name="AP", value=None if ap is None else ap.ap, count=number),
    )
