"""From what neurons answered to one verdict: the two orders merged in each neuron, then mean or vote.

A neuron's `margin` is what it has for answer 1 minus what it has for answer 2, after its orders were merged:
a difference of mean scores, or p(model1) - p(model2). None is a neuron without an answer; it counts nowhere.
Pure.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from scipy.special import log_softmax, logsumexp

from ...errors import SpecError
from .metrics import scores_of
from .stopping import draw
from .verdicts import CODES, LABELS, Abstain, Floats, Label, Verdict, check_aligned

Scores: TypeAlias = tuple[float, float]
"""Scores of answer 1 and of answer 2; in an order as shown: of the first and of the second."""

Margins: TypeAlias = Sequence[Sequence[float | None]]
"""[layers][neurons]."""

Chances: TypeAlias = Sequence[Sequence[Sequence[float] | None]]
"""[layers][neurons], each the probabilities of model1, model2 and neither; None where scores were given."""

How = Literal["mean", "vote"]
Over = Literal["last", "all"]


def merge_scores(shown12: Scores | None, shown21: Scores | None) -> Scores | None:
    """Return the mean scores of answers 1 and 2 over both orders.

    Args:
        shown12: Scores of the first and second answer shown, when answer 1 was first.
        shown21: The same when answer 2 was first, as the judge gave them: un-swapped here.

    Returns:
        None unless both orders answered: one order alone carries the pull of its position.
    """
    if shown12 is None or shown21 is None:
        return None
    return (shown12[0] + shown21[1]) / 2, (shown12[1] + shown21[0]) / 2


def merge_logprobs(shown12: Sequence[float] | None, shown21: Sequence[float] | None) -> Floats | None:
    """Return the log-probabilities [model1, model2, tie] merged over both orders, summing to 1.

    l_a = (log p12(a) + log p21(a)) / 2, renormalised: a position effect that adds to the log-odds cancels.

    Args:
        shown12: Log-probabilities of [first, second, tie] when answer 1 was shown first; any common offset.
        shown21: The same when answer 2 was first, as the judge gave them: un-swapped here.

    Returns:
        None unless both orders answered.

    Raises:
        SpecError: the orders leave no label that is possible in both.
    """
    if shown12 is None or shown21 is None:
        return None
    first = np.asarray(log_softmax(np.asarray(shown12, dtype=float)))
    second = np.asarray(log_softmax(np.asarray(shown21, dtype=float)))[[1, 0, 2]]
    merged = (first + second) / 2
    if not np.isfinite(merged).any():
        raise SpecError("label log-probabilities", (tuple(shown12), tuple(shown21)), "a label possible in both orders")
    return np.asarray(merged - logsumexp(merged))


def margin_of_scores(scores: Scores | None) -> float | None:
    """Return the margin of merged scores."""
    return None if scores is None else scores[0] - scores[1]


def margin_of_logprobs(logprobs: Floats | None) -> float | None:
    """Return the margin p(model1) - p(model2) of merged log-probabilities."""
    return None if logprobs is None else float(np.exp(logprobs[0]) - np.exp(logprobs[1]))


def prefers_neither(chances: Sequence[Sequence[float] | None]) -> bool:
    """Return whether `neither` has the largest mean probability; False where a neuron gave scores instead.

    A margin is a difference of the other two and says nothing of it: of .011, .009 and .98 it is .002.
    """
    known = [one for one in chances if one is not None]
    if not known or len(known) < len(chances):
        return False
    first, second, neither = np.asarray(known, dtype=float).mean(0)
    return bool(neither > max(first, second))


def verdict_of(margin: float | None, band: float = 0.0) -> Verdict:
    """Return the verdict of a margin: a tie within `band` of 0, the ends included."""
    if margin is None:
        return Abstain("no answer in both orders")
    return "tie" if abs(margin) <= band else "model1" if margin > 0 else "model2"


def aggregate(
    layers: Margins, how: How = "mean", over: Over = "all", band: float = 0.0, chances: Chances | None = None
) -> Verdict:
    """Return the network's verdict: a tie where neither is likeliest, else that of the margins.

    Args:
        layers: Margins, layer by layer.
        how: `mean`: verdict of the mean margin. `vote`: plurality of the neurons' verdicts.
        over: Neurons of the last layer, or of all layers.
        band: Tie band of the mean, or of each neuron that votes; of those that do not prefer neither.
        chances: Of letters, in the shape of `layers`.

    Returns:
        A verdict, or an abstention when none of those neurons answered.

    Raises:
        SpecError: there is no layer.

    Source: WideDeep, arXiv 2308.01862. The released code has the mean over all layers only and counts a failed
    call as scores of 0 and 0, which shrinks the mean; here it does not count.
    """
    if not layers:
        raise SpecError("layers", 0, "1 or more")
    shares = chances if chances is not None else [[None] * len(layer) for layer in layers]
    used = slice(-1, None) if over == "last" else slice(None)
    asked = [pair for margins, parts in zip(layers[used], shares[used], strict=True)
             for pair in zip(margins, parts, strict=True)]  # fmt: skip
    answered = [(margin, parts) for margin, parts in asked if margin is not None]
    if not answered:
        return Abstain("no neuron answered in both orders")
    if how == "mean":
        if prefers_neither([parts for _, parts in answered]):
            return "tie"
        return verdict_of(float(np.mean([margin for margin, _ in answered])), band)
    return plurality(["tie" if prefers_neither([parts]) else verdict_of(margin, band) for margin, parts in answered])


def plurality(votes: Sequence[Verdict]) -> Verdict:
    """Return the label with the most votes; a tie on equal counts; abstentions do not count."""
    return draw(votes).verdict


def weighted_vote(votes: Floats, weights: Floats | None = None) -> Floats:
    """Return [items], the sum of the weights for model1 minus that for model2; 1 each when there are none.

    Args:
        votes: [items, voters], in the codes of `verdicts.CODES`; a missing vote (NaN) adds nothing.
        weights: [voters].
    """
    cast = np.nan_to_num(votes)
    return np.asarray(cast.sum(1) if weights is None else cast @ weights)


def fit_band(margins: Sequence[float], labels: Sequence[Label]) -> float:
    """Return the tie band with the best macro-F1 on a labelled slice; the narrowest among equals.

    Candidates are 0 and the middles between neighbouring absolute margins, so the band lies on no item. Report
    what it gives on other items than these.

    Raises:
        SpecError: there is no item.
    """
    check_aligned("margins", len(margins), len(labels))
    if not labels:
        raise SpecError("labels", 0, "1 or more")
    values = np.asarray(margins, dtype=float)
    sizes = np.unique(np.abs(values))
    above = np.append((sizes[1:] + sizes[:-1]) / 2, sizes[-1] + 1)
    bands = np.unique(np.append(0.0, above))
    codes = np.where(np.abs(values) <= bands[:, None], 0.0, np.sign(values))  # [bands, items]
    truth = np.array([CODES[label] for label in labels])
    order = [CODES[label] for label in LABELS]
    tables = np.array([[((truth == a) & (codes == b)).sum(1) for b in order] for a in order], dtype=float)
    return float(bands[int(np.argmax(scores_of(np.moveaxis(tables, -1, 0), "macro_f1")))])
