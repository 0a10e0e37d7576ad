"""What a terminal shows of a run and of a pull: bars, rate, time left. Plain lines where there is no terminal."""

import json
import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from .events import Event

QUIET_SECONDS = 15.0
"""Between lines where the output is no terminal."""


class PullProgress:
    """Shows how far the pull of a model is, on stderr: a line a stage, a bar (or lines) of its bytes."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar = Bars(
            TextColumn("{task.description:>8}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
            console=self._console, disable=not self._console.is_terminal, transient=True,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._stage, self._shown = "", 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_bar()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show a stage, and its bytes where they are known."""
        if stage != self._stage:
            self._end_bar()
            self._stage, self._shown = stage, time.monotonic()
            self._console.print(Text(f"model: {stage}"))
        if stage == "done" or not (done or total):
            return
        if self._console.is_terminal:
            self._task = self._bar.add_task(stage, total=None) if self._task is None else self._task
            self._bar.start()
            self._bar.update(self._task, completed=done, total=total or None)
        elif done == total or time.monotonic() - self._shown > QUIET_SECONDS:
            self._shown = time.monotonic()
            of = f" of {total / 2**20:.1f}" if total else ""
            self._console.print(f"model: {stage} {done / 2**20:.1f}{of} MiB", highlight=False, soft_wrap=True)

    def _end_bar(self) -> None:
        if self._task is not None:  # to stop what never started would print an empty line in some versions of rich
            self._bar.stop()
            self._task = None


class PullLines:
    """Writes how far the pull of a model is as JSON lines, on stdout."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: every line is out."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Write one line."""
        print(json.dumps({"event": "pull", "stage": stage, "done": done, "total": total}), flush=True)


class Progress:
    """An event subscriber that shows how far a run is, on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(), console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._pull = PullProgress(self._console)
        self._task: TaskID | None = None
        self._phase, self._started, self._shown = "", 0.0, 0.0
        self._best: dict[str, float] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pull.__exit__(kind, error, trace)
        if self._task is not None:
            self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        show = getattr(self, f"_on_{event.kind}", None)
        if show is not None:
            show(dict(event.fields))

    def _on_pull(self, fields: dict[str, Any]) -> None:
        self._pull(fields["stage"], fields["done"], fields["total"])

    def _on_run(self, fields: dict[str, Any]) -> None:
        self._console.print(Text(f"run {fields['id']} in {fields['folder']}"))

    def _on_hosts(self, fields: dict[str, Any]) -> None:
        self._console.print(f"{fields['actors']} model hosts up in {fields['seconds']:.1f} s", highlight=False)

    def _on_phase(self, fields: dict[str, Any]) -> None:
        self._bars.start()  # not before: a console has one moving part, and a pull may have been that
        if self._task is not None and self._bars.tasks[self._task].total is None:  # how far it went is all of it
            self._bars.update(self._task, total=self._bars.tasks[self._task].completed)
        self._phase, self._started, self._shown = fields["phase"], time.monotonic(), time.monotonic()
        self._best = {} if fields.get("shows") == "best" else None
        self._task = self._bars.add_task(self._phase, total=fields["total"], note="")

    def _on_progress(self, fields: dict[str, Any]) -> None:
        took = time.monotonic() - self._started
        rate = fields["told"] / took if took > 0 else 0.0
        note = f"{rate:5.1f}/s  {_spent(fields) if self._best is None else _incumbents(fields, self._best)}"
        note += f"  {fields['failed']} failed" if fields["failed"] else ""
        if self._console.is_terminal:
            if self._task is not None:
                self._bars.update(self._task, completed=fields["told"], note=note)
        elif time.monotonic() - self._shown > QUIET_SECONDS or fields["told"] == fields["total"]:
            self._shown = time.monotonic()
            of = "" if fields["total"] is None else f"/{fields['total']}"
            print(f"{self._phase}: {fields['told']}{of} {note}", file=sys.stderr, flush=True)

    def _on_incumbent(self, fields: dict[str, Any]) -> None:
        if self._best is not None:
            kind = str(fields["strand"]).partition("/")[0]
            self._best[kind] = max(fields["reward"], self._best.get(kind, fields["reward"]))

    def _on_edit(self, fields: dict[str, Any]) -> None:
        self._console.print(Text(_edit_line(fields)), soft_wrap=True)

    def _on_note(self, fields: dict[str, Any]) -> None:
        self._console.print(Text(f"note: {fields['note']}"), soft_wrap=True)

    def _on_worker(self, fields: dict[str, Any]) -> None:
        self._console.print(Text(f"worker {fields['worker']}: {fields['state']}"))

    def _on_failure(self, fields: dict[str, Any]) -> None:
        self._console.print(Text(f"failed: {fields['reason']}: {fields['detail']}"))  # it may quote a model: no markup


def _spent(fields: dict[str, Any]) -> str:
    """Return what a study has found, or what a graph's calls have taken."""
    if "improved" in fields:
        return f"{fields['paid']} paid  {fields['improved']}/{fields['strands']} right"
    if "calls" not in fields:
        return f"{fields['paid']} paid"
    money = f"  ${fields['usd']:.4f}" if fields["usd"] else ""
    return f"{fields['calls']:.0f} calls  {fields['tokens']:,.0f} tokens{money}"


def _incumbents(fields: dict[str, Any], best: dict[str, float]) -> str:
    """Return what a study of few searches has paid, had for nothing, and found: the best reward of each kind."""
    found = "  ".join(f"{kind} {reward:.3f}" for kind, reward in best.items())
    return f"{fields['paid']} trained  {fields['found']} from the ledger  best: {found}"


def _edit_line(fields: dict[str, Any]) -> str:
    """Return what became of an edit of a team: `plait step 2: adopted +7 of 100 (12 won, 5 lost), p 0.072: ...`."""
    what = "; ".join(fields["edits"]) or "no edit"
    told = f"{fields['profile']} step {fields['step'] + 1}: {fields['verdict']}"
    if fields["items"]:
        won, lost = fields["wins"], fields["losses"]
        return f"{told} {won - lost:+d} of {fields['items']} ({won} won, {lost} lost), p {fields['p']:.3g}: {what}"
    return f"{told} ({fields['why']}): {what}" if fields["why"] else f"{told}: {what}"
