"""Regularised evolution: who is alive, who breeds, what it costs; on a space of bits that needs no network."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.errors import SpecError
from plait.orchestrator.study import BatchPlan, Strand, StrandRun
from plait.records import Failed, Scored, digest, generator
from plait.search.asha import random_students
from plait.search.evolution import Evolution

SCHEDULE = (1, 2, 4)


@dataclass(frozen=True)
class Bits:
    bits: tuple[int, ...]

    @property
    def key(self) -> str:
        return "".join(map(str, self.bits))


class Strings:
    """Strings of bits; a neighbour has one other bit, a child of two takes each bit from one."""

    def __init__(self, length=24):
        self.length, self.size = length, 2.0**length
        self.parents = []

    def draw(self, rng):
        return Bits(tuple(rng.randrange(2) for _ in range(self.length)))

    def neighbour(self, arch, rng):
        self.parents.append(arch)
        at = rng.randrange(self.length)
        return Bits((*arch.bits[:at], 1 - arch.bits[at], *arch.bits[at + 1 :]))

    def cross(self, first, second, rng):
        return Bits(tuple(rng.choice(pair) for pair in zip(first.bits, second.bits, strict=True)))


def ones(trial) -> Scored:
    """The reward: the share of ones, the same at every rung."""
    bits = trial.candidate.candidate.bits
    return Scored({"reward": sum(bits) / len(bits)})


def play(search, ask=1, outcome=ones):
    trials = []
    while not search.done:
        for trial in search.ask(ask):
            trials.append(trial)
            search.tell(trial, outcome(trial))
    return trials


def best(trials) -> float:
    return max(ones(trial).values["reward"] for trial in trials)


@pytest.mark.parametrize("crossover", [0.0, 0.5])
def test_it_climbs_where_blind_draws_do_not(crossover):
    bred = [best(play(Evolution(Strings(), 200, seed, crossover=crossover))) for seed in range(5)]
    blind = [best(play(random_students(Strings(), 200, seed, SCHEDULE, rung=0))) for seed in range(5)]
    assert min(bred) > max(blind)


def parents_of(search, space, outcome=ones):
    """Run one trial at a time; return with each trial who its first parent was, None for a draw."""
    found = []
    while not search.done:
        before = len(space.parents)
        for trial in search.ask(1):
            found.append((trial.candidate.candidate, space.parents[before] if len(space.parents) > before else None))
            search.tell(trial, outcome(trial))
    return found


def test_the_first_are_drawn_and_the_rest_have_a_parent_among_the_youngest():
    space = Strings()
    search = Evolution(space, 60, 3, population=8, sample=3, crossover=0.0, schedule=SCHEDULE)
    born = parents_of(search, space)
    assert born[:8] == [(space.draw(generator(3, "asha", index)), None) for index in range(8)]
    for at in range(8, len(born)):
        assert born[at][1] in [child for child, _ in born[at - 8 : at]]


def test_the_oldest_dies_even_if_it_is_the_best():
    """The best is asked first; once four younger ones were told it bears no child any more."""
    champion, fifth = Bits((1,) * 24), []
    for seed in range(10):
        search = Evolution(space := Strings(), 40, seed, population=4, sample=4, crossover=0.0, first=(champion,))
        born = parents_of(search, space, lambda trial: Scored({"reward": float(trial.candidate.candidate == champion)}))
        fifth.append(born[4][1])
        assert champion not in [parent for _, parent in born[5:]]
    assert fifth.count(champion) >= 4  # of four drawn with replacement out of four it is one in two times of three


def test_of_a_sample_the_best_is_the_parent_and_of_equals_the_earlier():
    """Samples are drawn with replacement: who is behind wins only where nobody ahead is among them."""
    search = Evolution(Strings(), 100, 0, population=3, sample=3, first=tuple(Bits((n,) * 24) for n in range(3)))
    low, early, late = search.ask(3)
    for trial, reward in ((low, 0.5), (early, 0.9), (late, 0.9)):
        search.tell(trial, Scored({"reward": reward}))
    found = [search._parent(generator(seed, "test")) for seed in range(60)]
    counts = [found.count(trial.candidate.candidate) for trial in (early, late, low)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 30 > counts[1] > counts[2]


def test_what_fails_never_enters_the_population():
    def outcome(trial):
        return Failed("Diverged") if trial.index % 2 else ones(trial)

    search = Evolution(Strings(), 60, 1, population=6, sample=2)
    trials = play(search, outcome=outcome)
    alive = {member.key for _, _, member in search._alive}
    assert alive
    assert alive.isdisjoint({trial.candidate.candidate.key for trial in trials if trial.index % 2})


def test_tournaments_compare_scores_of_the_lowest_rung_alone():
    """Later rungs give other rewards; who breeds is the same as without them."""

    def outcome(trial):
        return ones(trial) if trial.candidate.rung == 0 else Scored({"reward": 99.0})

    with_rungs = play(Evolution(Strings(), 300, 5, schedule=SCHEDULE, highest=2), outcome=outcome)
    without = play(Evolution(Strings(), 300, 5, schedule=SCHEDULE))
    children = [trial.candidate.key for trial in with_rungs if trial.candidate.rung == 0]
    assert len(children) < len(without)  # promotions were paid for
    assert children == [trial.candidate.key for trial in without][: len(children)]
    counts = [sum(trial.candidate.rung == rung for trial in with_rungs) for rung in range(3)]
    assert counts[0] // 2 - 1 <= counts[1] <= counts[0] // 2
    assert counts[1] // 2 - 1 <= counts[2] <= counts[1] // 2


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 6), st.integers(0, 10**6))
def test_who_ends_first_decides_nothing(seed, ask, more, shuffle):
    def run(order):
        strand = StrandRun(Strand("s", Evolution(Strings(), 60, seed), None), BatchPlan(ask, ask + more))
        flying = strand.advance()
        asked = list(flying)
        while flying:
            trial = flying.pop(order.randrange(len(flying)) if order else 0)
            bad = int(digest(trial.candidate.key)[:2], 16) < 25
            strand.give(trial.candidate.key, Failed("Diverged") if bad else ones(trial))
            new = strand.advance()
            flying += new
            asked += new
        assert strand.done
        return [trial.candidate.key for trial in asked]

    assert run(generator(shuffle, "order")) == run(None)


@pytest.mark.parametrize(("settings", "named"), [({"sample": 0}, "sample"), ({"population": 2}, "sample")])
def test_settings_that_cannot_run(settings, named):
    with pytest.raises(SpecError, match=named):
        Evolution(Strings(), 10, 0, **settings)
