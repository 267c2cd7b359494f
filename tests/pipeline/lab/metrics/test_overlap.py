import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.lab.metrics.overlap import (
    QuestionScore,
    boundary,
    boundary_accuracy,
    concept_scores,
    gated_scores,
    iou_matrix,
    match_tracks,
    region_similarity,
    score_question,
    tally,
)

MASKS = arrays(np.bool_, (7, 9))
IOUS = st.tuples(st.integers(0, 4), st.integers(0, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(0, 1))
)


def block(rows: slice, columns: slice, size: int = 40) -> np.ndarray:
    mask = np.zeros((size, size), dtype=np.bool_)
    mask[rows, columns] = True
    return mask


def question(*, truth: int, predicted: int, hits: int) -> QuestionScore:
    """A question whose matched pairs overlap perfectly."""
    return QuestionScore(num_truth=truth, num_predicted=predicted, true_positives=(hits,) * 10)


def test_iou_matrix_of_half_overlapping_blocks() -> None:
    left, right = block(slice(0, 2), slice(0, 2)), block(slice(0, 2), slice(1, 3))
    nothing = np.zeros_like(left)
    np.testing.assert_allclose(
        iou_matrix([left, nothing], [left, right, nothing]), [[1, 1 / 3, 0], [0, 0, 0]]
    )


def test_question_matches_for_the_greatest_total_and_not_greedily() -> None:
    # Greedy would take 0.8 and leave 0.1: one hit. The best assignment has 0.7 + 0.6: two.
    score = score_question(np.array([[0.8, 0.7], [0.6, 0.1]]))
    assert score.true_positives == (2, 2, 2, 1, 1, 0, 0, 0, 0, 0)
    assert sorted(score.matched_ious) == [0.6, 0.7]


def test_question_counts_a_pair_that_meets_the_threshold_exactly() -> None:
    assert score_question(np.array([[0.5]])).true_positives[0] == 1


def test_cgf1_of_three_hand_computed_questions() -> None:
    # Positive: 2 of 3 found and 1 false; 0 of 1 found. Negative: one quiet, one false alarm.
    scores = concept_scores(
        [
            question(truth=3, predicted=3, hits=2),
            question(truth=1, predicted=0, hits=0),
            question(truth=0, predicted=0, hits=0),
            question(truth=0, predicted=2, hits=0),
        ]
    )
    precision, recall = 2 / (3 + 1e-4), 2 / (4 + 1e-4)
    micro = 2 * precision * recall / (precision + recall + 1e-4)
    assert scores.positive_micro_f1 == pytest.approx(micro, abs=1e-12)
    assert scores.il_mcc == 0.0  # one of each verdict
    assert scores.cgf1 == 0.0


def test_mcc_and_presence_of_hand_computed_verdicts() -> None:
    positive = [question(truth=1, predicted=1, hits=1)] * 6
    missed = [question(truth=1, predicted=0, hits=0)]
    quiet = [question(truth=0, predicted=0, hits=0)]
    scores = concept_scores(positive + missed + quiet)
    assert scores.il_mcc == pytest.approx(6 / (np.sqrt(6 * 7 * 1 * 2) + 1e-6), abs=1e-12)
    assert scores.cgf1 == pytest.approx(scores.positive_micro_f1 * scores.il_mcc)
    assert (scores.num_questions, scores.num_positive) == (8, 7)


def test_false_positives_of_negative_questions_cost_only_presence() -> None:
    hit = question(truth=1, predicted=1, hits=1)
    alarm = question(truth=0, predicted=9, hits=0)
    scores = concept_scores([hit, hit, alarm])
    assert scores.positive_micro_f1 == pytest.approx(1.0, abs=2e-4)
    assert scores.il_fpr == pytest.approx(1.0, abs=1e-5)


def test_thresholds_50_and_75_are_told_apart() -> None:
    quiet = score_question(np.zeros((0, 0)))
    scores = concept_scores([score_question(np.array([[0.74]])), quiet])
    assert scores.cgf1_50 == pytest.approx(1.0, abs=2e-4)
    assert scores.cgf1_75 == 0.0
    assert scores.cgf1 == pytest.approx(0.5, abs=2e-4)  # 0.50 to 0.70: five of ten


def test_scores_of_no_question_at_all_are_zero() -> None:
    scores = concept_scores([])
    assert (scores.cgf1, scores.positive_macro_f1, scores.mean_iou) == (0.0, 0.0, 0.0)


@given(st.lists(IOUS, max_size=6))
def test_scores_stay_in_bounds_and_do_not_depend_on_order(matrices: list[np.ndarray]) -> None:
    scores = concept_scores(map(score_question, matrices))
    assert 0 <= scores.positive_micro_f1 <= 1
    assert -1 <= scores.il_mcc <= 1
    assert abs(scores.cgf1) <= scores.positive_micro_f1 + 1e-12
    shuffled = [matrix[::-1, ::-1] for matrix in reversed(matrices)]
    again = concept_scores(map(score_question, shuffled))
    assert again.il_mcc == pytest.approx(scores.il_mcc)
    assert again.num_positive == scores.num_positive


@given(IOUS, st.permutations(range(4)), st.permutations(range(4)))
def test_question_does_not_depend_on_the_order_of_masks(
    ious: np.ndarray, rows: list[int], columns: list[int]
) -> None:
    mixed = ious[[r for r in rows if r < ious.shape[0]]]
    mixed = mixed[:, [c for c in columns if c < ious.shape[1]]]
    one, other = score_question(ious), score_question(mixed)
    assert sum(other.matched_ious) == pytest.approx(sum(one.matched_ious))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_perfect_answers_score_one(counts: list[int]) -> None:
    answers = [score_question(np.eye(count)) for count in counts]
    scores = concept_scores([*answers, score_question(np.zeros((0, 0)))])
    assert scores.cgf1 == pytest.approx(1.0, abs=5e-4)


@given(MASKS, MASKS)
def test_region_and_boundary_are_bounded_and_symmetric(one: np.ndarray, other: np.ndarray) -> None:
    for measure in (region_similarity, boundary_accuracy):
        value = measure(one, other)
        assert 0 <= value <= 1
        assert value == pytest.approx(measure(other, one))
        assert measure(one, one) == 1.0


def test_region_similarity_of_hand_computed_masks() -> None:
    one, other = block(slice(0, 4), slice(0, 4)), block(slice(0, 4), slice(2, 6))
    nothing = np.zeros_like(one)
    assert region_similarity(one, other) == pytest.approx(8 / 24)
    assert (region_similarity(nothing, nothing), region_similarity(one, nothing)) == (1.0, 0.0)


def test_boundary_marks_pixels_left_and_above_of_a_change() -> None:
    edge = boundary(block(slice(2, 4), slice(2, 4), size=6))
    rows = ["......", ".###..", ".#.#..", ".###..", "......", "......"]
    # The inner pixel (2, 2) has equal neighbours; (3, 3) differs from all three of its own.
    np.testing.assert_array_equal(edge, np.array([list(row) for row in rows]) == "#")


def test_boundary_accuracy_forgives_shifts_up_to_the_tolerance() -> None:
    truth = block(slice(10, 30), slice(10, 30))
    shifted = block(slice(10, 30), slice(11, 31))
    assert np.ceil(0.008 * np.hypot(40, 40)) == 1
    assert boundary_accuracy(shifted, truth) == 1.0
    farther = boundary_accuracy(block(slice(10, 30), slice(13, 33)), truth)
    assert 0 < farther < 1
    assert boundary_accuracy(block(slice(10, 30), slice(13, 33)), truth, tolerance=3) == 1.0


def test_boundary_accuracy_of_an_empty_mask() -> None:
    nothing, something = np.zeros((9, 9), dtype=np.bool_), block(slice(2, 5), slice(2, 5), size=9)
    assert boundary_accuracy(nothing, something) == boundary_accuracy(something, nothing) == 0.0
    assert boundary_accuracy(nothing, nothing) == 1.0


def test_boundary_accuracy_with_a_hand_counted_third_of_the_edge() -> None:
    # A line of one row, 30 px against 10 px of it, with no dilation to speak of.
    truth, found = block(slice(0, 1), slice(0, 30)), block(slice(0, 1), slice(0, 10))
    wanted, seen = int(boundary(truth).sum()), int(boundary(found).sum())
    assert (wanted, seen) == (30, 10)
    # The ten seen lie on the true edge; one more column of that lies within 1 px of them.
    precision, recall = 1.0, 11 / 30
    expected = 2 * precision * recall / (precision + recall)
    assert boundary_accuracy(found, truth) == pytest.approx(expected)


def test_tracks_are_matched_one_to_one_and_never_without_overlap() -> None:
    ious = np.array([[0.9, 0.8, 0.0], [0.85, 0.1, 0.0]])
    assert match_tracks(ious) == [1, 0, None]
    assert match_tracks(np.zeros((0, 2))) == [None, None]


@given(st.lists(IOUS.map(score_question), max_size=6), st.lists(IOUS.map(score_question)))
def test_tallies_give_the_scores_of_the_questions_they_add_up(one, other) -> None:
    expected = concept_scores([*one, *other])
    alone = concept_scores(one)
    found = gated_scores(np.stack([tally(one) + tally(other), tally(one)]))
    assert found.cgf1 == pytest.approx([expected.cgf1, alone.cgf1], abs=1e-12)
    assert found.positive_micro_f1[0] == pytest.approx(expected.positive_micro_f1, abs=1e-12)
    assert found.il_mcc[0] == pytest.approx(expected.il_mcc, abs=1e-12)
