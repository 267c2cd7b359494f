"""When a masklet is let go."""

import pytest

from models.sam3.config import TrackerConfig
from models.sam3.masklet import LifeRules, Masklet
from models.sam3.tracker.memory_bank import MemoryBank

RULES = LifeRules(probation_s=1.5, unmatched_s=0.8, duplicate_s=0.8, expiry_s=4.0)


def make_masklet(born_s=10.0):
    return Masklet(
        masklet_id=5,
        concept=0,
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
