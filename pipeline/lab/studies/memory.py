"""How much a tracker must remember: 1, 3 or 7 spatial memories (SAM 2, table of design choices).

A bank of n holds n - 1 maps of tracked frames and at most n of conditioning frames, which a
session keeps adding where detections are sure. It reads them at the positions of the nearest
frames, on which the weights were trained, and nothing is trained anew. Object pointers are few
numbers and stay 16 throughout, so that only the maps are compared.
"""

from dataclasses import replace

from pipeline.lab.evaluation.video import evaluate_video
from pipeline.lab.studies.clips import (
    build_clip_tracker,
    frames_per_second,
    hiding_settings,
    quality_measures,
    told,
)
from pipeline.lab.studies.spread import compare_seeds
from pipeline.lab.studies.study import Point, StudyContext, StudyResult

LENGTHS = (1, 3, 7)
NUM_CLIPS = 5


def run(context: StudyContext) -> StudyResult:
    """Measure all lengths on the same clips."""
    settings = hiding_settings(context, num_clips=NUM_CLIPS)
    advance = context.on_total(len(LENGTHS) * len(context.seeds) * settings.num_clips)
    points: list[Point] = []
    for length in LENGTHS:
        tracker = build_clip_tracker(context.model, memory_maps=length)
        for seed in context.seeds:
            report = evaluate_video(tracker, replace(settings, seed=seed), on_progress=advance)
            measures = (*quality_measures(report), frames_per_second(report))
            points.append(Point(setting=str(length), seed=seed, measures=measures))
    names = tuple(str(length) for length in LENGTHS)
    result = StudyResult(
        name="memory",
        title="Length of the memory",
        settings=names,
        x_label="spatial memories of an object",
        points=tuple(points),
        plotted=("J&F", "HOTA", "IDF1", "recovered ≤ 2 s"),
        is_ordered=True,
        note=f"{told(settings)} Object pointers stay 16; weights are those trained with 7.",
    )
    compared = [
        compare_seeds(result, measure, baseline=name, setting=names[-1])
        for name in names[:-1]
        for measure in ("J&F", "HOTA", "recovered ≤ 2 s")
    ]
    return replace(result, comparisons=tuple(one for one in compared if one is not None))
