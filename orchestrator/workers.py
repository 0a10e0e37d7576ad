"""Who evaluates: the contracts of evaluators and workers, and the plain workers. Knows no method and no ledger."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ..errors import ClusterError, WorkerLost
from ..records import JSON, Failed, Outcome, Request, Scored
from .budget import Price


class Identity(Protocol):
    """What the ledger knows an evaluator by."""

    @property
    def name(self) -> str:
        """A short name."""
        ...

    @property
    def version(self) -> int:
        """Raised whenever a change of the code may change a value."""
        ...

    @property
    def spec(self) -> JSON:
        """All else that its values depend on: model hash, dtype, template, parser."""
        ...


class Evaluator(Identity, Protocol):
    """Turns requests into raw values; a plain object, tested without a cluster."""

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        """Return one outcome a request, in order; a request that goes wrong is `Failed`, never a score."""
        ...


class Worker(Protocol):
    """Something that runs batches, near or far. `Seat` lists what it may say of itself beside this."""

    @property
    def name(self) -> str:
        """Unique among the workers of a run."""
        ...

    async def run(self, requests: Sequence[Request]) -> list[Outcome]:
        """Return one outcome a request, in order.

        Raises:
            WorkerLost: it died or is restarting; nothing is known of the batch.
        """
        ...

    async def revive(self) -> None:
        """Make the worker usable again.

        Raises:
            WorkerLost: it cannot be.
        """
        ...


PLACING = 180.0
"""Seconds that actors may take until they answer: on a busy machine the imports of one alone may take a minute."""

DEPTH = 2
"""Batches that a worker may have, so that it never waits for the driver."""


@dataclass(frozen=True)
class Seat:
    """A worker as the driver sees it, with what a worker may say of itself beside the contract.

    Attributes:
        worker: Who evaluates.
        name: Its name.
        pool: `worker.pool`: it runs requests of that pool alone; "" if it says nothing.
        batch: `worker.batch`: requests in one call at most; None for the policy's.
    """

    worker: Worker
    name: str
    pool: str
    batch: int | None

    @classmethod
    def of(cls, worker: Worker) -> "Seat":
        """Return the seat of `worker`."""
        return cls(worker, worker.name, getattr(worker, "pool", ""), getattr(worker, "batch", None))

    @property
    def slots(self) -> int:
        """Calls that the worker may have at once: `worker.slots`, which may change as it learns."""
        return int(getattr(self.worker, "slots", DEPTH))

    def ready_at(self, now: float, price: Price) -> float:
        """Return when the worker may start a request of `price`: `worker.ready_at`, else now."""
        ask = getattr(self.worker, "ready_at", None)
        return now if ask is None else float(ask(now, price))

    def started(self, now: float, price: Price) -> None:
        """Tell a worker that counts its starts of one more."""
        tell = getattr(self.worker, "started", None)
        if tell is not None:
            tell(now, price)


class InlineWorker:
    """Runs an evaluator in a thread of this process."""

    def __init__(self, evaluator: Evaluator, name: str = "inline") -> None:
        self.name, self._evaluator = name, evaluator
        self._thread = ThreadPoolExecutor(1, name)

    async def run(self, requests: Sequence[Request]) -> list[Outcome]:
        """Evaluate the batch."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._evaluator.evaluate, requests)

    async def revive(self) -> None:
        """Do nothing: this process is alive."""


class EvaluatorActor:
    """Holds one evaluator in a Ray actor; plain, so that it is tested without a cluster."""

    def __init__(self, make: Callable[[], Evaluator]) -> None:
        self._evaluator = make()

    def ready(self) -> bool:
        """Return True: the evaluator was made."""
        return True

    def evaluate(self, rows: Sequence[tuple[str, JSON, int, int]]) -> list[dict[str, JSON]]:
        """Evaluate requests as plain rows and return plain outcomes: no class of ours crosses the wire."""
        return [to_wire(outcome) for outcome in self._evaluator.evaluate([Request(*row) for row in rows])]


class RayWorker:
    """An `EvaluatorActor` on a cluster; Ray restarts it, the paying path repeats its work."""

    def __init__(self, name: str, handle: Any) -> None:
        self.name, self._handle = name, handle

    async def run(self, requests: Sequence[Request]) -> list[Outcome]:
        """Send the batch as one call."""
        import ray

        rows = [(request.candidate, request.item, request.seed, request.sample) for request in requests]
        try:
            wires = await self._handle.evaluate.remote(rows)
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
            raise WorkerLost(self.name, first_line(error)) from error
        except ray.exceptions.RayTaskError as error:
            detail = first_line(error.cause)
            return [Failed(type(error.cause).__name__, detail)] * len(requests)
        return [from_wire(wire) for wire in wires]

    async def revive(self) -> None:
        """Wait until Ray has restarted the actor."""
        import ray

        try:
            async with asyncio.timeout(PLACING):
                while True:
                    try:
                        await self._handle.ready.remote()
                    except ray.exceptions.ActorUnavailableError:
                        await asyncio.sleep(0.1)  # Ray refuses calls until it is up again, and says no more than that
                    else:
                        return
        except (ray.exceptions.RayActorError, TimeoutError) as error:
            raise WorkerLost(self.name, first_line(error)) from error

    def kill(self) -> None:
        """End the actor for good."""
        import ray

        ray.kill(self._handle, no_restart=True)


def start_ray_workers(make: Callable[[], Evaluator], count: int, *, cpus: float = 1.0) -> list[RayWorker]:
    """Start `count` actors of one torch thread each; the caller ends them with `kill`.

    Raises:
        ClusterError: they are not there within `PLACING` seconds.
    """
    import ray

    options = {"max_restarts": -1, "max_task_retries": 0, "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}}}
    actor: Any = ray.remote(EvaluatorActor)
    handles = [actor.options(num_cpus=cpus, **options).remote(make) for _ in range(count)]
    try:
        ray.get([handle.ready.remote() for handle in handles], timeout=PLACING)
    except (ray.exceptions.GetTimeoutError, ray.exceptions.RayActorError) as error:
        for handle in handles:
            ray.kill(handle)
        late = isinstance(error, ray.exceptions.GetTimeoutError)
        why = f" within {PLACING:.0f} s; are so many CPUs free?" if late else f": {first_line(error)}"
        raise ClusterError("Ray", f"{count} actors of {cpus:g} CPUs were not placed{why}") from error
    return [RayWorker(f"worker-{index}", handle) for index, handle in enumerate(handles)]


def to_wire(outcome: Outcome) -> dict[str, JSON]:
    """Return an outcome as plain JSON."""
    return asdict(outcome)


def from_wire(wire: dict[str, JSON]) -> Outcome:
    """Return the outcome that `to_wire` wrote."""
    if "reason" in wire:
        return Failed(**wire)
    return Scored(wire["values"], wire["cost"], tuple(wire["artifacts"]))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
