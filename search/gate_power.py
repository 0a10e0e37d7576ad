"""How often a gate keeps a change of known size, computed, not simulated. Must not know which gate asks.

The model: an answer is right where an item's part and a call's part, both normal, add up to less than a threshold.
So two teams agree more often than by chance, and an edit that changes nothing still changes answers. Source:
specs/ann, section 9.8.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Any, TypeAlias

import numpy as np
from scipy import signal, special

from ..errors import SpecError

START = 0.5
"""Share of items that the incumbent answers rightly."""
ITEM_PART = 0.5
"""Share of an answer's variance that belongs to the item and not to the call."""
RARE = 1e-13
"""Probability under which a pair of counts is let go: below what rounding leaves of it."""

Counts: TypeAlias = Any
"""A count, or an array of counts."""
Rule: TypeAlias = Callable[[int, Counts, Counts], tuple[Any, Any]]
"""Called with a look's index, wins and losses, both arrays: returns where to keep and where to drop."""


@dataclass(frozen=True, slots=True)
class Odds:
    """What a gate does with a change of known size: the share `kept`, and the mean of `items` until it decides."""

    kept: float
    items: float


@lru_cache(maxsize=256)
def chances(gain: float, start: float = START, item_part: float = ITEM_PART) -> tuple[float, float]:
    """Return the probabilities that a challenger alone, and that the incumbent alone, answers an item rightly.

    Args:
        gain: The challenger's accuracy less the incumbent's: 0.05 is five points.
        start: The incumbent's accuracy.
        item_part: Share of the variance that the two teams have in common; below 1.

    Raises:
        SpecError: an accuracy outside 0..1.
    """
    if not 0 < start < 1 or not 0 < start + gain < 1:
        raise SpecError("gain", gain, f"an accuracy between 0 and 1 when added to {start}")
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    incumbent, challenger = (
        special.ndtr((special.ndtri(accuracy) - sqrt(item_part) * nodes) / sqrt(1 - item_part))
        for accuracy in (start, start + gain)
    )
    both = float(weights @ (incumbent * challenger)) / sqrt(2 * np.pi)
    return start + gain - both, start - both


def walk(looks: Sequence[int], win: float, loss: float, rule: Rule) -> Odds:
    """Return what `rule` does over `looks` (items seen at each) with an item won and lost with these probabilities.

    Computed by carrying the probability of every pair of counts from look to look; pairs less likely than `RARE` are
    let go.
    """
    alive, before = np.ones((1, 1)), 0
    kept = items = 0.0
    for look, size in enumerate(looks):
        reached = signal.convolve(alive, _counts(size - before, win, loss))
        alive, before = np.zeros_like(reached), size
        wins, losses = np.nonzero(reached > RARE)
        chance = reached[wins, losses]
        keep, drop = rule(look, wins, losses)
        kept += float(chance[keep].sum())
        items += size * float(chance[keep | drop].sum())
        alive[wins, losses] = np.where(keep | drop, 0.0, chance)
    return Odds(kept, items)


def _counts(items: int, win: float, loss: float) -> np.ndarray:
    """Return [items + 1, items + 1]: the probability of so many wins and so many losses, a trinomial."""
    wins, losses = np.indices((items + 1, items + 1))
    possible = wins + losses <= items
    wins, losses = wins[possible], losses[possible]
    ties = items - wins - losses
    ways = special.gammaln(np.arange(items + 1) + 1.0)
    logs = ways[items] - ways[wins] - ways[losses] - ways[ties]
    logs += special.xlogy(wins, win) + special.xlogy(losses, loss) + special.xlogy(ties, 1 - win - loss)
    counts = np.zeros(possible.shape)
    counts[possible] = np.exp(logs)
    return counts
