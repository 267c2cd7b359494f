"""Studies on clips: which clips they take, and what they make of a report."""

import pytest

from pipeline.config.sections.model import ModelConfig
from pipeline.errors import ConfigError
from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.evaluation.video import VideoSettings, evaluate_video
from pipeline.lab.metrics.recovery import Outcome, Recovery
from pipeline.lab.studies.clips import (
    build_clip_tracker,
    frames_per_second,
    hiding_settings,
    quality_measures,
    told,
)
from pipeline.lab.studies.occlusion import ALL_NAME, LEFT_NAME, count_groups
from pipeline.lab.studies.registry import chosen_studies
from pipeline.lab.studies.study import StudyContext
from tests.pipeline.lab.oracles import OracleTracker


def event(hidden_s: float, outcome: Outcome, *, has_left: bool = False) -> Recovery:
    return Recovery(
        clip=0,
        object_id=0,
        hidden_from=10,
        shown_from=20,
        hidden_s=hidden_s,
        has_left=has_left,
        outcome=outcome,
    )


def context(world: HeldOutWorld | None = None, samples: int | None = None) -> StudyContext:
    return StudyContext(model=ModelConfig(), world=world, samples=samples)


def test_events_are_grouped_by_length_and_in_all() -> None:
    groups = count_groups(
        [
            event(0.5, Outcome.RECOVERED),
            event(0.6, Outcome.RENAMED),
            event(2.0, Outcome.RECOVERED),
            event(2.1, Outcome.LOST),
            event(1.0, Outcome.UNTRACKED),
            event(9.0, Outcome.LOST, has_left=True),
        ]
    )
    assert {name: counts.judged for name, counts in groups.items()} == {
        "≤ 0.5 s": 1,
        "0.5-1 s": 1,
        "1-2 s": 1,
        "> 2 s": 1,
        ALL_NAME: 3,
        LEFT_NAME: 1,
    }
    assert groups[ALL_NAME].share == pytest.approx(2 / 3)
    assert groups["0.5-1 s"].untracked == 1


@pytest.mark.parametrize(
    ("world", "is_hiding"),
    [(None, True), (HeldOutWorld.FULL, True), (HeldOutWorld.WIDE, False)],
)
def test_hiding_is_arranged_where_the_world_has_little_of_it(
    world: HeldOutWorld | None, is_hiding: bool
) -> None:
    settings = hiding_settings(context(world), num_clips=4)
    assert (settings.is_hiding, settings.num_clips) == (is_hiding, 4)
    assert hiding_settings(context(samples=2), num_clips=4).num_clips == 2
    assert ("arranged" in told(settings)) is is_hiding


def test_measures_of_a_perfect_tracker() -> None:
    settings = VideoSettings(num_clips=1, width=96, height=96, fps=5.0, is_hiding=True)
    report = evaluate_video(OracleTracker(settings=settings), settings)
    found = {measure.name: measure for measure in quality_measures(report)}
    assert [found[name].value for name in ("J&F", "HOTA", "IDF1")] == [1.0, 1.0, 1.0]
    assert (found["id switches"].value, found["id switches"].count) == (0, len(report.objects))
    assert found["recovered ≤ 2 s"].value == 1.0
    assert frames_per_second(report).count == report.num_frames == 50


def test_studies_on_clips_are_registered() -> None:
    entries = chosen_studies(("tracking", "memory", "occlusion"))
    assert all(callable(entry.load()) for entry in entries)


def test_unknown_session_option_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="memory_length"):
        build_clip_tracker(ModelConfig(), memory_length=3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings"), [("memory", 3), ("occlusion", 6)])
def test_study_measures_every_setting_on_every_seed(name: str, settings: int) -> None:
    (entry,) = chosen_studies((name,))
    result = entry.load()(StudyContext(model=ModelConfig(), seeds=(0, 1), samples=1))
    assert len(result.settings) == settings
    assert len(result.points) == 2 * settings
