"""What was kept from training: combinations of a look and a noun, and whole concepts."""

from dataclasses import replace

from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.detector import build_image_detector
from pipeline.lab.evaluation.held_out import Phrasing
from pipeline.lab.studies.pictures import outcomes, settings_of
from pipeline.lab.studies.score_book import GATED, ScoreBook
from pipeline.lab.studies.spread import compare_steps
from pipeline.lab.studies.study import StudyContext, StudyResult

TRAINED, COMBINATIONS, CONCEPTS = "trained phrases", "new combinations", "new concepts"
WORLDS = {
    TRAINED: HeldOutWorld.WIDE,
    COMBINATIONS: HeldOutWorld.WIDE_COMBINATIONS,
    CONCEPTS: HeldOutWorld.WIDE_CONCEPTS,
}


def run(context: StudyContext) -> StudyResult:
    """Measure trained phrases, and in their own worlds those that were not."""
    detector = build_image_detector(context.model)
    book = ScoreBook()
    number = settings_of(context).num_pictures
    for setting, world in WORLDS.items():
        settings = replace(settings_of(context), world=world)
        for seed, outcome in outcomes(detector, context, settings):
            is_new = setting != TRAINED
            book.add(
                setting,
                seed,
                [
                    answer.score
                    for answer in outcome.answers
                    if (answer.question.phrasing is Phrasing.HELD_OUT) == is_new
                ],
            )
    result = StudyResult(
        name="held-out",
        title="Phrases that training never heard",
        settings=tuple(WORLDS),
        x_label="asked for",
        points=book.points(),
        plotted=GATED,
        note=f"{number} pictures of each of the wide worlds per seed, scenes held out in all. New "
        "rows: questions that were kept from training alone, of either answer.",
    )
    steps = ((TRAINED, COMBINATIONS), (TRAINED, CONCEPTS))
    return replace(result, comparisons=compare_steps(result, "cgF1", steps, is_paired=False))
