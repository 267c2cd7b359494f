"""The main results: every measure of single pictures, in each world."""

from dataclasses import replace

from pipeline.lab.data.worlds import MAIN_WORLDS
from pipeline.lab.detector import build_image_detector
from pipeline.lab.evaluation.images import ImageReport, evaluate_images
from pipeline.lab.studies.pictures import settings_of
from pipeline.lab.studies.study import Measure, Point, StudyContext, StudyResult, Unit


def run(context: StudyContext) -> StudyResult:
    """Measure the shipped measures in each world, or in the one that was asked for."""
    worlds = MAIN_WORLDS if context.world is None else (context.world,)
    of_all = settings_of(context)
    detector = build_image_detector(context.model)
    advance = context.on_total(len(worlds) * len(context.seeds) * of_all.num_pictures)
    points: list[Point] = []
    for world in worlds:
        for seed in context.seeds:
            settings = replace(of_all, seed=seed, world=world)
            report = evaluate_images(detector, settings, on_progress=advance)
            points.append(Point(setting=world.value, seed=seed, measures=main_measures(report)))
    return StudyResult(
        name="main",
        title="Concepts on held-out pictures",
        settings=tuple(world.value for world in worlds),
        x_label="world",
        points=tuple(points),
        plotted=("cgF1", "cgF1 @ .50", "pmF1", "IL_MCC", "AP"),
        note=f"{of_all.num_pictures} held-out pictures of each world per seed, {of_all.width} x "
        f"{of_all.height} px.",
    )


def main_measures(report: ImageReport) -> tuple[Measure, ...]:
    """Return what is told of a held-out set."""
    scores, ap = report.scores, report.phrase_ap
    asked, there = scores.num_questions, scores.num_positive
    return (
        Measure(name="cgF1", value=scores.cgf1, count=asked),
        Measure(name="cgF1 @ .50", value=scores.cgf1_50, count=asked),
        Measure(name="pmF1", value=scores.positive_micro_f1, count=there),
        Measure(name="IL_MCC", value=scores.il_mcc, count=asked),
        Measure(name="AP", value=None if ap is None else ap.ap, count=asked),
        Measure(
            name="ms per picture",
            value=report.seconds_per_picture * 1000,
            count=report.settings.num_pictures,
            unit=Unit.MILLISECONDS,
        ),
    )
