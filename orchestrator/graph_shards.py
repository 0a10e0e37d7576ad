"""One graph run spread over actors: each takes a share of the items, all pay into one ledger.

What an item's graph comes to depends on its nodes and their outcomes alone, so the number of shards changes no
result. A shard that dies is started again and finds in the ledger what it had paid. Limits and budgets are shared
out evenly, so that their sums hold. Knows no method: it is handed two functions, one that builds an item's graph and
one that opens the chat models where they are called from.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..errors import ClusterError, PlaitError
from ..graphs import Graph, NodeState
from ..records import JSON, EventSink, Failed
from .budget import Budget, Limits
from .calls import CallWorker
from .counts import Counts
from .driver import budget_of, summed
from .graph_run import GraphResult, GraphRun
from .ledger import Ledger
from .loops import run_blocking
from .paying import Policy
from .workers import first_line

DEATHS = 5
"""Times that one shard may die before the run is given up."""
PLACING = 240.0
"""Seconds that the shards may take to be placed."""
SHARD_CPUS = 0.5
"""Cores that Ray reserves for a shard, which waits for answers most of the time."""


@dataclass(frozen=True)
class ShardPlan:
    """What every shard is handed: functions, where the ledger is, its share of the limits.

    Attributes:
        build: Makes the graph of one item; the same graph wherever it is called.
        open_workers: Opens the chat models.
        ledger: URL or path that every shard reaches: SQLite where all are on one machine, PostgreSQL else.
        limits: Of the whole run; shared out among the shards, so that their sums hold.
        item_limits: Of each item.
        policy: What is repeated.
        run_id: Owner of its claims.
    """

    build: Callable[[Any], Graph]
    open_workers: Callable[[], Sequence[CallWorker]]
    ledger: str
    limits: Limits = field(default_factory=Limits)
    item_limits: Limits | None = None
    policy: Policy = field(default_factory=Policy)
    run_id: str = "graph"


class Shard:
    """Runs the graphs of its items; plain, so that it is tested without a cluster."""

    def __init__(self, plan: ShardPlan, number: int) -> None:
        self._plan, self._run_id = plan, f"{plan.run_id}/{number}"
        self._run: GraphRun | None = None
        self._latest: dict[str, JSON] = {}

    async def run(self, items: Sequence[Any]) -> dict[str, JSON]:
        """Return what became of every node of every item, as plain JSON, with counts and cost."""
        ledger = Ledger(self._plan.ledger)
        try:
            graphs = [self._plan.build(item) for item in items]
            workers = await asyncio.to_thread(self._plan.open_workers)  # it may wait for hosts to load
            self._run = GraphRun(
                graphs, workers, ledger, budget=Budget(self._plan.limits), events=self._told,
                item_limits=self._plan.item_limits, policy=self._plan.policy, run_id=self._run_id,
            )  # fmt: skip
            result = await self._run.run_async()
        finally:
            if self._run is not None:
                await self._run.close()
            ledger.close()
        return {
            "graphs": [{id_: _plain(state) for id_, state in graph.states.items() if state.done} for graph in graphs],
            "status": result.status, "stop_reason": result.stop_reason, "counts": asdict(result.counts),
            "cost": result.cost,
        }  # fmt: skip

    async def ready(self) -> bool:
        """Return True: the actor was placed."""
        return True

    async def progress(self) -> dict[str, JSON]:
        """Return the last progress event."""
        return self._latest

    async def stop(self, reason: str) -> None:
        """Start nothing new, record what is in flight, and end."""
        if self._run is not None:
            self._run.request_stop(reason)

    def _told(self, kind: str, values: Mapping[str, JSON]) -> None:
        if kind == "progress":
            self._latest = dict(values)


@dataclass
class ShardedRun:
    """A `GraphRun` over several actors of a Ray cluster.

    Attributes:
        items: One graph each, in the order of the result.
        plan: For every shard; limits are the whole run's and shared out here.
        shards: Actors of `SHARD_CPUS` each.
        events: Where summed progress goes.
    """

    items: Sequence[Any]
    plan: ShardPlan
    shards: int
    events: EventSink = lambda kind, fields: None
    _stop_reason: str = ""
    _spent_before: list[dict[str, float]] = field(default_factory=list)

    def run(self) -> GraphResult:
        """Run to the end, from a script, a notebook or a thread."""
        return run_blocking(self.run_async)

    def request_stop(self, reason: str) -> None:
        """Start nothing new, record what is in flight, and end. Safe from signal handlers and other threads."""
        self._stop_reason = self._stop_reason or reason

    async def run_async(self) -> GraphResult:
        """Run to the end; an actor that dies is started again.

        Raises:
            ClusterError: a shard died again and again.
        """
        import ray

        started = time.monotonic()
        actor: Any = ray.remote(Shard)
        self._spent_before = [self._spent(number) for number in range(self.shards)]
        handles = [self._start(actor, number) for number in range(self.shards)]
        try:
            await self._placed(handles)
            calls = [handle.run.remote(self._share(number)) for number, handle in enumerate(handles)]
            finished = [self._finished(actor, number, handles, calls) for number in range(self.shards)]
            told = await self._watched(asyncio.gather(*finished), handles)
        finally:
            for handle in handles:
                ray.kill(handle)
        return self._merged(told, time.monotonic() - started)

    def _share(self, number: int) -> Sequence[Any]:
        return self.items[number :: self.shards]

    def _start(self, actor: Any, number: int) -> Any:
        """Return the actor of a shard, with what its share has left; a shard that died has spent some of it."""
        spent = {name: part - self._spent_before[number][name] for name, part in self._spent(number).items()}
        limits = share_of(self.plan.limits, self.shards, number).less(spent)
        from ..models.host import NAMESPACE  # with torch: a run that is not sharded needs neither

        options = {"num_cpus": SHARD_CPUS, "max_restarts": 0, "namespace": NAMESPACE, "max_concurrency": 8}
        environment = {"env_vars": {"OMP_NUM_THREADS": "1"}}
        return actor.options(**options, runtime_env=environment).remote(replace(self.plan, limits=limits), number)

    def _spent(self, number: int) -> dict[str, float]:
        """Return what a shard of this run has paid so far, by the ledger."""
        ledger = Ledger(self.plan.ledger)
        try:
            return budget_of(Limits(), ledger, f"{self.plan.run_id}/{number}").spent
        finally:
            ledger.close()

    async def _placed(self, handles: Sequence[Any]) -> None:
        """Wait until every shard has its place.

        Raises:
            ClusterError: the cluster has none for them.
        """
        try:
            async with asyncio.timeout(PLACING):
                await asyncio.gather(*(_answer(handle.ready.remote()) for handle in handles))
        except TimeoutError as error:
            problem = f"{self.shards} shards of {SHARD_CPUS:g} CPUs were not placed within {PLACING:.0f} s"
            raise ClusterError("Ray", f"{problem}; fewer shards, or more cores") from error

    async def _finished(self, actor: Any, number: int, handles: list[Any], calls: list[Any]) -> dict[str, JSON]:
        """Return what a shard found, starting it again where it died.

        Raises:
            PlaitError: the shard's own, as it was raised there.
        """
        import ray

        for _ in range(DEATHS):
            try:
                found: dict[str, JSON] = await calls[number]
                return found
            except ray.exceptions.RayActorError as error:
                self.events("worker", {"worker": f"shard-{number}", "state": "lost", "detail": first_line(error)})
                handles[number] = self._start(actor, number)
                calls[number] = handles[number].run.remote(self._share(number))
            except ray.exceptions.RayTaskError as error:
                cause = error.cause
                raise cause if isinstance(cause, PlaitError) else error from None
        raise ClusterError(f"shard {number}", f"died {DEATHS} times")

    async def _watched(self, work: "asyncio.Future[list[dict[str, JSON]]]", handles: list[Any]) -> Any:
        """Wait for the shards; pass on stops, and the sum of their progress, twice a second."""
        import ray

        told = False
        while not work.done():
            await asyncio.wait([work], timeout=0.5)
            if self._stop_reason and not told:
                told = True
                for handle in handles:
                    handle.stop.remote(self._stop_reason)
            asked = [handle.progress.remote() for handle in handles]
            ready, _ = ray.wait(asked, num_returns=len(asked), timeout=0)
            latest = await asyncio.gather(*map(_answer, ready), return_exceptions=True)
            self._tell([one for one in latest if isinstance(one, dict) and one])
        return work.result()

    def _tell(self, parts: Sequence[Mapping[str, JSON]]) -> None:
        """Say how far the shards are together."""
        if len(parts) < self.shards:
            return  # one is being started, or does not answer just now
        names = [name for name, value in parts[0].items() if isinstance(value, int | float)]
        sums = {name: sum(part[name] for part in parts) for name in names}
        self.events("progress", {**sums, "total": len(self.items), "seconds": max(p["seconds"] for p in parts)})

    def _merged(self, told: Sequence[Mapping[str, JSON]], seconds: float) -> GraphResult:
        graphs: list[Graph] = []
        for index, item in enumerate(self.items):
            graph = self.plan.build(item)
            _replay(graph, told[index % self.shards]["graphs"][index // self.shards])
            graphs.append(graph)
        counts = Counts(**{name: sum(one["counts"][name] for one in told) for name in asdict(Counts())})
        reason = self._stop_reason or next((one["stop_reason"] for one in told if one["stop_reason"]), "")
        cost = summed([one["cost"] for one in told])
        return GraphResult(graphs, "STOPPED" if reason else "SUCCEEDED", reason, counts, cost, seconds)


def share_of(limits: Limits, shards: int, number: int) -> Limits:
    """Return the share of one shard: amounts divided without rest, so that their sum is the whole; time kept."""

    def part(name: str) -> float | None:
        limit: float | None = getattr(limits, name)
        if limit is None or name == "seconds":
            return limit
        return limit / shards if name == "usd" else int(limit) // shards + (number < int(limit) % shards)

    return Limits(**{one.name: part(one.name) for one in fields(limits)})  # type: ignore[arg-type]


async def _answer(reference: Any) -> Any:
    return await reference


def _replay(graph: Graph, states: Mapping[str, JSON]) -> None:
    """Give a fresh graph the outcomes that a shard found; it grows as it grew there."""
    while ready := [node for node in graph.take_ready() if node.id in states]:
        for node in ready:
            state = states[node.id]
            output = None if state["output"] is None else node.task.output.model_validate(state["output"])
            failed = None if state["failed"] is None else Failed(**state["failed"])
            graph.finish(node, NodeState(output, failed, state["paid"], state["cost"]))


def _plain(state: NodeState) -> dict[str, JSON]:
    output = None if state.output is None else state.output.model_dump(mode="json")
    failed = None if state.failed is None else asdict(state.failed)
    return {"output": output, "failed": failed, "paid": state.paid, "cost": dict(state.cost)}


__all__ = ["Shard", "ShardPlan", "ShardedRun"]
