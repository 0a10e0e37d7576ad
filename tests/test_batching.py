"""The cost model of layer calls: cuts cover everything once, in order, about alike; the measurement is sane."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.models.batching import MOST_ROWS, OVERHEAD, LayerCost

COST = LayerCost(2.3e-3, 9.5e-5, 16)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(16, 600))
def test_cuts_cover_every_sequence_once_in_order(sizes, rows):
    cost = LayerCost.of_rows(rows)
    cuts = cost.cut(sizes)
    assert [size for cut in cuts for size in sizes[cut]] == sizes
    assert all(sizes[cut] for cut in cuts)


@given(st.integers(1, 5000), st.integers(20, 60))
def test_no_batch_is_a_small_rest(count, size):
    cuts = COST.cut([size] * count)
    loads = [size * len(range(*cut.indices(count))) for cut in cuts]
    assert max(loads) - min(loads) <= 2 * size
    assert max(loads) <= 1.5 * COST.best_rows + size


def test_the_best_batch_pays_little_for_its_start():
    rows = COST.best_rows
    assert COST.fixed / COST.seconds(rows) <= OVERHEAD + 1e-3
    assert COST.fixed / COST.seconds(rows // 2) > OVERHEAD
    assert LayerCost(1.0, 1e-9, 16).best_rows == MOST_ROWS
    assert LayerCost(0.0, 1e-3, 16).best_rows == 16


def test_rows_below_the_least_cost_alike():
    assert COST.seconds(1) == COST.seconds(16) < COST.seconds(17)


@pytest.mark.weights
def test_it_is_measured_on_the_model_at_hand(real_decoder):
    cost = LayerCost.measure(real_decoder)
    assert cost.per_row > 0
    assert 16 <= cost.best_rows <= MOST_ROWS
    assert cost.seconds(512) > cost.seconds(64)
