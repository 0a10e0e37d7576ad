"""Whether an answer is the gold answer: each kind compared in its own way, after normalisation. Pure.

What an agent said has been read by then: these functions see the value alone. They are forgiving of form (a case, a
thousands separator, a letter in brackets) and of nothing else.
"""

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence

from ...records import JSON
from .numerals import whole_number

CLOSENESS = 1e-6
"""Relative difference up to which two numbers are the same."""
ZERO = 1e-9
"""Absolute difference up to which a number is 0."""

_LITERAL = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_PAIR = re.compile(r"@([^@\[\]\n]{1,100})\[(.{0,2000}?)\](?=\s*(?:$|[@,;}]))", re.DOTALL | re.MULTILINE)
_NAMED = re.compile(r"[\s*-]*([\w .%()-]{1,100})[:=](.*)")
_NOTHING = frozenset({"", "none", "nothing", "[]", "{}", "()", "n/a"})
_TRUE, _FALSE = frozenset({"true", "yes", "y", "t"}), frozenset({"false", "no", "n", "f"})


def number(text: str) -> float | None:
    """Return the number that a text is and nothing else: with a currency, a percent sign, groups or a fraction bar."""
    values = numbers_meant(text, unit=False)
    return values[0] if values else None


def numbers_meant(text: str, *, unit: bool = True) -> tuple[float, ...]:
    """Return the numbers that a text may mean: one, of a percentage (45 %) both 45 and .45; () where it is none.

    Args:
        text: A value.
        unit: Whether words may stand beside the number.
    """
    if _LITERAL.fullmatch(text.strip()):
        return (value,) if math.isfinite(value := float(text)) else ()
    found = whole_number(text, unit=unit)
    if found is None or found.value is None:
        return ()
    value = float(found.value)
    if not math.isfinite(value):
        return ()
    return (value, value / 100) if found.percent else (value,)


def boolean(text: str) -> bool | None:
    """Return what a yes or no means."""
    said = words(text)
    return True if said in _TRUE else False if said in _FALSE else None


def words(text: str) -> str:
    """Return a text as words are compared: lower case, single spaces, no marks around it."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return plain.strip(" .,;:!?\"'`*_()[]{}") or plain


def label(text: str, options: Sequence[str], labels: Sequence[str]) -> str | None:
    """Return the label that a text names, as a letter or by the whole text of one option."""
    letter = text.strip().strip("()[]{}.:*` ").upper()
    if letter in labels:
        return letter
    meant = [name for name, option in zip(labels, options, strict=True) if words(option) == words(text)]
    return meant[0] if len(meant) == 1 else None


def named_values(text: str) -> dict[str, str]:
    """Return the values that a text names: a JSON object, `@name[value]`, or lines `name: value`."""
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        read = None
    if isinstance(read, dict):
        return {words(name): _told(value) for name, value in read.items()}
    pairs = _PAIR.findall(text)
    # Line by line: one pattern over all of it would try every break between spaces.
    plain = [re.sub(r"\*\*|`|^[\s*-]*\"|\"(?=\s*[:=])", "", line.strip()) for line in text.splitlines()]
    lines = [match.groups() for line in plain if (match := _NAMED.match(line))]
    return {words(name): value.strip() for name, value in pairs or lines}


def same_number(expected: float, got: float) -> bool:
    """Return whether two numbers agree."""
    return math.isclose(expected, got, rel_tol=CLOSENESS, abs_tol=ZERO)


def same_value(expected: JSON, got: str) -> bool:
    """Return whether a named value is the expected one: as numbers where both are, else as words."""
    if isinstance(expected, bool):
        return boolean(got) is expected
    wanted, meant = numbers_meant(str(expected), unit=False), numbers_meant(got)
    if wanted and meant:
        return any(same_number(one, other) for one in wanted for other in meant)
    if not str(expected).strip():
        return words(got) in _NOTHING
    return _listed(str(expected)) == _listed(got)


def values_said(expected: Mapping[str, JSON], text: str) -> dict[str, str | None]:
    """Return what was said for each expected name; None where nothing was."""
    given = named_values(text)
    return {name: given.get(words(name)) for name in expected}


def _listed(text: str) -> list[str]:
    return [words(part) for part in text.split(",")]


def _told(value: JSON) -> str:
    if isinstance(value, list):
        return ", ".join(map(_told, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


__all__ = [
    "boolean",
    "label",
    "named_values",
    "number",
    "numbers_meant",
    "same_number",
    "same_value",
    "values_said",
    "words",
]  # fmt: skip
