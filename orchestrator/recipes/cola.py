"""CoLa end to end: questions in, searched layer paths and an honest report out.

    spec -> model hosts on Ray -> study of searches (and random search beside) -> menu -> verification
         -> records -> figures -> result.json, report.html

Knows the parts and wires them; how a search, a host or a ledger works is none of its business.
"""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from ...models.evaluator import ScorerSpec
from ...models.host import HostSpec
from ...models.sources import LocalModel, ensure
from ...records import JSON, Outcome, Scored, Trial, canonical
from ..budget import Budget, Limits
from ..cluster import check_address, cluster
from ..data import Question, load_questions
from ..driver import Counts, summed
from ..events import Event, EventLog, Events
from ..hosts import HostWorker, ScorerIdentity, host_workers
from ..ledger import Ledger
from ..runfolder import RunFolder, write_json, write_text
from ..spec import as_json, validated
from ..study import BatchPlan, Strand, Study, StudyResult
from .cola_phases import menu_candidates, menu_strands, records, search_strands, split_of, verify_strands
from .cola_records import ItemRecord, PathScore, reported_path
from .cola_result import CoLaResult
from .cola_spec import CoLaSpec
from .cola_stats import summarise

SCHEMA = 1
"""Version of result.json."""


class CoLa:
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

    spec_type: ClassVar[type[CoLaSpec]] = CoLaSpec

    def __init__(
        self,
        model: str = "smollm2-135m",
        data: str | Path | Sequence[Question | dict[str, JSON]] | None = None,
        **settings: Any,
    ) -> None:
        given = {"model": model, **settings}
        if isinstance(data, str | Path):
            given["data"] = str(data)
        elif data is not None:
            given["data"] = "inline"
        self.spec = validated(CoLaSpec, given, "cola")
        if data is None or isinstance(data, str | Path):
            self.questions = load_questions(self.spec.data, self.spec.limit)
        else:
            self.questions = [Question.model_validate(question) for question in data][: self.spec.limit]
        self._events, self._stop = Events(), ""
        self._study: Study | None = None
        self._subscribers: list[Callable[[Event], None]] = []

    @classmethod
    def from_spec(cls, values: dict[str, JSON]) -> "CoLa":
        """Return the run of a spec file's mapping."""
        spec = validated(CoLaSpec, values, "cola")
        return cls(**as_json(spec))

    @classmethod
    def resume(cls, folder: str | Path, run: dict[str, JSON] | None = None) -> "CoLa":
        """Return the run of an existing folder, ready to be run again with `out=folder`.

        Args:
            folder: Of the run.
            run: Changes to how it is carried out (actors, budgets).
        """
        run_folder = RunFolder.open(Path(folder))
        values = run_folder.spec()
        del values["resolved"]
        values["run"] = {**values["run"], **(run or {})}
        made = cls.from_spec({**values, "data": str(run_folder.path / "data.jsonl")})
        made.spec = validated(CoLaSpec, values, "cola")
        return made

    def subscribe(self, subscriber: Callable[[Event], None]) -> "CoLa":
        """Hand every event of the run to `subscriber`; returns self."""
        self._subscribers.append(subscriber)
        return self

    def request_stop(self, reason: str) -> None:
        """Let the run end soon with a valid partial result; safe from signal handlers."""
        self._stop = self._stop or reason
        if self._study is not None:
            self._study.request_stop(reason)

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
        folder = RunFolder.create(Path(out or f"runs/cola-{datetime.now():%Y%m%d-%H%M%S}"), "cola")
        with folder.driving():
            folder.settle_spec({**as_json(self.spec), "resolved": self._resolved(model)})
            write_text(
                folder.path / "data.jsonl", "".join(f"{question.model_dump_json()}\n" for question in self.questions)
            )
            log = EventLog(folder.path / "events.jsonl")
            self._events = Events(log.last)
            subscribers: list[Callable[[Event], None]] = [log, *self._subscribers]
            for subscriber in subscribers:
                self._events.subscribe(subscriber)
            try:
                with cluster(address, cpus=self.spec.run.actors) as where:
                    self._events(
                        "run", {"id": folder.id, "state": "RUNNING", "cluster": where, "folder": str(folder.path)}
                    )
                    return self._run(folder, model)
            finally:
                log.close()

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
        self._study = Study(
            strands, session.identity, session.workers, session.ledger,
            plan=plan, budget=session.budget, events=self._events, run_id=session.run, total=each * len(strands),
        )  # fmt: skip
        if self._stop:
            self._study.request_stop(self._stop)
        self._events("phase", {"phase": phase, "strands": len(strands), "total": each * len(strands)})
        result = self._study.run()
        self._stop = self._stop or result.stop_reason
        return result

    def _finish(self, folder: RunFolder, model: LocalModel, session: "_Session", found: "_Found") -> CoLaResult:
        """Write result, timing and report."""
        from ..report.page import render

        status = "STOPPED" if self._stop else "SUCCEEDED"
        result = {
            "schema": SCHEMA,
            "method": "cola",
            "status": status,
            "stop_reason": self._stop,
            "spec": {name: value for name, value in as_json(self.spec).items() if name != "run"},
            "resolved": self._resolved(model),
            "summary": summarise(found.items, self.spec.rule, len(self.questions) - len(found.items)),
            "excluded": found.excluded(self.questions),
            "items": [item.to_json() for item in found.items],
        }
        timing = {
            "seconds": round(session.budget.seconds, 3),
            "actors": self.spec.run.actors,
            "host": platform.node(),
            "versions": _versions(),
            "counts": asdict(found.counts),
            "spent": session.budget.spent,
            "cost": found.cost,
        }
        write_json(folder.path / "result.json", result)
        write_json(folder.path / "timing.json", timing)
        write_text(folder.path / "report.html", render(result, timing))
        self._events("done", {"status": status, "stop_reason": self._stop, "folder": str(folder.path)})
        return CoLaResult(folder.path, result, timing)

    def _resolved(self, model: LocalModel) -> dict[str, JSON]:
        """Return what the spec's names stood for: the model's hash, the data's digest."""
        text = "\n".join(canonical(question.model_dump()) for question in self.questions)
        return {
            "model_hash": model.model_hash,
            "layers": model.layers,
            "parameters": model.parameters,
            "items": len(self.questions),
            "data_sha256": sha256(text.encode()).hexdigest(),
        }

    def _pulling(self, stage: str, done: int, total: int) -> None:
        for subscriber in self._subscribers:
            subscriber(Event(0, "", "pull", {"stage": stage, "done": done, "total": total}))


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
        ledger = Ledger(spec.run.ledger or folder.path / "ledger.db")
        scorer = ScorerSpec(model.model_hash, spec.dtype, spec.device, spec.bos)
        # A folder is named by its path, so that a host on any node of this machine finds it.
        source = str(model.folder) if spec.model == "inline" else spec.model
        host = HostSpec(source, scorer, spec.run.cache_mb << 20, gpus=1.0 if spec.device == "cuda" else 0.0)
        started = time.monotonic()
        workers = host_workers(host, spec.run.actors)
        events("hosts", {"actors": len(workers), "seconds": round(time.monotonic() - started, 3)})
        limits = Limits(evaluations=spec.run.budget_evaluations, seconds=spec.run.budget_seconds)
        budget = Budget(limits)
        for cost in ledger.costs(folder.id):  # paid before this start
            budget.count(cost)
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
        for name, value in asdict(result.counts).items():
            setattr(self.counts, name, getattr(self.counts, name) + value)
        # Search and random search both ask the identity; it was paid once and is one object.
        told = (outcome for pairs in result.outcomes.values() for _, outcome in pairs)
        once = {id(outcome): outcome.cost for outcome in told if isinstance(outcome, Scored)}
        self.cost = summed([self.cost, *once.values()])


def _scores(told: Sequence[tuple[Trial, Outcome]]) -> tuple[PathScore, ...]:
    return tuple(PathScore.of(*pair) for pair in told)


def _versions() -> dict[str, str]:
    """Return the versions that a figure may depend on."""
    from importlib.metadata import version

    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("plait", "torch", "transformers", "ray")},
    }
