"""A world for gates: answers whose luck is half the item's and half the call's, and runs of edits of known size.

Source: specs/ann, section 9.8. Every gate decides by its own `rule`; nothing here repeats one.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from plait.records import seed_of
from plait.search.gate import Gate
from scipy import special

MIX = {-0.06: 0.25, -0.02: 0.25, 0.0: 0.20, 0.03: 0.20, 0.08: 0.10}
"""Changes of accuracy that edits bring, and how common each is."""
EDITS = 20


def world(*purpose: str | int) -> np.random.Generator:
    """Return a generator for the purpose; equal purposes draw equally."""
    return np.random.default_rng(seed_of(0, *purpose))


def answers(rng: np.random.Generator, accuracy: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return [runs, items], whether each is answered rightly, by teams of `accuracy` [runs] on `items`' own luck."""
    luck = np.sqrt(0.5) * (items + rng.standard_normal(items.shape))
    return luck < special.ndtri(accuracy)[:, None]


def expected(accuracy: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return [runs, items], how likely each is answered rightly when the items' own luck is known."""
    return special.ndtr(special.ndtri(accuracy)[:, None] / np.sqrt(0.5) - items)


def verdicts(gate: Gate, incumbent: np.ndarray, challenger: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return [runs], whether the gate keeps the challenger, and [runs], after how many items it decides."""
    wins, losses = (np.cumsum(won, axis=1) for won in (challenger & ~incumbent, incumbent & ~challenger))
    kept, going = np.zeros(len(wins), bool), np.ones(len(wins), bool)
    items = np.zeros(len(wins), int)
    for look, size in enumerate(gate.looks(wins.shape[1])):
        keep, drop = gate.rule(look, wins[:, size - 1], losses[:, size - 1])
        kept |= going & keep
        items[going & (keep | drop)] = size
        going &= ~(keep | drop)
    assert not going.any(), "a gate must end at its last look"
    return kept, items


@lru_cache
def fresh(gate: Gate, change: float, runs: int, n: int = 300) -> tuple[float, float]:
    """Return the share kept of challengers better by `change`, and the mean of items, over fresh comparisons."""
    rng = world("fresh", gate.name, n, str(change))
    items = rng.standard_normal((runs, n))
    incumbent = answers(rng, np.full(runs, 0.5), items)
    kept, seen = verdicts(gate, incumbent, answers(rng, np.full(runs, 0.5 + change), items))
    return float(kept.mean()), float(seen.mean())


@dataclass(frozen=True)
class Runs:
    """What runs of edits came to, [runs] each.

    Attributes:
        final: True accuracy at the end.
        useless: Edits kept that brought nothing, or less.
        items: Items that challengers were asked.
        adopted: Edits kept.
        won: Luck of the teams adopted, summed over adoptions: the share right of the answers that a team is compared
            by from then on, less what is expected of it on the same items. Later edits must beat it: the ratchet.
        held: The same luck of the last incumbent. A lucky team also lasts longer, so it is above 0 in any case.
    """

    final: np.ndarray
    useless: np.ndarray
    items: np.ndarray
    adopted: np.ndarray
    won: np.ndarray
    held: np.ndarray


def run(gate: Gate, runs: int, *, n: int = 300, redraw: bool = False, mix: dict[float, float] = MIX) -> Runs:
    """Return what `EDITS` edits drawn from `mix` come to, one after the other, on one validation set a run.

    Args:
        gate: Decides on each edit.
        runs: How many.
        n: Validation items.
        redraw: Whether an adopted team answers the items afresh, or keeps the answers that won.
        mix: Changes by how common they are.
    """
    rng = world("run", gate.name, n, str(redraw), str(sorted(mix)))
    items = rng.standard_normal((runs, n))
    accuracy = np.full(runs, 0.5)
    incumbent = answers(rng, accuracy, items)
    useless, asked, adopted, won = (np.zeros(runs) for _ in range(4))
    for changes in rng.choice(list(mix), p=list(mix.values()), size=(EDITS, runs)):
        changed = np.clip(accuracy + changes, 0.02, 0.98)
        challenger = answers(rng, changed, items)
        kept, seen = verdicts(gate, incumbent, challenger)
        asked += seen
        adopted += kept
        useless += kept & (changes <= 0)
        accuracy = np.where(kept, changed, accuracy)
        if redraw:
            challenger = answers(rng, changed, items)
        incumbent = np.where(kept[:, None], challenger, incumbent)
        held = (incumbent - expected(accuracy, items)).mean(axis=1)
        won += kept * held
    return Runs(accuracy, useless, asked, adopted, won, held)
