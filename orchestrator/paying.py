"""The paying path without I/O: look up, claim, dispatch, record, each request exactly once.

    QUEUED -> LOOKING -> DONE                           it was in the ledger
                      -> ELSEWHERE -> LOOKING           another run computes it: ask again later
                      -> READY -> IN_FLIGHT -> ANSWERED -> DONE
                           |^---------'                  worker lost, or a failure worth repeating
                           '--------------> ANSWERED    no budget is left for it
A state machine: the driver tells it what happened and asks it what to do. It knows no ledger, clock, worker
object or search, and is the only place that decides on retries.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from ..records import Failed, Outcome, Request, Scored, generator
from .budget import Budget, Price

UNPAID = "BudgetReached"
"""The reason of a request that was never sent because it would have cost more than is left for it."""

MOST_WAIT = 600.0
"""Seconds before a repeat that the other side may ask for; more is as good as a refusal."""


class State(StrEnum):
    """Where a request stands."""

    QUEUED = "queued"
    LOOKING = "looking"
    ELSEWHERE = "elsewhere"
    READY = "ready"
    IN_FLIGHT = "in flight"
    ANSWERED = "answered"
    DONE = "done"


_LEGAL = {
    State.QUEUED: {State.LOOKING},
    State.LOOKING: {State.DONE, State.ELSEWHERE, State.READY},
    State.ELSEWHERE: {State.LOOKING},
    State.READY: {State.IN_FLIGHT, State.ANSWERED},
    State.IN_FLIGHT: {State.ANSWERED, State.READY},
    State.ANSWERED: {State.DONE},
    State.DONE: set(),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What is repeated, and how often.

    Attributes:
        retries: Repeats of a failure that says it is worth repeating.
        losses: Workers that may die over one request before it is held to be the cause.
        backoff: Seconds before the first repeat of a failure, about; doubled each time, a minute at most.
        batch: Requests in one call at most.
        patience: Reasons that say the place is full and not that the work failed, with the seconds that one
            request may wait over them in all; they count as no retry.
    """

    retries: int = 3
    losses: int = 5
    backoff: float = 0.5
    batch: int = 64
    patience: Mapping[str, float] = field(default_factory=lambda: {"HostBusy": math.inf, "RateLimited": 600.0})

    def wait(self, key: str, failed: Failed, attempts: int) -> float:
        """Return the seconds before the next attempt: doubling, with jitter, and what the other side asked for."""
        doubled = min(60.0, self.backoff * 2**attempts)
        return max(failed.after, doubled * (0.5 + generator(0, "retry", key, attempts).random()))


class Admission(StrEnum):
    """Whether a request may be sent now."""

    PAY = "pay"
    STOP = "stop"
    """Nothing may start in this place now."""
    LATER = "later"
    """Not this one, since what it shares a budget with is still in flight; others may."""
    NEVER = "never"
    """Nothing is left to pay it with."""


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way.

    Attributes:
        key: In the ledger.
        request: What is asked.
        price: At most.
        pool: The workers that may run it: those of the same pool.
        evaluator: Name of what answers it, for the ledger.
        held: Budgets that it is paid from beside the run's.
        attempts: Failures that were repeated so far.
        waited: Seconds waited over reasons that the policy is patient with.
        unpaid: It was never sent: nothing was left to pay it with, and nothing is owed or recorded.
    """

    key: str
    request: Request
    price: Price
    pool: str = ""
    evaluator: str = ""
    held: tuple[Budget, ...] = ()
    state: State = State.QUEUED
    outcome: Outcome | None = None
    failures: int = 0
    attempts: int = 0
    waited: float = 0.0
    losses: int = 0
    unpaid: bool = False
    not_before: float = 0.0
    history: list[State] = field(default_factory=list)

    def move(self, state: State) -> None:
        """Go on to `state`; an illegal step is a defect and shows the way so far."""
        assert state in _LEGAL[self.state], f"{self.key[:12]}: {[*self.history, self.state]} -> {state}"
        self.history.append(self.state)
        self.state = state


class Payments:
    """All requests of a run, by key."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.jobs: dict[str, Job] = {}
        self._queued: list[Job] = []
        self._elsewhere: dict[str, Job] = {}
        self._ready: dict[str, dict[str, deque[Job]]] = {}
        self._later: list[Job] = []
        self._owners: dict[str, str] = {}
        self._answered: list[Job] = []
        self._attempts: list[tuple[Job, Failed]] = []
        self._done: list[Job] = []
        self.ready: dict[str, int] = {}
        """Requests that wait for a worker, by pool."""
        self.in_flight = 0
        """Requests that workers have."""

    def submit(self, job: Job) -> None:
        """Ask for a request; one that is on its way or done already is paid once and delivered again."""
        known = self.jobs.setdefault(job.key, job)
        if known is job:
            self._queued.append(job)
        elif known.state is State.DONE:
            self._done.append(known)

    def take_queued(self, *, poll: bool) -> list[Job]:
        """Return what must be looked up; with `poll`, also what another run has claimed."""
        jobs, self._queued = self._queued, []
        if poll:
            jobs += self._elsewhere.values()
            self._elsewhere = {}
        for job in jobs:
            job.move(State.LOOKING)
        return jobs

    def looked_up(self, jobs: Iterable[Job], found: Mapping[str, Scored], granted: set[str]) -> None:
        """Learn what the ledger knows, and which of the others this run may compute."""
        for job in jobs:
            if job.key in found:
                job.outcome = found[job.key]
                self._finish(job)
            elif job.key in granted:
                self._make_ready(job)
            else:
                job.move(State.ELSEWHERE)
                self._elsewhere[job.key] = job

    def next_batch(
        self, worker: str, pool: str, size: int, admit: Callable[[Job], Admission], *, sole: bool = False
    ) -> list[Job]:
        """Return what `worker` should run next.

        Requests of one group stay together and with the worker that had the group before, since they share work;
        a worker without any takes the group that has waited longest. Which worker runs what changes no result.

        Args:
            worker: Its name.
            pool: The pool that it serves.
            size: Requests at most.
            admit: Reserves what a request costs, or says why it may not start; `STOP` ends the batch.
            sole: Whether no other worker serves the pool, so that nothing need be kept apart.
        """
        batch: list[Job] = []
        ready = self._ready.get(pool, {})
        for group in self._groups(ready, worker, sole=sole):
            queue = ready[group]
            if not sole:
                self._owners[group] = worker
            while queue and len(batch) < size:
                admission = admit(queue[0])
                if admission is Admission.STOP:
                    return self._send(batch)
                self._start(queue.popleft(), admission, batch)
            if not queue:
                del ready[group]
            if len(batch) == size:
                break
        return self._send(batch)

    def _start(self, job: Job, admission: Admission, batch: list[Job]) -> None:
        self.ready[job.pool] -= 1
        if admission is Admission.PAY:
            batch.append(job)
        elif admission is Admission.NEVER:
            job.unpaid = True
            self._answer(job, Failed(UNPAID, "nothing is left of the budget for this item"))
        else:
            self._later.append(job)

    def answered(self, batch: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:
        """Learn a batch's outcomes; a failure worth repeating waits for its turn."""
        assert len(batch) == len(outcomes), f"{len(outcomes)} outcomes for {len(batch)} requests"
        self.in_flight -= len(batch)
        for job, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Failed) and self._repeats(job, outcome, now):
                self._attempts.append((job, outcome))
                job.move(State.READY)
                self._later.append(job)
            else:
                self._answer(job, outcome)

    def _repeats(self, job: Job, failed: Failed, now: float) -> bool:
        """Say whether a failure is repeated, and set when."""
        if not failed.retryable or failed.after > MOST_WAIT:
            return False
        wait = self.policy.wait(job.key, failed, job.attempts)
        patience = self.policy.patience.get(failed.reason)
        if patience is None and job.failures >= self.policy.retries:
            return False
        if patience is not None and job.waited + wait > patience:
            return False
        job.failures += patience is None
        job.waited += wait if patience is not None else 0.0
        job.attempts += 1
        job.not_before = now + wait
        return True

    def lost(self, batch: Sequence[Job], detail: str) -> None:
        """Learn that a worker died over a batch: repeat it, but not for ever."""
        self.in_flight -= len(batch)
        for job in batch:
            job.losses += 1
            if job.losses > self.policy.losses:
                self._answer(job, Failed("WorkerLost", detail))
            else:
                self._make_ready(job)

    def take_answered(self) -> list[Job]:
        """Return what must be recorded now."""
        jobs, self._answered = self._answered, []
        return jobs

    def take_attempts(self) -> list[tuple[Job, Failed]]:
        """Return the failures that are repeated: kept for the record, never reused."""
        attempts, self._attempts = self._attempts, []
        return attempts

    def recorded(self, jobs: Iterable[Job]) -> None:
        """Learn that outcomes are durable."""
        for job in jobs:
            self._finish(job)

    def take_done(self) -> list[Job]:
        """Return what can be delivered."""
        jobs, self._done = self._done, []
        return jobs

    @property
    def settled(self) -> bool:
        """Whether nothing that was asked for is left undone."""
        return all(job.state is State.DONE for job in self.jobs.values())

    @property
    def waiting_until(self) -> float | None:
        """When the first of the repeats is due; None if there is none."""
        return min((job.not_before for job in self._later), default=None)

    @property
    def elsewhere(self) -> int:
        """Requests that another run computes."""
        return len(self._elsewhere)

    def _groups(self, ready: Mapping[str, object], worker: str, *, sole: bool) -> list[str]:
        """Return groups in the order `worker` should take them: its own, nobody's, then another's.

        A sole worker takes the oldest group first: its calls find each other's work warm.
        """
        if sole:
            return list(islice(ready, self.policy.batch))
        mine = [group for group in ready if self._owners.get(group) == worker]
        free = [group for group in ready if group not in self._owners]
        others = [group for group in ready if self._owners.get(group, worker) != worker]
        return mine + free if mine or free else others[:1]

    def _send(self, batch: list[Job]) -> list[Job]:
        for job in batch:
            job.move(State.IN_FLIGHT)
        self.in_flight += len(batch)
        return batch

    def _make_ready(self, job: Job) -> None:
        job.move(State.READY)
        self._queue(job)

    def _queue(self, job: Job) -> None:
        self._ready.setdefault(job.pool, {}).setdefault(job.request.group, deque()).append(job)
        self.ready[job.pool] = self.ready.get(job.pool, 0) + 1

    def wake(self, now: float) -> None:
        """Let repeats that are due join the ready ones."""
        due = [job for job in self._later if job.not_before <= now]
        if due:
            self._later = [job for job in self._later if job.not_before > now]
            for job in due:
                self._queue(job)

    def _answer(self, job: Job, outcome: Outcome) -> None:
        job.outcome = outcome
        job.move(State.ANSWERED)
        self._answered.append(job)

    def _finish(self, job: Job) -> None:
        job.move(State.DONE)
        self._done.append(job)
        if job.unpaid:  # whoever has something left may ask for it again
            del self.jobs[job.key]
