"""A finished compression run in the hand: figures, tables, pictures, the student."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...architectures import Architecture
from ...models.preparation import Preparation
from .compress_records import Finalist
from .compress_stats import promise, statement
from .result import MethodResult

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from ...models.network import Network


@dataclass(frozen=True)
class CompressResult(MethodResult):
    """What a compression run found."""

    @cached_property
    def finalists(self) -> list[Finalist]:
        """Each search's chosen student, after its final training."""
        return [Finalist.from_json(final) for final in self.summary["finals"]]

    @property
    def architecture(self) -> Architecture | None:
        """The student to take; None where no student is within the limit."""
        chosen = self.summary["chosen"]
        return Architecture.parse(chosen["arch"]) if chosen else None

    def student(self) -> "Network":
        """Return the exported student with its weights, in eval mode."""
        from ...models.export import load_export

        return load_export(self.folder / "student")

    def prepared(self, examples: Any) -> "Tensor":
        """Return raw examples, as they lay in the data, as the student takes them: [batch, channels, ...], float32.

        Raises:
            DataError: they are of another shape or type than the run's were.
        """
        import numpy as np
        import torch

        how = self.summary.get("preparation")
        rows = np.asarray(examples)
        return torch.from_numpy(rows.copy() if how is None else Preparation.from_json(how).apply(rows))

    @property
    def statement(self) -> str:
        """What the search gave beyond its rivals, in a sentence."""
        return statement(self.summary)

    def to_pandas(self) -> "pd.DataFrame":
        """Return one row a student of the top rung: method, params, macs, validation accuracy, epochs, architecture."""
        import pandas as pd

        return pd.DataFrame([{name: row[name] for name in row if name != "front"} for row in self.summary["pareto"]])

    def plot(self) -> Any:
        """Return a matplotlib figure: accuracy against parameters, MACs and milliseconds."""
        from ..report.compress_figures import pareto_figure

        return pareto_figure(self.summary, self.timing.get("latency"))

    def line(self) -> str:
        """Return the outcome in a line."""
        chosen = self.summary["chosen"]
        if not chosen and self.status == "STOPPED":
            return f"{self.status}: no student was trained before the run ended, {self.folder}"
        if not chosen:
            return f"{self.status}: no student within {self.data['spec']['target']}, {self.folder}"
        smaller = self.summary["teacher"]["params"] / chosen["params"]
        teacher = self.summary["teacher"]["test"]["mean"]
        accuracy = f"{chosen['test']['mean']:.3f} (teacher {teacher:.3f})"
        return f"{self.status}: {smaller:.1f}x fewer parameters, {accuracy}, {self.folder}"

    def show(self, console: Console) -> None:
        """Print the headline table, its statement and where student and report are."""
        from ..report.template import interval, percent, thousands

        table = Table(box=None, pad_edge=False)
        for column in ("", "test accuracy \\[95 %]", "parameters", "MACs", "reward", "student-epochs"):
            table.add_column(column, justify="right" if column else "left")
        teacher = self.summary["teacher"]
        epochs = str(teacher["epochs"])
        table.add_row(
            "teacher", interval(teacher["test"]), thousands(teacher["params"]), thousands(teacher["macs"]), "0", epochs
        )
        for row in self.summary["methods"]:
            table.add_row(
                row["method"], interval(row["test"]),
                *("–" if row[name] is None else thousands(row[name]) for name in ("params", "macs")),
                "–" if row["reward"]["mean"] is None else f"{row['reward']['mean']:.3f}",
                "–" if row["epochs"] is None else thousands(row["epochs"]),
            )  # fmt: skip
        table.add_row("chance: the commonest class", percent(teacher["majority"]), "", "", "", "")
        console.print(table)
        console.print(Text(f"\n{self.statement}"))
        if how := self.summary.get("preparation"):
            console.print(Text(f"examples: {how['text']}"), soft_wrap=True)
        if shares := self.summary["teacher"].get("prepared"):
            said = "; ".join(f"{100 * share:.1f} % {name}" for name, share in shares.items())
            console.print(Text(f"teacher on fit and validation examples: {said}"), soft_wrap=True)
        for name, why in (self.summary.get("left_out") or {}).items():
            console.print(Text(f"left out: {name} ({why})"), soft_wrap=True)
        if told := promise(self.summary, self.timing.get("latency") or {}):
            console.print(Text(f"target: {told}"), soft_wrap=True)
        if self.summary["chosen"]:
            chosen = self.summary["chosen"]
            after = "" if chosen.get("finished", True) else f" after {chosen['epochs']} epochs of its search"
            why = chosen.get("why") or "the highest validation accuracy"
            console.print(Text(f"handed back: {chosen['method']}'s student{after} ({why})"), soft_wrap=True)
        elif self.status == "STOPPED":
            console.print("handed back: no student, none was trained within the limit before the run ended")
        cost, counts = self.timing.get("cost") or {}, self.timing.get("counts") or {}
        if counts:
            console.print(
                f"{counts['paid']} evaluations paid ({cost.get('epochs', 0):.0f} student-epochs), {counts['found']} "
                f"from the ledger, {counts['failed']} failed; {self.timing['seconds']:.0f} s",
                highlight=False,
            )
        if self.summary["chosen"]:
            console.print(Text(f"student: {self.folder / 'student'}"), soft_wrap=True)
        self.show_end(console)

    def page(self) -> str:
        """Return report.html: one file, no network, no scripts."""
        from ..report.compress_page import render

        return render(self.data, self.timing)
