"""Results of training runs of scripted teams, as a run folder would hold them, made without graphs, models or a ledger.

The searches, the gate, the confirmation and all figures are the real ones; only what a call comes to is scripted
(scripted_team_play.py), and `failing` items give no score.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from html import unescape
from typing import Any

from plait.orchestrator.recipes.team_phases import Told, passes, profile_of, settled_splits
from plait.orchestrator.recipes.team_spec import TeamTrainSpec
from plait.orchestrator.recipes.team_stats import Measured, Search, controls_of, search_facts, summarise
from plait.records import Failed, Outcome, Trial, canonical
from plait.search.splits import Splits
from plait.search.textual import TextualSearch
from plait.search.textual_trials import Forward, TextualTrial
from plait.teams import TeamSpec
from plait.tests.scripted_team import World, world
from plait.tests.scripted_team_critic import Poison
from plait.tests.scripted_team_play import Player

TIMING: dict[str, Any] = {
    "seconds": 64.2, "host": "here", "versions": {"plait": "0.1.0"}, "spent": {},
    "counts": {"paid": 5100, "found": 820, "failed": 12, "repeated": 3, "lost": 0},
    "cost": {"calls": 5100.0, "tokens": 9.4e5, "prompt_tokens": 7.9e5, "completion_tokens": 1.5e5, "usd": 0.31},
}  # fmt: skip
KNOWN = world(seed=7, families=True)


@dataclass
class Play:
    """A scripted run.

    Attributes:
        world: What the agents are.
        start: The team to begin with; None for one of two blocks, chosen by a model.
        spec: Fields of the run's spec.
        poison: Makes the repairs harmful.
        failing: Share of the items on which every pass fails.
        confirms: Whether the run got as far as the confirm split.
    """

    world: World = KNOWN
    start: TeamSpec | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    poison: Poison | None = None
    failing: float = 0.0
    confirms: bool = True

    def result(self, **changes: Any) -> dict[str, Any]:
        """Return result.json of the run; `changes` are fields of it."""
        start = self.start or self.world.two_blocks("llm")
        given = {"train": 60, "validation": 120, "confirm": 200, "test": 100, "steps": 4, "data": "numbers.jsonl",
                 "model": "small-135m", "optimiser": "openai:large@https://host/v1", **self.spec}  # fmt: skip
        spec = TeamTrainSpec(team=start.model_dump(mode="json", exclude_defaults=True), **given)
        items = self.world.items(spec.train + spec.validation + spec.confirm + spec.test)
        player = Player(self.world, items, poison=self.poison)
        bad = {item.id for item in items[: int(self.failing * len(items))]}
        splits = settled_splits(spec, items, ())
        searches = {name: self._searched(spec, name, start, splits, player, bad) for name in spec.searches}
        measured = _measured(spec, start, searches, splits, player, bad) if self.confirms else Measured()
        notes = splits.notes(profile_of(spec, spec.profile).gate)
        summary = summarise(spec, start, searches[spec.profile], measured, notes=notes, stamp="")
        summary |= {"searches": [search_facts(one) for one in searches.values()], "headroom": None, "cut_short": []}
        made = {
            "schema": 1, "method": "team", "status": "SUCCEEDED", "stop_reason": "",
            "spec": json.loads(spec.model_dump_json(exclude={"run"})), "resolved": _resolved(spec, splits),
            "summary": summary, **changes,
        }  # fmt: skip
        kept: dict[str, Any] = json.loads(canonical(made))  # as it is read back from a folder
        return kept

    def _searched(
        self, spec: TeamTrainSpec, name: str, start: TeamSpec, splits: Splits, player: Player, bad: Collection[str]
    ) -> Search:
        search = TextualSearch(
            start, splits.train, splits.validation, profile_of(spec, name), spec.seed, spec.steps, lambda text: False
        )
        told: list[tuple[Trial, Outcome]] = []
        while not search.done:
            for trial in search.ask(64):
                told.append((trial, _outcome(player, trial.candidate, bad)))  # type: ignore[arg-type]
                search.tell(*told[-1])
        return Search(name, search, told)


def _measured(
    spec: TeamTrainSpec, start: TeamSpec, searches: dict[str, Search], splits: Splits, player: Player,
    bad: Collection[str],
) -> Measured:  # fmt: skip
    measured = Measured({"start": start, **{name: one.final for name, one in searches.items()}})
    measured.teams |= controls_of(spec, start, measured)
    for name, items in splits.parts():
        if name in ("confirm", "test") and items:
            measured.told[name] = {who: _told(player, team, items, bad) for who, team in measured.teams.items()}
            for who, team in controls_of(spec, start, measured, late=True).items():
                measured.teams[who] = team
                measured.told[name][who] = _told(player, team, items, bad)
    return measured


def _told(player: Player, team: TeamSpec, items: Sequence[str], bad: Collection[str]) -> Told:
    trials = passes("", team, items).search.ask(len(items))
    return [(trial, _outcome(player, trial.candidate, bad)) for trial in trials]  # type: ignore[arg-type]


def _outcome(player: Player, trial: TextualTrial, bad: Collection[str]) -> Outcome:
    if isinstance(trial, Forward) and trial.item in bad:
        return Failed("Timeout", "no answer within 60 s")
    return player.evaluate(trial)


def _resolved(spec: TeamTrainSpec, splits: Splits) -> dict[str, Any]:
    models = {"": {"name": spec.model, "model_hash": "ab" * 32, "parameters": 134_515_008, "dtype": "float32",
                   "device": "cpu"},
              "optimiser": {"name": spec.optimiser or spec.model}}  # fmt: skip
    sizes = {name: len(items) for name, items in splits.parts()}
    return {"models": models, "start": "", "prompts": "cd" * 32, "data_sha256": "ef" * 32, "splits": sizes}


def text_of(page: str) -> str:
    """The words of a page as a reader sees them, folded or not."""
    page = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def section(page: str, title: str) -> str:
    """The part of a page under a heading."""
    return page[page.index(f"<h2>{title}</h2>") :].split("<h2>")[1]
