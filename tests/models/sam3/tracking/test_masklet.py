"""When a masklet ends."""

import pytest

from models.sam2.config import TrackerConfig
from models.sam2.memory_bank import MemoryBank
from models.sam3.tracking.masklet import Masklet, Place, nearest_hidden, pair_sought
from models.sam3.tracking.options import LifeRules

RULES = LifeRules(probation_s=1.5, unmatched_s=0.8, duplicate_s=0.8, expiry_s=4.0)


def make_masklet(born_s=10.0):
    return Masklet(
        masklet_id=5,
        concept_id="deer",
        bank=MemoryBank(TrackerConfig(hidden_dim=4, memory_dim=2)),
        score=0.5,
        first_seen_s=born_s,
        last_seen_s=born_s,
        last_matched_s=born_s,
        last_conditioned_s=born_s,
    )


@pytest.mark.parametrize(("now_s", "is_young"), [(10.0, True), (11.49, True), (11.5, False)])
def test_probation_lasts_its_time(now_s, is_young):
    assert make_masklet().is_on_probation(now_s, RULES) is is_young


@pytest.mark.parametrize(("unmatched_s", "ends"), [(0.7, False), (0.8, True)])
def test_unmatched_masklet_ends_on_probation(unmatched_s, ends):
    masklet = make_masklet()
    masklet.on_unmatched(unmatched_s / 2)
    masklet.on_unmatched(unmatched_s / 2)
    assert masklet.should_end(11.0, RULES) is ends


def test_match_does_not_take_back_unmatched_time():
    masklet = make_masklet()
    masklet.on_unmatched(0.5)
    masklet.on_matched(10.6, 0.9)
    masklet.on_unmatched(0.5)
    assert masklet.should_end(11.1, RULES)


def test_unmatched_masklet_stays_after_probation():
    masklet = make_masklet()
    masklet.on_unmatched(3.0)
    assert not masklet.should_end(13.0, RULES)


def test_duplicate_of_one_older_masklet_ends_on_probation():
    masklet = make_masklet()
    masklet.on_shared(1, 0.5)
    masklet.on_shared(2, 0.5)
    assert not masklet.should_end(11.0, RULES)
    masklet.on_shared(1, 0.5)
    assert masklet.should_end(11.0, RULES)


def test_sharing_is_forgotten_after_probation():
    masklet = make_masklet()
    for older in range(4):
        masklet.on_shared(older, 5.0)
    assert not masklet.should_end(12.0, RULES)
    assert masklet.shared_s == {}


@pytest.mark.parametrize(("now_s", "ends"), [(14.0, False), (14.1, True)])
def test_masklet_expires_without_matches(now_s, ends):
    assert make_masklet().should_end(now_s, RULES) is ends


def test_match_puts_expiry_off_and_sets_the_score():
    masklet = make_masklet()
    masklet.on_matched(13.0, 0.9)
    assert not masklet.should_end(17.0, RULES)
    assert masklet.should_end(17.1, RULES)
    assert masklet.score == 0.9


def test_place_expects_an_object_further_on():
    place = Place(x=0.2, y=0.5, time_s=0.0)
    for step in range(1, 30):
        place = place.moved_to(0.2 + 0.01 * step, 0.5, 0.1 * step)
    assert place.speed_x == pytest.approx(0.1, rel=0.01)
    assert place.expected(place.time_s + 1.0) == pytest.approx((place.x + 0.1, 0.5), abs=0.01)


def test_place_is_not_expected_ever_further():
    place = Place(x=0.5, y=0.5, time_s=0.0, speed_x=0.1)
    assert place.expected(60.0) == pytest.approx((0.7, 0.5))


def test_masklet_that_should_have_left_is_not_revived():
    leaving = make_masklet()
    leaving.on_seen(0.8, 0.5, 10.0)
    leaving.on_seen(0.9, 0.5, 10.1)
    assert nearest_hidden([leaving], x=0.9, y=0.5, now_s=11.0, reach=1.0) is None


@pytest.mark.parametrize(
    ("x", "reach", "expected"), [(0.3, 0.2, 0), (0.72, 0.2, 1), (0.5, 0.1, None)]
)
def test_nearest_hidden_masklet_is_found_within_reach(x, reach, expected):
    hidden = [make_masklet(), make_masklet(), make_masklet()]
    hidden[0].on_seen(0.25, 0.5, 10.0)
    hidden[1].on_seen(0.75, 0.5, 10.0)
    assert nearest_hidden(hidden, x=x, y=0.5, now_s=10.5, reach=reach) == expected


def make_sought(*places):
    sought = [make_masklet() for _ in places]
    for masklet, (x, y) in zip(sought, places, strict=True):
        masklet.on_seen(x, y, 10.0)
    return sought


def test_sought_masklets_are_paired_all_at_once():
    sought = make_sought((0.5, 0.5), (0.3, 0.5))
    # The first point is nearest to the first masklet, which the second point needs more.
    assert pair_sought(sought, [(0.45, 0.5), (0.9, 0.5)], now_s=10.5) == {0: 1, 1: 0}
    assert pair_sought(sought, [(0.45, 0.5)], now_s=10.5) == {0: 0}
    assert pair_sought(sought, [(0.45, 0.5), (0.3, 0.4), (0.4, 0.4)], now_s=10.5) == {0: 0, 1: 1}


@pytest.mark.parametrize(("x", "pairs"), [(0.59, {0: 0}), (0.61, {})])
def test_sought_masklet_is_found_within_reach_only(x, pairs):
    assert pair_sought(make_sought((0.1, 0.5)), [(x, 0.5)], now_s=10.5) == pairs


def test_one_more_pair_is_worth_any_way_within_reach():
    sought = make_sought((0.3, 0.5), (0.3, 0.9))
    assert pair_sought(sought, [(0.3, 0.6), (0.3, 0.1)], now_s=10.5) == {0: 1, 1: 0}


def test_sought_masklet_is_due_further_on_but_on_the_picture():
    (leaving,) = make_sought((0.8, 0.5))
    leaving.on_seen(0.9, 0.5, 10.1)
    assert leaving.place.expected(11.1)[0] == pytest.approx(1.2)
    assert pair_sought([leaving], [(0.95, 0.98)], now_s=11.1) == {0: 0}
    assert pair_sought([leaving], [(1.0, 1.02)], now_s=11.1) == {}
    assert pair_sought([leaving], [(0.41, 0.5)], now_s=11.1) == {0: 0}
    assert pair_sought([leaving], [(0.39, 0.5)], now_s=11.1) == {}


def test_sought_masklet_may_have_stopped_or_turned_on_its_way():
    going, other = make_sought((0.1, 0.5), (0.15, 0.5))
    going.on_seen(0.2, 0.5, 10.1)
    assert going.place.expected(12.2)[0] == pytest.approx(0.8)
    # It is 0.6 from where it is due, and 0.05 from where it went by.
    assert pair_sought([going], [(0.2, 0.55)], now_s=12.2) == {0: 0}
    assert pair_sought([going, other], [(0.6, 0.55), (0.1, 0.55)], now_s=12.2) == {0: 0, 1: 1}


def test_sought_masklet_without_a_place_is_not_found():
    (placed,) = make_sought((0.5, 0.5))
    assert pair_sought([make_masklet(), placed], [(0.5, 0.5), (0.6, 0.5)], now_s=10.5) == {0: 1}
    assert pair_sought([make_masklet()], [(0.5, 0.5)], now_s=10.5) == {}
    assert pair_sought([placed], [], now_s=10.5) == {}


def test_time_without_frames_counts_for_nothing():
    masklet = make_masklet()
    masklet.on_missed(3.0)
    assert (masklet.last_matched_s, masklet.last_conditioned_s) == (13.0, 13.0)
    assert (masklet.first_seen_s, masklet.last_seen_s) == (10.0, 10.0)
    assert not masklet.should_end(17.0, RULES)


def test_sought_masklet_that_is_matched_is_sought_no_more():
    masklet = make_masklet()
    masklet.is_sought = True
    masklet.on_matched(11.0, 0.9)
    assert not masklet.is_sought
