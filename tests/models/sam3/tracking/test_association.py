"""Matching detections with masklets: known cases, and what must hold for any overlaps."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.sam3.tracking.association import (
    AssociationRules,
    associate,
    suppress_recently_occluded,
)

RULES = AssociationRules()
NEVER = -np.inf
quick = settings(max_examples=100, deadline=None)
share = st.floats(0, 1, width=32)


def plan(iou, scores, is_visible=None):
    table = np.array(iou, dtype=np.float32)
    visible = np.ones(table.shape[1], dtype=bool) if is_visible is None else np.array(is_visible)
    return associate(table, np.array(scores, dtype=np.float32), visible, RULES)


@st.composite
def overlaps(draw):
    """Any overlap of D detections with T masklets, scores, and which masklets are visible."""
    num_detections, num_masklets = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    return (
        draw(arrays(np.float32, (num_detections, num_masklets), elements=share)),
        draw(arrays(np.float32, num_detections, elements=share)),
        draw(arrays(np.bool_, num_masklets)),
    )


def test_close_detection_matches_and_far_one_begins():
    result = plan([[0.9], [0.0]], [0.75, 0.8])
    assert result.best_detection.tolist() == [0]
    assert result.new == (1,)
    assert not result.is_unmatched.any()


def test_detection_between_thresholds_neither_matches_nor_begins():
    result = plan([[0.3]], [0.9])
    assert (result.new, result.best_detection.tolist()) == ((), [-1])
    assert result.supports.all()
    assert result.is_unmatched.all()


def test_weak_detection_begins_nothing_beside_a_masklet():
    assert plan([[0.0]], [0.6]).new == ()


def test_every_detection_begins_where_nothing_is_tracked():
    assert plan(np.zeros((3, 0)), [0.5, 0.9, 0.7]).new == (1, 2, 0)


def test_the_first_of_a_concept_may_have_to_be_sure():
    nothing = np.zeros((3, 0), dtype=np.float32)
    scores, visible = np.array([0.6, 0.9, 0.65]), np.zeros(0, dtype=bool)
    result = associate(nothing, scores, visible, AssociationRules(first_score=0.65))
    assert result.new == (1, 2)


def test_hidden_masklet_is_not_unmatched():
    for table in ([[0.0, 0.0]], np.zeros((0, 2))):
        result = plan(table, [0.9] * len(table), is_visible=[True, False])
        assert result.is_unmatched.tolist() == [True, False]


def test_only_sure_and_close_detection_reconditions():
    assert plan([[0.9]], [0.9]).recondition.tolist() == [0]
    assert plan([[0.9]], [0.79]).recondition.tolist() == [-1]
    assert plan([[0.79]], [0.9]).recondition.tolist() == [-1]


def test_best_of_two_detections_reconditions():
    assert plan([[0.85], [0.95]], [0.95, 0.85]).recondition.tolist() == [0]


@given(overlaps())
@quick
def test_new_detections_support_nothing_and_fall_in_score(case):
    iou, scores, is_visible = case
    result = associate(iou, scores, is_visible, RULES)
    new = list(result.new)
    assert len(set(new)) == len(new)
    assert list(scores[new]) == sorted(scores[new], reverse=True)
    assert not result.supports[new].any()
    assert not np.isin(new, result.best_detection).any()


@given(overlaps())
@quick
def test_detection_reconditions_at_most_one_masklet(case):
    iou, scores, is_visible = case
    result = associate(iou, scores, is_visible, RULES)
    masklets = np.flatnonzero(result.recondition >= 0)
    chosen = result.recondition[masklets]
    assert len(set(chosen.tolist())) == len(chosen)
    assert (iou[chosen, masklets] >= RULES.recondition_iou).all()
    assert (scores[chosen] >= RULES.recondition_score).all()


@given(overlaps(), share)
@quick
def test_trusted_detections_go_to_one_masklet_each(case, trust_iou):
    iou, scores, is_visible = case
    result = associate(iou, scores, is_visible, AssociationRules(trust_iou=trust_iou))
    masklets = np.flatnonzero(result.trusted >= 0)
    chosen = result.trusted[masklets]
    assert len(set(chosen.tolist())) == len(chosen)
    assert (iou[chosen, masklets] >= trust_iou).all()


def test_nothing_is_trusted_as_published():
    assert plan([[1.0]], [1.0]).trusted.tolist() == [-1]


def test_trust_follows_the_largest_total_overlap():
    table = np.array([[0.9, 0.8], [0.8, 0.1]], dtype=np.float32)
    rules = AssociationRules(trust_iou=0.5)
    both = associate(table, np.ones(2, np.float32), np.ones(2, bool), rules)
    assert both.trusted.tolist() == [1, 0]


@given(overlaps())
@quick
def test_visible_masklet_is_either_matched_or_unmatched(case):
    iou, scores, is_visible = case
    result = associate(iou, scores, is_visible, RULES)
    is_matched = result.best_detection >= 0
    assert not (is_matched & result.is_unmatched).any()
    assert ((is_matched | result.is_unmatched) >= is_visible).all()


def test_of_two_on_one_place_the_later_hidden_hides():
    same = np.ones((2, 2))
    assert suppress_recently_occluded(same, np.array([1.0, 3.0]), 0.7).tolist() == [False, True]
    assert suppress_recently_occluded(same, np.array([1.0, NEVER]), 0.7).tolist() == [True, False]


def test_masklets_apart_or_never_hidden_stay():
    apart, same = np.eye(2), np.ones((2, 2))
    assert not suppress_recently_occluded(apart, np.array([1.0, 3.0]), 0.7).any()
    assert not suppress_recently_occluded(same, np.array([NEVER, NEVER]), 0.7).any()
