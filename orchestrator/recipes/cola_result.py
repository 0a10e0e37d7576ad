"""A finished CoLa run in the hand: figures, tables, pictures."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...errors import SpecError, nearest
from ...records import JSON
from .cola_records import ItemRecord, PathScore, Rule, reported_path
from .cola_stats import statement
from .result import MethodResult

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class CoLaResult(MethodResult):
    """What a CoLa run found; `summary` is described at `cola_stats.summarise`."""

    @cached_property
    def items(self) -> list[ItemRecord]:
        """The questions with every path that was evaluated on them."""
        return [ItemRecord.from_json(item) for item in self.data["items"]]

    def question(self, name: str) -> dict[str, JSON]:
        """Return a question's paths: the best that the search found, the identity, random search's best.

        The best is the shortest right one, so it used the answer; where none is right it is the identity.

        Raises:
            SpecError: there is no such question, or it was left out; the error says why.
        """
        item = next((item for item in self.items if item.id == name), None)
        if item is None:
            left_out = {str(row["id"]): row["reason"] for row in self.data["excluded"]}
            if name in left_out:
                raise SpecError("question", name, f"one that was scored; this one was left out: {left_out[name]}")
            raise SpecError("question", name, "a question of the run: " + nearest(name, [one.id for one in self.items]))
        rule: Rule = self.summary["rule"]

        def row(score: PathScore | None) -> JSON:
            if score is None:
                return None
            return {
                "path": score.path.key, "layers": len(score.path), "prediction": item.prediction(score, rule),
                "right": item.right(score, rule), "sums": score.sums, "failure": score.failure,
            }  # fmt: skip

        best = reported_path(item, rule)
        search = next(score for score in item.search if score.path == best)
        drawn = min(
            (score for score in item.random if item.right(score, rule)), key=lambda s: len(s.path), default=None
        )
        paths = {
            "best path of the search (used the answer)": row(search),
            "the model as it is": row(item.identity),
            "best path of random search (used the answer)": row(drawn),
            "the best path again, alone": row(item.verified[0] if item.verified else None),
        }
        return {
            "id": item.id, "question": item.question, "choices": list(item.choices), "answer": item.answer,
            "rule": rule, "paths": paths,
        }  # fmt: skip

    @property
    def statement(self) -> str:
        """What the search gives beyond random search, in a sentence."""
        return statement(self.summary)

    def to_pandas(self) -> "pd.DataFrame":
        """Return one row an evaluated path: item, source, order, path, layers, prediction, right."""
        import pandas as pd

        rule = self.summary["rule"]
        rows = [
            {
                "item": item.id,
                "source": source,
                "order": order,
                "path": score.path.key,
                "layers": len(score.path),
                "prediction": item.prediction(score, rule),
                "right": item.right(score, rule),
            }
            for item in self.items
            for source in ("search", "random", "menu", "verified")
            for order, score in enumerate(getattr(item, source))
        ]
        return pd.DataFrame(rows)

    def plot(self) -> Any:
        """Return a matplotlib figure: oracle accuracy by budget beside random search and chance."""
        from ..report.figures import budget_figure

        return budget_figure(self.summary)

    def line(self) -> str:
        """Return the outcome in a line."""
        means = (self.summary["identity"][self.summary["rule"]]["mean"], self.summary["oracle"]["search"]["mean"])
        identity, oracle = ("none" if mean is None else f"{mean:.3f}" for mean in means)
        return f"{self.status}: {self.summary['items']} items, identity {identity}, oracle {oracle}, {self.folder}"

    def show(self, console: Console) -> None:
        """Print the headline table, its statement and where the report is."""
        from ..report.page import interval, points

        summary = self.summary
        table = Table("accuracy of", "share \\[95 % interval]", "uses answers", box=None, pad_edge=False)
        oracle = summary["oracle"]
        table.add_row("the model as it is", interval(summary["identity"][summary["rule"]]), "no")
        if summary["label_free"]:
            free = summary["label_free"]
            chosen = free["rows"][-1]
            table.add_row(
                f"label-free choice ({free['chosen']}, {free['test']} test items)",
                interval(chosen["accuracy"]),
                "dev only",
            )
        table.add_row("oracle: best path of the search", interval(oracle["search"]), "yes")
        table.add_row("oracle: best path of random search", interval(oracle["random"]), "yes")
        table.add_row("chance: as many answers as the search", interval(oracle["search_chance"]), "yes")
        table.add_row("chance: as many answers as random search", interval(oracle["random_chance"]), "yes")
        table.add_row("search minus random search, points", points(oracle["search_minus_random"]), "yes")
        console.print(table)
        console.print(Text(f"\n{self.statement}"))
        cost = self.timing.get("cost") or {}
        if cost.get("passes"):
            counts = self.timing["counts"]
            console.print(
                f"{counts['paid']} evaluations paid, {counts['found']} from the ledger, {counts['failed']} failed; "
                f"{self.timing['seconds']:.0f} s; prefix reuse {cost['asked_passes'] / cost['passes']:.2f}x",
                highlight=False,
            )
        self.show_end(console)

    def page(self) -> str:
        """Return report.html: one file, no network, no scripts."""
        from ..report.page import render

        return render(self.data, self.timing)
