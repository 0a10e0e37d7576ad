"""Calls of chat models as a worker of the paying path: one endpoint, one limiter, one call a request.

A node's task may call its model more than once (a one-token repair of an answer that could not be read); what all of
them took is counted here, whether the task ends well or not. Where a later call fails and the request is repeated,
the answers before it are kept: they are neither asked nor paid for again. Knows no graph and no ledger.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel

from ..graphs import Task
from ..models.chat import (
    GREEDY,
    AroundChat,
    CallFailed,
    ChatModel,
    LabelScores,
    Message,
    Reply,
    Sampling,
    Usage,
)
from ..records import Failed, Outcome, Request, Scored, digest
from .budget import Budget, Price
from .limiter import Limiter
from .workers import first_line

Asked = tuple[list[Message], Sampling | tuple[str, ...]]
"""Messages, with the sampling of an answer or the labels to choose from."""


@dataclass
class Metered(AroundChat):
    """A chat model that counts what one request took.

    Attributes:
        model: The model.
        answered: What was asked and answered, in order; beforehand: by earlier attempts at the request.
        calls: Calls made, those that failed included.
        prompt: Tokens sent.
        completion: Tokens answered.
        cached: Tokens sent that the model did not compute again.
        usd: Their price, where it is known.
    """

    model: ChatModel
    answered: list[tuple[Asked, Reply | LabelScores]] = field(default_factory=list)
    calls: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    usd: float = 0.0
    _place: int = 0

    async def generate(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Reply:
        """Return the model's answer."""
        asked = (list(messages), sampling)
        known = self._known(asked)
        if isinstance(known, Reply):
            return known
        try:
            reply = await self.model.generate(messages, sampling)
        except CallFailed as error:
            await self._failed(error, messages, sampling.max_tokens)
            raise
        self._count(reply.usage)
        self._keep(asked, reply)
        return reply

    async def label_logprobs(self, messages: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        """Return the model's label log-probabilities."""
        asked = (list(messages), tuple(labels))
        known = self._known(asked)
        if isinstance(known, LabelScores):
            return known
        try:
            scores = await self.model.label_logprobs(messages, labels)
        except CallFailed as error:
            await self._failed(error, messages, 1)
            raise
        self._count(scores.usage)
        self._keep(asked, scores)
        return scores

    async def close(self) -> None:
        """Leave the model open: it is shared."""

    def cost(self, seconds: float) -> dict[str, float]:
        """Return what the request took, by the names that budgets and reports use."""
        return {
            "seconds": seconds,
            "calls": float(self.calls),
            "tokens": float(self.prompt + self.completion),
            "prompt_tokens": float(self.prompt),
            "completion_tokens": float(self.completion),
            "cached_tokens": float(self.cached),
            "usd": self.usd,
        }

    def _known(self, asked: Asked) -> Reply | LabelScores | None:
        """Return what an earlier attempt was answered in this place; a task that asks otherwise now begins anew."""
        if self._place < len(self.answered) and self.answered[self._place][0] == asked:
            self._place += 1
            return self.answered[self._place - 1][1]
        del self.answered[self._place :]
        return None

    def _keep(self, asked: Asked, answer: Reply | LabelScores) -> None:
        self.answered.append((asked, answer))
        self._place += 1

    def _count(self, usage: Usage) -> None:
        self.calls += 1
        self.prompt += usage.prompt
        self.completion += usage.completion
        self.cached += usage.cached
        if self.price is not None:
            self.usd += self.price.of(usage)

    async def _failed(self, error: CallFailed, messages: Sequence[Message], most: int) -> None:
        """Count a call that gave no answer: what it says was billed; whole where it timed out, since it may be."""
        if error.usage is None and error.reason == "Timeout":
            self._count(Usage(await self.model.count_tokens(messages), most))
        else:
            self._count(error.usage or Usage())


@dataclass
class CallWorker:
    """Runs the tasks of one chat model, each request one task.

    Attributes:
        model: The model; its name is the pool's.
        limiter: How many calls it gets at once.
        tasks: What requests may ask for, by `Node.task_key`, with the type of the input.
        batch: One request a call: each is answered as soon as it can be.
        replica: Which of several workers of the same model, of equal identity.
        budget: What this endpoint may be asked for in this start, beside the run's budget; a node that it has nothing
            left for fails with `BudgetReached`. Workers of one model share one.
    """

    model: ChatModel
    limiter: Limiter = field(default_factory=Limiter)
    tasks: dict[str, tuple[Task, type[BaseModel]]] = field(default_factory=dict)
    batch: int = 1
    replica: int = 0
    budget: Budget | None = None
    _kept: dict[str, list[tuple[Asked, Reply | LabelScores]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's name, numbered where several workers serve one model."""
        return f"{self.model.name}#{self.replica}" if self.replica else self.model.name

    @property
    def pool(self) -> str:
        """The model's name: no other worker may answer for it."""
        return self.model.name

    @property
    def slots(self) -> int:
        """Calls that may be in flight."""
        return self.limiter.slots

    def ready_at(self, now: float, price: Price) -> float:
        """Return when a call of this price may start."""
        return self.limiter.ready_at(now, price.tokens, max(1, price.calls))

    def started(self, now: float, price: Price) -> None:
        """Count a call that starts."""
        self.limiter.started(now, price.tokens, max(1, price.calls))

    async def run(self, requests: Sequence[Request]) -> list[Outcome]:
        """Return one outcome a request; each is a task's output as JSON, or a typed failure."""
        return [await self._run(request) for request in requests]

    async def revive(self) -> None:
        """Do nothing: a model that cannot be reached fails its calls, typed, and they are repeated."""

    async def _run(self, request: Request) -> Outcome:
        task, input_type = self.tasks[request.candidate]
        again = _identity(request) if self._kept else ""
        metered, started = Metered(self.model, self._kept.pop(again, [])), time.monotonic()
        try:
            output = await task.run(input_type.model_validate(request.item), metered, request.seed)
        except CallFailed as error:
            took = time.monotonic() - started
            if error.reason == "RateLimited":
                self.limiter.refused(time.monotonic())
            if error.retryable and metered.answered:
                self._kept[_identity(request)] = metered.answered
            return Failed(error.reason, error.detail, error.retryable, error.retry_after or 0.0, metered.cost(took))
        except Exception as error:  # a defect of a task fails its request alone, and says so
            took = time.monotonic() - started
            return Failed(type(error).__name__, first_line(error), False, 0.0, metered.cost(took))
        took = time.monotonic() - started
        self.limiter.answered(took / max(1, metered.calls), request.candidate)
        return Scored(output.model_dump(mode="json"), metered.cost(took))


def _identity(request: Request) -> str:
    return digest([request.candidate, request.item, request.seed, request.sample])


async def price_of(task: Task, given: object, model: ChatModel) -> Price:
    """Return the upper price of one run of `task`."""
    upper, rate = await task.upper(given, model), model.price
    usage = Usage(upper.prompt_tokens, upper.completion_tokens)
    usd = None if rate is None else rate.of(usage)
    return Price(upper.calls, upper.prompt_tokens + upper.completion_tokens, usd)
