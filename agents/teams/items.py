"""What a team is asked: one item, its question, and what the right answer is. Frozen and checked; nothing is run.

What agents may see is the question, the labels of its options, the names of its values, the visible tests and the
files. The gold answer and the other tests are for the loss alone. Knows schemas; must not know models or graphs.
"""

import math
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...errors import SpecError
from ...records import JSON, digest
from ...teams import Kind, Schema

LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What options are called, in their order."""
REFERENCE = "reference"
"""Key of a text's gold that holds an answer to compare with, where it is no rubric."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class InputFile(_Frozen):
    """A file that a program may read by its name."""

    name: str = Field(min_length=1, pattern=r"^[^/\\\x00]+$")
    """Without a folder."""
    text: str
    """Its content: an item is known by what its files hold, not by where they lie."""


class TaskItem(_Frozen):
    """One item; made by `task_item`, which works out its id.

    >>> task_item("What is 2 + 3?", "number", 5).gold
    5
    """

    BY_KIND: ClassVar[dict[str, str]] = {
        "number": "a finite number",
        "option": "the label of an option (A, B, ...)",
        "word": "a text that is not empty",
        "boolean": "true or false",
        "code": "a program, or nothing",
        "values": "a mapping of names to texts, numbers or booleans",
        "text": 'a rubric, {"reference": an answer}, or nothing',
    }
    """What the gold answer is, for each kind."""

    id: str
    """The first 16 hexadecimal digits of the digest of all else."""
    question: str = Field(min_length=1)
    """The whole text that agents are asked, with its options where it has some."""
    kind: Kind
    """What an answer must be."""
    gold: JSON = None
    """The right answer, as `BY_KIND` says; a rubric tells a judge what a good text has."""
    options: tuple[str, ...] = ()
    """Texts of the options, where `kind` is `option`; they are labelled A, B, ... in this order."""
    entry_point: str = ""
    """The function that a program must define, where `kind` is `code`."""
    setup: str = ""
    """Code that runs before the program, and before the tests: imports, and what the question gives."""
    visible: tuple[str, ...] = ()
    """Tests that agents may see, each a piece of code that raises where it fails."""
    tests: tuple[str, ...] = ()
    """Tests that no agent sees; the score is the share of them that pass."""
    files: tuple[InputFile, ...] = ()
    """What a program may read."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the options."""
        return tuple(LABELS[: len(self.options)])

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the values that are asked for."""
        return tuple(self.gold) if self.kind == "values" else ()

    @property
    def asked(self) -> Schema:
        """What an answer must be."""
        return Schema(kind=self.kind, options=self.labels, fields=self.fields)

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if (self.kind == "option") != bool(self.options):
            raise ValueError("options exactly where kind is option")
        if not 0 <= len(self.options) <= len(LABELS) or len(self.options) == 1:
            raise ValueError(f"2 to {len(LABELS)} options")
        if (self.kind == "code") != bool(self.tests) or (self.kind == "code") != bool(self.entry_point):
            raise ValueError("tests and entry_point exactly where kind is code")
        if self.kind != "code" and (self.setup or self.visible):
            raise ValueError("setup and visible tests only where kind is code")
        if len({file.name for file in self.files}) < len(self.files):
            raise ValueError("files of different names")
        if not _fits(self.kind, self.gold, self.labels):
            raise ValueError(f"gold of kind {self.kind}: {self.BY_KIND[self.kind]}")
        return self


def task_item(question: str, kind: Kind, gold: JSON = None, **more: Any) -> TaskItem:
    """Return the item of this content; `more` are fields of `TaskItem`.

    Raises:
        SpecError: the content is no item; the error names the field and what was expected.
    """
    given = {"question": question, "kind": kind, "gold": gold, **more}
    try:
        item = TaskItem.model_validate({**given, "id": "-"})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        got = given.get(place, first["type"]) if place else {"kind": kind, "gold": gold}
        raise SpecError(f"item: {place}" if place else "item", got, message) from None
    return item.model_copy(update={"id": _id(item)})


def _id(item: TaskItem) -> str:
    return digest(item.model_dump(mode="json", exclude={"id"}))[:16]


def _fits(kind: Kind, gold: JSON, labels: tuple[str, ...]) -> bool:
    """Return whether `gold` is what its kind asks for."""
    if kind == "number":
        return _is_number(gold)
    if kind == "option":
        return gold in labels
    if kind == "word":
        return isinstance(gold, str) and bool(gold.strip())
    if kind == "boolean":
        return isinstance(gold, bool)
    if kind == "code":
        return gold is None or isinstance(gold, str)
    if kind == "values":
        return isinstance(gold, dict) and bool(gold) and all(map(_is_value, gold.values()))
    if isinstance(gold, dict):
        return set(gold) == {REFERENCE} and isinstance(gold[REFERENCE], str) and bool(gold[REFERENCE].strip())
    return gold is None or (isinstance(gold, str) and bool(gold.strip()))


def _is_number(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_value(value: JSON) -> bool:
    return isinstance(value, str | bool) or _is_number(value)


__all__ = ["LABELS", "REFERENCE", "InputFile", "TaskItem", "task_item"]
