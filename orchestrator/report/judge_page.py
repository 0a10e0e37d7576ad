"""One self-contained HTML page a judge run: readable on a phone, without network or scripts."""

from collections.abc import Sequence
from typing import Any

from ...records import JSON
from ..recipes.judge_records import Cast, ItemVerdict, Outcome, vote_of
from ..recipes.judge_statement import beats, chance_standing
from ..recipes.judge_stats import statement
from .drawing import svg
from .judge_figures import (
    agreement_figure,
    correlation_figure,
    cost_figure,
    length_figure,
    position_figure,
    reliability_figure,
    votes_figure,
)
from .template import environment, percent

SHOWN = 60
"""Items that can be opened on the page; result.json holds all."""


def render(result: dict[str, JSON], timing: dict[str, JSON]) -> str:
    """Return the page of a result; `timing` may be empty."""
    summary = result["summary"]
    made = environment()
    made.filters |= {"number": number, "span": span}
    rows = [ItemVerdict.model_validate(row) for row in result["items"][:SHOWN]]
    return made.get_template("judge.html.j2").render(
        result=result,
        summary=summary,
        spec=result["spec"],
        models=_models(result["spec"].get("model")),
        timing=timing,
        statement=statement(summary).replace(" %", "\u00a0%"),  # a line must not end between the two
        warn=_warns(summary),
        reasons=_reasons(summary),
        figures=_figures(summary, timing),
        rows=[_row(row) for row in rows],
        cost=timing.get("cost") or {},
        counts=timing.get("counts") or {},
    )


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with so many decimals; a dash for none."""
    return "–" if value is None else f"{value:.{digits}f}"


def span(value: dict[str, Any] | None) -> str:
    """Return `0.22 [0.05, 0.38]`, a figure that is no share, with its 95 % interval."""
    if value is None or value["mean"] is None:
        return "–"
    if value["low"] is None:
        return number(value["mean"])
    return f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


def _warns(summary: dict[str, JSON]) -> bool:
    """Return whether the headline must not look like good news."""
    if not summary["judges"]:
        return True
    return chance_standing(summary) != "above chance" or not (beats(summary, "longer") and beats(summary, "majority"))


def _reasons(summary: dict[str, JSON]) -> dict[str, Any]:
    """Return the table of abstentions: a row a reason, a column a network."""
    found = summary["abstentions"]
    names = list(dict.fromkeys(reason for counts in found.values() for reason in counts))
    return {
        "networks": list(found),
        "rows": [{"reason": name, "counts": [counts.get(name, 0) for counts in found.values()]} for name in names],
    }


def _figures(summary: dict[str, JSON], timing: dict[str, JSON]) -> list[dict[str, str]]:
    """Return title, caption and SVG of each picture there is something to show in."""
    made = [
        ("Agreement with people", "Share of verdicts that are the human label, with 95 % intervals over "
         "items. Grey judges read nothing.", agreement_figure(summary)),
        ("The order of the answers", _position_caption(summary), position_figure(summary)),
        ("The length of the answers", "Of verdicts that are no tie, how many go to the longer answer."
         + (" Above people it goes by length more than they do." if summary["judges"] else ""), length_figure(summary)),
        ("Can its confidence be believed?", _calibration_caption(summary), reliability_figure(summary)),
        ("Accuracy by number of votes", _votes_caption(summary), votes_figure(summary)),
        ("Do the neurons err together?", "Correlation of errors between neurons (1: always wrong on the same items). "
         "A panel whose neurons err together is worth few votes.", correlation_figure(summary)),
        ("What the calls took", "By kind of call, all networks of the run together.", cost_figure(timing)),
    ]  # fmt: skip
    return [
        {"title": title, "caption": caption, "svg": svg(figure, title)} for title, caption, figure in made if figure
    ]


def _position_caption(summary: dict[str, JSON]) -> str:
    text = (
        "Flip rate: how often the verdict changes when the answers are exchanged. Lean: +1 if the answer shown first "
        "always wins, −1 if the second does. The network asks both orders and merges them; shown is what it would say "
        "after one."
    )
    found = summary["position"]["consistency"]
    if found is None or found["accuracy_agreeing"] is None:
        return text
    return (
        f"{text} Its two orders agree on {percent(found['agreeing'])} of the items; there it is right "
        f"{percent(found['accuracy_agreeing'])} of the time, against {percent(found['accuracy_single'])} for one order "
        "over all items. Agreeing with itself is not being right."
    )


def _calibration_caption(summary: dict[str, JSON]) -> str:
    found = summary["calibration"]
    if found is None:
        return ""
    floor = found["before"]["floor"]
    text = (
        f"On the dashed line confidence is accuracy. ECE is the mean distance to it: {found['before']['ece']:.3f}; a "
        f"judge whose confidence is right would show {floor['mean']:.3f} on as many items, and seldom over "
        f"{floor['high']:.3f}."
    )
    if found["temperature"] is None:
        return f"{text} No temperature was fitted: that needs 20 labelled items in the slice."
    return f"{text} A temperature of {found['temperature']:.2f} was fitted on the slice."


def _votes_caption(summary: dict[str, JSON]) -> str:
    found = summary["by_votes"]
    if found is None:
        return ""
    credit = "An undecided vote counts half." if found["credit"] == "half" else "An undecided vote counts as a tie."
    return (
        "Votes of the first layer drawn in pairs of both orders, neurons in random order: exact means over all "
        f"orders, on {found['items']} items. {credit} Diamonds stop early: at a lead of so many votes, or (lossless) "
        "once no vote can change the outcome."
    )


def _row(row: ItemVerdict) -> dict[str, JSON]:
    """Return what one item shows."""
    verdict = row.network.verdict
    known = "" if row.human is None else "right" if verdict == row.human else "wrong"
    return {
        "row": row,
        "state": "abstained" if verdict == "abstain" else known,
        "margin": row.network.margin,
        "neurons": _neurons(row.network),
        "baselines": [(name, found.verdict, found.reason) for name, found in row.baselines.items()],
    }


def _neurons(outcome: Outcome) -> list[dict[str, JSON]]:
    """Return each neuron with what it said in both orders."""
    sides: dict[tuple[int, int], list[Cast]] = {}
    for ballot in outcome.ballots:
        sides.setdefault((ballot.layer, ballot.neuron), []).append(ballot)
    return [
        {"layer": layer, "angle": cast[0].angle, "model": cast[0].model, "orders": [_ballot(ballot) for ballot in cast]}
        for (layer, _), cast in sorted(sides.items(), key=lambda pair: pair[0])
    ]


def _ballot(ballot: Cast) -> dict[str, JSON]:
    """Return one order, its figures for answer 1 and answer 2 whatever was shown first."""
    one, two = (ballot.first, ballot.second) if ballot.order == "12" else (ballot.second, ballot.first)
    digits = 1 if ballot.tie is None else 2
    figures = f"{one:.{digits}f} : {two:.{digits}f}" + ("" if ballot.tie is None else f" (tie {ballot.tie:.2f})")
    shown = "1" if ballot.order == "12" else "2"
    return {"shown": shown, "figures": figures, "vote": vote_of(ballot), "via": ballot.via, "text": ballot.text}


def _models(names: str | Sequence[str] | None) -> str:
    return names if isinstance(names, str) else ", ".join(names or ("unnamed model",))
