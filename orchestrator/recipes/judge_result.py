"""A finished judge run in the hand: verdicts, figures, tables, the page."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .judge_records import ItemVerdict
from .judge_stats import statement
from .result import MethodResult

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class JudgeResult(MethodResult):
    """What a judge run found; `summary` is described at `judge_stats.summarise`."""

    @cached_property
    def items(self) -> list[ItemVerdict]:
        """The items in input order, each with its verdict and every ballot."""
        return [ItemVerdict.model_validate(item) for item in self.data["items"]]

    @property
    def statement(self) -> str:
        """What the panel is worth, in sentences."""
        return statement(self.summary)

    def to_pandas(self) -> "pd.DataFrame":
        """Return one row an item: id, verdict, reason, margin, votes, human, and each baseline's verdict."""
        import pandas as pd

        rows = [
            {
                "id": item.id, "verdict": item.network.verdict, "reason": item.network.reason,
                "margin": item.network.margin, "votes": item.network.votes, "human": item.human,
                **{name: outcome.verdict for name, outcome in item.baselines.items()},
            }
            for item in self.items
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def plot(self) -> Any:
        """Return a matplotlib figure: agreement with the human labels, with intervals, beside the baselines."""
        from ..report.judge_figures import agreement_figure

        return agreement_figure(self.summary)

    def line(self) -> str:
        """Return the outcome in a line."""
        verdicts = [item.network.verdict for item in self.items]
        given = len(verdicts) - verdicts.count("abstain")
        return f"{self.status}: {given} of {len(verdicts)} items judged, {self.folder}"

    def show(self, console: Console) -> None:
        """Print the judges beside each other, what they are worth, and where the report is."""
        from ..report.page import interval

        rows = self.summary.get("judges", [])
        if rows:
            table = Table("judge", "accuracy \\[95 % interval]", "kappa", "coverage", box=None, pad_edge=False)
            for row in rows:
                kappa = "–" if row["kappa"]["mean"] is None else f"{row['kappa']['mean']:.3f}"
                coverage = "" if row.get("coverage") is None else f"{100 * row['coverage']:.0f} %"
                table.add_row(escape(row["name"]), interval(row["accuracy"]), kappa, coverage)
            console.print(table)
        console.print(Text(f"\n{self.statement}"))
        counts, cost = self.timing.get("counts", {}), self.timing.get("cost", {})
        if counts:
            spent = f"{cost.get('tokens', 0):,.0f} tokens" + (f", ${cost['usd']:.4f}" if cost.get("usd") else "")
            console.print(
                f"{counts['paid']} calls paid ({spent}), {counts['found']} from the ledger, {counts['failed']} failed, "
                f"{counts['repeated']} repeated; {self.timing['seconds']:.0f} s",
                highlight=False,
            )
        console.print(Text(f"verdicts: {self.folder / 'verdicts.jsonl'}"), soft_wrap=True)
        self.show_end(console)

    def page(self) -> str:
        """Return the report."""
        from ..report.judge_page import render

        return render(self.data, self.timing)
