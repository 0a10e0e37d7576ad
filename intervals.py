"""Bootstrap intervals over items, which every report uses. Pure; seeded; imports no folder."""

import warnings
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from scipy import stats

from .records import seed_of

RESAMPLES = 2000
LEVEL = 0.95


class Interval(TypedDict):
    """A mean over items with its bootstrap interval; `low` and `high` are None for fewer than two items."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


def mean_interval(values: Sequence[float], *purpose: str) -> Interval:
    """Return the mean of `values` with a 95 % percentile bootstrap interval over items.

    Args:
        values: One per item.
        purpose: Names the resampling, so that equal data give equal intervals.

    A proportion of 0 or 1 bootstraps to itself; its interval is Wilson's instead, which is never of width 0.
    """
    data = np.asarray(values, dtype=float)
    if data.size == 0:
        return {"mean": None, "low": None, "high": None, "n": 0}
    mean = float(data.mean())
    if data.size == 1:
        return {"mean": mean, "low": None, "high": None, "n": 1}
    if np.all(data == data[0]):
        if mean in (0.0, 1.0):
            wilson = stats.binomtest(int(mean * data.size), data.size).proportion_ci(LEVEL, "wilson")
            return _interval(mean, float(wilson.low), float(wilson.high), data.size)
        return _interval(mean, mean, mean, data.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (data,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method="percentile", vectorized=True,
            rng=np.random.default_rng(seed_of(0, "bootstrap", *purpose)),
        ).confidence_interval  # fmt: skip
    return _interval(mean, float(found.low), float(found.high), data.size)


def paired_interval(ours: Sequence[float], theirs: Sequence[float], *purpose: str) -> Interval:
    """Return the mean of the items' differences, ours minus theirs, with its bootstrap interval."""
    differences = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    if differences.size and np.all(differences == 0):
        return _interval(0.0, 0.0, 0.0, differences.size)
    return mean_interval(list(differences), *purpose)


def excludes_zero(interval: Interval) -> bool:
    """Return whether the interval lies on one side of 0."""
    low, high = interval["low"], interval["high"]
    return low is not None and high is not None and (low > 0 or high < 0)


def _interval(mean: float, low: float, high: float, n: int) -> Interval:
    return {"mean": round(mean, 6), "low": round(low, 6), "high": round(high, 6), "n": int(n)}
