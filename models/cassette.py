"""Record and replay: a chat model's answers in a file of JSON lines, for tests and demos without a model.

A line is a model's head or one answer:

    {"model": {"name", "identity", "price", "capabilities"}, "cassette": 1}
    {"key", "call", "messages", "sampling" or "labels", "answer"}

The key is the hash of identity, kind of call, messages, and sampling or labels: equal calls have one answer, and a
replay is a function of the call. Failures are not recorded: they are no answers. Secrets of the environment are
cut from every line. Must not know endpoints or judges.
"""

import asyncio
import json
import math
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import DataError, SpecError
from ..records import JSON, canonical, digest
from .chat import (
    GREEDY,
    AroundChat,
    CallFailed,
    Capabilities,
    ChatModel,
    LabelScores,
    Message,
    Reply,
    Sampling,
    TokenPrice,
    Usage,
)  # fmt: skip
from .completions import estimate_tokens
from .redaction import redact_exact

FORMAT = 1


class Cassette:
    """The lines of one file by key. Several models may share a file within one process.

    An unfinished last line (a crash while writing) is passed over, and cut off where `write` is True.
    """

    def __init__(self, file: Path | str, *, write: bool = False) -> None:
        self.file = Path(file)
        self.heads: dict[str, dict[str, JSON]] = {}
        self.answers: dict[str, dict[str, JSON]] = {}
        raw = self.file.read_bytes() if self.file.exists() else b""
        whole = raw.rfind(b"\n") + 1
        if write and whole < len(raw):
            os.truncate(self.file, whole)
        for number, line in enumerate(raw[:whole].split(b"\n")[:-1], 1):
            self._read(f"{self.file}:{number}", line.decode("utf-8", "replace"))

    def _read(self, where: str, line: str) -> None:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and isinstance(row.get("model"), dict) and row.get("cassette") == FORMAT:
            self.heads[row["model"]["name"]] = row["model"]
        elif isinstance(row, dict) and {"key", "answer"} <= row.keys():
            self.answers.setdefault(row["key"], row["answer"])
        else:
            raise DataError(where, line[:80], f"a line of a recording, format {FORMAT}")

    def write(self, row: Mapping[str, JSON]) -> None:
        """Append one line."""
        line = redact_exact(canonical(row)).encode("utf-8", "backslashreplace") + b"\n"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab", buffering=0) as handle:  # one write a line: others append to the same file
            handle.write(line)

    def add_head(self, head: dict[str, JSON]) -> None:
        """Write what a replay has to know of a model, if it is new."""
        if self.heads.get(head["name"]) != head:
            self.heads[head["name"]] = head
            self.write({"model": head, "cassette": FORMAT})


def call_key(identity: JSON, call: str, messages: Sequence[Message], asked: JSON) -> str:
    """Return the hash under which the answer to a call is kept."""
    return digest([identity, call, [dict(message) for message in messages], asked])


class RecordingChat(AroundChat):
    """Answers as `inner` does and writes every answer down; what the file holds already is not asked again."""

    def __init__(self, inner: ChatModel, file: Path | str) -> None:
        self.model, self._tape = inner, Cassette(file, write=True)
        self._asking: dict[str, asyncio.Lock] = {}
        self._head(self._known_capabilities())

    async def generate(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Reply:
        """Return the recorded answer, else the inner model's, recorded."""

        async def ask() -> JSON:
            return asdict(await self.model.generate(messages, sampling))

        return _reply(await self._once("generate", messages, {"sampling": _sampling(sampling)}, ask))

    async def label_logprobs(self, messages: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        """Return the recorded scores, else the inner model's, recorded."""

        async def ask() -> JSON:
            return _wire(await self.model.label_logprobs(messages, labels))

        return _scores(await self._once("label_logprobs", messages, {"labels": list(labels)}, ask))

    async def capabilities(self) -> Capabilities:
        """Return what was found out before, else ask the inner model."""
        known = self._known_capabilities()
        if known is None:
            known = asdict(await self.model.capabilities())
            self._head(known)
        return Capabilities(**known)

    def _known_capabilities(self) -> dict[str, JSON] | None:
        head = self._tape.heads.get(self.name)
        return head["capabilities"] if head and head["identity"] == _plain(self.identity) else None

    def _head(self, capabilities: JSON) -> None:
        price = None if self.price is None else asdict(self.price)
        head = {"name": self.name, "identity": self.identity, "price": price, "capabilities": capabilities}
        self._tape.add_head(_plain(head))

    async def _once(
        self, call: str, messages: Sequence[Message], asked: dict[str, JSON], ask: Callable[[], Awaitable[JSON]]
    ) -> JSON:
        key = call_key(self.identity, call, messages, asked)
        if key not in self._tape.answers:
            async with self._asking.setdefault(key, asyncio.Lock()):  # equal calls at once: one asks, the others wait
                if key not in self._tape.answers:
                    answer = await ask()
                    self._tape.answers[key] = answer
                    self._tape.write({"key": key, "call": call, "messages": list(messages), **asked, "answer": answer})
            self._asking.pop(key, None)
        return self._tape.answers[key]


class ReplayChat:
    """Answers from a recording alone; needs no network and no model.

    >>> ReplayChat("judges.jsonl", "gpt-4o-mini@api.openai.com")  # doctest: +SKIP
    """

    def __init__(self, file: Path | str, name: str | None = None) -> None:
        """Read `file`; `name` picks the model where it holds several.

        Raises:
            SpecError: the file holds no model, or several and `name` is none of them.
        """
        self._tape = Cassette(file)
        names = sorted(self._tape.heads)
        if (name is None and len(names) != 1) or (name is not None and name not in names):
            raise SpecError(str(file), name, f"a recorded model, one of: {', '.join(names) or '(none in this file)'}")
        self._head = self._tape.heads[names[0] if name is None else name]

    @property
    def name(self) -> str:
        """The recorded model's."""
        return str(self._head["name"])

    @property
    def identity(self) -> JSON:
        """The recorded model's: its answers are that model's, and a ledger may hold both."""
        return self._head["identity"]

    @property
    def price(self) -> TokenPrice | None:
        """The recorded model's."""
        return None if self._head["price"] is None else TokenPrice(**self._head["price"])

    async def generate(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Reply:
        """Return the recorded answer."""
        return _reply(self._find("generate", messages, {"sampling": _sampling(sampling)}))

    async def label_logprobs(self, messages: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        """Return the recorded scores."""
        capabilities = self._head["capabilities"]
        if capabilities is not None and not capabilities["label_logprobs"]:
            raise CallFailed("Unsupported", f"{self.name}: gives no usable log-probabilities")
        return _scores(self._find("label_logprobs", messages, {"labels": list(labels)}))

    async def capabilities(self) -> Capabilities:
        """Return what was found out while recording."""
        if self._head["capabilities"] is None:
            raise CallFailed("NotRecorded", f"{self._tape.file}: nobody asked {self.name} what it can do")
        return Capabilities(**self._head["capabilities"])

    async def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return an estimate from above."""
        return estimate_tokens(messages)

    async def close(self) -> None:
        """Nothing is open."""

    def _find(self, call: str, messages: Sequence[Message], asked: JSON) -> JSON:
        answer = self._tape.answers.get(call_key(self.identity, call, messages, asked))
        if answer is None:
            last = messages[-1]["content"] if messages else ""
            raise CallFailed(
                "NotRecorded", f"{self._tape.file} holds no answer of {self.name} to {call}: {last[-60:]!r}"
            )
        return answer


def _sampling(sampling: Sampling) -> dict[str, JSON]:
    """Return a sampling as JSON; no schema is no field, as in recordings that are older than schemas."""
    return {name: value for name, value in asdict(sampling).items() if name != "schema" or value}


def _plain(value: JSON) -> Any:
    """Return `value` as JSON gives it back: tuples as lists."""
    return json.loads(canonical(value))


def _reply(answer: Mapping[str, JSON]) -> Reply:
    return Reply(**{**answer, "usage": Usage(**answer["usage"])})


def _wire(scores: LabelScores) -> dict[str, JSON]:
    """Return scores as JSON, which has no infinity: null stands for it."""
    logprobs = {label: None if math.isinf(value) else value for label, value in scores.logprobs.items()}
    return {"logprobs": logprobs, "inside": scores.inside, "usage": asdict(scores.usage), "model": scores.model}


def _scores(answer: Mapping[str, JSON]) -> LabelScores:
    logprobs = {label: -math.inf if value is None else value for label, value in answer["logprobs"].items()}
    return LabelScores(logprobs, answer["inside"], Usage(**answer["usage"]), answer["model"])


__all__ = ["FORMAT", "Cassette", "RecordingChat", "ReplayChat", "call_key"]
