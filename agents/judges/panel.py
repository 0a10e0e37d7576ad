"""A panel of judges whose errors are correlated: how many votes it is worth, and how to weigh them.

Votes are [items, voters] in the codes of `verdicts.CODES`, NaN where none was given; a voter is one judge in one
order, or one judge whose orders were merged. A missing vote is an error here, since nobody can tell what it would
have been and leaving it out would flatter the judge. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from ...errors import SpecError
from ...records import generator
from .calibration import fit_temperature, tempered
from .verdicts import Floats, check_aligned

Integers = NDArray[np.int64]

FEWEST_LABELS = 20
FEWEST_VOTES = 3.0
SAME = 1 - 1e-9
"""Correlation from which two voters are copies: one item judged otherwise among n lowers it by more than 1 / n."""


def errors(votes: Floats, labels: Floats) -> Floats:
    """Return [items, voters]: 1 where the vote is not the label, or is missing."""
    check_aligned("votes", len(votes), len(labels))
    return (votes != labels[:, None]).astype(float)


def error_correlation(votes: Floats, labels: Floats) -> Floats:
    """Return [voters, voters], Pearson correlations of errors over items.

    NaN beside a voter that is always right or never: its errors do not vary, so nothing correlates with them.
    """
    wrong = errors(votes, labels)
    wrong = wrong - wrong.mean(0)
    spread = np.sqrt((wrong**2).sum(0))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.clip((wrong.T @ wrong) / np.outer(spread, spread), -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)


@dataclass(frozen=True, slots=True)
class EffectiveVotes:
    """How many independent votes a panel is worth.

    Attributes:
        votes: Voters.
        rho: Mean correlation of errors between two voters; None where no pair has one.
        n_eff: votes / (1 + (votes - 1) rho) for equal weights, at most the number of voters that differ; None
            where rho is.
    """

    votes: int
    rho: float | None
    n_eff: float | None

    @property
    def warning(self) -> str | None:
        """A line for the report when the panel is worth too little, else None."""
        if self.n_eff is None or self.n_eff >= FEWEST_VOTES:
            return None
        return f"{self.votes} votes are worth {self.n_eff:.1f} independent ones: their errors go together"


def effective_votes(correlation: Floats, weights: Floats | None = None) -> EffectiveVotes:
    """Return the effective number of votes, by the design effect of a weighted mean (Kish).

    (sum w)^2 / sum_ij w_i w_j r_ij, which for equal weights is k / (1 + (k - 1) rho). Errors that go against each
    other may cancel those that go together, and no more: a panel is worth at most what its voters would be if all
    but copies of one another were independent, so with a negative rho k votes without copies count as k.
    A copy of the whole panel leaves the figure as it is. A copy of one voter lowers it in a panel whose voters are
    alike, but raises the equal-weight figure when that voter is the odd one out: the copy gives it the weight it
    should have had. A voter that shares its weight with its copies counts as it did alone.

    Args:
        correlation: [voters, voters], from `error_correlation`; NaN pairs are left out of the mean, and are no
            copies.
        weights: [voters], 0 or more; equal when None.
    """
    count = len(correlation)
    shares = np.ones(count) if weights is None else np.asarray(weights, dtype=float)
    if count == 1:
        return EffectiveVotes(1, None, 1.0)
    products = np.outer(shares, shares)[~np.eye(count, dtype=bool)]
    found = correlation[~np.eye(count, dtype=bool)]
    known = ~np.isnan(found)
    if not products[known].sum():
        return EffectiveVotes(count, None, None)
    rho = float((products * np.nan_to_num(found))[known].sum() / products[known].sum())
    # The least spread has to keep the pairs of copies. A voter of weight w split into copies of weights a + b = w has
    # a^2 + b^2 + 2ab = w^2 only with its pair; without, the least falls to a^2 + b^2, and where rho is below 0 a copy
    # would raise the worth. With it, both sums are the same however a weight is split. Voters that differ on a single
    # item are no copies, so the least steps there: a smooth one would change the figure of panels without copies.
    copies = products[found >= SAME].sum()
    spread = (shares**2).sum() + max(rho * products.sum(), copies)
    return EffectiveVotes(count, rho, float(shares.sum() ** 2 / spread))


def clusters(correlation: Floats, threshold: float = 0.5) -> Integers:
    """Return [voters], the cluster of each, numbered by first appearance.

    Average linkage on 1 - correlation: clusters are joined while their mean correlation is `threshold` or more.
    An undefined correlation counts as 0. Linkage breaks equal distances by position, so voters are first put in
    an order of their own (by their sorted correlations): the order they are given in is no matter.
    """
    if len(correlation) == 1:
        return np.zeros(1, dtype=np.int64)
    known = np.round(np.nan_to_num((correlation + correlation.T) / 2), 9)
    own = np.lexsort(np.sort(known, axis=1).T)
    distance = 1.0 - known[np.ix_(own, own)]
    np.fill_diagonal(distance, 0.0)
    tree = hierarchy.linkage(squareform(distance, checks=False), method="average")
    found = np.empty(len(own), dtype=np.int64)
    found[own] = hierarchy.fcluster(tree, t=1.0 - threshold + 1e-9, criterion="distance")
    order = {cluster: place for place, cluster in enumerate(dict.fromkeys(found.tolist()))}
    return np.array([order[cluster] for cluster in found.tolist()], dtype=np.int64)


def discounts(correlation: Floats, groups: Integers) -> Floats:
    """Return [voters], 1 / (1 + (m - 1) rho) for a voter among m of one cluster with mean correlation rho inside.

    So a cluster weighs as many votes as it is worth: m copies of one voter weigh together what one does.
    """
    factors = np.ones(len(groups))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        worth = effective_votes(correlation[np.ix_(members, members)])
        if worth.n_eff is not None:
            factors[members] = worth.n_eff / len(members)
    return factors


def log_odds_weights(votes: Floats, labels: Floats, judges: Sequence[int] | None = None) -> Floats:
    """Return [voters], log(a / (1 - a)) of each judge's accuracy a on a labelled slice.

    a = (right + 1/2) / (votes + 1), over the votes of both orders where voters share a judge; a judge at chance
    weighs 0, one below it counts against its word. With K > 2 classes among the labels: log((K - 1) a / (1 - a)).

    Args:
        votes: [items, voters], of the slice alone.
        labels: [items].
        judges: [voters], the judge of each; every voter its own when None.

    Raises:
        SpecError: fewer than 20 labels.
    """
    _check_slice(labels)
    return _log_odds(votes, labels, judges)


def _log_odds(votes: Floats, labels: Floats, judges: Sequence[int] | None) -> Floats:
    wrong = errors(votes, labels)
    owner = np.arange(votes.shape[1]) if judges is None else np.asarray(judges)
    right = np.array([(1 - wrong[:, owner == judge]).sum() for judge in owner])
    asked = np.array([len(labels) * (owner == judge).sum() for judge in owner])
    accuracy = (right + 0.5) / (asked + 1)
    classes = max(2, len(np.unique(labels)))
    return np.asarray(np.log((classes - 1) * accuracy / (1 - accuracy)))


def class_logits(votes: Floats, weights: Floats, classes: Floats) -> Floats:
    """Return [items, classes], the summed weight of the votes for each class, in the order of `classes`."""
    return np.stack([(votes == code) @ weights for code in classes], axis=1)


@dataclass(frozen=True, slots=True)
class FittedPanel:
    """Weights and a temperature from a labelled slice; apply it to items outside that slice.

    Attributes:
        classes: Codes of the classes that occur among the slice's labels, in the order of the posterior.
        weights: [voters], discounted inside clusters where asked.
        groups: [voters], cluster of each on the slice.
        temperature: Of the posterior.
        worth: Effective votes under equal weights, on the slice: with 20 labels a rough figure.
    """

    classes: Floats
    weights: Floats
    groups: Integers
    temperature: float
    worth: EffectiveVotes

    def posterior(self, votes: Floats, tempered_by: float | None = None) -> Floats:
        """Return [items, classes]; `tempered_by` 1 gives the raw posterior, None the fitted temperature's."""
        temperature = self.temperature if tempered_by is None else tempered_by
        return tempered(class_logits(votes, self.weights, self.classes), temperature)

    def codes(self, votes: Floats) -> Floats:
        """Return [items], the code of the likeliest class; a tie of two models where they are equally likely."""
        chances = class_logits(votes, self.weights, self.classes)
        top = np.isclose(chances, chances.max(1, keepdims=True), rtol=0, atol=1e-9)
        return np.where(top.sum(1) == 1, self.classes[chances.argmax(1)], 0.0)


def fit_panel(
    votes: Floats,
    labels: Floats,
    judges: Sequence[int] | None = None,
    *,
    discount: bool = False,
    folds: int = 5,
    seed: int = 0,
) -> FittedPanel:
    """Return a panel weighed on a labelled slice.

    The temperature is fitted on logits of held-out folds of the slice, whose weights came from its other folds:
    weights look better on the items they were fitted on, and the posterior would stay too sure.

    Args:
        votes: [items, voters], of the slice.
        labels: [items], 20 or more.
        judges: [voters], the judge of each.
        discount: Whether weights are discounted inside clusters. Off, because on released verdicts it costs about a
            point of accuracy off the slice (8 judges, GPT-4 under 15 prompts: 20, 50 and 100 labels; all 65 judges:
            20 and 50; no sure gain anywhere): judges that are right together lose weight with those that are wrong
            together. The temperature alone takes away most of what correlation makes the posterior too sure of.
        folds: Parts of the slice for the temperature.
        seed: Of the split.

    Raises:
        SpecError: fewer than 20 labels, or one class only.
    """
    _check_slice(labels)
    classes = np.unique(labels)[::-1].astype(float)
    if len(classes) < 2:
        raise SpecError("label slice", classes.tolist(), "two classes or more")
    weights, groups = _weigh(votes, labels, judges, discount)
    order = list(range(len(labels)))
    generator(seed, "panel-folds", len(labels)).shuffle(order)
    held = np.zeros((len(labels), len(classes)))
    for fold in range(folds):
        out = np.array(order[fold::folds])
        rest = np.setdiff1d(np.arange(len(labels)), out)
        part, _ = _weigh(votes[rest], labels[rest], judges, discount)
        held[out] = class_logits(votes[out], part, classes)
    truth = [int(np.flatnonzero(classes == label)[0]) for label in labels]
    worth = effective_votes(error_correlation(votes, labels))
    return FittedPanel(classes, weights, groups, fit_temperature(held, truth), worth)


def _weigh(votes: Floats, labels: Floats, judges: Sequence[int] | None, discount: bool) -> tuple[Floats, Integers]:
    correlation = error_correlation(votes, labels)
    groups = clusters(correlation)
    weights = _log_odds(votes, labels, judges)
    return weights * discounts(correlation, groups) if discount else weights, groups


def _check_slice(labels: Floats) -> None:
    if len(labels) < FEWEST_LABELS:
        raise SpecError("label slice", len(labels), f"{FEWEST_LABELS} labels or more")
