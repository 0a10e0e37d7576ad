"""Judges' models from their names: hosts of ours, endpoints, recordings. Knows no network and no item."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from ...errors import SourceError, SpecError
from ...models.chat import Capabilities, ChatModel
from ...models.endpoint_options import EndpointOptions
from ...records import JSON
from ..budget import Budget
from ..calls import CallWorker
from ..limiter import Limiter
from ..loops import run_blocking

Dtype = Literal["float32", "bfloat16"]

if TYPE_CHECKING:
    from ...models.prices import PriceTable
    from ...models.sources import LocalModel
    from ...models.sources.cache import Progress
    from .judge_spec import JudgeRunOptions


HOST_CALLS = 16
"""Calls in flight at one host: as many rows as a step of it computes at no extra cost."""


@dataclass(frozen=True)
class Named:
    """A model as a spec names it.

    Attributes:
        text: The name.
        kind: `host`, `endpoint` or `replay`.
        place: Model source, model name at the endpoint, or file.
        base_url: Of the endpoint; None for the environment's.
        local: The model's files, for a host.
        dtype: What a host computes in.
        device: Where a host runs.
        options: How an endpoint is asked.
    """

    text: str
    kind: str
    place: str
    base_url: str | None = None
    local: "LocalModel | None" = None
    dtype: Dtype = "float32"
    device: str = "cpu"
    options: EndpointOptions = field(default_factory=EndpointOptions)

    @property
    def resolved(self) -> JSON:
        """What the name stood for; an endpoint of the environment's is another one where that names another."""
        if self.local is not None:
            facts = {"name": self.text, "model_hash": self.local.model_hash, "parameters": self.local.parameters}
            return {**facts, "dtype": self.dtype, "device": self.device}
        if self.kind == "endpoint":
            from ...models.endpoint import EndpointChat

            facts = {"name": self.text, "base_url": EndpointChat(self.place, self.base_url).base_url}
            if self.text.startswith("openai:@http"):  # a server's only model, whichever that is
                facts["model"] = self.place
            return facts | ({"options": answering} if (answering := self.options.answering) else {})
        return {"name": self.text}


def named(
    text: str,
    progress: "Progress | None" = None,
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    device: str = "cpu",
    where: str = "judge.model",
    options: EndpointOptions | None = None,
) -> Named:
    """Return the model that `text` names; a host's is fetched where it is not here yet, to run as said.

    `where` is the spec's place, for a text that names none; `options` are an endpoint's.

    Raises:
        SpecError: the text is of no known form.
        SourceError: a host's model cannot be had.
    """
    if not text.strip():
        raise SpecError(where, text, "the name of a model")
    kind, colon, rest = text.partition(":")
    if colon and kind == "openai":
        name, url = _endpoint_name(text, rest, where)
        asked = options or EndpointOptions()
        return Named(text, "endpoint", name or _only_model(text, url, asked, where), url, options=asked)
    if colon and kind == "replay":
        return Named(text, "replay", rest)
    from ...models.sources import NO_SUCH, ensure

    try:
        local = ensure(text, progress=progress)
    except SourceError as error:
        if error.problem.startswith(NO_SUCH) and not text.startswith((".", "/", "~")):
            raise SourceError(text, f"{error.problem}; behind an API it is {_as_endpoint(text)}") from None
        raise
    return Named(text, "host", text, local=local, dtype=dtype, device=device)


def _endpoint_name(text: str, rest: str, where: str) -> tuple[str, str | None]:
    """Return model and address of what follows `openai:`; a model's name may hold @ itself.

    Raises:
        SpecError: the address has no scheme, or neither is there.
    """
    name, at, address = rest.partition("@http")
    if at and address.startswith(("://", "s://")):
        return name.strip(), f"http{address}"
    name, at, address = rest.rpartition("@")
    # Behind an @ stands a version (claude@20250219), or an address without its scheme, whose prompts go nowhere else.
    version = re.fullmatch(r"\d[\w-]*|latest|default", address.strip())
    if not rest.strip() or (at and name and not version):
        raise SpecError(where, text, "openai:NAME or openai:NAME@https://host/v1")
    return rest.strip(), None


def _only_model(text: str, url: str | None, options: EndpointOptions, where: str) -> str:
    """Return the one model that an endpoint lists.

    Raises:
        SpecError: it lists another number of them.
        CallFailed: it cannot be asked.
    """
    from ...models.endpoint import EndpointChat

    async def listed() -> JSON:
        model = EndpointChat("any", url, options, timeout=30.0)
        try:
            return (await model.models()).get("data")
        finally:
            await model.close()

    found = run_blocking(listed)
    entries = found if isinstance(found, list) else []
    names = [str(entry["id"]) for entry in entries if isinstance(entry, dict) and entry.get("id")]
    if len(names) != 1:
        some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "its list of models is empty"
        raise SpecError(where, text, f"openai:NAME@{url}, for NAME one of its models: {some}")
    return names[0]


_PROVIDERS = {
    "anthropic", "azure", "bedrock", "deepseek", "gemini", "google", "groq", "litellm", "llamacpp", "lmstudio",
    "mistral", "ollama", "openai", "openrouter", "together", "vllm", "xai",
}  # fmt: skip
"""What other tools write before a model's name."""


def _as_endpoint(text: str) -> str:
    """Return how a model behind an API would be named here, for a text that names none of ours."""
    name = text.strip()
    provider, colon, rest = name.partition(":")
    if name.startswith(("http://", "https://")):
        return f"openai:NAME@{name}"
    if "@http" in name:
        return f"openai:{name}"
    if colon and rest and provider.lower() in _PROVIDERS:
        name = rest.strip()
    return f"openai:{name}, or openai:{name}@https://host/v1"


class AskedEndpoints(Protocol):
    """A spec that says how endpoints are asked."""

    @property
    def endpoint(self) -> EndpointOptions:
        """For all."""
        ...

    @property
    def endpoints(self) -> Mapping[str, EndpointOptions]:
        """By model."""
        ...


def options_of(spec: AskedEndpoints, text: str) -> EndpointOptions:
    """Return how the endpoint that `text` names is asked."""
    own = spec.endpoints.get(text)
    if own is None:
        return spec.endpoint
    return spec.endpoint.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def check_endpoints(spec: AskedEndpoints, texts: Iterable[str], where: str) -> None:
    """Refuse options for a model that is none of `texts`, or no endpoint.

    Raises:
        SpecError: there are some.
    """
    known = [text for text in texts if text.startswith("openai:")]
    for text in spec.endpoints:
        if text not in known:
            expected = "an endpoint of this run: " + (", ".join(known) or "there is none, openai:NAME")
            raise SpecError(f"{where}.endpoints", text, expected)


Ready: TypeAlias = Mapping[str, Sequence[ChatModel]]
"""Models that are open already, with what was found out about them, by the text that names each."""


def open_models(
    models: Sequence[Named], options: "JudgeRunOptions", prices: str | None, ready: Ready | None = None
) -> list[CallWorker]:
    """Return the workers of all models of a run; `prices` is the file of a price table.

    Raises:
        SpecError: the table cannot be read, or money is limited and a model has no price.
        ClusterError: a host cannot be placed.
    """
    from ...models.prices import PriceTable

    table = None if prices is None else PriceTable.load(prices)
    known = ready or {}
    return [
        worker
        for model in models
        for worker in _workers(model, known.get(model.text) or _chats(model, options, table), options)
    ]


def _workers(model: Named, chats: Sequence[ChatModel], options: "JudgeRunOptions") -> list[CallWorker]:
    """Return the workers of a model: one an endpoint, one a host replica."""
    share = max(1, options.concurrency // len(chats))
    if model.kind == "host":  # more would only wait there, and a stop waits for all that are in flight
        share = min(share, HOST_CALLS)
    budget = None if options.model_limits is None else Budget(options.model_limits)
    return [
        CallWorker(chat, _limiter(options, share, len(chats)), replica=number, budget=budget)
        for number, chat in enumerate(chats)
    ]


def _chats(model: Named, options: "JudgeRunOptions", prices: "PriceTable | None") -> Sequence[ChatModel]:
    """Return a model's chat models.

    Raises:
        SpecError: money is limited and the model has no price.
        ClusterError: a host cannot be placed.
    """
    if model.kind == "endpoint":
        from ...models.endpoint import EndpointChat

        if prices is None and options.budget_usd is not None:
            raise SpecError("judge.prices", None, f"a price table: a budget in US dollars needs one for {model.place}")
        price = None
        if prices is not None:
            price = prices.of(model.place) if options.budget_usd is None else prices.require(model.place)
        return [EndpointChat(model.place, model.base_url, model.options, price=price, timeout=options.timeout)]
    if model.kind == "replay":
        from ...models.cassette import ReplayChat

        return [ReplayChat(model.place)]
    from concurrent.futures import ThreadPoolExecutor

    from ...models.evaluator import ScorerSpec
    from ...models.host import HostSpec
    from ...models.host_chat import HostChat
    from ...models.sources import text_hash

    assert model.local is not None, "a host's model is resolved before it is opened"
    scorer, gpus = ScorerSpec(model.local.model_hash, model.dtype, model.device), 1.0 if model.device == "cuda" else 0.0
    spec = HostSpec(model.place, scorer, text_hash(model.local.folder), gpus=gpus)
    replicas = [replace(spec, replica=number) for number in range(options.actors)]
    with ThreadPoolExecutor(len(replicas)) as pool:
        return list(pool.map(HostChat.on_ray, replicas))


async def capabilities_of(model: ChatModel) -> Capabilities:
    """Ask a model what it can do; its connections end with the loop that this runs in."""
    try:
        return await model.capabilities()
    finally:
        await model.close()


def refusals_of(models: Iterable[ChatModel]) -> list[str]:
    """Return what endpoints were found not to take of what Plait sends by itself, a line each."""
    return list(dict.fromkeys(line for model in models for line in getattr(model, "adapted", ())))


def probing_cost(model: ChatModel) -> dict[str, float]:
    """Return what it took to find out what an endpoint can do: calls of this start, in no ledger."""
    probed = getattr(model, "probed", None)
    if probed is None:
        return {}
    usd = 0.0 if model.price is None else model.price.of(probed.usage)
    return {"calls": probed.calls, "tokens": probed.usage.prompt + probed.usage.completion, "usd": usd}


def _limiter(options: "JudgeRunOptions", most: int, of: int) -> Limiter:
    def share(limit: int | None) -> int | None:
        return None if limit is None else max(1, limit // of)

    requests, tokens = share(options.requests_per_minute), share(options.tokens_per_minute)
    return Limiter(most=most, requests_per_minute=requests, tokens_per_minute=tokens)
