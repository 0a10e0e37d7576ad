"""Which block of a layer an item takes: the default, a draw, a model's choice, or the first whose word it holds.

A model is shown the blocks in an order shuffled for each item, so that no block gains by its place. What is no block
is bad and takes the default; it is counted, never repaired. Knows layers and items; must not know ledgers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from ...graphs import Upper
from ...models.chat import CallFailed, ChatModel, Message, Sampling
from ...models.thoughts import spoken
from ...records import JSON, canonical, generator
from ...teams import Block, LayerSpec
from .items import TaskItem
from .parsing import read_object
from .wording import Wording, Work, fenced, shortened

SHOWN_CHARS = 2000
"""Characters of the question, and of what a layer reads, that a selector is shown."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Offer(_Frozen):
    """What a selector is asked: the whole text, and the names it may answer with."""

    prompt: str
    names: tuple[str, ...]


class Selected(_Frozen):
    """A choice: the block's name (empty where the answer named none), why, and whether the answer was bad."""

    block: str
    reason: str = ""
    bad: bool = False


@dataclass(frozen=True)
class SelectBlock:
    """Asks a model for the block; greedy, one call."""

    wording: Wording
    max_tokens: int = 160
    name: ClassVar[str] = "team-select"
    version: ClassVar[int] = 2
    output: ClassVar[type[BaseModel]] = Selected

    @property
    def spec(self) -> JSON:
        """Tokens and prompt hash."""
        return {"max_tokens": self.max_tokens, "prompts": self.wording.hash}

    async def run(self, given: Offer, model: ChatModel, seed: int) -> Selected:
        """Return the choice; a bad one where the answer names no block of those offered.

        Raises:
            CallFailed: the call gave no answer; an answer without text is a bad one.
        """
        sampling = Sampling(max_tokens=self.max_tokens, schema=_schema(given.names))
        text = await answered(model, self.wording.messages(given.prompt), sampling)
        found = read_object(text) or {}
        said = found.get("block", found.get("name"))
        reply = spoken(text)
        block = _named(said if isinstance(said, str) else "" if reply.cut else reply.text, given.names)
        reason = found.get("reason")
        return Selected(block=block, reason=reason if isinstance(reason, str) else "", bad=not block)

    async def upper(self, given: Offer, model: ChatModel) -> Upper:
        """Return the price of one call."""
        return Upper(1, await model.count_tokens(self.wording.messages(given.prompt)), self.max_tokens)


async def answered(model: ChatModel, messages: Sequence[Message], sampling: Sampling) -> str:
    """Return an answer's text; empty where the model answered without any."""
    try:
        return (await model.generate(messages, sampling)).text
    except CallFailed as error:
        if error.reason != "Empty":
            raise
        return ""


def offer(wording: Wording, layer: LayerSpec, item: TaskItem, work: Sequence[Work], seed: int) -> Offer:
    """Return what a layer's selector is asked about an item."""
    blocks = list(layer.blocks)
    generator(seed, "team-order", item.id).shuffle(blocks)
    texts = [fenced(one.text) for one in work]
    prompt = wording.render(
        "select", question=shortened(fenced(item.question), SHOWN_CHARS), task=layer.task,
        work=shortened("\n".join(texts), SHOWN_CHARS), choices=tuple((block.name, block.when) for block in blocks),
    )  # fmt: skip
    return Offer(prompt=prompt, names=tuple(block.name for block in blocks))


def selected_freely(layer: LayerSpec, item: TaskItem, seed: int, sample: int) -> Selected:
    """Return the choice of a layer whose selector is no model."""
    if layer.selector == "random":
        drawn = generator(seed, "team-random", item.id, layer.name, sample).choice(layer.blocks)
        return Selected(block=drawn.name, reason="drawn")
    if layer.selector == "rule":
        for block in layer.blocks:
            word = block.when.strip()
            if word and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", item.question, re.IGNORECASE):
                return Selected(block=block.name, reason=f"the question holds {word!r}")
    return Selected(block=layer.fallback.name, reason="the default")


def block_of(layer: LayerSpec, selected: Selected) -> Block:
    """Return the block that a choice means: the default where it names none."""
    return next((block for block in layer.blocks if block.name == selected.block), layer.fallback)


def asks(layer: LayerSpec) -> bool:
    """Return whether the layer's choice takes a call."""
    return layer.selector == "llm" and len(layer.blocks) > 1


def _named(said: str, names: Sequence[str]) -> str:
    """Return the name that is said, quotes and case aside; empty where it is none."""
    plain = said.strip().strip("\"'`*.").casefold()
    return next((name for name in names if name.casefold() == plain), "")


def _schema(names: Sequence[str]) -> str:
    properties: dict[str, Any] = {"reason": {"type": "string"}, "block": {"enum": sorted(names)}}
    return canonical(
        {"type": "object", "properties": properties, "required": ["reason", "block"], "additionalProperties": False}
    )


__all__ = ["Offer", "SelectBlock", "Selected", "answered", "asks", "block_of", "offer",
           "selected_freely"]  # fmt: skip
