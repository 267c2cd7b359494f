"""The main results on clips: how well objects are found, drawn and kept apart, in each world."""

from pipeline.lab.data.worlds import MAIN_WORLDS
from pipeline.lab.evaluation.video import VideoReport, VideoSettings, evaluate_video
from pipeline.lab.studies.clips import (
    build_clip_tracker,
    frames_per_second,
    quality_measures,
    told,
)
from pipeline.lab.studies.study import Measure, Point, StudyContext, StudyResult

NUM_CLIPS = 5


def run(context: StudyContext) -> StudyResult:
    """Measure each world, or the one that was asked for."""
    worlds = MAIN_WORLDS if context.world is None else (context.world,)
    number = context.samples or NUM_CLIPS
    tracker = build_clip_tracker(context.model)
    advance = context.on_total(len(worlds) * len(context.seeds) * number)
    points: list[Point] = []
    for world in worlds:
        for seed in context.seeds:
            settings = VideoSettings(num_clips=number, seed=seed, world=world)
            report = evaluate_video(tracker, settings, on_progress=advance)
            points.append(Point(setting=world.value, seed=seed, measures=_measures(report)))
    return StudyResult(
        name="tracking",
        title="Concepts followed through held-out clips",
        settings=tuple(world.value for world in worlds),
        x_label="world",
        points=tuple(points),
        plotted=("J&F", "HOTA", "IDF1", "TETA", "cgF1"),
        note=f"{told(VideoSettings(num_clips=number))} cgF1 is on whole masklets (volumes).",
    )


def _measures(report: VideoReport) -> tuple[Measure, ...]:
    j_and_f, hota, idf1, switches, recovered = quality_measures(report)
    masks = report.counts.truth_masks
    return (
        j_and_f,
        hota,
        Measure(name="DetA", value=report.hota.det_a, count=masks),
        Measure(name="AssA", value=report.hota.ass_a, count=masks),
        idf1,
        Measure(name="TETA", value=report.teta.teta if report.teta else None, count=masks),
        Measure(name="cgF1", value=report.scores.cgf1, count=report.scores.num_questions),
        switches,
        recovered,
        frames_per_second(report),
    )
