"""The statistics of judge panels: what they mean on small cases, what never changes them, what simulations give."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from plait.agents.judges.baselines import chance_range, length_bias, longer_wins, majority_class, random_judge
from plait.agents.judges.calibration import calibration_error, fit_temperature, reliability, tempered
from plait.agents.judges.comparison import calibrated, slice_trials, stopping
from plait.agents.judges.dawid_skene import dawid_skene
from plait.agents.judges.metrics import (
    METRICS,
    agreement,
    bounds,
    crossed,
    items_for_width,
    items_to_show,
    paired_difference,
    score,
    scores_of,
)
from plait.agents.judges.panel import (
    clusters,
    discounts,
    effective_votes,
    error_correlation,
    fit_panel,
    log_odds_weights,
)
from plait.agents.judges.position import as_seen, judgebench_right, llmbar, mtbench, position_effect, reconciled
from plait.agents.judges.released import read_verdicts
from plait.agents.judges.stopping import Ballot, Fixed, Lead, Lossless, draw, expected
from plait.agents.judges.verdicts import LABELS, Abstain, decode, encode, mirrored
from plait.agents.judges.votes import (
    aggregate,
    fit_band,
    margin_of_logprobs,
    merge_logprobs,
    merge_scores,
    plurality,
    verdict_of,
)
from plait.errors import DataError, SpecError
from plait.intervals import mean_interval

NONE = Abstain("timeout")
label = st.sampled_from(LABELS)
verdict = st.one_of(label, st.just(NONE))
judged = st.lists(st.tuples(verdict, label), min_size=1, max_size=40)
margin = st.one_of(st.none(), st.floats(-10, 10).map(lambda x: round(x, 3)))
RULES = (Lead(1), Lead(2), Lead(3, every=1), Lossless(), Fixed(3))


def simulated(rng, items, accuracies, ties=False):
    """Votes of judges who err independently, and the truth."""
    truth = rng.choice([1.0, 0.0, -1.0] if ties else [1.0, -1.0], items)
    right = rng.random((items, len(accuracies))) < np.asarray(accuracies)
    wrong = -truth if not ties else np.where(truth == 1, 0.0, np.where(truth == 0, -1.0, 1.0))
    return np.where(right, truth[:, None], wrong[:, None]), truth


# --- metrics -------------------------------------------------------------------------------------------------


def test_a_constant_judge_has_kappa_zero_even_where_the_labels_are_constant():
    assert score(["tie"] * 3, ["tie"] * 3, "kappa") == 0.0
    assert score(["model1"] * 4, ["model1", "model2", "tie", "model1"], "kappa") == 0.0
    assert scores_of(crossed(["tie"] * 3, ["tie"] * 3), "kappa") == 0.0


def test_macro_f1_counts_a_class_that_was_never_predicted_as_zero():
    assert score(["model1"] * 3, ["model1", "model2", "tie"], "macro_f1") == pytest.approx(0.5 / 3)


@given(judged)
def test_tables_of_counts_score_as_scikit_learn_does(pairs):
    verdicts, labels = zip(*pairs, strict=True)
    for metric in METRICS:
        found = score(verdicts, labels, metric)
        table = scores_of(crossed(verdicts, labels), metric)
        assert np.isnan(table) if found is None else table == pytest.approx(found)


def test_nothing_judged_has_no_score_and_no_interval():
    found = agreement([NONE, NONE], ["model1", "tie"])
    assert found.coverage == 0
    assert found.reasons == {"timeout": 2}
    assert [found.intervals[metric]["mean"] for metric in METRICS] == [None, None, None]
    assert (found.bounds["accuracy"].worst, found.bounds["accuracy"].best) == (0, 1)


def test_an_agreement_bounds_what_is_missing():
    found = agreement(["model1", "model2", NONE, "tie"], ["model1", "model1", "tie", "tie"])
    assert found.judged == 3
    assert found.intervals["accuracy"]["mean"] == pytest.approx(2 / 3, abs=1e-6)
    assert (found.bounds["accuracy"].worst, found.bounds["accuracy"].best) == (0.5, 0.75)


@given(st.lists(st.tuples(verdict, label), min_size=2, max_size=6))
def test_bounds_hold_every_way_the_missing_could_fall(pairs):
    verdicts, labels = zip(*pairs, strict=True)
    missing = [i for i, v in enumerate(verdicts) if v == NONE]
    for metric in METRICS:
        limits = bounds(verdicts, labels, metric)
        reached = []
        for fill in np.ndindex(*(3,) * len(missing)):
            whole = list(verdicts)
            for place, choice in zip(missing, fill, strict=True):
                whole[place] = LABELS[choice]
            reached.append(score(whole, labels, metric))
        assert limits.best == pytest.approx(max(reached))
        assert limits.worst <= min(reached) + 1e-6
        if metric != "macro_f1":  # its worst is of fractions of items
            assert limits.worst == pytest.approx(min(reached))


def test_the_interval_of_a_share_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        verdicts = np.where(rng.random(120) < 0.7, "model1", "model2").tolist()
        interval = agreement(verdicts, ["model1"] * 120, str(trial)).intervals["accuracy"]
        covered += interval["low"] <= 0.7 <= interval["high"]
    assert 0.90 <= covered / 300 <= 0.98  # 95 % and three standard errors


def test_a_paired_interval_is_narrower_than_two_that_are_not():
    rng = np.random.default_rng(1)
    labels = [decode(code) for code in rng.choice([1.0, -1.0], 400)]
    ours = [x if rng.random() < 0.8 else mirrored(x) for x in labels]
    theirs = [x if rng.random() < 0.95 else mirrored(x) for x in ours]
    for metric in METRICS:
        gap = paired_difference(ours, theirs, labels, metric)
        sides = [agreement(side, labels).intervals[metric] for side in (ours, theirs)]
        assert gap["mean"] == pytest.approx(sides[0]["mean"] - sides[1]["mean"], abs=2e-6)
        assert gap["high"] - gap["low"] < 0.7 * sum(side["high"] - side["low"] for side in sides)


def test_a_judge_beside_itself_differs_by_nothing():
    gap = paired_difference(["model1", "tie"], ["model1", "tie"], ["tie", "tie"], "kappa")
    assert gap["mean"] == 0
    assert gap["low"] == -gap["high"] < -0.5  # two items that agree say little of the others


def test_how_many_items_an_answer_takes():
    assert 1290 <= items_to_show(gain=0.03, discordant=0.15) <= 1310  # three points, 15 % discordant: about 1,300
    values = [1.0] * 71 + [0.0] * 29
    needed = items_for_width(values, 0.056)
    assert 990 <= needed <= 1030  # 2.8 points each way at 0.71: about a thousand
    assert items_for_width(values, 0.028) == pytest.approx(4 * needed, rel=0.01)


# --- position, procedures, baselines --------------------------------------------------------------------------


def test_a_judge_that_takes_the_first_answer_leans_wholly_to_it():
    found = position_effect(["model1"] * 5, ["model2"] * 5)
    assert (found.flip_rate["mean"], found.lean["mean"]) == (1, 1)
    assert position_effect(["model2"] * 5, ["model1"] * 5).lean["mean"] == -1
    both_ways = position_effect(["model1", "model2", NONE], ["model2", "model1", "model1"])
    assert (both_ways.flip_rate["mean"], both_ways.lean["mean"], both_ways.unjudged) == (1, 0, 1)


def test_judgebench_counts_a_win_and_a_tie_as_right_and_a_flip_as_wrong():
    first = ["model1", "model1", "model1", NONE, "model1", "model1"]
    second = ["model1", "tie", "model2", "model1", "tie", NONE]
    labels = ["model1", "model1", "model1", "model1", "model2", "tie"]
    assert judgebench_right(first, second, labels) == [True, True, False, True, False, False]


def test_llmbar_means_both_orders_and_mtbench_turns_conflicts_into_ties():
    first, second = ["model1", "model1", "tie", NONE], ["model1", "model2", "tie", "model1"]
    labels = ["model1", "model1", "tie", "model1"]
    assert llmbar(first, second, labels) == {"accuracy": 0.75, "both_right": 0.5, "swap_agreement": 0.5}
    assert reconciled(first, second) == ["model1", "tie", "tie", NONE]
    found = mtbench(first, second, labels)
    assert found == {"with_ties": 2 / 3, "without_ties": 1.0, "items_with_ties": 3, "items_without_ties": 1}


def test_the_longer_answer_wins_and_a_judge_of_length_shows_it():
    answers = [("long", "s"), ("s", "long"), ("same", "four"), ("longer", "a")]
    assert longer_wins(answers) == ["model1", "model2", "tie", "model1"]
    found = length_bias(["model1", "model2", "model1", "model1"], ["model1", "model1", "model1", "model1"], answers)
    assert (found.judge["mean"], found.judge["n"]) == (1, 3)
    assert found.excess["mean"] == pytest.approx(1 / 3, abs=1e-6)


def test_controls_are_what_they_say():
    assert majority_class(["tie", "model2", "model2"], 2) == ["model2", "model2"]
    assert random_judge(50, 1) == random_judge(50, 1) != random_judge(50, 2)
    assert "tie" not in random_judge(200, 3, ties=False)
    assert set(random_judge(200, 3)) == set(LABELS)
    with pytest.raises(SpecError, match="labels: got 0"):
        majority_class([])
    ranges = chance_range(["model1", "model2"] * 50, draws=200, seed=0, ties=False)
    assert ranges["accuracy"][0] < 0.5 < ranges["accuracy"][1]


# --- calibration ----------------------------------------------------------------------------------------------


def test_calibration_error_is_the_gap_of_each_bin():
    assert calibration_error([1.0, 1.0], [1, 0]) == 0.5
    assert calibration_error([0.75] * 4, [1, 1, 1, 0]) == 0
    assert calibration_error([], []) is None
    bins = reliability([0.05, 1.0], [0, 1])
    assert [b.items for b in bins] == [1, *[0] * 8, 1]
    assert bins[1].confidence is None


def test_a_temperature_undoes_a_known_sharpening():
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, (4000, 2))
    truth = (rng.random(4000) > tempered(logits, 1.0)[:, 0]).astype(int)
    assert fit_temperature(3 * logits, truth) == pytest.approx(3, rel=0.1)


# --- merging and voting ---------------------------------------------------------------------------------------


def test_scores_are_unswapped_and_one_order_alone_is_no_answer():
    assert merge_scores((8, 6), (5, 9)) == (8.5, 5.5)
    assert merge_scores((8, 6), None) is None
    assert merge_logprobs(None, [0, 0, 0]) is None


def test_a_position_effect_that_adds_to_the_log_odds_cancels():
    truth = np.log([0.6, 0.3, 0.1])
    pull = np.array([0.9, -0.4, 0.0])
    merged = merge_logprobs(truth + pull, truth[[1, 0, 2]] + pull)
    odds = np.exp(merged[0] - merged[1])
    assert np.exp(merged).sum() == pytest.approx(1)
    assert odds == pytest.approx(2)
    with pytest.raises(SpecError, match="possible in both orders"):
        merge_logprobs([0, -np.inf, -np.inf], [0, -np.inf, -np.inf])


def test_four_ways_to_aggregate_and_a_tie_on_equal_counts():
    layers = [[-5.0, -5.0, -5.0], [1.0, 0.5, None]]
    assert aggregate(layers, "mean", "last") == aggregate(layers, "vote", "last") == "model1"
    assert aggregate(layers, "mean", "all") == aggregate(layers, "vote", "all") == "model2"
    assert aggregate(layers, "mean", "last", band=0.75) == "tie"
    assert aggregate([[3.0, -1.0]], "vote") == "tie"
    assert aggregate([[3.0], [None]], "mean", "last") == Abstain("no neuron answered in both orders")
    assert plurality(["model1", "tie", "tie", "model2", NONE]) == "tie"
    with pytest.raises(SpecError, match="layers"):
        aggregate([])


@given(st.lists(st.lists(margin, min_size=1, max_size=4), min_size=1, max_size=3), st.floats(0, 3))
def test_exchanging_the_answers_mirrors_the_network(layers, band):
    exchanged = [[None if m is None else -m for m in layer] for layer in layers]
    for how in ("mean", "vote"):
        for over in ("last", "all"):
            assert aggregate(exchanged, how, over, band) == mirrored(aggregate(layers, how, over, band))


@given(*[st.tuples(*[st.floats(-8, 0)] * 3)] * 2)
def test_exchanging_the_answers_mirrors_merged_labels(shown12, shown21):
    assert margin_of_logprobs(merge_logprobs(shown12, shown21)) == pytest.approx(
        -margin_of_logprobs(merge_logprobs(shown21, shown12)), abs=1e-12
    )
    assert as_seen(as_seen(["model1", "tie", NONE])) == ["model1", "tie", NONE]


def test_a_band_fitted_on_a_slice_finds_the_ties():
    rng = np.random.default_rng(3)
    margins = rng.normal(0, 3, 600)
    labels = [verdict_of(m, 1.0) for m in margins + rng.normal(0, 0.3, 600)]
    band = fit_band(margins[:60], labels[:60])
    assert band == pytest.approx(1.0, abs=0.5)
    ours = [verdict_of(m, band) for m in margins[60:]]
    assert score(ours, labels[60:], "macro_f1") > score([verdict_of(m) for m in margins[60:]], labels[60:], "macro_f1")
    assert fit_band([2.0, -1.0, 3.0], ["model1", "model2", "model1"]) == 0


# --- stopping -------------------------------------------------------------------------------------------------


@given(st.lists(verdict, max_size=12))
def test_the_lossless_rule_always_gives_the_full_vote(votes):
    assert draw(votes, Lossless()).verdict == draw(votes).verdict


@given(st.lists(verdict, min_size=1, max_size=7))
def test_the_lossless_rule_stops_as_soon_as_nothing_can_change(votes):
    asked = draw(votes, Lossless()).calls
    for calls in range(1, asked):
        left = len(votes) - calls
        ends = {draw([*votes[:calls], *[LABELS[c] for c in rest]]).verdict for rest in np.ndindex(*(3,) * left)}
        assert len(ends) > 1


@given(st.lists(verdict, max_size=12), st.sampled_from(RULES))
def test_a_ballot_asks_exactly_as_many_votes_as_the_pure_rule(votes, rule):
    ballot, asked = Ballot(rule, len(votes)), 0
    while ballot.wants_more:
        ballot.add(votes[asked])
        asked += 1
    assert (asked, ballot.verdict) == draw(votes, rule)


@given(st.lists(verdict, max_size=12), st.sampled_from(RULES))
def test_exchanging_the_answers_mirrors_a_stopped_vote(votes, rule):
    calls, found = draw(votes, rule)
    assert draw([mirrored(vote) for vote in votes], rule) == (calls, mirrored(found))


@given(st.lists(st.tuples(verdict, verdict), min_size=1, max_size=5), st.sampled_from(RULES))
def test_the_exact_mean_is_that_of_all_orders(pairs, rule):
    from itertools import permutations

    ends = [draw([vote for pair in order for vote in pair], rule) for order in permutations(pairs)]
    found = expected(pairs, rule)
    assert found.calls == pytest.approx(np.mean([end.calls for end in ends]))
    for name, chance in zip(LABELS, found[1:], strict=True):
        assert chance == pytest.approx(np.mean([end.verdict == name for end in ends]))
    assert expected(pairs[::-1], rule) == pytest.approx(found)  # the order of the judges is no matter


def test_a_lead_is_looked_at_between_pairs_and_over_the_second_label():
    assert draw(["model1", "model1", "model2", "model2"], Lead(1, every=1)).calls == 1
    assert draw(["model1", "model1", "model2", "model2"], Lead(2)) == (2, "model1")
    assert draw(["model1", "tie", "model1", "tie"], Lead(2)) == (4, "tie")
    assert draw([NONE, NONE], Lead(1)) == (2, Abstain("no vote was cast"))


def test_a_ballot_refuses_votes_it_has_no_room_for():
    ballot = Ballot(Lossless(), total=1)
    ballot.add("tie")
    with pytest.raises(SpecError, match="votes of the ballot: got 2, expected 1 at most"):
        ballot.add("tie")
    with pytest.raises(SpecError, match="lead rule"):
        Lead(0)


# --- panels ---------------------------------------------------------------------------------------------------


def test_independent_judges_are_worth_their_number_and_copies_are_worth_one():
    votes, truth = simulated(np.random.default_rng(4), 4000, [0.7] * 6)
    assert effective_votes(error_correlation(votes, truth)).n_eff == pytest.approx(6, rel=0.05)
    same = effective_votes(error_correlation(np.repeat(votes[:, :1], 6, axis=1), truth))
    assert same.n_eff == pytest.approx(1)
    assert "worth 1.0" in same.warning


def test_a_judge_that_never_errs_has_no_correlation_and_makes_none_up():
    votes, truth = simulated(np.random.default_rng(5), 200, [1.0, 0.7, 0.7])
    correlation = error_correlation(votes, truth)
    assert np.isnan(correlation[0, 1:]).all()
    assert effective_votes(correlation).rho == pytest.approx(correlation[1, 2])
    assert effective_votes(correlation[:2, :2]) == effective_votes(correlation[:2, :2].T)
    assert effective_votes(correlation[:2, :2]).n_eff is None


def common_errors(seed, items, judges, share, opposed=False):
    """Votes whose errors are common to all judges on a share of the items; opposed, every second judge errs where
    the others do not, as the two orders of a judge do that leans to a place."""
    rng = np.random.default_rng(seed)
    votes, truth = simulated(rng, items, [0.7] * judges)
    shared = rng.random(items) < share
    sides = np.where(np.arange(judges) % 2, -1 if opposed else 1, 1)
    return np.where(shared[:, None], votes[:, :1] * sides, votes), truth


@given(st.integers(0, 10_000), st.integers(2, 8), st.floats(0.1, 0.9), st.booleans())
@example(1487, 2, 0.125, False)  # rho is below 0 without the copy, above it with the copy
def test_duplicates_do_not_raise_what_a_panel_is_worth(seed, judges, share, opposed):
    votes, truth = common_errors(seed, 300, judges, share, opposed)
    correlation = error_correlation(votes, truth)
    worth = effective_votes(correlation).n_eff
    doubled = effective_votes(error_correlation(np.hstack([votes, votes]), truth)).n_eff
    assert doubled == pytest.approx(worth)
    more = error_correlation(np.hstack([votes, votes[:, :1]]), truth)  # one judge twice
    shared = np.array([0.25, *[1.0] * (judges - 1), 0.75])
    assert effective_votes(more, shared).n_eff == pytest.approx(worth)
    assert max(worth, effective_votes(more).n_eff) <= judges + 1e-9
    groups = clusters(correlation, threshold=0.9)
    weighted = effective_votes(correlation, discounts(correlation, groups)).n_eff
    after = clusters(more, threshold=0.9)
    assert after[0] == after[-1]
    if (groups == groups[0]).sum() == 1:  # its cluster is itself and its copy: both weigh together what it did
        assert effective_votes(more, discounts(more, after)).n_eff == pytest.approx(weighted, rel=1e-6)


def test_errors_that_go_against_each_other_are_worth_no_more_than_the_judges_that_differ():
    pair = np.array([[1, -0.4], [-0.4, 1]])
    for times, split in (([0, 1], [1, 1]), ([0, 1, 0], [0.3, 1, 0.7]), ([0, 1, 0, 1, 1], [0.5, 0.2, 0.5, 0.2, 0.6])):
        found = effective_votes(pair[np.ix_(times, times)], np.array(split))
        assert found.n_eff == pytest.approx(2)
    copied = pair[np.ix_([0, 1, 0], [0, 1, 0])]
    assert effective_votes(copied).n_eff == pytest.approx(9 / 5)  # two judges with weights 2 and 1


def test_a_copy_of_the_odd_one_out_raises_the_equal_weight_figure_alone():
    """The stated formula, not a fault: the copy gives the independent judge more of the weight it deserves."""
    correlation = np.array([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1.0]])
    copied = correlation[np.ix_([0, 1, 2, 2], [0, 1, 2, 2])]
    assert effective_votes(copied).n_eff > effective_votes(correlation).n_eff
    weighted = [effective_votes(c, discounts(c, clusters(c))).n_eff for c in (correlation, copied)]
    assert weighted[0] == pytest.approx(weighted[1])


@given(st.integers(0, 10_000))
def test_the_order_of_the_judges_is_no_matter(seed):
    votes, truth = common_errors(seed, 120, 6, 0.5)
    order = np.random.default_rng(seed).permutation(6)
    mixed = votes[:, order]
    for name, ours, theirs in (
        ("worth", effective_votes(error_correlation(votes, truth)).n_eff,
         effective_votes(error_correlation(mixed, truth)).n_eff),
        ("weights", log_odds_weights(votes, truth)[order], log_odds_weights(mixed, truth)),
        ("dawid-skene", dawid_skene(votes).posterior, dawid_skene(mixed).posterior),
        ("posterior", fit_panel(votes, truth).posterior(votes), fit_panel(mixed, truth).posterior(mixed)),
    ):  # fmt: skip
        assert ours == pytest.approx(theirs, abs=1e-5), name


@given(st.integers(0, 10_000))
def test_exchanging_the_answers_mirrors_the_panel(seed):
    votes, truth = common_errors(seed, 120, 5, 0.5)
    votes[0, 0] = np.nan
    assert effective_votes(error_correlation(-votes, -truth)) == effective_votes(error_correlation(votes, truth))
    assert dawid_skene(-votes).posterior == pytest.approx(dawid_skene(votes).posterior[:, ::-1], abs=1e-6)
    ours, theirs = fit_panel(votes, truth), fit_panel(-votes, -truth)
    assert theirs.posterior(-votes) == pytest.approx(ours.posterior(votes)[:, ::-1], abs=1e-6)
    assert (theirs.codes(-votes) == -ours.codes(votes)).all()


def test_clusters_hold_judges_that_err_together():
    rng = np.random.default_rng(6)
    a, truth = simulated(rng, 500, [0.7])
    b = np.where(rng.random((500, 1)) < 0.7, truth[:, None], -truth[:, None])
    noise = np.where(rng.random((500, 4)) < 0.05, -1, 1)
    votes = np.hstack([a, b, a, b]) * noise
    groups = clusters(error_correlation(votes, truth))
    assert groups.tolist() == [0, 1, 0, 1]
    assert discounts(error_correlation(votes, truth), groups) == pytest.approx([0.57] * 4, abs=0.06)


@pytest.mark.parametrize("ties", [False, True])
def test_dawid_skene_finds_the_truth_and_who_errs(ties):
    accuracies = [0.9, 0.85, 0.6, 0.8, 0.3]
    votes, truth = simulated(np.random.default_rng(7), 3000, accuracies, ties)
    votes[::7, 1] = np.nan
    found = dawid_skene(votes)
    majority = np.sign(np.nan_to_num(votes).sum(1))
    assert (found.codes == truth).mean() > max(0.93, (majority == truth).mean())
    diagonal = np.einsum("vcc->vc", found.confusion).mean(1)
    assert diagonal == pytest.approx(accuracies, abs=0.04)
    assert calibration_error(found.posterior.max(1), (found.codes == truth).astype(float)) < 0.03
    assert found.rounds < 100


def test_dawid_skene_is_too_sure_when_judges_err_together():
    votes, truth = common_errors(8, 800, 12, 0.8)
    found = dawid_skene(votes)
    assert calibration_error(found.posterior.max(1), (found.codes == truth).astype(float)) > 0.1
    with pytest.raises(SpecError, match="votes"):
        dawid_skene(np.full((3, 2), np.nan))


def test_weights_follow_the_slice_and_need_twenty_labels():
    votes, truth = simulated(np.random.default_rng(9), 4000, [0.9, 0.5, 0.2])
    weights = log_odds_weights(votes, truth)
    assert weights == pytest.approx([np.log(9), 0, np.log(0.25)], abs=0.15)
    assert log_odds_weights(votes, truth, [0, 0, 1])[0] == pytest.approx(np.log(0.7 / 0.3), abs=0.1)
    with pytest.raises(SpecError, match="label slice: got 19, expected 20 labels or more"):
        log_odds_weights(votes[:19], truth[:19])
    with pytest.raises(SpecError, match="two classes"):
        fit_panel(votes[:20], np.ones(20))


def test_a_fitted_panel_is_less_sure_and_better_calibrated_off_its_slice():
    votes, truth = common_errors(10, 1500, 10, 0.8)
    found = calibrated(votes, truth, list(range(10)), 100, seed=0, discount=False)
    assert found.temperature > 1
    assert found.error_tempered < found.error_raw - 0.05


def test_labels_of_a_slice_beat_the_majority_of_a_bad_panel():
    votes, truth = simulated(np.random.default_rng(11), 400, [0.9, 0.35, 0.35, 0.35, 0.35])
    trials = slice_trials(votes, truth, [0, 1, 2, 3, 4], 30, 20, seed=0)
    assert trials.majority.mean() < 0.6 < 0.85 < trials.weighted.mean()
    assert trials.best.mean() > 0.85


def test_stopping_credits_an_undecided_item_with_a_half():
    found = stopping([[("model1", "model2")], [("model1", "model1")], [(NONE, NONE)]], ["model1"] * 3, None)
    assert found.credits.tolist() == [0.5, 1, 0.5]
    assert found.calls == 2


# --- bad input ------------------------------------------------------------------------------------------------


def test_bad_input_gets_one_line(tmp_path):
    with pytest.raises(SpecError, match=r"verdicts\[1\]: got 'model3', expected one of model1, model2, tie"):
        encode(["model1", "model3"])
    with pytest.raises(SpecError, match="verdicts: got 1, expected one for each of the 2 items"):
        agreement(["tie"], ["tie", "tie"])
    table = tmp_path / "v.csv"
    table.write_text("set,item,judge,winner_order12,winner_order21,label\na,0,j,1,3,1\n")
    with pytest.raises(DataError, match=r"v.csv:2: got '3', expected a winner of 1, 2, tie"):
        read_verdicts(table)
    table.write_text("set,item\n")
    with pytest.raises(DataError, match="the columns judge"):
        read_verdicts(table)


def test_intervals_do_not_change_between_runs():
    verdicts, labels = ["model1", "model2", "tie", "model1"] * 5, ["model1", "tie", "tie", "model2"] * 5
    others = verdicts[1:] + verdicts[:1]
    assert agreement(verdicts, labels, "a") == agreement(verdicts, labels, "a")
    one, again = (paired_difference(verdicts, others, labels, "macro_f1", "a") for _ in range(2))
    assert one == again
    skewed = [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
    assert mean_interval(skewed, "a") != mean_interval(skewed, "b")
