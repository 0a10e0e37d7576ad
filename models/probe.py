"""Finds out what an endpoint can do by asking it: a few tokens a question, once an endpoint.

A feature counts as present only where answers show it. Endpoints accept fields that they do not know, and some
return log-probabilities that have nothing to do with the prompt (llama.cpp issue 27174: scores at chance, in silence).
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..records import JSON
from .chat import CallFailed, Capabilities, Message, Sampling, Usage
from .completions import read_reply, read_top, read_usage
from .endpoint_fitting import LIMITS

if TYPE_CHECKING:
    from .endpoint import EndpointChat

_PAIRS = (("apple", "river"), ("seven", "green"), ("Yes", "No"))
"""Words to repeat: each is far likelier where it is asked for than where the other one is, for any real model."""

_CONTEXT_NAMES = ("max_model_len", "context_length", "context_window", "max_context_length", "n_ctx")
"""What vLLM, OpenRouter, Groq, LM Studio and llama.cpp call it in their lists of models."""

_REFUSALS = frozenset({"BadRequest", "Unsupported", "Empty", "Truncated", "Refused"})
"""Answers to a question that say no; any other failure says nothing and is raised."""


_REPEATS = 3
_MOST_WAIT = 30.0
"""Seconds that a server may ask for between repeats; who asks for more is not asked again."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What probing took: calls sent that may be billed, and their tokens together."""

    calls: int = 0
    usage: Usage = field(default_factory=Usage)

    def plus(self, usage: Usage) -> "Probed":
        """Return the sum with one more call."""
        mine = self.usage
        total = Usage(
            mine.prompt + usage.prompt,
            mine.completion + usage.completion,
            mine.cached + usage.cached,
            mine.known and usage.known,
        )
        return Probed(self.calls + 1, total)


@dataclass(frozen=True, slots=True)
class Continuation:
    """How an endpoint is asked to go on with an assistant's turn.

    Attributes:
        fields: Of the request body.
        marks: Of the turn itself.
        repeats: Whether its text starts with the turn again; the tokens that it lists do not.
    """

    fields: Mapping[str, JSON]
    marks: Mapping[str, JSON]
    repeats: bool = False


FORMS = (
    Continuation({"continue_final_message": True, "add_generation_prompt": False}, {}),  # vLLM, SGLang, transformers
    Continuation({}, {}),  # llama.cpp, and gateways to models that go on by themselves
    Continuation({}, {"prefix": True}),  # Mistral, DeepSeek
)
"""The forms in use, tried in this order."""


async def probe(endpoint: "EndpointChat") -> tuple[Capabilities, Continuation | None]:
    """Return what `endpoint` can do and how it continues a turn; `endpoint.probed` counts every call.

    They count also where this raises.

    Raises:
        CallFailed: it cannot be asked.
    """
    model = _Asked(endpoint)
    await _reach(model)
    top = await _top_logprobs(model)
    continuation = await _continuation(model)
    found = Capabilities(
        label_logprobs=top > 0,
        top_logprobs=top,
        seed=await _honours_seed(model),
        structured=await _keeps_schema(model),
        context=await _context(model, endpoint.model),
        continues=continuation is not None,
    )
    return found, continuation


class _Asked:
    """An endpoint whose calls are counted, and repeated a few times where they may pass."""

    def __init__(self, endpoint: "EndpointChat") -> None:
        self._endpoint = endpoint

    async def generate(self, messages: Sequence[Message], sampling: Sampling) -> str:
        async def ask() -> str:
            reply = await self._endpoint.generate(messages, sampling)
            self._count(reply.usage)
            return reply.text

        return await self._repeated(ask)

    async def first_token(self, messages: Sequence[Message], top: int) -> dict[str, Any]:
        return await self._complete(messages, self._endpoint.first_token(top), None)

    async def answer(
        self, messages: Sequence[Message], fields: Mapping[str, JSON], tokens: int, form: Continuation | None = None
    ) -> str:
        body = {**fields, self._endpoint.token_field: tokens, "temperature": 0.0}
        return read_reply(await self._complete(messages, body, form), messages, ()).text

    async def models(self) -> dict[str, Any]:
        return await self._repeated(self._endpoint.models, paid=False)

    async def _complete(
        self, messages: Sequence[Message], fields: Mapping[str, JSON], continued: Continuation | None
    ) -> dict[str, Any]:
        async def ask() -> dict[str, Any]:
            answer = await self._endpoint.complete(messages, fields, continued=continued)
            usage = read_usage(answer, messages, "")
            most = next(int(fields[name]) for name in LIMITS if name in fields)
            self._count(usage if usage.known else Usage(usage.prompt, most, known=False))
            return answer

        return await self._repeated(ask)

    async def _repeated(self, ask: Callable[[], Awaitable[Any]], *, paid: bool = True) -> Any:
        """Ask; where it may pass later, a few times more. An answer without text is an answer."""
        repeats = 0
        while True:
            try:
                return await ask()
            except CallFailed as failure:
                if paid:
                    self._count(failure.usage or Usage())
                wait = 0.5 * 2**repeats if failure.retry_after is None else failure.retry_after
                passes = failure.retryable and failure.reason not in _REFUSALS and wait <= _MOST_WAIT
                if repeats == _REPEATS or not passes:
                    raise
            repeats += 1
            await asyncio.sleep(wait)

    def _count(self, usage: Usage) -> None:
        self._endpoint.probed = self._endpoint.probed.plus(usage)


async def _reach(model: _Asked) -> None:
    """Ask anything: a wrong key or model name must be raised, not read as "cannot" below."""
    try:
        await model.generate([_user("Say yes.")], Sampling(max_tokens=8))
    except CallFailed as failure:
        if failure.reason not in {"Truncated", "Empty", "Refused"}:  # it answered: thought, or was silent
            raise


async def _top_logprobs(model: _Asked) -> int:
    """Return how many likeliest tokens the endpoint lists, 0 where their log-probabilities are none or not real."""
    for top in (20, 8, 5):  # limits in use: OpenAI and vLLM 20, xAI 8, Fireworks 5
        try:
            shifts = [await _shift(model, top, *pair) for pair in _PAIRS]
        except CallFailed as failure:
            if failure.reason not in _REFUSALS:
                raise
            continue
        real = min(shifts) > 0 and math.fsum(shifts) / len(shifts) >= 1.0
        return top if real else 0
    return 0


async def _shift(model: _Asked, top: int, one: str, other: str) -> float:
    """Return by how many nats the odds of `one` against `other` rise when it is the word to repeat."""
    odds: list[float] = []
    for word in (one, other):
        listed = read_top(await model.first_token([_user(_REPEAT.format(word=word))], top))
        if math.fsum(map(math.exp, listed.values())) > 1.001:
            return 0.0  # no distribution
        odds.append(_best(listed, one) - _best(listed, other))
    return odds[0] - odds[1]


_REPEAT = 'Repeat this word and say nothing else: "{word}"'


def _best(listed: Mapping[str, float], word: str) -> float:
    """Return the log-probability of the likeliest token that begins `word`; at the list's end where none does."""
    begins = [
        value
        for token, value in listed.items()
        if token.strip() and word.startswith(token.strip(' "\u0120\u2581') or "\n")
    ]
    return max(begins, default=min(listed.values(), default=0.0))


async def _honours_seed(model: _Asked) -> bool:
    """Whether equal seeds draw equally and others do not (an endpoint that ignores them may be greedy)."""
    ask = [_user("Write five words that have nothing to do with each other.")]
    texts = [await _draw(model, ask, seed) for seed in (11, 11, 12, 13)]
    return texts[0] is not None and texts[0] == texts[1] and len(set(texts)) > 1


async def _draw(model: _Asked, messages: Sequence[Message], seed: int) -> str | None:
    try:
        return await model.generate(messages, Sampling(temperature=1.0, max_tokens=12, seed=seed))
    except CallFailed as failure:
        if failure.reason not in _REFUSALS:
            raise
        return None


async def _keeps_schema(model: _Asked) -> bool:
    """Whether an answer is JSON of the given schema although the question asks for none."""
    schema = {
        "type": "object",
        "properties": {"mood": {"type": "string", "enum": ["glad", "sad"]}},
        "required": ["mood"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "mood", "schema": schema, "strict": True}}
    try:
        text = await model.answer([_user("Say hello.")], {"response_format": form}, 32)
        parsed = json.loads(text)
    except CallFailed as failure:
        if failure.reason not in _REFUSALS:
            raise
        return False
    except ValueError:
        return False
    return isinstance(parsed, dict) and set(parsed) == {"mood"} and parsed["mood"] in {"glad", "sad"}


_BEGUN = "The capital of France is Par"
"""More tokens than are asked for in answer to it, so that a text that starts with it was not generated."""
_FEW = 4


async def _continuation(model: _Asked) -> Continuation | None:
    """Return how the endpoint continues an assistant's turn at the end; half a word tells it from a new turn."""
    messages = [_user("What is the capital of France? Answer with its name."), _assistant(_BEGUN)]
    for form in FORMS:
        try:
            text = await model.answer(messages, {}, _FEW, form)
        except CallFailed as failure:
            if failure.reason not in _REFUSALS:
                raise
            continue
        for repeats, rest in ((False, text), (True, text.removeprefix(_BEGUN))):
            if rest.startswith("is"):
                return replace(form, repeats=repeats)
    return None


async def _context(model: _Asked, name: str) -> int | None:
    """Return the context's length where the list of models says it."""
    try:
        listed = (await model.models()).get("data")
    except CallFailed as failure:
        if failure.reason in {"Timeout", "RateLimited"}:
            raise
        return None  # many endpoints have no such list
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    found = next((entry for entry in entries if entry.get("id") == name), None)
    if found is None and len(entries) == 1:  # a server of one model answers to any name: llama.cpp's lists a file
        found = entries[0]
    return None if found is None else _length(found)


def _length(entry: Mapping[str, Any]) -> int | None:
    meta = entry.get("meta")
    for place in (entry, meta if isinstance(meta, Mapping) else {}):
        for name in _CONTEXT_NAMES:
            if isinstance(value := place.get(name), int) and value > 0:
                return value
    return None


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def _assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


__all__ = ["FORMS", "Continuation", "Probed", "probe"]
