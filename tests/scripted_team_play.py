"""Scripted teams played without graphs, prompts or models: a pass of a team in microseconds, and its trace.

`Player` answers the trials of a search over teams (search/textual_trials.py) directly. What an agent comes to has the
odds of scripted_team_odds.py, call by call; the same world behind prompts is in scripted_team_chat.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from plait.records import JSON
from plait.teams import AgentSpec, Block, LayerSpec, TeamSpec
from plait.tests.scripted_team import Phrases, Quest, World, uniform
from plait.tests.scripted_team_odds import majority, suited, told


@dataclass(frozen=True, slots=True)
class Said:
    """What one call came to: who made it, the answer, the phrases it was written with, and what it lacked if wrong."""

    layer: str
    block: str
    agent: str
    answer: int
    right: bool
    phrases: Phrases
    lacks: int | None


@dataclass(frozen=True)
class Played:
    """A pass of a team on a question."""

    final: Said
    said: tuple[Said, ...]
    path: int
    chosen: Mapping[str, str]
    selections: int = 0

    @property
    def right(self) -> bool:
        """Whether the team answered rightly."""
        return self.final.right

    def values(self) -> dict[str, JSON]:
        """Return what `Forward` asks for."""
        calls = len(self.said) + self.selections
        layers = {name: self._layer(name) for name in self.chosen}
        rest = {"tokens": 60 * calls, "path": self.path, "unparsed": 0, "answer": str(self.final.answer)}
        return {"score": float(self.right), "calls": calls, **rest, "layers": layers}

    def _layer(self, name: str) -> dict[str, JSON]:
        said = [one for one in self.said if one.layer == name]
        disagree = len({one.answer for one in said}) > 1
        counts = {"agents": len(said), "unparsed": 0, "disagree": disagree}
        return {"block": self.chosen[name], "bad_selection": False, **counts}


@dataclass(frozen=True, slots=True)
class _Pass:
    world: World
    quest: Quest
    sample: int
    resample: str
    drafts: dict[str, Said] = field(default_factory=dict)


def play(world: World, team: TeamSpec, quest: Quest, sample: int = 0, resample: str = "") -> Played:
    """Return what `team` does on `quest`."""
    run = _Pass(world, quest, sample, resample)
    said: list[Said] = []
    chosen: dict[str, str] = {}
    path = selections = 0
    for layer in team.layers:
        block, asked = choose(world, layer, quest)
        spoken = _block(run, layer, block, [run.drafts[name] for name in team.read_by(layer)])
        run.drafts[layer.name] = _combined(block, spoken)
        chosen[layer.name] = block.name
        said += spoken
        selections += asked
        path += asked + (len(spoken) if block.aggregate.kind == "chain" else 1)
    return Played(run.drafts[team.layers[-1].name], tuple(said), path, chosen, selections)


def choose(world: World, layer: LayerSpec, quest: Quest) -> tuple[Block, bool]:
    """Return the block that runs, and whether a model was asked for it."""
    if layer.selector == "static" or len(layer.blocks) == 1:
        return layer.fallback, False
    draw = uniform(world.seed, "choose", layer.name, quest.index)
    if layer.selector == "random":
        return layer.blocks[int(draw * len(layer.blocks))], False
    suits = suited(layer, quest.family)
    if layer.selector == "rule":
        return suits or layer.fallback, False
    if uniform(world.seed, "selects", layer.task, quest.index) >= world.selector:
        return layer.blocks[int(draw * len(layer.blocks))], True
    return suits or min(layer.blocks, key=lambda block: block.name), True


def _block(run: _Pass, layer: LayerSpec, block: Block, drafts: Sequence[Said]) -> list[Said]:
    spoken: list[Said] = []
    for agent in block.agents:
        read = [*drafts, *spoken] if block.aggregate.kind == "chain" else list(drafts)
        for draw in range(agent.n):
            spoken.append(_say(run, layer, block, agent, read, draw))
    return spoken


def _say(run: _Pass, layer: LayerSpec, block: Block, agent: AgentSpec, drafts: Sequence[Said], draw: int) -> Said:
    """Return one call's answer; at temperature 0 equal prompts come to equal answers, whatever the sample."""
    world, quest = run.world, run.quest
    who = f"{agent.role}. {agent.instructions}"
    phrases = world.found(told(layer, agent)).union(*(draft.phrases for draft in drafts))
    p = world.p(phrases, quest.family, who, bool(drafts))
    key: tuple[object, ...] = (who, layer.task, *(f"{draft.answer} {sorted(draft.phrases)}" for draft in drafts))
    if agent.temperature:
        key = (*key, draw, run.sample + (run.resample == layer.name))
    right = world.right(quest, p, *key)
    lacks = None if right else world.lacks(phrases, world.checks(who, bool(drafts)), quest.index, *key)
    answer = quest.gold if right else quest.wrong
    return Said(layer.name, block.name, agent.name, answer, right, phrases, lacks)


def _combined(block: Block, spoken: Sequence[Said]) -> Said:
    kind = block.aggregate.kind
    assert kind in ("single", "chain", "majority"), (
        f"scripted teams combine by single, chain and majority, not by {kind}"
    )
    return spoken[majority([one.answer for one in spoken])] if kind == "majority" else spoken[-1]
