"""The paying path without I/O: look up, claim, dispatch, record, each request exactly once.

    QUEUED -> LOOKING -> DONE                           it was in the ledger
                      -> ELSEWHERE -> LOOKING           another run computes it: ask again later
                      -> READY -> IN_FLIGHT -> ANSWERED -> DONE
                           ^---------'                  worker lost, or a failure worth repeating
A state machine: the driver tells it what happened and asks it what to do. It knows no ledger, clock, worker
object or search, and is the only place that decides on retries.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ..records import Failed, Outcome, Request, Scored
from .budget import Price


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
    State.READY: {State.IN_FLIGHT},
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
        backoff: Seconds before the first repeat of a failure; doubled each time, a minute at most.
        batch: Requests in one call at most.
    """

    retries: int = 3
    losses: int = 5
    backoff: float = 0.5
    batch: int = 64


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way."""

    key: str
    request: Request
    price: Price
    state: State = State.QUEUED
    outcome: Outcome | None = None
    failures: int = 0
    losses: int = 0
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
        self._ready: dict[str, deque[Job]] = {}
        self._later: list[Job] = []
        self._owners: dict[str, str] = {}
        self._answered: list[Job] = []
        self._done: list[Job] = []
        self.ready = 0
        """Requests that wait for a worker."""
        self.in_flight = 0
        """Requests that workers have."""

    def submit(self, key: str, request: Request, price: Price) -> None:
        """Ask for a request; one that is on its way or done already is paid once and delivered again."""
        job = self.jobs.get(key)
        if job is None:
            job = self.jobs[key] = Job(key, request, price)
            self._queued.append(job)
        elif job.state is State.DONE:
            self._done.append(job)

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

    def next_batch(self, worker: str, slots: int, now: float, may_pay: Callable[[Price], bool]) -> list[Job]:
        """Return what `worker` should run next.

        Requests of one group stay together and with the worker that had the group before, since they share work;
        a worker without any takes the group that has waited longest. Which worker runs what changes no result.

        Args:
            worker: Its name.
            slots: Calls that could start now: what is ready is spread over them.
            now: Seconds, as in `Job.not_before`.
            may_pay: Whether the budget reserves a price; the first False ends the batch.
        """
        self._wake(now)
        size = min(self.policy.batch, math.ceil(self.ready / max(1, slots)))
        batch: list[Job] = []
        for group in self._groups(worker):
            queue = self._ready[group]
            while queue and len(batch) < size:
                if not may_pay(queue[0].price):
                    return self._send(batch)
                batch.append(queue.popleft())
                self.ready -= 1
            if not queue:
                del self._ready[group]
            self._owners[group] = worker
            if len(batch) == size:
                break
        return self._send(batch)

    def answered(self, batch: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:
        """Learn a batch's outcomes; a failure worth repeating waits for its turn."""
        assert len(batch) == len(outcomes), f"{len(outcomes)} outcomes for {len(batch)} requests"
        self.in_flight -= len(batch)
        for job, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Failed) and outcome.retryable and job.failures < self.policy.retries:
                job.not_before = now + min(60.0, self.policy.backoff * 2**job.failures)
                job.failures += 1
                job.move(State.READY)
                self._later.append(job)
            else:
                self._answer(job, outcome)

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

    def recorded(self, jobs: Iterable[Job]) -> None:
        """Learn that outcomes are durable."""
        for job in jobs:
            self._finish(job)

    def take_done(self) -> list[Job]:
        """Return what can be delivered."""
        jobs, self._done = self._done, []
        return jobs

    @property
    def waiting_until(self) -> float | None:
        """When the first of the repeats is due; None if there is none."""
        return min((job.not_before for job in self._later), default=None)

    @property
    def elsewhere(self) -> int:
        """Requests that another run computes."""
        return len(self._elsewhere)

    def _groups(self, worker: str) -> list[str]:
        """Return groups in the order `worker` should take them: its own, nobody's, then another's."""
        mine = [group for group in self._ready if self._owners.get(group) == worker]
        free = [group for group in self._ready if group not in self._owners]
        others = [group for group in self._ready if self._owners.get(group, worker) != worker]
        return mine + free if mine or free else others[:1]

    def _send(self, batch: list[Job]) -> list[Job]:
        for job in batch:
            job.move(State.IN_FLIGHT)
        self.in_flight += len(batch)
        return batch

    def _make_ready(self, job: Job) -> None:
        job.move(State.READY)
        self._ready.setdefault(job.request.group, deque()).append(job)
        self.ready += 1

    def _wake(self, now: float) -> None:
        """Let repeats that are due join the ready ones."""
        due = [job for job in self._later if job.not_before <= now]
        if due:
            self._later = [job for job in self._later if job.not_before > now]
            for job in due:
                self._ready.setdefault(job.request.group, deque()).append(job)
                self.ready += 1

    def _answer(self, job: Job, outcome: Outcome) -> None:
        job.outcome = outcome
        job.move(State.ANSWERED)
        self._answered.append(job)

    def _finish(self, job: Job) -> None:
        job.move(State.DONE)
        self._done.append(job)
