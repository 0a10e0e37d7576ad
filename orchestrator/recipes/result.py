"""What the result of every method is: result.json and timing.json of a run folder, in the hand. Knows no method."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.text import Text

from ...errors import RunFolderError
from ...records import JSON
from ..runfolder import RunFolder, write_json


@dataclass(frozen=True)
class MethodResult(ABC):
    """What a run found; a method says how it is shown.

    Attributes:
        folder: The run folder, with report.html.
        data: result.json.
        timing: timing.json: seconds, spend, host; empty where it is not known.
    """

    folder: Path
    data: dict[str, Any]
    timing: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Return the result of a finished run folder.

        Raises:
            RunFolderError: there is no such run, or it has no readable result.
        """
        run = RunFolder.open(Path(folder))
        timing = run.path / "timing.json"
        try:
            return cls(run.path, run.result(), json.loads(timing.read_text()) if timing.exists() else {})
        except (OSError, ValueError) as error:
            raise RunFolderError(str(run.path), "timing.json cannot be read; remove it") from error

    @property
    def status(self) -> str:
        """`SUCCEEDED`, or `STOPPED` with a valid partial result."""
        return str(self.data["status"])

    @property
    def summary(self) -> dict[str, JSON]:
        """All figures."""
        summary: dict[str, JSON] = self.data["summary"]
        return summary

    def save(self, path: str | Path) -> None:
        """Write the result as JSON."""
        write_json(Path(path), self.data)

    def show_end(self, console: Console) -> None:
        """Print how a run that was stopped goes on, and where the report is: the last lines of every `show`."""
        if self.status != "SUCCEEDED":
            why = self.data["stop_reason"]
            console.print(Text(f"stopped ({why}): continue with plait resume {self.folder}"))
        console.print(Text(f"report: {self.folder / 'report.html'}"), soft_wrap=True)

    @abstractmethod
    def line(self) -> str:
        """Return the outcome in a line."""

    @abstractmethod
    def show(self, console: Console) -> None:
        """Print the headline figures, each beside its controls."""

    @abstractmethod
    def page(self) -> str:
        """Return report.html."""
