"""Panels measured on labelled items: what stopping early costs, what a panel is worth, what a label slice buys.

Accuracy here gives half a point for an undecided item (`metrics.fair_credit`), so it is meant for sets without
ties. Every interval is over items, paired where two ways are compared on the same items. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ...intervals import SHARE, Interval, mean_interval, paired_interval
from ...records import generator
from .calibration import calibration_error
from .dawid_skene import dawid_skene
from .metrics import fair_credit
from .panel import EffectiveVotes, effective_votes, error_correlation, errors, fit_panel, log_odds_weights
from .stopping import Expected, Rule, expected
from .verdicts import Abstain, Floats, Label, Verdict
from .votes import weighted_vote

Pairs = Sequence[tuple[Verdict, Verdict]]


@dataclass(frozen=True, slots=True)
class Stopping:
    """One rule over all items.

    Attributes:
        asked: [items], mean votes asked.
        credits: [items], chance that the verdict is right, half a point for an undecided one.
    """

    asked: Floats
    credits: Floats

    @property
    def calls(self) -> float:
        """Mean votes an item."""
        return float(self.asked.mean())

    @property
    def accuracy(self) -> float:
        """Mean of the credits."""
        return float(self.credits.mean())

    def minus(self, other: "Stopping", *purpose: str) -> Interval:
        """Return our accuracy minus the other's, with the paired interval over items."""
        return paired_interval(list(self.credits), list(other.credits), "stopping", *purpose)


def stopping(items: Sequence[Pairs], labels: Sequence[Label], rule: Rule | None) -> Stopping:
    """Return calls and credits of a rule, each the exact mean over all orders of the judges.

    Args:
        items: For each item, each judge's two votes in the order they would be asked.
        labels: Human labels, without ties.
        rule: None asks for all votes.
    """
    means = cache(lambda kinds: expected(kinds, rule))  # many items have the same votes
    results: list[Expected] = [means(tuple(sorted(map(_kind, pairs), key=repr))) for pairs in items]
    credits = []
    for mean, label in zip(results, labels, strict=True):
        decided = mean.model1 + mean.model2
        right = mean.model1 if label == "model1" else mean.model2
        credits.append(right + (1 - decided) / 2)
    return Stopping(np.array([mean.calls for mean in results]), np.array(credits))


def without_loss(every_vote: Stopping, rules: Sequence[Stopping], chosen_on: Sequence[int] | None = None) -> Stopping:
    """Return the cheapest of `rules` that is no less accurate than all votes on the items `chosen_on`.

    Chosen on the items it is reported on, it is a hindsight choice; chosen on some, report it on the others. All
    votes, when no rule is as accurate.
    """
    place = slice(None) if chosen_on is None else np.asarray(chosen_on)
    wanted = every_vote.credits[place].mean() - 1e-12
    kept = [rule for rule in rules if rule.credits[place].mean() >= wanted]
    return min([*kept, every_vote], key=lambda rule: float(rule.asked[place].mean()))


@dataclass(frozen=True, slots=True)
class PanelWorth:
    """A panel in one row.

    Attributes:
        worth: Effective votes.
        single: Mean accuracy of a single vote; a missing one is not right.
        majority: Accuracy of the unweighted vote.
        dawid_skene: Accuracy of Dawid and Skene's verdicts.
        dawid_skene_error: Calibration error of their posterior.
    """

    worth: EffectiveVotes
    single: float
    majority: Interval
    dawid_skene: Interval
    dawid_skene_error: float | None


def panel_worth(votes: Floats, labels: Floats, *purpose: str) -> PanelWorth:
    """Return what a panel's votes [items, voters] are worth; `purpose` names the resampling."""
    found = dawid_skene(votes)
    guessed = fair_credit(found.codes, labels)
    return PanelWorth(
        worth=effective_votes(error_correlation(votes, labels)),
        single=float(1 - errors(votes, labels).mean()),
        majority=mean_interval(list(fair_credit(weighted_vote(votes), labels)), "majority", *purpose, support=SHARE),
        dawid_skene=mean_interval(list(guessed), "dawid-skene", *purpose, support=SHARE),
        dawid_skene_error=calibration_error(list(found.posterior.max(1)), list(guessed)),
    )


@dataclass(frozen=True, slots=True)
class Trials:
    """Accuracy on the items outside the label slice, one value a split; all columns share the splits.

    Attributes:
        majority: Of the unweighted vote.
        weighted: With log-odds weights from the slice.
        best: Of single votes of the judge that was best on the slice (the mean where several were).
    """

    majority: Floats
    weighted: Floats
    best: Floats


def slice_trials(votes: Floats, labels: Floats, owners: Sequence[int], size: int, splits: int, seed: int) -> Trials:
    """Return what `size` labels buy on the other items, over random splits."""
    right = 1 - errors(votes, labels)
    judges = np.stack([right[:, np.asarray(owners) == judge].mean(1) for judge in sorted(set(owners))], axis=1)
    rows = []
    for split in range(splits):
        order = list(range(len(labels)))
        generator(seed, "label-slice", size, split).shuffle(order)
        inside, outside = order[:size], order[size:]
        weights = log_odds_weights(votes[inside], labels[inside], owners)
        slice_accuracy = judges[inside].mean(0)
        best = np.isclose(slice_accuracy, slice_accuracy.max())
        rows.append((
            fair_credit(weighted_vote(votes[outside]), labels[outside]).mean(),
            fair_credit(weighted_vote(votes[outside], weights), labels[outside]).mean(),
            judges[outside][:, best].mean(),
        ))  # fmt: skip
    return Trials(*np.array(rows).T)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A fitted panel on the items outside its slice: accuracy, and calibration error before and after."""

    accuracy: float
    error_raw: float
    error_tempered: float
    temperature: float


def calibrated(
    votes: Floats, labels: Floats, owners: Sequence[int], size: int, seed: int, *, discount: bool = False
) -> Calibrated:
    """Return how a panel fitted on `size` random labels does on the other items."""
    order = list(range(len(labels)))
    generator(seed, "calibration-slice", size).shuffle(order)  # another seed, another slice
    inside, outside = order[:size], order[size:]
    fitted = fit_panel(votes[inside], labels[inside], owners, discount=discount, seed=seed)
    credit = fair_credit(fitted.codes(votes[outside]), labels[outside])
    raw, soft = (fitted.posterior(votes[outside], at).max(1) for at in (1.0, None))
    return Calibrated(
        accuracy=float(credit.mean()),
        error_raw=calibration_error(list(raw), list(credit)) or 0.0,
        error_tempered=calibration_error(list(soft), list(credit)) or 0.0,
        temperature=fitted.temperature,
    )


def _kind(pair: tuple[Verdict, Verdict]) -> tuple[Verdict, Verdict]:
    """Return the pair without the reasons of its abstentions, so that equal votes are looked up once."""
    first, second = (Abstain("") if isinstance(vote, Abstain) else vote for vote in pair)
    return first, second
