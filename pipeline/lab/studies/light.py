"""Night against day: the very same scenes, lit by the sky or by infrared."""

from dataclasses import replace

from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.detector import build_image_detector
from pipeline.lab.studies.pictures import (
    compare_both_ways,
    outcomes,
    settings_of,
)
from pipeline.lab.studies.score_book import GATED, ScoreBook
from pipeline.lab.studies.study import StudyContext, StudyResult

WORLDS = (HeldOutWorld.FULL, HeldOutWorld.WIDE)
# Each scene is drawn twice in each world.
NUM_PICTURES = 60
_NIGHTS = {"day": 0.0, "night": 1.0}


def run(context: StudyContext) -> StudyResult:
    """Measure each world by day and by night."""
    worlds = WORLDS if context.world is None else (context.world,)
    detector = build_image_detector(context.model)
    of_all = settings_of(context, number=NUM_PICTURES)
    book = ScoreBook()
    for world in worlds:
        for light, share in _NIGHTS.items():
            settings = replace(of_all, world=world, night_probability=share)
            for seed, outcome in outcomes(detector, context, settings):
                scores = [answer.score for answer in outcome.answers]
                book.add(f"{world.value}, {light}", seed, scores)
    steps = tuple((f"{world.value}, day", f"{world.value}, night") for world in worlds)
    result = StudyResult(
        name="light",
        title="Night against day",
        settings=tuple(setting for step in steps for setting in step),
        x_label="world and light",
        points=book.points(),
        plotted=GATED,
        note=f"{of_all.num_pictures} held-out pictures of each world per seed, by day and in "
        "infrared, which shows no colours, so that none is asked for. The scenes are the same.",
    )
    return replace(result, comparisons=compare_both_ways(book, result, steps))
