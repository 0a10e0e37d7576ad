"""An endpoint of OpenAI's chat completions as a `ChatModel`, through the official client.

One connection pool a model, no cap of its own (whoever limits calls does it above), no retries (the paying path
repeats), one clock over the whole call. The key is read from the environment at each call and held nowhere.
Must not know limiters, ledgers or judges.

Bodies go out and come in as plain JSON: the client's own models cost a call 1 ms of CPU and decide nothing here.
"""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import httpx2
import openai

from ..errors import SpecError
from ..records import JSON, digest
from .chat import GREEDY, CallFailed, Capabilities, LabelScores, Message, Reply, Sampling, TokenPrice
from .completions import estimate_tokens, read_labels, read_object, read_reply
from .endpoint_failures import from_body, from_connection, from_status
from .endpoint_fitting import MOST, Fitting
from .endpoint_options import EndpointOptions, TokenField
from .probe import Continuation, Probed, probe
from .redaction import watch

TOP_LOGPROBS = 20
"""Likeliest tokens asked for: as many as most providers list at most."""

DEFAULT_URL = "https://api.openai.com/v1"
_NEW_LIMITS = ("api.openai.com", ".openai.azure.com")
"""Hosts whose reasoning models refuse `max_tokens`."""

_CONNECT_SECONDS = 10.0
_LIMITS = httpx2.Limits(max_connections=1 << 16, keepalive_expiry=30.0)  # None would be aiohttp's 100

# What the client tells of this machine (system, architecture, interpreter) is nobody's business, and its headers
# are a seventh of a call's CPU.
_QUIET: Any = {
    f"X-Stainless-{name}": openai.Omit()
    for name in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
}
_QUIET_CALL = {f"X-Stainless-{name}": openai.Omit() for name in ("Retry-Count", "Read-Timeout")}


class _Http(openai.DefaultAioHttpClient):
    """Takes a request as the official client has made it, where the method it overrides parses and merges again."""

    def build_request(
        self, method: str, url: httpx2.URL | str, *, content: Any = None, params: Any = None, headers: Any = None,
        timeout: Any = None, **options: Any,
    ) -> httpx2.Request:  # fmt: skip
        """Return the request; the client's own headers stand before those of the call."""
        if params or any(options.values()):
            return super().build_request(
                method, url, content=content, params=params, headers=headers, timeout=timeout, **options
            )
        merged = httpx2.Headers(self.headers)
        merged.update(headers)
        waits = {"timeout": httpx2.Timeout(timeout).as_dict()}
        return httpx2.Request(method, _parsed(str(url)), content=content, headers=merged, extensions=waits)


_parsed = lru_cache(maxsize=64)(httpx2.URL)


@dataclass
class _Live:
    """What lives within one event loop and is never pickled."""

    loop: asyncio.AbstractEventLoop
    client: openai.AsyncOpenAI
    probing: asyncio.Lock = field(default_factory=asyncio.Lock)


class EndpointChat:
    """The model `model` behind `base_url`.

    >>> judge = EndpointChat("llama-3", "http://127.0.0.1:8000/v1")
    >>> judge.name
    'llama-3@127.0.0.1:8000'
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        options: EndpointOptions | None = None,
        *,
        price: TokenPrice | None = None,
        timeout: float = 120.0,
        **fields: Any,
    ) -> None:
        """Describe the endpoint; nothing is sent before the first call.

        Args:
            model: Its name there.
            base_url: Up to and with `/v1`; None takes OPENAI_BASE_URL, else OpenAI's own.
            options: How it is asked.
            price: Of its tokens, where it is known.
            timeout: Seconds for a whole call, from connecting to the last byte.
            fields: Of `EndpointOptions`, by name, where `options` is left out.

        Raises:
            SpecError: `base_url` is none, or holds credentials or a query; an option cannot be.
        """
        self.base_url = _checked(base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL)
        if not model.strip():
            raise SpecError("endpoint model", model, "the name of a model")
        self.model, self.timeout = model, timeout
        self.options = options if options is not None else EndpointOptions.of(fields)
        self._host = urlsplit(self.base_url).netloc
        self._price = price
        chosen = self.options.token_field
        first = chosen or ("max_completion_tokens" if self._host.endswith(_NEW_LIMITS) else "max_tokens")
        fixed = {*self.options.extra} | ({chosen} if chosen else set())
        fixed |= {"temperature"} if self.options.temperature is not None else set()
        self.fitting = Fitting(first, frozenset(fixed))
        self.continuation: Continuation | None = None
        self._live: _Live | None = None
        self._capabilities: Capabilities | None = None
        self.probed = Probed()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_live": None}

    def __repr__(self) -> str:
        return f"EndpointChat({self.model!r}, {self.base_url!r})"

    @property
    def name(self) -> str:
        """The model and its address: equal names mean equal answers, since limits and budgets go by them.

        Left out is what is usual: https without a port, http with one, and a path of `/v1`. Options that answers
        depend on show as a hash.
        """
        parts = urlsplit(self.base_url)
        usual = (parts.scheme == "https") == (parts.port is None)
        path = "" if parts.path == "/v1" else parts.path or "/"
        place = ("" if usual else f"{parts.scheme}://") + parts.netloc + path
        answering = self.options.answering
        fields = answering["extra"] if set(answering) == {"extra"} else answering
        return f"{self.model}@{place}" + (f"+{digest(fields)[:8]}" if fields else "")

    @property
    def identity(self) -> JSON:
        """Address and model; which build of the model answered is in each `Reply.model`."""
        known = {"kind": "endpoint", "base_url": self.base_url, "model": self.model, "extra": {}}
        return known | self.options.answering

    @property
    def price(self) -> TokenPrice | None:
        """As given."""
        return self._price

    async def generate(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Reply:
        """Return the model's answer; see `ChatModel.generate`."""
        body: dict[str, JSON] = {"temperature": sampling.temperature, self.token_field: sampling.max_tokens}
        if self.options.temperature is not None:
            body["temperature"] = self.options.temperature
        if sampling.top_p != 1.0:
            body["top_p"] = sampling.top_p
        if sampling.seed is not None:
            body["seed"] = sampling.seed & 0x7FFF_FFFF  # servers refuse what does not fit 32 bits with a sign
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.schema:
            # Not strict: OpenAI's strict form refuses fields that may be left out, others keep to the schema anyway.
            form = {"name": "answer", "schema": json.loads(sampling.schema), "strict": False}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        answer = await self.complete(messages, body)
        return read_reply(answer, messages, sampling.stop, self._repeated(messages))

    async def label_logprobs(self, messages: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        """Return the labels' log-probabilities; see `ChatModel.label_logprobs`.

        An endpoint shows one token and those likeliest beside it: a label of several tokens counts as absent.
        Ask `capabilities` first: they say whether what it lists can be believed, and how much it lists.
        """
        known = self._capabilities
        if known is not None and not known.label_logprobs:
            raise CallFailed("Unsupported", f"{self.name}: gives no usable log-probabilities")
        top = known.top_logprobs if known else TOP_LOGPROBS
        answer = await self.complete(messages, self.first_token(top))
        return read_labels(answer, messages, labels, self._repeated(messages))

    def first_token(self, top: int) -> dict[str, JSON]:
        """Return the fields that ask for the first token's distribution.

        Temperature 1: some servers list log-probabilities after it, where 0 would leave nothing to read.
        """
        return {self.token_field: 1, "temperature": 1.0, "logprobs": True, "top_logprobs": top}

    @property
    def token_field(self) -> str:
        """The field that limits an answer's tokens here."""
        return self.fitting.limit

    @property
    def adapted(self) -> tuple[str, ...]:
        """What of our own fields the endpoint was found to refuse, and is not sent any more; a line each."""
        return self.fitting.lines

    async def capabilities(self) -> Capabilities:
        """Return what the endpoint can do; asked once, by fourteen to nineteen calls of a few tokens.

        `probed` says what they took. A failure that may pass is repeated a few times.
        """
        if self._capabilities is None:
            async with self._here().probing:
                if self._capabilities is None:
                    self._capabilities, self.continuation = await probe(self)
        return self._capabilities

    async def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return an estimate from above."""
        return estimate_tokens(messages)

    async def complete(
        self, messages: Sequence[Message], fields: Mapping[str, JSON], *, continued: Continuation | None = None
    ) -> dict[str, Any]:
        """Return the JSON of one chat completion.

        A field of ours that the endpoint refuses is left out, and asked again without; `adapted` says so.

        Args:
            messages: An assistant's turn at the end is continued.
            fields: Of the request body, beside model and messages.
            continued: How it is asked to do so; None: as the endpoint was found to.

        Raises:
            CallFailed: there is no answer, or `Unsupported`: this endpoint does not continue a turn.
        """
        sent: Sequence[Mapping[str, JSON]] = messages
        more: Mapping[str, JSON] = {}
        if messages and messages[-1]["role"] == "assistant":
            if continued is None:
                await self.capabilities()
                continued = self.continuation
            if continued is None:
                raise CallFailed("Unsupported", f"{self.name}: does not continue an assistant's turn")
            more = continued.fields
            sent = [*messages[:-1], {**messages[-1], **continued.marks}]
        return await self._fitted({"model": self.model, "messages": sent, **fields, **self.options.extra, **more})

    async def _fitted(self, body: Mapping[str, JSON]) -> dict[str, Any]:
        """Ask; where a field of ours is refused, ask without it, and remember that once it was taken."""
        tried: frozenset[str] = frozenset()
        first: CallFailed | None = None
        for _ in range(MOST):
            sent = self.fitting.body(self._wanted(body), tried)
            try:
                answer = await self._ask("POST", "/chat/completions", sent)
            except CallFailed as failure:
                more = self.fitting.refusal(failure, sent, tried) - tried
                if more:
                    first, tried = first or failure, tried | more
                    continue
                if failure.reason == "BadRequest" and first is not None and self.fitting.speaks_of(failure, tried):
                    raise first from None  # it was no matter of these fields
                raise
            if tried:
                self.fitting.learn(tried, self.name)
            return answer
        assert first is not None
        raise first

    def _wanted(self, body: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Return the body without a temperature where the user wants none sent."""
        off = self.options.temperature == "off"
        return {name: value for name, value in body.items() if not (off and name == "temperature")}

    def _repeated(self, messages: Sequence[Message]) -> str:
        """Return the begun turn that the endpoint's text starts with; "" where it gives what is new alone."""
        begun = bool(messages) and messages[-1]["role"] == "assistant"
        repeats = self.continuation is not None and self.continuation.repeats
        return messages[-1]["content"] if begun and repeats else ""

    async def models(self) -> dict[str, Any]:
        """Return the JSON of the endpoint's list of models."""
        return await self._ask("GET", "/models", None)

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        live, self._live = self._live, None
        if live is not None and live.loop is asyncio.get_running_loop():
            await live.client.close()

    async def _ask(self, method: str, path: str, body: Mapping[str, JSON] | None) -> dict[str, Any]:
        """Send one request; every way to fail becomes a `CallFailed`."""
        try:
            async with asyncio.timeout(self.timeout):
                content, headers = await self._send(method, path, body)
            answer = read_object(content)
            failure = from_body(self.name, answer, headers, self._key_from)
        except TimeoutError:
            failure = CallFailed("Timeout", f"{self.name}: no whole answer within {self.timeout:g} s")
        except openai.APIStatusError as error:
            failure = from_status(self.name, error.status_code, error.response.headers, error.body, self._key_from)
        except UnicodeEncodeError:
            failure = CallFailed("BadRequest", f"{self.name}: the messages hold characters that are no UTF-8 text")
        except (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError) as error:
            failure = from_connection(self.name, error)
        if failure is not None:
            raise failure  # outside of `except`: the client's error holds the request and with it the key
        return answer

    async def _send(self, method: str, path: str, body: Mapping[str, JSON] | None) -> tuple[bytes, Mapping[str, str]]:
        client, url = self._here().client, self.base_url + path  # whole, or the client parses and joins it
        if self.options.api_version is not None:
            url += f"?api-version={self.options.api_version}"
        if method == "GET":
            response = await client.get(url, cast_to=httpx2.Response, options={"headers": self._headers()})
        else:
            response = await client.post(url, body=body, cast_to=httpx2.Response, options={"headers": self._headers()})
        return response.content, response.headers

    @property
    def _key_from(self) -> str:
        return ", ".join(name for name in self.options.secrets if os.environ.get(name, "").strip())

    def _headers(self) -> dict[str, Any]:
        try:
            own = self.options.sent_headers()
        except SpecError as error:
            raise CallFailed("Unauthorized", f"{self.name}: {error}") from None
        if self.options.signed:
            return {"Authorization": openai.Omit(), **own, **_QUIET_CALL}
        variable = self.options.key_variable
        watch(variable)  # in the process that sends it: models travel
        key = os.environ.get(variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise CallFailed("Unauthorized", f"{self.name}: {variable} holds what no header may carry")
        return {"Authorization": f"Bearer {key}" if key else openai.Omit(), **own, **_QUIET_CALL}

    def _here(self) -> _Live:
        """Return the client of the running loop: connections of another loop cannot be used."""
        loop = asyncio.get_running_loop()
        if self._live is None or self._live.loop is not loop:
            timeout = httpx2.Timeout(None, connect=min(_CONNECT_SECONDS, self.timeout))
            http = _Http(limits=_LIMITS, timeout=timeout, follow_redirects=False)
            client = openai.AsyncOpenAI(
                base_url=self.base_url, api_key="", admin_api_key="", max_retries=0, timeout=timeout,
                http_client=http, default_headers=_QUIET,
            )  # fmt: skip
            self._live = _Live(loop, client)
        return self._live


def _checked(base_url: str) -> str:
    """Return the address in one spelling."""
    try:
        parts = urlsplit(base_url.strip())
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # what no name server could be asked for
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in {"http", "https"} or not host:
        shown = base_url.rpartition("@")[2]  # without credentials
        raise SpecError("endpoint base_url", shown, "an address such as http://127.0.0.1:8000/v1")
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    plain = urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SpecError("endpoint base_url", f"{plain} and more", "no credentials or query: a key is read from the "
                        "environment")  # fmt: skip
    return plain


__all__ = ["DEFAULT_URL", "TOP_LOGPROBS", "EndpointChat", "EndpointOptions", "TokenField"]
