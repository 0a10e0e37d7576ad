"""Scripted teams played without graphs, prompts or models: a pass of a team in microseconds, and its trace.

`Player` answers the trials of a search over teams (search/textual_trials.py) directly. What an agent comes to has the
odds of scripted_team_odds.py, call by call; the same world behind prompts is in scripted_team_chat.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from plait.agents.teams.items import TaskItem
from plait.records import JSON, Outcome, Scored
from plait.search.base import Search
from plait.search.textual_trials import Critique, Forward, Repair, TextualTrial
from plait.teams import AgentSpec, Block, LayerSpec, TeamSpec
from plait.tests.scripted_team import Advice, Phrases, Quest, World, uniform
from plait.tests.scripted_team_critic import STEADY, Aim, Habits, Poison, critique, poisoned, read_patch, repair
from plait.tests.scripted_team_odds import majority, preferred, seats, suited, told


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
    drafts: Mapping[str, Said] = field(default_factory=dict)
    """What each layer came to."""

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


def play(
    world: World, team: TeamSpec, quest: Quest, sample: int = 0, resample: str = "", donated: Said | None = None
) -> Played:
    """Return what `team` does on `quest`; the layer `resample` does not run where its output is `donated`."""
    run = _Pass(world, quest, sample, resample)
    said: list[Said] = []
    chosen: dict[str, str] = {}
    path = selections = 0
    for layer in team.layers:
        if donated and layer.name == resample:
            run.drafts[layer.name] = donated
            continue
        block, asked = choose(world, layer, quest)
        spoken = _block(run, layer, block, [run.drafts[name] for name in team.read_by(layer)])
        run.drafts[layer.name] = _combined(block, spoken)
        chosen[layer.name] = block.name
        said += spoken
        selections += asked
        path += asked + (len(spoken) if block.aggregate.kind == "chain" else 1)
    return Played(run.drafts[team.layers[-1].name], tuple(said), path, chosen, selections, run.drafts)


def choose(world: World, layer: LayerSpec, quest: Quest) -> tuple[Block, bool]:
    """Return the block that runs, and whether a model was asked for it."""
    if layer.selector == "static" or len(layer.blocks) == 1:
        return layer.fallback, False
    if layer.selector == "random":
        draw = uniform(world.seed, "choose", layer.name, quest.index)
        return layer.blocks[int(draw * len(layer.blocks))], False
    if layer.selector == "rule":
        return suited(layer.blocks, quest.family) or layer.fallback, False
    return select(world, layer.task, layer.blocks, quest), True


def select(world: World, task: str, blocks: Sequence[Block], quest: Quest) -> Block:
    """Return the block that a model chooses: what suits, as often as the world's selectors are right."""
    if uniform(world.seed, "selects", task, quest.index) < world.selector:
        return preferred(blocks, quest.family)
    ordered = sorted(blocks, key=lambda block: block.name)
    return ordered[int(uniform(world.seed, "choose", task, quest.index) * len(ordered))]


@dataclass(frozen=True, slots=True)
class Draft:
    """What a call reads of one before it."""

    answer: int
    phrases: Phrases


@dataclass(frozen=True, slots=True)
class Call:
    """What one call depends on: who is asked, with which advice, reading what, which draw."""

    role: str
    own: Advice
    drafts: tuple[Draft, ...] = ()
    draw: object = ""

    @property
    def phrases(self) -> Phrases:
        """The phrases that count: its own and those of the drafts."""
        own = frozenset(phrase for phrase, _ in self.own)
        return own.union(*(draft.phrases for draft in self.drafts))

    @property
    def key(self) -> tuple[object, ...]:
        """What the call's part of the luck is drawn by."""
        return (self.role, self.own, *((one.answer, sorted(one.phrases)) for one in self.drafts), self.draw)


def called(world: World, quest: Quest, call: Call) -> tuple[bool, int | None]:
    """Return whether a call answers rightly, and what it lacked if not."""
    p = world.p(call.phrases, quest.family, call.role, bool(call.drafts))
    if world.right(quest, p, *call.key):
        return True, None
    checked = world.checks(call.role, bool(call.drafts))
    return False, world.lacks(call.phrases, checked, quest.index, *call.key)


def _block(run: _Pass, layer: LayerSpec, block: Block, drafts: Sequence[Said]) -> list[Said]:
    spoken: list[Said] = []
    for agent, draws in seats(block):
        read = [*drafts, *spoken] if block.aggregate.kind == "chain" else drafts
        spoken += [_say(run, layer, block, agent, read, draw) for draw in range(draws)]
    return spoken


def _say(run: _Pass, layer: LayerSpec, block: Block, agent: AgentSpec, read: Sequence[Said], draw: int) -> Said:
    """Return one call's answer; at temperature 0 equal calls come to equal answers, whatever the sample."""
    drafts = tuple(dict.fromkeys(Draft(one.answer, one.phrases) for one in read))
    drawn = (draw, run.sample + (run.resample == layer.name)) if agent.temperature else ""
    call = Call(agent.role, run.world.found(told(layer, agent)), drafts, drawn)
    right, lacks = called(run.world, run.quest, call)
    answer = run.quest.gold if right else run.quest.wrong
    return Said(layer.name, block.name, agent.name, answer, right, call.phrases, lacks)


def _combined(block: Block, spoken: Sequence[Said]) -> Said:
    kind = block.aggregate.kind
    assert kind in ("single", "chain", "majority"), (
        f"scripted teams combine by single, chain and majority, not by {kind}"
    )
    return spoken[majority([one.answer for one in spoken])] if kind == "majority" else spoken[-1]


class Player:
    """Answers the trials of a search over teams, one world's items behind them.

    Attributes:
        forwards: Passes played so far, each once however often it is asked for.
    """

    def __init__(
        self, world: World, items: Sequence[TaskItem], habits: Habits = STEADY, poison: Poison | None = None
    ) -> None:
        self.world, self.habits, self.poison = world, habits, poison
        self.quests = {item.id: quest for item, quest in zip(items, world.quests(items), strict=True)}
        self.forwards = 0

    def evaluate(self, trial: TextualTrial) -> Outcome:
        """Return the outcome of a trial."""
        if isinstance(trial, Forward):
            self.forwards += 1
            return Scored(self._passed(trial).values())
        if isinstance(trial, Critique):
            return Scored(critique(self.world, self._wrong(trial), trial.scope))
        return Scored(read_patch(self._repair(trial)))

    def run(self, search: Search, at_once: int = 64) -> Search:
        """Run a search to its end."""
        while not search.done:
            for trial in search.ask(at_once):
                assert isinstance(trial.candidate, Forward | Critique | Repair)
                search.tell(trial, self.evaluate(trial.candidate))
        return search

    def accuracy(self, team: TeamSpec, items: Sequence[str]) -> float:
        """Return the share of `items`, by id, that `team` answers rightly."""
        return sum(self._play(team, item).right for item in items) / len(items)

    def _play(self, team: TeamSpec, item: str, sample: int = 0) -> Played:
        return play(self.world, team, self.quests[item], sample)

    def _passed(self, trial: Forward) -> Played:
        quest, given = self.quests[trial.item], None
        if trial.donor is not None:
            given = play(self.world, trial.donor, quest, trial.donor_sample).drafts[trial.resample]
        return play(self.world, trial.team, quest, trial.sample, trial.resample, given)

    def _wrong(self, trial: Critique | Repair) -> list[tuple[str, str, int | None]]:
        """Return the wrong answers of the passes shown: of a chain's agents the last, whose answer it was."""
        rows = []
        for item, sample in trial.shown:
            played = self._play(trial.team, item, sample)
            if not played.right:
                ends = last_words(trial.team)
                said = [one for one in played.said if not one.right and (one.layer, one.agent) in ends]
                rows += [(one.layer, one.agent, one.lacks) for one in said]
        return rows

    def aim(self, trial: Repair) -> Aim:
        """Return what a repair is aimed at: what was found, or else what it reads in the passes that it is shown."""
        finding = trial.finding
        text = finding.text or str(critique(self.world, self._wrong(trial), finding.layer)["text"])
        return Aim(finding.layer, finding.agent, finding.kind, text)

    def _repair(self, trial: Repair) -> str:
        aim = self.aim(trial)
        key = f"{trial.team.hash} {trial.index} {trial.attempt}"
        if self.poison:
            return poisoned(self.world, trial.team, aim, key, self.poison, trial.index)
        return repair(self.world, trial.team, aim, key, self.habits)


def last_words(team: TeamSpec) -> set[tuple[str, str]]:
    """Return layer and name of the agents whose answers are a block's own: all, but in a chain the last alone."""
    ends = set()
    for layer in team.layers:
        for block in layer.blocks:
            agents = block.agents[-1:] if block.aggregate.kind == "chain" else block.agents
            ends |= {(layer.name, agent.name) for agent in agents}
    return ends
