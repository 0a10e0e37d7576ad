"""Studies: many independent searches asked, paid for and told, the same on one worker or sixty-four.

Each search (a strand) runs a fixed program: ask while asked-minus-told leaves room, else tell the oldest open
trial once its outcome is there. What is asked then depends on seed and outcomes alone, never on who answered
first; and since outcomes come from the ledger, resuming is running again. `StrandRun` is that program, without
I/O; `Study` runs many of them over the paying path.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from ..errors import SearchStuck
from ..records import JSON, EventSink, Failed, Outcome, Request, Scored, Trial, digest
from ..search.base import Search
from .budget import Budget
from .counts import Counts
from .driver import Driver
from .ledger import Ledger
from .loops import run_blocking
from .paying import Job, Policy
from .workers import Identity, Worker

Objective = Callable[[Trial, Scored], Scored]
"""Makes what a search learns from (`values["reward"]`) of the raw values in the ledger; pure."""


def _as_it_is(trial: Trial, outcome: Scored) -> Scored:
    return outcome


@dataclass(frozen=True)
class Strand:
    """One search among those of a study.

    Attributes:
        id: Unique in the study.
        search: Fresh: never asked before.
        item: What its candidates are evaluated on, as JSON.
        objective: Raw values to reward.
        group: Strands of one group share work: their requests stay on one worker where possible.
    """

    id: str
    search: Search
    item: JSON
    objective: Objective = _as_it_is
    group: str = ""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How a study asks.

    Attributes:
        ask: Trials that a search is asked for at once.
        lag: Trials asked and not yet told, per search, at most. The result depends on ask and lag.
        window: Searches that run at once; speed and memory only.
    """

    ask: int = 4
    lag: int = 8
    window: int = 8


class StrandRun:
    """The program of one strand: a function of the outcomes that it is given, in whatever order they come."""

    def __init__(self, strand: Strand, plan: BatchPlan) -> None:
        self.strand, self._plan = strand, plan
        self.told: list[tuple[Trial, Outcome]] = []
        self.asked = 0
        self.best: float | None = None
        self._open: deque[Trial] = deque()
        self._outcomes: dict[str, Outcome] = {}

    @property
    def done(self) -> bool:
        """Whether everything was asked and told."""
        return self.strand.search.done and not self._open

    def give(self, key: str, outcome: Outcome) -> None:
        """Take the outcome of the candidate called `key`."""
        self._outcomes[key] = outcome

    def advance(self) -> list[Trial]:
        """Go on as far as the outcomes allow; return the trials newly asked."""
        search, new = self.strand.search, []
        while True:
            asked = []
            if not search.done and len(self._open) + self._plan.ask <= self._plan.lag:
                asked = search.ask(self._plan.ask)
                self._open.extend(asked)
                self.asked += len(asked)
                new += asked
            if asked:
                continue
            if not self._open:
                if not search.done:
                    raise SearchStuck(self.strand.id, self.asked, len(self.told))
                return new
            outcome = self._outcomes.pop(self._open[0].candidate.key, None)
            if outcome is None:
                return new
            self._tell(self._open.popleft(), outcome)

    def _tell(self, trial: Trial, outcome: Outcome) -> None:
        seen: Outcome = outcome
        if isinstance(outcome, Scored):
            seen = self.strand.objective(trial, outcome)
            reward = seen.values.get("reward")
            if reward is not None and (self.best is None or reward > self.best):
                self.best = reward
        self.told.append((trial, outcome))
        self.strand.search.tell(trial, seen)


@dataclass
class StudyResult:
    """What a study found.

    Attributes:
        outcomes: Per strand, (trial, raw outcome) in the order of asking; the told prefix where it was stopped.
        status: `SUCCEEDED`, or `STOPPED` with what is there so far.
        stop_reason: Why it was stopped; empty otherwise.
        counts: Outcomes paid for, found in the ledger, failed; requests repeated after a worker was lost.
        seconds: Wall time.
    """

    outcomes: dict[str, list[tuple[Trial, Outcome]]]
    status: str
    stop_reason: str
    counts: Counts
    seconds: float


@dataclass
class Study:
    """Runs strands over workers and a ledger.

    Attributes:
        strands: The searches; more than `plan.window` wait for their turn.
        evaluator: Name, version and spec of what the workers run.
        workers: Who evaluates.
        ledger: Where outcomes are kept; what is in it is free.
        plan: How the searches are asked.
        budget: What may be spent; reaching it ends the study with what it has.
        events: Where progress, incumbents and failures go.
        policy: What is repeated.
        run: Id of the run, owner of its claims.
    """

    strands: Sequence[Strand]
    evaluator: Identity
    workers: Sequence[Worker]
    ledger: Ledger
    plan: BatchPlan = field(default_factory=BatchPlan)
    budget: Budget = field(default_factory=Budget)
    events: EventSink = lambda kind, fields: None
    policy: Policy = field(default_factory=Policy)
    run_id: str = "study"
    total: int | None = None
    """Outcomes expected, for progress; None where it is not known."""
    _stop_reason: str = ""

    def run(self) -> StudyResult:
        """Run to the end, from a script, a notebook or a thread."""
        return run_blocking(self.run_async)

    def request_stop(self, reason: str) -> None:
        """Start nothing new, record what is in flight, and end. Safe from signal handlers and other threads."""
        self._stop_reason = self._stop_reason or reason

    async def run_async(self) -> StudyResult:
        """Run to the end."""
        started = time.monotonic()
        driver = Driver(
            self.evaluator, self.workers, self.ledger,
            budget=self.budget, events=self.events, policy=self.policy, run=self.run_id,
        )  # fmt: skip
        loop = _Loop(self, driver)
        try:
            await loop.run()
        finally:
            await driver.close()
        outcomes = {run.strand.id: run.told for run in loop.runs}
        status = "STOPPED" if self._stop_reason else "SUCCEEDED"
        return StudyResult(outcomes, status, self._stop_reason, driver.counts, time.monotonic() - started)


class _Loop:
    """One run of a study: which strands are active, who waits for which key."""

    def __init__(self, study: Study, driver: Driver) -> None:
        self._study, self._driver = study, driver
        self.runs = [StrandRun(strand, study.plan) for strand in study.strands]
        self._items = {id(run): digest(run.strand.item) for run in self.runs}
        self._waiting: dict[str, list[tuple[StrandRun, str]]] = {}
        self._queue = deque(self.runs)
        self._active = 0
        self._told = 0
        self._shown = 0.0

    async def run(self) -> None:
        """Advance, pay, deliver, until every strand is done or the study was stopped."""
        self._fill()
        while self._active or self._queue:
            self._study._stop_reason = self._driver.heed(self._study._stop_reason)
            delivered = await self._driver.cycle()
            self._deliver(delivered)
            self._progress()
            if self._driver.draining and not delivered and self._driver.idle:
                break
        self._progress(last=True)

    def _fill(self) -> None:
        """Start strands until the window is full."""
        while self._queue and self._active < self._study.plan.window and not self._driver.draining:
            self._active += 1
            self._advance(self._queue.popleft())

    def _deliver(self, delivered: Mapping[str, Job]) -> None:
        moved: dict[int, StrandRun] = {}
        for key, job in delivered.items():
            assert job.outcome is not None, "delivered without an outcome"
            for run, candidate in self._waiting.pop(key, []):
                run.give(candidate, job.outcome)
                moved[id(run)] = run
        for run in moved.values():
            self._advance(run)
        self._fill()

    def _advance(self, run: StrandRun) -> None:
        before, best = len(run.told), run.best
        trials = run.advance() if not self._driver.draining else []
        self._told += len(run.told) - before
        if run.best != best:
            self._study.events("incumbent", {"strand": run.strand.id, "reward": run.best, "told": len(run.told)})
        for trial in trials:
            request = Request(trial.candidate.key, run.strand.item, group=run.strand.group or run.strand.id)
            key = self._driver.key(request, self._items[id(run)])
            self._waiting.setdefault(key, []).append((run, trial.candidate.key))
            self._driver.submit(key, request)
        if run.done:
            self._active -= 1

    def _progress(self, *, last: bool = False) -> None:
        """Say how far the study is, twice a second."""
        now = time.monotonic()
        if not last and now - self._shown < 0.5:
            return
        self._shown = now
        counts: dict[str, JSON] = asdict(self._driver.counts)
        rewarded = [run for run in self.runs if run.strand.objective is not _as_it_is]
        if rewarded:  # strands that only measure are right or wrong to whoever reads them
            counts["improved"] = sum(run.best is not None and run.best >= 1 for run in rewarded)
        self._study.events(
            "progress",
            {
                "told": self._told,
                "total": self._study.total,
                "strands": len(self.runs),
                "strands_done": sum(run.done for run in self.runs),
                **counts,
                "seconds": round(self._study.budget.seconds, 3),
            },
        )


def failures(outcomes: Iterable[tuple[Trial, Outcome]]) -> int:
    """Return how many of the outcomes are failures."""
    return sum(isinstance(outcome, Failed) for _, outcome in outcomes)
