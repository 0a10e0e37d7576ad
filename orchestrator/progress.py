"""The terminal's view of a run: a bar a phase, incumbents, rate, time left. Plain lines where there is no terminal."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from .events import Event

QUIET_SECONDS = 15.0
"""Between lines where the output is no terminal."""


class Progress:
    """An event subscriber that shows how far a run is, on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(), console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._phase, self._started, self._shown = "", 0.0, 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        show = getattr(self, f"_on_{event.kind}", None)
        if show is not None:
            show(dict(event.fields))

    def _on_pull(self, fields: dict[str, Any]) -> None:
        self._console.print(f"model: {fields['stage']}", highlight=False)

    def _on_run(self, fields: dict[str, Any]) -> None:
        self._console.print(f"run {fields['id']} in {fields['folder']}", highlight=False)

    def _on_hosts(self, fields: dict[str, Any]) -> None:
        self._console.print(f"{fields['actors']} model hosts up in {fields['seconds']:.1f} s", highlight=False)

    def _on_phase(self, fields: dict[str, Any]) -> None:
        self._phase, self._started, self._shown = fields["phase"], time.monotonic(), time.monotonic()
        self._task = self._bars.add_task(self._phase, total=fields["total"], note="")

    def _on_progress(self, fields: dict[str, Any]) -> None:
        took = time.monotonic() - self._started
        rate = fields["told"] / took if took > 0 else 0.0
        note = f"{rate:5.1f}/s  {fields['improved']}/{fields['strands']} right"
        note += f"  {fields['failed']} failed" if fields["failed"] else ""
        if self._console.is_terminal:
            if self._task is not None:
                self._bars.update(self._task, completed=fields["told"], note=note)
        elif time.monotonic() - self._shown > QUIET_SECONDS or fields["told"] == fields["total"]:
            self._shown = time.monotonic()
            print(f"{self._phase}: {fields['told']}/{fields['total']} {note}", file=sys.stderr, flush=True)

    def _on_worker(self, fields: dict[str, Any]) -> None:
        self._console.print(f"worker {fields['worker']}: {fields['state']}", highlight=False)

    def _on_failure(self, fields: dict[str, Any]) -> None:
        self._console.print(f"failed: {fields['reason']}: {fields['detail']}", highlight=False)
