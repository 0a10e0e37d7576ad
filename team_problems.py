"""What can be wrong with a team or with an edit of one, in one line each. Imports no folder; must not know teams."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from .errors import nearest


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a team.

    Attributes:
        code: A short type: `empty`, `duplicate-name`, `oversize`, `missing-producer`, `cycle`, `unknown-block`,
            `unknown-placeholder`, `invalid`; patches know more (`team_edits.apply`).
        where: The place, by names: `layer solve: block trio: agent b`.
        why: What was found and what was expected: `... , expected ...`.
    """

    code: str
    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.code} at {self.where}: {self.why}"


_MAPPING = "no mapping", "one"
_SAID = {
    "missing": ("nothing", "a value"), "model_type": _MAPPING, "model_attributes_type": _MAPPING,
    "dict_type": _MAPPING, "union_tag_not_found": ("no op", "the name of an edit"),
}  # fmt: skip
"""Found and expected, where pydantic speaks of its own workings."""


def first_problem(error: ValidationError, keys: Iterable[str]) -> Problem:
    """Return the first thing that pydantic refused; a choice that it does not know comes with the nearest one.

    Args:
        error: Where a validator raised `ValueError(Problem(...))`, that problem is returned.
        keys: Names of all fields, for those that it does not know.
    """
    first = error.errors()[0]
    kind, got, context = first["type"], first["input"], first.get("ctx", {})
    inner = context.get("error")
    if isinstance(inner, ValueError) and inner.args and isinstance(inner.args[0], Problem):
        return inner.args[0]
    expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if kind == "literal_error":
        expected = nearest(one_line(str(got)), _quoted(context["expected"]))
    elif kind == "union_tag_invalid":
        got, expected = context["tag"], nearest(context["tag"], _quoted(context["expected_tags"]))
    elif kind == "extra_forbidden":
        got, expected = first["loc"][-1], "a known key: " + nearest(str(first["loc"][-1]), keys)
    long = isinstance(got, int) and got.bit_length() > 1_000  # Python prints no number of very many digits
    whole = not (long or isinstance(got, dict | list | tuple | BaseModel))
    shown = one_line(str(got)) if whole else f"a{' long' if long else ''} {type(got).__name__}"
    shown, expected = _SAID.get(kind, (shown, expected))
    return Problem("invalid", one_line(".".join(str(part) for part in first["loc"])), f"{shown}, expected {expected}")


def one_line(text: str, most: int = 100) -> str:
    """Return text on one line of at most `most` characters, with a mark where it was cut, and no lone surrogates."""
    line = " ".join(text.encode(errors="replace").decode().split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)
