"""What every search promises: pure, seeded, told in the order of asking, replayable, never asks twice."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait import LayerPath
from plait.decoder_cuts import DecoderSizes
from plait.models.zoo import named
from plait.records import Failed, Scored, digest
from plait.search.asha import Asha, random_students
from plait.search.base import Search
from plait.search.cut_policy import CutPolicy
from plait.search.cut_space import CutSpace
from plait.search.evolution import Evolution
from plait.search.fixed import FixedSearch
from plait.search.halving import SuccessiveHalving
from plait.search.network_space import NetworkSpace
from plait.search.path_space import EditSets
from plait.search.policy_profiles import POLICY_PROFILES
from plait.search.policy_search import PolicySearch
from plait.search.profiles import PROFILES
from plait.search.random_search import RandomSearch
from plait.search.textual import TextualSearch
from plait.search.textual_profiles import TEXTUAL_PROFILES
from plait.search.uniform import uniform_students
from plait.teams import AgentSpec, Block, LayerSpec, Schema, TeamSpec

DEPTH = 12
SPACE = EditSets(DEPTH, (1, 2), (0, 2), 1, 24)
TEACHER = named("cnn:width=8", (1, 8, 8), 10)
NETWORKS = {"plait": NetworkSpace(TEACHER, limit=0.4 * TEACHER.params), "n2n-paper": NetworkSpace(TEACHER)}
NUMBER = Schema(kind="number")
SOLVE = LayerSpec(
    name="solve", task="Solve it.", blocks=(Block(name="one", agents=(AgentSpec(name="a", output=NUMBER),)),)
)
TEAM = TeamSpec(layers=(SOLVE,), answer=NUMBER)
ITEMS = [f"t{at}" for at in range(8)], [f"v{at}" for at in range(20)]
CUTS = CutSpace(DecoderSizes(DEPTH, 256, 192, 9_000, 50_000), 500_000)

MAKERS = {
    **{name: (lambda seed, p=profile: p.search(DEPTH, 30, seed)) for name, profile in PROFILES.items()},
    "random": lambda seed: RandomSearch(SPACE, 30, seed, (LayerPath.identity(DEPTH),)),
    "fixed": lambda seed: FixedSearch(tuple(LayerPath.identity(n) for n in range(1, 9))),
    "cut-policy": lambda seed: CutPolicy(CUTS, 30, seed),
    "halving": lambda seed: SuccessiveHalving(SPACE, 16, seed),
    **{
        f"policy {name}": (
            lambda seed, p=profile: PolicySearch(
                NETWORKS["n2n-paper" if p.name == "n2n-paper" else "plait"], 60, p, seed
            )
        )
        for name, profile in POLICY_PROFILES.items()
    },
    **{
        f"textual {name}": (lambda seed, p=profile: TextualSearch(TEAM, *ITEMS, p, seed, 6))
        for name, profile in TEXTUAL_PROFILES.items()
    },
    "asha": lambda seed: Asha(NETWORKS["plait"], 60, seed),
    "asha of few": lambda seed: Asha(NETWORKS["plait"], 10**6, seed, quota=12, capped=True),
    "random students": lambda seed: random_students(NETWORKS["plait"], 60, seed),
    "evolution": lambda seed: Evolution(NETWORKS["plait"], 60, seed, population=6, sample=2, highest=4),
    "uniform students": lambda seed: uniform_students(NETWORKS["n2n-paper"], 160, rung=2),
}


def outcome_of(key: str, failing: bool = True):
    """A made-up outcome that depends on the candidate alone; some fail."""
    number = int(digest(key)[:8], 16)
    if failing and number % 7 == 0:
        return Failed("Scripted", "every seventh")
    reward = float(number % 3 == 0)
    textual = {"score": reward, "text": f"finding {number}", "patch": {"edits": [patch_of(number)]}}
    return Scored({"reward": reward, **textual})


def patch_of(number: int):
    return {"op": "set_instructions", "agent": "a", "text": f"advice {number % 5}"}


def play(search: Search, ask: int, lag: int) -> list[str]:
    """Run a search with up to `lag` trials open; return the keys in the order of asking."""
    keys, waiting = [], []
    while not search.done or waiting:
        new = search.ask(ask) if not search.done and len(waiting) + ask <= lag else []
        waiting += new
        keys += [trial.candidate.key for trial in new]
        if not new:
            assert waiting, "not done, asks nothing, waits for nothing"
            trial = waiting.pop(0)
            search.tell(trial, outcome_of(trial.candidate.key))
    return keys


@pytest.mark.parametrize("name", MAKERS)
class TestContract:
    def test_is_a_search(self, name):
        assert isinstance(MAKERS[name](0), Search)

    def test_same_seed_same_run(self, name):
        assert play(MAKERS[name](3), 4, 8) == play(MAKERS[name](3), 4, 8)

    def test_no_global_random_state(self, name):
        random.seed(1)
        before = random.getstate()
        play(MAKERS[name](3), 4, 8)
        assert random.getstate() == before

    def test_never_asks_a_candidate_twice(self, name):
        keys = play(MAKERS[name](5), 2, 6)
        assert len(keys) == len(set(keys))
        assert keys

    def test_replay_asks_the_same(self, name):
        first, again = MAKERS[name](9), MAKERS[name](9)
        told = []
        for _ in range(6):
            trials = first.ask(2)
            for trial in trials:
                outcome = outcome_of(trial.candidate.key)
                first.tell(trial, outcome)
                told.append((trial, outcome))
        replayed = []
        while len(replayed) < len(told):
            for trial in again.ask(2):
                again.tell(trial, told[len(replayed)][1])
                replayed.append(trial)
        assert [t.candidate.key for t in replayed] == [t.candidate.key for t, _ in told]
        assert [t.candidate.key for t in first.ask(4)] == [t.candidate.key for t in again.ask(4)]

    def test_every_failure_leaves_it_usable(self, name):
        search = MAKERS[name](1)
        while not search.done:
            trials = search.ask(4)
            assert trials or search.done
            for trial in trials:
                search.tell(trial, Failed("Scripted"))
        assert search.ask(4) == []

    def test_trials_are_counted(self, name):
        search = MAKERS[name](2)
        indexes = []
        while not search.done:
            trials = search.ask(3)
            indexes += [trial.index for trial in trials]
            for trial in trials:
                search.tell(trial, outcome_of(trial.candidate.key, failing=False))
        assert indexes == list(range(len(indexes)))


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_ask_the_identity_first_and_legal_paths_only(name):
    keys = play(MAKERS[name](4), 4, 8)
    assert keys[0] == f"0-{DEPTH - 1}"
    for key in keys:
        LayerPath.parse(key).check(DEPTH)


@pytest.mark.parametrize(("depth", "count"), [(24, 180), (28, 212), (36, 276)])
def test_root_actions_under_polar_code(depth, count):
    space = PROFILES["polar-code"].space(depth)
    assert len(list(space.edits(space.identity))) == count


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(5, 12))
def test_halving_keeps_the_better_part(seed, eta_less_one, width):
    eta = eta_less_one + 1
    search = SuccessiveHalving(SPACE, width, seed, eta)
    rounds: dict[int, list[tuple[float, str]]] = {}
    while not search.done:
        for trial in search.ask(3):
            plain = trial.candidate.candidate.key
            reward = int(digest(plain)[:6], 16) / 16**6
            rounds.setdefault(trial.candidate.rung, []).append((reward, plain))
            search.tell(trial, Scored({"reward": reward}))
    for rung in range(len(rounds) - 1):
        best = sorted(rounds[rung], reverse=True)[: -(-len(rounds[rung]) // eta)]
        assert {key for _, key in best} == {key for _, key in rounds[rung + 1]}
    assert len(rounds[max(rounds)]) == 1


def test_tree_search_finds_a_planted_path_sooner_than_random_search():
    """A reward that grows towards one path: what a tree can climb and blind draws cannot."""
    target = {2, 5, 8}

    def reward(key: str) -> float:
        missing = set(range(DEPTH)) - set(LayerPath.parse(key).layers)
        return len(missing & target) / 3 - 0.1 * len(missing - target)

    def best(search) -> float:
        found = []
        while not search.done:
            for trial in search.ask(1):
                found.append(reward(trial.candidate.key))
                search.tell(trial, Scored({"reward": found[-1]}))
        return max(found)

    profile = PROFILES["plait"]
    tree = sum(best(profile.search(DEPTH, 120, seed)) for seed in range(8))
    blind = sum(best(profile.random(DEPTH, 120, seed)) for seed in range(8))
    assert tree > blind
