"""A team over items: answers as JSON lines, accuracy with its interval, failures and what it took."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from rich.console import Console
from rich.text import Text

from ...agents.teams.aggregate import planned_calls
from ...agents.teams.items import TaskItem
from ...intervals import SHARE, mean_interval
from ...records import JSON, Outcome, Scored
from ..runfolder import write_text
from .result import MethodResult
from .team_base import TeamMethod
from .team_phases import passes
from .team_result import number, percent
from .team_spec import TeamRunSpec
from .team_worker import STOPPED

ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class TeamAnswersResult(MethodResult):
    """What a team made of items."""

    @property
    def answers(self) -> list[dict[str, Any]]:
        """One object an item: its id, question, gold and answer, score, and why there is none."""
        return [json.loads(line) for line in (self.folder / ANSWERS).read_text(encoding="utf-8").splitlines()]

    def line(self) -> str:
        """Return accuracy and failures."""
        found = self.summary
        missing = found["items"] - found["scored"] - found["failed"]
        unread = found.get("unreadable", 0)
        unreadable = f", {unread} of them unreadable and scored 0" if unread else ""
        failed = f", {found['failed']} failed and are not counted" if found["failed"] else ""
        stopped = f", {missing} not run" if missing else ""
        return f"{percent(found['accuracy'])} right on {found['scored']} items{unreadable}{failed}{stopped}"

    def show(self, console: Console) -> None:
        """Print accuracy, failures and what an item took."""
        console.print(Text(self.line()))
        for name, value in self._facts():
            console.print(Text(f"{name}: {value}"))
        console.print(Text(f"answers: {self.folder / ANSWERS}"), soft_wrap=True)
        self.show_end(console)

    def page(self) -> str:
        """Return report.html."""
        from ..report.plain_page import Plain, render_plain

        spec = self.data["spec"]
        about = f"Agents: {spec['model']}; items: {spec['data']}; every answer is in {ANSWERS}."
        table = [["figure", "value"], *([name, value] for name, value in self._facts())]
        return render_plain(Plain("A team over items", about, f"{self.line()}.", table), self.data, self.timing)

    def _facts(self) -> list[tuple[str, str]]:
        found = self.summary
        facts = [(name, number(found[key])) for name, key in (
            ("calls an item", "calls"), ("tokens an item", "tokens"), ("calls one after another", "path"),
            ("outputs that could not be read, an item", "unparsed"))]  # fmt: skip
        return [*facts, *((f"failed: {reason}", str(count)) for reason, count in found["failures"].items())]


class TeamAnswers(TeamMethod):
    """A run of a team over items.

    Args:
        team: The team, or a file of one.
        data: A source of items, or the items.
        settings: Any other field of `TeamRunSpec`.
    """

    method: ClassVar[str] = "team-run"
    spec_type: ClassVar[type[TeamRunSpec]] = TeamRunSpec
    result_type: ClassVar[type[TeamAnswersResult]] = TeamAnswersResult

    def plan(self) -> dict[str, JSON]:
        """Return what the run would ask for at least and at most, without asking; scoring is not among it."""
        least, most = planned_calls(self.team)
        items = len(self.items)
        return {"items": items, "calls_an_item": least, "calls": least * items, "calls_at_most": most * items}

    def run(self, out: str | Path | None = None, *, address: str | None = None) -> TeamAnswersResult:
        """Run, or continue, and return the result.

        Args:
            out: The run folder; by default a new one under `runs/`. An existing run of the same spec is continued.
            address: Of an existing Ray cluster, where a model is a host of ours; RAY_ADDRESS counts too.
        """
        self.plan()
        with self._working(out, address, {}) as session:
            told = self._study(session, "answers", [passes("answers", self.team, self.by_id)])["answers"]
            outcomes = {trial.candidate.item: outcome for trial, outcome in told}  # type: ignore[attr-defined]
            rows = [_row(item, outcomes.get(item.id)) for item in self.items]
            text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
            write_text(session.folder.path / ANSWERS, text)
            result: TeamAnswersResult = self._ended_with(session, _summary(self.team.hash, rows))
            return result


def _row(item: TaskItem, outcome: Outcome | None) -> dict[str, JSON]:
    """Return an item's line; `failed` says why there is no score, "Stopped" where it was not run."""
    row: dict[str, JSON] = {"id": item.id, "question": item.question, "kind": item.kind, "gold": item.gold}
    if isinstance(outcome, Scored):
        values = {name: outcome.values[name] for name in ("answer", "score", "calls", "tokens", "path", "unparsed")}
        return {**row, **values, "unreadable": values["answer"] is None, "failed": None}
    return {
        **row,
        "answer": None,
        "score": None,
        "unreadable": False,
        "failed": outcome.reason if outcome is not None else STOPPED,
    }


def _summary(team: str, rows: list[dict[str, Any]]) -> dict[str, JSON]:
    scored = [row for row in rows if row["failed"] is None]
    reasons = [row["failed"] for row in rows if row["failed"] not in (None, STOPPED)]
    return {
        "team": team, "items": len(rows), "scored": len(scored), "failed": len(reasons),
        "failures": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "unreadable": sum(row["unreadable"] for row in scored),
        "accuracy": mean_interval([row["score"] for row in scored], "team-run", support=SHARE),
        **{name: _mean(row[name] for row in scored) for name in ("calls", "tokens", "path", "unparsed")},
        "whole": {name: sum(row[name] for row in scored) for name in ("calls", "tokens")},
    }  # fmt: skip


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return round(fmean(known), 3) if known else None
