"""CoLa end to end: questions in, searched layer paths and an honest report out.

    spec -> model hosts on Ray -> study of searches (and random search beside) -> menu -> verification
         -> records -> figures -> result.json, report.html

Knows the parts and wires them; how a search, a host or a ledger works is none of its business.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from ...models.evaluator import ScorerSpec
from ...models.host import HostSpec
from ...models.sources import LocalModel, ensure, text_hash
from ...records import JSON, Outcome, Scored, Trial
from ..budget import Budget, Limits
from ..cluster import check_address
from ..counts import Counts
from ..data import Question, given_questions, load_questions
from ..driver import budget_of, summed
from ..events import Events
from ..hosts import HostWorker, ScorerIdentity, host_workers
from ..ledger import Ledger
from ..runfolder import RunFolder
from ..spec import validated
from ..study import BatchPlan, Strand, Study, StudyResult
from .base import MethodRun, opened_ledger, rows_digest
from .cola_phases import menu_candidates, menu_strands, records, search_strands, split_of, verify_strands
from .cola_records import ItemRecord, PathScore, reported_path
from .cola_result import CoLaResult
from .cola_spec import CoLaSpec
from .cola_stats import summarise

SCHEMA = 1
"""Version of result.json."""


class CoLa(MethodRun):
    """Search, per question, which layers of a pretrained decoder to run, skip or repeat.

    >>> result = CoLa(model="smollm2-135m", data="plait:questions", limit=8, simulations=20).run()  # doctest: +SKIP
    >>> result.summary["oracle"]["search"]["mean"]  # doctest: +SKIP

    Args:
        model: A model source.
        data: A file of JSON lines, or questions themselves.
        settings: Any other field of `CoLaSpec`.

    Raises:
        SpecError: a setting cannot run.
        DataError: a question cannot be used.
    """

    method: ClassVar[str] = "cola"
    spec_type: ClassVar[type[CoLaSpec]] = CoLaSpec
    result_type: ClassVar[type[CoLaResult]] = CoLaResult

    def __init__(
        self,
        model: str = "smollm2-135m",
        data: str | Path | Sequence[Question | dict[str, JSON]] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        given = {"model": model, **settings}
        if isinstance(data, str | Path):
            given["data"] = str(data)
        elif data is not None:
            given["data"] = "inline"
        self.spec = validated(CoLaSpec, given, "cola")
        if data is None or isinstance(data, str | Path):
            self.questions = load_questions(self.spec.data, self.spec.limit)
        else:
            self.questions = given_questions(data)[: self.spec.limit]

    def plan(self) -> dict[str, JSON]:
        """Return what the run would ask for at most, without running anything."""
        searches = 2 if self.spec.random_baseline else 1
        n = len(self.questions)
        search = n * searches * (self.spec.simulations + 1)
        menu = n * (self.spec.menu + 1) if self.spec.menu else 0
        verify = n if self.spec.verify else 0
        return {"items": n, "search": search, "menu": menu, "verify": verify, "evaluations": search + menu + verify}

    def run(self, out: str | Path | None = None, *, address: str | None = None) -> CoLaResult:
        """Run, or continue, and return the result; the run folder holds all of it.

        Args:
            out: The run folder; by default a new one under `runs/`. An existing run of the same spec is continued.
            address: Of an existing Ray cluster; RAY_ADDRESS counts too.

        Raises:
            PlaitError: any of `errors.py`; what was paid for is in the ledger.
        """
        check_address(address)
        model = ensure(self.spec.model, progress=self._pulling)
        with self._opened(
            out, address, resolved=self._resolved(model), rows=self.questions, cpus=self.spec.run.actors
        ) as folder:
            return self._run(folder, model)

    def _run(self, folder: RunFolder, model: LocalModel) -> CoLaResult:
        session = _Session.start(self.spec, folder, model, self._events)
        try:
            found = self._phases(session, model.layers)
        finally:
            session.ledger.close()
        return self._finish(folder, model, session, found)

    def _phases(self, session: "_Session", depth: int) -> "_Found":
        """Run the studies one after another, each on what the one before found."""
        spec, questions = self.spec, self.questions
        splits = split_of(spec, questions)
        searched = self._study_of(session, "search", search_strands(spec, questions, depth), spec.simulations + 1)
        items = records(questions, splits, depth, searched.outcomes)
        found = _Found(items, searched)
        if self._stop or not items:
            return found
        scored = {item.id for item in items}
        questions = [question for question in questions if question.id in scored]
        if spec.menu:
            menu = menu_candidates(items, spec.rule, spec.menu)
            told = self._study_of(session, "menu", menu_strands(spec, questions, menu), len(menu))
            found.add("menu", told)
        if spec.verify and not self._stop:
            paths = [reported_path(item, spec.rule) for item in items]
            told = self._study_of(session.alone(), "verify", verify_strands(spec, questions, paths), 1)
            found.add("verified", told)
        return found

    def _study_of(self, session: "_Session", phase: str, strands: list[Strand], each: int) -> StudyResult:
        plan = BatchPlan(self.spec.ask, self.spec.lag, self.spec.run.window * self.spec.run.actors * 2)
        study = self._current = Study(
            strands, session.identity, session.workers, session.ledger,
            plan=plan, budget=session.budget, events=self._events, run_id=session.run, total=each * len(strands),
        )  # fmt: skip
        if self._stop:
            study.request_stop(self._stop)
        self._events("phase", {"phase": phase, "strands": len(strands), "total": each * len(strands)})
        result = study.run()
        self._stop = self._stop or result.stop_reason
        return result

    def _finish(self, folder: RunFolder, model: LocalModel, session: "_Session", found: "_Found") -> CoLaResult:
        """Write result, timing and report."""
        from ..report.page import render

        result = self._result(
            SCHEMA,
            self._resolved(model),
            summary=summarise(found.items, self.spec.rule, len(self.questions) - len(found.items)),
            excluded=found.excluded(self.questions),
            items=[item.to_json() for item in found.items],
        )
        timing = self._timing(session.budget, found.counts, found.cost, actors=self.spec.run.actors)
        self._write(folder, result, timing, render)
        return CoLaResult(folder.path, result, timing)

    def _resolved(self, model: LocalModel) -> dict[str, JSON]:
        """Return what the spec's names stood for: the model's hash, the data's digest."""
        return {
            "model_hash": model.model_hash,
            "layers": model.layers,
            "parameters": model.parameters,
            "items": len(self.questions),
            "data_sha256": rows_digest(self.questions),
        }


@dataclass
class _Session:
    """What the studies of one start share."""

    run: str
    identity: ScorerIdentity
    workers: list[HostWorker]
    ledger: Ledger
    budget: Budget

    @classmethod
    def start(cls, spec: CoLaSpec, folder: RunFolder, model: LocalModel, events: Events) -> "_Session":
        """Open the ledger first, since it may refuse, then place the hosts."""
        ledger = opened_ledger(spec.run.ledger, folder)
        files = text_hash(model.folder)
        scorer = ScorerSpec(model.model_hash, spec.dtype, spec.device, spec.bos, files=files)
        # A folder is named by its path, so that a host on any node of this machine finds it.
        source = str(model.folder) if spec.model == "inline" else spec.model
        gpus = 1.0 if spec.device == "cuda" else 0.0
        host = HostSpec(source, scorer, files, spec.run.cache_mb << 20, gpus=gpus)
        started = time.monotonic()
        workers = host_workers(host, spec.run.actors)
        events("hosts", {"actors": len(workers), "seconds": round(time.monotonic() - started, 3)})
        limits = Limits(evaluations=spec.run.budget_evaluations, seconds=spec.run.budget_seconds)
        budget = budget_of(limits, ledger, folder.id)
        return cls(folder.id, ScorerIdentity(scorer), workers, ledger, budget)

    def alone(self) -> "_Session":
        """Return the same session in canonical mode: nothing shared, nothing batched."""
        scorer = replace(self.identity.scorer, mode="alone")
        workers = [worker.answering(scorer) for worker in self.workers]
        return replace(self, identity=ScorerIdentity(scorer), workers=workers)


@dataclass
class _Found:
    """Records as they grow, and what they cost."""

    items: list[ItemRecord]
    searched: StudyResult
    counts: Counts = field(default_factory=Counts)
    cost: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._count(self.searched)

    def add(self, name: str, result: StudyResult) -> None:
        """Put a study's outcomes into the records: `menu` or `verified`."""
        prefix = {"menu": "menu", "verified": "verify"}[name]
        found = [_scores(result.outcomes.get(f"{prefix}/{item.id}", [])) for item in self.items]
        changes: list[dict[str, Any]] = [{name: scores} for scores in found]
        self.items = [replace(item, **change) for item, change in zip(self.items, changes, strict=True)]
        self._count(result)

    def excluded(self, questions: Sequence[Question]) -> list[JSON]:
        """Return the questions without a record, with the reason."""
        known = {item.id for item in self.items}
        out = []
        for question in questions:
            if question.id not in known:
                told = self.searched.outcomes.get(f"search/{question.id}", [])
                reason = PathScore.of(*told[0]).failure if told else "not reached"
                out.append({"id": question.id, "reason": reason})
        return out

    def _count(self, result: StudyResult) -> None:
        self.counts.add(result.counts)
        # Search and random search both ask the identity; it was paid once and is one object.
        told = (outcome for pairs in result.outcomes.values() for _, outcome in pairs)
        once = {id(outcome): outcome.cost for outcome in told if isinstance(outcome, Scored)}
        self.cost = summed([self.cost, *once.values()])


def _scores(told: Sequence[tuple[Trial, Outcome]]) -> tuple[PathScore, ...]:
    return tuple(PathScore.of(*pair) for pair in told)
