"""Teams trained end to end: a team and items in, a team that is better or a plain word that it is not, and a report.

    spec -> items, splits -> chat models, sandbox -> searches (the profile's, those of controls), the gate in them
         -> start, final team and controls on the confirm split, once -> verdict -> test split
         -> team.yaml, candidate.yaml, result.json, report.html

Knows the parts and wires them; how a search, a gate, a graph or a ledger works is none of its business.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Self

from ...agents.sandbox import Sandbox, SandboxModel
from ...agents.teams.gradient_given import BOUNDS
from ...agents.teams.gradient_wording import GradientWording
from ...agents.teams.gradients import Critique, Repair
from ...agents.teams.items import TaskItem
from ...agents.teams.wording import Wording
from ...models.chat import ChatModel
from ...records import JSON
from ...search.splits import Splits
from ...search.textual import TextualSearch
from ...team_files import load_team, save_team
from ...teams import TeamSpec
from ..budget import Budget
from ..calls import CallWorker
from ..driver import budget_of
from ..ledger import Ledger
from ..limiter import Limiter
from ..loops import run_blocking
from ..paying import Policy
from ..runfolder import RunFolder, write_json, write_text
from ..spec import validated
from ..study import BatchPlan, Strand, Study, StudyResult
from .base import MethodRun, opened_ledger
from .judge import _asked
from .judge_models import Named, named, open_models
from .team_data import items_digest, load_items
from .team_phases import Announced, Told, leak_check, passes, profile_of, settled_splits, take_split
from .team_plan import plan_of, reserved
from .team_result import TeamResult
from .team_spec import TeamTrainSpec
from .team_stats import Measured, Search, controls_of, search_facts, summarise
from .team_worker import TeamSetup, TeamWorker

SCHEMA = 1
"""Version of result.json."""
WHOLE = BatchPlan(ask=100_000, lag=100_000, window=64)
"""A phase of a search is asked at once: what a search over teams proposes waits for whole phases anyway."""


class TeamTrainer(MethodRun):
    """Training of a layered team of agents by textual backpropagation.

    >>> TeamTrainer("team.yaml", data="plait:numbers", model="smollm2-135m").run().verdict  # doctest: +SKIP

    Args:
        team: The team to begin with, or a file of one.
        data: A source of items, or the items.
        settings: Any other field of `TeamTrainSpec`.

    Raises:
        SpecError: a setting cannot run, or the team is not well formed.
        DataError: an item cannot be used.
    """

    method: ClassVar[str] = "team"
    spec_type: ClassVar[type[TeamTrainSpec]] = TeamTrainSpec
    result_type: ClassVar[type[TeamResult]] = TeamResult
    rows_kept: ClassVar[bool] = False

    def __init__(
        self, team: TeamSpec | str | Path | dict[str, Any], data: str | Path | Sequence[TaskItem] = "plait:numbers",
        **settings: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.team = _team(team)
        given = {"team": self.team.model_dump(mode="json", exclude_defaults=True), **settings}
        given["data"] = str(data) if isinstance(data, str | Path) else "inline"
        self.spec: TeamTrainSpec = validated(TeamTrainSpec, given, "team")
        self._given = None if isinstance(data, str | Path) else tuple(data)
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
        """The items of `data`, read and checked when first asked for."""
        return list(self._given) if self._given is not None else load_items(
            self.spec.data, self.spec.limit, self.spec.seed
        )  # fmt: skip

    @cached_property
    def test_items(self) -> list[TaskItem]:
        """The items of `test_data`; none where the test split is drawn from `data`."""
        if self._test is not None:
            return list(self._test)
        return load_items(self.spec.test_data) if self.spec.test_data else []

    @cached_property
    def by_id(self) -> dict[str, TaskItem]:
        """All items."""
        return {item.id: item for item in (*self.items, *self.test_items)}

    @cached_property
    def splits(self) -> Splits:
        """Which items are for what."""
        return settled_splits(self.spec, self.items, self.test_items)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the splits are too small for."""
        return self.splits.notes(profile_of(self.spec, self.spec.profile).gate)

    def plan(self) -> dict[str, JSON]:
        """Return what the run would ask for, without asking; refuses a budget below the floor."""
        return plan_of(self.spec, self.team, self.splits, self.notes)

    def run(self, out: str | Path | None = None, *, address: str | None = None) -> TeamResult:
        """Run, or continue, and return the result; the run folder holds all of it.

        Args:
            out: The run folder; by default a new one under `runs/`. An existing run of the same spec is continued.
            address: Of an existing Ray cluster, where a model is a host of ours; RAY_ADDRESS counts too.

        Raises:
            PlaitError: any of `errors.py`; what was paid for is in the ledger.
        """
        self.plan()  # refuses what the budget cannot pay for before anything is spent
        models = self._named()
        resolved: dict[str, JSON] = {
            "models": {name: model.resolved for name, model in models.items()}, "start": self.team.hash,
            "prompts": self.wording.hash, "data_sha256": items_digest(self.items),
            "splits": {name: len(items) for name, items in self.splits.parts()},
        }  # fmt: skip
        hosts = {model.text for model in models.values() if model.kind == "host"}
        cpus = self.spec.run.actors * len(hosts)
        with self._opened(out, address, resolved=resolved, cpus=cpus) as folder:
            self._keep_items(folder)
            ledger = opened_ledger(self.spec.run.ledger, folder)
            calls = Ledger(ledger.url)
            try:
                session = self._session(folder, ledger, calls, models)
                return self._run(session, resolved)
            finally:
                calls.close()
                ledger.close()

    def _run(self, session: "_Session", resolved: dict[str, JSON]) -> TeamResult:
        searches = self._searched(session)
        measured, stamp = Measured(), ""
        if not self._stop:
            stamp = self._confirm(session, searches, measured)
        return self._finish(session, searches, measured, stamp, resolved)

    # -- models

    def _named(self) -> dict[str, Named]:
        """Return the models by what teams call them: "" is the agents' own, `optimiser` the critic's."""
        texts = {"": self.spec.model, "optimiser": self.spec.optimiser or self.spec.model}
        texts |= {agent.model: agent.model for agent in self.team.agents() if agent.model}
        blocks = [block for layer in self.team.layers for block in layer.blocks]
        texts |= {block.aggregate.model: block.aggregate.model for block in blocks if block.aggregate.model}
        found = {
            text: named(text, self._pulling, dtype=self.spec.dtype, device=self.spec.device)
            for text in dict.fromkeys(texts.values())
        }
        return {name: found[text] for name, text in texts.items()}

    def _session(self, folder: RunFolder, ledger: Ledger, calls: Ledger, models: Mapping[str, Named]) -> "_Session":
        """Open models, sandbox and budget."""
        unique = {model.text: model for model in models.values()}
        opened = {text: open_models([model], self.spec.run, self.spec.prices) for text, model in unique.items()}
        names = {name: opened[model.text][0].pool for name, model in models.items()}
        workers = [worker for part in opened.values() for worker in part]
        box = SandboxModel(Sandbox())
        chats = {worker.pool: worker.model for worker in workers}
        critic: ChatModel = chats[names["optimiser"]]
        can = run_blocking(partial(_asked, critic))
        asking = {"wording": GradientWording(self.wording.folder), "structured": can.structured}
        bounds = BOUNDS.within(can.context, Critique().max_tokens)
        optimiser = names.pop("optimiser")
        setup = TeamSetup(
            items=self.by_id, train=frozenset(self.splits.train), models=names, optimiser=optimiser,
            wording=self.wording, critique=Critique(**asking, bounds=bounds), repair=Repair(**asking, bounds=bounds),
            seed=self.spec.seed, identities={name: chat.identity for name, chat in chats.items()},
        )  # fmt: skip
        run = f"{folder.id}-calls"
        budget = budget_of(self.spec.run.limits, ledger, run)
        sandbox = CallWorker(box, Limiter(most=box.slots, window=box.slots))
        worker = TeamWorker(
            setup, [*workers, sandbox], calls, budget, self._events, Policy(retries=self.spec.run.retries), run
        )
        return _Session(folder, ledger, worker, budget)

    # -- phases

    def _searched(self, session: "_Session") -> dict[str, Search]:
        """Run the searches of the profile and of controls, all at once, and return what each found."""
        leaks, models = leak_check(self.splits, self.by_id).leaks, sorted(set(session.worker.setup.models) - {""})
        known = session.steps()
        searches = {
            name: TextualSearch(
                self.team, self.splits.train, self.splits.validation, profile_of(self.spec, name), self.spec.seed,
                known.get(name, self.spec.steps), leaks, models,
            )
            for name in self.spec.searches
        }  # fmt: skip
        strands = [
            Strand(name, Announced(one, partial(self._announce, name)), "teams") for name, one in searches.items()
        ]
        session.budget.limits = reserved(self.spec, self.team, self.splits)
        told = self._study(session, "search", strands)
        session.budget.limits = self.spec.run.limits
        found = {name: Search(name, one, told[name]) for name, one in searches.items()}
        if session.ended:
            session.keep_steps({name: one.whole for name, one in found.items()})
        return found

    def _confirm(self, session: "_Session", searches: Mapping[str, Search], measured: Measured) -> str:
        """Let start, finals and controls meet confirm and test split, once; return the report's stamp."""
        teams = {"start": self.team, **{name: one.final for name, one in searches.items()}}
        stamp = ""
        for split in ("confirm", "test"):
            items = dict(self.splits.parts())[split]
            if not items or self._stop:
                continue
            finals = [one.final for one in searches.values()]
            if take_split(session.ledger, session.folder.id, split, items, self.team, finals, again=self.spec.again):
                stamp = f"{stamp} {split}: a second pass".strip()
            for wanted in (teams, controls_of(self.spec, self.team, measured)):
                for name, team in wanted.items():
                    measured.teams[name] = team
                unique = {team.hash: team for team in wanted.values()}
                told = self._study(session, split, [passes(key, team, items) for key, team in unique.items()])
                for name, team in wanted.items():
                    measured.told.setdefault(split, {})[name] = told[team.hash]
                if self._stop:
                    break
            late = controls_of(self.spec, self.team, measured, late=True)
            if late and not self._stop:  # how many samples the start team's tokens pay for is known only now
                told = self._study(session, split, [passes(name, team, items) for name, team in late.items()])
                measured.teams |= late
                measured.told[split] |= told
        return stamp

    def _study(self, session: "_Session", phase: str, strands: list[Strand]) -> dict[str, Told]:
        worker = session.worker
        self._events("phase", {"phase": phase, "strands": len(strands), "total": None})
        study = Study(
            strands, worker.setup, [worker], session.ledger, plan=WHOLE, events=self._events, run_id=session.folder.id
        )
        worker.begin(study.request_stop)
        self._current = _Both(study, worker)
        if self._stop:
            self._current.request_stop(self._stop)
        result = run_blocking(partial(_closed, study, worker))
        session.ended = result.stop_reason
        if result.stop_reason and not (phase == "search" and result.stop_reason.startswith("budget")):
            self._stop = self._stop or result.stop_reason
        return dict(result.outcomes)

    def _announce(self, profile: str, search: TextualSearch, number: int) -> None:
        step = search.steps[number]
        for edit in step.edits:
            self._events(
                "edit",
                {
                    "profile": profile, "step": step.step, "edits": list(edit.edits), "verdict": edit.verdict,
                    "wins": edit.wins, "losses": edit.losses, "items": edit.items, "p": round(edit.p, 4),
                    "why": edit.why,
                },
            )  # fmt: skip

    # -- what is left behind

    def _keep_items(self, folder: RunFolder) -> None:
        for name, items in (("items.jsonl", self.items), ("test.jsonl", self.test_items)):
            if items:
                write_text(folder.path / name, "".join(f"{item.model_dump_json()}\n" for item in items))

    def _finish(
        self, session: "_Session", searches: Mapping[str, Search], measured: Measured, stamp: str,
        resolved: dict[str, JSON],
    ) -> TeamResult:  # fmt: skip
        from ..report.team_page import render

        folder, own = session.folder, searches[self.spec.profile]
        summary = summarise(self.spec, self.team, own, measured, notes=self.notes, stamp=stamp)
        summary["searches"] = [search_facts(one) for one in searches.values()]
        save_team(own.final, folder.path / "candidate.yaml")
        save_team(own.final if summary["answer"] == "final" else self.team, folder.path / "team.yaml")
        result = self._result(SCHEMA, resolved, summary=summary)
        worker = session.worker
        timing = self._timing(session.budget, worker.counts, worker.cost)
        self._write(folder, result, timing, render)
        return TeamResult(folder.path, result, timing)


@dataclass
class _Session:
    """What the studies of one start share."""

    folder: RunFolder
    ledger: Ledger
    worker: TeamWorker
    budget: Budget
    ended: str = ""
    """Why the last study ended early; "" where it did not."""

    def steps(self) -> dict[str, int]:
        """Return how far each search went in an earlier start that its budget ended: it goes no further now."""
        place = self.folder.path / "steps.json"
        found: dict[str, int] = json.loads(place.read_text()) if place.exists() else {}
        return found

    def keep_steps(self, steps: dict[str, int]) -> None:
        """Keep how far searches went that a budget ended, so that a resumed run confirms the same teams."""
        write_json(self.folder.path / "steps.json", steps)


@dataclass
class _Both:
    """A study and the calls of its trials, stopped together."""

    study: Study
    worker: TeamWorker

    def request_stop(self, reason: str) -> None:
        """Stop both."""
        self.study.request_stop(reason)
        self.worker.request_stop(reason)


async def _closed(study: Study, worker: TeamWorker) -> StudyResult:
    """Run a study; the models' connections end with the loop that this runs in."""
    try:
        return await study.run_async()
    finally:
        await worker.close()


def _team(given: TeamSpec | str | Path | dict[str, Any]) -> TeamSpec:
    if isinstance(given, TeamSpec):
        return given
    return TeamSpec.parse(given) if isinstance(given, dict) else load_team(given)
