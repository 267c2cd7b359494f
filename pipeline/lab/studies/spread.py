"""Spread and comparison of settings over held-out seeds."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy import stats

from pipeline.lab.metrics.overlap import Floats
from pipeline.lab.studies.study import Comparison, StudyResult, Unit

CONFIDENCE = 0.95
_NO_SPREAD = 1e-12
_Verdict = tuple[tuple[float, float] | None, float | None]


def mean_and_deviation(values: Mapping[int, float]) -> tuple[float, float | None] | None:
    """Return mean and sample standard deviation over seeds.

    ``None`` if there is no value; the deviation is ``None`` if there is one only.
    """
    if not values:
        return None
    numbers = np.array(list(values.values()), dtype=np.float64)
    return float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else None


def compare_seeds(
    result: StudyResult, measure: str, *, baseline: str, setting: str, is_paired: bool = True
) -> Comparison | None:
    """Compare two settings over the seeds: t-test, and the t-interval of the difference.

    Args:
        result: Where the values stand.
        measure: Which one.
        baseline: Setting before.
        setting: Setting after.
        is_paired: Whether both settings have a seed's pictures or clips in common; the test is a
            paired one over the seeds that have both values then, and Welch's if not.

    Returns:
        ``None`` if nothing can be compared. Interval and p are missing where there are too few
        seeds, or no spread.
    """
    before, after = result.values(baseline, measure), result.values(setting, measure)
    if is_paired:
        shared = before.keys() & after.keys()
        before, after = ({seed: one[seed] for seed in sorted(shared)} for one in (before, after))
    if not before or not after:
        return None
    old, new = np.array(list(before.values())), np.array(list(after.values()))
    interval, p_value = _test_paired(old, new) if is_paired else _test_apart(old, new)
    return Comparison(
        measure=measure,
        baseline=baseline,
        setting=setting,
        difference=float(new.mean() - old.mean()),
        low=None if interval is None else interval[0],
        high=None if interval is None else interval[1],
        p_value=p_value,
        method=f"{'paired' if is_paired else 'Welch'} t-test over {_seeds(before, after)}",
        unit=next((one.unit for one in result.measures if one.name == measure), Unit.PERCENT),
    )


def compare_steps(
    result: StudyResult, measure: str, steps: Iterable[tuple[str, str]], *, is_paired: bool = True
) -> tuple[Comparison, ...]:
    """Return :func:`compare_seeds` of each step (baseline, setting) that can be compared."""
    found = [
        compare_seeds(result, measure, baseline=before, setting=after, is_paired=is_paired)
        for before, after in steps
    ]
    return tuple(one for one in found if one is not None)


def _seeds(before: Mapping[int, float], after: Mapping[int, float]) -> str:
    counts = sorted({len(before), len(after)})
    return f"{' and '.join(map(str, counts))} seed{'' if counts == [1] else 's'}"


def _test_paired(old: Floats, new: Floats) -> _Verdict:
    if len(old) < 2 or np.ptp(new - old) < _NO_SPREAD:
        return None, None
    return _told(stats.ttest_rel(new, old))


def _test_apart(old: Floats, new: Floats) -> _Verdict:
    if min(len(old), len(new)) < 2 or max(np.ptp(old), np.ptp(new)) < _NO_SPREAD:
        return None, None
    return _told(stats.ttest_ind(new, old, equal_var=False))


def _told(test: Any) -> _Verdict:  # noqa: ANN401 - scipy's results are untyped
    interval = test.confidence_interval(CONFIDENCE)
    return (float(interval.low), float(interval.high)), float(test.pvalue)
