"""The scripted world as a chat model: one model is agent, selector, critic and repair, told apart by the prompt.

    model = TeamChat(world(seed=7))                                  # in process
    with FaultServer(served(world(seed=7), FLAKY)) as server: ...    # behind HTTP, failing now and then

Answers are functions of the world and of the call, faults of the call and of how often it was made: runs repeat.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

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
)  # fmt: skip
from plait.records import JSON, canonical, digest
from plait.tests.fault_server import Step, answer, completion, hang, status
from plait.tests.scripted_team import World, uniform
from plait.tests.scripted_team_critic import STEADY, Habits, Poison, critique, poisoned, repair
from plait.tests.scripted_team_play import called, select
from plait.tests.scripted_team_reading import (
    aim_of,
    asked,
    call_of,
    choice_of,
    kind_of,
    said,
    team_of,
    wrong_of,
)  # fmt: skip

Fault: TypeAlias = Literal["error", "limited", "hang", "empty"]


@dataclass(frozen=True, slots=True)
class Faults:
    """How often calls fail, each a share of them, by content and by how often that content was asked.

    Attributes:
        error: A 500.
        limited: A 429 that asks to wait `wait` seconds.
        hang: No answer at all.
        empty: An answer without text.
        stuck: Contents that always fail with a 500, however often they are asked.
        wait: Seconds.
    """

    error: float = 0.0
    limited: float = 0.0
    hang: float = 0.0
    empty: float = 0.0
    stuck: float = 0.0
    wait: float = 0.01

    def of(self, key: str, attempt: int) -> Fault | None:
        """Return what befalls the `attempt`-th call (from 0) of this content."""
        if uniform("stuck", key) < self.stuck:
            return "error"
        draw = uniform("fault", key, attempt)
        shares: tuple[tuple[Fault, float], ...] = (
            ("error", self.error), ("limited", self.limited), ("hang", self.hang), ("empty", self.empty),
        )  # fmt: skip
        for fault, share in shares:
            if draw < share:
                return fault
            draw -= share
        return None


SOUND = Faults()
FLAKY = Faults(error=0.05, limited=0.03, hang=0.01, empty=0.02)


@dataclass(frozen=True)
class Script:
    """What the model answers.

    Attributes:
        world: Whose agents it plays.
        habits: Of its repairs.
        poison: The harm that its patches do, where it is a poisoner; None where it is not.
    """

    world: World
    habits: Habits = STEADY
    poison: Poison | None = None

    def respond(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> str:
        """Return the answer to a call.

        Raises:
            CallFailed: an agent is asked a question that is none of this world's.
        """
        prompt, draw = asked(messages), sampling.seed if sampling.temperature else ""
        kind = kind_of(messages)
        if kind == "agent":
            return self._agent(prompt, draw)
        if kind == "select":
            return self._select(prompt)
        if kind == "choose":
            return json.dumps({"reason": "the first is as good as any", "answer": 1})
        if kind == "critique":
            scope, wrong = wrong_of(self.world, prompt)
            read = critique(self.world, wrong, scope)
            return json.dumps({"critique": read["text"], "findings": read["findings"]})
        key = digest([list(messages), draw])  # asked again, it thinks again
        aim = aim_of(prompt)
        if not aim.text:  # no critique has read the passes: the repair does, where it is shown any
            _, wrong = wrong_of(self.world, prompt)
            aim = replace(aim, text=str(critique(self.world, wrong, aim.layer)["text"]))
        if self.poison is not None:
            return poisoned(self.world, team_of(prompt), aim, key, self.poison)
        return repair(self.world, team_of(prompt), aim, key, self.habits)

    def _agent(self, prompt: str, draw: object) -> str:
        quest = self.world.read(prompt)
        if quest is None:
            raise CallFailed("BadRequest", "no question of this world in the prompt", final=True)
        call = call_of(self.world, prompt, draw)
        right, lacks = called(self.world, quest, call)
        return said(self.world, right, quest.gold, quest.wrong, sorted(call.phrases), lacks)

    def _select(self, prompt: str) -> str:
        quest = self.world.read(prompt)
        if quest is None:
            raise CallFailed("BadRequest", "no question of this world in the prompt", final=True)
        task, blocks = choice_of(prompt)
        block = select(self.world, task, blocks, quest)
        return json.dumps({"reason": "its kind of question", "block": block.name})


class TeamChat:
    """The model in process; counts calls by kind, and faults."""

    def __init__(
        self, world: World, habits: Habits = STEADY, poison: Poison | None = None, faults: Faults = SOUND,
        *, name: str = "scripted-team", price: TokenPrice | None = None,
    ) -> None:  # fmt: skip
        self.script, self.faults = Script(world, habits, poison), faults
        self.name, self.price = name, price
        self.identity: JSON = {"scripted-team": repr(world), "habits": asdict(habits), "poison": poison}
        self.calls: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._attempts: Counter[str] = Counter()

    async def generate(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Reply:
        self.calls[kind_of(messages)] += 1
        fault = _fault(self.faults, self._attempts, messages, sampling)
        if fault is not None:
            self.failed[fault] += 1
            raise _failure(fault, self.faults)
        text = self.script.respond(messages, sampling)
        return Reply(text, "stop", Usage(await self.count_tokens(messages), len(text.split())), self.name)

    async def label_logprobs(self, messages: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        raise CallFailed("Unsupported", "a scripted team gives no log-probabilities", final=True)

    async def capabilities(self) -> Capabilities:
        return Capabilities(False, 0, True, False)

    async def count_tokens(self, messages: Sequence[Message]) -> int:
        return tokens_of(messages)

    async def close(self) -> None: ...


def tokens_of(messages: Sequence[Message]) -> int:
    """Return the words of a call, and two a message: what the model counts as tokens."""
    return sum(len(message["content"].split()) + 2 for message in messages)


def served(
    world: World, faults: Faults = SOUND, habits: Habits = STEADY, poison: Poison | None = None
) -> Callable[[int, dict[str, Any]], Step]:
    """Return the model as a script for `FaultServer`; hangs never end, so callers need a clock of their own."""
    script, attempts = Script(world, habits, poison), Counter[str]()

    def step(_: int, body: dict[str, Any]) -> Step:
        messages: list[Message] = body["messages"]
        sampling = Sampling(body.get("temperature", 1.0), seed=body.get("seed"))
        fault = _fault(faults, attempts, messages, sampling)
        if fault == "hang":
            return hang()
        if fault == "error":
            return status(500)
        if fault == "limited":
            return status(429, retry_after=str(faults.wait))
        try:
            text = "" if fault == "empty" else script.respond(messages, sampling)
        except CallFailed as error:
            return status(400, error.detail)
        usage = {"prompt_tokens": tokens_of(messages), "completion_tokens": len(text.split())}
        return answer({**completion(text), "model": body["model"], "usage": usage})

    return step


def _fault(faults: Faults, attempts: Counter[str], messages: Sequence[Message], sampling: Sampling) -> Fault | None:
    key = digest([canonical(list(messages)), sampling.temperature, sampling.seed])
    attempts[key] += 1
    return faults.of(key, attempts[key] - 1)


def _failure(fault: Fault, faults: Faults) -> CallFailed:
    if fault == "limited":
        return CallFailed("RateLimited", "scripted", faults.wait)
    if fault == "hang":
        return CallFailed("Timeout", "scripted")
    return CallFailed("Empty", "scripted") if fault == "empty" else CallFailed("ServerError", "scripted")
