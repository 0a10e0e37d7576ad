"""The figures of a judge run against direct computations, the sentences they make, the page that shows them."""

import json
import re
import shutil
import subprocess
from itertools import combinations, permutations

import numpy as np
import pytest
from judge_rows import DATA, NETWORK, exchanged, outcome, released, row
from plait.agents.judges.metrics import bounds, score
from plait.agents.judges.stopping import Fixed, Lead, Lossless, draw
from plait.agents.judges.verdicts import LABELS, Abstain, mirrored
from plait.agents.judges.votes import fit_band, verdict_of
from plait.errors import DataError
from plait.orchestrator.recipes.judge_audit import audit_rows, audit_sets, audit_table
from plait.orchestrator.recipes.judge_data import load_pairs
from plait.orchestrator.recipes.judge_records import Outcome
from plait.orchestrator.recipes.judge_statement import chance_standing, judge
from plait.orchestrator.recipes.judge_stats import statement, summarise
from plait.orchestrator.report.judge_page import render
from plait.records import canonical, generator

NONE = Abstain("Unparsable")
DONE = {"schema": 1, "method": "judge", "status": "SUCCEEDED", "stop_reason": "", "resolved": {}}
SPEC = {"model": ["m"], "data": "pairs.jsonl", "network": "wide", "seed": 0}
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--v=0"]  # fmt: skip
EIGHT = [f"{m}/{p}" for m in ("GPT-4", "ChatGPT", "LLaMA2", "PaLM2") for p in ("Vanilla_NoRules", "Metrics_Reference")]
PROCESSED = ["Processed_LLMEval2", "Processed_MT-Bench", "Processed_FairEval"]
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no public sets beside the checkout (shared/data)")


def drawn(count, seed=0, skill=0.75, ties=True, **fields):
    """Rows of three neurons that are right with chance `skill` in either order, and miss a call now and then."""
    rows = []
    for index in range(count):
        random = generator(seed, "rows", index)
        human = random.choice(LABELS if ties else LABELS[:2])

        def vote(random=random, human=human):
            if random.random() < 0.05:
                return NONE
            return human if random.random() < skill else random.choice(LABELS)

        votes = [(vote(), vote()) for _ in range(3)]
        lengths = (random.randint(10, 90), random.randint(10, 90))
        rows.append(row(f"{seed}-{index}", human, votes, lengths=lengths, baselines={"single": outcome(votes[:1])},
                        **fields))  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def rows():
    """Sixty rows to report, thirty of the slice, one where everything failed."""
    failed = Outcome(verdict="abstain", reason="Timeout", failures={"Timeout": 6})
    lost = row("lost", "model1", [], network=failed, baselines={"single": failed.model_copy(update={"failures": {}})})
    return [*drawn(60), *drawn(30, seed=1, slice=True), lost]


@pytest.fixture(scope="module")
def summary(rows):
    return summarise(rows)


@pytest.fixture(scope="module")
def reported(rows):
    return [one for one in rows if not one.slice]


def verdicts(rows):
    return [one.network.as_verdict for one in rows]


def labels(rows):
    return [one.human for one in rows]


def votes_in(one, neuron):
    """A neuron's votes in both orders, by the scores of its ballots; None where there is none."""
    found = {b.order: np.sign(b.margin) for b in one.network.ballots if b.neuron == neuron}
    return found.get("12"), found.get("21")


# --- every figure ---------------------------------------------------------------------------------------------


def test_counts_are_of_all_items_and_nothing_is_hidden(rows, summary):
    assert (summary["items"], summary["labelled"], summary["slice"], summary["reported"]) == (91, 91, 30, 61)
    assert sum(summary["verdicts"].values()) == 91
    assert summary["verdicts"]["abstain"] == sum(summary["abstentions"]["network"].values())
    assert summary["abstentions"]["network"]["Timeout"] == 1
    assert summary["coverage"]["mean"] == pytest.approx(1 - summary["verdicts"]["abstain"] / 91, abs=1e-6)
    assert summary["failed_calls"]["Timeout"] == 6
    assert summary["ballots"]["cast"] == sum(len(one.network.ballots) for one in rows)
    canonical(summary)  # JSON without NaN


def test_agreement_is_scikit_learns_and_bounds_hold_the_missing(reported, summary):
    ours = judge(summary, "network")
    for metric in ("accuracy", "macro_f1", "kappa"):
        assert ours[metric]["mean"] == pytest.approx(score(verdicts(reported), labels(reported), metric), abs=1e-6)
        assert ours[metric]["low"] < ours[metric]["mean"] < ours[metric]["high"]
        limits = bounds(verdicts(reported), labels(reported), metric)
        assert (ours["bounds"][metric]["worst"], ours["bounds"][metric]["best"]) == pytest.approx(
            (limits.worst, limits.best), abs=1e-6
        )
    tie = [a == "tie" for a in verdicts(reported)], [b == "tie" for b in labels(reported)]
    both = sum(a and b for a, b in zip(*tie, strict=True))
    judged_ties = sum(label == "tie" for v, label in zip(verdicts(reported), labels(reported), strict=True)
                      if not isinstance(v, Abstain))  # fmt: skip
    assert ours["tie_f1"] == pytest.approx(2 * both / (sum(tie[0]) + judged_ties), abs=1e-6)


def test_every_control_stands_beside_with_its_paired_difference(reported, summary):
    keys = [one["key"] for one in summary["judges"]]
    assert keys == ["network", "band", "weighted", "dawid-skene", "single", "longer", "majority", "random"]
    longer = ["tie" if a == b else "model1" if a > b else "model2" for a, b in (one.lengths for one in reported)]
    pairs = [(v, w, label) for v, w, label in zip(verdicts(reported), longer, labels(reported), strict=True)
             if not isinstance(v, Abstain)]  # fmt: skip
    gaps = [(v == label) - (w == label) for v, w, label in pairs]
    line = judge(summary, "longer")
    assert line["network_minus"]["accuracy"]["mean"] == pytest.approx(np.mean(gaps), abs=1e-6)
    assert line["discordant"] == pytest.approx(np.mean(np.abs(gaps)), abs=1e-6)
    spread = np.mean(np.abs(gaps)) - 0.03**2
    assert line["items_to_show"] == pytest.approx((1.959964 + 0.841621) ** 2 * spread / 0.03**2, abs=1.01)
    commonest = max(LABELS, key=labels(reported).count)
    share = labels(reported).count(commonest) / len(reported)
    assert judge(summary, "majority")["accuracy"]["mean"] == pytest.approx(share, abs=1e-6)
    assert judge(summary, "majority")["kappa"]["mean"] == 0
    single = [one.baselines["single"].as_verdict for one in reported]
    assert judge(summary, "single")["accuracy"]["mean"] == pytest.approx(
        score(single, labels(reported), "accuracy"), abs=1e-6
    )


def test_the_tie_band_is_that_of_the_slice_and_of_nothing_else(rows, reported, summary):
    inside = [one for one in rows if one.slice and one.network.margin is not None]
    band = fit_band([one.network.margin for one in inside], labels(inside))
    assert summary["fitted"]["band"] == pytest.approx(band)
    banded = [v if isinstance(v, Abstain) else verdict_of(one.network.margin, band)
              for v, one in zip(verdicts(reported), reported, strict=True)]  # fmt: skip
    found = judge(summary, "band")["accuracy"]["mean"]
    assert found == pytest.approx(score(banded, labels(reported), "accuracy"), abs=1e-6)


def test_without_twenty_labels_in_the_slice_nothing_is_fitted_and_it_is_said(rows):
    few = summarise([*[one for one in rows if not one.slice], *[one for one in rows if one.slice][:19]])
    keys = {one["key"] for one in few["judges"]}
    assert not keys & {"band", "weighted"}
    assert "20 are needed" in few["fitted"]["panel"]["reason"]
    assert few["calibration"]["temperature"] is None
    assert few["calibration"]["after"] is None


def test_position_by_direct_count(reported, summary):
    flips, leans = [], []
    for one in reported:
        pairs = [votes_in(one, neuron) for neuron in range(3)]
        both = [(a, b) for a, b in pairs if a is not None and b is not None]
        if both:
            flips.append(np.mean([a != b for a, b in both]))
            leans.append(np.mean([(a - b) / 2 for a, b in both]))
    found = summary["position"]["neurons"]
    assert found["flip_rate"]["mean"] == pytest.approx(np.mean(flips), abs=1e-6)
    assert found["lean"]["mean"] == pytest.approx(np.mean(leans), abs=1e-6)
    first = summary["position"]["by_neuron"][0]
    own = [(a, b) for a, b in (votes_in(one, 0) for one in reported if one.network.ballots) if None not in (a, b)]
    assert first["flip_rate"]["mean"] == pytest.approx(np.mean([a != b for a, b in own]), abs=1e-6)
    in_order = [[np.sign(sum(b.margin for b in one.network.ballots if b.order == order)) for one in reported
                 if {b.order for b in one.network.ballots} == {"12", "21"}] for order in ("12", "21")]  # fmt: skip
    network = summary["position"]["network"]
    assert network["flip_rate"]["mean"] == pytest.approx(np.mean(np.not_equal(*in_order)), abs=1e-6)
    assert summary["position"]["consistency"]["items"] == len(reported)


def test_a_network_that_always_takes_the_first_answer_leans_wholly():
    found = summarise([row(str(i), LABELS[i % 2], [("model1", "model2")] * 2) for i in range(10)])["position"]
    for part in (found["network"], found["neurons"], *found["by_neuron"]):
        assert (part["flip_rate"]["mean"], part["lean"]["mean"]) == (1, 1)
    assert found["first_share"]["12"]["mean"] == found["first_share"]["21"]["mean"] == 1


def test_length_bias_by_direct_count(reported, summary):
    decided = [(one.network.verdict, one.human, "model1" if one.lengths[0] > one.lengths[1] else "model2")
               for one in reported if one.lengths[0] != one.lengths[1]]  # fmt: skip
    decided = [(v, human, long) for v, human, long in decided if v in LABELS[:2] and human != "tie"]
    found = summary["length"]
    assert found["judge"]["mean"] == pytest.approx(np.mean([v == long for v, _, long in decided]), abs=1e-6)
    assert found["labels"]["mean"] == pytest.approx(np.mean([human == long for _, human, long in decided]), abs=1e-6)
    assert sum(group["judge"]["n"] for group in found["groups"]) == len(decided)


def test_calibration_error_by_direct_count(reported, summary):
    judged = [one for one in reported if one.network.verdict != "abstain"]
    names = {"model1": 1, "model2": -1, "tie": 0}
    shares = [np.mean([np.sign(b.margin) == names[one.network.verdict] for b in one.network.ballots]) for one in judged]
    rights = [float(one.network.verdict == one.human) for one in judged]
    place = np.minimum((np.array(shares) * 10).astype(int), 9)
    error = sum(abs(np.sum((np.array(shares) - rights)[place == bin_])) for bin_ in range(10)) / len(judged)
    found = summary["calibration"]
    assert found["of"] == "vote share"
    assert found["before"]["ece"] == pytest.approx(error, abs=1e-6)
    assert found["before"]["overconfidence"]["mean"] == pytest.approx(np.mean(shares) - np.mean(rights), abs=1e-6)
    assert 0 < found["before"]["floor"]["mean"] < found["before"]["floor"]["high"]
    assert found["temperature"] > 0


def test_probabilities_are_confidence_where_letters_were_asked():
    letters = [b.model_copy(update={"first": 0.7, "second": 0.2, "tie": 0.1, "via": "letters"})
               for b in outcome([("model1", "model1")]).ballots]  # fmt: skip
    found = outcome([("model1", "model1")]).model_copy(update={"ballots": (letters[0], letters[0])})
    one = summarise([row(str(i), "model1", [], network=found) for i in range(4)])["calibration"]
    assert one["of"] == "probability"
    assert one["before"]["ece"] == pytest.approx(0.3)  # always right at 0.7


def test_a_neuron_is_right_where_its_merged_orders_are_although_its_votes_conflict():
    sure = {"12": {"first": 0.7, "second": 0.2, "tie": 0.1}, "21": {"first": 0.45, "second": 0.4, "tie": 0.15}}
    cast = [b.model_copy(update=sure[b.order]) for b in outcome([("model1", "model2")] * 2).ballots]
    found = outcome([("model1", "model2")] * 2).model_copy(update={"ballots": tuple(cast), "verdict": "model1"})
    panel = summarise([row(str(i), "model1", [], network=found) for i in range(4)])["panel"]
    assert [one["accuracy"]["mean"] for one in panel["neurons"]] == [1, 1]
    assert panel["single"]["mean"] == 0.5


def test_accuracy_by_votes_is_the_mean_over_all_orders_of_the_neurons(reported, summary):
    found = {rule["name"]: rule for rule in summary["by_votes"]["rules"]}
    rules = {"2 votes": Fixed(2), "4 votes": Fixed(4), "all votes": None, "lead 2": Lead(2), "lossless": Lossless()}
    names = {1.0: "model1", -1.0: "model2", 0.0: "tie", None: NONE}
    panel = [one for one in reported if one.network.ballots]
    assert summary["by_votes"]["items"] == len(panel)
    assert summary["by_votes"]["credit"] == "exact"
    for name, rule in rules.items():
        rights, calls = [], []
        for one in panel:
            pairs = [tuple(names[vote] for vote in votes_in(one, neuron)) for neuron in range(3)]
            ends = [draw([vote for pair in order for vote in pair], rule) for order in permutations(pairs)]
            rights.append(np.mean([end.verdict == one.human for end in ends]))
            calls.append(np.mean([end.calls for end in ends]))
        assert found[name]["accuracy"]["mean"] == pytest.approx(np.mean(rights), abs=1e-6)
        assert found[name]["calls"]["mean"] == pytest.approx(np.mean(calls), abs=1e-6)


def test_effective_votes_by_the_formula(reported, summary):
    codes = {"model1": 1.0, "model2": -1.0, "tie": 0.0}
    panel = [one for one in reported if one.network.ballots]
    wrong = np.array(
        [[float(side != codes[one.human]) for n in range(3) for side in votes_in(one, n)] for one in panel]
    )
    correlation = np.corrcoef(wrong.T)
    rho = np.mean([correlation[a, b] for a, b in combinations(range(6), 2)])
    found = summary["panel"]
    assert (found["votes"], found["items"], found["left_out"]) == (6, len(panel), 1)
    assert found["rho"] == pytest.approx(rho, abs=1e-6)
    assert found["n_eff"] == pytest.approx(6 / (1 + 5 * rho), abs=1e-5)
    assert found["n_eff_range"][0] < found["n_eff"] < found["n_eff_range"][1]
    merged = np.array([[float(np.sign(np.sum(v)) != codes[one.human]) if None not in v else 1.0
                        for v in (votes_in(one, n) for n in range(3))] for one in panel])  # fmt: skip
    assert np.array(found["correlation"]) == pytest.approx(np.corrcoef(merged.T), abs=1e-6)


def test_votes_on_one_item_agree_as_often_as_counted(reported, summary):
    shares = []
    for one in reported:
        pairs = list(combinations([np.sign(ballot.margin) for ballot in one.network.ballots], 2))
        if pairs:
            shares.append(np.mean([a == b for a, b in pairs]))
    assert summary["neurons_agree"]["mean"] == pytest.approx(np.mean(shares), abs=1e-6)


# --- what must not matter, and what must ----------------------------------------------------------------------


def test_exchanging_all_answers_mirrors_the_summary(rows, summary):
    other = summarise([exchanged(one) for one in rows])
    assert other["verdicts"] == {mirrored(name) if name in LABELS else name: count
                                 for name, count in summary["verdicts"].items()}  # fmt: skip
    for one in summary["judges"]:
        if one["key"] in ("majority", "random"):  # drawn, or named, without regard to the answers
            continue
        twin = judge(other, one["key"])
        for metric in ("accuracy", "macro_f1", "kappa"):
            assert twin[metric]["mean"] == pytest.approx(one[metric]["mean"], abs=1e-6), one["key"]
        assert twin["bounds"] == one["bounds"]
    for part in ("network", "neurons"):
        assert other["position"][part]["flip_rate"]["mean"] == summary["position"][part]["flip_rate"]["mean"]
        assert other["position"][part]["lean"]["mean"] == pytest.approx(summary["position"][part]["lean"]["mean"])
    assert other["length"]["judge"] == summary["length"]["judge"]
    assert other["calibration"] == summary["calibration"]
    assert other["panel"]["n_eff"] == pytest.approx(summary["panel"]["n_eff"])
    assert [rule["accuracy"]["mean"] for rule in other["by_votes"]["rules"]] == pytest.approx(
        [rule["accuracy"]["mean"] for rule in summary["by_votes"]["rules"]]
    )


def test_a_slice_row_changes_no_reported_accuracy(rows, summary):
    turned = [exchanged(one).model_copy(update={"human": one.human}) if one.slice else one for one in rows]
    without = [one for one in rows if not one.slice]
    for other in (summarise(turned), summarise(without)):
        for one in summary["judges"]:
            if one["kind"] != "fitted":
                assert judge(other, one["key"]) == one
        assert other["by_votes"] == summary["by_votes"]
        assert other["panel"] == summary["panel"]
        assert other["calibration"]["before"] == summary["calibration"]["before"]


def test_reported_labels_move_nothing_that_was_fitted(rows, summary):
    turned = [one if one.slice else one.model_copy(update={"human": mirrored(one.human)}) for one in rows]
    other = summarise(turned)
    assert other["fitted"]["band"] == summary["fitted"]["band"]
    assert other["fitted"]["panel"]["temperature"] == summary["fitted"]["panel"]["temperature"]
    assert other["calibration"]["temperature"] == summary["calibration"]["temperature"]


def test_the_same_rows_give_the_same_bytes(rows, summary):
    assert canonical(summarise(rows)) == canonical(summary)


def test_a_failed_call_is_an_error_and_a_neuron_not_asked_leaves_its_item_out():
    whole = [
        row(str(i), "model1", [("model1", "model1"), ("model1", "model2"), ("model2", "model1")]) for i in range(9)
    ]
    failed = row("failed", "model1", [("model1", "model1"), ("model1", "model1"), (NONE, NONE)])
    narrow = row("narrow", "model1", [("model1", "model1"), ("model1", "model1")])
    panel = summarise([*whole, failed, narrow])["panel"]
    assert (panel["items"], panel["left_out"], panel["votes"]) == (10, 1, 6)
    assert panel["neurons"][0]["accuracy"]["mean"] == 1


def test_neurons_asked_in_turn_make_no_panel_but_everything_else_is_told():
    deep = [("model1", "model2"), ("model1", "model1"), ("model1", "model1")]
    adaptive = [row(str(i), "model1", deep if i % 2 else [("model1", "model1")]) for i in range(20)]
    found = summarise(adaptive)
    assert found["panel"] is found["by_votes"] is None
    assert judge(found, "network")["judged"] == 20
    assert "independent" not in statement(found)


def test_angles_of_the_moment_are_told_apart_by_their_place():
    named = [row(str(i), LABELS[i % 2], [], network=outcome([("model1", "model2"), ("model1", "model1")],
             [f"angle {i}", f"other {i}"], fallback=i < 3)) for i in range(10)]  # fmt: skip
    found = summarise(named)
    assert found["panel"]["by"] == "place"
    assert [one["name"] for one in found["panel"]["neurons"]] == ["neuron 1", "neuron 2"]
    assert (found["fallbacks"]["items"], found["fallbacks"]["rate"]["mean"]) == (3, 0.3)


def test_layer_one_alone_stands_beside_a_deeper_network():
    first = outcome([("model1", "model1"), ("model1", "tie")])
    above = [b.model_copy(update={"layer": 2, "first": 1.0 if b.order == "12" else 9.0,
                                  "second": 9.0 if b.order == "12" else 1.0}) for b in first.ballots]  # fmt: skip
    deep = first.model_copy(update={"ballots": (*first.ballots, *above), "expected": 8, "verdict": "model2"})
    found = summarise([row(str(i), "model1", [], network=deep) for i in range(6)])
    assert judge(found, "network")["accuracy"]["mean"] == 0
    assert judge(found, "layer-1")["accuracy"]["mean"] == 1
    assert judge(found, "layer-1")["network_minus"]["accuracy"]["mean"] == -1
    assert found["panel"]["votes"] == 4


# --- sentences ------------------------------------------------------------------------------------------------


def test_a_judge_that_guesses_is_said_to_be_near_chance():
    found = summarise(drawn(300, seed=2, skill=0.0))
    told = statement(found)
    assert chance_standing(found) == "near chance"
    assert "near chance" in told
    assert "does not beat picking the longer answer" in told
    assert "Do not let these verdicts stand in for people's" in told


def test_a_good_judge_is_told_with_its_error_rate():
    found = summarise(drawn(200, skill=0.9))
    told = statement(found)
    assert "It beats picking the longer answer" in told
    assert "near chance" not in told
    wrong = 1 - judge(found, "network")["accuracy"]["mean"]
    assert f"Expect {100 * wrong:.1f} % of its verdicts to be wrong" in told


def test_a_judge_of_length_is_told_not_to_beat_length():
    random = [generator(4, "lengths", i).choice([(90, 30), (30, 90)]) for i in range(100)]
    longer = ["model1" if a > b else "model2" for a, b in random]
    people = [v if generator(4, "people", i).random() < 0.75 else mirrored(v) for i, v in enumerate(longer)]
    rows = [row(str(i), people[i], [(longer[i], longer[i])] * 2, lengths=random[i]) for i in range(100)]
    told = statement(summarise(rows))
    assert "It does not beat picking the longer answer (+0.0 points" in told
    assert "sees more in the answers than their length" in told


def test_without_labels_nothing_is_said_of_being_right():
    bare = [one.model_copy(update={"human": None}) for one in drawn(20)]
    found = summarise(bare)
    assert found["judges"] == []
    assert found["panel"] is found["by_votes"] is found["calibration"] is None
    assert found["position"]["neurons"]["flip_rate"]["mean"] is not None
    told = statement(found)
    assert "No item has a human label" in told
    assert "cannot be known" in told
    assert not re.search(r"right \d|accura|beats", told)
    sliced = summarise([one.model_copy(update={"slice": True}) for one in drawn(5)])
    assert "none is left to report on" in statement(sliced)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_rows_still_make_a_summary_and_a_page(count):
    rows = drawn(count, seed=3)
    found = summarise(rows)
    assert statement(found)
    assert "<html" in render(
        {**DONE, "spec": SPEC, "summary": found, "items": [one.model_dump(mode="json") for one in rows]}, {}
    )


def test_nothing_judged_is_not_a_verdict_on_the_judge():
    failed = Outcome(verdict="abstain", reason="RateLimited", failures={"RateLimited": 2})
    found = summarise([row(str(i), "model1", [], network=failed) for i in range(5)])
    assert "It gave no verdict on any labelled item" in statement(found)
    assert judge(found, "network")["bounds"]["accuracy"] == {"worst": 0.0, "best": 1.0}


# --- released verdicts ----------------------------------------------------------------------------------------


@needs_data
def test_released_judges_give_the_figures_known_of_them():
    """Eight judges on 466 preference items: the published table of widths and what the panel is worth."""
    found = summarise(released(EIGHT, PROCESSED), NETWORK)
    rules = {rule["name"]: rule for rule in found["by_votes"]["rules"]}
    assert rules["all votes"]["accuracy"]["mean"] == pytest.approx(0.7715, abs=3.5e-4)
    assert rules["lead 4"]["calls"]["mean"] == pytest.approx(7.35, abs=0.005)
    assert rules["lead 4"]["accuracy"]["mean"] == pytest.approx(0.7719, abs=3.5e-4)
    assert rules["lossless"]["accuracy"]["mean"] == rules["all votes"]["accuracy"]["mean"]
    assert (round(found["panel"]["rho"], 2), round(found["panel"]["n_eff"], 1)) == (0.34, 2.6)
    assert round(found["panel"]["single"]["mean"], 3) == 0.697
    assert found["panel"]["warning"].startswith("16 votes are worth 2.6")
    assert found["by_votes"]["credit"] == "half"
    assert judge(found, "longer")["accuracy"]["mean"] == pytest.approx(
        np.mean([one.human == ("tie" if one.lengths[0] == one.lengths[1] else
                               "model1" if one.lengths[0] > one.lengths[1] else "model2")
                 for one in released(EIGHT, PROCESSED)]), abs=1e-6,
    )  # fmt: skip


# --- the page -------------------------------------------------------------------------------------------------


def result_of(rows, **changes):
    return {**DONE, "spec": SPEC, "summary": summarise(rows), "items": [one.model_dump(mode="json") for one in rows],
            **changes}  # fmt: skip


TIMING = {
    "seconds": 12.5, "counts": {"paid": 60, "found": 0, "failed": 3, "repeated": 1, "lost": 0}, "spent": {},
    "cost": {"calls": 60.0, "tokens": 9e4, "prompt_tokens": 8e4, "completion_tokens": 1e4, "cached_tokens": 3e4,
             "usd": 0.12, "seconds": 44.0},
    "kinds": {"judge-angles": {"calls": 10, "tokens": 9000, "seconds": 4.0, "usd": 0.02},
              "judge-review": {"calls": 50, "tokens": 81000, "seconds": 40.0, "usd": 0.1}},
}  # fmt: skip


def test_what_models_and_data_say_is_escaped_and_nothing_is_fetched():
    evil = "<script>alert('x')</script> costs $5 & $6 </svg>"
    rows = [row(f"<i>{i}", LABELS[i % 3], [], query=evil, network=outcome(
                [("model1", "model1"), ("model2", "tie")], [evil, "$x^{"], text=evil)) for i in range(6)]  # fmt: skip
    page = render(result_of(rows), TIMING)
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in page
    assert page.count("</svg>") == page.count("<svg")
    assert [link for link in re.findall(r'(?:src|href)="([^"]*)', page) if not link.startswith(("data:", "#"))] == []
    assert not re.search(r"url\((?!#)|@import", page)


def test_the_page_shows_every_picture_every_judge_and_every_ballot(rows):
    page = render(result_of(rows), TIMING)
    titles = ("Agreement with people", "The order of the answers", "The length of the answers",
              "Can its confidence be believed?", "Accuracy by number of votes", "Do the neurons err together?",
              "What the calls took")  # fmt: skip
    assert [title for title in titles if title not in page] == []
    assert page.count("<figure>") == len(titles)
    assert page.index("What was not judged") < page.index("Judges beside each other")
    assert "Timeout" in page[page.index("What was not judged") : page.index("Judges beside each other")]
    shown = rows[:60]
    assert page.count(" shown first: ") == sum(len(one.network.ballots) for one in shown)
    assert "60 of 91 shown" in page
    assert page == render(result_of(rows), TIMING)


def test_a_stopped_run_says_so_and_a_page_needs_no_timing():
    page = render(result_of(drawn(4), status="STOPPED", stop_reason="budget: calls"), {})
    assert "This run was stopped (budget: calls)" in page
    assert "Not recorded." in page


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 2400), (390, 3200)])
def test_the_page_draws_in_a_browser_without_a_console_error(width, height, tmp_path):
    import matplotlib.image as images

    assert BROWSER, "install chromium: .ci/full does"
    rows = released(EIGHT, PROCESSED, 34, text="Assistant 1 is better.\nScore of Assistant 1: 8")
    rows = [one.model_copy(update={"slice": place % 4 == 0}) for place, one in enumerate(rows)]
    file, shot = tmp_path / "report.html", tmp_path / "shot.png"
    file.write_text(render(result_of(rows), TIMING), encoding="utf-8")
    command = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path}/profile", f"--window-size={width},{height}"]
    done = subprocess.run(
        [*command, f"--screenshot={shot}", file.as_uri()], capture_output=True, text=True, timeout=120, check=False
    )
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    picture = images.imread(shot)
    assert picture.shape[1] == width
    colours = {tuple(pixel) for pixel in (picture[::7, ::7, :3].reshape(-1, 3) * 255).astype(int)}
    assert len(colours) > 30, "an empty page has few colours"


# --- pairs and audits -----------------------------------------------------------------------------------------


def test_shipped_pairs_are_balanced_unique_and_not_given_away_by_length():
    pairs = load_pairs("plait:pairs")
    assert [pair.id for pair in pairs] == [f"pair-{number:02d}" for number in range(40)]
    assert {name: labels(pairs).count(name) for name in LABELS} == {"model1": 16, "model2": 16, "tie": 8}
    assert len({pair.query for pair in pairs}) == 40
    texts = [text for pair in pairs for text in (pair.response1, pair.response2)]
    assert len(set(texts)) == 80
    decided = [pair for pair in pairs if pair.human != "tie"]
    longer = [(len(pair.response1) > len(pair.response2)) == (pair.human == "model1") for pair in decided]
    assert sum(longer) == 16
    for name in LABELS[:2]:  # nor by length and place together
        assert sum(right for right, pair in zip(longer, decided, strict=True) if pair.human == name) == 8


@needs_data
def test_public_sets_are_found_by_content_whatever_their_files_are_called(tmp_path):
    found = audit_sets(DATA)
    assert [one.name for one in found] == ["autoj", "llmeval2", "faireval", *(f"llmbar {part}" for part in (
        "natural", "neighbor", "gptinst", "gptout", "manual"))]  # fmt: skip
    assert [len(one.pairs) for one in found] == [1392, 2553, 80, 100, 134, 92, 47, 46]
    assert all(one.whole for one in found)
    (tmp_path / "deep").mkdir()
    shutil.copy(DATA / "llmbar" / "LLMBar_Natural.jsonl", tmp_path / "deep" / "renamed.jsonl")
    short = (DATA / "faireval" / "faireval.jsonl").read_text(encoding="utf-8").splitlines()[:10]
    (tmp_path / "faireval.jsonl").write_text("\n".join(short), encoding="utf-8")
    (tmp_path / "notes.jsonl").write_text(json.dumps({"text": "no pair"}), encoding="utf-8")
    again = audit_sets(tmp_path)
    assert [(one.name, len(one.pairs), one.whole) for one in again] == [
        ("faireval", 10, False), ("llmbar natural", 100, True)
    ]  # fmt: skip
    picked = again[1].sample(7, seed=1)
    assert picked == again[1].sample(7, seed=1) != again[1].sample(7, seed=2)
    assert len(again[1].sample(None, seed=1)) == 100


def test_a_folder_without_sets_is_refused_in_one_line(tmp_path):
    with pytest.raises(DataError, match="no public set"):
        audit_sets(tmp_path)


def test_an_audit_marks_a_judge_below_longer_answers():
    """One set where the shorter answer is taken and people take the longer one, one where the judge is right."""
    length = [(80, 20) if i % 2 else (20, 80) for i in range(40)]
    longer = ["model1" if i % 2 else "model2" for i in range(40)]
    blind = [row(str(i), longer[i], [(mirrored(longer[i]),) * 2] * 2, lengths=length[i]) for i in range(40)]
    good = [row(str(i), mirrored(longer[i]), [(mirrored(longer[i]),) * 2] * 2, lengths=length[i]) for i in range(40)]
    silent = [row(str(i), None, [("model1", "model1")] * 2) for i in range(3)]
    results = {"blind": summarise(blind), "good": summarise(good), "silent": summarise(silent)}
    rows = {one["set"]: one for one in audit_rows(results)}
    assert rows["blind"]["findings"][0] == "BELOW longer"
    assert "below chance" in rows["blind"]["findings"]
    assert rows["good"]["findings"] == []
    assert (rows["good"]["accuracy"]["mean"], rows["good"]["longer"]["mean"]) == (1, 0)
    assert rows["silent"]["findings"] == ["no labelled item to report on"]
    table = audit_table(results)
    assert [line.style for line in table.rows] == ["bold red", None, None]
