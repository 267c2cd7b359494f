from pathlib import Path

import cv2
import numpy as np
import pytest

from connectors.world.compose import WorldObject
from connectors.world.concepts import ABSENT_PHRASES, CONCEPT_NAMES
from pipeline.errors import ConfigError
from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.evaluation.gallery import choose_pictures, write_gallery
from pipeline.lab.evaluation.held_out import (
    HELD_OUT_SEED,
    Phrasing,
    draw_questions,
    held_out_rng,
    held_out_world_seed,
    is_counted,
    rest_on_ignored,
)
from pipeline.lab.evaluation.images import (
    ImageSettings,
    PictureMark,
    draw_picture,
    evaluate_images,
    examine_picture,
    judge,
)
from tests.pipeline.lab.oracles import NAME_OF, OracleDetector, corner_mask

SETTINGS = ImageSettings(num_pictures=12, width=96, height=96)


def thing(visible: np.ndarray, full: np.ndarray | None = None, visibility: float = 1.0):
    return WorldObject(
        object_id=0,
        concept="deer",
        full_mask=visible if full is None else full,
        visible_mask=visible,
        visibility=visibility,
        depth=0.5,
    )


def test_perfect_detector_scores_one_although_it_finds_ignored_objects_too() -> None:
    report = evaluate_images(OracleDetector(settings=SETTINGS), SETTINGS)
    assert report.scores.cgf1 == pytest.approx(1.0, abs=1e-3)
    assert report.scores.mean_iou == 1.0
    assert [mark.quality for mark in report.pictures] == pytest.approx([1.0] * 12, abs=1e-3)


def test_false_alarms_on_foreign_phrases_cost_presence_and_nothing_else() -> None:
    oracle = OracleDetector(settings=SETTINGS, is_alarmed=lambda phrase: phrase not in NAME_OF)
    report = evaluate_images(oracle, SETTINGS)
    assert report.by_phrasing[Phrasing.FOREIGN].il_fpr == pytest.approx(1.0, abs=1e-3)
    assert report.by_phrasing[Phrasing.OTHER_CONCEPT].il_fpr == 0.0
    assert report.scores.positive_micro_f1 == pytest.approx(1.0, abs=1e-3)
    assert report.scores.cgf1 == pytest.approx(report.scores.il_mcc, abs=1e-3)
    assert report.scores.il_mcc < 1


def test_detector_below_the_score_threshold_finds_nothing() -> None:
    report = evaluate_images(OracleDetector(settings=SETTINGS, score=0.49), SETTINGS)
    assert report.scores.il_recall == 0.0
    assert report.scores.cgf1 == 0.0


def test_concept_never_found_shows_in_its_own_row_only() -> None:
    truth = [draw_picture(SETTINGS, i)[0] for i in range(12)]
    concept = next(o.concept for frame in truth for o in frame.objects if is_counted(o))
    oracle = OracleDetector(settings=SETTINGS, is_found=lambda thing: thing.concept != concept)
    report = evaluate_images(oracle, SETTINGS)
    assert report.by_concept[concept].il_recall == 0.0
    others = [row for name, row in report.by_concept.items() if name != concept]
    assert all(row.il_recall > 0.99 for row in others if row.num_positive)


def test_set_of_pictures_depends_on_the_seed_alone() -> None:
    frame, questions = draw_picture(SETTINGS, 3)
    again, same_questions = draw_picture(SETTINGS, 3)
    other, _ = draw_picture(ImageSettings(num_pictures=12, width=96, height=96, seed=1), 3)
    np.testing.assert_array_equal(frame.pixels, again.pixels)
    assert questions == same_questions
    assert not np.array_equal(frame.pixels, other.pixels)


def test_worlds_of_evaluation_have_held_out_seeds() -> None:
    seeds = [held_out_world_seed(held_out_rng(0, index)) for index in range(200)]
    assert min(seeds) >= HELD_OUT_SEED
    assert len(set(seeds)) == 200
    with pytest.raises(ValueError, match="at least 0"):
        held_out_rng(-HELD_OUT_SEED, 0)


@pytest.mark.parametrize("present", [set(), {"deer"}, {"deer", "car", "bus"}, set(CONCEPT_NAMES)])
def test_questions_are_half_positive_and_never_ambiguous(present: set[str]) -> None:
    for index in range(30):
        asked = draw_questions(held_out_rng(0, index), present=present, seen=present | {"cow"})
        positive = [q for q in asked if q.phrasing in (Phrasing.NAME, Phrasing.SYNONYM)]
        negative = [q for q in asked if q not in positive]
        assert {q.concept for q in positive} == present
        assert len(negative) == max(len(present), 2)
        assert not {q.concept for q in negative} & (present | {"cow"})
        assert len({q.phrase for q in asked}) == len(asked)


def test_foreign_phrases_are_asked_now_and_then() -> None:
    asked = [
        q
        for i in range(200)
        for q in draw_questions(held_out_rng(0, i), present={"deer"}, seen={"deer"})
    ]
    share = np.mean([q.phrase in ABSENT_PHRASES for q in asked if q.concept != "deer"])
    assert 0.15 < share < 0.35


def test_objects_too_small_or_too_hidden_are_not_counted() -> None:
    small = np.zeros((96, 96), dtype=np.bool_)
    small[0, :39] = True
    enough = small.copy()
    enough[0, 39] = True
    assert not is_counted(thing(small))
    assert is_counted(thing(enough))
    assert not is_counted(thing(enough, visibility=0.14))


def test_prediction_on_an_ignored_object_is_neutral_unless_a_counted_one_fits_better() -> None:
    square = corner_mask((96, 96))
    nothing = np.zeros_like(square)
    hidden = thing(nothing, full=square, visibility=0.0)
    assert rest_on_ignored([square, ~square], counted=[], ignored=[hidden]) == [True, False]
    assert rest_on_ignored([square], counted=[square], ignored=[hidden]) == [False]


def test_gallery_draws_the_worst_and_the_best(tmp_path: Path) -> None:
    oracle = OracleDetector(settings=SETTINGS, is_found=lambda thing: thing.concept != "pig")
    report = evaluate_images(oracle, SETTINGS)
    write_gallery(oracle, report, tmp_path / "new" / "sheet.png", columns=2, rows=2)
    sheet = cv2.imread(str(tmp_path / "new" / "sheet.png"))
    assert sheet.shape[1] == 2 * 192 + 6
    assert sheet.shape[0] > 2 * 192 + 6
    write_gallery(oracle, report, tmp_path / "all.png", columns=6, rows=2)
    write_gallery(oracle, report, tmp_path / "one.png", columns=3, rows=1)
    heights = [cv2.imread(str(tmp_path / name)).shape[0] for name in ("all.png", "one.png")]
    # Two rows either way, and headings only where some are left out.
    assert heights[1] > heights[0]
    with pytest.raises(ConfigError, match="png"):
        write_gallery(oracle, report, tmp_path / "sheet.txt", columns=1, rows=1)


def test_pictures_of_a_gallery_are_the_extremes() -> None:
    qualities = [(0.5, 1), (0.1, 1), (1.0, 3), (0.4, 1), (1.0, 2), (1.0, 1)]
    marks = [
        PictureMark(index=i, quality=quality, num_objects=number)
        for i, (quality, number) in enumerate(qualities)
    ]
    assert choose_pictures(marks, 3) == [1, 3, 2]
    assert choose_pictures(marks[:2], 6) == [1, 0]


def test_quality_of_a_picture_counts_wrong_and_rightly_empty_answers() -> None:
    blind = OracleDetector(settings=SETTINGS, is_found=lambda _: False)
    for index in range(4):
        outcome = examine_picture(blind, SETTINGS, index)
        quiet = sum(not answer.truth for answer in outcome.answers)
        assert outcome.quality == pytest.approx(quiet / len(outcome.answers))


@pytest.mark.parametrize("world", [HeldOutWorld.PLAIN, HeldOutWorld.WIDE])
def test_night_falls_on_the_same_scene(world) -> None:
    day, night = (
        draw_picture(
            ImageSettings(
                num_pictures=1, width=96, height=96, world=world, night_probability=share
            ),
            2,
        )[0]
        for share in (0.0, 1.0)
    )
    assert (day.is_night, night.is_night) == (False, True)
    masks = [
        {thing.object_id: thing.full_mask for thing in frame.objects if is_counted(thing)}
        for frame in (day, night)
    ]
    shared = masks[0].keys() & masks[1].keys()
    assert shared
    assert all(np.array_equal(masks[0][number], masks[1][number]) for number in shared)


def test_crowds_are_asked_of_wide_worlds_only() -> None:
    with pytest.raises(ValueError, match=r"crowd_probability .* in the full world"):
        ImageSettings(world=HeldOutWorld.FULL, crowd_probability=0.5)
    crowds = ImageSettings(world=HeldOutWorld.WIDE, width=96, height=96, crowd_probability=1.0)
    counts = [len(draw_picture(crowds, index)[0].objects) for index in range(6)]
    assert max(counts) > 6


def test_objects_left_out_are_neither_missed_nor_wrong() -> None:
    frame, question = next(
        (frame, question)
        for index in range(SETTINGS.num_pictures)
        for frame, questions in [draw_picture(SETTINGS, index)]
        for question in questions
        if any(thing.concept == question.concept and is_counted(thing) for thing in frame.objects)
    )
    things = [t for t in frame.objects if t.concept == question.concept and is_counted(t)]
    (result,) = OracleDetector(settings=SETTINGS).detect(frame.pixels, [question.phrase])
    answer = judge(frame, question, result, left_out=[things[0].object_id])
    assert len(answer.truth) == len(things) - 1
    assert (answer.score.num_predicted, answer.score.num_truth) == (len(things) - 1,) * 2
