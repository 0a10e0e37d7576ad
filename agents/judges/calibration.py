"""Whether a judge's confidence can be believed: reliability bins, expected calibration error, temperature. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize
from scipy.special import log_softmax, softmax

from .verdicts import Floats, check_aligned

BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Items of like confidence, from `low` to below `high`; the mean of an empty bin is None."""

    low: float
    high: float
    items: int
    confidence: float | None
    accuracy: float | None


def reliability(confidences: Sequence[float], rights: Sequence[float], bins: int = BINS) -> list[Bin]:
    """Return bins of equal width over 0..1.

    Args:
        confidences: Probability of the verdict that was given, one an item.
        rights: 1 where that verdict is the label, 0 where it is not, 1/2 where a coin stands in for it.
        bins: How many.
    """
    check_aligned("confidences", len(confidences), len(rights))
    ours, truth = np.asarray(confidences, dtype=float), np.asarray(rights, dtype=float)
    place = np.minimum((ours * bins).astype(int), bins - 1)  # a confidence of 1 belongs to the last
    made = []
    for index in range(bins):
        inside = place == index
        count = int(inside.sum())
        means = (float(ours[inside].mean()), float(truth[inside].mean())) if count else (None, None)
        made.append(Bin(index / bins, (index + 1) / bins, count, *means))
    return made


def calibration_error(confidences: Sequence[float], rights: Sequence[float], bins: int = BINS) -> float | None:
    """Return the expected calibration error: the bins' mean |confidence - accuracy|, weighted by items."""
    parts = [b for b in reliability(confidences, rights, bins) if b.confidence is not None and b.accuracy is not None]
    total = sum(part.items for part in parts)
    if not total:
        return None
    return sum(part.items * abs(part.confidence - part.accuracy) for part in parts) / total  # type: ignore[operator]


def fit_temperature(logits: Floats, classes: Sequence[int]) -> float:
    """Return the temperature that makes softmax(logits / temperature) likeliest (Guo et al., ICML 2017).

    Args:
        logits: [items, classes], of items whose labels did not shape them: else the result is too sharp.
        classes: Index of each item's true class.

    Searched from 1/100 to 100, so that logits that are always right, or never, keep a finite one.
    """
    check_aligned("logits", len(logits), len(classes))
    rows = np.arange(len(classes))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature), axis=1)[rows, np.asarray(classes)].mean())

    limit = float(np.log(100))
    return float(np.exp(optimize.minimize_scalar(loss, bounds=(-limit, limit), method="bounded").x))


def tempered(logits: Floats, temperature: float) -> Floats:
    """Return [items, classes], the posterior at `temperature`."""
    return np.asarray(softmax(logits / temperature, axis=1))
