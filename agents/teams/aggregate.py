"""How the outputs of a block become one, and what that may take: votes, filters and choices over typed outputs.

`combined` is pure; the calls that an aggregator makes (a choice, a synthesis, a debate) are nodes like any other and
arrive here as outputs. Knows outputs of agents; must not know graphs of items, ledgers or models' names.

Source: ANN, arXiv 2506.09046, names majority votes, chains and tool pipelines; the closed set is ours.
"""

import ast
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from ...graphs import Free
from ...records import JSON
from ...teams import Block, Combine, LayerSpec, TeamSpec
from .agent import Said

Calls = tuple[int, int]
"""The least and the most calls of models; running programs is none."""
TRIES = 2
"""Calls of one agent's output at most: the second where the first could not be read."""


class Outputs(BaseModel):
    """What a block's agents said, in their order, and what was made of it."""

    model_config = ConfigDict(frozen=True)

    said: tuple[Said, ...]
    passed: tuple[bool, ...] = ()
    """Of a filter: whether each program passed the visible examples; () where there was nothing to pass."""
    chosen: int = 0
    """Of a choice: the place of the chosen output."""
    synthesis: Said | None = None
    """The text that was written over all outputs."""


class Combined(BaseModel):
    """What a block came to: the value, None where nothing could be read, and the text that goes on to later layers."""

    model_config = ConfigDict(frozen=True)

    text: str
    value: str | None
    votes: dict[str, int] = {}
    """How often each value was said; empty where outputs cannot be compared."""
    tie: bool = False
    """Whether two values had most votes; the earlier agent's was taken."""
    distinct: bool = False
    """Whether two or more agents said something that could be read, and no two of them the same."""
    unparsed: int = 0
    """Outputs without a value: they voted for nothing."""
    agents: int = 1
    """Outputs that took part."""


class Vote(NamedTuple):
    """A count: the place of the winner's first voter (None without any vote), the counts, whether it was a tie."""

    first: int | None
    votes: dict[str, int]
    tie: bool
    distinct: bool


def majority(values: Sequence[str | None]) -> Vote:
    """Return the commonest value, among equals that of the earliest agent; None votes for nothing.

    >>> majority(["7", "8", None, "8"]).first
    1
    """
    votes = Counter(value for value in values if value is not None)
    if not votes:
        return Vote(None, {}, False, False)
    most = max(votes.values())
    leaders = [value for value, count in votes.items() if count == most]  # in the order in which they were first said
    distinct = len(votes) > 1 and most == 1
    return Vote(list(values).index(leaders[0]), dict(votes), len(leaders) > 1, distinct)


def combined(kind: Combine, given: Outputs, *, counted: bool = True) -> Combined:
    """Return what a block comes to.

    Args:
        kind: The aggregator.
        given: The outputs, one or more.
        counted: Whether they can be compared: all of one schema, and no free text.
    """
    said = given.said
    compared: list[str | None] = [_vote(one.value) for one in said]
    if kind == "code_filter":
        kept = given.passed if any(given.passed) else (True,) * len(said)
        compared = [_same_program(one) if one and ok else None for one, ok in zip(compared, kept, strict=True)]
    vote = majority(compared if counted else [])
    unparsed = sum(one.value is None for one in said)
    place = {"chain": len(said) - 1, "best_of": given.chosen}.get(kind, vote.first or 0)
    winner = said[place]
    if given.synthesis is not None:
        winner, unparsed = given.synthesis, unparsed + (given.synthesis.value is None)
    return Combined(
        text=winner.text, value=winner.value, votes=vote.votes, tie=vote.tie, distinct=vote.distinct,
        unparsed=unparsed, agents=len(said),
    )  # fmt: skip


def _vote(value: str | None) -> str | None:
    """Return what a value counts as: 45 % and 45 are one vote."""
    return value and re.sub(r"\A(-?\d+(?:\.\d+)?)%\Z", r"\1", value)


def _same_program(source: str) -> str:
    """Return a program without comments and layout: programs that differ in nothing else are one vote."""
    try:
        return ast.unparse(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError):
        return source


@dataclass(frozen=True)
class CombineOutputs(Free):
    """Makes one output of a block's; free."""

    kind: Combine
    counted: bool = True
    name: ClassVar[str] = "team-combine"
    version: ClassVar[int] = 2
    output: ClassVar[type[BaseModel]] = Combined

    @property
    def spec(self) -> JSON:
        """The aggregator, and whether outputs are compared."""
        return [self.kind, self.counted]

    async def run(self, given: Outputs, model: object, seed: int) -> Combined:
        """Return what the outputs come to."""
        return combined(self.kind, given, counted=self.counted)


def outputs_of(block: Block) -> int:
    """Return how many outputs take part at first: every sample of every agent, in a chain each agent once."""
    if block.aggregate.kind == "single":
        return 1
    return len(block.agents) if block.aggregate.kind == "chain" else sum(agent.n for agent in block.agents)


def calls_per_item(block: Block) -> Calls:
    """Return the least and the most calls that a block makes for one item.

    >>> from plait.teams import AgentSpec, Block
    >>> calls_per_item(Block(name="one", agents=(AgentSpec(name="solver"),)))
    (1, 2)
    """
    first, aggregate = outputs_of(block), block.aggregate
    if aggregate.kind == "best_of":  # not asked where all agree, and never twice
        return first, TRIES * first + (first > 1)
    if aggregate.kind == "debate":  # a round in which nobody changes a word is its own answer: the next is found
        return 2 * first, TRIES * (1 + aggregate.rounds) * first
    least = first + (aggregate.kind == "synthesize")
    return least, TRIES * least


def layer_calls(layer: LayerSpec) -> Calls:
    """Return the least and the most calls that a layer makes for one item, its selector's among them."""
    if layer.selector == "static" or len(layer.blocks) == 1:
        return calls_per_item(layer.fallback)
    calls = [calls_per_item(block) for block in layer.blocks]
    selector = int(layer.selector == "llm")
    return selector + min(least for least, _ in calls), selector + max(most for _, most in calls)


def planned_calls(team: TeamSpec) -> Calls:
    """Return the least and the most calls that a team makes for one item; losses are not among them."""
    layers = [layer_calls(layer) for layer in team.layers]
    return sum(least for least, _ in layers), sum(most for _, most in layers)


__all__ = [
    "Calls", "CombineOutputs", "Combined", "Outputs", "Vote", "calls_per_item", "combined",
    "layer_calls", "majority", "outputs_of", "planned_calls",
]  # fmt: skip
