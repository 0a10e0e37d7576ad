"""What a search over teams knows: the passes it was told of, and a record of every step and edit. Pure."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

from ..records import JSON, Outcome, Scored
from ..teams import TeamSpec
from .gate import Answer
from .textual_trials import Finding, Forward, TextualTrial

R = TypeVar("R")
Program: TypeAlias = Generator[list[TextualTrial], list[Outcome], R]
"""A part of the search: it gives a phase's trials, is handed their outcomes in the same order, and comes to an R."""

Standing = Literal["open", "failed", "refused", "rejected", "undecidable", "passed", "pooled", "adopted"]


@dataclass
class EditRecord:
    """One proposal and what became of it.

    Attributes:
        step: Of the run, from 0.
        index: Which proposal of the run, from 0; -1 for a merge.
        finding: What it was aimed at.
        patch: Its edits and rationale as JSON; None where there was none, and for a merge.
        edits: The edits, a line each.
        again: Whether it passed, another was adopted, and it is judged again on that one.
        attempts: Times that repair was asked.
        verdict: `refused` (no valid patch), `failed` (no answer), `rejected`, `undecidable` (too many items without a
            score), `passed` (but another was adopted), `pooled`, `adopted`.
        refusal: Code of the last refusal; "" for none.
        why: The refusal, the failure or the verdict, in a line.
        wins: Validation items on which it beat the incumbent.
        losses: On which the incumbent beat it.
        ties: On which neither did.
        missing: That one of them had no score for.
        p: Of the sign test.
        look: Index of the last look at it; -1 where it was not judged.
        items: Validation items that both had a score for.
        child: Hash of the changed team; "" where there is none.
    """

    step: int
    index: int
    finding: Finding
    patch: JSON = None
    edits: tuple[str, ...] = ()
    again: bool = False
    attempts: int = 0
    verdict: Standing = "open"
    refusal: str = ""
    why: str = ""
    wins: int = 0
    losses: int = 0
    ties: int = 0
    missing: int = 0
    p: float = 1.0
    look: int = -1
    items: int = 0
    child: str = ""

    @property
    def lead(self) -> int:
        """Wins less losses."""
        return self.wins - self.losses

    def remembered(self) -> str:
        """Return what became of it as memory tells it."""
        if self.verdict in {"refused", "failed"} or self.look < 0:
            return f"{self.verdict}: {self.why}"
        if self.verdict == "undecidable":
            return f"undecided: {self.missing} of {self.missing + self.items} items without a score"
        name = {"adopted": "kept", "passed": "passed, another was better:"}.get(self.verdict, self.verdict)
        return f"{name} {self.lead:+d} of {self.items}"


@dataclass
class StepRecord:
    """One step: who was changed, on what evidence, and what came of it.

    Attributes:
        step: From 0.
        parent: Hash of the team that was changed.
        incumbent: Hash of the team to beat.
        batch: Training items that were read.
        score: The parent's mean on them; None where none has a score.
        blame: Of each layer, the share of failures that another output of it turned; None where it is not known.
        criticised: Scopes of the critiques asked for, "" being the whole team.
        edits: Every proposal.
        adopted: Hash of the new incumbent; "" where there is none.
        note: Why nothing was proposed; "" where something was.
    """

    step: int
    parent: str
    incumbent: str
    batch: tuple[str, ...] = ()
    score: float | None = None
    blame: dict[str, float | None] = field(default_factory=dict)
    criticised: tuple[str, ...] = ()
    edits: list[EditRecord] = field(default_factory=list)
    adopted: str = ""
    note: str = ""


_Place: TypeAlias = tuple[str, str, int, str, str, int]
"""What tells a pass from every other: `Forward`'s fields, its teams as hashes."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one team made of one item: the values of a `Forward`."""

    score: float
    tokens: int
    path: int
    unparsed: int
    layers: JSON

    @classmethod
    def of(cls, outcome: Outcome) -> "Pass | None":
        """Return the pass of an outcome; None where it failed."""
        if not isinstance(outcome, Scored) or "score" not in outcome.values:
            return None
        values = outcome.values
        tokens, path, unparsed = (int(values.get(name) or 0) for name in ("tokens", "path", "unparsed"))
        return cls(float(values["score"]), tokens, path, unparsed, values.get("layers") or {})


@dataclass
class Passes:
    """All passes told of: none is asked for twice, and one that failed stays without a score."""

    _known: dict[_Place, Pass | None] = field(default_factory=dict, init=False)
    _right: dict[str, list[Forward]] = field(default_factory=dict, init=False)
    failed: int = 0
    """Passes that gave no score."""

    def run(self, wanted: Iterable[Forward]) -> Program[None]:
        """Ask for those of `wanted` that are not known."""
        new = {_place(trial): trial for trial in wanted if _place(trial) not in self._known}
        if not new:
            return
        outcomes = yield list(new.values())
        for place, outcome in zip(new, outcomes, strict=True):
            found = self._known[place] = Pass.of(outcome)
            self.failed += found is None
            if found is not None and found.score >= 1 and not new[place].resample:
                self._right.setdefault(new[place].item, []).append(new[place])

    def get(self, team: TeamSpec, item: str, sample: int = 0) -> Pass | None:
        """Return a pass; None where it failed or was not asked for."""
        return self.of(Forward(team, item, sample))

    def of(self, trial: Forward) -> Pass | None:
        """Return what came of a trial; None where it failed or was not asked for."""
        return self._known.get(_place(trial))

    def donor(self, team: TeamSpec, item: str, layer: str) -> Forward | None:
        """Return the first pass told of in which another team that has such a layer was right on `item`."""
        others = (one for one in self._right.get(item, ()) if one.team.hash != team.hash)
        return next((one for one in others if one.team.layer(layer)), None)

    def answers(self, team: TeamSpec, items: Iterable[str], samples: Sequence[int]) -> dict[str, Answer]:
        """Return a team's scores by item, None where there is none; a list where an item is drawn more than once."""
        scores: dict[str, Answer] = {}
        for item in items:
            drawn = [found.score if found else None for found in self._passes(team, item, samples)]
            scores[item] = drawn[0] if len(drawn) == 1 else drawn
        return scores

    def scored(self, team: TeamSpec, items: Iterable[str], samples: Sequence[int]) -> dict[str, list[Pass]]:
        """Return a team's passes by item, for the items that have one."""
        found = {item: [one for one in self._passes(team, item, samples) if one] for item in items}
        return {item: passes for item, passes in found.items() if passes}

    def _passes(self, team: TeamSpec, item: str, samples: Sequence[int]) -> Iterator[Pass | None]:
        return (self.get(team, item, sample) for sample in samples)


def _place(trial: Forward) -> _Place:
    donor = trial.donor.hash if trial.donor else ""
    return trial.team.hash, trial.item, trial.sample, trial.resample, donor, trial.donor_sample
