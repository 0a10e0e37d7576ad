"""Asynchronous successive halving: who is promoted, what it costs, when it ends."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.errors import SpecError
from plait.orchestrator.study import BatchPlan, Strand, StrandRun
from plait.records import Failed, Scored, digest, generator
from plait.search.asha import Asha, Rungs, random_students
from plait.search.epochs import Epochs
from plait.search.halving import Rung

SCHEDULE = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Number:
    value: int

    @property
    def key(self) -> str:
        return str(self.value)


class Numbers:
    def __init__(self, count=10**6):
        self.size = count

    def draw(self, rng):
        return Number(rng.randrange(self.size))


def quality(key: str) -> float:
    return int(digest(key)[:8], 16) / 16**8


def reward(rung: Rung) -> float:
    """A made-up reward whose ranking at low rungs is near that of the last."""
    return quality(rung.candidate.key) + 0.3 * quality(rung.key) / (1 + rung.rung)


def fails(rung: Rung) -> bool:
    return quality("fail" + rung.key) < 0.1


def outcome_of(trial):
    return Failed("Diverged") if fails(trial.candidate) else Scored({"reward": reward(trial.candidate)})


def play(search, ask=4, lag=8, check=lambda search: None):
    """Run to the end with up to `lag` open; return the trials in the order of asking."""
    trials, waiting = [], []
    while not search.done or waiting:
        new = search.ask(ask) if not search.done and len(waiting) + ask <= lag else []
        trials += new
        waiting += new
        check(search)
        if not new:
            assert waiting, "not done, asks nothing, waits for nothing"
            trial = waiting.pop(0)
            search.tell(trial, outcome_of(trial))
    return trials


def price_of(trials, schedule):
    """What the trials cost, counted anew: the last epoch that each candidate was trained to."""
    reached = {}
    for trial in trials:
        name, rung = trial.candidate.candidate.key, trial.candidate.rung
        reached[name] = max(reached.get(name, 0), schedule[rung])
    return sum(reached.values())


plans = st.tuples(st.integers(1, 5), st.integers(0, 9)).map(lambda pair: (pair[0], pair[0] + pair[1]))


class Reference:
    """The rules once more, the slow way: every ask looks at the whole history of tells."""

    def __init__(self, budget, seed, schedule, eta):
        self.left, self.seed, self.schedule, self.eta = budget, seed, schedule, eta
        self.told, self.gone, self.started = [], set(), []
        self.draws = self.asked = 0

    def next(self):
        for rung in range(len(self.schedule) - 2, -1, -1):
            scored = [(-reward, index, key) for key, at, index, reward in self.told if at == rung]
            for _, _, key in sorted(scored)[: len(scored) // self.eta]:
                step = self.schedule[rung + 1] - self.schedule[rung]
                if (key, rung) not in self.gone and step <= self.left:
                    self.gone.add((key, rung))
                    self.left -= step
                    return key, rung + 1
        if self.left < self.schedule[0]:
            return None
        while True:
            key = Numbers().draw(generator(self.seed, "asha", self.draws)).key
            self.draws += 1
            if key not in self.started:
                self.started.append(key)
                self.left -= self.schedule[0]
                return key, 0


def reference(budget, seed, schedule, eta, ask, lag):
    model, asked, waiting = Reference(budget, seed, schedule, eta), [], []
    while True:
        new = []
        while len(waiting) + ask <= lag and len(new) < ask and (chosen := model.next()):
            new.append((*chosen, len(asked) + len(new)))
        asked += new
        waiting += new
        if not new:
            if not waiting:
                return [(key, rung) for key, rung, _ in asked]
            key, rung, index = waiting.pop(0)
            at = Rung(Number(int(key)), rung)
            if not fails(at):
                model.told.append((key, rung, index, reward(at)))


class TestPromotion:
    def test_by_hand(self):
        """Eta 2, told one after another. Of n scored the best n // 2 may go on, from the highest rung first."""
        rewards = {0: 0.5, 1: 0.1, 2: 0.9, 3: 0.2, 4: 0.3, 5: 0.7}
        search = Asha(Numbers(), 100, 0, SCHEDULE, first=tuple(Number(name) for name in rewards))
        asked = []
        for _ in range(10):
            (trial,) = search.ask(1)
            asked.append(trial.candidate.key)
            search.tell(trial, Scored({"reward": rewards[trial.candidate.candidate.value]}))
        # 2 goes on at once: of three scored it is the best one, though 0 went before it.
        assert asked == ["0@0", "1@0", "0@1", "2@0", "2@1", "2@2", "3@0", "4@0", "5@0", "5@1"]

    @given(st.integers(0, 10**6), st.integers(1, 120), st.integers(2, 4), plans)
    def test_equals_the_rules_applied_to_the_whole_history(self, seed, budget, eta, plan):
        trials = play(Asha(Numbers(), budget, seed, SCHEDULE, eta), *plan)
        asked = [(trial.candidate.candidate.key, trial.candidate.rung) for trial in trials]
        assert asked == reference(budget, seed, SCHEDULE, eta, *plan)

    @pytest.mark.parametrize("eta", [2, 3, 4])
    @pytest.mark.parametrize(("sign", "capped"), [(-1, False), (-1, True), (1, True)])
    def test_each_rung_takes_its_share_of_the_one_below(self, eta, sign, capped):
        names = tuple(Number(n) for n in range(64))
        counts = self.counts(Asha(Numbers(), 10**6, 0, SCHEDULE, eta, quota=0, first=names, capped=capped), sign)
        assert counts == [64 // eta**rung for rung in range(len(SCHEDULE))]

    def test_rewards_that_rise_send_nearly_all_on_where_nothing_caps_it(self):
        """The published rule: each newcomer is the best so far, and the places of the earlier are not taken back."""
        names = tuple(Number(n) for n in range(64))
        counts = self.counts(Asha(Numbers(), 10**6, 0, SCHEDULE, 2, quota=0, first=names), 1)
        assert counts == [64, 63, 62, 61, 60]

    def counts(self, search, sign):
        found = [0] * len(SCHEDULE)
        while not search.done:
            for trial in search.ask(1):
                found[trial.candidate.rung] += 1
                search.tell(trial, Scored({"reward": sign * trial.candidate.candidate.value / 64}))
        return found

    def test_ties_go_to_the_one_asked_first(self):
        search = Asha(Numbers(), 4, 0, SCHEDULE, first=(Number(7), Number(3), Number(9)))
        trials = search.ask(3)
        for trial in trials:
            search.tell(trial, Scored({"reward": 0.5}))
        assert [trial.candidate.key for trial in search.ask(3)] == ["7@1"]

    @pytest.mark.parametrize("outcome", [Failed("Diverged"), Scored({"reward": float("nan")})])
    def test_what_failed_is_not_among_the_scored(self, outcome):
        """Two of three failed: one is left, and one of one is no half."""
        search = Asha(Numbers(), 4, 0, SCHEDULE, quota=0, first=(Number(1), Number(2), Number(3)))
        first, second, third = search.ask(3)
        for trial in (first, second):
            search.tell(trial, outcome)
        search.tell(third, Scored({"reward": 1.0}))
        assert search.done
        assert search.rungs.best() == (Number(3), 0)

    def test_a_place_is_given_once_and_kept(self):
        rungs = Rungs(2, 2)
        for index, value in enumerate((0.4, 0.3)):
            rungs.score(Number(index), 0, index, value)
        assert list(rungs.promotions()) == [(Number(0), 1)]
        rungs.promote(Number(0), 1)
        for index, value in ((2, 0.6), (3, 0.5)):
            rungs.score(Number(index), 0, index, value)
        assert list(rungs.promotions()) == [(Number(2), 1), (Number(3), 1)]


class TestBudget:
    @given(st.integers(0, 10**6), st.integers(1, 150), st.integers(2, 4), plans)
    def test_spent_is_the_epochs_trained_and_the_end_leaves_nothing_payable(self, seed, budget, eta, plan):
        def within(search):
            assert search.epochs.spent <= budget

        search = Asha(Numbers(), budget, seed, SCHEDULE, eta)
        trials = play(search, *plan, within)
        assert search.epochs.spent == price_of(trials, SCHEDULE)
        assert search.epochs.left < SCHEDULE[0]
        assert search.ask(5) == []

    def test_a_repeated_rung_costs_nothing(self):
        epochs, one = Epochs(40, SCHEDULE), Number(1)
        prices = []
        for rung in (0, 0, 2, 1, 2, 4, 3):
            prices.append(epochs.price(one, rung))
            epochs.spend(one, rung)
        assert prices == [1, 0, 3, 0, 0, 12, 0]
        assert epochs.spent == 16
        epochs.spend(Number(2), 4)
        assert epochs.left == 8
        assert epochs.affords(Number(3), 3)
        assert not epochs.affords(Number(3), 4)

    def test_a_promotion_too_dear_gives_way_to_a_new_draw(self):
        """Three epochs left, the promotion costs eight: what is left goes into draws."""
        search = Asha(Numbers(), 16, 0, (1, 2, 10), first=(Number(1), Number(2), Number(3), Number(4)))
        rungs = []
        while not search.done:
            for trial in search.ask(1):
                rungs.append(trial.candidate.rung)
                search.tell(trial, Scored({"reward": float(trial.candidate.candidate.value)}))
        assert rungs.count(2) == 1
        assert search.epochs.left == 0

    @pytest.mark.parametrize(
        ("settings", "named"),
        [
            ({"budget": 0}, "budget"),
            ({"schedule": (1, 1)}, "schedule"),
            ({"schedule": ()}, "schedule"),
            ({"schedule": (0, 2)}, "schedule"),
            ({"eta": 1}, "eta"),
            ({"lowest": 3, "highest": 2}, "rungs 3 to 2"),
            ({"highest": 5}, "rungs 0 to 5"),
            ({"budget": 3, "lowest": 2}, "budget"),
        ],
    )
    def test_settings_that_cannot_run(self, settings, named):
        with pytest.raises(SpecError, match=named):
            Asha(**{"space": Numbers(), "budget": 10, "seed": 0, "schedule": SCHEDULE, **settings})


class TestOrder:
    @given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 8), st.integers(0, 10**6))
    def test_who_ends_first_decides_nothing(self, seed, ask, more, shuffle):
        """The study's program, given outcomes in any order, asks what it asks when they come in order."""
        plan = BatchPlan(ask=ask, lag=ask + more)
        expected = [t.candidate.key for t in play(Asha(Numbers(), 60, seed, SCHEDULE), ask, ask + more)]
        run = StrandRun(Strand("s", Asha(Numbers(), 60, seed, SCHEDULE), None), plan)
        flying, asked, rng = run.advance(), [], random.Random(shuffle)
        asked += flying
        while flying:
            trial = flying.pop(rng.randrange(len(flying)))
            run.give(trial.candidate.key, outcome_of(trial))
            new = run.advance()
            flying += new
            asked += new
        assert run.done
        assert [trial.candidate.key for trial in asked] == expected

    def test_it_is_not_done_while_an_outcome_may_send_somebody_on(self):
        search = Asha(Numbers(), 100, 0, SCHEDULE, quota=0, first=(Number(1), Number(2)))
        first, second = search.ask(4)
        assert (search.ask(4), search.done) == ([], False)
        search.tell(first, Scored({"reward": 0.0}))
        assert not search.done
        search.tell(second, Scored({"reward": 1.0}))
        assert [trial.candidate.key for trial in search.ask(4)] == ["2@1"]

    def test_a_small_space_ends_when_it_is_used_up(self):
        trials = play(Asha(Numbers(6), 1000, 0, SCHEDULE))
        names = {trial.candidate.candidate.key for trial in trials}
        assert names == {str(number) for number in range(6)}


def test_a_random_search_trains_every_draw_to_one_rung():
    search = random_students(Numbers(), 30, 0, SCHEDULE, rung=2)
    trials = play(search)
    assert {trial.candidate.rung for trial in trials} == {2}
    assert len(trials) == 7
    assert search.epochs.spent == 28


def test_halving_finds_a_better_one_than_blind_draws_at_equal_epochs():
    def found(search):
        trials = play(search)
        return max(quality(t.candidate.candidate.key) for t in trials if t.candidate.rung == 4)

    halving = [found(Asha(Numbers(), 192, seed, SCHEDULE)) for seed in range(10)]
    blind = [found(random_students(Numbers(), 192, seed, SCHEDULE, rung=4)) for seed in range(10)]
    assert sum(halving) > sum(blind)
