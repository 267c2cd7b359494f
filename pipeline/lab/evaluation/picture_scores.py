"""cgF1 and average precision of instances on annotated pictures, as SA-Co/Gold is scored."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.lab.data.datasets.pictures import FoundShape, PictureQuestion
from pipeline.lab.data.datasets.shapes import Shape, box_ious, mask_ious
from pipeline.lab.metrics.average_precision import (
    PrecisionScores,
    RankedAnswer,
    average_precision,
)
from pipeline.lab.metrics.overlap import (
    SCORE_THRESHOLD,
    ConceptScores,
    Floats,
    QuestionScore,
    ScoreCurves,
    concept_scores,
    most_favourable,
    score_curves,
    score_question,
)

Ious = Callable[[Sequence[Shape], Sequence[Shape]], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureScores:
    """How a set of questions was answered, by mask or by box.

    Attributes:
        scores: cgF1 and its parts.
        curves: The same at each threshold.
        phrase_ap: All questions ranked together; None if nothing is there to be found.
    """

    scores: ConceptScores
    curves: ScoreCurves
    phrase_ap: PrecisionScores | None


def score_pictures(
    questions: Sequence[PictureQuestion],
    answers: Sequence[FoundShape],
    *,
    use_boxes: bool = False,
) -> PictureScores:
    """Score predictions; with several annotators each question by the one who agrees best.

    Args:
        questions: The truth.
        answers: Predictions; those below a score of 0.5 count for average precision alone.
        use_boxes: Boxes instead of masks.
    """
    found: dict[int, list[FoundShape]] = defaultdict(list)
    for answer in answers:
        found[answer.question_id].append(answer)
    ious = box_ious if use_boxes else mask_ious
    pairs = [_score(question, found[question.question_id], ious) for question in questions]
    scores = [score for score, _ in pairs]
    return PictureScores(
        scores=concept_scores(scores),
        curves=score_curves(scores),
        phrase_ap=average_precision([ranked for _, ranked in pairs]),
    )


def _score(
    question: PictureQuestion, found: Sequence[FoundShape], ious: Ious
) -> tuple[QuestionScore, RankedAnswer]:
    sure = [place for place, one in enumerate(found) if one.score >= SCORE_THRESHOLD]
    overlaps = [ious([one.shape for one in found], truth) for truth in question.truths]
    scores = [score_question(one[sure]) for one in overlaps]
    chosen = overlaps[scores.index(most_favourable(scores))]
    ranked = RankedAnswer(
        scores=[one.score for one in found], ious=chosen, is_crowd=[False] * chosen.shape[1]
    )
    return most_favourable(scores), ranked
