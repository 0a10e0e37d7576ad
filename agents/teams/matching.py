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

CLOSENESS = 1e-6
"""Relative difference up to which two numbers are the same."""
ZERO = 1e-9
"""Absolute difference up to which a number is 0."""

_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_PAIR = re.compile(r"@([^@\[\]\n]{1,100})\[(.{0,2000}?)\](?=\s*(?:$|[@,;}]))", re.DOTALL | re.MULTILINE)
_NAMED = re.compile(r"[\s*-]*([\w .%()-]{1,100})[:=](.*)")
_NOTHING = frozenset({"", "none", "nothing", "[]", "{}", "()", "n/a"})
_TRUE, _FALSE = frozenset({"true", "yes", "y", "t"}), frozenset({"false", "no", "n", "f"})


def number(text: str) -> float | None:
    """Return the number that a text is: with a currency, a percent sign, groups of thousands or a fraction bar."""
    plain = unicodedata.normalize("NFKC", text).replace("\u2212", "-").replace("\u2044", "/").strip().rstrip(".")
    plain = plain.removesuffix("%").strip()
    plain = re.sub(r"^([+-]?)\s*[$€£]\s*", r"\1", plain)
    if _GROUPED.fullmatch(plain):
        plain = plain.replace(",", "")
    over, slash, under = plain.partition("/")
    try:
        value = float(over) / float(under) if slash else float(plain)
    except (ValueError, ZeroDivisionError):
        return None
    return value if math.isfinite(value) and "_" not in plain else None


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
    lines = [match.groups() for line in text.splitlines() if (match := _NAMED.match(line.strip()))]
    return {words(name): value.strip() for name, value in pairs or lines}


def same_number(expected: float, got: float) -> bool:
    """Return whether two numbers agree."""
    return math.isclose(expected, got, rel_tol=CLOSENESS, abs_tol=ZERO)


def same_value(expected: JSON, got: str) -> bool:
    """Return whether a named value is the expected one: as numbers where both are, else as words."""
    if isinstance(expected, bool):
        return boolean(got) is expected
    wanted, given = number(str(expected)), number(got)
    if wanted is not None and given is not None:
        return same_number(wanted, given)
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
    "same_number",
    "same_value",
    "values_said",
    "words",
]  # fmt: skip
