"""HOTA, identities, TETA and average precision of small cases that can be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.lab.metrics.average_precision import RankedAnswer, average_precision
from pipeline.lab.metrics.hota import FrameOverlap, HotaSums, hota_scores, hota_sums
from pipeline.lab.metrics.identity import IdentityCounts, identity_counts
from pipeline.lab.metrics.overlap import QuestionScore, most_favourable, score_question
from pipeline.lab.metrics.teta import CategoryClip, teta_scores


def frame(predicted: list[int], truth: list[int], ious: list[list[float]]) -> FrameOverlap:
    """Rows of ``ious`` are predictions."""
    return FrameOverlap(
        predicted=np.array(predicted, dtype=np.int64),
        truth=np.array(truth, dtype=np.int64),
        ious=np.array(ious, dtype=np.float64).reshape(len(predicted), len(truth)),
    )


@st.composite
def sequences(draw: st.DrawFn) -> list[FrameOverlap]:
    frames = []
    for _ in range(draw(st.integers(1, 5))):
        predicted = draw(st.lists(st.integers(0, 3), unique=True, max_size=4))
        truth = draw(st.lists(st.integers(0, 3), unique=True, max_size=4))
        cells = st.lists(st.floats(0, 1), min_size=len(truth), max_size=len(truth))
        ious = draw(st.lists(cells, min_size=len(predicted), max_size=len(predicted)))
        frames.append(frame(predicted, truth, ious))
    return frames


PERFECT = [frame([7, 9], [1, 2], [[1, 0], [0, 1]])] * 4
# One object over four frames; another masklet takes over in the middle.
HANDED_OVER = [frame([5], [1], [[1.0]])] * 2 + [frame([6], [1], [[1.0]])] * 2


def test_hota_of_a_perfect_sequence_is_one() -> None:
    scores = hota_scores(hota_sums(PERFECT))
    assert (scores.hota, scores.det_a, scores.ass_a, scores.loc_a) == (1.0, 1.0, 1.0, 1.0)


def test_hota_of_an_identity_handed_over_halfway() -> None:
    scores = hota_scores(hota_sums(HANDED_OVER))
    # Each hit belongs to a pair that shares 2 of 4 frames: AssA = 2 / 4, recall 1/2, precision 1.
    assert (scores.det_a, scores.ass_a) == (1.0, pytest.approx(0.5))
    assert (scores.ass_re, scores.ass_pr) == (pytest.approx(0.5), pytest.approx(1.0))
    assert scores.hota == pytest.approx(0.5**0.5)


def test_hota_counts_a_threshold_that_is_met_exactly() -> None:
    scores = hota_scores(hota_sums([frame([1], [1], [[0.5]])]))
    assert scores.det_a == pytest.approx(10 / 19)  # .05 to .50 of the 19 thresholds


def test_hota_of_one_side_alone_is_zero_and_well_localised() -> None:
    for lonely in (frame([1], [], []), frame([], [1], [])):
        scores = hota_scores(hota_sums([lonely]))
        assert (scores.hota, scores.loc_a) == (0.0, 1.0)


@settings(deadline=None, max_examples=60)
@given(sequences(), sequences())
def test_hota_stays_in_bounds_and_adds_up(one: list[FrameOverlap], two: list[FrameOverlap]) -> None:
    sums = [hota_sums(one), hota_sums(two)]
    scores = hota_scores(HotaSums.total(sums))
    assert 0 <= scores.hota <= 1 + 1e-12
    assert scores.det_a <= min(scores.det_re, scores.det_pr) + 1e-12
    renamed = [frame([9 - n for n in f.predicted], list(f.truth), f.ious.tolist()) for f in one]
    assert hota_scores(hota_sums(renamed)).det_a == pytest.approx(hota_scores(sums[0]).det_a)
    total = HotaSums.total([*sums, HotaSums.total([])])
    np.testing.assert_allclose(total.hits, sums[0].hits + sums[1].hits)


def test_identities_of_a_hand_over() -> None:
    counts = identity_counts(HANDED_OVER)
    assert (counts.hits, counts.switches) == (4, 1)
    # One masklet may stand for the object: two of its four masks, and two of all four masks.
    assert (counts.id_hits, counts.id_missed, counts.id_false) == (2, 2, 2)
    assert (counts.idf1, counts.mota) == (0.5, 0.75)


def test_identity_is_kept_while_the_pair_of_the_frame_before_still_fits() -> None:
    frames = [frame([1, 2], [1], [[0.9], [0.6]]), frame([1, 2], [1], [[0.6], [0.9]])]
    assert identity_counts(frames).switches == 0


@settings(deadline=None, max_examples=60)
@given(st.lists(sequences(), max_size=3))
def test_identity_counts_balance(clips: list[list[FrameOverlap]]) -> None:
    counts = IdentityCounts.total(map(identity_counts, clips))
    num_truth = sum(len(f.truth) for clip in clips for f in clip)
    assert counts.hits + counts.missed == counts.id_hits + counts.id_missed == num_truth
    assert counts.hits + counts.false == counts.id_hits + counts.id_false
    assert 0 <= counts.idf1 <= 1


def clip(frames: list[FrameOverlap], predicted: dict[int, int], truth: dict[int, int]):
    return CategoryClip(frames=frames, predicted_categories=predicted, truth_categories=truth)


def test_teta_of_a_perfect_clip_is_one() -> None:
    scores = teta_scores([clip(PERFECT, {7: 4, 9: 5}, {1: 4, 2: 5})], [4, 5])
    assert scores is not None
    assert (scores.teta, scores.loc_a, scores.assoc_a, scores.cls_a) == (1.0, 1.0, 1.0, 1.0)


def test_teta_of_a_wrong_category_costs_classification_alone() -> None:
    # Both are found and followed; the second is taken for the first's category.
    scores = teta_scores([clip(PERFECT, {7: 4, 9: 4}, {1: 4, 2: 5})], [4, 5])
    assert scores is not None
    assert (scores.loc_a, scores.assoc_a) == (1.0, 1.0)
    # Category 4 has 4 right; 9's four masks are charged to it as there is no cluster of it for
    # them, and again as wrong answers about 5: 4 / (4 + 8). Category 5 has none right.
    assert scores.cls_a == pytest.approx((4 / 12 + 0) / 2)


def test_teta_counts_frames_with_truth_only() -> None:
    idle = frame([7, 9], [], [])
    assert teta_scores([clip([*PERFECT, idle], {7: 4, 9: 5}, {1: 4, 2: 5})], [4, 5]) == teta_scores(
        [clip(PERFECT, {7: 4, 9: 5}, {1: 4, 2: 5})], [4, 5]
    )
    assert teta_scores([clip([idle], {7: 4, 9: 5}, {})], [4, 5]) is None


def test_teta_of_a_clip_without_predictions_is_zero() -> None:
    scores = teta_scores([clip([frame([], [1], [])], {}, {1: 4})], [4])
    assert scores is not None
    assert (scores.teta, scores.loc_re) == (0.0, 0.0)


def test_average_precision_of_a_hand_computed_ranking() -> None:
    # Ranked: hit, false, hit. Precision at recall to 1/2 is 1, beyond it 2/3.
    scores = average_precision(
        [
            RankedAnswer(scores=[0.9, 0.8], ious=np.array([[1.0], [0.0]]), is_crowd=[False]),
            RankedAnswer(scores=[0.7], ious=np.array([[1.0]]), is_crowd=[False]),
        ]
    )
    assert scores is not None
    assert scores.ap == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_average_precision_neither_asks_for_crowds_nor_for_nothing() -> None:
    crowd = RankedAnswer(scores=[0.9], ious=np.array([[0.96]]), is_crowd=[True])
    thing = RankedAnswer(scores=[0.5], ious=np.array([[1.0]]), is_crowd=[False])
    assert average_precision([crowd]) is None
    assert average_precision([]) is None
    scores = average_precision([crowd, thing])
    assert scores is not None
    assert scores.ap == pytest.approx(1.0)


def test_average_precision_by_size_looks_at_objects_of_that_size_only() -> None:
    # Surest first: a small false one, the large object found, the small one missed.
    answer = RankedAnswer(
        scores=[0.9, 0.8],
        ious=np.array([[0.0, 0.0], [1.0, 0.0]]),
        is_crowd=[False, False],
        areas=[20.0, 400.0],
        truth_areas=[400.0, 25.0],
    )
    large = average_precision([answer], area_range=(100, 1000))
    small = average_precision([answer], area_range=(0, 99))
    assert large is not None
    assert small is not None
    assert (large.ap, small.ap) == pytest.approx((1.0, 0.0))
    assert average_precision([answer], area_range=(1001, 2000)) is None
    with pytest.raises(ValueError, match="areas of"):
        RankedAnswer(scores=[0.9], ious=np.zeros((1, 0)), is_crowd=[], areas=[1.0, 2.0])


def test_most_favourable_annotator_wins() -> None:
    worse, better = score_question(np.array([[0.6]])), score_question(np.array([[0.9]]))
    alarm = QuestionScore(num_truth=0, num_predicted=1, true_positives=(0,) * 10)
    silence = QuestionScore(num_truth=0, num_predicted=0, true_positives=(0,) * 10)
    assert most_favourable([worse, better, alarm]) is better
    assert most_favourable([better, worse]) is better
    missed = QuestionScore(num_truth=2, num_predicted=0, true_positives=(0,) * 10)
    assert most_favourable([missed, silence]) is silence
    assert most_favourable([silence, missed]) is silence
