"""The one async driver around the paying path: ledger, workers, budget, heartbeats. Knows no searches.

A cycle looks up and claims what is new, gives idle workers their next batches, and records all answers that have
come in one transaction (group commit). Only then is an outcome delivered: what a search learns is durable. A graph
is told at once (`early`), and what it does next is recorded later than what it was told.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from ..errors import ClusterError, WorkerLost
from ..records import EventSink, Outcome, Request, Scored, digest, evaluator_digest, only_finite, request_key
from .budget import FREE, Budget, Limits, Price
from .counts import Counts
from .ledger import Entry, Ledger
from .paying import Admission, Job, Payments, Policy, State
from .workers import Identity, Seat, Worker
from .write_behind import WriteBehind

T = TypeVar("T")

LEASE = 30.0
"""Seconds that a claim lasts without a heartbeat; a dead run's work is taken over after that."""
POLL = 0.5
"""Seconds between looks at what another run computes."""
GRACE = 30.0
"""Seconds that calls in flight have to come home once a run was told to stop."""
NAP = 0.05
"""Seconds before a request that waits for its item's budget is tried again."""


class Driver:
    """Pays for requests.

    Args:
        evaluator: Name, version and spec of what the workers run; None where each request names its own.
        workers: Who evaluates; any of a pool may run any request of that pool.
        ledger: Where outcomes are kept.
        budget: What may be spent.
        events: Where events go.
        policy: What is repeated.
        run: Id of the run: owner of its claims, also after a restart.
        early: Deliver an outcome as soon as it is there, and make it durable behind; `written` waits for that.
    """

    def __init__(
        self,
        evaluator: Identity | None,
        workers: Sequence[Worker],
        ledger: Ledger,
        *,
        budget: Budget,
        events: EventSink,
        policy: Policy,
        run: str,
        early: bool = False,
    ) -> None:
        self._name, self._evaluator = "", ""
        if evaluator is not None:
            self._name = evaluator.name
            self._evaluator = evaluator_digest(evaluator.name, evaluator.version, evaluator.spec)
        self._seats = {worker.name: Seat.of(worker) for worker in workers}
        self._ledger, self._budget, self._events, self._run = ledger, budget, events, run
        self._core, self.counts, self._policy = Payments(policy), Counts(), policy
        self._io = ThreadPoolExecutor(1, "ledger")
        self._tasks: dict[asyncio.Task[list[Outcome]], tuple[str, list[Job]]] = {}
        self._busy: Counter[str] = Counter()
        self._revivals: dict[asyncio.Task[None], str] = {}
        self._ended: list[asyncio.Task[Any]] = []
        self._woken, self._refilling = asyncio.Event(), False
        self._behind = WriteBehind(self._write, self._woken.set) if early else None
        self._beat = self._polled = time.monotonic()
        self._admitted_at: float | None = None
        self._stopped = False
        self.refused: str | None = None
        """The budget limit that stopped dispatch."""
        self.draining = False
        """Nothing new is started; what is in flight comes home."""
        self._give_up_at = math.inf

    def key(self, request: Request, item: str | None = None, evaluator: str | None = None) -> str:
        """Return the ledger key of `request`; digests of its item and evaluator where they are known."""
        return request_key(evaluator or self._evaluator, item or digest(request.item), request)

    def submit(
        self,
        key: str,
        request: Request,
        price: Price = FREE,
        *,
        pool: str = "",
        evaluator: str = "",
        held: tuple[Budget, ...] = (),
    ) -> None:
        """Ask for a request; its outcome is delivered by a later `cycle`.

        Args:
            key: From `key`.
            request: What is asked.
            price: At most.
            pool: Of the workers that may run it.
            evaluator: Name of what answers it, where it is not the driver's own.
            held: Budgets that it is paid from beside the run's.
        """
        self._budget.check(price)
        self._core.submit(Job(key, request, price, pool, evaluator or self._name, held))

    def drain(self) -> None:
        """Start nothing new; what is in flight has `GRACE` seconds to come home, and is given up after that."""
        if not self.draining:
            self.draining, self._give_up_at = True, time.monotonic() + GRACE

    def heed(self, reason: str) -> str:
        """Drain once there is a reason to stop, the caller's own or a budget's; return the reason, "" for none."""
        reason = reason or (f"budget: {self.refused}" if self.refused else "")
        if reason and not self.draining:
            self.drain()
            self._events("stopping", {"reason": reason})
        return reason

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight that is still waited for: where nothing was delivered, nothing will be."""
        return (not self._tasks and not self._revivals) or time.monotonic() >= self._give_up_at

    async def cycle(self) -> dict[str, Job]:
        """Do what can be done now, wait where there is nothing, and return the jobs delivered, by key."""
        await self._heartbeat()
        if self._budget.seconds_left == 0:
            self.refused = "seconds"
        await self._look_up()
        self._take_ended()
        self._dispatch()
        await self._record()
        if self._behind is not None:
            self._behind.step()
        done = self._core.take_done()
        core, pending = self._core, self._tasks or self._revivals
        if not done and (pending or core.elsewhere or core.waiting_until or self._admitted_at):
            await self._wait()
        return {job.key: job for job in done}

    def after_writing(self, then: Callable[[], None]) -> None:
        """Call `then` once all that was delivered so far is durable."""
        if self._behind is None:
            then()
        else:
            self._behind.after(then)

    async def written(self) -> None:
        """Wait until all that was delivered is durable; a `StoreError` says that it cannot be."""
        if self._behind is not None:
            await self._behind.flush()

    async def close(self) -> None:
        """Give up what is claimed and not done."""
        self.draining = True
        for task in [*self._tasks, *self._revivals]:
            task.cancel()
        whole = False
        try:
            await self.written()
            whole = self._core.settled  # each claim went with its outcome
        finally:
            if not whole:
                await self._in_thread(self._ledger.release, self._run)
            self._io.shutdown()

    async def _look_up(self) -> None:
        poll = self._core.elsewhere > 0 and time.monotonic() - self._polled > POLL
        jobs = self._core.take_queued(poll=poll)
        if poll:
            self._polled = time.monotonic()
        if not jobs:
            return
        keys = [job.key for job in jobs]
        found, granted = await self._in_thread(self._ledger.look_up, keys, self._run, 0.0 if self.draining else LEASE)
        self.counts.found += len(found)
        self._core.looked_up(jobs, {key: row.outcome for key, row in found.items()}, granted)

    def _dispatch(self) -> None:
        if self.draining:
            return
        self._core.wake(time.monotonic())
        self._admitted_at, busy = None, self._busy
        down = {*self._revivals.values(), *map(self._lost_by, self._ended)}
        for pool in {seat.pool for seat in self._seats.values() if self._core.ready.get(seat.pool, 0)}:
            seats = [seat for seat in self._seats.values() if seat.pool == pool and seat.name not in down]
            may = {seat.name: seat.slots for seat in seats}
            most = max(may.values(), default=0)
            slots = [seat for depth in range(most) for seat in seats if busy[seat.name] <= depth < may[seat.name]]
            self._fill(pool, slots, sole=len(seats) == 1)

    def _fill(self, pool: str, slots: Sequence["Seat"], *, sole: bool) -> None:
        """Give each free slot of a pool a batch, what is ready spread over them."""
        for number, seat in enumerate(slots):
            ready = self._core.ready.get(pool, 0)
            if not ready:
                return
            size = min(seat.batch or self._policy.batch, math.ceil(ready / (len(slots) - number)))
            self._stopped = False
            batch: list[Job] = []
            while not batch and not self._stopped and self._core.ready.get(pool, 0):
                batch = self._core.next_batch(seat.name, pool, size, partial(self._admit, seat), sole=sole)
            if batch:
                work = seat.worker.run([job.request for job in batch])
                self._tasks[self._watched(work)] = (seat.name, batch)
                self._busy[seat.name] += 1
            if self._stopped:
                return

    def _admit(self, seat: "Seat", job: Job) -> Admission:
        """Reserve what a request costs, of every budget or of none."""
        now = time.monotonic()
        at = seat.ready_at(now, job.price)
        if at > now:
            self._stopped, self._admitted_at = True, min(at, self._admitted_at or at)
            return Admission.STOP
        for number, budget in enumerate(job.held):
            if budget.reserve(job.price) is not None:
                for earlier in job.held[:number]:
                    earlier.release(job.price)
                job.not_before = now + NAP
                return Admission.LATER if budget.waiting else Admission.NEVER
        limit = self._budget.reserve(job.price)
        if limit is None:
            seat.started(now, job.price)
            return Admission.PAY
        for budget in job.held:
            budget.release(job.price)
        self._stopped = True
        if limit == "seconds" or not self._budget.waiting:
            self.refused = limit  # else what is in flight may take less than was reserved, and leave enough
        return Admission.STOP

    def _take_ended(self) -> None:
        """Learn what has come home; its workers are free again."""
        ended, self._ended = self._ended, []
        for task in ended:
            if task in self._tasks:
                self._collect(task)
            else:
                self._revived(task)

    async def _record(self) -> None:
        jobs, attempts = self._core.take_answered(), self._core.take_attempts()
        answers = [(job, job.outcome) for job in jobs if job.outcome is not None]
        entries = [Entry(job.key, job.evaluator, failed, self._run, final=False) for job, failed in attempts]
        entries += [Entry(job.key, job.evaluator, outcome, self._run) for job, outcome in answers if not job.unpaid]
        if entries and self._behind is not None:
            self._behind.add(entries)
        elif entries:
            await self._write(entries)
        if unpaid := [job.key for job in jobs if job.unpaid]:
            await self._in_thread(self._ledger.release, self._run, unpaid)
        for job, failed in attempts:
            self.counts.repeated += 1
            self._settle(job, failed.cost, whole=False)
            self._events("retry", {"reason": failed.reason, "detail": failed.detail, "attempt": job.attempts})
        for job, outcome in answers:
            self._end(job, outcome)
        self._core.recorded(jobs)

    async def _write(self, entries: Sequence[Entry]) -> None:
        await self._in_thread(self._ledger.record, entries, self._run)

    def _end(self, job: Job, outcome: Outcome) -> None:
        """Count an outcome that was paid for."""
        if isinstance(outcome, Scored):
            self.counts.paid += 1
            self._settle(job, outcome.cost)
            return
        self.counts.failed += 1
        if not job.unpaid:
            self._settle(job, outcome.cost)
        self._events("failure", {"reason": outcome.reason, "detail": outcome.detail, "key": job.key})

    def _settle(self, job: Job, cost: Mapping[str, float], *, whole: bool = True) -> None:
        for budget in (self._budget, *job.held):
            budget.settle(job.price, cost, whole=whole)

    def _collect(self, task: "asyncio.Task[list[Outcome]]") -> None:
        name, batch = self._tasks.pop(task)
        try:
            outcomes = task.result()
        except WorkerLost as error:
            self.counts.lost += len(batch)
            self._events("worker", {"worker": name, "state": "lost", "detail": error.problem, "requests": len(batch)})
            self._core.lost(batch, error.problem)
            for job in batch:
                if job.state is State.READY:  # it will be sent, and reserved for, again
                    for budget in (self._budget, *job.held):
                        budget.release(job.price)
            if name not in self._revivals.values():
                self._revivals[self._watched(self._seats[name].worker.revive())] = name
        else:
            self._core.answered(batch, [only_finite(outcome) for outcome in outcomes], time.monotonic())

    def _revived(self, task: "asyncio.Task[None]") -> None:
        name = self._revivals.pop(task)
        try:
            task.result()
        except WorkerLost as error:
            pool = self._seats.pop(name).pool
            self._events("worker", {"worker": name, "state": "gone", "detail": error.problem})
            if not any(seat.pool == pool for seat in self._seats.values()):
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
        behind = None if self._behind is None else self._behind.due
        for at in (self._core.waiting_until, self._admitted_at, self._give_up_at, behind):
            if at is not None:
                due.append(max(0.01, at - time.monotonic()))
        if not self.draining and self._budget.seconds_left is not None:
            due.append(max(0.01, self._budget.seconds_left))
        self._woken.clear()
        if not self._ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(due)):
                    await self._woken.wait()
        ended = -1
        while len(self._ended) > ended:  # answers of one burst are recorded, and flushed to the disk, together
            ended = len(self._ended)
            await asyncio.sleep(0)

    def _watched(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start work whose end wakes the driver."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._note)
        return task

    def _note(self, task: "asyncio.Task[Any]") -> None:
        self._ended.append(task)
        if task in self._tasks:
            self._busy[self._tasks[task][0]] -= 1
        self._woken.set()
        if not self._refilling:
            self._refilling = True
            asyncio.get_running_loop().call_soon(self._refill)

    def _refill(self) -> None:
        """Fill the places of calls that ended, at once: a cycle may be waiting for the disk."""
        self._refilling = False
        self._dispatch()

    def _lost_by(self, task: "asyncio.Task[Any]") -> str:
        """Return the worker that an ended task shows to be lost, "" for none."""
        lost = task in self._tasks and (task.cancelled() or task.exception() is not None)
        return self._tasks[task][0] if lost else ""

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._io, lambda: function(*args))


def budget_of(limits: Limits, ledger: Ledger, run: str) -> Budget:
    """Return a run's budget, what it paid before this start counted."""
    budget = Budget(limits)
    for cost in ledger.costs(run):
        budget.count(cost)
    for cost in ledger.failed_costs(run):
        budget.count(cost, whole=False)
    return budget


def summed(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the sums of costs, by name."""
    total: dict[str, float] = {}
    for cost in costs:
        for name, part in cost.items():
            total[name] = total.get(name, 0.0) + part
    return total
