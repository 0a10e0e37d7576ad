"""Agreement of verdicts with human labels: accuracy, macro-F1, Cohen's kappa, with intervals and bounds.

Three classes (model1, model2, tie) count as ordinary classes. An abstention is no verdict: a metric is that of
the items with one, its coverage stands beside it, and its bounds say what the other items could do to it.
Pure; every resampling is seeded by its purpose.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from scipy import optimize, stats
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

from ...intervals import (
    LEVEL,
    RESAMPLES,
    Interval,
    discordant_ends,
    mean_interval,
    paired_interval,
    share_interval,
)
from ...records import seed_of
from .verdicts import CODES, LABELS, Abstain, Floats, Label, Verdict, check_aligned

Metric = Literal["accuracy", "macro_f1", "kappa"]
METRICS: tuple[Metric, ...] = ("accuracy", "macro_f1", "kappa")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least and the greatest value a metric could take once every item had a verdict."""

    worst: float
    best: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How verdicts agree with labels.

    Attributes:
        items: Items in all.
        judged: Items with a verdict.
        intervals: Each metric over the judged items, with its 95 % interval over items.
        bounds: Each metric over all items, for the worst and the best verdicts on those that have none.
        reasons: How many items have none, by reason.
    """

    items: int
    judged: int
    intervals: dict[Metric, Interval]
    bounds: dict[Metric, Bounds]
    reasons: dict[str, int]

    @property
    def coverage(self) -> float | None:
        """Share of the items that have a verdict; None of no items."""
        return self.judged / self.items if self.items else None


def agreement(verdicts: Sequence[Verdict], labels: Sequence[Label], *purpose: str) -> Agreement:
    """Return accuracy, macro-F1 and kappa with intervals, coverage and bounds; `purpose` names the resampling."""
    check_aligned("verdicts", len(verdicts), len(labels))
    counts = crossed(verdicts, labels)
    resampled = _resampled(counts.reshape(1, -1), "agreement", *purpose).reshape(-1, 3, 3)
    right = [float(v == label) for v, label in zip(verdicts, labels, strict=True) if not isinstance(v, Abstain)]
    reasons = sorted(verdict.reason for verdict in verdicts if isinstance(verdict, Abstain))
    return Agreement(
        items=len(labels),
        judged=len(right),
        intervals={
            "accuracy": mean_interval(right, "agreement", *purpose),
            "macro_f1": _f1_interval(counts, resampled),
            "kappa": _kappa_interval(counts),
        },
        bounds={metric: bounds(verdicts, labels, metric) for metric in METRICS} if labels else {},
        reasons={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
    )


def score(verdicts: Sequence[Verdict], labels: Sequence[Label], metric: Metric) -> float | None:
    """Return one metric over the items with a verdict, through scikit-learn; None when no item has one.

    Macro-F1 is the mean over the classes that occur among the labels, 0 for a class never predicted: a set
    without ties has two. Kappa takes all three classes; a constant judge has 0, also where chance agreement is
    1 and the ratio is not defined.
    """
    check_aligned("verdicts", len(verdicts), len(labels))
    pairs = [(v, label) for v, label in zip(verdicts, labels, strict=True) if not isinstance(v, Abstain)]
    if not pairs:
        return None
    ours, truth = [str(v) for v, _ in pairs], [str(label) for _, label in pairs]
    if metric == "accuracy":
        return float(accuracy_score(truth, ours))
    if metric == "macro_f1":
        return float(f1_score(truth, ours, labels=sorted(set(truth)), average="macro", zero_division=0))
    if len(set(ours)) == 1:  # scikit-learn gives NaN where the labels are constant too
        return 0.0
    return float(cohen_kappa_score(truth, ours))


def crossed(verdicts: Sequence[Verdict], labels: Sequence[Label]) -> Floats:
    """Return [label, verdict], how many judged items fall into each cell, in the order of `LABELS`."""
    counts = np.zeros((3, 3))
    for verdict, label in zip(verdicts, labels, strict=True):
        if not isinstance(verdict, Abstain):
            counts[LABELS.index(label), LABELS.index(verdict)] += 1
    return counts


def scores_of(counts: Floats, metric: Metric) -> Floats:
    """Return the metric of each table of counts [..., label, verdict]; NaN for an empty table.

    The same values as `score`, for thousands of tables at once: scikit-learn takes about a second for the
    2,000 resamples of one kappa. Macro-F1 takes the classes with labels in the table.
    """
    total = counts.sum((-2, -1))
    right = np.einsum("...cc->...c", counts)
    truth, ours = counts.sum(-1), counts.sum(-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        if metric == "accuracy":
            return np.asarray(right.sum(-1) / total)
        if metric == "macro_f1":
            f1 = np.where(truth > 0, 2 * right / (truth + ours), 0.0)
            return np.asarray(f1.sum(-1) / (truth > 0).sum(-1))
        chance = (truth * ours).sum(-1) / total**2
        constant = ours.max(-1) == total
        return np.where(constant & (total > 0), 0.0, (right.sum(-1) / total - chance) / (1 - chance))


def paired_difference(
    ours: Sequence[Verdict], theirs: Sequence[Verdict], labels: Sequence[Label], metric: Metric, *purpose: str
) -> Interval:
    """Return our metric minus theirs over the items that both judged, with its paired interval.

    Both sides are of the same items, so what makes an item hard for both cancels. Accuracy's interval is that of
    paired right and wrong. Kappa's and macro-F1's are bootstrapped over items, and hold at least the ends of
    accuracy's, moved to the metric's difference and, for kappa, stretched by the chance agreement seen: where few
    items differ all resamples are alike, and a bootstrap alone held 3 of 100 times.
    """
    check_aligned("ours", len(ours), len(labels))
    check_aligned("theirs", len(theirs), len(labels))
    cells = np.zeros((3, 3, 3))  # label, ours, theirs: a resampling of items is one of these counts
    rights: list[tuple[float, float]] = []
    for our, their, label in zip(ours, theirs, labels, strict=True):
        if not isinstance(our, Abstain) and not isinstance(their, Abstain):
            cells[LABELS.index(label), LABELS.index(our), LABELS.index(their)] += 1
            rights.append((float(our == label), float(their == label)))
    if metric == "accuracy":
        return paired_interval([our for our, _ in rights], [their for _, their in rights], *purpose)

    def difference(tables: Floats) -> Floats:
        return scores_of(tables.sum(-1), metric) - scores_of(tables.sum(-2), metric)

    resampled = _resampled(cells.reshape(1, -1), "paired", metric, *purpose).reshape(-1, 3, 3, 3)
    bootstrapped = _percentiles(difference(cells[None]), difference(resampled), len(rights))
    if len(rights) < 2:
        return bootstrapped
    wins = sum(our > their for our, their in rights)
    losses = sum(our < their for our, their in rights)
    low, high = discordant_ends(wins, losses, len(rights))
    lead = (wins - losses) / len(rights)
    room = 1.0
    if metric == "kappa":  # accuracy counts for 1 / (1 - chance agreement) in kappa
        room = max(1 - (_chance(cells.sum(-1)) + _chance(cells.sum(-2))) / 2, 0.1)
    return _widened(bootstrapped, (lead - low) / room, (high - lead) / room, 2.0)


def bounds(verdicts: Sequence[Verdict], labels: Sequence[Label], metric: Metric) -> Bounds:
    """Return the metric of all items when those without a verdict get the worst and the best verdicts.

    Exact for accuracy and kappa: with the labels given, both of kappa's terms are linear in the verdicts, so some
    corner (each class's items all given one verdict) is the least and some the greatest; below 0 the greatest need
    not be the truth. Macro-F1 is best at the truth and convex in the wrong verdicts: its worst is the minimum over
    fractions of items, at or just under the least that whole items can reach.
    """
    counts = crossed(verdicts, labels)
    missing = np.array([sum(isinstance(v, Abstain) and label == c for v, label in zip(verdicts, labels, strict=True))
                        for c in LABELS], dtype=float)  # fmt: skip
    if metric == "macro_f1":
        return Bounds(_worst_f1(counts, missing), float(scores_of(counts + np.diag(missing), metric)))
    corners = [counts + missing[:, None] * np.eye(3)[list(to)] for to in product(range(3), repeat=3)]
    reached = scores_of(np.array(corners), metric)
    return Bounds(float(reached.min()), float(reached.max()))


def _worst_f1(counts: Floats, missing: Floats) -> float:
    """Return the least macro-F1 when each class's missing items are split over the two wrong classes."""
    wrong = np.array([[1, 2], [0, 2], [0, 1]])

    def value(shares: Floats) -> float:
        table = counts.copy()
        for truth in range(3):
            table[truth, wrong[truth]] += missing[truth] * np.array([shares[truth], 1 - shares[truth]])
        return float(scores_of(table, "macro_f1"))

    corners = [np.array(corner, dtype=float) for corner in product((0, 1), repeat=3)]
    inside = optimize.minimize(value, np.full(3, 0.5), bounds=[(0, 1)] * 3, method="L-BFGS-B")
    return min(float(inside.fun), *map(value, corners))


def items_for_width(values: Sequence[float], width: float) -> int:
    """Return how many items give a 95 % interval `width` wide, were all items spread as `values` are.

    Args:
        values: One an item: 1.0 and 0.0 for right and wrong, or paired differences.
        width: Wanted distance between the two ends.
    """
    return int(np.ceil((2 * _quantile() * np.std(np.asarray(values, dtype=float), ddof=1) / width) ** 2))


def items_to_show(gain: float, discordant: float, power: float = 0.8) -> int:
    """Return how many items show a paired gain in accuracy at the 5 % level, two-sided, with chance `power`.

    Args:
        gain: Our accuracy minus theirs.
        discordant: Share of items where exactly one of the two is right.
        power: Chance that the interval excludes 0, when the gain is real.
    """
    spread = discordant - gain**2  # variance of the items' differences, which are -1, 0 or 1
    return int(np.ceil((_quantile() + float(stats.norm.ppf(power))) ** 2 * spread / gain**2))


def fair_credit(codes: Floats, labels: Floats) -> Floats:
    """Return [items]: 1 where the sign of `codes` is the label's, 1/2 where it is 0 or NaN, else 0.

    What tossing a coin would score on undecided items of a set without ties; it makes panels of any width
    comparable there. Both arguments are in the codes of `verdicts.CODES`.
    """
    signs = np.sign(np.nan_to_num(codes))
    return np.where(signs == 0, 0.5, (signs == labels).astype(float))


def codes_of(labels: Sequence[Label]) -> Floats:
    """Return [labels] in the codes of `verdicts.CODES`."""
    return np.array([CODES[label] for label in labels])


def _quantile() -> float:
    return float(stats.norm.ppf((1 + LEVEL) / 2))


def _kappa_interval(counts: Floats) -> Interval:
    """Return kappa with its interval: the exact one of accuracy, chance agreement taken as it was seen.

    No interval where chance agreement is 1 (labels and verdicts all of one class): kappa says nothing there.
    """
    items = int(counts.sum())
    if items == 0:
        return {"mean": None, "low": None, "high": None, "n": 0}
    mean = round(float(scores_of(counts[None], "kappa")[0]), 6)
    accuracy = share_interval(int(np.trace(counts)), items)
    chance = _chance(counts)
    low, high = accuracy["low"], accuracy["high"]
    if low is None or high is None or chance >= 1:
        return {"mean": mean, "low": None, "high": None, "n": items}
    ends = [round((end - chance) / (1 - chance), 6) for end in (low, high)]
    return {"mean": mean, "low": max(-1.0, ends[0]), "high": min(1.0, ends[1]), "n": items}


def _f1_interval(counts: Floats, resampled: Floats) -> Interval:
    """Return macro-F1 with its bootstrap interval, as wide as accuracy's exact one or wider."""
    items = int(counts.sum())
    bootstrapped = _percentiles(scores_of(counts[None], "macro_f1"), scores_of(resampled, "macro_f1"), items)
    accuracy = share_interval(int(np.trace(counts)), items)
    share, low, high = accuracy["mean"], accuracy["low"], accuracy["high"]
    if share is None or low is None or high is None:
        return bootstrapped
    widened = _widened(bootstrapped, share - low, high - share, 1.0)
    return {**widened, "low": max(0.0, widened["low"] or 0.0)}


def _widened(interval: Interval, below: float, above: float, most: float) -> Interval:
    """Return the interval with ends at least `below` and `above` its mean, within -`most` to `most`."""
    mean, low, high = interval["mean"], interval["low"], interval["high"]
    if mean is None or low is None or high is None:
        return interval
    ends = max(-most, min(low, mean - below)), min(most, max(high, mean + above))
    return {**interval, "low": round(ends[0], 6), "high": round(ends[1], 6)}


def _chance(counts: Floats) -> float:
    """Return how often label and verdict would agree by their own frequencies alone."""
    return float((counts.sum(0) * counts.sum(1)).sum() / counts.sum() ** 2)


def _resampled(cells: Floats, *purpose: str) -> Floats:
    """Return [resamples, cells]: as many items drawn again, with replacement, as there are."""
    total = int(cells.sum())
    if total == 0:
        return np.zeros((1, cells.size))
    random = np.random.default_rng(seed_of(0, "bootstrap", *purpose))
    return random.multinomial(total, (cells / total).ravel(), RESAMPLES).astype(float)


def _percentiles(point: Floats, resampled: Floats, items: int) -> Interval:
    """Return the point with the percentile interval of its resamples; no interval for fewer than two items."""
    if items == 0:
        return {"mean": None, "low": None, "high": None, "n": 0}
    mean = round(float(point[0]), 6)
    if items == 1:
        return {"mean": mean, "low": None, "high": None, "n": 1}
    low, high = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"mean": mean, "low": round(float(low), 6), "high": round(float(high), 6), "n": items}
