"""A finished training run of a team in the hand: the verdict, figures, the team to use."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...teams import TeamSpec
from .result import MethodResult


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
        for row in self.summary["rows"]:
            table.add_row(
                label(row["name"]), percent(row["confirm"]), points(row["confirm_minus_start"]),
                percent(row["test"]), number(row["calls"]), number(row["tokens"]),
            )  # fmt: skip
        console.print(table)
        console.print()
        console.print(Text(self.verdict))
        for note in self.summary["notes"]:
            console.print(Text(f"note: {note}"))
        console.print(Text(f"team to use: {self.folder / 'team.yaml'} ({self.summary['answer']})"), soft_wrap=True)
        self.show_end(console)

    def page(self) -> str:
        """Return report.html."""
        from ..report.team_page import render

        return render(self.data, self.timing)


def label(name: str) -> str:
    """Return a row's name for people."""
    return {"start": "start team", "single": "one agent, plain prompt", "random": "random edits, same gate"}.get(
        name, name
    )


def statement(summary: dict[str, Any]) -> str:
    """Return what training came to, in a sentence."""
    found = summary["confirmed"]
    if found is None and not summary["changed"]:
        return "Not confirmed: no edit passed the gate, so the start team is the answer."
    if found is None:
        return "Not confirmed: the final team did not meet the confirm split, so the start team is the answer."
    gain = points(found["gain"])
    counts = (
        f"{found['wins']} won, {found['losses']} lost, {found['ties']} tied of the confirm items, p {found['p']:.3g}"
    )
    if found["passed"]:
        return f"Confirmed: the final team gains {gain} points over the start team ({counts})."
    return f"Not confirmed: {gain} points ({counts}); the start team is the answer, the candidate lies beside it."


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
