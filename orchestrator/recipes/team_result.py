"""A finished training run of a team in the hand: the verdict, figures, the team to use."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...teams import TeamSpec
from .result import MethodResult
from .team_rows import named_rows, own_search

KINDS = {"critique": ("critiques", "gave nothing that can be used"), "repair": ("repairs", "failed or were refused")}
"""Plural of each kind, and what became of those that are of no use."""


@dataclass(frozen=True)
class TeamResult(MethodResult):
    """What training a team came to."""

    @property
    def team(self) -> TeamSpec:
        """The team to use: the final one where it was confirmed, else the start team."""
        return TeamSpec.parse(self.summary[self.summary["answer"]]["team"])

    @property
    def candidate(self) -> TeamSpec:
        """The team that the search ended with, confirmed or not."""
        return TeamSpec.parse(self.summary["final"]["team"])

    @property
    def verdict(self) -> str:
        """What the confirmation says, in a sentence."""
        return statement(self.summary)

    def line(self) -> str:
        """Return the verdict."""
        return self.verdict

    def show(self, console: Console) -> None:
        """Print every team's accuracy beside the start team's, and the verdict."""
        table = Table(box=None, pad_edge=False)
        table.add_column("team")
        for name in ("confirm [95 %]", "minus start", "test [95 %]", "calls", "tokens an item"):
            table.add_column(name, justify="right")
        for row in named_rows(self.summary):
            table.add_row(
                row["label"], percent(row["confirm"]), points(row["confirm_minus_start"]),
                percent(row["test"]), number(row["calls"]), number(row["tokens"]),
            )  # fmt: skip
        console.print(table)
        console.print()
        console.print(Text(self.verdict))
        for note in [*self.summary["notes"], *self.summary["cut_short"]]:
            console.print(Text(f"note: {note}"))
        console.print(Text(f"team to use: {self.folder / 'team.yaml'} ({self.summary['answer']})"), soft_wrap=True)
        self.show_end(console)

    def page(self) -> str:
        """Return report.html."""
        from ..report.team_page import render

        return render(self.data, self.timing)


def statement(summary: dict[str, Any]) -> str:
    """Return what training came to, in a sentence."""
    found = summary["confirmed"]
    if found is None and not summary["changed"]:
        return f"Not confirmed: {why_unchanged(summary)}"
    if found is None:
        return "Not confirmed: the final team did not meet the confirm split, so the start team is the answer."
    gain = points(found["gain"])
    counts = (
        f"{found['wins']} won, {found['losses']} lost, {found['ties']} tied of the confirm items, p {found['p']:.3g}"
    )
    if found["passed"]:
        return f"Confirmed: the final team gains {gain} points over the start team ({counts})."
    return f"Not confirmed: {gain} points ({counts}); the start team is the answer, the candidate lies beside it."


def why_unchanged(summary: Mapping[str, Any]) -> str:
    """Return why a search ended with the team that it began with, in a sentence or two."""
    own = own_search(summary)
    found = "no edit passed the gate"
    if own["ended_by"] and not own["steps"]:
        found = f"{own['ended_by']} ended the search before its first step was whole"
    told = [_useless(kind, own["asked"][kind]) for kind in KINDS]
    judged = any(edit["look"] >= 0 for step in own["steps"] for edit in step["edits"])
    notes = Counter(step["note"] for step in own["steps"] if step["note"])
    if not any(told) and not judged and notes:
        note, count = notes.most_common(1)[0]
        told = [f"nothing was proposed in {count} of {len(own['steps'])} steps: {note}"]
    more = "; ".join(filter(None, told))
    return f"{found}, so the start team is the answer.{f' {more[0].upper()}{more[1:]}.' if more else ''}"


def _useless(kind: str, facts: Mapping[str, Any]) -> str:
    """Return how many of a kind were of no use and the commonest reason; "" where most were of use."""
    if not facts["asked"] or 2 * facts["useless"] < facts["asked"]:
        return ""
    many, became = KINDS[kind]
    reason, count = next(iter(facts["reasons"].items()))
    most = "" if count == facts["useless"] else f"{count} of them: "
    return f"{facts['useless']} of {facts['asked']} {many} {became} ({most}{reason.rstrip('.')})"


def percent(interval: dict[str, Any] | None) -> str:
    """Return a share with its interval."""
    if interval is None or interval["mean"] is None:
        return "-"
    if interval["low"] is None:
        return f"{100 * interval['mean']:.1f} %"
    return f"{100 * interval['mean']:.1f} % [{100 * interval['low']:.1f}, {100 * interval['high']:.1f}]"


def points(interval: dict[str, Any] | None) -> str:
    """Return a difference in points with its interval."""
    if interval is None or interval["mean"] is None:
        return "-"
    if interval["low"] is None:
        return f"{100 * interval['mean']:+.1f}"
    return f"{100 * interval['mean']:+.1f} [{100 * interval['low']:+.1f}, {100 * interval['high']:+.1f}]"


def number(value: float | None) -> str:
    """Return a mean without needless digits."""
    return "-" if value is None else f"{value:,.1f}"
