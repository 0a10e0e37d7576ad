"""From findings to changed teams: repairs asked for, refused, asked again, applied. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ..records import JSON, Outcome, Scored
from ..team_edits import Patch, Refusal, SetInstructions, apply, edit_line, parse_patch
from ..teams import TeamSpec
from .textual_judging import Challenger
from .textual_profiles import TextualProfile
from .textual_rebase import rebase
from .textual_records import EditRecord, Program
from .textual_trials import Finding, Repair


@dataclass
class Repairs:
    """Asks for repairs and applies what comes back.

    Attributes:
        profile: Which edits it allows, and how often it asks again.
        judged: Hashes of all teams that were, or are about to be, judged.
        leaks: Whether a text holds part of a question that teams are judged by.
        models: Names of chat models that an edit may bring in.
        refusals: By code, attempts that were asked again among them.
        failed: Repairs that gave no answer.
        asked: Proposals so far.
    """

    profile: TextualProfile
    judged: set[str]
    leaks: Callable[[str], bool] | None = None
    models: Sequence[str] = ()
    refusals: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    asked: int = 0

    def number(self, repairs: Sequence[Repair]) -> list[Repair]:
        """Return repairs with the run's next numbers."""
        numbered = [replace(repair, index=self.asked + at) for at, repair in enumerate(repairs)]
        self.asked += len(numbered)
        return numbered

    def run(self, step: int, repairs: Sequence[Repair]) -> Program[list[Challenger]]:
        """Return one challenger a repair, in their order; the record of one that came to no team says so."""
        made = [Challenger(one.team, EditRecord(step, one.index, one.finding), one.team) for one in repairs]
        asking = list(zip(repairs, made, strict=True))
        for _ in range(1 + self.profile.reasks):
            if not asking:
                break
            outcomes = yield [repair for repair, _ in asking]
            for (repair, one), outcome in zip(asking, outcomes, strict=True):
                self._take(repair, one, outcome)
            asking = [
                (replace(repair, attempt=repair.attempt + 1, refused=one.record.why), one)
                for repair, one in asking
                if one.record.verdict == "refused"
            ]
        return made

    def together(self, step: int, repairs: Sequence[Repair]) -> Program[list[Challenger]]:
        """Return one challenger with the edits of all repairs (TextGrad), beside the records of those refused."""
        if not repairs:
            return []
        outcomes = yield list(repairs)
        parent = repairs[0].team
        whole = Challenger(parent, EditRecord(step, repairs[0].index, Finding("", None, "prompt")), parent)
        edits: list[JSON] = []
        refused: list[Challenger] = []
        for repair, outcome in zip(repairs, outcomes, strict=True):
            one = Challenger(whole.team, EditRecord(step, repair.index, repair.finding), parent)
            self._take(replace(repair, team=whole.team), one, outcome, keep=False)
            if one.record.verdict == "open":
                whole.team = one.team
                whole.record.edits += one.record.edits
                edits += one.record.patch["edits"]
            else:
                refused.append(one)
        if not edits:
            return refused
        whole.record.patch, whole.record.child = {"edits": edits, "rationale": ""}, whole.team.hash
        whole.record.attempts = 1
        self.judged.add(whole.team.hash)
        return [whole, *refused]

    def again(self, step: int, incumbent: TeamSpec, passed: Sequence[Challenger]) -> list[Challenger]:
        """Return challengers of edits that passed before, fitted to the new incumbent; no repair is asked for."""
        made = []
        for old in passed:
            record = EditRecord(step, old.record.index, old.record.finding, again=True)
            one = Challenger(incumbent, record, incumbent)
            patch = parse_patch(old.record.patch)
            self._apply(one, patch if isinstance(patch, Refusal) else rebase(patch, old.parent, incumbent))
            if record.patch is None:
                record.patch, record.edits = old.record.patch, old.record.edits
            made.append(one)
        return made

    def _take(self, repair: Repair, one: Challenger, outcome: Outcome, *, keep: bool = True) -> None:
        """Write what came of one attempt into its record; `keep` where its team is to be judged as it is."""
        record = one.record
        record.attempts += 1
        record.verdict = "open"
        if not isinstance(outcome, Scored):
            self.failed += 1
            record.verdict, record.why = "failed", f"{outcome.reason} {outcome.detail}".strip()
            return
        values = outcome.values.get("patch")
        if values is None:
            error = str(outcome.values.get("error") or "no patch in the answer, expected one")
            self._refuse(one, Refusal("no-patch", "answer", error))
            return
        one.team = repair.team
        self._apply(one, self._allowed(parse_patch(values), repair.finding), keep=keep)

    def _allowed(self, patch: Patch | Refusal, finding: Finding) -> Patch | Refusal:
        """Return the patch where the profile allows its edits, and at the agent that it was aimed at."""
        if isinstance(patch, Refusal) or not self.profile.edits:
            return patch
        for number, edit in enumerate(patch.edits, 1):
            where = f"edit {number}, {edit.op}"
            if edit.op not in self.profile.edits:
                return Refusal("edit-not-allowed", where, f"expected {' or '.join(self.profile.edits)}")
            if isinstance(edit, SetInstructions) and finding.agent and edit.agent != finding.agent:
                return Refusal("edit-not-allowed", where, f"expected the instructions of {finding.agent}")
        return patch

    def _apply(self, one: Challenger, patch: Patch | Refusal, *, keep: bool = True) -> None:
        edited: TeamSpec | Refusal = patch if isinstance(patch, Refusal) else self._edited(one.team, patch)
        if not isinstance(patch, Refusal):
            one.record.patch = patch.model_dump(mode="json", exclude_unset=True)  # `op` is a default and must stay
            one.record.edits = tuple(edit_line(edit) for edit in patch.edits)
        if isinstance(edited, Refusal):
            self._refuse(one, edited)
            return
        one.team, one.record.child, one.record.why = edited, edited.hash, ""
        if keep:
            self.judged.add(edited.hash)

    def _edited(self, team: TeamSpec, patch: Patch) -> TeamSpec | Refusal:
        return apply(team, patch, judged=self.judged, leaks=self.leaks, models=self.models)

    def _refuse(self, one: Challenger, refusal: Refusal) -> None:
        self.refusals[refusal.code] += 1
        one.record.verdict, one.record.refusal, one.record.why = "refused", refusal.code, str(refusal)
