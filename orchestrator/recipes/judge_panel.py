"""What a run's panel of neurons is worth: correlated errors, effective votes, accuracy by votes drawn, calibration.

Everything fitted is fitted on slice rows alone and reported on the others. Pure.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import combinations

import numpy as np

from ...agents.judges.calibration import calibration_error, fit_temperature, reliability, tempered
from ...agents.judges.dawid_skene import DawidSkene, dawid_skene
from ...agents.judges.metrics import codes_of
from ...agents.judges.panel import (
    FEWEST_LABELS,
    FittedPanel,
    clusters,
    effective_votes,
    error_correlation,
    fit_panel,
)
from ...agents.judges.stopping import Fixed, Lead, Lossless, Rule, expected
from ...agents.judges.verdicts import LABELS, Floats, Label, Verdict, decode
from ...intervals import SHARE, Interval, mean_interval, paired_interval
from ...records import JSON, seed_of
from .judge_records import ItemVerdict, Outcome, vote_of
from .judge_voters import Panel

LEADS = (2, 4, 6)
FLOOR_DRAWS = 400
FEWEST_RESAMPLED = 50
"""Items below which resampling them says too little of how far a statistic spreads."""
MOST_NEURONS = 16
"""Neurons up to which all orders of drawing them are counted; the work grows with the kinds of votes."""

MOST_STEPS = 8
"""Numbers of votes shown between two and all."""

FAINTEST = 1e-6
"""Probability below which a letter's is not told apart, so that its logarithm exists."""


def labels_of(rows: Sequence[ItemVerdict]) -> list[Label]:
    """Return the human labels of labelled rows."""
    return [row.human for row in rows if row.human is not None]


# --- worth ----------------------------------------------------------------------------------------------------


def panel_worth(panel: Panel | None, rows: Sequence[ItemVerdict]) -> JSON:
    """Return how alike the neurons err and how many independent votes they are worth; None without a panel.

    Effective votes are counted twice: of single votes, two a neuron, and of neurons whose orders were merged. A pull
    to one place makes the two orders of a neuron err in opposite ways, which looks like independence and is none; so
    `least` is the smaller of the two, and what may be claimed. A call that failed is an error, a neuron that was not
    asked leaves its item out.
    """
    if panel is None or not panel.rows:
        return None
    labels = codes_of(labels_of(panel.rows))
    worth = effective_votes(error_correlation(panel.flat, labels))
    correlation = error_correlation(panel.merged, labels)
    merged = effective_votes(correlation)
    right = (panel.merged == labels[:, None]).astype(float)
    return {
        "by": panel.by,
        "items": len(panel.rows),
        "left_out": len(rows) - len(panel.rows),
        "votes": worth.votes,
        "rho": _round(worth.rho),
        "n_eff": _round(worth.n_eff),
        "n_eff_range": _worth_range(panel.flat, labels),
        "merged": {
            "votes": merged.votes,
            "rho": _round(merged.rho),
            "n_eff": _round(merged.n_eff),
            "n_eff_range": _worth_range(panel.merged, labels),
        },
        "least": _least(worth.n_eff, merged.n_eff),
        "warning": worth.warning or merged.warning,
        "neurons": [
            {"name": name, "cluster": int(group), "accuracy": mean_interval(list(right[:, place]), "neuron", name)}
            for place, (name, group) in enumerate(zip(panel.names, clusters(correlation), strict=True))
        ],
        "correlation": [[_round(value) for value in row] for row in correlation.tolist()],
        "single": mean_interval(list((panel.flat == labels[:, None]).mean(1)), "single-vote", support=SHARE),
    }


def _least(*counts: float | None) -> float | None:
    known = [count for count in counts if count is not None]
    return _round(min(known)) if known else None


def _worth_range(votes: Floats, labels: Floats) -> list[float] | None:
    """Return the central 95 % of the effective votes over resampled items.

    None where most resamples have none, and below `FEWEST_RESAMPLED` items: resamples of few items are too alike
    for the range to hold.
    """
    if len(labels) < FEWEST_RESAMPLED:
        return None
    random = np.random.default_rng(seed_of(0, "bootstrap", "effective-votes"))
    draws = random.integers(0, len(labels), (FLOOR_DRAWS, len(labels)))
    found = [effective_votes(error_correlation(votes[draw], labels[draw])).n_eff for draw in draws]
    known = [value for value in found if value is not None]
    if len(known) < FLOOR_DRAWS / 2:
        return None
    return [round(float(end), 6) for end in np.quantile(known, [0.025, 0.975])]


def neuron_agreement(rows: Sequence[ItemVerdict]) -> Interval:
    """Return how often two votes on one item are equal, both orders and all layers, as a mean over items."""
    shares = []
    for row in rows:
        votes = [vote_of(ballot) for ballot in row.network.ballots]
        pairs = [one == other for one, other in combinations(votes, 2)]
        if pairs:
            shares.append(sum(pairs) / len(pairs))
    return mean_interval(shares, "neuron-agreement", support=SHARE)


# --- fitted on the slice --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Weighed:
    """A panel weighed on the slice, or by Dawid and Skene without labels, as verdicts on the reported rows.

    Attributes:
        verdicts: One a row; an abstention where no neuron voted.
        calibration: Of its posterior on the labels, where it is to be had.
    """

    verdicts: list[Verdict]
    calibration: JSON


def weighted_panel(panel: Panel, rows: Sequence[ItemVerdict], fitted_on: Sequence[ItemVerdict]) -> Weighed | str:
    """Return the panel with log-odds weights, or the reason why it cannot be fitted."""
    whole = [row for row in panel.asked_on(fitted_on) if row.network.ballots]
    truth = codes_of(labels_of(whole))
    if len(whole) < FEWEST_LABELS:
        return f"{len(whole)} labelled items of the slice have every neuron's vote; {FEWEST_LABELS} are needed"
    if len(np.unique(truth)) < 2:
        return "the slice holds one label only"
    fitted = fit_panel(panel.votes_on(whole), truth, panel.owners)
    votes = panel.votes_on(rows)
    return Weighed(_named(fitted.codes(votes), votes), _posterior_calibration(fitted, votes, rows))


def dawid_skene_panel(panel: Panel, rows: Sequence[ItemVerdict]) -> Weighed | None:
    """Return Dawid and Skene's verdicts on the rows, fitted on their votes without labels; a comparison."""
    votes = panel.votes_on(rows)
    if np.isnan(votes).all():
        return None
    found: DawidSkene = dawid_skene(votes)
    voted = ~np.isnan(votes).all(1)
    right = (found.codes == codes_of(labels_of(rows)))[voted].astype(float)
    error = calibration_error(list(found.posterior.max(1)[voted]), list(right))
    return Weighed(_named(found.codes, votes), {"ece": _round(error)})


def _named(codes: Floats, votes: Floats) -> list[Verdict]:
    silent = np.isnan(votes).all(1)
    return [decode(code) for code in np.where(silent, np.nan, codes)]


def _posterior_calibration(fitted: FittedPanel, votes: Floats, rows: Sequence[ItemVerdict]) -> JSON:
    voted = ~np.isnan(votes).all(1)
    right = list((fitted.codes(votes) == codes_of(labels_of(rows)))[voted].astype(float))
    raw, soft = (list(fitted.posterior(votes[voted], at).max(1)) for at in (1.0, None))
    return {
        "temperature": _round(fitted.temperature),
        "ece": _round(calibration_error(raw, right)),
        "ece_after": _round(calibration_error(soft, right)),
    }


# --- confidence -----------------------------------------------------------------------------------------------


def calibration(rows: Sequence[ItemVerdict], fitted_on: Sequence[ItemVerdict]) -> JSON:
    """Return whether the network's confidence can be believed; None where nothing has one.

    Confidence is what the ballots give the verdict: mean probability of its letter, or share of the votes cast. The
    temperature comes from the slice. `floor` is the calibration error that chance alone leaves a judge whose
    confidence is right, on as many items: below its upper end no miscalibration is shown.
    """
    known = [(row, chances) for row in rows if (chances := _chances(row.network)) is not None]
    judged = [(row, chances) for row, chances in known if row.network.verdict != "abstain"]
    if not judged:
        return None
    places = [LABELS.index(row.network.verdict) for row, _ in judged]  # type: ignore[arg-type]
    shares = np.array([chances for _, chances in judged])
    right = [float(row.network.verdict == row.human) for row, _ in judged]
    before = [float(share) for share in shares[np.arange(len(places)), places]]
    temperature = _temperature(fitted_on)
    after = None
    if temperature is not None:
        logits = np.log(np.array([_smoothed(row.network, chances) for row, chances in judged]))
        after = [float(p) for p in tempered(logits, temperature)[np.arange(len(places)), places]]
    letters = any(ballot.tie is not None for row, _ in judged for ballot in row.network.ballots)
    return {
        "of": "probability" if letters else "vote share",
        "items": len(judged),
        "temperature": _round(temperature),
        "before": _reliability(before, right),
        "after": None if after is None else _reliability(after, right),
    }


def _reliability(confidences: Sequence[float], rights: Sequence[float]) -> JSON:
    bins = [
        {**asdict(part), "confidence": _round(part.confidence), "accuracy": _round(part.accuracy)}
        for part in reliability(confidences, rights)
    ]
    return {
        "bins": bins,
        "ece": _round(calibration_error(confidences, rights)),
        "floor": _floor(confidences),
        "overconfidence": paired_interval(confidences, rights, "overconfidence"),
    }


def _floor(confidences: Sequence[float]) -> JSON:
    """Return the calibration error of judges that are right exactly as often as they say: mean and 97.5 %."""
    random = np.random.default_rng(seed_of(0, "calibration-floor"))
    drawn = random.random((FLOOR_DRAWS, len(confidences))) < np.asarray(confidences)
    found = [calibration_error(confidences, list(right.astype(float))) or 0.0 for right in drawn]
    return {"mean": round(float(np.mean(found)), 6), "high": round(float(np.quantile(found, 0.975)), 6)}


def _temperature(fitted_on: Sequence[ItemVerdict]) -> float | None:
    known = [(row, chances) for row in fitted_on if (chances := _chances(row.network)) is not None]
    if len(known) < FEWEST_LABELS:
        return None
    truth = [LABELS.index(row.human) for row, _ in known if row.human is not None]
    return fit_temperature(np.log(np.array([_smoothed(row.network, chances) for row, chances in known])), truth)


def _smoothed(outcome: Outcome, chances: Sequence[float]) -> Floats:
    """Return chances above 0: votes with half a vote added to each label, probabilities with a floor."""
    count = len(outcome.ballots)
    if outcome.ballots[0].tie is None:
        return (np.array(chances) * count + 0.5) / (count + 1.5)
    return np.maximum(np.array(chances), FAINTEST)


def _chances(outcome: Outcome) -> list[float] | None:
    """Return what the ballots give model1, model2 and tie, summing to 1; None without a ballot."""
    if not outcome.ballots:
        return None
    given = np.zeros(3)
    for ballot in outcome.ballots:
        if ballot.tie is None:
            given[LABELS.index(vote_of(ballot))] += 1
        else:
            shown = (ballot.first, ballot.second) if ballot.order == "12" else (ballot.second, ballot.first)
            given += np.array([*shown, ballot.tie])
    return [float(part) for part in given / given.sum()]


# --- accuracy by number of votes ------------------------------------------------------------------------------


def by_votes(panel: Panel | None) -> JSON:
    """Return accuracy by number of votes drawn and for the adaptive rules, exact means over orders of the neurons.

    The orders of a neuron are drawn together. On sets without ties an undecided vote gets half a point, as a coin
    would; with ties among the labels it counts as a tie.
    """
    if panel is None or not panel.rows or len(panel.names) > MOST_NEURONS:
        return None
    labels = labels_of(panel.rows)
    pairs = [tuple((decode(a), decode(b)) for a, b in item) for item in panel.votes]
    count, ties = len(panel.names), "tie" in labels
    steps = sorted({round(float(k)) for k in np.linspace(1, count - 1, min(count - 1, MOST_STEPS))})
    rules: dict[str, Rule | None] = {f"{2 * k} votes": Fixed(2 * k) for k in steps}
    rules |= {"all votes": None}
    rules |= {f"lead {lead}": Lead(lead) for lead in LEADS if lead < 2 * count} | {"lossless": Lossless()}
    found = {name: _drawn(pairs, labels, rule, ties) for name, rule in rules.items()}
    everything = found["all votes"][1]
    return {
        "items": len(labels),
        "credit": "exact" if ties else "half",
        "rules": [
            {
                "name": name,
                "adaptive": not (name.endswith("votes")),
                "calls": mean_interval(calls, "calls", name),
                "accuracy": mean_interval(credits, "by-votes", name, support=SHARE),
                "minus_all": paired_interval(credits, everything, "by-votes-minus", name),
            }
            for name, (calls, credits) in found.items()
        ],
    }


def _drawn(
    pairs: Sequence[tuple[tuple[Verdict, Verdict], ...]], labels: Sequence[Label], rule: Rule | None, ties: bool
) -> tuple[list[float], list[float]]:
    """Return for each item the mean votes asked and the chance of being right."""
    means = cache(lambda kinds: expected(kinds, rule))
    calls, credits = [], []
    for item, label in zip(pairs, labels, strict=True):
        mean = means(tuple(sorted(item, key=repr)))
        right = {"model1": mean.model1, "model2": mean.model2, "tie": mean.tie}[label]
        calls.append(mean.calls)
        credits.append(right if ties else right + (1 - mean.model1 - mean.model2) / 2)
    return calls, credits


def _round(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), 6)
