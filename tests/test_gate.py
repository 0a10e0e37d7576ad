"""Gates: what is kept how often, as simulated elsewhere and as computed; missing items, repeats, confirmation."""

import math

import numpy as np
import pytest
from gate_runs import EDITS, answers, fresh, run, verdicts, world
from hypothesis import given
from hypothesis import strategies as st
from plait.errors import SpecError
from plait.search.gate import (
    EAGER,
    GATES,
    MEAN,
    MINIBATCH,
    THREE_LOOKS,
    Gate,
    confirm,
    gate_of,
    pair_up,
    sign,
    sign_p,
)
from scipy import stats

DRAWS = 3000
CHANGES = (-0.05, 0.0, 0.05, 0.10)
# Specs/ann, section 9.8, first table: shares kept of changes of -5, 0, +5 and +10 points.
PUBLISHED = {
    ("three_looks", 300): (0.018, 0.19, 0.63, 0.88),
    ("eager", 300): (0.035, 0.34, 0.78, 0.95),
    ("mean", 100): (0.17, 0.47, 0.80, 0.95),
    ("mean", 300): (0.06, 0.48, 0.93, 1.0),
    ("minibatch", 300): (0.23, 0.29, 0.36, 0.42),
    ("sign:0.05:100", 100): (0.003, 0.04, 0.18, 0.47),
    ("sign:0.2:100", 100): (0.035, 0.16, 0.44, 0.78),
    ("sign:0.2:300", 300): (0.008, 0.17, 0.71, 0.98),
}
ITEMS = {"three_looks": (91, 142, 171, 145), "eager": (121, 184, 219, 183)}


def error(share, *draws):
    """The standard error of a share, or of the difference of two such shares, by the numbers of draws."""
    return math.sqrt(max(share * (1 - share), 0.003) * sum(1 / n for n in draws))


def scores(wins, losses, ties=0, missing=0):
    """Pairs of answers with these counts, the incumbent's first."""
    kinds = [(0, 1)] * wins + [(1, 0)] * losses + [(1, 1)] * ties + [(None, 1)] * missing
    return {f"item{i}": pair for i, pair in enumerate(kinds)}


@pytest.mark.parametrize(("name", "n"), PUBLISHED)
def test_shares_kept_are_the_published_ones(name, n):
    gate = gate_of(name)
    for change, published in zip(CHANGES, PUBLISHED[name, n], strict=True):
        kept, _ = fresh(gate, change, DRAWS, n)
        # The published shares are simulated too, of 500 to 3,000 draws and rounded: the middle is taken for theirs.
        assert kept == pytest.approx(published, abs=3 * error(published, DRAWS, 1500) + 0.005), change


@pytest.mark.parametrize(("name", "n"), PUBLISHED)
def test_the_power_that_is_told_is_what_fresh_draws_give(name, n):
    gate = gate_of(name)
    for change in CHANGES:
        odds = gate.odds(n, change)
        kept, items = fresh(gate, change, DRAWS, n)
        assert kept == pytest.approx(odds.kept, abs=3.5 * error(odds.kept, DRAWS)), change
        assert items == pytest.approx(odds.items, abs=3.5 * 110 / math.sqrt(DRAWS)), change


@pytest.mark.parametrize("name", ITEMS)
def test_items_until_a_decision_are_the_published_ones(name):
    odds = [gate_of(name).odds(300, change) for change in CHANGES]
    assert [found.items for found in odds] == pytest.approx(ITEMS[name], abs=5)


@pytest.mark.parametrize(
    ("n", "small", "large"), [(200, 0.30, 0.73), (400, 0.48, 0.96), (800, 0.76, 1), (1319, 0.92, 1)]
)
def test_power_of_a_confirmation(n, small, large):
    test = sign(0.05, n)
    assert test.power(n, 0.05) == pytest.approx(small, abs=0.03)
    assert test.power(n, 0.10) == pytest.approx(large, abs=0.03)
    assert 0.03 < test.power(n, 0.0) <= 0.05


@pytest.mark.parametrize("gate", [*GATES.values(), sign(0.2, 100)], ids=lambda gate: gate.name)
def test_deciding_item_by_item_is_deciding_by_counts(gate):
    rng = world("item by item", gate.name)
    luck = rng.standard_normal((40, 300))
    incumbent, challenger = (answers(rng, np.full(40, accuracy), luck) for accuracy in (0.5, 0.55))
    kept, items = verdicts(gate, incumbent, challenger)
    for one in range(40):
        for look, size in enumerate(gate.looks(300)):
            pairs = {str(i): (float(incumbent[one, i]), float(challenger[one, i])) for i in range(size)}
            verdict = gate.decide(look, pairs)
            if verdict.choice != "go_on":
                break
        assert (verdict.choice == "keep", verdict.items) == (kept[one], items[one])


@pytest.mark.parametrize(
    ("look", "wins", "losses", "choice"),
    [
        (0, 5, 0, "go_on"),  # p .031
        (0, 9, 2, "go_on"),  # p .033
        (0, 8, 1, "keep"),  # p .020
        (0, 3, 5, "drop"),
        (0, 3, 4, "go_on"),
        (0, 0, 0, "go_on"),
        (1, 4, 4, "drop"),
        (1, 5, 4, "go_on"),
        (1, 14, 7, "keep"),  # p .095
        (1, 13, 7, "go_on"),  # p .132
        (2, 2, 0, "keep"),  # p .25, the level itself
        (2, 11, 8, "drop"),  # p .324
    ],
)
def test_three_looks_by_hand(look, wins, losses, choice):
    verdict = THREE_LOOKS.decide(look, scores(wins, losses, ties=5))
    assert verdict.choice == choice, verdict
    expected = stats.binomtest(wins, wins + losses, alternative="greater").pvalue if wins + losses else 1
    assert verdict.p == pytest.approx(expected)
    assert (verdict.wins, verdict.losses, verdict.ties, verdict.look) == (wins, losses, 5, look)


@pytest.mark.parametrize(("wins", "losses", "choice"), [(2, 1, "keep"), (1, 1, "drop"), (0, 1, "drop"), (1, 0, "keep")])
def test_a_mean_must_be_higher(wins, losses, choice):
    assert MEAN.decide(0, scores(wins, losses, ties=3)).choice == choice
    assert MINIBATCH.decide(0, scores(wins, losses)).choice == choice


def test_graded_scores_count_by_sign_in_a_test_and_by_size_in_a_mean():
    pairs = {"a": (0.9, 0.0), "b": (0.4, 0.5), "c": (0.4, 0.5)}
    assert MEAN.decide(0, pairs).choice == "drop"
    verdict = sign(0.5, 3).decide(0, pairs)
    assert (verdict.wins, verdict.losses) == (2, 1)
    assert verdict.choice == "keep"


def test_items_that_one_team_failed_on_count_for_neither():
    failed = {"won": (0, 1), "lost": (1, 0)} | {f"equal{i}": (1, 1) for i in range(18)}
    verdict = THREE_LOOKS.decide(0, failed | {"theirs": (None, 1), "ours": (0, None)})
    assert (verdict.wins, verdict.losses, verdict.ties, verdict.missing, verdict.items) == (1, 1, 18, 2, 20)
    assert verdict.choice == "go_on"


@pytest.mark.parametrize("gate", [*GATES.values(), sign(0.2, 30)], ids=lambda gate: gate.name)
def test_more_than_a_tenth_missing_is_not_decided(gate):
    assert gate.decide(0, scores(27, 0, missing=3)).choice == "keep"
    verdict = gate.decide(0, scores(26, 0, missing=4))
    assert verdict.choice == "undecidable"
    assert verdict.missing == 4
    assert gate.decide(0, {}).choice == gate.decide(0, scores(0, 0, missing=2)).choice == "undecidable"


def test_an_item_given_to_one_team_alone_is_missing():
    pairs = pair_up({"a": 1.0, "b": 0.0}, {"b": 1.0, "c": 1.0})
    assert pairs == {"a": (1.0, None), "b": (0.0, 1.0), "c": (None, 1.0)}
    assert THREE_LOOKS.decide(0, pairs).missing == 2


def test_repeats_of_an_item_are_one_item():
    """Ten repeats of four items: p is that of four items, 1/16, and not of forty."""
    pairs = {f"item{i}": ([0.0] * 10, [1.0] * 10) for i in range(4)}
    verdict = THREE_LOOKS.decide(0, pairs)
    assert (verdict.wins, verdict.p, verdict.choice) == (4, 1 / 16, "go_on")


def test_repeats_are_averaged_before_they_are_compared():
    verdict = THREE_LOOKS.decide(0, {"a": ([1, 0, 0], [0, 1, 1]), "b": ([1, 0, None], [0.5]), "c": ([None, None], [1])})
    assert (verdict.wins, verdict.losses, verdict.ties, verdict.missing) == (1, 0, 1, 1)
    thirds = THREE_LOOKS.decide(0, {"a": ([0.1, 0.2, 0.3], [0.2, 0.2, 0.2])})
    assert thirds.ties == 1  # although the sums of these floats differ


def test_repeats_taken_for_items_would_keep_what_brings_nothing():
    """Ten repeats of 32 items: taken for 320 items the level of 3 % does not hold, as repeats it does."""
    rng = world("repeats")
    level = sign(0.03, 32)
    kept = taken = 0
    for _ in range(300):
        item = rng.standard_normal((32, 1))
        # Each team answers an item in its own way: repeats of one call agree more than calls of two teams.
        ours, theirs = (item + 2 * rng.standard_normal((32, 1)) + rng.standard_normal((32, 10)) < 0 for _ in range(2))
        pairs = {str(i): (list(map(float, theirs[i])), list(map(float, ours[i]))) for i in range(32)}
        kept += level.decide(0, pairs).choice == "keep"
        single = {f"{i}.{k}": (float(theirs[i, k]), float(ours[i, k])) for i in range(32) for k in range(10)}
        taken += level.decide(0, single).choice == "keep"
    assert kept / 300 <= 0.03 + 3 * error(0.03, 300)
    assert taken / 300 > 0.15


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_refused(score):
    with pytest.raises(SpecError, match=r"score of item b: .*finite"):
        THREE_LOOKS.decide(0, {"a": (0, 1), "b": (0, score)})


def test_looks():
    assert THREE_LOOKS.looks(300) == THREE_LOOKS.looks(5000) == (32, 100, 300)
    assert THREE_LOOKS.looks(180) == (20, 60, 180)
    assert EAGER.looks(9) == (1, 3, 9)
    assert MEAN.looks(77) == (77,)
    assert MINIBATCH.looks(77) == (3,)
    assert sign(0.05, 100).looks(60) == (60,)
    with pytest.raises(SpecError, match="items for gate three_looks: got 8, expected 9 or more"):
        THREE_LOOKS.looks(8)
    with pytest.raises(SpecError, match="look of gate mean: got 1"):
        MEAN.decide(1, scores(3, 0))


@given(st.integers(9, 400))
def test_looks_grow_and_end_with_all_there_are(n):
    looks = THREE_LOOKS.looks(n)
    assert 1 <= looks[0] < looks[1] < looks[2] == min(n, 300)


def test_few_items_are_told_with_the_power_that_is_left():
    assert THREE_LOOKS.note(300) == MEAN.note(20) == ""
    note = THREE_LOOKS.note(90)
    assert "90 items where gate three_looks wants 300: it looks after 10, 30, 90" in note
    for gain, words in ((0.05, "of changes of +5 points"), (0.10, "of changes of +10 points")):
        kept, _ = fresh(THREE_LOOKS, gain, DRAWS, 90)
        power = THREE_LOOKS.power(90, gain)
        assert power == pytest.approx(kept, abs=3.5 * error(kept, DRAWS))
        assert f"{power:.0%} {words}" in note


def test_names():
    assert all(gate_of(name) is gate for name, gate in GATES.items())
    assert gate_of(sign(0.05, 100).name) == sign(0.05, 100)
    for wrong in ("sign", "sign:x:3", "sign:0.1", "median"):
        with pytest.raises(SpecError, match=r"gate: got .*three_looks, eager, mean, minibatch"):
            gate_of(wrong)
    for sizes, levels, drops in [((9, 3), (0.1, 0.1), (0,)), ((3, 9), (0.1,), (0,)), ((3,), (1.0,), ())]:
        with pytest.raises(SpecError, match="gate odd"):
            Gate("odd", "", sizes, levels, drops)
    with pytest.raises(SpecError, match="gain"):
        THREE_LOOKS.power(300, 0.5)


class TestRunsOfEdits:
    """Twenty edits one after the other on one validation set; specs/ann, section 9.8, second table."""

    @pytest.mark.parametrize(
        ("gate", "n", "final", "useless", "items"),
        [
            (THREE_LOOKS, 300, 0.628, 0.35, 1990),
            (EAGER, 300, 0.669, 0.96, 2650),
            (MEAN, 100, 0.638, 1.4, 2000),
            (MEAN, 300, 0.717, 1.7, 6000),
        ],
    )
    def test_what_they_come_to(self, gate, n, final, useless, items):
        runs = run(gate, 1000, n=n)
        # The other simulation had 500 runs or more.
        apart = math.sqrt(1 / 1000 + 1 / 500)
        assert runs.final.mean() == pytest.approx(final, abs=3.5 * runs.final.std() * apart)
        assert runs.useless.mean() == pytest.approx(useless, abs=3.5 * runs.useless.std() * apart)
        assert runs.items.mean() == pytest.approx(items, rel=0.05)

    @pytest.mark.parametrize(("gate", "n"), [(THREE_LOOKS, 300), (MEAN, 100)], ids=["three_looks", "mean"])
    def test_the_ratchet_shows_and_a_redraw_removes_it(self, gate, n):
        cached, redrawn = run(gate, 400, n=n), run(gate, 400, n=n, redraw=True)
        adopted = cached.won.sum() / cached.adopted.sum()
        again = redrawn.won.sum() / redrawn.adopted.sum()
        # An accuracy over n items has a standard error of about .35 / sqrt(n) beside the items' own part.
        noise = 0.35 / math.sqrt(n * redrawn.adopted.sum())
        assert adopted > 20 * noise
        assert abs(again) < 4 * noise
        assert cached.held.mean() > 0.015  # some two points
        assert redrawn.adopted.mean() > cached.adopted.mean() + 0.5  # later edits no longer face a raised bar
        assert redrawn.final.mean() > cached.final.mean()
        assert redrawn.held.mean() < cached.held.mean()

    def test_poison_is_kept_out(self):
        poison = run(THREE_LOOKS, 300, mix={0.0: 0.34, -0.02: 0.33, -0.05: 0.33})
        assert poison.adopted.mean() / EDITS == pytest.approx(0.03, abs=0.01)
        assert poison.final.mean() == pytest.approx(0.496, abs=0.003)
        trusting = run(MEAN, 300, n=100, mix={0.0: 0.34, -0.02: 0.33, -0.05: 0.33})
        assert trusting.adopted.mean() > 2 * poison.adopted.mean()


class TestConfirmation:
    def by_item(self, right):
        return {str(i): float(value) for i, value in enumerate(right)}

    def test_what_is_better_passes_with_its_interval(self):
        found = confirm(self.by_item([0] * 30 + [1] * 70), self.by_item([1] * 20 + [0] * 10 + [1] * 70))
        assert found.passed
        assert found.why.startswith("confirmed: 20 items won, 0 lost, 80 equal")
        assert found.gain["mean"] == pytest.approx(0.2)
        assert 0 < found.gain["low"] < 0.2 < found.gain["high"]

    def test_what_is_as_good_does_not(self):
        found = confirm(self.by_item([0, 1] * 50), self.by_item([1, 0] * 50))
        assert not found.passed
        assert found.why.startswith("not confirmed: 50 items won, 50 lost")
        assert found.gain["low"] < 0 < found.gain["high"]

    def test_too_many_failures_confirm_nothing(self):
        final = self.by_item([1] * 100) | {str(i): None for i in range(11)}
        found = confirm(self.by_item([0] * 100), final)
        assert not found.passed
        assert found.why == "not confirmed: 11 of 100 items lack a score of one team or both"

    def test_no_items_are_refused(self):
        with pytest.raises(SpecError, match="items to confirm on"):
            confirm({}, {})

    def test_errors_keep_the_level(self):
        """Neutral and harmful finals, 400 items: passed by chance in 5 % at most; the real ones as the power says."""
        for change in (-0.03, 0.0, 0.05):
            kept, _ = fresh(sign(0.05, 400), change, 2000, 400)
            power = sign(0.05, 400).power(400, change)
            assert kept == pytest.approx(power, abs=3.5 * error(power, 2000))
            assert change > 0 or kept <= 0.05 + 3 * error(0.05, 2000)

    def test_it_passes_what_its_sign_test_passes(self):
        rng = world("confirm")
        luck = rng.standard_normal((30, 400))
        start, final = (answers(rng, np.full(30, accuracy), luck) for accuracy in (0.5, 0.55))
        kept, _ = verdicts(sign(0.05, 400), start, final)
        found = [confirm(self.by_item(a), self.by_item(b)) for a, b in zip(start, final, strict=True)]
        assert [one.passed for one in found] == list(kept)
        assert 0 < kept.sum() < 30


@given(st.integers(0, 40), st.integers(0, 40))
def test_p_falls_with_wins_and_is_that_of_a_fair_coin(wins, losses):
    p = float(sign_p(wins, losses))
    assert p == pytest.approx(
        sum(math.comb(wins + losses, k) for k in range(wins, wins + losses + 1)) / 2 ** (wins + losses)
    )
    assert sign_p(wins + 1, losses) <= p
