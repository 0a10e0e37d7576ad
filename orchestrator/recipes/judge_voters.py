"""The ballots of a run as a panel: which neurons voted on which items, in arrays. Pure; knows rows, no figures.

A panel is made of first-layer neurons: they judged before any of them read another's review, and every item has them.
A neuron counts where it was asked on nearly all items. Angles that a model names afresh for each item seldom come
back; then neurons are told apart by their place in the list instead.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ...agents.judges.decision import Ballots, decide
from ...agents.judges.verdicts import CODES, Floats, Label
from ...candidates import JudgeNetwork
from .judge_records import ItemVerdict, Outcome, vote_of

SHARED = 0.8
"""Share of the items on which a neuron must have been asked to belong to the panel."""

PLAIN = JudgeNetwork()
"""Merges the orders of a neuron; how neurons are pooled plays no part in that."""

By = Literal["angle", "place"]
BYS: tuple[By, ...] = get_args(By)

Key = tuple[str, str, int]
"""Angle, model, and which of several neurons that share both; for `place` only the number counts."""

Votes = dict[str, Label]


@dataclass(frozen=True, slots=True)
class Panel:
    """Neurons that voted on the same items.

    Attributes:
        names: Of the neurons.
        by: What tells them apart.
        rows: Items on which each of them was asked.
        votes: [rows, neurons, 2], codes of the two orders, un-swapped; NaN where the call failed.
        merged: [rows, neurons], one code a neuron, its orders merged as the network merges them; NaN unless both
            answered.
        keys: Of the neurons, to find their votes on other rows.
    """

    names: tuple[str, ...]
    by: By
    rows: tuple[ItemVerdict, ...]
    votes: Floats
    merged: Floats
    keys: tuple[Key, ...]

    @property
    def flat(self) -> Floats:
        """[rows, 2 neurons]: a voter is one neuron in one order."""
        return self.votes.reshape(len(self.rows), -1)

    @property
    def owners(self) -> list[int]:
        """[2 neurons], the neuron of each voter."""
        return [neuron for neuron in range(len(self.names)) for _ in range(2)]

    def votes_on(self, rows: Sequence[ItemVerdict]) -> Floats:
        """Return [rows, 2 neurons] of any rows; NaN also where a neuron was not asked."""
        return _array(rows, self.keys, self.by).reshape(len(rows), -1)

    def asked_on(self, rows: Sequence[ItemVerdict]) -> list[ItemVerdict]:
        """Return the rows on which each neuron was asked."""
        homes = _homes(rows, self.by)
        return [row for row in rows if all(_asked(row.network, key, homes, self.by) for key in self.keys)]


def panel_of(rows: Sequence[ItemVerdict]) -> Panel | None:
    """Return the panel of the rows; None where fewer than two neurons were asked on nearly all of them."""
    voted = [row for row in rows if row.network.ballots]
    for by in BYS:
        homes = _homes(voted, by)
        asked = {key: sum(_asked(row.network, key, homes, by) for row in voted) for key in homes}
        shared = [key for key, count in asked.items() if count >= SHARED * len(voted)]
        if len(shared) > 1:
            return _made(voted, sorted(shared, key=lambda key: (homes[key], key)), by)
    return None


def _made(voted: Sequence[ItemVerdict], keys: Sequence[Key], by: By) -> Panel:
    homes = _homes(voted, by)
    rows = tuple(row for row in voted if all(_asked(row.network, key, homes, by) for key in keys))
    several = len({model for _, model, _ in keys}) > 1
    names = tuple(_name(key, several) for key in keys)
    return Panel(names, by, rows, _array(rows, keys, by), _merged(rows, keys, by), tuple(keys))


def first_layer(outcome: Outcome) -> int:
    """Return the lowest layer with a ballot."""
    return min((ballot.layer for ballot in outcome.ballots), default=1)


def votes_of(outcome: Outcome, by: By) -> dict[Key, Votes]:
    """Return each first-layer neuron's votes by order, un-swapped."""
    layer = first_layer(outcome)
    found: dict[Key, Votes] = {}
    for neuron, key in _places(outcome, by).items():
        found[key] = {
            ballot.order: vote_of(ballot)
            for ballot in outcome.ballots
            if ballot.layer == layer and ballot.neuron == neuron
        }
    return found


def _places(outcome: Outcome, by: By) -> dict[int, Key]:
    """Return the key of each first-layer neuron that cast a ballot, by its number."""
    layer, seen = first_layer(outcome), Counter[tuple[str, str]]()
    kinds = {b.neuron: (b.angle, b.model) for b in outcome.ballots if b.layer == layer}
    keys: dict[int, Key] = {}
    for neuron in sorted(kinds):
        keys[neuron] = (*kinds[neuron], seen[kinds[neuron]]) if by == "angle" else ("", "", neuron)
        seen[kinds[neuron]] += 1
    return keys


def _homes(rows: Sequence[ItemVerdict], by: By) -> dict[Key, int]:
    """Return the number that each neuron has most often, so that one whose calls failed can be told missing.

    Of neurons seen on half as many items as a panel asks for, or more: a model may name thousands of angles once.
    """
    numbers: dict[Key, Counter[int]] = {}
    for row in rows:
        for neuron, key in _places(row.network, by).items():
            numbers.setdefault(key, Counter())[neuron] += 1
    return {
        key: max(counts, key=lambda number: (counts[number], -number))
        for key, counts in numbers.items()
        if counts.total() >= SHARED / 2 * len(rows)
    }


def _asked(outcome: Outcome, key: Key, homes: dict[Key, int], by: By) -> bool:
    """Return whether the neuron was asked on the item: it voted, or its place is among those asked and is empty."""
    places = _places(outcome, by)
    if key in places.values():
        return True
    home = homes.get(key)
    return home is not None and home not in places and home < _width(outcome)


def _width(outcome: Outcome) -> float:
    """Return how many neurons of a layer were asked; an item that came to no decision does not say."""
    layers = len({ballot.layer for ballot in outcome.ballots})
    return outcome.expected / (2 * layers) if outcome.expected and layers else float("inf")


def _array(rows: Sequence[ItemVerdict], keys: Sequence[Key], by: By) -> Floats:
    votes = np.full((len(rows), len(keys), 2), np.nan)
    for place, row in enumerate(rows):
        found = votes_of(row.network, by)
        for column, key in enumerate(keys):
            for side, order in enumerate(("12", "21")):
                if order in found.get(key, {}):
                    votes[place, column, side] = CODES[found[key][order]]
    return votes


def _merged(rows: Sequence[ItemVerdict], keys: Sequence[Key], by: By) -> Floats:
    """Return each neuron's verdict, both orders together, without a tie band."""
    codes = np.full((len(rows), len(keys)), np.nan)
    for place, row in enumerate(rows):
        layer, numbers = first_layer(row.network), {key: n for n, key in _places(row.network, by).items()}
        for column, key in enumerate(keys):
            own = [b for b in row.network.ballots if b.layer == layer and b.neuron == numbers.get(key)]
            decision = decide(Ballots(cast=tuple(own), expected=2), PLAIN)
            heard = decision.margin is not None and decision.label is not None
            codes[place, column] = CODES[decision.label] if heard and decision.label else np.nan
    return codes


def _name(key: Key, several: bool) -> str:
    angle, model, number = key
    if not angle and not model:
        return f"neuron {number + 1}"
    name = f"{angle}, {model}" if several else angle
    return f"{name} #{number + 1}" if number else name
