"""Intervals hold at their number of units: exactly where that can be counted, by samples elsewhere."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.intervals import (
    FEWEST,
    SHARE,
    _tango,
    difference_interval,
    discordant_ends,
    excludes_zero,
    mean_interval,
    paired_interval,
    share_interval,
)
from scipy import stats

ASKED = 0.93
SIZES = (6, 10, 30)


@pytest.mark.parametrize("n", [*SIZES, 100])
@pytest.mark.parametrize("rate", [0.5, 0.9, 0.99, 0.02])
def test_a_share_is_held_by_counting_every_outcome(n, rate):
    ends = [share_interval(right, n) for right in range(n + 1)]
    held = [one["low"] - 1e-6 <= rate <= one["high"] + 1e-6 for one in ends]
    assert stats.binom.pmf(range(n + 1), n, rate) @ held >= 0.95


def test_a_share_has_the_published_ends_of_clopper_and_pearson():
    interval = share_interval(9, 10)
    assert (interval["low"], interval["high"]) == pytest.approx((0.5550, 0.9975), abs=1e-4)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(
    ("wins", "losses"), [(0.1, 0.1), (0.15, 0.05), (0.2, 0.0), (0.02, 0.01), (0.3, 0.3), (0.7, 0.1)]
)
def test_a_paired_difference_is_held_by_counting_every_outcome(n, wins, losses):
    held = 0.0
    for won, lost in product(range(n + 1), repeat=2):
        if won + lost <= n:
            low, high = discordant_ends(won, lost, n)
            counts, chances = [won, lost, n - won - lost], [wins, losses, 1 - wins - losses]
            held += stats.multinomial.pmf(counts, n, chances) * (low - 1e-6 <= wins - losses <= high + 1e-6)
    assert held >= ASKED


def test_tangos_score_has_the_published_ends():
    """Airway hyper-responsiveness before and after: Fagerland, Lydersen, Laake, Stat. Med. 33, 2014."""
    for end, sign in ((-0.517, -1), (-0.026, 1)):
        assert abs(_tango(1, 7, 21, end)) == pytest.approx(1.96, abs=0.01)
        assert math.copysign(1, _tango(1, 7, 21, end)) == -sign


@given(wins=st.integers(0, 20), losses=st.integers(0, 20), ties=st.integers(0, 60))
def test_a_difference_is_sure_only_where_mcnemars_exact_test_is(wins, losses, ties):
    n = wins + losses + ties
    if n < 2:
        return
    interval = difference_interval([1.0] * wins + [-1.0] * losses + [0.0] * ties, support=(-1.0, 1.0))
    p = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert interval["low"] - 1e-6 <= (wins - losses) / n <= interval["high"] + 1e-6
    assert not (excludes_zero(interval) and p > 0.05)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(
    ("kind", "mean"), [("normal", 0.0), ("lognormal", math.exp(0.5)), ("negative", -math.exp(0.5))]
)
def test_a_mean_is_held(n, kind, mean):
    """The seed is fixed; all sizes and kinds are in benchmarks/interval_coverage.py."""
    random = np.random.default_rng(9)
    draw = {"normal": random.normal, "lognormal": random.lognormal, "negative": lambda *a: -random.lognormal(*a)}[kind]
    held = 0
    for _ in range(1000):
        interval = mean_interval(draw(0, 1, n), "coverage")
        held += interval["low"] <= mean <= interval["high"]
    assert held / 1000 >= ASKED


def test_equal_values_have_an_interval_only_within_a_support():
    assert mean_interval([0.5] * 8)["low"] is None
    interval = mean_interval([0.5] * 8, support=SHARE)
    assert interval["low"] < 0.5 < interval["high"]
    assert paired_interval([1] * 8, [1] * 8)["low"] == pytest.approx(-paired_interval([1] * 8, [1] * 8)["high"])
    assert paired_interval([1] * 8, [1] * 8)["high"] > 0.3


@pytest.mark.parametrize("n", range(2, FEWEST))
def test_nothing_is_sure_below_six_units(n):
    assert not excludes_zero(mean_interval([5.0 + at / 1000 for at in range(n)]))
    assert not excludes_zero(paired_interval([1] * n, [0] * n))


def test_six_of_six_is_sure_and_five_of_five_is_not():
    assert excludes_zero(paired_interval([1] * 6, [0] * 6))
    assert not excludes_zero(paired_interval([1] * 5, [0] * 5))


def test_ends_stay_within_the_support():
    interval = mean_interval([0.96, 0.97, 0.999], support=SHARE)
    assert interval["high"] == 1.0
    assert interval["low"] < 0.96


def test_of_one_unit_or_none_there_is_no_interval():
    assert mean_interval([]) == {"mean": None, "low": None, "high": None, "n": 0}
    assert mean_interval([1.0]) == {"mean": 1.0, "low": None, "high": None, "n": 1}
    assert share_interval(0, 0)["mean"] is None


def test_a_value_that_is_none_is_refused():
    with pytest.raises(ValueError, match="finite"):
        mean_interval([0.5, math.nan])


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40))
def test_an_interval_holds_its_mean_is_finite_and_repeats(values):
    interval = mean_interval(values, "test")
    assert interval == mean_interval(values, "test")
    if interval["low"] is not None:
        assert interval["low"] - 1e-3 <= interval["mean"] <= interval["high"] + 1e-3
        assert math.isfinite(interval["low"])
        assert math.isfinite(interval["high"])
