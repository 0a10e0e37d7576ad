"""What kept a training run from more: critiques and repairs of no use, items without a score, what a budget cut off."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...records import JSON, Failed, Outcome, Scored
from ...search.textual_records import StepRecord
from ...search.textual_trials import Critique
from ..budget import Limits
from .team_phases import Told
from .team_rows import label
from .team_worker import STOPPED

REASONS = 5
"""Reasons that are kept of each kind, the commonest first."""
LENGTH = 200
"""Characters that are kept of a reason."""
FEWEST = 20
"""Answers from which it says something that they are all one."""
NAMED = 20
"""Ids that are kept of items without a score."""


def asked_facts(told: Told, steps: Sequence[StepRecord]) -> dict[str, JSON]:
    """Return of critiques and of repairs how many were asked for, how many were of no use, and why.

    Args:
        told: Trials of a search and their outcomes.
        steps: Its steps. A repair that is asked again counts once, by what it came to at last.
    """
    said = [outcome for trial, outcome in told if isinstance(trial.candidate, Critique) and not is_stopped(outcome)]
    edits = [edit for step in steps for edit in step.edits if edit.index >= 0 and not edit.again]
    return {
        "critique": _facts(len(said), (_reason(one) for one in said if isinstance(one, Failed))),
        "repair": _facts(len(edits), (edit.why for edit in edits if edit.verdict in {"failed", "refused"})),
    }


def _facts(asked: int, reasons: Iterable[str]) -> dict[str, JSON]:
    counts = Counter(" ".join(reason.split())[:LENGTH] for reason in reasons)
    return {"asked": asked, "useless": counts.total(), "reasons": dict(counts.most_common(REASONS))}


def _reason(failed: Failed) -> str:
    """Return why there is no critique; details of calls that failed differ from call to call."""
    return failed.detail if failed.reason == "Unparsable" else failed.reason


def is_stopped(outcome: Outcome) -> bool:
    """Return whether a stop or a budget ended a trial before it came to anything."""
    return isinstance(outcome, Failed) and outcome.reason == STOPPED


def missing_facts(missing: Mapping[str, str]) -> dict[str, JSON]:
    """Return the ids of the first items without a score, and how many there are for each reason.

    Args:
        missing: Reason by item.
    """
    return {"ids": list(missing)[:NAMED], "reasons": dict(Counter(missing.values()).most_common())}


def stated(reason: str, limits: Limits) -> str:
    """Return what ended something, as the subject of a sentence: `the budget of 480 s`; "" for nothing.

    Args:
        reason: Of the study: `budget: seconds`, `signal: SIGINT`; "" where it came to its end.
        limits: Of the run.
    """
    if not reason:
        return ""
    kind, _, name = reason.partition(": ")
    if kind != "budget":
        return f"a stop ({reason})"
    value = getattr(limits, name, None)
    if value is None:
        return "the budget"
    amount = {"seconds": f"{value:g} s", "usd": f"${value:g}"}.get(name, f"{value:,} {name}")
    return f"the budget of {amount}"


@dataclass(frozen=True)
class Met:
    """How many of a split's items the teams of a report have met.

    Attributes:
        split: Its name.
        size: Its items.
        teams: Items met, by row; 0 where a team had not begun.
    """

    split: str
    size: int
    teams: Mapping[str, int]

    def left(self, own: str) -> Iterator[str]:
        """Yield who has not met all of it; `own` is the profile of the run's own search."""
        for name, met in self.teams.items():
            if 0 < met < self.size:
                yield f"{label(name, own)} had met {met} of {self.size} {self.split} items"
        if none := [label(name, own) for name, met in self.teams.items() if self.size and not met]:
            yield f"the {self.split} split was still to be met by: {'; '.join(none)}"


def cut_short(searches: Sequence[Mapping[str, Any]], steps: int, splits: Iterable[Met], ended_by: str) -> list[str]:
    """Return what a budget or a stop cut off, a line each.

    Args:
        searches: Their facts, the run's own first.
        steps: That a search was to make at most.
        splits: Confirm and test split.
        ended_by: What ended the passes over them; "" where nothing did.
    """
    lines = [
        f"{one['ended_by']} ended the search {one['profile']} after {len(one['steps'])} of {steps} steps"
        for one in searches
        if one["ended_by"]
    ]
    if ended_by:
        left = [line for met in splits for line in met.left(searches[0]["profile"])]
        lines += [f"{ended_by} ended the run: {line}" for line in left]
    return lines


def same_answer(told: Told, who: str) -> tuple[str, ...]:
    """Return a note where a team gives one answer to all items and is not always right: it learned a form, no task."""
    seen = [outcome.values for _, outcome in told if isinstance(outcome, Scored)]
    answers = {values["answer"] for values in seen}
    if len(seen) < FEWEST or len(answers) > 1 or answers == {None} or all(values["score"] == 1 for values in seen):
        return ()
    return (f"the {who} gives one answer, {answers.pop()[:LENGTH]}, to all {len(seen)} confirm items",)


def unreadable(told: Told) -> int:
    """Return how many answers could not be read, asked twice: each scores 0, and is no wrong one."""
    return sum(isinstance(outcome, Scored) and outcome.values["answer"] is None for _, outcome in told)


def unreadable_note(told: Told, who: str) -> tuple[str, ...]:
    """Return a note where answers of a team could not be read."""
    count = unreadable(told)
    return (f"{count} of {len(told)} confirm answers of the {who} could not be read, and score 0",) if count else ()
