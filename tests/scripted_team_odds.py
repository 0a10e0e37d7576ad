"""How often a scripted team is right, exactly: a sum over all that its calls may come to. Nothing is drawn.

Given a question's part of the luck, calls are independent, so what a layer comes to is a short list of cases, each
with its probability. Luck may be one number or an array of them. Must not know prompts, models or searches.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from plait.teams import AgentSpec, Block, LayerSpec, TeamSpec
from plait.tests.scripted_team import FAMILIES, Luck, Phrases, World, threshold


@dataclass(frozen=True)
class Case:
    """One thing that a layer may come to.

    Attributes:
        odds: How likely it is, for each luck.
        right: Whether the answer is right.
        phrases: What it was written with.
    """

    odds: Any
    right: bool
    phrases: Phrases


def chance(world: World, team: TeamSpec, family: str, luck: Luck) -> Any:
    """Return how often `team` is right on questions of `family` with this luck, in the shape of `luck`."""
    states: list[tuple[Any, dict[str, Case]]] = [(np.ones_like(np.asarray(luck, dtype=float)), {})]
    for layer in team.layers:
        grown = []
        for odds, done in states:
            drafts = [done[name].phrases for name in team.read_by(layer)]
            for case in layer_cases(world, layer, family, luck, drafts):
                grown.append((odds * case.odds, {**done, layer.name: case}))
        states = grown
    last = team.layers[-1].name
    return sum(odds for odds, done in states if done[last].right) + np.zeros_like(np.asarray(luck, dtype=float))


def layer_cases(world: World, layer: LayerSpec, family: str, luck: Luck, drafts: Sequence[Phrases]) -> list[Case]:
    """Return what a layer may come to: over the blocks that may be chosen, and their agents' luck."""
    cases = []
    for share, block in choices(world, layer, family):
        for case in block_cases(world, layer, block, family, luck, drafts):
            cases.append(Case(share * case.odds, case.right, case.phrases))
    return cases


def choices(world: World, layer: LayerSpec, family: str) -> list[tuple[float, Block]]:
    """Return the blocks that may run, with how often each does."""
    blocks = list(layer.blocks)
    if layer.selector == "static" or len(blocks) == 1:
        return [(1.0, layer.fallback)]
    if layer.selector == "random":
        return [(1 / len(blocks), block) for block in blocks]
    if layer.selector == "rule":
        return [(1.0, suited(blocks, family) or layer.fallback)]
    chosen = preferred(blocks, family)
    rest = (1 - world.selector) / len(blocks)
    return [(rest + (world.selector if block is chosen else 0.0), block) for block in blocks]


def suited(blocks: Sequence[Block], family: str) -> Block | None:
    """Return the first block whose `when` names what the questions of `family` are about."""
    return next((block for block in blocks if FAMILIES[family][0] in block.when.lower().split()), None)


def preferred(blocks: Sequence[Block], family: str) -> Block:
    """Return the block that a model chooses, in whatever order it is shown them."""
    ordered = sorted(blocks, key=lambda block: block.name)
    return suited(ordered, family) or ordered[0]


def block_cases(
    world: World, layer: LayerSpec, block: Block, family: str, luck: Luck, drafts: Sequence[Phrases]
) -> list[Case]:
    """Return what a block may come to."""
    kind = block.aggregate.kind
    seen = list(drafts)
    members: list[tuple[Any, Phrases]] = []
    for agent, draws in seats(block):
        one = member(world, layer, agent, family, luck, seen)
        members += [one] * draws
        if kind == "chain":
            seen.append(one[1])
    if kind in ("single", "chain"):
        right, phrases = members[-1]
        return [Case(right, True, phrases), Case(1 - right, False, phrases)]
    assert kind == "majority", f"scripted teams combine by single, chain and majority, not by {kind}"
    cases = []
    for votes in product((True, False), repeat=len(members)):
        odds = np.ones_like(np.asarray(luck, dtype=float))
        for vote, (right, _) in zip(votes, members, strict=True):
            odds = odds * (right if vote else 1 - right)
        won = majority(votes)
        cases.append(Case(odds, votes[won], members[won][1]))
    return cases


def seats(block: Block) -> list[tuple[AgentSpec, int]]:
    """Return the agents that take part, with how many answers each gives."""
    kind = block.aggregate.kind
    if kind == "majority":
        return [(agent, agent.n) for agent in block.agents]
    return [(agent, 1) for agent in (block.agents if kind == "chain" else block.agents[:1])]


def member(
    world: World, layer: LayerSpec, agent: AgentSpec, family: str, luck: Luck, drafts: Sequence[Phrases]
) -> tuple[Any, Phrases]:
    """Return how often one agent is right, and the phrases that it writes with."""
    own = frozenset(phrase for phrase, _ in world.found(told(layer, agent)))
    phrases = own.union(*drafts)
    p = world.p(phrases, family, agent.role, bool(drafts))
    return np.clip(threshold(p) - np.asarray(luck, dtype=float), 0.0, 1.0), phrases


def told(layer: LayerSpec, agent: AgentSpec) -> str:
    """Return what an agent is told that may hold phrases."""
    return f"{agent.role}. {agent.instructions}. {layer.task}"


def majority(votes: Sequence[object]) -> int:
    """Return the place of the first of those that say what most say; among equals, what was said first."""
    counts = Counter(votes)
    return votes.index(max(counts, key=lambda value: (counts[value], -votes.index(value))))
