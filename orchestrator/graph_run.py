"""Graphs of calls, run: all ready nodes of all items at once, each paid for once; one that fails harms no other.

What an item's graph comes to is a function of its nodes and of their outcomes, never of who answered first; and
since outcomes come from the ledger, resuming is running again. Knows no method: judges and agents bring the nodes.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

from ..errors import SpecError
from ..graphs import Graph, Node, NodeState
from ..models.chat import CallFailed
from ..records import JSON, EventSink, Failed, Request, Scored, digest, evaluator_digest
from .budget import FREE, Budget, Limits
from .calls import CallWorker, price_of
from .counts import Counts
from .driver import Driver, summed
from .ledger import Ledger
from .loops import run_blocking
from .paying import Job, Policy, State


@dataclass
class GraphResult:
    """What became of the graphs.

    Attributes:
        graphs: In the order given, each with the state of every node.
        status: `SUCCEEDED`, or `STOPPED` with what is there so far.
        stop_reason: Why it was stopped; empty otherwise.
        counts: Outcomes paid for, found in the ledger, failed, repeated.
        cost: What this start paid: `seconds`, `calls`, `tokens`, `usd`, summed over calls.
        seconds: Wall time.
    """

    graphs: list[Graph]
    status: str
    stop_reason: str
    counts: Counts
    cost: dict[str, float]
    seconds: float


@dataclass
class GraphRun:
    """Runs graphs over chat models and a ledger.

    Attributes:
        graphs: One an item.
        workers: The chat models that nodes name, each with its limiter.
        ledger: Where outputs are kept; what is in it is free.
        budget: What the run may spend; reaching it ends the run with what it has.
        item_limits: What one item may spend, repeated attempts included; its nodes fail with `BudgetReached` then.
        events: Where progress and failures go.
        policy: What is repeated.
        run_id: Owner of its claims.
        window: Items begun and not ended, at most; speed and memory only.
    """

    graphs: Sequence[Graph]
    workers: Sequence[CallWorker]
    ledger: Ledger
    budget: Budget = field(default_factory=Budget)
    item_limits: Limits | None = None
    events: EventSink = lambda kind, fields: None
    policy: Policy = field(default_factory=Policy)
    run_id: str = "graph"
    window: int = 256
    _stop_reason: str = ""

    def run(self) -> GraphResult:
        """Run to the end, from a script, a notebook or a thread; connections of models end with it."""
        return run_blocking(self._run_alone)

    def request_stop(self, reason: str) -> None:
        """Start nothing new, record what is in flight, and end. Safe from signal handlers and other threads."""
        self._stop_reason = self._stop_reason or reason

    async def close(self) -> None:
        """Close the models' connections, which belong to the running loop; a later run opens new ones."""
        for worker in self.workers:
            await worker.model.close()

    async def _run_alone(self) -> GraphResult:
        try:
            return await self.run_async()
        finally:
            await self.close()

    async def run_async(self) -> GraphResult:
        """Run to the end; models stay open."""
        started = time.monotonic()
        driver = Driver(
            None, self.workers, self.ledger, budget=self.budget, events=self.events, policy=self.policy,
            run=self.run_id, early=True,
        )  # fmt: skip
        loop = _Loop(self, driver)
        try:
            await loop.run()
        finally:
            await driver.close()
        status = "STOPPED" if self._stop_reason else "SUCCEEDED"
        seconds = time.monotonic() - started
        return GraphResult(list(self.graphs), status, self._stop_reason, driver.counts, loop.paid, seconds)


class _Loop:
    """One run: which graphs are active, who waits for which key."""

    def __init__(self, run: GraphRun, driver: Driver) -> None:
        self._run, self._driver = run, driver
        self._workers: dict[str, list[CallWorker]] = {}
        for worker in run.workers:
            self._workers.setdefault(worker.pool, []).append(worker)
        budgets = [worker.budget.limits for worker in run.workers if worker.budget is not None]
        limits = [limits for limits in (run.budget.limits, run.item_limits, *budgets) if limits is not None]
        self._priced = any(one.calls is not None or one.tokens is not None or one.usd is not None for one in limits)
        self._priced = self._priced or any(worker.limiter.counts for worker in run.workers)
        self._queue, self._active = deque(run.graphs), 0
        self._held: dict[str, tuple[Budget, ...]] = {}
        self._waiting: dict[str, list[tuple[Graph, Node]]] = {}
        self._evaluators: dict[tuple[str, str], str] = {}
        self._shown = self._ended = 0.0
        self.paid: dict[str, float] = {}

    async def run(self) -> None:
        """Advance, pay, deliver, until every graph is done or the run was stopped."""
        await self._fill()
        while self._active or self._queue:
            self._run._stop_reason = self._driver.heed(self._run._stop_reason)
            delivered = await self._driver.cycle()
            await self._deliver(delivered)
            self._progress()
            if self._driver.draining and not delivered and self._driver.idle:
                break
        await self._driver.written()
        self._progress(last=True)

    async def _fill(self) -> None:
        """Begin graphs until the window is full."""
        while self._queue and self._active < self._run.window and not self._driver.draining:
            graph = self._queue.popleft()
            self._active += 1
            if self._run.item_limits is not None:
                self._held[graph.item] = (Budget(self._run.item_limits),)
            await self._advance(graph)

    async def _deliver(self, delivered: dict[str, Job]) -> None:
        moved: dict[int, Graph] = {}
        for key, job in delivered.items():
            paid = State.IN_FLIGHT in job.history
            if paid and isinstance(job.outcome, Scored):
                self.paid = summed([self.paid, job.outcome.cost])
            for graph, node in self._waiting.pop(key, []):
                if job.unpaid and [*map(id, self._budgets(graph, node))] != [*map(id, job.held)]:
                    await self._submit(graph, node)  # what one item could not pay, another may
                    continue
                graph.finish(node, _state(node, job, paid=paid))
                moved[id(graph)] = graph
        for graph in moved.values():
            await self._advance(graph)
        await self._fill()

    async def _advance(self, graph: Graph) -> None:
        """Send what is ready; compute what is free; say so when the graph has ended."""
        while ready := graph.take_ready():
            for node in ready:
                blocked = graph.blocked(node)
                if blocked is not None:
                    graph.finish(node, NodeState(failed=blocked))
                elif node.model:
                    await self._submit(graph, node)
                else:
                    graph.finish(node, await _computed(graph, node))
        if graph.done:
            self._active -= 1
            self._ended += 1
            self._held.pop(graph.item, None)
            failed = graph.failed
            fields = {"item": graph.item, "nodes": len(graph.nodes), "failed": failed.reason if failed else None}
            self._driver.after_writing(partial(self._run.events, "item", fields))

    async def _submit(self, graph: Graph, node: Node) -> None:
        workers = self._workers.get(node.model)
        if workers is None:
            known = ", ".join(self._workers) or "none"
            raise SpecError(
                f"graph of {graph.item}: {node.id}: model", node.model, f"a chat model of this run: {known}"
            )
        given, task, model = graph.given(node), node.task_key, workers[0].model
        for worker in workers:
            worker.tasks.setdefault(task, (node.task, type(given)))
        evaluator = self._evaluators.get((task, node.model))
        if evaluator is None:
            spec = [node.task.spec, model.identity]
            evaluator = evaluator_digest(node.task.name, node.task.version, spec)
            self._evaluators[task, node.model] = evaluator
        try:
            # Counting tokens is a call of its own at some models; without a limit nothing needs the upper price.
            price = await price_of(node.task, given, model) if self._priced else FREE
        except CallFailed as error:
            graph.finish(node, NodeState(failed=Failed(error.reason, error.detail)))
            return
        item = given.model_dump(mode="json")
        request = Request(task, item, node.seed, node.sample, group=node.prefix or graph.item)
        key = self._driver.key(request, digest(item), evaluator)
        self._waiting.setdefault(key, []).append((graph, node))
        held = self._budgets(graph, node)
        self._driver.submit(key, request, price, pool=node.model, evaluator=node.task.name, held=held)

    def _budgets(self, graph: Graph, node: Node) -> tuple[Budget, ...]:
        """Return what a node is paid from beside the run's budget: its item's, its endpoint's."""
        own = self._workers[node.model][0].budget
        return (*self._held.get(graph.item, ()), *(() if own is None else (own,)))

    def _progress(self, *, last: bool = False) -> None:
        """Say how far the run is, twice a second."""
        now = time.monotonic()
        if not last and now - self._shown < 0.5:
            return
        self._shown = now
        fields: dict[str, JSON] = {
            "told": int(self._ended), "total": len(self._run.graphs), **asdict(self._driver.counts),
            "calls": self.paid.get("calls", 0.0), "tokens": self.paid.get("tokens", 0.0),
            "usd": self.paid.get("usd", 0.0), "seconds": round(self._run.budget.seconds, 3),
            "limits": {worker.name: worker.slots for worker in self._run.workers},
        }  # fmt: skip
        self._run.events("progress", fields)


def _state(node: Node, job: Job, *, paid: bool) -> NodeState:
    """Return what became of a node whose call has ended."""
    outcome = job.outcome
    assert outcome is not None, "delivered without an outcome"
    if isinstance(outcome, Failed):
        return NodeState(failed=outcome, paid=paid, cost=outcome.cost)
    return NodeState(node.task.output.model_validate(outcome.values), None, paid, outcome.cost)


async def _computed(graph: Graph, node: Node) -> NodeState:
    """Return what a free node comes to."""
    try:
        return NodeState(await node.task.run(graph.given(node), None, node.seed))
    except CallFailed as error:
        return NodeState(failed=Failed(error.reason, error.detail))


__all__ = ["GraphResult", "GraphRun"]
