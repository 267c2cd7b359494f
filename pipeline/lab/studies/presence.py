"""What the presence head is good for: detections scored with it and without it.

The published ablation trains one model with the head and one without. Here the head of one model is
left out when it answers. Its query scores were trained on concepts that are there alone, as the
paper has it (section 3, presence token), so that the difference may be larger than between two
trainings.
"""

from dataclasses import replace

from models.protocols import ConceptDetector, ConceptResult
from pipeline.lab.detector import build_image_detector
from pipeline.lab.evaluation.images import judge
from pipeline.lab.studies.pictures import compare_both_ways, drawn, settings_of, told
from pipeline.lab.studies.score_book import GATED, ScoreBook
from pipeline.lab.studies.study import StudyContext, StudyResult

WITHOUT, WITH = "score alone", "score x presence"


def run(context: StudyContext) -> StudyResult:
    """Judge each answer twice, from the same pass of the model."""
    # Nothing may be dropped by the joint score: the score alone can be high where that is low.
    return measure(build_image_detector(context.model, min_score=0.0), context)


def measure(detector: ConceptDetector, context: StudyContext) -> StudyResult:
    """Study a detector that gives all its detections, however unsure."""
    settings = settings_of(context)
    book = ScoreBook()
    for seed, _, frame, questions in drawn(context, settings):
        results = detector.detect(frame.pixels, [question.phrase for question in questions])
        pairs = list(zip(questions, results, strict=True))
        book.add(WITHOUT, seed, [judge(frame, q, without_presence(one)).score for q, one in pairs])
        book.add(WITH, seed, [judge(frame, q, one).score for q, one in pairs])
    result = StudyResult(
        name="presence",
        title="The presence head",
        settings=(WITHOUT, WITH),
        x_label="a detection counts from 0.5 by its",
        points=book.points(),
        plotted=GATED,
        note=f"{told(settings)} The same weights: the head is left out of the score, not of "
        "training.",
    )
    return replace(result, comparisons=compare_both_ways(book, result, ((WITHOUT, WITH),)))


def without_presence(result: ConceptResult) -> ConceptResult:
    """Return an answer with the query scores alone, best first.

    The result must hold all detections, as none can be won back: a joint score is at most the query
    score. Where presence is 0, so are the joint scores, and the query scores are unknown.
    """
    if result.presence_score <= 0:
        return replace(result, detections=())
    alone = [
        replace(found, score=min(found.score / result.presence_score, 1.0))
        for found in result.detections
    ]
    return replace(
        result, detections=tuple(sorted(alone, key=lambda found: found.score, reverse=True))
    )
