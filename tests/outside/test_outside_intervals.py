"""Intervals hold at their number of units, and nothing beats or loses on fewer than six."""

import math

import numpy as np
import pytest
from judge_rows import row
from plait.agents.judges.metrics import agreement, paired_difference
from plait.intervals import excludes_zero, mean_interval, paired_interval
from plait.orchestrator.recipes.compress_stats import statement
from plait.orchestrator.recipes.judge_statement import statement as judge_statement
from plait.orchestrator.recipes.judge_stats import summarise


@pytest.mark.row("F: two to five searches, noise called sure")
@pytest.mark.parametrize("n", [2, 3, 5])
def test_noise_of_few_searches_is_never_sure(n):
    random, sure = np.random.default_rng(1), 0
    for at in range(200):
        gap = paired_interval(random.normal(0.9, 0.01, n), random.normal(0.9, 0.01, n), "noise", str(at))
        said = statement({"profile": "plait", "gaps": {"random": gap}})
        sure += excludes_zero(gap) or "beats" in said or "loses" in said
    assert sure == 0


@pytest.mark.row("F: means of skewed values at six to thirty units")
@pytest.mark.parametrize("n", [6, 10, 30])
def test_lognormal_means_are_held(n):
    random, held = np.random.default_rng(3), 0
    for at in range(400):
        interval = mean_interval(list(random.lognormal(0, 1, n)), "held", str(at))
        held += interval["low"] <= math.exp(0.5) <= interval["high"]
    assert held / 400 >= 0.93


@pytest.mark.row("F: paired differences, 80 % equal")
@pytest.mark.parametrize("n", [6, 10])
def test_paired_differences_are_held(n):
    random, held = np.random.default_rng(5), 0
    for at in range(400):
        luck = random.random(n)
        ours, theirs = (luck < 0.15).astype(float), ((luck >= 0.15) & (luck < 0.2)).astype(float)
        interval = paired_interval(ours, theirs, "held", str(at))
        held += interval["low"] <= 0.1 <= interval["high"]
    assert held / 400 >= 0.93


@pytest.mark.row("B: two pairs, both right")
def test_two_pairs_beat_nothing():
    first = row("a", "model1", [("model1", "model1")] * 2, lengths=(10, 40))
    second = row("b", "model2", [("model2", "model2")] * 2, lengths=(40, 10))
    said = judge_statement(summarise([first, second]))
    assert "beats" not in said
    assert "+100.0 to +100.0" not in said


@pytest.mark.row("B: two pairs, both right")
def test_agreement_on_few_items_has_width():
    found = agreement(["model1", "model2"], ["model1", "model2"]).intervals
    assert all(interval["low"] < 0.5 for interval in found.values())
    labels = ["model1", "model2"] * 3
    gap = paired_difference(labels, ["model2", "model1"] * 3, labels, "accuracy")
    assert gap["low"] < 0.6
