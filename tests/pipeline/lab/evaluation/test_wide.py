import pytest

from connectors.world.wide.phrases import PHRASES, is_held_out
from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.evaluation.held_out import Phrasing, is_counted
from pipeline.lab.evaluation.images import ImageSettings, draw_picture, evaluate_images
from pipeline.lab.evaluation.video import VideoSettings, draw_clip, evaluate_video
from tests.pipeline.lab.oracles import OracleDetector, OracleTracker

WIDE = [world for world in HeldOutWorld if world.wide_split is not None]


def make_settings(world):
    return ImageSettings(num_pictures=12, width=96, height=96, world=world)


@pytest.mark.parametrize("world", WIDE)
def test_perfect_detector_scores_one_on_wide_worlds(world):
    settings = make_settings(world)
    report = evaluate_images(OracleDetector(settings=settings, concept_of=str), settings)
    assert report.scores.num_positive >= 10
    assert report.scores.num_questions > 1.6 * report.scores.num_positive
    assert report.scores.cgf1 == pytest.approx(1.0, abs=1e-3)
    assert "" not in report.by_concept


def test_detector_blind_to_looks_fails_where_the_look_is_wrong():
    settings = make_settings(HeldOutWorld.WIDE)
    wrong = {
        question.phrase
        for index in range(settings.num_pictures)
        for question in draw_picture(settings, index)[1]
        if question.phrasing is Phrasing.WRONG_LOOK
    }
    oracle = OracleDetector(settings=settings, concept_of=str, is_alarmed=wrong.__contains__)
    report = evaluate_images(oracle, settings)
    assert wrong
    assert report.by_phrasing[Phrasing.WRONG_LOOK].il_fpr == pytest.approx(1.0, abs=1e-3)
    assert report.scores.il_mcc < 1


@pytest.mark.parametrize("world", WIDE)
def test_what_is_held_out_is_asked_in_its_own_worlds_only(world):
    settings = make_settings(world)
    asked = [q for index in range(12) for q in draw_picture(settings, index)[1]]
    for question in asked:
        is_new = is_held_out(PHRASES[question.phrase])
        assert is_new == (question.phrasing is Phrasing.HELD_OUT)
    assert any(q.phrasing is Phrasing.HELD_OUT for q in asked) == (world is not HeldOutWorld.WIDE)


def test_no_object_answers_two_questions():
    settings = make_settings(HeldOutWorld.WIDE)
    for index in range(settings.num_pictures):
        frame, questions = draw_picture(settings, index)
        phrases = [question.phrase for question in questions]
        assert len(set(phrases)) == len(phrases)
        assert {thing.concept for thing in frame.objects if is_counted(thing)} <= set(phrases)
        assert len({thing.object_id for thing in frame.objects}) == len(frame.objects)


def test_perfect_tracker_scores_one_on_a_wide_clip():
    settings = VideoSettings(
        num_clips=2, width=96, height=96, fps=5.0, duration_s=4.0, world=HeldOutWorld.WIDE
    )
    assert any(question.phrase for question in draw_clip(settings, 0)[1])
    report = evaluate_video(OracleTracker(settings=settings, concept_of=str), settings)
    assert report.objects
    assert (report.j, report.f) == (1.0, 1.0)
    assert report.scores.cgf1 == pytest.approx(1.0, abs=1e-3)
    assert (report.counts.missed_masks, report.counts.id_switches) == (0, 0)
