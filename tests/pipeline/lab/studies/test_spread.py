import numpy as np
import pytest
from scipy import stats

from pipeline.lab.studies.spread import compare_seeds, compare_steps, mean_and_deviation
from tests.pipeline.lab.studies.makers import make_result

BEFORE, AFTER = {0: 0.40, 1: 0.50, 2: 0.42}, {0: 0.47, 1: 0.54, 2: 0.53}
TOY = make_result({"old": BEFORE, "new": AFTER, "none": {0: None, 1: None}})


def test_spread_is_that_of_a_sample() -> None:
    assert mean_and_deviation({0: 1.0, 1: 3.0}) == pytest.approx((2.0, 2**0.5))
    assert mean_and_deviation({5: 1.0}) == (1.0, None)
    assert mean_and_deviation({}) is None


def test_paired_step_has_the_t_interval_of_the_differences() -> None:
    found = compare_seeds(TOY, "cgF1", baseline="old", setting="new")
    assert found is not None
    differences = np.array([0.07, 0.04, 0.11])
    half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / 3**0.5
    assert found.difference == pytest.approx(differences.mean())
    assert (found.low, found.high) == pytest.approx(
        (differences.mean() - half, differences.mean() + half)
    )
    t_value = differences.mean() / (differences.std(ddof=1) / 3**0.5)
    assert found.p_value == pytest.approx(2 * stats.t.sf(t_value, 2))
    assert found.method == "paired t-test over 3 seeds"


def test_step_between_other_pictures_is_tested_as_two_samples() -> None:
    found = compare_seeds(TOY, "cgF1", baseline="old", setting="new", is_paired=False)
    assert found is not None
    old, new = np.array(list(BEFORE.values())), np.array(list(AFTER.values()))
    error = (old.var(ddof=1) / 3 + new.var(ddof=1) / 3) ** 0.5
    freedom = error**4 / ((old.var(ddof=1) / 3) ** 2 / 2 + (new.var(ddof=1) / 3) ** 2 / 2)
    t_value = (new.mean() - old.mean()) / error
    assert found.p_value == pytest.approx(2 * stats.t.sf(t_value, freedom))
    assert found.method == "Welch t-test over 3 seeds"


def test_only_seeds_with_both_values_are_paired() -> None:
    toy = make_result({"old": {0: 0.1, 1: 0.2, 2: None}, "new": {1: 0.5, 2: 0.9}})
    found = compare_seeds(toy, "cgF1", baseline="old", setting="new")
    assert found is not None
    assert found.difference == pytest.approx(0.3)
    assert (found.low, found.high, found.p_value) == (None, None, None)


@pytest.mark.parametrize("is_paired", [True, False])
def test_nothing_is_claimed_without_spread_or_without_values(is_paired) -> None:
    zeros = make_result({"old": dict.fromkeys(range(3), 0.0), "new": dict.fromkeys(range(3), 0.0)})
    found = compare_seeds(zeros, "cgF1", baseline="old", setting="new", is_paired=is_paired)
    assert found is not None
    assert (found.difference, found.low, found.p_value) == (0.0, None, None)
    steps = [("old", "none"), ("old", "new")]
    assert len(compare_steps(TOY, "cgF1", steps, is_paired=is_paired)) == 1
