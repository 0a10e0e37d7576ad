"""Model hosts as workers of the paying path: one worker a replica, revived by name when its actor dies."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import PlaitError, WorkerLost
from ..models.evaluator import OptionScorer, ScorerSpec
from ..models.host import HostBusy, HostSpec, model_host, outcome_from_wire
from ..records import JSON, Failed, Outcome, Request


@dataclass(frozen=True)
class ScorerIdentity:
    """What the ledger knows an option scorer by, without loading one."""

    scorer: ScorerSpec
    name: str = OptionScorer.name
    version: int = OptionScorer.version

    @property
    def spec(self) -> JSON:
        """The scorer's spec as JSON."""
        return asdict(self.scorer)


class HostWorker:
    """One replica of a model host; starts it when first asked to be revived."""

    def __init__(self, spec: HostSpec, handle: Any, scorer: ScorerSpec) -> None:
        self._spec, self._handle, self._scorer = spec, handle, scorer
        self.name = spec.name

    def answering(self, scorer: ScorerSpec) -> "HostWorker":
        """Return a worker on the same host for another mode of scoring."""
        return HostWorker(self._spec, self._handle, scorer)

    async def run(self, requests: Sequence[Request]) -> list[Outcome]:
        """Return the host's outcomes, in order.

        A batch that the host cannot finish (memory, a defect) is tried in halves, so that one bad request fails
        alone.

        Raises:
            WorkerLost: the actor died or is restarting; what it was doing is unknown.
        """
        import ray

        work = [(request.candidate, request.item) for request in requests]
        scorer = {"mode": self._scorer.mode, "kv": self._scorer.kv}
        try:
            wires = await self._handle.score_paths.remote(work, scorer)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, HostBusy):
                return [Failed("HostBusy", str(cause), retryable=True)] * len(requests)
            if len(requests) == 1:
                detail = str(cause).strip().splitlines()
                return [Failed(type(cause).__name__, detail[0] if detail else "", retryable=False)]
            half = len(requests) // 2
            return await self.run(requests[:half]) + await self.run(requests[half:])
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
            raise WorkerLost(self.name, str(error).strip().splitlines()[0]) from error
        return [outcome_from_wire(wire) for wire in wires]

    async def revive(self) -> None:
        """Find the restarted actor, or start a new one under the same name."""
        try:
            self._handle = await asyncio.to_thread(model_host, self._spec)
        except PlaitError as error:
            raise WorkerLost(self.name, str(error)) from error


def host_workers(spec: HostSpec, actors: int) -> list[HostWorker]:
    """Return workers on `actors` replicas of a host, started together where they are not up yet.

    Raises:
        ClusterError: a host cannot be placed or cannot load its model.
    """
    from concurrent.futures import ThreadPoolExecutor

    specs = [replace(spec, replica=replica) for replica in range(actors)]
    with ThreadPoolExecutor(actors) as pool:
        handles = list(pool.map(model_host, specs))
    return [HostWorker(one, handle, spec.scorer) for one, handle in zip(specs, handles, strict=True)]
