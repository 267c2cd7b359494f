"""How long something may be hidden: who is followed again after a full occlusion, by its length.

The truth says who is hidden whole; see :mod:`pipeline.lab.metrics.recovery` for what counts.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import inf, isfinite

from pipeline.lab.evaluation.video import evaluate_video
from pipeline.lab.metrics.recovery import (
    LENGTHS_S,
    LONGEST_S,
    Recovery,
    RecoveryCounts,
    count_recoveries,
)
from pipeline.lab.studies.clips import build_clip_tracker, hiding_settings, told
from pipeline.lab.studies.study import Measure, Point, StudyContext, StudyResult, Unit

NUM_CLIPS = 15
ALL_NAME, LEFT_NAME = f"all ≤ {LONGEST_S:g} s", "left and returned"


def run(context: StudyContext) -> StudyResult:
    """Sort the events of all seeds by their length."""
    settings = hiding_settings(context, num_clips=NUM_CLIPS)
    tracker = build_clip_tracker(context.model)
    advance = context.on_total(len(context.seeds) * settings.num_clips)
    points: list[Point] = []
    everything: list[Recovery] = []
    for seed in context.seeds:
        report = evaluate_video(tracker, replace(settings, seed=seed), on_progress=advance)
        everything += report.recoveries
        points += [
            Point(setting=name, seed=seed, measures=_measures(counts))
            for name, counts in count_groups(report.recoveries).items()
        ]
    total = count_recoveries(everything)
    return StudyResult(
        name="occlusion",
        title="Followed again after being hidden",
        settings=tuple(count_groups(())),
        x_label="nothing of it showed for",
        points=tuple(points),
        plotted=("same id", "another id", "not at all"),
        note=f"{told(settings)} Of objects that were followed in the second before, within 1 s of "
        f"showing again. Over all seeds, {total.recovered} of {total.judged} hidden for up to "
        f"{LONGEST_S:g} s are followed under their id.",
    )


def count_groups(events: Iterable[Recovery]) -> dict[str, RecoveryCounts]:
    """Return the counts of each length, of all that a tracker should survive, and of leaving."""
    listed = list(events)
    groups = {
        _name(low, high): count_recoveries(listed, over_s=low, up_to_s=high)
        for low, high in LENGTHS_S
    }
    groups[ALL_NAME] = count_recoveries(listed)
    groups[LEFT_NAME] = count_recoveries(listed, up_to_s=inf, has_left=True)
    return groups


def _name(low: float, high: float) -> str:
    if not isfinite(high):
        return f"> {low:g} s"
    return f"{low:g}-{high:g} s" if low else f"≤ {high:g} s"


def _measures(counts: RecoveryCounts) -> tuple[Measure, ...]:
    judged = counts.judged
    shares = (
        ("same id", counts.recovered),
        ("another id", counts.renamed),
        ("not at all", counts.lost),
    )
    return (
        *(
            Measure(name=name, value=number / judged if judged else None, count=judged)
            for name, number in shares
        ),
        Measure(name="events", value=judged, count=judged, unit=Unit.NUMBER),
        Measure(
            name="not followed before",
            value=counts.untracked,
            count=counts.untracked,
            unit=Unit.NUMBER,
        ),
    )
