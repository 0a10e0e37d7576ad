"""A model host as a chat model: in this process, or as a Ray actor that is found again when it dies.

Prompts and answers cross to the host as text; the host's own tokenizer and chat template turn them into tokens. Must
not know graphs, ledgers or judges.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias, cast

from ..candidates import LayerPath
from ..errors import ClusterError, PlaitError
from ..records import JSON
from .chat import GREEDY, CallFailed, Capabilities, LabelScores, Message, Reply, Sampling, TokenPrice, Usage
from .host import Host, HostBusy, HostSpec, model_host

Call: TypeAlias = Callable[..., Awaitable[Any]]
"""Calls a method of the host by name; raises `CallFailed` where no answer came."""


class HostChat:
    """A `ChatModel` over a model host of ours: free, exact in log-probabilities, equal bits for equal calls.

    A sampling's seed of None is seed 0: draws that should differ need different seeds.
    """

    def __init__(self, call: Call, spec: HostSpec, facts: Mapping[str, JSON], path: LayerPath | None = None) -> None:
        self._call, self._spec, self._facts = call, spec, facts
        self._path = None if path is None else path.key

    @classmethod
    def over(cls, host: Host, path: LayerPath | None = None) -> "HostChat":
        """Return a chat model over a host in this process; `path` names layers other than all in order."""

        async def call(method: str, *given: Any) -> Any:
            try:
                return await getattr(host, method)(*given)
            except CallFailed:
                raise
            except Exception as error:
                raise _failure(error) from error

        return cls(call, host.spec, {**host.open_generation().result().facts, "files": host.files}, path)

    @classmethod
    def on_ray(cls, spec: HostSpec, path: LayerPath | None = None, *, timeout: float = 600.0) -> "HostChat":
        """Return a chat model over the actor of `spec`, started on first use; blocks until its model is loaded.

        Args:
            spec: Of the host.
            path: Layers other than all in order.
            timeout: Seconds for a whole call, its wait in the host's queue among them.

        Raises:
            ClusterError: the host cannot be placed or cannot load its model.
        """
        import ray

        actor = _Actor(spec, model_host(spec), timeout)
        try:
            facts = ray.get(actor.handle.chat_facts.remote())
        except ray.exceptions.RayError as error:
            raise ClusterError(spec.name, str(error).strip().splitlines()[0]) from error
        return cls(actor, spec, facts, path)

    @property
    def name(self) -> str:
        """The model's source: hosts of one model share their limits."""
        return f"host/{self._spec.source}"

    @property
    def identity(self) -> JSON:
        """What an answer depends on beside the call."""
        scorer = self._spec.scorer
        return {
            "kind": "host",
            "model": scorer.model,
            "dtype": scorer.dtype,
            "device": scorer.device,
            "path": self._path,
            "template": self._facts["template"],
            "files": self._facts["files"],
            "version": self._facts["version"],
        }

    @property
    def price(self) -> TokenPrice:
        """Nothing: the machine is paid for already."""
        return TokenPrice(0.0, 0.0, 0.0)

    async def generate(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Reply:
        """Return the model's answer to `messages`; see `ChatModel.generate`.

        Raises:
            CallFailed: `TooLong`, `BadRequest`, `Unsupported` (no chat template), `Empty` (its first token ended
                it; no repeat helps), `RateLimited` (the host's queue is full), `ServerError` (the host died and is
                found again), `Timeout`.
        """
        wire = await self._ask("generate", {"messages": messages, "sampling": asdict(sampling)})
        if not wire["usage"]["completion"]:
            # A host answers equal calls equally: asked again, it would say nothing again.
            usage = Usage(**wire["usage"])
            raise CallFailed("Empty", "the answer ended before its first word", usage=usage, final=True)
        return Reply(wire["text"], wire["finish"], Usage(**wire["usage"]), self._spec.source)

    async def label_logprobs(self, messages: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        """Return the labels' exact log-probabilities; see `ChatModel.label_logprobs`.

        Raises:
            CallFailed: as `generate`, but for `Empty`.
        """
        wire = await self._ask("label_logprobs", {"messages": messages, "labels": list(labels)})
        return LabelScores(wire["logprobs"], wire["inside"], Usage(**wire["usage"]), self._spec.source)

    async def capabilities(self) -> Capabilities:
        """Return what the host can do, which needs no probing."""
        talks = self._facts["template"] is not None
        return Capabilities(
            talks, -1 if talks else 0, seed=True, structured=bool(self._facts["structured"]),
            context=self._facts["context"], continues=talks,
        )  # fmt: skip

    async def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return how many tokens the host will read, template included; asked again once where the host died.

        Raises:
            CallFailed: the model has no chat template, or it refuses the conversation; or as `generate`.
        """
        try:
            return int(await self._call("count_tokens", _plain(messages)))
        except CallFailed as failure:
            if failure.reason != "ServerError":
                raise
        return int(await self._call("count_tokens", _plain(messages)))

    async def close(self) -> None:
        """Nothing to give up: a host ends itself when it is idle."""

    async def _ask(self, method: str, request: dict[str, JSON]) -> Mapping[str, JSON]:
        """Send one request; return its answer or raise its failure."""
        request["messages"] = _plain(request["messages"])
        wires = await self._call(method, [{**request, "path": self._path}])
        wire = cast(Mapping[str, JSON], wires[0])
        if "reason" in wire:
            raise CallFailed(wire["reason"], wire["detail"])
        return wire


class _Actor:
    """Calls a host's actor; after its death finds or starts it again, for the next call."""

    def __init__(self, spec: HostSpec, handle: Any, timeout: float = 600.0) -> None:
        self._spec, self.handle, self._timeout = spec, handle, timeout
        self._reviving: asyncio.Task[None] | None = None

    async def __call__(self, method: str, *given: Any) -> Any:
        import ray

        try:
            return await self._answer(getattr(self.handle, method).remote(*given))
        except ray.exceptions.RayTaskError as error:
            raise _failure(error.cause) from error
        except ray.exceptions.RayError as error:
            await self._revived()
            line = str(error).strip().splitlines()[0]
            raise CallFailed("ServerError", f"host {self._spec.name} died, and is back: {line}") from error

    async def _answer(self, call: Any) -> Any:
        """Wait for a call's answer; one that is late is cancelled, or the host would go on with it."""
        import ray

        clock = asyncio.timeout(self._timeout)
        try:
            async with clock:
                return await call
        except TimeoutError as error:
            if not clock.expired():
                raise  # the host's own: an error in it that is also a TimeoutError
            ray.cancel(call)
            late = f"host {self._spec.name}: no whole answer within {self._timeout:g} s"
            raise CallFailed("Timeout", late) from error

    async def _revived(self) -> None:
        """Find the actor by its name; those who meet its death together wait for one search."""
        if self._reviving is None or self._reviving.done():
            self._reviving = asyncio.get_running_loop().create_task(self._revive())
        await asyncio.shield(self._reviving)

    async def _revive(self) -> None:
        import ray

        try:
            self.handle = await asyncio.to_thread(model_host, self._spec)
        except (PlaitError, ray.exceptions.RayError) as error:
            raise CallFailed("ServerError", f"host {self._spec.name} died: {error}") from error


def _failure(cause: BaseException | None) -> CallFailed:
    """Return what an error inside the host is to its caller."""
    if isinstance(cause, CallFailed):
        return cause
    if isinstance(cause, HostBusy):
        return CallFailed("RateLimited", str(cause))
    line = (str(cause).strip().splitlines() or [""])[0]
    return CallFailed("ServerError", f"{type(cause).__name__}: {line}")


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message["role"], "content": message["content"]} for message in messages]


__all__ = ["HostChat"]
