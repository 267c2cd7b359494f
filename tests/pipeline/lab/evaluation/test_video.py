import numpy as np
import pytest

from pipeline.lab.evaluation.held_out import is_counted
from pipeline.lab.evaluation.video import VideoSettings, draw_clip, evaluate_video
from tests.pipeline.lab.oracles import OracleTracker

SETTINGS = VideoSettings(num_clips=2, width=96, height=96, fps=5.0, duration_s=4.0, seed=3)


def frames_counted(clip: int) -> dict[int, list[int]]:
    """On which frames each object of a clip counts."""
    world, _ = draw_clip(SETTINGS, clip)
    found: dict[int, list[int]] = {}
    for index in range(world.num_frames):
        for thing in filter(is_counted, world.render(index).objects):
            found.setdefault(thing.object_id, []).append(index)
    return found


def test_perfect_tracker_scores_one() -> None:
    report = evaluate_video(OracleTracker(settings=SETTINGS), SETTINGS)
    counts = report.counts
    assert len(report.objects) == sum(len(frames_counted(clip)) for clip in range(2)) > 2
    assert (report.j, report.f, report.j_and_f) == (1.0, 1.0, 1.0)
    assert report.scores.cgf1 == pytest.approx(1.0, abs=1e-3)
    assert (counts.missed_masks, counts.false_masks, counts.id_switches) == (0, 0, 0)
    assert counts.tracks > counts.false_tracks == 0


def test_tracker_that_loses_everything_halfway_is_scored_for_the_first_half() -> None:
    lost_at = 10
    tracker = OracleTracker(
        settings=SETTINGS, masklet_id=lambda thing, index: thing + 1 if index < lost_at else 0
    )
    report = evaluate_video(tracker, SETTINGS)
    for one in report.objects:
        frames = frames_counted(one.clip)[one.object_id]
        kept = np.mean([index < lost_at for index in frames])
        assert one.num_frames == len(frames)
        assert one.j == pytest.approx(kept)
        assert one.f == pytest.approx(kept)


def test_masklets_renamed_once_give_one_switch_per_object_seen_on_both_sides() -> None:
    renamed_at = 9
    tracker = OracleTracker(
        settings=SETTINGS, masklet_id=lambda thing, index: thing + 1 + 100 * (index >= renamed_at)
    )
    report = evaluate_video(tracker, SETTINGS)
    expected = sum(
        min(frames) < renamed_at <= max(frames)
        for clip in range(2)
        for frames in frames_counted(clip).values()
    )
    assert report.counts.id_switches == expected > 0
    assert report.counts.missed_masks == 0
    assert report.j < 1.0


def test_square_in_the_corner_is_a_false_track_of_every_clip() -> None:
    report = evaluate_video(OracleTracker(settings=SETTINGS, has_ghost=True), SETTINGS)
    perfect = evaluate_video(OracleTracker(settings=SETTINGS), SETTINGS)
    assert report.counts.false_tracks == 2
    assert report.counts.false_masks == report.num_frames == 40
    assert report.counts.tracks == perfect.counts.tracks + 2
    assert report.j_and_f == perfect.j_and_f
    assert report.scores.cgf1 < perfect.scores.cgf1


def test_tracker_that_finds_nothing_scores_zero() -> None:
    report = evaluate_video(OracleTracker(settings=SETTINGS, masklet_id=lambda *_: 0), SETTINGS)
    assert (report.j_and_f, report.scores.cgf1) == (0.0, 0.0)
    assert report.counts.missed_masks == report.counts.truth_masks > 0
    assert all(one.track_no is None for one in report.objects)


def test_streams_are_closed_after_their_clip() -> None:
    tracker = OracleTracker(settings=SETTINGS)
    evaluate_video(tracker, SETTINGS)
    assert tracker.streams == {}


def test_clips_need_a_number_of_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        VideoSettings(num_clips=0)


def test_perfect_tracker_has_perfect_hota_teta_and_identities() -> None:
    report = evaluate_video(OracleTracker(settings=SETTINGS), SETTINGS)
    assert report.teta is not None
    assert (report.hota.hota, report.teta.teta, report.identity.idf1) == (1.0, 1.0, 1.0)
    assert report.identity.hits == report.counts.truth_masks


def test_renamed_masklets_cost_association_and_identity_but_no_detection() -> None:
    tracker = OracleTracker(
        settings=SETTINGS, masklet_id=lambda thing, index: thing + 1 + 100 * (index >= 9)
    )
    report = evaluate_video(tracker, SETTINGS)
    assert report.hota.det_a == pytest.approx(1.0)
    assert report.hota.ass_a < 1.0
    assert report.identity.switches == report.counts.id_switches > 0
    assert 0.4 < report.identity.idf1 < 1.0


def test_ghost_costs_detection_but_no_object_its_place() -> None:
    report = evaluate_video(OracleTracker(settings=SETTINGS, has_ghost=True), SETTINGS)
    assert report.teta is not None
    assert report.identity.false == report.num_frames
    assert report.hota.det_re == pytest.approx(1.0)
    assert report.hota.det_pr < 1.0
    assert report.teta.loc_a == pytest.approx(1.0)
    assert report.teta.cls_a < 1.0
