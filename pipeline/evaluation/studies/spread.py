"""Spread and comparison of settings over held-out seeds."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from scipy import stats

from pipeline.evaluation.studies.study import Comparison, StudyResult, Unit

CONFIDENCE = 0.95


def mean_and_deviation(values: Mapping[int, float]) -> tuple[float, float | None] | None:
    """Return mean and sample standard deviation over seeds.

    ``None`` if there is no value; the deviation is ``None`` if there is one only.
    """
    if not values:
        return None
    numbers = np.array(list(values.values()), dtype=np.float64)
    return float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else None


def compare_seeds(
    result: StudyResult, measure: str, *, baseline: str, setting: str
) -> Comparison | None:
    """Compare two settings seed by seed: paired t-test, and the t-interval of the difference.

    Returns ``None`` if no seed has both values. Interval and p are missing with one seed, and
    where all differences are equal, as no spread can be told then.
    """
    before, after = result.values(baseline, measure), result.values(setting, measure)
    shared = sorted(before.keys() & after.keys())
    if not shared:
        return None
    old = np.array([before[seed] for seed in shared])
    new = np.array([after[seed] for seed in shared])
    low = high = p_value = None
    if len(shared) > 1 and np.ptp(new - old) > 1e-12:
        test = cast("Any", stats.ttest_rel(new, old))
        interval = test.confidence_interval(CONFIDENCE)
        low, high, p_value = float(interval.low), float(interval.high), float(test.pvalue)
    unit = next((m.unit for m in result.measures if m.name == measure), Unit.PERCENT)
    return Comparison(
        measure=measure,
        baseline=baseline,
        setting=setting,
        difference=float((new - old).mean()),
        low=low,
        high=high,
        p_value=p_value,
        method=f"paired t-test over {len(shared)} seeds",
        unit=unit,
    )
