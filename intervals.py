"""95 % intervals that hold at their number of units; every report takes its intervals from here.

Pure and seeded; imports no folder. What holds where is measured by `benchmarks/interval_coverage.py`
and drawn in docs/intervals.md:

- shares of right and wrong: Clopper and Pearson (1934), exact, so at least 95 % at any n;
- paired differences of right and wrong: Tango's score interval (Stat. Med. 17, 1998), widened where
  McNemar's exact test finds no difference;
- other means: Student's t, widened by a studentised bootstrap (Efron 1979; Hall, Ann. Stat. 16, 1988)
  and, where all values have one sign, by Cox's interval for a lognormal mean (Land, Technometrics
  1972; with Student's t, Olsson, J. Stat. Educ. 13, 2005). Percentile bootstraps hold in 72 to 81 %
  of lognormal samples of 6 to 10, Student's t alone in 80 to 84 %.

Below `FEWEST` units no interval is called sure, whatever it excludes.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TypedDict

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from .records import seed_of

RESAMPLES = 2000
LEVEL = 0.95
FEWEST = 6
"""Units below which nothing is said to beat or to lose: five of five has p .0625 in a sign test."""
MOST_RESAMPLED = 5000
"""Units above which Student's t is left alone: a bootstrap would only repeat it."""

Floats = npt.NDArray[np.float64]
Support = tuple[float, float]
"""The least and the greatest value that a unit can have."""
SHARE: Support = (0.0, 1.0)
"""Of accuracies and scores."""


class Interval(TypedDict):
    """A mean over `n` units with its 95 % interval; `low` and `high` are None where none can be given."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


def share_interval(successes: int, n: int) -> Interval:
    """Return a share with the exact interval of Clopper and Pearson; no interval for fewer than two units."""
    if n == 0:
        return {"mean": None, "low": None, "high": None, "n": 0}
    if n == 1:
        return {"mean": float(successes), "low": None, "high": None, "n": 1}
    exact = stats.binomtest(successes, n).proportion_ci(LEVEL, "exact")
    return _interval(successes / n, float(exact.low), float(exact.high), n)


def mean_interval(values: Sequence[float], *purpose: str, support: Support | None = None) -> Interval:
    """Return the mean of `values` with its interval.

    Args:
        values: One per unit (item, search, sequence); where all are 0 or 1, a share.
        purpose: Names the resampling, so that equal data give equal intervals.
        support: The least and the greatest value that a unit can have, where there are such: `SHARE`
            for accuracies. Ends beyond it are cut off, and equal values get an interval.

    Returns:
        No interval (None) for fewer than two units, and for equal values without a support: nothing
        in them says how far apart others would be.

    Raises:
        ValueError: a value is not finite.
    """
    data = _finite(values)
    if data.size > 1 and np.isin(data, (0, 1)).all():
        return share_interval(int(data.sum()), data.size)
    return _mean_of(data, purpose, support)


def paired_interval(ours: Sequence[float], theirs: Sequence[float], *purpose: str) -> Interval:
    """Return the mean of the units' differences, ours minus theirs, with its interval."""
    one, other = _finite(ours), _finite(theirs)
    in_shares = all(np.all((side >= 0) & (side <= 1)) for side in (one, other))
    return difference_interval(one - other, *purpose, support=(-1.0, 1.0) if in_shares else None)


def difference_interval(
    differences: Sequence[float] | Floats, *purpose: str, support: Support | None = None
) -> Interval:
    """Return the mean of paired differences with its interval; see `mean_interval` for the arguments.

    With the support (-1, 1), differences that are all -1, 0 or 1 are those of right and wrong.
    """
    data = _finite(differences)
    if data.size > 1 and support == (-1.0, 1.0) and np.isin(data, (-1, 0, 1)).all():
        wins, losses = int((data > 0).sum()), int((data < 0).sum())
        low, high = discordant_ends(wins, losses, data.size)
        return _interval(float(data.mean()), low, high, data.size)
    return _mean_of(data, purpose, support)


def excludes_zero(interval: Interval) -> bool:
    """Return whether the interval lies on one side of 0 and rests on `FEWEST` units or more."""
    low, high = interval["low"], interval["high"]
    return interval["n"] >= FEWEST and low is not None and high is not None and (low > 0 or high < 0)


def too_few(interval: Interval) -> bool:
    """Return whether the interval rests on fewer units than anything is said of."""
    return interval["n"] < FEWEST


@lru_cache(maxsize=4096)
def discordant_ends(wins: int, losses: int, n: int) -> tuple[float, float]:
    """Return both ends for (wins - losses) / n of paired right and wrong answers.

    Tango's interval holds the differences that a score test does not refuse, the share of discordant
    pairs at its most likely value for each. At few discordant pairs that test refuses 0 more readily
    than McNemar's exact one, so the interval also holds the exact test's, at the share seen.
    """
    quantile = float(stats.norm.ppf((1 + LEVEL) / 2))
    mean = (wins - losses) / n
    inside = 1 - 1e-9

    def beyond(difference: float, sign: int) -> float:
        return sign * _tango(wins, losses, n, difference) - quantile

    low, high = -1.0, 1.0
    if beyond(-inside, 1) > 0:
        low = optimize.brentq(beyond, -inside, min(mean, inside), args=(1,))
    if beyond(inside, -1) > 0:
        high = optimize.brentq(beyond, max(mean, -inside), inside, args=(-1,))
    if discordant := wins + losses:
        won = stats.binomtest(wins, discordant).proportion_ci(LEVEL, "exact")
        low = min(low, discordant / n * (2 * float(won.low) - 1))
        high = max(high, discordant / n * (2 * float(won.high) - 1))
    return float(low), float(high)


def _tango(wins: int, losses: int, n: int, difference: float) -> float:
    """Return the score statistic of `difference` (Tango 1998, equation 10)."""
    a = 2 * n
    b = -wins - losses + (2 * n - wins + losses) * difference
    c = -losses * difference * (1 - difference)
    lost = (np.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    spread = n * (2 * lost + difference * (1 - difference))
    lead = wins - losses - n * difference
    return float(lead / np.sqrt(max(spread, 1e-12)))


def _mean_of(data: Floats, purpose: Sequence[str], support: Support | None) -> Interval:
    """Return the interval of a mean of values of any kind."""
    if data.size == 0:
        return {"mean": None, "low": None, "high": None, "n": 0}
    mean, n = float(data.mean()), data.size
    if n == 1:
        return {"mean": mean, "low": None, "high": None, "n": 1}
    if np.ptp(data) == 0:
        return _of_equal(mean, n, support)
    ends = [_student(data)]
    if FEWEST <= n <= MOST_RESAMPLED:
        ends += _studentised(data, purpose)
    if n >= FEWEST and (data > 0).all():
        ends.append(_lognormal(data))
    elif n >= FEWEST and (data < 0).all():
        below, above = _lognormal(-data)
        ends.append((-above, -below))
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if support is not None:
        low, high = max(low, support[0]), min(high, support[1])
    return _interval(mean, low, high, n)


def _of_equal(mean: float, n: int, support: Support | None) -> Interval:
    """Return the interval of `n` equal values: values not seen have a share that n units would have missed.

    That share is at most 1 - .025^(1/n) with 97.5 % confidence on either side; it may all lie at an end
    of the support.
    """
    if support is None:
        return {"mean": round(mean, 6), "low": None, "high": None, "n": n}
    unseen = 1 - ((1 - LEVEL) / 2) ** (1 / n)
    low, high = mean - unseen * (mean - support[0]), mean + unseen * (support[1] - mean)
    return _interval(mean, low, high, n)


def _student(data: Floats) -> tuple[float, float]:
    half = stats.t.ppf((1 + LEVEL) / 2, data.size - 1) * data.std(ddof=1) / np.sqrt(data.size)
    return float(data.mean() - half), float(data.mean() + half)


def _studentised(data: Floats, purpose: Sequence[str]) -> list[tuple[float, float]]:
    """Return the studentised bootstrap's ends; [] where most resamples hold one value alone."""
    random = np.random.default_rng(seed_of(0, "bootstrap", *purpose))
    drawn = data[random.integers(0, data.size, (RESAMPLES, data.size))]
    spread = drawn.std(axis=1, ddof=1)
    usable = spread > 1e-9 * np.ptp(data)
    if usable.sum() < RESAMPLES / 2:
        return []
    ratio = (drawn.mean(axis=1)[usable] - data.mean()) / spread[usable]
    low, high = np.quantile(ratio, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    scale = data.std(ddof=1)
    return [(float(data.mean() - high * scale), float(data.mean() - low * scale))]


def _lognormal(data: Floats) -> tuple[float, float]:
    """Return Cox's ends for the mean of positive values, Student's t in place of the normal."""
    logs = np.log(data)
    n, variance = data.size, float(logs.var(ddof=1))
    spread = np.sqrt(variance / n + variance**2 / (2 * (n - 3)))  # n - 1 held 93.7 % at n = 6
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * spread
    centre = float(logs.mean()) + variance / 2
    return float(np.exp(centre - half)), float(np.exp(min(centre + half, 700.0)))  # 700: still finite


def _finite(values: Sequence[float] | Floats) -> Floats:
    data = np.asarray(values, dtype=float)
    if not np.isfinite(data).all():
        raise ValueError("an interval needs finite values; a failed evaluation is no value")
    return data


def _interval(mean: float, low: float, high: float, n: int) -> Interval:
    return {"mean": round(mean, 6), "low": round(low, 6), "high": round(high, 6), "n": int(n)}
