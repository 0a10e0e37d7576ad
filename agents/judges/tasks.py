"""What a judge's node does: name angles, write a review with scores, or answer with one letter. Each a `Task`.

Every output is in the order in which the answers were shown; who asks knows the order. A review whose scores cannot
be read is never written again: one short call on the same prefix asks for the two numbers. Knows chat models;
must not know graphs, ledgers or the network.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from ...graphs import Upper
from ...models.chat import CallFailed, ChatModel, Message, Sampling
from ...models.thoughts import spoken
from ...records import JSON
from .parsing import angles as read_angles
from .parsing import pair, scores
from .wording import LABELS, Review, Wording

FALLBACK = ("Accuracy", "Relevance")
"""Angles where a model names none it can be understood by, as in the released code."""

INSIDE = 0.5
"""Probability on the three letters below which an answer is not counted (spec, section 9.1)."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Pair(_Frozen):
    """Two answers to one query, in the order in which they are shown."""

    query: str
    first: str
    second: str


class Angles(_Frozen):
    """Angles to judge from; `fallback` where the model named none."""

    names: tuple[str, ...]
    fallback: bool = False


class Question(_Frozen):
    """What one neuron is asked: a pair, its angles, the reviews of the layer before and which of them are its own."""

    pair: Pair
    angles: tuple[str, ...]
    reviews: tuple[tuple[str, str], ...] = ()
    own: tuple[int, ...] = ()


class Opinion(_Frozen):
    """What one neuron holds of the answers as shown.

    `first` and `second` are scores from 1 to 10, or probabilities; `tie` is the probability of neither, None for
    scores; `inside` is the probability on the letters; `text` is the review; `via` says where the figures are from.
    """

    first: float
    second: float
    tie: float | None = None
    inside: float | None = None
    text: str = ""
    via: Literal["text", "repair", "letters"] = "text"


@dataclass(frozen=True)
class NameAngles:
    """Asks which angles matter for this pair; greedy, the order as given."""

    wording: Wording
    family: str
    limit: int | None = None
    name: ClassVar[str] = "judge-angles"
    version: ClassVar[int] = 3
    output: ClassVar[type[BaseModel]] = Angles
    sampling: ClassVar[Sampling] = Sampling(max_tokens=512)

    @property
    def spec(self) -> JSON:
        """Family, limit, prompt hash."""
        return {"family": self.family, "limit": self.limit, "prompts": self.wording.hash}

    async def run(self, given: Pair, model: ChatModel, seed: int) -> Angles:
        """Return the angles; the fallback where none can be read."""
        reply = await model.generate(self._messages(given), self.sampling)
        material = (given.query, given.first, given.second)
        names = read_angles(spoken(reply.text).text, self.wording.family(self.family)["close"], material)[: self.limit]
        return Angles(names=tuple(names or FALLBACK), fallback=not names)

    async def upper(self, given: Pair, model: ChatModel) -> Upper:
        """Return the price of one call."""
        return Upper(1, await model.count_tokens(self._messages(given)), self.sampling.max_tokens)

    def _messages(self, given: Pair) -> list[Message]:
        return self.wording.roles(self.family, given.query, given.first, given.second, self.limit)


@dataclass(frozen=True)
class WriteReview:
    """Asks for a review that ends with two scores."""

    wording: Wording
    family: str
    hygiene: bool = False
    temperature: float = 0.0
    max_tokens: int = 512
    name: ClassVar[str] = "judge-review"
    version: ClassVar[int] = 3
    output: ClassVar[type[BaseModel]] = Opinion
    repair_tokens: ClassVar[int] = 8

    @property
    def spec(self) -> JSON:
        """Family, sampling, prompt hash."""
        return {
            "family": self.family, "hygiene": self.hygiene, "temperature": self.temperature,
            "max_tokens": self.max_tokens, "prompts": self.wording.hash,
        }  # fmt: skip

    async def run(self, given: Question, model: ChatModel, seed: int) -> Opinion:
        """Return scores and review.

        Raises:
            CallFailed: `Unparsable`: neither the review nor the repair holds two scores of the judge's own.
        """
        messages = self._messages(given)
        drawn = seed if self.temperature else None
        reply = await model.generate(messages, Sampling(self.temperature, max_tokens=self.max_tokens, seed=drawn))
        review = spoken(reply.text)
        thought = review.text != reply.text.strip()
        if review.cut:
            raise CallFailed("Truncated", "the review ended within its thoughts")
        found = scores(review.text, (given.pair.query, given.pair.first, given.pair.second))
        if found is not None:
            return Opinion(first=found[0], second=found[1], text=review.text)
        if thought and reply.finish == "length":
            raise CallFailed("Truncated", "the review was cut after its thoughts, before its scores")
        said: Message = {"role": "assistant", "content": review.text}
        repaired = await model.generate(
            [*messages, said, self.wording.repair(self.family)], Sampling(max_tokens=self.repair_tokens)
        )
        mended = spoken(repaired.text)
        found = None if mended.cut else pair(mended.text)
        if found is None:
            raise CallFailed("Unparsable", f"no two scores in {review.text[-60:]!r}, nor in {repaired.text[:40]!r}")
        return Opinion(first=found[0], second=found[1], text=review.text, via="repair")

    async def upper(self, given: Question, model: ChatModel) -> Upper:
        """Return the price of a review and its repair."""
        prompt = await model.count_tokens([*self._messages(given), self.wording.repair(self.family)])
        return Upper(2, 2 * prompt + self.max_tokens + 8, self.max_tokens + self.repair_tokens)

    def _messages(self, given: Question) -> list[Message]:
        return _asked(self.wording, self.family, given, labels=False, hygiene=self.hygiene)


@dataclass(frozen=True)
class PickLetter:
    """Asks for one letter and reads the probabilities of all three: no parser, one token.

    With `prefill` the answer is begun for the model ("Answer:"), which keeps small ones from talking first; only
    where it goes on with a turn of its own (`Capabilities.continues`).
    """

    wording: Wording
    family: str
    hygiene: bool = False
    prefill: bool = False
    name: ClassVar[str] = "judge-letter"
    version: ClassVar[int] = 2
    output: ClassVar[type[BaseModel]] = Opinion

    @property
    def spec(self) -> JSON:
        """Family and prompt hash."""
        return {
            "family": self.family, "hygiene": self.hygiene, "prefill": self.prefill, "prompts": self.wording.hash,
        }  # fmt: skip

    async def run(self, given: Question, model: ChatModel, seed: int) -> Opinion:
        """Return the probabilities of first, second and neither, normalised over the three.

        Raises:
            CallFailed: `OutsideLabels`: the model would rather say something else.
        """
        found = await model.label_logprobs(self._messages(given), LABELS)
        if found.inside < INSIDE:
            detail = f"probability {found.inside:.3f} on {', '.join(LABELS)}, {INSIDE} needed"
            raise CallFailed("OutsideLabels", detail)
        first, second, tie = _normalised(found.logprobs)
        return Opinion(first=first, second=second, tie=tie, inside=found.inside, via="letters")

    async def upper(self, given: Question, model: ChatModel) -> Upper:
        """Return the price of one token."""
        return Upper(1, await model.count_tokens(self._messages(given)), 1)

    def _messages(self, given: Question) -> list[Message]:
        asked = _asked(self.wording, self.family, given, labels=True, hygiene=self.hygiene)
        return [*asked, self.wording.prefill(self.family)] if self.prefill else asked


def _asked(wording: Wording, family: str, given: Question, *, labels: bool, hygiene: bool) -> list[Message]:
    return wording.review(
        family, given.pair.query, given.pair.first, given.pair.second, given.angles, labels=labels, own=given.own,
        reviews=[*map(Review._make, given.reviews)], hygiene=hygiene,
    )  # fmt: skip


def _normalised(logprobs: Mapping[str, float]) -> list[float]:
    """Return the softmax over the letters, in their order."""
    values = [logprobs[label] for label in LABELS]
    top = max(values)
    parts = [math.exp(value - top) for value in values]
    return [part / sum(parts) for part in parts]
