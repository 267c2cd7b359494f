"""What studies on single pictures share: the held-out pictures, and the model that looks."""

from collections.abc import Iterator
from dataclasses import replace

from connectors.world.compose import WorldFrame
from models.protocols import ConceptDetector
from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.evaluation.held_out import Question
from pipeline.lab.evaluation.images import (
    ImageSettings,
    PictureOutcome,
    draw_picture,
    examine_picture,
)
from pipeline.lab.studies.score_book import ScoreBook
from pipeline.lab.studies.spread import compare_seeds
from pipeline.lab.studies.study import Comparison, StudyContext, StudyResult

NUM_PICTURES = 100


def settings_of(
    context: StudyContext, *, world: HeldOutWorld = HeldOutWorld.WIDE, number: int = NUM_PICTURES
) -> ImageSettings:
    """Return which pictures a context asks for, of ``world`` and ``number`` if it does not say."""
    world = world if context.world is None else context.world
    return ImageSettings(num_pictures=context.samples or number, world=world)


def outcomes(
    detector: ConceptDetector, context: StudyContext, settings: ImageSettings
) -> Iterator[tuple[int, PictureOutcome]]:
    """Yield each seed with each of its pictures, asked and judged."""
    advance = context.on_total(len(context.seeds) * settings.num_pictures)
    for seed in context.seeds:
        for index in range(settings.num_pictures):
            yield seed, examine_picture(detector, replace(settings, seed=seed), index)
            advance()


def drawn(
    context: StudyContext, settings: ImageSettings
) -> Iterator[tuple[int, int, WorldFrame, list[Question]]]:
    """Yield seed, number and frame of each picture with its questions, to be put in other ways."""
    advance = context.on_total(len(context.seeds) * settings.num_pictures)
    for seed in context.seeds:
        for index in range(settings.num_pictures):
            yield seed, index, *draw_picture(replace(settings, seed=seed), index)
            advance()


def told(settings: ImageSettings) -> str:
    """Return a sentence for the table on which pictures it is about."""
    return (
        f"{settings.num_pictures} held-out pictures of the {settings.world.value} world per seed, "
        f"{settings.width} x {settings.height} px."
    )


def compare_both_ways(
    book: ScoreBook, result: StudyResult, steps: tuple[tuple[str, str], ...]
) -> tuple[Comparison, ...]:
    """Compare settings on the same pictures: over the pictures, and cgF1 over the seeds, too."""
    found: list[Comparison] = []
    for baseline, setting in steps:
        found += book.compare(baseline, setting)
        by_seed = compare_seeds(result, "cgF1", baseline=baseline, setting=setting)
        found += [] if by_seed is None else [by_seed]
    return tuple(found)
