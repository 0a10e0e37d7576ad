"""What every run of a team shares: team, items, models, ledger, studies of passes. Knows no search and no verdict."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Self

from ...agents.sandbox import NOT_OPEN, OPEN_TO, Level, Sandbox, offered
from ...agents.teams.items import TaskItem
from ...agents.teams.wording import Wording
from ...errors import DataError, SpecError
from ...records import JSON, Failed, Outcome, Request
from ...team_files import load_team
from ...teams import TeamSpec
from ..budget import Budget
from ..driver import budget_of
from ..ledger import Ledger
from ..loops import run_blocking
from ..paying import Policy
from ..runfolder import RunFolder, write_json, write_text
from ..spec import validated
from ..study import BatchPlan, Strand, Study, StudyResult
from .base import MethodRun, opened_ledger
from .judge_models import refusals_of
from .team_data import given_items, items_digest, load_items
from .team_models import OpenModels, team_models
from .team_phases import Told
from .team_worker import STOPPED, TeamSetup, TeamWorker

SCHEMA = 1
"""Version of result.json."""
WHOLE = BatchPlan(ask=100_000, lag=100_000, window=64)
"""A phase of a search is asked at once: what a search over teams proposes waits for whole phases anyway."""
GivenTeam = TeamSpec | str | Path | dict[str, Any]
GivenData = str | Path | Sequence[TaskItem | Mapping[str, Any]]


class TeamMethod(MethodRun):
    """A run of a team over items; a method says which passes are made and what is read from them.

    Args:
        team: The team, or a file of one.
        data: A source of items, or the items.
        settings: Any other field of the method's spec.

    Raises:
        SpecError: a setting cannot run, or the team is not well formed.
    """

    rows_kept: ClassVar[bool] = False
    result_type: ClassVar[type[Any]]

    def __init__(self, team: GivenTeam, data: GivenData = "plait:numbers", **settings: Any) -> None:
        super().__init__()
        self.team = given_team(team)
        given = {"team": self.team.model_dump(mode="json", exclude_defaults=True), **settings}
        given["data"] = str(data) if isinstance(data, str | Path) else "inline"
        self.spec = validated(self.spec_type, given, self.method)
        self._given = None if isinstance(data, str | Path) else tuple(given_items(data))
        self._test: tuple[TaskItem, ...] | None = None
        self.wording = Wording(None if self.spec.prompts is None else Path(self.spec.prompts))

    @classmethod
    def resume(cls, folder: str | Path, run: dict[str, JSON] | None = None) -> Self:
        """Return the run of an existing folder, whose own copy of the items is read."""
        made = super().resume(folder, run)
        place = Path(folder)
        made._given = tuple(load_items(place / "items.jsonl"))
        test = place / "test.jsonl"
        made._test = tuple(load_items(test)) if test.exists() else ()
        return made

    @cached_property
    def items(self) -> list[TaskItem]:
        """The items of `data`, read and checked when first asked for.

        Raises:
            DataError: an item cannot be used, or there is none.
        """
        if self._given is None:
            return self._fitting(load_items(self.spec.data, self.spec.limit, self.spec.seed), self.spec.data)
        if not self._given:
            raise DataError(f"{self.method}: data", "no item", "one or more")
        return self._fitting(list(self._given), "data")

    @cached_property
    def test_items(self) -> list[TaskItem]:
        """The items of `test_data`; none where the test split is drawn from `data`."""
        if self._test is not None:
            return list(self._test)
        source = getattr(self.spec, "test_data", None)
        return self._fitting(load_items(source), source) if source else []

    def _fitting(self, items: list[TaskItem], where: str) -> list[TaskItem]:
        """Return items, once the team answers with what all of them ask for."""
        for item in items:
            check_kind(self.team, item, where)
        return items

    @cached_property
    def by_id(self) -> dict[str, TaskItem]:
        """All items."""
        return {item.id: item for item in (*self.items, *self.test_items)}

    def _parts(self) -> dict[str, str | None]:
        """Return the models that the run needs beside those of agents: the judge's, where a text is to be scored."""
        texts = any(item.kind == "text" for item in self.by_id.values())
        return {"judge": self.spec.judge} if texts and self.spec.judge else {}

    def _setup(self, models: OpenModels) -> TeamSetup:
        """Return what passes are run with."""
        return TeamSetup(
            items=self.by_id, train=frozenset(), models=models.agents, optimiser="", judge=models.pool("judge"),
            wording=self.wording, seed=self.spec.seed,
            identities={name: chat.identity for name, chat in models.chats.items()},
        )  # fmt: skip

    @contextmanager
    def _working(
        self, out: str | Path | None, address: str | None, more: Mapping[str, JSON], notes: Sequence[str] = ()
    ) -> Iterator["Session"]:
        """Hold the run folder, the ledger and the models, and say first what the items are too few for."""
        if self._runs_programs():
            Sandbox(allow_network=self.spec.run.allow_network).check_host()
        models = team_models(self.spec, self.team, self._parts(), self._pulling)
        resolved: dict[str, JSON] = {
            "models": models.resolved, "start": self.team.hash, "prompts": self.wording.hash,
            "data_sha256": items_digest(self.items), **more,
        }  # fmt: skip
        cpus = self.spec.run.actors * models.hosts
        with self._opened(out, address, resolved=resolved, cpus=cpus) as folder:
            for note in (*notes, *self._sandbox_notes()):
                self._events("note", {"note": note})
            self._keep_items(folder)
            ledger = opened_ledger(self.spec.run.ledger, folder)
            calls = Ledger(ledger.url)
            try:
                opened = models.opened(self.spec)
                yield self._session(folder, ledger, calls, opened, resolved)
            finally:
                calls.close()
                ledger.close()
            for line in refusals_of(opened.chats.values()):
                self._events("note", {"note": line})

    def _runs_programs(self) -> bool:
        """Return whether an item or an agent of the team has programs to run."""
        return any(item.kind == "code" for item in self.by_id.values()) or any(
            "python" in agent.tools for agent in self.team.agents()
        )

    def _sandbox_notes(self) -> list[str]:
        """Return what programs of this run can reach on this host beyond their folder."""
        open_to = OPEN_TO[offered()["level"]] if self._runs_programs() else ""
        return [f"{open_to} (docs/security.md)"] if open_to else []

    def _kept_in(self) -> dict[str, JSON]:
        """Return what keeps this run's programs in, for timing.json and the report; nothing where it has none."""
        if not self._runs_programs():
            return {}
        level: Level = offered()["level"]
        return {"sandbox": f"{level}: {OPEN_TO[level] or NOT_OPEN}"}

    def _session(
        self, folder: RunFolder, ledger: Ledger, calls: Ledger, opened: OpenModels, resolved: dict[str, JSON]
    ) -> "Session":
        """Open the budget."""
        run = f"{folder.id}-calls"
        budget = budget_of(self.spec.run.limits, ledger, run)
        policy = Policy(retries=self.spec.run.retries)
        worker = TeamWorker(self._setup(opened), opened.workers, calls, budget, self._events, policy, run)
        return Session(folder, ledger, worker, budget, resolved)

    def _study(self, session: "Session", phase: str, strands: list[Strand]) -> dict[str, Told]:
        """Run strands to their ends, or as far as a stop or the budget lets them, and return what each was told.

        Where passes of chosen teams are stopped, those that were made count, and the others have `Failed("Stopped")`.
        """
        worker, fresh = session.worker, [replace(one, search=copy(one.search)) for one in strands]
        self._events("phase", {"phase": phase, "strands": len(strands), "total": None})
        study = Study(
            strands, worker.setup, [worker], session.ledger, plan=WHOLE, events=self._heard, run_id=session.folder.id
        )
        worker.begin(study.request_stop)
        self._current = _Both(study, worker)
        if self._stop:
            self._current.request_stop(self._stop)
        result = run_blocking(partial(_closed, study, worker))
        session.ended = result.stop_reason
        if result.stop_reason and not (phase == "search" and result.stop_reason.startswith("budget")):
            self._stop = self._stop or result.stop_reason
        if result.stop_reason and phase != "search":
            known = Study(fresh, worker.setup, [_Ended()], session.ledger, plan=WHOLE, run_id=session.folder.id)
            result = run_blocking(known.run_async)
        return dict(result.outcomes)

    def _heard(self, kind: str, fields: Mapping[str, JSON]) -> None:
        """Pass a study's event on, but for its progress and for passes that a stop ended.

        Its progress waits for whole phases, and that of the calls is told instead; a stop is told once, at the end.
        """
        if kind != "progress" and not (kind == "failure" and fields["reason"] == STOPPED):
            self._events(kind, fields)

    def _ended_with(self, session: "Session", summary: JSON) -> Any:
        """Write result, timing and report; return the result in the hand."""
        result = self._result(SCHEMA, session.resolved, summary=summary)
        timing = self._timing(session.budget, session.worker.counts, session.worker.cost, **self._kept_in())
        made = self.result_type(session.folder.path, result, timing)
        self._write(session.folder, result, timing, lambda *_: made.page())
        return made

    def _keep_items(self, folder: RunFolder) -> None:
        for name, items in (("items.jsonl", self.items), ("test.jsonl", self.test_items)):
            if items:
                write_text(folder.path / name, "".join(f"{item.model_dump_json()}\n" for item in items))


@dataclass
class Session:
    """What the studies of one start share."""

    folder: RunFolder
    ledger: Ledger
    worker: TeamWorker
    budget: Budget
    resolved: dict[str, JSON]
    ended: str = ""
    """Why the last study ended early; "" where it did not."""

    def cut(self) -> tuple[dict[str, int], str]:
        """Return the steps of each search that a budget ended in an earlier start, and that budget in words.

        Such a search goes no further now; `({}, "")` where there is none.
        """
        place = self.folder.path / "steps.json"
        found: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {"steps": {}, "ended_by": ""}
        if "steps" not in found:  # as it was written before it said which budget
            found = {"steps": found, "ended_by": "the budget"}
        return found["steps"], found["ended_by"]

    def keep_cut(self, steps: Mapping[str, int], ended_by: str) -> None:
        """Keep how far searches went that a budget ended, so that a resumed run confirms the same teams."""
        write_json(self.folder.path / "steps.json", {"steps": dict(steps), "ended_by": ended_by})


@dataclass
class _Both:
    """A study and the calls of its trials, stopped together."""

    study: Study
    worker: TeamWorker

    def request_stop(self, reason: str) -> None:
        """Stop both."""
        self.study.request_stop(reason)
        self.worker.request_stop(reason)


class _Ended:
    """A worker for what was asked before a stop: what is in the ledger is found there, and nothing else is made."""

    name = "ended"
    batch = 1_000_000

    async def run(self, requests: Sequence[Request]) -> list[Outcome]:
        """Return that each was stopped."""
        return [Failed(STOPPED, "") for _ in requests]

    async def revive(self) -> None:
        """Do nothing."""


async def _closed(study: Study, worker: TeamWorker) -> StudyResult:
    """Run a study; the models' connections end with the loop that this runs in."""
    try:
        return await study.run_async()
    finally:
        await worker.close()


def given_team(given: GivenTeam) -> TeamSpec:
    """Return the team that is given, or named by a file.

    Raises:
        SpecError: it is not well formed; the place is named.
    """
    if isinstance(given, TeamSpec):
        return given
    return TeamSpec.parse(given) if isinstance(given, dict) else load_team(given)


def check_kind(team: TeamSpec, item: TaskItem, where: str) -> None:
    """Refuse an item that the team does not answer: what it says would be scored as something else.

    Raises:
        SpecError: the item asks for another kind of answer than the team's.
    """
    if item.kind != team.answer.kind:
        asks = f"{item.kind} ({item.question[:40]!r})"
        raise SpecError(f"{where}: kind", asks, f"{team.answer.kind}, which is what the team answers with")
