"""A resident model as a named Ray actor that every run of the cluster shares.

`Host` is a plain class, tested without a cluster; `model_host` places it. Weights are mapped from one file, so
the hosts of a node share their pages however many they are. Forward passes run in one thread beside the event
loop, so that health checks answer while the model computes; what arrives meanwhile becomes the next batch.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..errors import ClusterError, PlaitError
from ..records import JSON, Failed, Outcome, Request, Scored, digest
from .chat import Message
from .evaluator import OptionScorer, ScorerSpec
from .host_generation import HostGeneration
from .memory import give_back_freed_memory

NAMESPACE = "plait"

SCORED_BETWEEN_STEPS = 64
"""Paths scored at most between two steps of answers that are being written."""


class HostBusy(PlaitError):
    """The host's queue is full: `waiting` requests of at most `limit`; ask again later."""

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(waiting, limit)
        self.waiting, self.limit = waiting, limit

    def __str__(self) -> str:
        return f"model host: {self.waiting} requests wait, at most {self.limit} may"


@dataclass(frozen=True)
class HostSpec:
    """Which model a host holds, and how.

    Attributes:
        source: A model source (`smollm2-135m`, a folder, ...), resolved on the host's own node.
        scorer: What the values depend on; the host answers for its model, dtype, device and bos.
        files: `sources.text_hash` of its folder, since equal weights may come with other tokens; where it is not told,
            a host is known by its source and shared by those who name it alike.
        cache_bytes: For hidden states kept between calls.
        prefix_bytes: For keys and values of prompts kept between calls.
        queue: Requests that may wait.
        replica: Which of several equal hosts; equal specs but for this give equal answers.
        cpus: Cores that Ray reserves.
        gpus: GPUs that Ray reserves, fractions allowed.
        idle_seconds: A host that was asked nothing for so long ends itself; a run's calls are its lease.
    """

    source: str
    scorer: ScorerSpec
    files: str = ""
    cache_bytes: int = 1 << 30
    prefix_bytes: int = 1 << 29
    queue: int = 4096
    replica: int = 0
    cpus: float = 1.0
    gpus: float = 0.0
    idle_seconds: float = 600.0

    @property
    def name(self) -> str:
        """The actor's name: what a host is follows from it."""
        model = [self.scorer.model, self.scorer.dtype, self.scorer.device, self.scorer.bos]
        parts = [self.files or self.source, *model, OptionScorer.version, HostGeneration.version]
        return f"host-{digest(parts)[:16]}-{self.replica}"


@dataclass
class _Call:
    requests: list[Request]
    scorer: ScorerSpec
    answer: "asyncio.Future[list[Outcome]]" = field(repr=False)


class Host:
    """One resident model, answering every run that names its hash."""

    def __init__(self, spec: HostSpec) -> None:
        import torch

        from .sources import ensure, text_hash, weights_folder

        # In the thread that computes, not here: OpenMP keeps the count per thread.
        self._thread = ThreadPoolExecutor(1, "model", initializer=torch.set_num_threads, initargs=(1,))
        local = ensure(spec.source)
        if local.model_hash != spec.scorer.model:
            raise ClusterError(
                spec.source, f"this node holds model {local.model_hash[:12]}, asked {spec.scorer.model[:12]}"
            )
        self._folder = weights_folder(local, spec.scorer.dtype)
        self.files = text_hash(self._folder)
        if spec.files and self.files != spec.files:
            problem = f"this node's tokenizer files are {self.files[:12]}, asked {spec.files[:12]}"
            raise ClusterError(spec.source, problem)
        self.spec = spec
        self._scorer = self._thread.submit(OptionScorer.load, self._folder, spec.scorer, spec.cache_bytes).result()
        give_back_freed_memory()
        self._generation: Future[HostGeneration] | None = None
        self._calls: list[_Call] = []
        self._waiting = 0
        self._used = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()

    async def describe(self) -> dict[str, JSON]:
        """Return facts of the model that a driver needs: depth, batch invariance, process id."""
        import os

        import torch

        self._start(self._retire_when_idle)
        decoder = self._scorer.decoder
        threads = await asyncio.get_running_loop().run_in_executor(self._thread, torch.get_num_threads)
        invariant = threads == 1 and decoder.device.type == "cpu"
        return {"depth": decoder.depth, "batch_invariant": invariant, "pid": os.getpid(), "waiting": self._waiting}

    async def score_paths(
        self, requests: Sequence[tuple[str, JSON]], scorer: Mapping[str, JSON]
    ) -> list[dict[str, JSON]]:
        """Score (path text, {"prompt", "options"}) requests.

        Args:
            requests: In any number; what other callers ask meanwhile runs in the same batches.
            scorer: `mode` and `kv`, where they differ from the host's own.

        Returns:
            Per request `{"values", "cost"}` or `{"reason", "detail"}`, in order.

        Raises:
            HostBusy: more would wait than the queue holds.
        """
        self._make_room(len(requests))
        answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        work = [Request(candidate, item) for candidate, item in requests]
        self._calls.append(_Call(work, replace(self.spec.scorer, **scorer), answer))
        self._waiting += len(work)
        self._start(self._serve)
        return [_wire(outcome) for outcome in await answer]

    async def generate(self, requests: Sequence[Mapping[str, JSON]]) -> list[dict[str, JSON]]:
        """Answer conversations; what other callers ask meanwhile shares the batches.

        Args:
            requests: Each {"messages", "sampling"}, and "path" where other layers than all in order should run.

        Returns:
            Per request {"text", "finish", "usage"} or {"reason", "detail"} of a `CallFailed`, in order.

        Raises:
            HostBusy: more would wait than the queue holds.
        """
        generation = await self._talking()
        return await self._answer(generation, requests, generation.text_request)

    async def label_logprobs(self, requests: Sequence[Mapping[str, JSON]]) -> list[dict[str, JSON]]:
        """Return labels' log-probabilities where the answers begin.

        Args:
            requests: Each {"messages", "labels"}, and "path" as in `generate`.

        Returns:
            Per request {"logprobs", "inside", "usage"} or {"reason", "detail"} of a `CallFailed`, in order.

        Raises:
            HostBusy: more would wait than the queue holds.
        """
        generation = await self._talking()
        return await self._answer(generation, requests, generation.label_request)

    async def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return the tokens of a conversation up to where its answer begins.

        Raises:
            CallFailed: the model has no chat template, or it refuses the conversation.
        """
        return len((await self._talking()).prompt(messages))

    async def chat_facts(self) -> dict[str, JSON]:
        """Return what answers depend on beside the call, the context's length, and counts of tokens so far."""
        generation = await self._talking()
        return {**generation.facts, "counters": generation.counters, "files": self.files}

    def open_generation(self) -> "Future[HostGeneration]":
        """Return the talking half, loaded on first use."""
        if self._generation is None:
            load, decoder, room = HostGeneration.load, self._scorer.decoder, self.spec.prefix_bytes
            self._generation = self._thread.submit(load, self._folder, decoder, self._thread, room)
        return self._generation

    async def _talking(self) -> HostGeneration:
        # Shielded: a caller that vanishes must not cancel the loading for the others.
        return await asyncio.shield(asyncio.wrap_future(self.open_generation()))

    async def _answer(
        self, generation: HostGeneration, requests: Sequence[Mapping[str, JSON]], read: Any
    ) -> list[dict[str, JSON]]:
        self._make_room(len(requests))
        self._waiting += len(requests)
        try:
            return await generation.answer(requests, read, lambda: self._start(self._serve))
        finally:
            self._waiting -= len(requests)
            self._used = time.monotonic()

    def _make_room(self, requests: int) -> None:
        if self._waiting + requests > self.spec.queue:
            raise HostBusy(self._waiting, self.spec.queue)

    async def _serve(self) -> None:
        """Run what has arrived until nothing waits: a step of all answers, then a batch of paths, in turn."""
        while self._calls or self._writing is not None:
            if (writing := self._writing) is not None:
                await writing.step()
            if self._calls:
                await self._score_next()

    @property
    def _writing(self) -> HostGeneration | None:
        """The talking half, where it has answers to write."""
        made = self._generation
        if made is None or not made.done() or made.exception() is not None:
            return None
        return made.result() if made.result().busy else None

    async def _score_next(self) -> None:
        """Score the paths that have arrived, merged into one batch of the first caller's scorer spec."""
        spec = self._calls[0].scorer
        calls = [call for call in self._calls if call.scorer == spec]
        self._calls = [call for call in self._calls if call.scorer != spec]
        merged = [request for call in calls for request in call.requests]
        problem: Exception | None = None
        outcomes: list[Outcome] = []
        try:
            outcomes = await self._score(merged, spec)
        except Exception as error:
            problem = error
        start = 0
        for call in calls:
            stop = start + len(call.requests)
            if call.answer.done():
                pass  # its driver died and the call was cancelled; the others still wait for theirs
            elif problem is not None:
                call.answer.set_exception(problem)
            else:
                call.answer.set_result(outcomes[start:stop])
            start = stop
        self._waiting -= len(merged)
        self._used = time.monotonic()

    async def _score(self, requests: Sequence[Request], spec: ScorerSpec) -> list[Outcome]:
        """Score `requests`, in parts where answers are being written, so that those go on meanwhile."""
        loop, outcomes = asyncio.get_running_loop(), list[Outcome]()
        while len(outcomes) < len(requests):
            if outcomes and (writing := self._writing) is not None:
                await writing.step()
            left = requests[len(outcomes) :]
            part = left if self._writing is None else left[:SCORED_BETWEEN_STEPS]
            outcomes += await loop.run_in_executor(self._thread, self._scorer.evaluate, part, spec)
        return outcomes

    def _start(self, work: Any) -> None:
        """Run `work` as the one background task of its name."""
        # A task that is done leaves the set a moment later; a call of that moment must start a new one.
        if not any(task.get_name() == work.__name__ and not task.done() for task in self._tasks):
            task = asyncio.get_running_loop().create_task(work(), name=work.__name__)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _retire_when_idle(self) -> None:
        """End this actor once nothing has been asked for `idle_seconds`: every call renews the lease."""
        import ray

        while True:
            await asyncio.sleep(min(self.spec.idle_seconds, 5.0))
            if not self._waiting and time.monotonic() - self._used > self.spec.idle_seconds:
                ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


def model_host(spec: HostSpec, *, timeout: float = 300.0) -> Any:
    """Return the handle of the host for `spec`, started on first use; safe from many drivers at once.

    A name may still point at an actor that just died, so the handle is asked before it is given out.

    Raises:
        ClusterError: no host answered in five rounds; the message names the last reason.
    """
    import ray

    reason, rounds, until = "no answer", 0, time.monotonic() + timeout
    while rounds < 5:
        actor: Any = ray.remote(Host)
        handle = actor.options(
            name=spec.name,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            max_task_retries=0,  # the paying path repeats, and nobody else
            max_concurrency=256,
            num_cpus=spec.cpus,
            num_gpus=spec.gpus,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
        ).remote(spec)
        try:
            ray.get(handle.describe.remote(), timeout=timeout)
        except ray.exceptions.GetTimeoutError as error:
            raise ClusterError(spec.name, f"no host within {timeout:.0f} s: are {spec.cpus:g} CPUs free?") from error
        except ray.exceptions.RayTaskError as error:
            raise ClusterError(spec.name, str(error.cause)) from error
        except ray.exceptions.ActorUnavailableError as error:  # Ray restarts it, and refuses calls until it is up
            reason = str(error).strip().splitlines()[-1]
            rounds += time.monotonic() > until
            time.sleep(0.1)
            continue
        except ray.exceptions.RayActorError as error:
            reason, rounds = str(error).strip().splitlines()[-1], rounds + 1
            continue
        return handle
    raise ClusterError(spec.name, f"the host died five times: {reason}")


def _wire(outcome: Outcome) -> dict[str, JSON]:
    """Return an outcome as plain JSON: classes of ours would not survive a version on the other side."""
    return asdict(outcome)


def outcome_from_wire(wire: Mapping[str, JSON]) -> Outcome:
    """Return the outcome that `score_paths` sent."""
    return Failed(**wire) if "reason" in wire else Scored(**wire)


__all__ = ["NAMESPACE", "Host", "HostBusy", "HostSpec", "model_host", "outcome_from_wire"]
