"""Dawid and Skene's EM: who is right, and how each voter errs, from votes without any label. Pure.

A comparison, not our estimate: it takes voters to err independently, given the truth. Judges do not, so its
posterior is far too sure (on released verdicts of one model under many prompts it is near 1 where accuracy is
0.4); it never goes into a report without its calibration error.

Own code: the kept library (crowd-kit 1.4.2) gives the same posteriors without smoothing, but it has none, so that
a voter who never gave one label rules that label out for good; it drops items without a vote, takes 8 s to import
and brings nltk and pyarrow along.
"""

from dataclasses import dataclass

import numpy as np

from ...errors import SpecError
from .verdicts import Floats

ROUNDS = 100
CLOSE = 1e-8


@dataclass(frozen=True, slots=True)
class DawidSkene:
    """What the EM found.

    Attributes:
        classes: Codes of the classes, those that some voter gave, in falling order (model1, tie, model2).
        posterior: [items, classes].
        confusion: [voters, classes, classes], the chance of each vote (last axis) given the truth.
        prior: [classes].
        rounds: EM steps taken.
    """

    classes: Floats
    posterior: Floats
    confusion: Floats
    prior: Floats
    rounds: int

    @property
    def codes(self) -> Floats:
        """[items], the code of the likeliest class, 0 where two are equally likely."""
        top = self.posterior == self.posterior.max(1, keepdims=True)
        return np.where(top.sum(1) == 1, self.classes[self.posterior.argmax(1)], 0.0)


def dawid_skene(votes: Floats, smoothing: float = 1.0, rounds: int = ROUNDS) -> DawidSkene:
    """Run EM until no posterior moves by 1e-8, or for `rounds` steps.

    Starts from each item's vote shares (an item without votes from an even split). Counts of each voter's
    confusion get `smoothing` added; missing votes are left out. Deterministic.

    Args:
        votes: [items, voters], in the codes of `verdicts.CODES`, NaN where there is none.
        smoothing: Added to each cell of the expected confusion counts, above 0.
        rounds: Most EM steps, 1 or more.

    Raises:
        SpecError: no vote at all, a smoothing of 0 or less, or no round.

    Source: Dawid and Skene, Applied Statistics 28(1), 1979; they have no smoothing.
    """
    if smoothing <= 0 or rounds < 1:
        raise SpecError("smoothing, rounds", (smoothing, rounds), "above 0, and 1 or more")
    classes = np.unique(votes[~np.isnan(votes)])[::-1]
    if not classes.size:
        raise SpecError("votes", "none", "one vote or more")
    given = (votes[:, :, None] == classes).astype(float)  # [items, voters, classes]
    counts = given.sum(1)
    total = counts.sum(1, keepdims=True)
    posterior = np.where(total > 0, counts / np.maximum(total, 1), 1 / len(classes))
    moved, done = np.inf, 0
    while moved >= CLOSE and done < rounds:
        prior, confusion = _maximised(posterior, given, smoothing)
        before, posterior = posterior, _expected(prior, confusion, given)
        moved, done = np.abs(posterior - before).max(), done + 1
    return DawidSkene(classes, posterior, confusion, prior, done)


def _maximised(posterior: Floats, given: Floats, smoothing: float) -> tuple[Floats, Floats]:
    """Return the prior and the confusions that the posterior makes likeliest."""
    counts = np.einsum("it,ivg->vtg", posterior, given) + smoothing
    return posterior.mean(0), counts / counts.sum(2, keepdims=True)


def _expected(prior: Floats, confusion: Floats, given: Floats) -> Floats:
    """Return the posterior of each item's truth; a class whose prior fell to 0 stays there."""
    with np.errstate(divide="ignore"):
        logits = np.log(prior) + np.einsum("ivg,vtg->it", given, np.log(confusion))
    chances = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(chances / chances.sum(1, keepdims=True))
