"""Judging challengers: a gate's looks at validation items, after a minibatch where the profile wants one. Pure.

Challengers are judged against one incumbent on the same items and draws. Training items decide nothing, but for the
minibatch of `gepa`, which is that algorithm's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from ..teams import TeamSpec
from .gate import EQUAL, MISSING, Gate, Verdict, compare, pair_up
from .textual_records import EditRecord, Passes, Program
from .textual_trials import Forward


@dataclass
class Challenger:
    """A changed team and the record of its edit.

    Attributes:
        team: The changed team; its parent until an edit was applied.
        record: What became of it.
        parent: The team that was changed.
        rested: Whether it passed, or lost nothing at the last look: fit for an archive.
    """

    team: TeamSpec
    record: EditRecord
    parent: TeamSpec
    rested: bool = False

    @property
    def passed(self) -> bool:
        """Whether it passed the gate."""
        return self.record.verdict == "passed"


@dataclass(frozen=True)
class Judge:
    """What a step's comparisons have in common.

    Attributes:
        passes: What is known; what is missing is asked for.
        gate: The rule.
        items: Validation items, in the order the looks take them.
        samples: Draws of each item, averaged.
        ties: Whether an equal mean is kept.
    """

    passes: Passes
    gate: Gate
    items: Sequence[str]
    samples: Sequence[int]
    ties: bool = False

    def look(self, incumbent: TeamSpec, challengers: Sequence[Challenger]) -> Program[None]:
        """Judge challengers, look by look; each record then holds its verdict and evidence."""
        running = [one for one in challengers if one.record.verdict == "open"]
        sizes = self.gate.looks(len(self.items))
        for look, size in enumerate(sizes):
            if not running:
                return
            items = self.items[:size]
            yield from self.run([incumbent, *(one.team for one in running)], items)
            for one in running:
                verdict = self._decide(look, items, incumbent, one.team)
                last = look + 1 == len(sizes) and verdict.choice == "drop" and verdict.lead >= 0
                one.rested = verdict.choice == "keep" or last
                _write(one.record, verdict)
            running = [one for one in running if one.record.verdict == "open"]

    def run(self, teams: Sequence[TeamSpec], items: Sequence[str]) -> Program[None]:
        """Ask for the passes of teams on items that are not known."""
        yield from self.passes.run(
            Forward(team, item, sample) for team in teams for item in items for sample in self.samples
        )

    def minibatch(self, parent: TeamSpec, challengers: Sequence[Challenger], batch: Sequence[str]) -> Program[None]:
        """Reject challengers whose sum on the step's training items is not above their parent's (GEPA)."""
        yield from self.run([one.team for one in challengers], batch)
        for one in challengers:
            difference, missing = self._difference(parent, one.team, batch)
            if missing > MISSING * len(batch):
                one.record.verdict, one.record.missing = "undecidable", missing
                one.record.why = f"{missing} of {len(batch)} training items without a score"
            elif difference <= EQUAL:
                one.record.verdict = "rejected"
                one.record.why = f"sum on {len(batch)} training items {difference:+.3g}, expected more than its parent"

    def _decide(self, look: int, items: Sequence[str], incumbent: TeamSpec, team: TeamSpec) -> Verdict:
        answers = (self.passes.answers(one, items, self.samples) for one in (incumbent, team))
        verdict = self.gate.decide(look, pair_up(*answers))
        if self.ties and verdict.choice == "drop" and self._difference(incumbent, team, items)[0] >= -EQUAL:
            counts = (verdict.wins, verdict.losses, verdict.ties, verdict.missing, verdict.p, verdict.look)
            return Verdict("keep", *counts)
        return verdict

    def _difference(self, first: TeamSpec, second: TeamSpec, items: Sequence[str]) -> tuple[float, int]:
        """Return the second's sum less the first's on shared items, and how many are not shared."""
        answers = (self.passes.answers(one, items, self.samples) for one in (first, second))
        differences, missing = compare(pair_up(*answers))
        return fsum(differences), missing


def _write(record: EditRecord, verdict: Verdict) -> None:
    record.wins, record.losses, record.ties = verdict.wins, verdict.losses, verdict.ties
    record.missing, record.p, record.look, record.items = verdict.missing, verdict.p, verdict.look, verdict.items
    record.why = str(verdict)
    if verdict.choice == "keep":
        record.verdict = "passed"
    elif verdict.choice == "drop":
        record.verdict = "rejected"
    elif verdict.choice == "undecidable":
        record.verdict = "undecidable"
