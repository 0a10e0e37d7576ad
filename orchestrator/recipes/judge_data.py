"""Pairs of answers from JSON lines, checked before anything runs. Must not know models or networks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ...agents.judges.verdicts import LABELS, Label
from ...errors import DataError
from ...user_files import json_rows
from ..data import refuse_missing

SHIPPED = "plait:pairs"
"""Names the pairs that come with Plait, wherever it is installed."""


class Pair(BaseModel):
    """Two answers to one query."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True, coerce_numbers_to_str=True)

    id: str = Field(min_length=1)
    """Unique within its file."""
    query: str = ""
    """What both answers respond to; empty where they stand alone, as whole dialogues do."""
    response1: str
    """The first answer; an empty one is judged by nobody and abstained on."""
    response2: str
    """The second answer."""
    human: Label | None = None
    """Which one people prefer: model1, model2 or tie; absent where nobody was asked."""

    @field_validator("id", "query", "response1", "response2", mode="before")
    @classmethod
    def _is_there(cls, value: object) -> object:
        refuse_missing(value)
        return value

    @field_validator("id", "query", "response1", "response2")
    @classmethod
    def _can_be_written(cls, text: str) -> str:
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise ValueError("text that UTF-8 can hold: it has half of a surrogate pair")
        return text

    @field_validator("id")
    @classmethod
    def _no_separator(cls, id_: str) -> str:
        if "\x1f" in id_:
            raise ValueError("an id without the unit separator (U+001F)")
        return id_

    @field_validator("human", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


AUTOJ = {0: "model1", 1: "model2", 2: "tie"}
"""Auto-J's labels. Other sets number the answers from 1 (LLMBar), so a number alone says nothing."""
READ = {*Pair.model_fields, "label", "prompt", "response 1", "response 2"}
"""Fields that are read, under our names and Auto-J's."""


def load_pairs(
    source: str | Path, limit: int | None = None, labels: str | Path | None = None, notes: list[str] | None = None
) -> list[Pair]:
    """Read pairs, one JSON object a line; blank lines are skipped.

    Args:
        source: A file of {id, query, response1, response2, human?}, or `plait:pairs`. Auto-J's own field names and
            labels (0, 1, 2) are known too; in other files a label is a word, since sets number answers from 0 and
            from 1. A row without an id takes its line's number.
        limit: Keep the first so many.
        labels: JSON lines of {id, human} that give or replace labels.
        notes: Takes a line of how labels were read, and one of fields that were not.

    Raises:
        DataError: the file is missing, empty or not UTF-8; a line is malformed or repeats an id; a label is of no
            item of this set. The error names file and line.
    """
    path = Path(str(files("plait") / "data" / "pairs.jsonl")) if str(source) == SHIPPED else Path(source)
    pairs: list[Pair] = []
    seen: dict[str, int] = {}
    ignored: Counter[str] = Counter()
    for number, values in json_rows(path, str(source)):
        where = f"{source}:{number}"
        ignored.update(set(values) - READ)
        pairs.append(_parsed(_renamed(values, number), where))
        _check_new(pairs[-1].id, seen, number, where, "line")
    if not pairs:
        raise DataError(str(source), "no pair", "one or more, each a JSON object on a line")
    pairs = pairs[:limit] if labels is None else _relabelled(pairs[:limit], labels, set(seen))
    if notes is not None:
        notes += _reading(pairs, ignored, str(source))
    return pairs


def given_pairs(
    given: Sequence[Pair | Mapping[str, Any]], limit: int | None = None, labels: str | Path | None = None,
    notes: list[str] | None = None,
) -> list[Pair]:  # fmt: skip
    """Return pairs handed over in memory, checked as those of a file are; rows are counted from 1.

    Raises:
        DataError: a row is malformed or repeats an id; or as `load_pairs` for `labels`.
    """
    pairs: list[Pair] = []
    ignored: Counter[str] = Counter()
    seen: dict[str, int] = {}
    for number, row in enumerate(given, start=1):
        where = f"judge.data: row {number}"
        if not isinstance(row, Pair | Mapping):
            raise DataError(where, type(row).__name__, "a mapping of id, query, response1, response2 and human")
        values = row.model_dump() if isinstance(row, Pair) else dict(row)
        ignored.update(set(values) - READ)
        pairs.append(_parsed(_renamed(values, number), where))
        _check_new(pairs[-1].id, seen, number, where, "row")
    pairs = pairs[:limit] if labels is None else _relabelled(pairs[:limit], labels, set(seen))
    if notes is not None:
        notes += _reading(pairs, ignored, "judge.data")
    return pairs


def _reading(pairs: Sequence[Pair], ignored: Mapping[str, int], source: str) -> list[str]:
    """Return how the labels were read, with counts, and which fields were not read."""
    lines = []
    counts = Counter(pair.human for pair in pairs)
    if labelled := len(pairs) - counts[None]:
        words = ", ".join(f"{label} {counts[label]}" for label in LABELS)
        lines.append(f"{source}: labels of {labelled} of {len(pairs)} pairs read as {words}")
    if ignored:
        names = ", ".join(f"{name} ({count})" for name, count in sorted(ignored.items()))
        lines.append(f"{source}: fields that the judge does not see: {names}")
    return lines


def _check_new(id_: str, seen: dict[str, int], number: int, where: str, unit: str) -> None:
    """Keep an id; refuse it where another row has it: one of the two would get the other's verdict."""
    if id_ in seen:
        raise DataError(f"{where}: id", id_, f"an id not used before ({unit} {seen[id_]})")
    seen[id_] = number


def _relabelled(pairs: list[Pair], labels: str | Path, known: set[str]) -> list[Pair]:
    given: dict[str, Any] = {}
    for number, values in json_rows(Path(labels), str(labels)):
        id_, human = str(values.get("id", "")), values.get("human", values.get("label"))
        word = human.lower() if isinstance(human, str) else human
        if word not in LABELS:
            raise DataError(f"{labels}:{number}: human", human, f"one of {', '.join(LABELS)}")
        if id_ in given:
            raise DataError(f"{labels}:{number}: id", id_, "one label an item")
        given[id_] = word
    strangers = [id_ for id_ in given if id_ not in known]
    if strangers:
        expected = (
            f"ids of the items judged; {len(strangers)} of {len(given)} labels are of no item: another set's file?"
        )
        raise DataError(str(labels), strangers[0], expected)
    return [pair.model_copy(update={"human": given.get(pair.id, pair.human)}) for pair in pairs]


def _renamed(values: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return a row under our field names."""
    row = dict(values)
    for ours, theirs in (("query", "prompt"), ("response1", "response 1"), ("response2", "response 2")):
        if ours not in row and theirs in row:
            row[ours] = row[theirs]
    if "human" not in row and "label" in row:
        label = row["label"]
        autoj = "response 1" in row and "response 2" in row and type(label) is int  # True is no 1
        row["human"] = AUTOJ.get(label, label) if autoj else label
    row.setdefault("id", str(number))
    return row


def _parsed(values: Mapping[str, Any], where: str) -> Pair:
    try:
        return Pair.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        got = "nothing" if first["type"] == "missing" else first["input"]
        expected = "id, query, response1, response2 and, where known, human (model1, model2 or tie); "
        place = ".".join(map(str, first["loc"])) or "row"
        if place == "human" and isinstance(got, int | float):
            expected = "a word: sets number answers from 0 and from 1, so a number says nothing; " + expected
        problem = first["msg"].removeprefix("Value error, ").lower()
        raise DataError(f"{where}: {place}", got, expected + problem) from error
