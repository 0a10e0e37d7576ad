"""Figures of a team's training: each team's accuracy beside the start team's, the verdict, every edit's evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean

from ...intervals import SHARE, mean_interval
from ...records import JSON, Failed, Scored
from ...search.gate import Confirmed, confirm, gain_of, pair_up
from ...search.textual import TextualSearch
from ...search.textual_trials import Forward
from ...team_pictures import diff, mermaid
from ...teams import TeamSpec
from .team_ending import Met, asked_facts, is_stopped, missing_facts, same_answer, unreadable, unreadable_note
from .team_phases import Told, samples_for, scores_of, single, static, statics
from .team_spec import TeamTrainSpec

ORACLE = "oracle: "
"""Begins the names of teams that an oracle chooses among; no row is shown for them."""


@dataclass
class Search:
    """One search, and what it was told.

    Attributes:
        name: Of its profile.
        search: The search.
        told: Its trials and their outcomes.
        cut_by: What ended it before its time, such as `the budget of 480 s`; "" where it came to its end.
    """

    name: str
    search: TextualSearch
    told: Told
    cut_by: str = ""

    @property
    def whole(self) -> int:
        """Steps that were ended: where a budget ends a search, its last one is not."""
        return max(0, len(self.search.steps) - (not self.search.done))

    @property
    def final(self) -> TeamSpec:
        """The incumbent after the last whole step."""
        return self.search.settled

    @property
    def tokens(self) -> int:
        """Tokens of all that it was told, whether paid for now or found."""
        return sum(int(outcome.values.get("tokens", 0)) for _, outcome in self.told if isinstance(outcome, Scored))


@dataclass
class Measured:
    """What teams did on the splits that no search saw.

    Attributes:
        teams: By name: `start`, a search's profile, a control.
        told: By split, then by team's name.
    """

    teams: dict[str, TeamSpec] = field(default_factory=dict)
    told: dict[str, dict[str, Told]] = field(default_factory=dict)

    def scores(self, split: str, name: str) -> dict[str, float | None]:
        """Return a team's scores by item."""
        return scores_of(self.told.get(split, {}).get(name, ()))

    def missing(self, split: str, name: str) -> dict[str, str]:
        """Return why an item has no score, by item, of a team's passes that gave none."""
        told = self.told.get(split, {}).get(name, ())
        return {trial.candidate.item: outcome.reason for trial, outcome in told if isinstance(outcome, Failed)}  # type: ignore[attr-defined]

    def unreadable(self, split: str, name: str) -> int:
        """Return how many of a team's answers could not be read, asked twice: they score 0."""
        return unreadable(self.told.get(split, {}).get(name, ()))

    def whole(self, split: str, *names: str) -> bool:
        """Return whether teams met a split, and no stop kept them from any of its items."""
        told = [self.told.get(split, {}).get(name, ()) for name in names]
        return all(told) and not any(is_stopped(outcome) for one in told for _, outcome in one)

    def met(self, spec: TeamTrainSpec, split: str, size: int) -> Met:
        """Return how many items of a split each team of the report has met; an oracle as many as the last of its."""
        told = self.told.get(split, {})
        count = {name: sum(not is_stopped(outcome) for _, outcome in one) for name, one in told.items()}
        names = ["start", *spec.searches, *(name for name in spec.controls if name not in (*spec.searches, "oracle"))]
        teams = {name: count.get(name, 0) for name in names}
        if "oracle" in spec.controls:
            least = [count.get(name, 0) for name in self.teams if name.startswith(ORACLE)]
            teams["oracle selection"] = min(least, default=0)
        return Met(split, size, teams)

    def mean(self, split: str, name: str, value: str) -> float | None:
        """Return the mean of a pass's value, such as `tokens`."""
        values = [
            float(outcome.values[value])
            for _, outcome in self.told.get(split, {}).get(name, ())
            if isinstance(outcome, Scored)
        ]
        return fmean(values) if values else None


def controls_of(spec: TeamTrainSpec, team: TeamSpec, measured: Measured, *, late: bool = False) -> dict[str, TeamSpec]:
    """Return the controls that are teams: those known at once, or (`late`) what depends on what was measured."""
    if not late:
        found = {"single": single(team)} if {"single", "best-of-n"} & set(spec.controls) else {}
        found |= {"static": static(team)} if "static" in spec.controls else {}
        if "oracle" in spec.controls:
            found |= {f"{ORACLE}{at}": one for at, one in enumerate(statics(team))}
        return found
    if "best-of-n" not in spec.controls:
        return {}
    own, one = measured.mean("confirm", "start", "tokens"), measured.mean("confirm", "single", "tokens")
    return {"best-of-n": single(team, samples_for(own or 0.0, one or 0.0))}


def summarise(
    spec: TeamTrainSpec, start: TeamSpec, own: Search, measured: Measured, *, notes: Sequence[str], stamp: str
) -> dict[str, JSON]:
    """Return all figures of a run but those of each search."""
    verdict = _verdict(spec, own, measured)
    answer = "final" if verdict is not None and verdict.passed else "start"
    told = measured.told.get("confirm", {})
    names = {"start": "start team"} | ({own.name: "final team"} if start.hash != own.final.hash else {})
    same = [note for name, who in names.items() for note in same_answer(told.get(name, ()), who)]
    same += [note for name, who in names.items() for note in unreadable_note(told.get(name, ()), who)]
    return {
        "start": _values(start), "final": _values(own.final), "changed": start.hash != own.final.hash,
        "answer": answer, "confirmed": _confirmed(verdict), "stamp": stamp, "notes": [*notes, *same],
        "rows": [row_of(name, measured) for name in measured.teams if not name.startswith(ORACLE)]
        + _oracle(measured),
        "diff": diff(start, own.final), "mermaid": {"start": mermaid(start), "final": mermaid(own.final)},
        "selection": selection(measured, "start"), "selection_final": selection(measured, own.name),
        "break_even": _break_even(own, measured),
    }  # fmt: skip


def _values(team: TeamSpec) -> JSON:
    return {"hash": team.hash, "team": team.model_dump(mode="json", exclude_defaults=True)}


def _verdict(spec: TeamTrainSpec, own: Search, measured: Measured) -> Confirmed | None:
    """Return whether the final team is better; None where nothing changed, or a stop left part of the split unmet."""
    if not measured.whole("confirm", "start", own.name) or measured.teams["start"].hash == own.final.hash:
        return None
    return confirm(measured.scores("confirm", "start"), measured.scores("confirm", own.name), spec.level)


def _confirmed(verdict: Confirmed | None) -> JSON:
    if verdict is None:
        return None
    seen = verdict.verdict
    return {
        "passed": verdict.passed, "wins": seen.wins, "losses": seen.losses, "ties": seen.ties, "missing": seen.missing,
        "p": float(f"{seen.p:.6g}"), "gain": verdict.gain, "level": verdict.level, "why": verdict.why,
    }  # fmt: skip


def row_of(name: str, measured: Measured) -> dict[str, JSON]:
    """Return a team's row: accuracy on confirm and test items, against the start team's, and what a use of it costs."""
    row: dict[str, JSON] = {"name": name, "oracle": False}
    for split in ("confirm", "test"):
        scores, start = measured.scores(split, name), measured.scores(split, "start")
        row[split] = _interval(scores, split) if scores else None
        row[f"{split}_minus_start"] = _paired(scores, start, split) if scores and name != "start" else None
        row |= _missing(split, measured.missing(split, name))
        row[f"{split}_unreadable"] = measured.unreadable(split, name)
    for value in ("calls", "tokens", "path", "unparsed"):
        mean = measured.mean("confirm", name, value)
        row[value] = None if mean is None else round(mean, 3)
    row["agents"] = len(measured.teams[name].agents())
    return row


def _missing(split: str, missing: Mapping[str, str]) -> dict[str, JSON]:
    return {f"{split}_missing": len(missing), f"{split}_missing_items": missing_facts(missing)}


def _interval(scores: Mapping[str, float | None], split: str) -> JSON:
    return mean_interval([score for score in scores.values() if score is not None], "team", split, support=SHARE)


def _paired(ours: Mapping[str, float | None], theirs: Mapping[str, float | None], split: str) -> JSON:
    return gain_of(pair_up(theirs, ours), split)


def _oracle(measured: Measured) -> list[dict[str, JSON]]:
    """Return the row of the block choice that the answer key makes for each item."""
    names = [name for name in measured.teams if name.startswith(ORACLE)]
    if not names:
        return []
    row: dict[str, JSON] = {"name": "oracle selection", "oracle": True, "agents": None}
    for split in ("confirm", "test"):
        best: dict[str, float | None] = {}
        for name in names:
            for item, score in measured.scores(split, name).items():
                known = best.get(item)
                best[item] = score if known is None else max(known, score if score is not None else known)
        row[split] = _interval(best, split) if best else None
        row[f"{split}_minus_start"] = _paired(best, measured.scores(split, "start"), split) if best else None
        row[f"{split}_unreadable"] = None
        lost = [measured.missing(split, name) for name in names]
        row |= _missing(split, {item: why for item, why in lost[0].items() if all(item in one for one in lost)})
    return [{**row, "calls": None, "tokens": None, "path": None, "unparsed": None}]


def selection(measured: Measured, name: str) -> dict[str, dict[str, JSON]]:
    """Return how often each layer's blocks were chosen on the confirm split, and how right the team was with each."""
    found: dict[str, dict[str, list[float]]] = {}
    for _, outcome in measured.told.get("confirm", {}).get(name, ()):
        if isinstance(outcome, Scored):
            for layer, stats in outcome.values["layers"].items():
                found.setdefault(layer, {}).setdefault(stats["block"], []).append(float(outcome.values["score"]))
    return {
        layer: {block: {"chosen": len(right), "accuracy": round(fmean(right), 6)} for block, right in blocks.items()}
        for layer, blocks in found.items()
    }


def search_facts(one: Search) -> dict[str, JSON]:
    """Return what a search did, step by step."""
    search = one.search
    return {
        "profile": one.name, "about": search.profile.about, "stop": "budget" if one.cut_by else search.stop,
        "ended_by": one.cut_by, "asked": asked_facts(one.told, search.steps),
        "final": one.final.hash, "tokens": one.tokens,
        "steps": [asdict(step) for step in search.steps[: one.whole]],
        "refusals": search.refusals, "failures": search.failures, "verdicts": search.verdicts,
        "curve": _curve(search, one.told),
    }  # fmt: skip


def _curve(search: TextualSearch, told: Told) -> list[dict[str, JSON]]:
    """Return each incumbent's validation score, which is no result: it decided, and repeated looks flatter it."""
    held = set(search.items)
    scores: dict[str, list[float]] = {}
    for trial, outcome in told:
        passed = trial.candidate
        if isinstance(passed, Forward) and passed.item in held and not passed.resample and isinstance(outcome, Scored):
            scores.setdefault(passed.team.hash, []).append(float(outcome.values["score"]))
    points, seen = list[dict[str, JSON]](), set[str]()
    for step in search.steps:
        for number, team in ((step.step, step.incumbent), (step.step + 1, step.adopted)):
            if team in scores and team not in seen:
                seen.add(team)
                points.append(
                    {
                        "step": number,
                        "team": team,
                        "validation": mean_interval(scores[team], "team-curve", support=SHARE),
                    }
                )
    return points


def _break_even(own: Search, measured: Measured) -> JSON:
    """Return what training took in uses of the final team, and after how many uses it has paid for itself.

    It pays where the final team is cheaper an item than as good a rival: best-of-n, or else the start team.
    """
    spent = own.tokens
    final = measured.mean("confirm", own.name, "tokens")
    if not final:
        return None
    rivals = {name: measured.mean("confirm", name, "tokens") for name in ("best-of-n", "start")}
    saved = {name: cost - final for name, cost in rivals.items() if cost is not None and cost > final}
    after = {name: round(spent / gain) for name, gain in saved.items()}
    return {"training_tokens": spent, "tokens_an_item": round(final, 1), "uses": round(spent / final), "after": after}
