"""Rewards of compressed networks: the published values, and what they must never do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.search.rewards import constrained, epsilon, n2n_reward, seeking

SHARES = st.floats(0.0, 1.0)


def test_half_the_parameters_at_the_teachers_accuracy_pays_three_quarters():
    assert n2n_reward(0.92, 0.92, 50, 100) == pytest.approx(0.75)


@pytest.mark.parametrize(("times", "worth"), [(3, 0.889), (5, 0.96), (10, 0.99), (20, 0.9975), (50, 0.9996)])
def test_what_compression_pays(times, worth):
    assert n2n_reward(0.9, 0.9, 1, times) == pytest.approx(worth, abs=5e-4)


@given(SHARES)
def test_where_nothing_is_left_the_ratio_of_accuracies_is(accuracy):
    assert n2n_reward(accuracy, 0.8, 1e-9, 1) == pytest.approx(accuracy / 0.8, abs=1e-6)


def test_published_rows():
    """ResNet-18 on CIFAR-10 and CIFAR-100, spec section 10."""
    assert n2n_reward(91.81, 92.01, 1.00, 11.17) == pytest.approx(0.990, abs=5e-4)
    assert n2n_reward(69.64, 72.22, 4.76, 11.22) == pytest.approx(0.791, abs=5e-4)
    assert n2n_reward(68.01, 72.22, 2.42, 11.22) == pytest.approx(0.898, abs=5e-4)


def test_epsilon_falls_to_zero_and_stays():
    assert [epsilon(0), epsilon(5), epsilon(15)] == pytest.approx([1.0, 0.1975, 0.0], abs=5e-5)
    assert epsilon(10) == pytest.approx(0.0123, abs=5e-5)
    assert all(epsilon(later) == 0 for later in range(15, 60))


@given(SHARES, st.integers(0, 100))
def test_a_kept_limit_costs_nothing_and_a_broken_one_ends_at_minus_one(reward, iteration):
    assert constrained(reward, False, iteration) == reward
    assert -1 <= constrained(reward, True, iteration) <= reward
    assert constrained(reward, True, 15 + iteration) == -1
    assert constrained(reward, True, 0) == reward


def test_seeking_is_accuracy_at_the_target_and_falls_with_cost():
    assert seeking(0.9, 100, 100) == pytest.approx(0.9)
    assert seeking(0.9, 200, 100) == pytest.approx(0.9 * 0.9526, abs=1e-4)
    assert seeking(0.9, 50, 100) > 0.9
