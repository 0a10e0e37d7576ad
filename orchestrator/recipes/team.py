"""Teams trained end to end: a team and items in, a team that is better or a plain word that it is not, and a report.

    spec -> items, splits -> chat models, sandbox -> searches (the profile's, those of controls), the gate in them
         -> start, final team and controls on the confirm split, once -> verdict -> test split
         -> team.yaml, candidate.yaml, result.json, report.html

Knows the parts and wires them; how a search, a gate, a graph or a ledger works is none of its business.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from ...agents.teams.gradient_given import BOUNDS
from ...agents.teams.gradient_wording import GradientWording
from ...agents.teams.gradients import Critique, Repair
from ...errors import SpecError
from ...records import JSON
from ...search.textual import TextualSearch
from ...team_files import save_team
from ..loops import run_blocking
from ..study import Strand
from .judge_models import capabilities_of
from .team_base import Session
from .team_ending import cut_short, stated
from .team_headroom import SplitMethod
from .team_headroom_result import headroom_line
from .team_met import met_elsewhere
from .team_models import OpenModels, names_in
from .team_phases import Announced, leak_check, notes_of, passes, profile_of, take_split, validation_for
from .team_plan import MOST_HEADROOM, passes_of_a_search, plan_of, reserved
from .team_result import TeamResult
from .team_spec import TeamTrainSpec
from .team_stats import Measured, Search, controls_of, search_facts, summarise
from .team_worker import TeamSetup

HELD_OUT = ("confirm", "test")
"""Splits that no search sees, in the order that teams meet them."""


class TeamTrainer(SplitMethod):
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

    _confirmed = False
    """Whether start and final team have met the whole confirm split."""

    @property
    def status(self) -> str:
        """`SUCCEEDED` also where a budget ended the run after its verdict: what is left out is in `cut_short`."""
        return "SUCCEEDED" if self._confirmed and self._stop.startswith("budget") else super().status

    @property
    def notes(self) -> tuple[str, ...]:
        """What the splits are too small for."""
        return notes_of(self.splits, profile_of(self.spec, self.spec.profile).gate)

    def _validation(self, room: int) -> int:
        """Return how many validation items the budget is best spent on; `run` decides nothing else of a result."""
        held_out = self.spec.confirm + (len(self.test_items[: self.spec.test or None]) or self.spec.test)
        return validation_for(passes_of_a_search(self.spec, self.team, held_out), room)

    def plan(self) -> dict[str, JSON]:
        """Return what the run would ask for, without asking; refuses a budget below the floor."""
        prompts = self.prompts if self.spec.headroom == "check" else ()
        return plan_of(self.spec, self.team, self.splits, self.notes, prompts=len(prompts))

    def run(self, out: str | Path | None = None, *, address: str | None = None) -> TeamResult:
        """Run, or continue, and return the result; the run folder holds all of it.

        Args:
            out: The run folder; by default a new one under `runs/`. An existing run of the same spec is continued.
            address: Of an existing Ray cluster, where a model is a host of ours; RAY_ADDRESS counts too.

        Raises:
            SpecError: plain prompts show nothing to learn (`headroom: check`), the splits have met another result.
            PlaitError: any of `errors.py`; what was paid for is in the ledger.
        """
        self.plan()  # refuses what the budget cannot pay for before anything is spent
        splits: dict[str, JSON] = {name: len(items) for name, items in self.splits.parts()}
        with self._working(out, address, {"splits": splits}, self.notes) as session:
            found = self._looked_for_headroom(session)
            searches = self._searched(session)
            measured, stamp = Measured(), ""
            if not self._stop:
                stamp = self._confirm(session, searches, measured)
            return self._finish(session, searches, measured, stamp, found)

    # -- models

    def _parts(self) -> dict[str, str | None]:
        """Return the judge's and the optimiser's models."""
        return {**super()._parts(), "optimiser": self.spec.optimiser}

    def _setup(self, models: OpenModels) -> TeamSetup:
        """Return what trials are run with, critics and repairs among them."""
        optimiser = models.pool("optimiser")
        can = run_blocking(partial(capabilities_of, models.chats[optimiser]))
        most, wording = self.spec.optimiser_tokens, GradientWording(self.wording.folder)
        bounds = BOUNDS.within(can.context, most)
        return replace(
            super()._setup(models), train=frozenset(self.splits.train), optimiser=optimiser,
            critique=Critique(wording=wording, max_tokens=most, structured=can.structured, bounds=bounds),
            repair=Repair(wording=wording, max_tokens=most, structured=can.structured, bounds=bounds),
        )  # fmt: skip

    # -- phases

    def _looked_for_headroom(self, session: Session) -> dict[str, JSON] | None:
        """Try plain prompts where the spec asks for it.

        Raises:
            SpecError: they show nothing to learn, and nobody said to train anyway.
        """
        if self.spec.headroom == "skip":
            return None
        found = self._headroom(session, MOST_HEADROOM)
        if found["learnable"] or self.spec.run.anyway or self._stop:
            return found
        raise SpecError(
            "team.headroom", headroom_line(found), "a task with headroom, or --anyway to train all the same"
        )

    def _searched(self, session: Session) -> dict[str, Search]:
        """Run the searches of the profile and of controls, all at once, and return what each found."""
        leaks, models = leak_check(self.splits, self.by_id).leaks, sorted(names_in(self.team))
        known, ended_by = session.cut()
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
        if session.ended:
            ended_by = stated(session.ended, self.spec.run.limits)
        found = {name: Search(name, one, told[name], ended_by if self._cut(one) else "")
                 for name, one in searches.items()}  # fmt: skip
        if session.ended.startswith("budget"):  # after any other stop a resumed run searches on
            session.keep_cut({name: one.whole for name, one in found.items() if one.cut_by}, ended_by)
        return found

    def _cut(self, search: TextualSearch) -> bool:
        """Return whether a search, in this start or an earlier one, was ended before its time."""
        return not search.done or (search.stop == "steps" and len(search.steps) < self.spec.steps)

    def _confirm(self, session: Session, searches: Mapping[str, Search], measured: Measured) -> str:
        """Let start, finals and controls meet confirm and test split, once; return the report's stamp."""
        teams = {"start": self.team, **{name: one.final for name, one in searches.items()}}
        stamp = ""
        for split in HELD_OUT:
            items = dict(self.splits.parts())[split]
            if not items or self._stop:
                continue
            finals = [one.final for one in searches.values()]
            met = take_split(session.ledger, session.folder.id, split, items, self.team, finals, again=self.spec.again)
            beside = met_elsewhere(session.folder.path, split, items, self.team, finals)
            for line in beside:
                self._events("note", {"note": line})
            # what the ledger knows needs no second line from the folders beside
            lines = [f"{split}: a second pass"] if met else beside
            stamp = "; ".join([*filter(None, [stamp]), *lines])
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

    def _finish(
        self, session: Session, searches: Mapping[str, Search], measured: Measured, stamp: str,
        found: dict[str, JSON] | None,
    ) -> TeamResult:  # fmt: skip
        folder, own = session.folder, searches[self.spec.profile]
        summary = summarise(self.spec, self.team, own, measured, notes=self.notes, stamp=stamp)
        summary |= {"searches": [search_facts(one) for one in searches.values()], "headroom": found}
        met = [measured.met(self.spec, name, len(items)) for name, items in self.splits.parts() if name in HELD_OUT]
        ended_by = stated(self._stop, self.spec.run.limits)
        summary["cut_short"] = cut_short(summary["searches"], self.spec.steps, met, ended_by)
        self._confirmed = measured.whole("confirm", "start", own.name)
        save_team(own.final, folder.path / "candidate.yaml")
        save_team(own.final if summary["answer"] == "final" else self.team, folder.path / "team.yaml")
        result: TeamResult = self._ended_with(session, summary)
        return result
