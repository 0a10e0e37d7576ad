"""From the rows of a judge run to the figures of its report: pure, deterministic, each number with its control.

Figures of agreement are over labelled rows outside the slice; whatever is fitted is fitted on the slice. A run
without labels has coverage, votes, flips and agreement between neurons, and says what cannot be known.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from scipy import stats

from ...agents.judges.baselines import length_bias, longer_wins
from ...agents.judges.decision import Ballot
from ...agents.judges.metrics import items_for_width
from ...agents.judges.position import consistency, position_effect
from ...agents.judges.verdicts import LABELS, Abstain, Verdict, decode
from ...agents.judges.votes import aggregate, plurality
from ...candidates import JudgeNetwork
from ...intervals import SHARE, Interval, difference_interval, mean_interval
from ...records import JSON
from .judge_compare import GAIN, answers_of, judges
from .judge_panel import by_votes, calibration, labels_of, neuron_agreement, panel_worth
from .judge_records import ItemVerdict, Outcome, labelled, vote_of
from .judge_statement import statement
from .judge_voters import Panel, panel_of

RATIOS = (1.0, 1.25, 2.0, 4.0, float("inf"))
"""Edges of the groups of length ratio, longer over shorter."""


def summarise(rows: Sequence[ItemVerdict], network: JudgeNetwork | None = None) -> dict[str, JSON]:
    """Return every figure of the report.

    Args:
        rows: Of the run, in any order of items.
        network: How ballots become a verdict, where parts of the network are judged alone; by default the mean
            over all layers, without a tie band.
    """
    network = network or JudgeNetwork()
    reported = labelled(rows)
    fitted_on = [row for row in rows if row.slice and row.human is not None]
    # Without labels what can be said is said of all items.
    shown = reported or [row for row in rows if not row.slice] or list(rows)
    panel = panel_of(shown)
    table, fitted = judges(reported, fitted_on, panel, network) if reported else ([], None)
    return {
        **_counts(rows),
        "reported": len(reported),
        "slice": len(fitted_on),
        "ties": sum(row.human == "tie" for row in reported),
        "fitted": fitted,
        "judges": table,
        "chance": _chance(reported),
        "needed": _needed(reported),
        "position": _position(shown, reported, panel, network),
        "length": _length(shown, reported),
        "calibration": calibration(reported, fitted_on) if reported else None,
        "by_votes": by_votes(panel) if reported else None,
        "panel": panel_worth(panel, shown) if reported else None,
        "neurons_agree": neuron_agreement(shown),
    }


def _counts(rows: Sequence[ItemVerdict]) -> dict[str, JSON]:
    """Return what happened on all items, labelled or not."""
    found = [row.network for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row.baselines))
    by_network = {"network": found} | {
        name: [row.baselines[name] for row in rows if name in row.baselines] for name in names
    }
    calls: Counter[str] = Counter()
    for outcome in found:
        calls.update(outcome.failures)
    named = [bool(outcome.fallback) for outcome in found if outcome.angles or outcome.fallback]
    return {
        "items": len(rows),
        "labelled": sum(row.human is not None for row in rows),
        "coverage": mean_interval([outcome.verdict != "abstain" for outcome in found], "coverage"),
        "verdicts": {name: sum(outcome.verdict == name for outcome in found) for name in (*LABELS, "abstain")},
        "abstentions": {name: _reasons(outcomes) for name, outcomes in by_network.items()},
        "failed_calls": dict(sorted(calls.items())),
        "ballots": {
            "cast": sum(len(outcome.ballots) for outcome in found),
            "repaired": sum(ballot.via == "repair" for outcome in found for ballot in outcome.ballots),
            "an_item": mean_interval([len(outcome.ballots) for outcome in found], "ballots"),
        },
        "fallbacks": {"items": sum(named), "rate": mean_interval(named, "fallbacks")},
    }  # fmt: skip


def _reasons(outcomes: Sequence[Outcome]) -> dict[str, int]:
    return dict(sorted(Counter(one.reason or "unknown" for one in outcomes if one.verdict == "abstain").items()))


def _chance(reported: Sequence[ItemVerdict]) -> JSON:
    """Return what even draws score: their mean, and where 95 % of them fall on as many items."""
    if not reported:
        return None
    classes = 3 if any(row.human == "tie" for row in reported) else 2
    n = len(reported)
    low, high = (float(stats.binom.ppf(at, n, 1 / classes)) / n for at in (0.025, 0.975))
    return {"classes": classes, "accuracy": round(1 / classes, 6), "low": round(low, 6), "high": round(high, 6)}


def _needed(reported: Sequence[ItemVerdict]) -> JSON:
    """Return how many items give an interval of accuracy 3 points to each side, at the spread seen."""
    judged = [row for row in reported if row.network.verdict != "abstain"]
    rights = [float(row.network.verdict == row.human) for row in judged]
    if len(set(rights)) < 2:
        return None
    return {"points": GAIN, "items_for_width": items_for_width(rights, 2 * GAIN)}


# --- position -------------------------------------------------------------------------------------------------


def _position(
    shown: Sequence[ItemVerdict], reported: Sequence[ItemVerdict], panel: Panel | None, network: JudgeNetwork
) -> JSON:
    """Return what the order of the answers does: to the network asked in one order, to neurons, to each neuron."""
    one, two = ([_in_order(row.network, order, network) for row in shown] for order in ("12", "21"))
    found: dict[str, JSON] = {
        "network": asdict(position_effect(one, two, "network")),
        "neurons": _neurons_position(shown),
        "first_share": {order: _first_share(shown, order) for order in ("12", "21")},
        "by_neuron": [],
        "consistency": None,
    }
    if panel is not None:
        for place, name in enumerate(panel.names):
            one, two = ([decode(code) for code in panel.votes[:, place, side]] for side in (0, 1))
            found["by_neuron"].append({"name": name, **asdict(position_effect(one, two, name))})
    if reported:
        one, two = ([_in_order(row.network, order, network) for row in reported] for order in ("12", "21"))
        figures = asdict(consistency(one, two, labels_of(reported)))
        found["consistency"] = {key: value if value is None else round(value, 6) for key, value in figures.items()}
    return found


def _in_order(outcome: Outcome, order: str, network: JudgeNetwork) -> Verdict:
    """Return what the network would say had it asked in one order alone, un-swapped."""
    cast = [ballot for ballot in outcome.ballots if ballot.order == order]
    if not cast:
        return Abstain(outcome.reason or "NotAnswered")
    if network.stop != "none":
        return plurality([vote_of(ballot) for ballot in cast])
    chances = [_unswapped(ballot) for ballot in cast]
    return aggregate([[ballot.margin for ballot in cast]], network.pool, "all", network.tie_band, [chances])


def _unswapped(ballot: Ballot) -> tuple[float, float, float] | None:
    """Return a letter ballot's probabilities of model1, model2 and neither; None of scores."""
    if ballot.tie is None:
        return None
    first, second = (ballot.first, ballot.second) if ballot.order == "12" else (ballot.second, ballot.first)
    return first, second, ballot.tie


def _neurons_position(rows: Sequence[ItemVerdict]) -> JSON:
    """Return flip rate and lean of single neurons in all layers, as means over items of each item's neurons."""
    flips, leans, alone, pairs = [], [], 0, 0
    for row in rows:
        sides: dict[tuple[int, int], dict[str, float]] = {}
        for ballot in row.network.ballots:
            code = {"model1": 1.0, "model2": -1.0, "tie": 0.0}[vote_of(ballot)]
            sides.setdefault((ballot.layer, ballot.neuron), {})[ballot.order] = code
        both = [(side["12"], side["21"]) for side in sides.values() if len(side) == 2]
        alone += len(sides) - len(both)
        pairs += len(both)
        if both:
            flips.append(sum(a != b for a, b in both) / len(both))
            leans.append(sum(a - b for a, b in both) / 2 / len(both))
    return {
        "flip_rate": mean_interval(flips, "flip-rate", "neurons", support=SHARE),
        "lean": difference_interval(leans, "lean", "neurons", support=(-1.0, 1.0)),
        "pairs": pairs,
        "unjudged": alone,
    }


def _first_share(rows: Sequence[ItemVerdict], order: str) -> Interval:
    """Return how often a vote that is no tie goes to the answer shown first, a mean over items."""
    shares = []
    for row in rows:
        votes = [vote_of(ballot) for ballot in row.network.ballots if ballot.order == order]
        decided = [vote == ("model1" if order == "12" else "model2") for vote in votes if vote != "tie"]
        if decided:
            shares.append(sum(decided) / len(decided))
    return mean_interval(shares, "first-share", order, support=SHARE)


# --- length ---------------------------------------------------------------------------------------------------


def _length(shown: Sequence[ItemVerdict], reported: Sequence[ItemVerdict]) -> JSON:
    """Return how far the network goes by length, beside how far people do, over all and by length ratio."""
    groups = []
    for low, high in pairwise(RATIOS):
        inside = [row for row in shown if low <= _ratio(row) < high]
        groups.append(
            {"low": low, "high": None if high == float("inf") else high, **_to_longer(inside, bool(reported), str(low))}
        )
    return {**_to_longer(shown, bool(reported)), "groups": groups}


def _to_longer(rows: Sequence[ItemVerdict], with_labels: bool, *purpose: str) -> dict[str, Any]:
    """Return the share of verdicts, and of labels, that go to the longer answer, over rows where neither is a tie."""
    if with_labels:
        ours = [row.network.as_verdict for row in rows]
        return asdict(length_bias(ours, labels_of(rows), answers_of(rows), *purpose))
    longer = longer_wins(answers_of(rows))
    decided = [
        float(row.network.verdict == long)
        for row, long in zip(rows, longer, strict=True)
        if "tie" not in (row.network.verdict, long) and row.network.verdict != "abstain"
    ]
    return {"judge": mean_interval(decided, "length-judge", *purpose), "labels": None, "excess": None}


def _ratio(row: ItemVerdict) -> float:
    """Return the longer answer's length over the shorter's; an empty one counts as one character."""
    return max(*row.lengths, 1) / max(min(row.lengths), 1)


__all__ = ["statement", "summarise"]
