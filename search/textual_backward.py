"""The backward pass: training passes, blame by replay, critiques. Pure; what critiques are worth, the gate finds out.

Source: ANN, arXiv 2506.09046; specs/ann, sections 2.2 and 9.4.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from ..records import JSON, Scored
from ..teams import TeamSpec
from .textual_aim import read_findings, sampled
from .textual_profiles import TextualProfile
from .textual_records import Pass, Passes, Program
from .textual_trials import Critique, Finding, Forward

SHOWN = 8
"""Training passes that a critique reads at most, failures first."""


@dataclass
class Batch:
    """A team's passes of a step's training items.

    Attributes:
        team: Who.
        items: All items, those without a score too.
        sample: Draw of each.
        passes: By item, those that have a score.
    """

    team: TeamSpec
    items: tuple[str, ...]
    sample: int
    passes: dict[str, Pass] = field(default_factory=dict)

    @property
    def failing(self) -> list[str]:
        """Items answered less than right."""
        return [item for item, found in self.passes.items() if found.score < 1]

    @property
    def score(self) -> float | None:
        """The mean; None where nothing has a score."""
        return fmean(found.score for found in self.passes.values()) if self.passes else None

    @property
    def shown(self) -> tuple[tuple[str, int], ...]:
        """What critiques read: failures first."""
        failing = self.failing
        right = [item for item in self.passes if item not in failing]
        return tuple((item, self.sample) for item in [*failing, *right][:SHOWN])


@dataclass
class Critiques:
    """What a step's critiques said.

    Attributes:
        asked: Scopes, "" being the whole team.
        overall: The global critique; "" where there is none.
        local: By layer.
        findings: Of all, the global ones first.
        failed: Critiques that gave no answer.
    """

    asked: tuple[str, ...] = ()
    overall: str = ""
    local: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    failed: int = 0


@dataclass
class Training:
    """The training items, and how each was last answered.

    Attributes:
        items: Their ids.
        last: Latest score of each that has one, by whichever team.
    """

    items: tuple[str, ...]
    last: dict[str, float] = field(default_factory=dict)

    def draw(self, profile: TextualProfile, rng: random.Random) -> tuple[str, ...]:
        """Return a step's items: the profile's share of them last answered wrong, as far as there are any."""
        if profile.batch is None or profile.batch >= len(self.items):
            return self.items
        wrong = [item for item in self.items if self.last.get(item, 1.0) < 1]
        chosen = rng.sample(wrong, min(len(wrong), round(profile.batch * profile.failures)))
        rest = [item for item in self.items if item not in set(chosen)]
        return (*chosen, *rng.sample(rest, profile.batch - len(chosen)))

    def run(self, passes: Passes, batch: Batch) -> Program[None]:
        """Run the batch's team on its items."""
        yield from passes.run(Forward(batch.team, item, batch.sample) for item in batch.items)
        found = {item: passes.get(batch.team, item, batch.sample) for item in batch.items}
        batch.passes = {item: one for item, one in found.items() if one}
        self.last |= {item: one.score for item, one in batch.passes.items()}


def blame(passes: Passes, batch: Batch) -> Program[dict[str, float | None]]:
    """Return of each layer the share of failures that another output of it betters; None where that is not known.

    That output is a new draw of the layer, where it is sampled, or what a team that was right on the item made of it.
    A single layer is at fault without a replay.
    """
    replays = _drawn_again(batch) + _donated(passes, batch)
    yield from passes.run(replays)
    turned: dict[str, dict[str, bool]] = {layer.name: {} for layer in batch.team.layers}
    for trial in replays:
        if again := passes.of(trial):
            items = turned[trial.resample]
            better = again.score > batch.passes[trial.item].score
            items[trial.item] = better or items.get(trial.item, False)
    return {layer: fmean(items.values()) if items else None for layer, items in turned.items()}


def _drawn_again(batch: Batch) -> list[Forward]:
    """Return the failing passes, each sampled layer's agents drawn anew in turn."""
    team = batch.team
    layers = [layer.name for layer in team.layers if sampled(layer) and len(team.layers) > 1]
    return [Forward(team, item, batch.sample, layer) for layer in layers for item in batch.failing]


def _donated(passes: Passes, batch: Batch) -> list[Forward]:
    """Return the failing passes, each layer's output in turn that of the first other team that was right on the item.

    Not the last layer's: that would be the answer itself.
    """
    wanted = [(layer.name, item) for layer in batch.team.layers[:-1] for item in batch.failing]
    found = [(layer, item, passes.donor(batch.team, item, layer)) for layer, item in wanted]
    return [Forward(batch.team, item, batch.sample, layer, one.team, one.sample) for layer, item, one in found if one]


def statistics(batch: Batch, blamed: Mapping[str, float | None]) -> dict[str, JSON]:
    """Return what is known of each layer: agents, unparsed, disagreement, bad selections, blocks, passes, blame."""
    table: dict[str, JSON] = {}
    for layer in batch.team.layers:
        rows = [(found, found.layers.get(layer.name) or {}) for found in batch.passes.values()]
        counts = ("agents", "unparsed", "disagree", "bad_selection")
        row: dict[str, JSON] = {name: sum(float(one.get(name) or 0) for _, one in rows) for name in counts}
        chosen: dict[str, list[float]] = {}
        for found, one in rows:
            chosen.setdefault(str(one.get("block") or ""), []).append(found.score)
        row["blocks"] = {block: {"chosen": len(all_), "score": fmean(all_)} for block, all_ in chosen.items() if block}
        row["passes"] = len(rows)
        if (share := blamed.get(layer.name)) is not None:
            row["blame"] = share
        table[layer.name] = row
    return table


def criticise(
    profile: TextualProfile, batch: Batch, blamed: Mapping[str, float | None], step: int, only: str = ""
) -> Program[Critiques]:
    """Ask for the global critique and one of each layer that may be at fault, all at once.

    Args:
        profile: Which critiques there are.
        batch: What they read.
        blamed: From `blame`.
        step: Of the run.
        only: The one layer to criticise; "" for all that may be at fault.
    """
    table = statistics(batch, blamed)
    layers = [layer.name for layer in batch.team.layers if only in {"", layer.name}]
    layers = layers if profile.reads_layers(len(batch.team.layers)) else []
    at_fault = [layer for layer in layers if blamed.get(layer) != 0 or table[layer]["unparsed"]]
    scopes = ([""] if profile.whole else []) + at_fault
    if not scopes:
        return Critiques()
    tables = {scope: {scope: table[scope]} if scope else table for scope in scopes}
    outcomes = yield [Critique(batch.team, scope, batch.shown, tables[scope], step) for scope in scopes]
    said = Critiques(tuple(scopes))
    for scope, outcome in zip(scopes, outcomes, strict=True):
        if not isinstance(outcome, Scored):
            said.failed += 1
            continue
        found = read_findings(outcome.values, scope, batch.team)
        said.findings += found
        text = str(outcome.values.get("text") or "") or "; ".join(finding.text for finding in found)
        if scope:
            said.local[scope] = text
        else:
            said.overall = text
    return said
