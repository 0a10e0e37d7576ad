"""The study engine: the run is a function of seed and outcomes, whatever the order, the delays, the crashes."""

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait import Ledger, RandomSearch, Strand, Study
from plait.errors import SearchStuck, StoreError, WorkerLost
from plait.orchestrator.budget import Budget, Limits
from plait.orchestrator.paying import Policy
from plait.orchestrator.study import BatchPlan
from plait.orchestrator.workers import InlineWorker
from plait.records import Failed, Scored, digest
from plait.search.path_space import EditSets
from plait.search.profiles import PROFILES

DEPTH = 8
SPACE = EditSets(DEPTH, (1, 2), (0, 2), 1, 16)


def value_of(candidate: str, item: object) -> int:
    return int(digest([candidate, item])[:6], 16)


class Toy:
    """Scores by digest; every eleventh candidate fails for good."""

    name, version, spec = "toy", 1, None

    def __init__(self, calls: Counter | None = None):
        self.calls = calls if calls is not None else Counter()

    def evaluate(self, requests):
        made = []
        for request in requests:
            self.calls[request.candidate, str(request.item)] += 1
            value = value_of(request.candidate, request.item)
            made.append(Failed("Scripted", "eleventh") if value % 11 == 0 else Scored({"value": value}))
        return made


class Rough:
    """A worker that answers late, in any order, and dies now and then: before the work or after it."""

    def __init__(self, name, toy, rng, losses):
        self.name, self._toy, self._rng, self._losses = name, toy, rng, losses

    async def run(self, requests):
        await asyncio.sleep(self._rng.random() * 0.002)
        if self._rng.random() < self._losses:
            if self._rng.random() < 0.5:
                self._toy.evaluate(requests)
            raise WorkerLost(self.name, "scripted")
        return self._toy.evaluate(requests)

    async def revive(self):
        await asyncio.sleep(0)


def objective(trial, outcome):
    return Scored({"reward": float(outcome.values["value"] % 3 == 0)})


def strands(seed=0):
    made = [Strand(f"tree-{i}", PROFILES["plait"].search(DEPTH, 24, seed + i), i, objective) for i in range(3)]
    made += [Strand(f"dive-{i}", PROFILES["polar-code"].search(DEPTH, 12, seed), i, objective) for i in range(2)]
    return [*made, Strand("random", RandomSearch(SPACE, 20, seed), 7, objective)]


def told(result):
    return {name: [(t.index, t.candidate.key, o) for t, o in rows] for name, rows in result.outcomes.items()}


def run(folder, workers, **settings):
    ledger = Ledger(folder / "ledger.db")
    try:
        return Study(strands(), Toy(), workers, ledger, **settings).run()
    finally:
        ledger.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return told(run(tmp_path_factory.mktemp("calm"), [InlineWorker(Toy())]))


@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0, 0.25), st.integers(1, 16), st.integers(1, 6))
def test_order_delays_and_losses_change_nothing(tmp_path_factory, undisturbed, seed, count, losses, batch, window):
    rng, toy = random.Random(seed), Toy()
    workers = [Rough(f"w{i}", toy, rng, losses) for i in range(count)]
    plan, policy = BatchPlan(window=window), Policy(batch=batch, losses=10**6)
    result = run(tmp_path_factory.mktemp("rough"), workers, plan=plan, policy=policy)
    assert result.status == "SUCCEEDED"
    assert told(result) == undisturbed


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=4))
def test_crash_at_any_point_and_resume_is_the_same_run(tmp_path_factory, undisturbed, limits):
    """Each part ends at a limit as a crash would: what was recorded is all that the next part knows."""
    folder, calls = tmp_path_factory.mktemp("crash"), Counter()
    for limit in limits:
        budget = Budget(Limits(evaluations=limit))
        run(folder, [InlineWorker(Toy(calls))], budget=budget, policy=Policy(batch=4))
    result = run(folder, [InlineWorker(Toy(calls))])
    assert told(result) == undisturbed
    scored = {key for key, n in calls.items() if value_of(key[0], int(key[1])) % 11}
    assert all(calls[key] == 1 for key in scored), "paid twice"


def test_a_budget_stops_with_a_prefix(tmp_path, undisturbed):
    result = run(tmp_path, [InlineWorker(Toy())], budget=Budget(Limits(evaluations=20)))
    assert result.status == "STOPPED"
    assert "evaluations" in result.stop_reason
    assert result.counts.paid <= 20
    for name, rows in told(result).items():
        assert rows == undisturbed[name][: len(rows)]


def test_a_second_run_pays_nothing(tmp_path):
    first, second = (run(tmp_path, [InlineWorker(Toy())]) for _ in range(2))
    assert first.counts.paid > 0
    assert second.counts.paid == 0
    assert told(first) == told(second)


def test_two_studies_on_one_ledger_never_compute_the_same_twice(tmp_path, undisturbed):
    calls, rng = Counter(), random.Random(5)

    async def both():
        ledgers = [Ledger(tmp_path / "ledger.db") for _ in range(2)]
        studies = [
            Study(strands(), Toy(), [Rough(f"w{n}", Toy(calls), rng, 0.0)], ledger, run_id=f"run-{n}")
            for n, ledger in enumerate(ledgers)
        ]
        results = await asyncio.gather(*(study.run_async() for study in studies))
        for ledger in ledgers:
            ledger.close()
        return results

    one, two = asyncio.run(both())
    assert told(one) == told(two) == undisturbed
    twice = {key for key, n in calls.items() if n > 1 and value_of(key[0], int(key[1])) % 11}
    assert not twice


def test_claims_of_a_dead_run_are_taken_over(tmp_path, undisturbed):
    ledger = Ledger(tmp_path / "ledger.db")
    driver_keys = []

    class Spy(Toy):
        pass

    calm = Study(strands(), Spy(), [InlineWorker(Spy())], ledger, run_id="first")
    calm.budget = Budget(Limits(evaluations=0))
    calm.run()
    from plait.records import Request, evaluator_digest, request_key

    evaluator = evaluator_digest("toy", 1, None)
    for item in range(3):
        request = Request(f"0-{DEPTH - 1}", item)
        driver_keys.append(request_key(evaluator, digest(item), request))
    assert ledger.claim(driver_keys, "dead", 0.3) == set(driver_keys)
    result = Study(strands(), Toy(), [InlineWorker(Toy())], ledger, run_id="second").run()
    ledger.close()
    assert told(result) == undisturbed


def test_a_request_that_kills_every_worker_is_given_up(tmp_path):
    class Poison(Rough):
        async def run(self, requests):
            if any(request.item == 7 for request in requests):
                raise WorkerLost(self.name, "poison")
            return self._toy.evaluate(requests)

    ledger = Ledger(tmp_path / "ledger.db")
    result = Study(strands(), Toy(), [Poison("w", Toy(), None, 0)], ledger, policy=Policy(losses=2)).run()
    ledger.close()
    assert result.status == "SUCCEEDED"
    assert all(isinstance(outcome, Failed) for _, outcome in result.outcomes["random"])
    assert any(isinstance(outcome, Scored) for _, outcome in result.outcomes["tree-0"])


def test_retryable_failures_are_repeated(tmp_path):
    class Flaky(Toy):
        def evaluate(self, requests):
            outcomes = super().evaluate(requests)
            return [
                Failed("Timeout", retryable=True) if self.calls[r.candidate, str(r.item)] == 1 else o
                for r, o in zip(requests, outcomes, strict=True)
            ]

    ledger, flaky = Ledger(tmp_path / "ledger.db"), Flaky()
    strand = Strand("random", RandomSearch(SPACE, 5, 1), 7, objective)
    result = Study([strand], flaky, [InlineWorker(flaky)], ledger, policy=Policy(backoff=0.01)).run()
    ledger.close()
    assert all(n == 2 for n in flaky.calls.values())
    assert any(isinstance(outcome, Scored) for _, outcome in result.outcomes["random"])


def test_a_full_store_ends_the_run_and_a_later_one_goes_on(tmp_path, undisturbed):
    ledger, calls = Ledger(tmp_path / "ledger.db"), Counter()
    record, left = ledger.record, [3]

    def full(entries, owner=""):
        left[0] -= 1
        if left[0] < 0:
            raise StoreError(ledger.name, "database or disk is full: free some space and resume")
        record(entries, owner)

    ledger.record = full
    with pytest.raises(StoreError, match="full"):
        Study(strands(), Toy(), [InlineWorker(Toy(calls))], ledger, policy=Policy(batch=4)).run()
    ledger.close()
    assert told(run(tmp_path, [InlineWorker(Toy(calls))])) == undisturbed


def test_a_search_that_is_stuck_is_named(tmp_path):
    class Stuck:
        done = False

        def ask(self, n):
            return []

        def tell(self, trial, outcome): ...

    ledger = Ledger(tmp_path / "ledger.db")
    with pytest.raises(SearchStuck, match="strand-x"):
        Study([Strand("strand-x", Stuck(), 0)], Toy(), [InlineWorker(Toy())], ledger).run()
    ledger.close()


def test_run_works_inside_a_running_loop(tmp_path, undisturbed):
    async def cell():
        return run(tmp_path, [InlineWorker(Toy())])

    assert told(asyncio.run(cell())) == undisturbed
