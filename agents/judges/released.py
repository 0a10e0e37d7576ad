"""Verdicts that were given before, read from a table: panels to study without any model. Pure but for the file."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import DataError
from .verdicts import CODES, Abstain, Floats, Label, Verdict, decode

COLUMNS = ("set", "item", "judge", "winner_order12", "winner_order21", "label")
WINNERS: dict[str, Label] = {"1": "model1", "2": "model2", "tie": "tie"}


@dataclass(frozen=True, slots=True)
class Row:
    """One judge on one item: its verdicts in both orders, in the data set's labels, and the human label."""

    item: tuple[str, str]  # set, item
    judge: str
    order12: Verdict
    order21: Verdict
    label: Label


@dataclass(frozen=True, slots=True)
class ReleasedPanel:
    """Judges over items that all of them were asked.

    Attributes:
        judges: Their names.
        items: (set, item) of each.
        votes: [items, judges, 2], codes of the two orders; NaN where the verdict could not be read.
        labels: [items], codes.
    """

    judges: tuple[str, ...]
    items: tuple[tuple[str, str], ...]
    votes: Floats
    labels: Floats

    @property
    def flat(self) -> Floats:
        """[items, 2 judges]: a voter is one judge in one order."""
        return self.votes.reshape(len(self.items), -1)

    @property
    def owners(self) -> list[int]:
        """[2 judges], the judge of each voter."""
        return [judge for judge in range(len(self.judges)) for _ in range(2)]

    def pairs(self, item: int) -> list[tuple[Verdict, Verdict]]:
        """Return each judge's two verdicts on an item."""
        return [(decode(a, "unreadable"), decode(b, "unreadable")) for a, b in self.votes[item]]


def read_verdicts(file: Path) -> list[Row]:
    """Return the rows of a CSV table with the columns set, item, judge, winner_order12, winner_order21, label.

    A winner is 1, 2 or tie in the data set's labels, or empty where the judge's answer could not be read.

    Raises:
        DataError: a column is missing, or a cell holds something else.
    """
    with file.open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            raise DataError(f"{file.name}:1", reader.fieldnames, f"the columns {', '.join(missing)} as well")
        return list(_rows(reader, file.name))


def released_panel(
    rows: list[Row], sets: Callable[[str], bool], judges: Callable[[str], bool] = lambda _: True
) -> ReleasedPanel:
    """Return the panel of the chosen judges over the chosen sets, in the order of the rows.

    Raises:
        DataError: a judge misses an item, or nothing is left.
    """
    chosen = [row for row in rows if sets(row.item[0]) and judges(row.judge)]
    items, names = list(dict.fromkeys(r.item for r in chosen)), list(dict.fromkeys(r.judge for r in chosen))
    if not chosen or len(chosen) != len(items) * len(names):
        raise DataError("released verdicts", len(chosen), f"one row for each of {len(items)} items x {len(names)}")
    place, column = {item: i for i, item in enumerate(items)}, {name: i for i, name in enumerate(names)}
    votes, labels = np.full((len(items), len(names), 2), np.nan), np.zeros(len(items))
    for row in chosen:
        votes[place[row.item], column[row.judge]] = [_code(row.order12), _code(row.order21)]
        labels[place[row.item]] = CODES[row.label]
    return ReleasedPanel(tuple(names), tuple(items), votes, labels)


def _rows(reader: "csv.DictReader[str]", name: str) -> Iterator[Row]:
    for line, cells in enumerate(reader, start=2):
        if cells["label"] not in WINNERS:
            raise DataError(f"{name}:{line}", cells["label"], "a label of 1, 2 or tie")
        orders = [_winner(cells[key], f"{name}:{line}") for key in ("winner_order12", "winner_order21")]
        yield Row((cells["set"], cells["item"]), cells["judge"], orders[0], orders[1], WINNERS[cells["label"]])


def _winner(cell: str, where: str) -> Verdict:
    if cell == "":
        return Abstain("unreadable")
    if cell not in WINNERS:
        raise DataError(where, cell, "a winner of 1, 2, tie, or an empty cell")
    return WINNERS[cell]


def _code(verdict: Verdict) -> float:
    return float("nan") if isinstance(verdict, Abstain) else CODES[verdict]
