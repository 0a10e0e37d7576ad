"""Released verdicts of 65 judges: the figures that the statistics must give on them. No model is run.

Definitions that reproduce the figures: the 8 judges are those with verdicts on all three processed preference sets
(4 models, plain and Metrics_Reference prompt); a voter is one judge in one order; a verdict that could not be read
moves no lead, counts as an error and as not right; an item whose votes are even gives half a point. The first rule
looks after whole pairs, the lossless one after every vote. Means over orders of the judges are exact, not sampled.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from plait.agents.judges.baselines import chance_range, longer_wins, majority_class
from plait.agents.judges.comparison import calibrated, panel_worth, slice_trials, stopping
from plait.agents.judges.metrics import agreement, fair_credit, paired_difference, score
from plait.agents.judges.panel import errors
from plait.agents.judges.position import consistency, llmbar, position_effect
from plait.agents.judges.released import read_verdicts, released_panel
from plait.agents.judges.stopping import Fixed, Lead, Lossless, draw
from plait.agents.judges.verdicts import decode
from plait.agents.judges.votes import fit_band, verdict_of, weighted_vote
from plait.intervals import mean_interval, paired_interval
from plait.records import generator

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "judge"
VERDICTS = DATA / "llmbar" / "verdicts.csv"
pytestmark = pytest.mark.skipif(not VERDICTS.is_file(), reason="no released verdicts beside the checkout (shared/data)")


@pytest.fixture(scope="module")
def rows():
    return read_verdicts(VERDICTS)


def is_llmbar(name):
    return name.startswith("LLMBar_")


@pytest.fixture(scope="module")
def panel_of(rows):
    def make(model):
        if model == "preferences":
            return released_panel(rows, lambda name: name.startswith("Processed_"))
        return released_panel(rows, is_llmbar, lambda judge: judge.startswith(model))

    return make


def questions(panel):
    return [panel.pairs(i) for i in range(len(panel.items))], [decode(code) for code in panel.labels]


def orders(rows, judge, sets):
    chosen = [row for row in rows if row.judge == judge and sets(row.item[0])]
    return [r.order12 for r in chosen], [r.order21 for r in chosen], [r.label for r in chosen]


# --- adaptive width -------------------------------------------------------------------------------------------

WIDTHS = [
    ("preferences", None, 16, 0.7715),
    ("preferences", Lead(4), 7.35, 0.7719),
    ("preferences", Lead(2), 3.55, 0.7633),
    ("preferences", Fixed(4), 4, 0.7439),
    ("preferences", Lossless(), 11.4, 0.7715),
    ("GPT-4/", None, 30, 0.8663),
    ("GPT-4/", Lead(6), 8.30, 0.8647),
    ("GPT-4/", Fixed(8), 8, 0.8518),
    ("GPT-4/", Lossless(), 18.0, 0.8663),
]


@pytest.mark.parametrize(("name", "rule", "calls", "accuracy"), WIDTHS, ids=str)
def test_calls_and_accuracy_of_a_stopping_rule(panel_of, name, rule, calls, accuracy):
    """The figures were sampled over orders; ours are exact, and lie within their last rounding and 0.0003 of that."""
    found = stopping(*questions(panel_of(name)), rule)
    assert found.accuracy == pytest.approx(accuracy, abs=3.5e-4)
    assert round(found.accuracy, 3) == round(accuracy, 3)
    assert found.calls == pytest.approx(calls, abs=0.05 if isinstance(rule, Lossless) else 0.005)


GAPS = [
    ("preferences", Lead(4), None, 0.0004, -0.0013, 0.0023),
    ("preferences", Lead(2), None, -0.008, -0.018, 0.002),
    ("preferences", Lead(2), Fixed(4), 0.019, 0.009, 0.030),
    ("GPT-4/", Lead(6), None, -0.0016, -0.003, -0.0003),
    ("GPT-4/", Lead(6), Fixed(8), 0.013, 0.005, 0.022),
]


@pytest.mark.parametrize(("name", "rule", "other", "mean", "low", "high"), GAPS, ids=str)
def test_paired_intervals_of_the_rules(panel_of, name, rule, other, mean, low, high):
    """Ends of an interval move with the resamples (2,000 here) and with the sampled orders of the stated ones."""
    asked = questions(panel_of(name))
    gap = stopping(*asked, rule).minus(stopping(*asked, other))
    assert gap["mean"] == pytest.approx(mean, abs=6e-4)
    assert (gap["low"], gap["high"]) == pytest.approx((low, high), abs=1.5e-3)


def test_a_sampled_mean_over_orders_lies_within_its_error_of_the_exact_one(panel_of):
    panel = panel_of("preferences")
    asked, labels = questions(panel)
    exact, draws = stopping(asked, labels, Lead(2)), 20
    sampled = []
    for number in range(draws):
        ends = []
        for pairs, label in zip(asked, labels, strict=True):
            order = list(pairs)
            generator(0, "judge-order", number, len(ends)).shuffle(order)
            end = draw([vote for pair in order for vote in pair], Lead(2)).verdict
            ends.append(1.0 if end == label else 0.0 if end in ("model1", "model2") else 0.5)
        sampled.append(np.mean(ends))
    error = np.std(sampled, ddof=1) / draws**0.5
    assert 0 < error < 0.004
    assert abs(np.mean(sampled) - exact.accuracy) < 4 * error


# --- what panels are worth ------------------------------------------------------------------------------------

PANELS = [
    ("GPT-4/", 30, 0.55, 1.8, 0.835, 0.866, 0.866, 0.13),
    ("LLaMA2/", 20, 0.50, 1.9, 0.446, 0.440, 0.442, None),
    ("PaLM2/", 16, 0.47, 2.0, 0.679, 0.727, 0.697, None),
    ("ChatGPT/", 24, 0.37, 2.5, 0.431, 0.397, 0.399, 0.60),
    ("", 130, 0.25, 3.9, 0.582, 0.629, 0.821, 0.18),
    ("preferences", 16, 0.34, 2.6, 0.697, 0.771, 0.775, 0.21),
]


@pytest.mark.parametrize(("name", "votes", "rho", "n_eff", "single", "majority", "ds", "ece"), PANELS, ids=str)
def test_what_a_panel_is_worth(panel_of, name, votes, rho, n_eff, single, majority, ds, ece):
    panel = panel_of(name)
    found = panel_worth(panel.flat, panel.labels)
    assert found.worth.votes == votes
    assert (round(found.worth.rho, 2), round(found.worth.n_eff, 1)) == (rho, n_eff)
    assert (round(found.single, 3), round(found.majority["mean"], 3)) == (single, majority)
    assert round(found.dawid_skene["mean"], 3) == ds
    assert ece is None or round(found.dawid_skene_error, 2) == ece
    assert (found.worth.warning is not None) == (n_eff < 3)


def test_fifteen_prompts_of_one_model_against_its_plain_and_its_best_prompt(panel_of):
    panel = panel_of("GPT-4/")
    majority = fair_credit(weighted_vote(panel.flat), panel.labels)
    single = 1 - errors(panel.flat, panel.labels).reshape(len(panel.items), -1, 2).mean(2)
    plain = single[:, panel.judges.index("GPT-4/Vanilla")]
    best = single[:, single.mean(0).argmax()]  # in hindsight, on these items
    assert (round(plain.mean(), 3), round(best.mean(), 3)) == (0.845, 0.872)
    gain, loss = paired_interval(list(majority), list(plain), "plain"), paired_interval(list(majority), list(best), "b")
    # an end moves by steps of 1/838 (half an item), a step or two with the resamples
    assert (gain["mean"], gain["low"], gain["high"]) == pytest.approx((0.0215, 0.005, 0.038), abs=3e-3)
    assert (loss["mean"], loss["low"], loss["high"]) == pytest.approx((-0.006, -0.025, 0.013), abs=3e-3)


SLICES = [("", 20, 0.87, 0.005), ("", 50, 0.872, 5e-4), ("", 100, 0.867, 5e-4), ("preferences", 20, 0.777, 5e-4)]


@pytest.mark.parametrize(("name", "labels", "accuracy", "rounding"), SLICES, ids=str)
def test_what_a_slice_of_labels_buys_on_the_other_items(panel_of, name, labels, accuracy, rounding):
    """Stated as means of 30 splits, so compared within two standard errors of both means and the stated rounding.

    One split's standard deviation is 0.007 (8 judges) to 0.03 (all judges, 20 labels): a mean's third decimal is
    settled, to a standard error of 0.00025, after 800 to 15,000 splits.
    """
    panel = panel_of(name)
    trials = slice_trials(panel.flat, panel.labels, panel.owners, labels, 300, seed=0)
    error = trials.weighted.std(ddof=1) * (1 / 300 + 1 / 30) ** 0.5
    assert abs(trials.weighted.mean() - accuracy) < 2 * error + rounding
    if not name:
        assert 0.84 < trials.best.mean() < 0.865
    else:
        assert trials.majority.mean() == pytest.approx(0.772, abs=1e-3)


@pytest.mark.parametrize("name", ["", "preferences", "GPT-4/"])
def test_a_temperature_from_fifty_labels_calibrates_the_posterior_on_the_other_items(panel_of, name):
    panel = panel_of(name)
    found = [calibrated(panel.flat, panel.labels, panel.owners, 50, seed) for seed in range(12)]
    raw, soft = (np.array([getattr(f, key) for f in found]) for key in ("error_raw", "error_tempered"))
    assert (soft < raw).sum() >= 10  # of 12 slices; 50 labels are few, and now and then one misleads
    assert soft.mean() < 0.08 < raw.mean()
    harder = [calibrated(panel.flat, panel.labels, panel.owners, 50, seed, discount=True) for seed in range(12)]
    gain = np.array([a.accuracy - b.accuracy for a, b in zip(found, harder, strict=True)])
    assert gain.mean() > 0  # why clusters are not discounted unless asked


# --- swap consistency -----------------------------------------------------------------------------------------

SWAPS = [
    ("ChatGPT", 0.842, 0.689, 0.57),
    ("GPT-4", 0.836, 0.775, 0.84),
    ("LLaMA2", 0.794, 0.685, 0.65),
    ("PaLM2", 0.797, 0.670, 0.66),
]


@pytest.mark.parametrize(("model", "agreeing", "single", "share"), SWAPS)
def test_accuracy_where_the_orders_agree(rows, model, agreeing, single, share):
    found = consistency(*orders(rows, f"{model}/Vanilla_NoRules", lambda name: name.startswith("Processed_")))
    assert round(found.accuracy_agreeing, 3) == agreeing
    assert found.accuracy_single == pytest.approx(single, abs=6e-4)  # 0.6845 and 0.6695 are rounded up
    assert round(found.agreeing, 2) == share


def test_consistency_is_not_correctness(rows):
    found = consistency(*orders(rows, "ChatGPT/Vanilla", is_llmbar))
    assert round(found.accuracy_agreeing, 3) == 0.348


def test_one_order_of_the_plain_prompt(rows):
    stated = {"GPT-4": (0.755, 0.875), "ChatGPT": (0.7025, 0.72), "LLaMA2": (0.690, 0.75), "PaLM2": (0.660, 0.81)}
    for model, (accuracy, agreement_of_orders) in stated.items():
        first, second, labels = orders(rows, f"{model}/Vanilla_NoRules", lambda name: name == "Processed_LLMEval2")
        found = llmbar(first, second, labels)
        assert found["accuracy"] == pytest.approx(accuracy)
        both_missing = sum(a == b for a, b in zip(first, second, strict=True)) / len(labels)
        assert both_missing == pytest.approx(agreement_of_orders)  # counts two unreadable verdicts as equal
        assert found["swap_agreement"] <= agreement_of_orders


def test_kappa_that_the_release_has_wrong(rows):
    first, _, labels = orders(rows, "GPT-4/Swap", lambda name: name == "LLMBar_Natural")
    assert round(score(first, labels, "kappa"), 3) == 0.878
    assert score(first, labels, "accuracy") == pytest.approx(0.94)


def test_chatgpt_leans_to_a_position_on_faireval(rows):
    first, second, _ = orders(rows, "ChatGPT/Vanilla_NoRules", lambda name: name == "Processed_FairEval")
    found = position_effect(first, second)
    assert round(1 - found.flip_rate["mean"], 2) == 0.18
    assert abs(found.lean["mean"]) > 0.5


# --- controls and ties on labelled sets -----------------------------------------------------------------------

NAMES = {"TIE": "tie", "model1": "model1", "model2": "model2", 0: "model1", 1: "model2", 2: "tie"}
CONTROLS = [
    ("autoj/testdata_pairwise.jsonl", (0.3736, 0.1813), (0.5295, 0.4218, 0.2595), (0.312, 0.359)),
    ("llmeval2/LLMEval2_benchmark.jsonl", (0.4113, 0.1943), (0.4508, 0.3373, 0.0785), (0.315, 0.351)),
    ("faireval/faireval.jsonl", (0.5125, 0.2259), (0.4875, 0.3546, 0.1929), (0.237, 0.438)),
    ("llmbar/LLMBar_Natural.jsonl", (0.5800, 0.3671), (0.5600, 0.5599, 0.1301), None),
    ("llmbar/LLMBar_Adversarial_Neighbor.jsonl", (0.5597, 0.3589), (0.1194, 0.1192, -0.7304), None),
    ("llmbar/Processed_LLMEval2.jsonl", (0.5400, 0.3506), (0.6050, 0.6066, 0.2164), None),
    ("llmbar/Processed_MT-Bench.jsonl", (0.5050, 0.3355), (0.6800, 0.6878, 0.3751), None),
]


def labelled(file):
    items = [json.loads(line) for line in (DATA / file).read_text(encoding="utf-8").splitlines()]
    answers = [tuple(item.get(f"response{i}", item.get(f"response {i}")) for i in (1, 2)) for item in items]
    return answers, [NAMES[item.get("human", item.get("label"))] for item in items]


@pytest.mark.parametrize(("file", "majority", "longer", "chance"), CONTROLS, ids=lambda value: str(value)[:30])
def test_controls_on_labelled_sets(file, majority, longer, chance):
    answers, labels = labelled(file)
    constant = majority_class(labels)
    assert [score(constant, labels, m) for m in ("accuracy", "macro_f1")] == pytest.approx(list(majority), abs=6e-5)
    assert score(constant, labels, "kappa") == 0
    found = [score(longer_wins(answers), labels, metric) for metric in ("accuracy", "macro_f1", "kappa")]
    assert found == pytest.approx(list(longer), abs=6e-5)
    if chance:
        assert chance_range(labels, 200, seed=0)["accuracy"] == pytest.approx(chance, abs=0.02)


@pytest.mark.parametrize("file", ["autoj/testdata_pairwise.jsonl", "llmeval2/LLMEval2_benchmark.jsonl"])
def test_a_band_from_a_tenth_of_the_items_predicts_some_ties_of_the_others(file):
    """Even the length of the answers, the poorest of judges, gets ties right once it has a band."""
    answers, labels = labelled(file)
    margins = [float(np.log1p(len(a)) - np.log1p(len(b))) for a, b in answers]
    order = list(range(len(labels)))
    generator(0, "tenth", len(labels)).shuffle(order)
    inside, outside = order[: len(order) // 10], order[len(order) // 10 :]
    band = fit_band([margins[i] for i in inside], [labels[i] for i in inside])
    ours, truth = [verdict_of(margins[i], band) for i in outside], [labels[i] for i in outside]
    plain = [verdict_of(margins[i]) for i in outside]
    right_ties = sum(a == b == "tie" for a, b in zip(ours, truth, strict=True))
    assert right_ties > sum(a == b == "tie" for a, b in zip(plain, truth, strict=True))
    assert paired_difference(ours, plain, truth, "macro_f1", "band")["low"] > 0


def test_an_interval_over_items_is_as_wide_as_wilsons(rows):
    first, _, labels = orders(rows, "GPT-4/Vanilla", is_llmbar)
    found = agreement(first, labels)
    assert found.coverage == 1
    shares = [float(v == label) for v, label in zip(first, labels, strict=True)]
    assert found.intervals["accuracy"]["mean"] == mean_interval(shares)["mean"]
    half = (found.intervals["accuracy"]["high"] - found.intervals["accuracy"]["low"]) / 2
    assert half == pytest.approx(1.96 * (0.845 * 0.155 / 419) ** 0.5, rel=0.1)
