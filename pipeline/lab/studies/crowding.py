"""How much a frame may hold: concepts and objects on it against the quality of the answers."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.lab.detector import build_image_detector
from pipeline.lab.evaluation.images import PictureOutcome
from pipeline.lab.studies.pictures import outcomes, settings_of, told
from pipeline.lab.studies.score_book import GATED, ScoreBook
from pipeline.lab.studies.spread import compare_steps
from pipeline.lab.studies.study import StudyContext, StudyResult

CROWDS = 0.5
# The fewest of each step; the last has no upper end.
CONCEPT_STEPS, OBJECT_STEPS = (1, 2, 3, 4), (1, 2, 4, 7)


def run(context: StudyContext) -> StudyResult:
    """Sort pictures by what is on them."""
    settings = settings_of(context)
    if settings.world.wide_split is not None:
        settings = replace(settings, crowd_probability=CROWDS)
    detector = build_image_detector(context.model)
    book = ScoreBook()
    for seed, outcome in outcomes(detector, context, settings):
        scores = [answer.score for answer in outcome.answers]
        for step in steps_of(outcome):
            book.add(step, seed, scores)
    concepts, objects = step_names(CONCEPT_STEPS, "concept"), step_names(OBJECT_STEPS, "object")
    crowds = "" if settings.crowd_probability is None else " Half of the scenes are crowds."
    result = StudyResult(
        name="crowding",
        title="Concepts and objects on a frame",
        settings=(*concepts, *objects),
        x_label="on the frame",
        points=book.points(),
        plotted=GATED,
        note=f"{told(settings)}{crowds} Counted are the concepts and objects that are asked for; "
        "pictures without any are left out.",
    )
    steps = [(names[0], names[-1]) for names in (concepts, objects)]
    return replace(result, comparisons=compare_steps(result, "cgF1", steps, is_paired=False))


def steps_of(outcome: PictureOutcome) -> list[str]:
    """Return the steps that a picture belongs to; none without an object."""
    counts = [len(answer.truth) for answer in outcome.answers if answer.truth]
    if not counts:
        return []
    return [
        _step(len(counts), CONCEPT_STEPS, "concept"),
        _step(sum(counts), OBJECT_STEPS, "object"),
    ]


def step_names(steps: Sequence[int], noun: str) -> list[str]:
    """Return the name of each step, such as "2-3 objects"."""
    names: list[str] = []
    for low, above in zip(steps, [*steps[1:], None], strict=True):
        if above is None:
            names.append(f"{low} or more {noun}s")
        else:
            counts = str(low) if above == low + 1 else f"{low}-{above - 1}"
            names.append(f"{counts} {noun}{'' if counts == '1' else 's'}")
    return names


def _step(number: int, steps: Sequence[int], noun: str) -> str:
    return step_names(steps, noun)[sum(low <= number for low in steps) - 1]
