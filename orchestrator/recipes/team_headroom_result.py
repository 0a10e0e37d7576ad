"""What a search for headroom came to, in the hand."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .result import MethodResult
from .team_result import percent, points

FIGURES = 92
"""Columns of a screen that the figures beside a prompt take."""
HEADER = ("prompt", "accuracy [95 %]", "minus plain", "won", "lost", "p, corrected", "unreadable")


@dataclass(frozen=True)
class HeadroomResult(MethodResult):
    """Whether a task has anything to learn."""

    @property
    def learnable(self) -> bool:
        """Whether a plain prompt beats the plainest beyond chance."""
        return bool(self.summary["learnable"])

    def line(self) -> str:
        """Return the verdict."""
        return headroom_line(self.summary)

    def show(self, console: Console) -> None:
        """Print every prompt's accuracy beside the plain one's, and the verdict."""
        table = Table(box=None, pad_edge=False)
        for at, name in enumerate(HEADER):
            most = None if at else max(16, console.width - FIGURES)
            table.add_column(name, justify="right" if at else "left", no_wrap=True, overflow="ellipsis", max_width=most)
        for row in self._table():
            table.add_row(*map(Text, row))
        console.print(table)
        console.print()
        console.print(Text(self.line()))
        best = self.summary["rows"][self.summary["best"] - 1]
        console.print(Text(f"prompt {best['number']}: {best['prompt']}"))
        for note in filter(None, (power_line(self.summary), unreadable_line(self.summary))):
            console.print(Text(f"note: {note}"))
        self.show_end(console)

    def page(self) -> str:
        """Return report.html."""
        from ..report.plain_page import Plain, render_plain

        spec = self.data["spec"]
        about = f"One agent, {spec['model']}, on {self.summary['items']} training items of {spec['data']}."
        notes = filter(None, (power_line(self.summary), unreadable_line(self.summary)))
        said = Plain(
            "Headroom", about, self.line(), [list(HEADER), *self._table()],
            (*notes, "A prompt that helps shows that wording can gain; none that helps does not "
             "show that structure cannot."),
        )  # fmt: skip
        return render_plain(said, self.data, self.timing)

    def _table(self) -> list[list[str]]:
        rows = [["the plain prompt", percent(self.summary["plain"]), "-", "-", "-", "-",
                 str(self.summary.get("plain_unreadable", 0))]]  # fmt: skip
        for row in self.summary["rows"]:
            p = "undecidable" if row["undecidable"] else f"{row['p']:.3g}"
            rows.append([f"{row['number']}. {row['prompt']}", percent(row["accuracy"]), points(row["gain"]),
                         str(row["wins"]), str(row["losses"]), p, str(row.get("unreadable", 0))])  # fmt: skip
        return rows


def headroom_line(summary: dict[str, Any]) -> str:
    """Return what plain prompts show, in a sentence."""
    of, best = len(summary["rows"]), summary["rows"][summary["best"] - 1]
    what = f"prompt {best['number']} scores {_share(best)} where the plain prompt scores {_share(summary['plain'])}"
    counts = (
        f"{best['wins']} won, {best['losses']} lost of {summary['items']} items, p {best['p']:.3g} corrected for {of}"
    )
    if not summary["whole"]:
        return "Not known: the passes did not come to their end."
    if best["undecidable"]:
        return f"Not known: {best['missing']} of {summary['items']} items lack a score of one prompt or both."
    if summary["learnable"]:
        return f"There is something to learn: {what} ({counts})."
    return f"Nothing to learn that {of} plain prompts show: at best {what} ({counts}, above {summary['level']:g})."


def power_line(summary: dict[str, Any]) -> str:
    """Return which gains so many items would have shown."""
    told = " and ".join(f"{one['power']:.0%} of gains of {100 * one['gain']:+.0f} points" for one in summary["power"])
    return f"{summary['items']} items show {told}, with {len(summary['rows'])} prompts tried"


def unreadable_line(summary: dict[str, Any]) -> str:
    """Return that answers could not be read, where some could not: what such prompts change may be form alone."""
    counts = [summary.get("plain_unreadable", 0), *(row.get("unreadable", 0) for row in summary["rows"])]
    if not any(counts):
        return ""
    return f"{sum(counts)} of {len(counts) * summary['items']} answers could not be read, and score 0"


def _share(found: dict[str, Any]) -> str:
    mean = found.get("accuracy", found)["mean"]
    return "-" if mean is None else f"{100 * mean:.1f} %"
