"""The table of judges: the network beside what was fitted, simpler networks and judges that read nothing. Pure."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ...agents.judges.baselines import longer_wins, majority_class, random_judge
from ...agents.judges.decision import Ballots, decide, holds_neither
from ...agents.judges.metrics import METRICS, agreement, crossed, items_to_show, paired_difference
from ...agents.judges.panel import FEWEST_LABELS
from ...agents.judges.verdicts import LABELS, Abstain, Label, Verdict
from ...agents.judges.votes import fit_band, verdict_of
from ...candidates import JudgeNetwork
from ...records import JSON
from .judge_panel import dawid_skene_panel, labels_of, weighted_panel
from .judge_records import ItemVerdict, Outcome
from .judge_voters import Panel, first_layer

GAIN = 0.03
"""Difference in accuracy for which the items needed are told."""


def judges(
    rows: Sequence[ItemVerdict], fitted_on: Sequence[ItemVerdict], panel: Panel | None, network: JudgeNetwork
) -> tuple[list[JSON], JSON]:
    """Return the table over labelled rows, the network first, and what was fitted on the slice.

    Args:
        rows: Labelled, nothing fitted on them.
        fitted_on: Labelled rows of the slice.
        panel: The neurons, for weights.
        network: How ballots become a verdict, for its first layer alone.
    """
    labels = labels_of(rows)
    ours = [row.network.as_verdict for row in rows]
    fitted, about = _fitted(rows, fitted_on, panel)
    table = [("network", "the network", "network", ours), *fitted, *_simpler(rows, panel, network), *_blind(rows)]
    return [_judge(key, name, kind, verdicts, ours, labels) for key, name, kind, verdicts in table], about


_Entry = tuple[str, str, str, list[Verdict]]


def _fitted(
    rows: Sequence[ItemVerdict], fitted_on: Sequence[ItemVerdict], panel: Panel | None
) -> tuple[list[_Entry], JSON]:
    """Return what the slice was used for: a tie band, log-odds weights; and Dawid-Skene, which needs no label."""
    entries: list[_Entry] = []
    about: dict[str, Any] = {"labels": len(fitted_on), "needed": FEWEST_LABELS, "band": None, "panel": None}
    known = [r for r in fitted_on if r.network.margin is not None and not holds_neither(r.network.ballots)]
    if len(known) >= FEWEST_LABELS and "tie" in labels_of(known):  # without ties there is no band to find
        band = fit_band([row.network.margin or 0.0 for row in known], labels_of(known))
        about["band"] = round(band, 6)
        entries.append(("band", "the network, tie band from the slice", "fitted", [_banded(r, band) for r in rows]))
    if panel is not None:
        weighed = weighted_panel(panel, rows, fitted_on)
        if isinstance(weighed, str):
            about["panel"] = {"reason": weighed}
        else:
            about["panel"] = weighed.calibration
            entries.append(("weighted", "panel weighed on the slice", "fitted", weighed.verdicts))
        unsupervised = dawid_skene_panel(panel, rows)
        if unsupervised is not None:
            about["dawid_skene"] = unsupervised.calibration
            entries.append(("dawid-skene", "Dawid-Skene, without labels", "comparison", unsupervised.verdicts))
    return entries, about


def _banded(row: ItemVerdict, band: float) -> Verdict:
    found = row.network.as_verdict
    if isinstance(found, Abstain):
        return found
    return "tie" if holds_neither(row.network.ballots) else verdict_of(row.network.margin, band)


def _simpler(rows: Sequence[ItemVerdict], panel: Panel | None, network: JudgeNetwork) -> list[_Entry]:
    """Return the first layer alone, other networks of the run, and the first neuron alone without a single judge."""
    entries: list[_Entry] = []
    if any(ballot.layer > first_layer(row.network) for row in rows for ballot in row.network.ballots):
        alone = [_first_layer_verdict(row.network, network) for row in rows]
        entries.append(("layer-1", "layer 1 alone", "comparison", alone))
    names = list(dict.fromkeys(name for row in rows for name in row.baselines))
    for name in names:
        verdicts = [row.baselines[name].as_verdict if name in row.baselines else Abstain("NotAsked") for row in rows]
        entries.append((name, f"network {name!r}", "baseline", verdicts))
    if "single" not in names and panel is not None:
        first = [_neuron_verdict(row.network, network) for row in rows]
        entries.append(("first-neuron", "single judge: the first neuron alone", "baseline", first))
    return entries


def _first_layer_verdict(outcome: Outcome, network: JudgeNetwork) -> Verdict:
    cast = tuple(ballot for ballot in outcome.ballots if ballot.layer == first_layer(outcome))
    return _alone(outcome, cast, network)


def _neuron_verdict(outcome: Outcome, network: JudgeNetwork) -> Verdict:
    cast = tuple(b for b in outcome.ballots if b.layer == first_layer(outcome) and b.neuron == 0)
    return _alone(outcome, cast if len(cast) == 2 else (), network)


def _alone(outcome: Outcome, cast: tuple[Any, ...], network: JudgeNetwork) -> Verdict:
    """Return the verdict of some of the ballots, by the network's own rule."""
    if not cast:
        return Abstain(outcome.reason or "NotAnswered")
    return decide(Ballots(cast=cast, expected=len(cast)), network).verdict


def _blind(rows: Sequence[ItemVerdict]) -> list[_Entry]:
    """Return the judges that read nothing."""
    labels = labels_of(rows)
    return [
        ("longer", "the longer answer", "control", list(longer_wins(answers_of(rows)))),
        ("majority", f"always {majority_class(labels)[0]}, the commonest label", "control", [*majority_class(labels)]),
        ("random", "random draws", "control", [*random_judge(len(rows), 0, "tie" in labels)]),
    ]


def answers_of(rows: Sequence[ItemVerdict]) -> list[tuple[str, str]]:
    """Return stand-ins as long as the answers, for what goes by length alone."""
    return [("." * row.lengths[0], "." * row.lengths[1]) for row in rows]


def _judge(
    key: str, name: str, kind: str, verdicts: Sequence[Verdict], ours: Sequence[Verdict], labels: Sequence[Label]
) -> JSON:
    """Return one line of the table: figures with intervals and bounds, and the network's difference to it."""
    found = agreement(verdicts, labels, key)
    entry: dict[str, Any] = {
        "key": key, "name": name, "kind": kind, "judged": found.judged, "reasons": found.reasons,
        "coverage": None if found.coverage is None else round(found.coverage, 6),
        **{str(metric): interval for metric, interval in found.intervals.items()},
        "bounds": {metric: _rounded(asdict(bound)) for metric, bound in found.bounds.items()},
        "tie_f1": _tie_f1(verdicts, labels),
        "network_minus": None,
    }  # fmt: skip
    if key != "network":
        entry["network_minus"] = {
            metric: paired_difference(ours, verdicts, labels, metric, "network", key) for metric in METRICS
        }
        entry |= _power(ours, verdicts, labels)
    return entry


def _power(ours: Sequence[Verdict], theirs: Sequence[Verdict], labels: Sequence[Label]) -> JSON:
    """Return how often exactly one of the two is right, and how many items would show a 3-point difference."""
    both = [(a == label, b == label) for a, b, label in zip(ours, theirs, labels, strict=True)
            if not isinstance(a, Abstain) and not isinstance(b, Abstain)]  # fmt: skip
    discordant = sum(a != b for a, b in both) / len(both) if both else None
    # Two judges that differ on fewer items than the gain cannot be apart by it.
    needed = items_to_show(GAIN, discordant) if discordant is not None and discordant > GAIN else None
    return {"discordant": None if discordant is None else round(discordant, 6), "items_to_show": needed}


def _tie_f1(verdicts: Sequence[Verdict], labels: Sequence[Label]) -> float | None:
    """Return F1 of the class tie over the judged items; None where no label is a tie."""
    counts, tie = crossed(verdicts, labels), LABELS.index("tie")
    if not counts[tie].sum():
        return None
    return round(float(2 * counts[tie, tie] / (counts[tie].sum() + counts[:, tie].sum())), 6)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}
