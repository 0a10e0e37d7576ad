"""A scripted chat model: answers by content, fails where the script says. Beside the real ones, for determinism."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence

from plait.models.chat import (
    GREEDY,
    CallFailed,
    Capabilities,
    LabelScores,
    Message,
    Reply,
    Sampling,
    TokenPrice,
    Usage,
)
from plait.records import canonical, digest


class ScriptedChat:
    """Answers `answer(messages)`; fails as `fault(messages, attempt)` says; counts what happened."""

    def __init__(
        self,
        answer: Callable[[Sequence[Message]], str],
        fault: Callable[[str, int], CallFailed | None] = lambda key, attempt: None,
        *,
        name: str = "scripted",
        price: TokenPrice | None = None,
        delays: random.Random | None = None,
        gate: asyncio.Event | None = None,
    ) -> None:
        self.name, self.price = name, price
        self.identity = {"scripted": name}
        self._answer, self._fault, self._delays, self.gate = answer, fault, delays, gate
        self.calls: Counter[str] = Counter()
        self.prompts: list[str] = []
        self.in_flight = self.most_in_flight = 0

    async def generate(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Reply:
        text = await self._turn(messages, "generate")
        prompt = await self.count_tokens(messages)
        words = text.split()
        if len(words) > sampling.max_tokens:
            return Reply(
                " ".join(words[: sampling.max_tokens]), "length", Usage(prompt, sampling.max_tokens), self.name
            )
        return Reply(text, "stop", Usage(prompt, len(words)), self.name)

    async def label_logprobs(self, messages: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        import math

        text = await self._turn(messages, "labels")
        weights = [1 + int(digest([text, label])[:4], 16) for label in labels]
        total = sum(weights) * 1.05
        scores = {label: math.log(weight / total) for label, weight in zip(labels, weights, strict=True)}
        return LabelScores(scores, 1 / 1.05, Usage(await self.count_tokens(messages), 1), self.name)

    async def capabilities(self) -> Capabilities:
        return Capabilities(True, -1, True, False)

    async def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(len(message["content"].split()) + 2 for message in messages)

    async def close(self) -> None: ...

    async def _turn(self, messages: Sequence[Message], kind: str) -> str:
        key = digest([kind, canonical(list(messages))])
        attempt = self.calls[key]
        self.calls[key] += 1
        self.prompts.append(messages[-1]["content"])
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self._delays is not None:
                await asyncio.sleep(self._delays.random() * 0.003)
            failed = self._fault(key, attempt)
            if failed is not None:
                raise failed
            return self._answer(messages)
        finally:
            self.in_flight -= 1
