"""The one async driver around the paying path: ledger, workers, budget, heartbeats. Knows no searches.

A cycle looks up and claims what is new, gives idle workers their next batches, and records all answers that have
come in one transaction (group commit). Only then is an outcome delivered: what a search learns is durable.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import ClusterError, WorkerLost
from ..records import EventSink, Failed, Outcome, Request, Scored, digest, evaluator_digest, request_key
from .budget import Budget, Price
from .ledger import Entry, Ledger
from .paying import Job, Payments, Policy, State
from .workers import Identity, Worker

T = TypeVar("T")

LEASE = 30.0
"""Seconds that a claim lasts without a heartbeat; a dead run's work is taken over after that."""
POLL = 0.5
"""Seconds between looks at what another run computes."""
DEPTH = 2
"""Batches that a worker may have, so that it never waits for the driver."""


@dataclass
class Counts:
    """Where outcomes came from."""

    paid: int = 0
    found: int = 0
    failed: int = 0
    lost: int = 0


class Driver:
    """Pays for requests of one evaluator.

    Args:
        evaluator: Its name, version and spec.
        workers: Who evaluates; any of them may run any request.
        ledger: Where outcomes are kept.
        budget: What may be spent.
        events: Where events go.
        policy: What is repeated.
        run: Id of the run: owner of its claims, also after a restart.
        price: The upper price of a request.
    """

    def __init__(
        self,
        evaluator: Identity,
        workers: Sequence[Worker],
        ledger: Ledger,
        *,
        budget: Budget,
        events: EventSink,
        policy: Policy,
        run: str,
        price: Callable[[Request], Price] = lambda request: Price(),
    ) -> None:
        self._name, self._evaluator = (
            evaluator.name,
            evaluator_digest(evaluator.name, evaluator.version, evaluator.spec),
        )
        self._workers = {worker.name: worker for worker in workers}
        self._ledger, self._budget, self._events, self._run, self._price = ledger, budget, events, run, price
        self._core, self.counts = Payments(policy), Counts()
        self._io = ThreadPoolExecutor(1, "ledger")
        self._tasks: dict[asyncio.Task[list[Outcome]], tuple[str, list[Job]]] = {}
        self._revivals: dict[asyncio.Task[None], str] = {}
        self._beat = self._polled = time.monotonic()
        self.refused: str | None = None
        """The budget limit that stopped dispatch."""
        self.draining = False
        """Start nothing new; what is in flight comes home."""

    def key(self, request: Request, item: str | None = None) -> str:
        """Return the ledger key of `request`; `item` is the digest of its item, where it is known."""
        return request_key(self._evaluator, item or digest(request.item), request)

    def submit(self, key: str, request: Request) -> None:
        """Ask for a request; its outcome is delivered by a later `cycle`."""
        price = self._price(request)
        self._budget.check(price)
        self._core.submit(key, request, price)

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight: where nothing was delivered either, nothing will be."""
        return not self._tasks and not self._revivals

    async def cycle(self) -> dict[str, Outcome]:
        """Do what can be done now, wait where there is nothing, and return what was delivered."""
        await self._heartbeat()
        await self._look_up()
        self._dispatch()
        await self._record()
        done = self._core.take_done()
        if not done and (self._tasks or self._revivals or self._core.elsewhere or self._core.waiting_until):
            await self._wait()
        return {job.key: job.outcome for job in done if job.outcome is not None}

    async def close(self) -> None:
        """Give up what is claimed and not done."""
        for task in [*self._tasks, *self._revivals]:
            task.cancel()
        await self._in_thread(self._ledger.release, self._run)
        self._io.shutdown()

    async def _look_up(self) -> None:
        poll = self._core.elsewhere > 0 and time.monotonic() - self._polled > POLL
        jobs = self._core.take_queued(poll=poll)
        if poll:
            self._polled = time.monotonic()
        if not jobs:
            return
        found = await self._in_thread(self._ledger.find, [job.key for job in jobs])
        missing = [job.key for job in jobs if job.key not in found]
        granted: set[str] = set()
        if missing and not self.draining:
            granted = await self._in_thread(self._ledger.claim, missing, self._run, LEASE)
            # Whoever held a claim before may have recorded between our look and our claim.
            late = await self._in_thread(self._ledger.find, granted)
            if late:
                await self._in_thread(self._ledger.release, self._run, list(late))
            found |= late
        self.counts.found += len(found)
        self._core.looked_up(jobs, {key: row.outcome for key, row in found.items()}, granted)

    def _dispatch(self) -> None:
        if self.draining:
            return
        busy: dict[str, int] = dict.fromkeys(self._workers, 0)
        for name, _ in self._tasks.values():
            busy[name] += 1
        down = set(self._revivals.values())
        slots = [name for depth in range(DEPTH) for name in busy if busy[name] <= depth and name not in down]
        for number, name in enumerate(slots):
            batch = self._core.next_batch(name, len(slots) - number, time.monotonic(), self._may_pay)
            if batch:
                work = self._workers[name].run([job.request for job in batch])
                self._tasks[asyncio.ensure_future(work)] = (name, batch)

    def _may_pay(self, price: Price) -> bool:
        limit = self._budget.reserve(price)
        if limit is not None:
            self.refused = limit
        return limit is None

    async def _record(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            self._collect(task)
        for revival in [task for task in self._revivals if task.done()]:
            self._revived(revival)
        jobs = self._core.take_answered()
        if not jobs:
            return
        entries = [Entry(job.key, self._name, job.outcome, self._run) for job in jobs if job.outcome is not None]
        await self._in_thread(self._ledger.record, entries, self._run)
        for job in jobs:
            outcome = job.outcome
            self._budget.settle(job.price, outcome.cost if isinstance(outcome, Scored) else {})
            self.counts.paid += isinstance(outcome, Scored)
            if isinstance(outcome, Failed):
                self.counts.failed += 1
                self._events("failure", {"reason": outcome.reason, "detail": outcome.detail, "key": job.key})
        self._core.recorded(jobs)

    def _collect(self, task: "asyncio.Task[list[Outcome]]") -> None:
        name, batch = self._tasks.pop(task)
        try:
            outcomes = task.result()
        except WorkerLost as error:
            self.counts.lost += len(batch)
            self._events("worker", {"worker": name, "state": "lost", "detail": error.problem, "requests": len(batch)})
            self._core.lost(batch, error.problem)
            if name not in self._revivals.values():
                self._revivals[asyncio.ensure_future(self._workers[name].revive())] = name
        else:
            self._core.answered(batch, outcomes, time.monotonic())
        for job in batch:
            if job.state is State.READY:  # it will be dispatched, and reserved for, again
                self._budget.settle(job.price, None)

    def _revived(self, task: "asyncio.Task[None]") -> None:
        name = self._revivals.pop(task)
        try:
            task.result()
        except WorkerLost as error:
            del self._workers[name]
            self._events("worker", {"worker": name, "state": "gone", "detail": error.problem})
            if not self._workers:
                raise ClusterError(name, f"no worker is left: {error.problem}") from error
        else:
            self._events("worker", {"worker": name, "state": "back"})

    async def _heartbeat(self) -> None:
        if time.monotonic() - self._beat > LEASE / 3:
            self._beat = time.monotonic()
            await self._in_thread(self._ledger.renew, self._run, LEASE)

    async def _wait(self) -> None:
        """Wait for the first answer, or until something is due."""
        due = [LEASE / 3]
        if self._core.elsewhere:
            due.append(POLL)
        if self._core.waiting_until is not None:
            due.append(max(0.01, self._core.waiting_until - time.monotonic()))
        pending: list[asyncio.Task[Any]] = [*self._tasks, *self._revivals]
        if pending:
            await asyncio.wait(pending, timeout=min(due), return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(min(due))

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._io, lambda: function(*args))


def summed(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the sums of costs, by name."""
    total: dict[str, float] = {}
    for cost in costs:
        for name, part in cost.items():
            total[name] = total.get(name, 0.0) + part
    return total
