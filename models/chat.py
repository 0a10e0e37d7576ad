"""What a chat model is: the one protocol that judges and agents speak, and the words that cross it.

Three implementations answer it: an OpenAI-compatible endpoint, a model host of ours, and a recording. Each passes
tests/chat_contract.py. A call either answers or raises `CallFailed` with a typed reason; nothing is retried here:
the paying path is the only place that repeats a call. Must not know graphs, ledgers or judges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypedDict, runtime_checkable

from ..errors import PlaitError
from ..records import JSON

Reason = Literal[
    "Timeout",  # no whole answer in time
    "RateLimited",  # 429, or the provider's word for it
    "ServerError",  # 5xx, a connection that broke, an answer that is no answer
    "Unauthorized",  # the key is wrong, or may not use this model
    "BadRequest",  # the endpoint refuses the request as it stands
    "TooLong",  # prompt and answer do not fit the context
    "Refused",  # the model, or a filter before it, declined
    "Truncated",  # the answer ended at the token limit before it was whole
    "Empty",  # an answer without text
    "Unparsable",  # text that does not say what was asked for
    "OutsideLabels",  # too little probability on the labels that were allowed
    "NotFinite",  # the model computed NaN or infinities: a broken weight, or an overflow
    "Unsupported",  # the endpoint cannot do what is asked (log-probabilities, seeds)
    "BudgetReached",  # it would have cost more than is left
    "NotRecorded",  # a recording holds no answer to this call
]

RETRYABLE: frozenset[Reason] = frozenset({"Timeout", "RateLimited", "ServerError", "Empty"})
"""Reasons that may pass when the same call is made again."""


class Message(TypedDict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn.

    Attributes:
        temperature: 0 takes the likeliest token each time.
        top_p: Nucleus of the draw; 1 leaves it out.
        max_tokens: Tokens of the answer at most.
        seed: Makes a draw repeatable where the model honours it; None leaves it out.
        stop: Texts that end the answer and are no part of it.
        schema: JSON text of a JSON schema to keep the answer to, for models whose `Capabilities.structured` is True;
            others pass it over, so who reads the answer reads it with care. Empty for none.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: str = ""


GREEDY = Sampling()
"""The likeliest token each time, 512 at most."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call.

    Attributes:
        prompt: Tokens sent.
        completion: Tokens answered.
        cached: Tokens of the prompt that the model did not compute again.
        known: Whether the model counted; False: estimated here.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    known: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer: its `text`, why it ended, what it took, and the model that the endpoint says answered."""

    text: str
    finish: Literal["stop", "length"] = "stop"
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True, slots=True)
class LabelScores:
    """What the model would say at the answer slot.

    Attributes:
        logprobs: Per allowed label, its log-probability in nats, token variants (with and without a leading space)
            summed; not normalised over the labels. -inf where an endpoint's list of likeliest tokens lacks it.
        inside: Probability on all allowed labels together, 0 to 1; the rest is outside.
        usage: Tokens of the call.
        model: The model that the endpoint says answered.
    """

    logprobs: Mapping[str, float]
    inside: float
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do, found by asking it and not by its name.

    Attributes:
        label_logprobs: Whether `label_logprobs` works.
        top_logprobs: Likeliest tokens that it lists; 0 for none, -1 for the whole vocabulary.
        seed: Whether equal seeds gave equal draws.
        structured: Whether it keeps to a JSON schema that it is given.
        context: Tokens of prompt and answer together at most; None where it does not say.
        continues: Whether messages that end with an assistant's turn are continued in it; others refuse them.
    """

    label_logprobs: bool
    top_logprobs: int
    seed: bool
    structured: bool
    context: int | None = None
    continues: bool = False


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """US dollars for a million tokens sent, answered, and sent but cached."""

    prompt: float
    completion: float
    cached: float | None = None

    def of(self, usage: Usage) -> float:
        """Return the price of one call's `usage`, in US dollars."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = usage.prompt - usage.cached
        return (fresh * self.prompt + usage.cached * cached + usage.completion * self.completion) / 1e6


class CallFailed(PlaitError):
    """A call gave no answer: `reason` is its type, `detail` a line, `retry_after` seconds that the server asked for.

    `usage` is what the model counted all the same: a refusal, an empty answer and one that was all thinking are billed.
    `final` says that the same call would fail again, whatever its reason. Never holds a key, a header or a whole
    request.
    """

    exit_code = 1

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        retry_after: float | None = None,
        usage: Usage | None = None,
        final: bool = False,
    ) -> None:
        super().__init__(reason, detail, retry_after, usage, final)
        self.reason: Reason = reason
        self.detail, self.retry_after, self.usage, self.final = detail, retry_after, usage, final

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return self.reason in RETRYABLE and not self.final

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@runtime_checkable
class ChatModel(Protocol):
    """A language model that is talked to. Safe for any number of calls at once within one event loop."""

    @property
    def name(self) -> str:
        """A short name for people and for limits: calls of one name share one limiter and one budget."""
        ...

    @property
    def identity(self) -> JSON:
        """What an answer depends on beside the call: model, dtype, template, endpoint without credentials.

        It is part of every ledger key; equal identities mean that an answer may be used again.
        """
        ...

    @property
    def price(self) -> TokenPrice | None:
        """The price of its tokens; None where it is not known, which a money budget refuses."""
        ...

    async def generate(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Reply:
        """Return the model's answer to `messages`.

        An answer cut at `max_tokens` is returned with `finish="length"`: whether it is whole enough is known
        where it is read.

        Raises:
            CallFailed: there is no answer.
        """
        ...

    async def label_logprobs(self, messages: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        """Return the log-probabilities of `labels` as the first words of the answer to `messages`.

        Args:
            messages: Those that end with an assistant's turn are continued in it.
            labels: Two or more different ones, without surrounding spaces.

        Raises:
            CallFailed: `Unsupported` where the model gives no log-probabilities; else as `generate`.
        """
        ...

    async def capabilities(self) -> Capabilities:
        """Return what the model can do; probed once with tiny calls and remembered.

        Raises:
            CallFailed: it cannot be asked.
        """
        ...

    async def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return how many tokens `messages` take, or an estimate from above where the tokenizer is not known."""
        ...

    async def close(self) -> None:
        """Give up connections."""
        ...


class AroundChat:
    """A chat model around another: passes on what a subclass does not change, `generate` and `label_logprobs` apart.

    Attributes:
        model: The model within.
    """

    model: ChatModel

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def identity(self) -> JSON:
        """The model's identity: what comes through is its answer."""
        return self.model.identity

    @property
    def price(self) -> TokenPrice | None:
        """The model's price."""
        return self.model.price

    async def capabilities(self) -> Capabilities:
        """Return what the model can do."""
        return await self.model.capabilities()

    async def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return how many tokens `messages` take."""
        return await self.model.count_tokens(messages)

    async def close(self) -> None:
        """Close the model."""
        await self.model.close()


__all__ = [
    "GREEDY",
    "RETRYABLE",
    "AroundChat",
    "CallFailed",
    "Capabilities",
    "ChatModel",
    "LabelScores",
    "Message",
    "Reason",
    "Reply",
    "Sampling",
    "TokenPrice",
    "Usage",
]
