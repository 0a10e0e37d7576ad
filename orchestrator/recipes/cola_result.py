"""A finished CoLa run in the hand: figures, tables, pictures."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...records import JSON
from ..runfolder import RunFolder, write_json
from .cola_records import ItemRecord
from .cola_stats import statement

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class CoLaResult:
    """What a run found.

    Attributes:
        folder: The run folder, with report.html.
        data: result.json.
        timing: timing.json: seconds, spend, host; empty where it is not known.
    """

    folder: Path
    data: dict[str, Any]
    timing: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> "CoLaResult":
        """Return the result of a finished run folder."""
        import json

        run = RunFolder.open(Path(folder))
        timing = run.path / "timing.json"
        return cls(run.path, run.result(), json.loads(timing.read_text()) if timing.exists() else {})

    @property
    def status(self) -> str:
        """`SUCCEEDED`, or `STOPPED` with a valid partial result."""
        return str(self.data["status"])

    @property
    def summary(self) -> dict[str, JSON]:
        """All figures; see `cola_stats.summarise`."""
        summary: dict[str, JSON] = self.data["summary"]
        return summary

    @cached_property
    def items(self) -> list[ItemRecord]:
        """The questions with every path that was evaluated on them."""
        return [ItemRecord.from_json(item) for item in self.data["items"]]

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

    def save(self, path: str | Path) -> None:
        """Write the result as JSON."""
        write_json(Path(path), self.data)

    def plot(self) -> Any:
        """Return a matplotlib figure: oracle accuracy by budget beside random search and chance."""
        from ..report.figures import budget_figure

        return budget_figure(self.summary)

    def line(self) -> str:
        """Return the outcome in a line."""
        identity = self.summary["identity"][self.summary["rule"]]["mean"]
        oracle = self.summary["oracle"]["search"]["mean"]
        return (
            f"{self.status}: {self.summary['items']} items, identity {identity:.3f}, oracle {oracle:.3f}, {self.folder}"
        )
