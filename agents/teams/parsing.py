"""What an agent said, read from its text under a schema. Tolerant of form; where nothing can be read it says why.

The value is normalised, so that values can be counted as votes: numbers as plain decimals, labels as they are in the
schema, `true` or `false`, words in lower case, programs as they parse, named values as one JSON object. Pure text;
must not know models.
"""

import ast
import json
import re
import textwrap
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from ...records import canonical
from ...teams import Kind, Schema
from . import matching

MOST_WORDS = 8
"""Words of a reply that is taken whole where nothing marks its answer."""
_DIGITS = 40
"""Digits of a number at most: what is longer is no answer, and would be written out."""

_MARK = re.compile(
    r"(?:final\s+answer|answer|result|solution)[*_`\s]*(?:is|[:=])[*_`\s:]*|####\s*", re.IGNORECASE
)  # fmt: skip
_BOXED = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_NUMBER = re.compile(
    r"(?<![\w.])([-+]?)[$\u20ac\u00a3]?\s?((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|\.\d+)"
    r"(?:/(\d+)(?![\d/]))?"
)
_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:\n?```|\Z)", re.DOTALL)
_STARTS = re.compile(r"^(?:def |class |import |from |@|async def |[A-Za-z_]\w* = )", re.MULTILINE)


class Read(NamedTuple):
    """A value, or None and why there is none."""

    value: str | None
    error: str = ""


def read(text: str, schema: Schema) -> Read:
    """Return what a reply says under `schema`; an empty reply says nothing."""
    if not text.strip():
        return Read(None, "it was empty")
    return _READERS[schema.kind](text.strip(), schema)


def read_object(text: str) -> dict[str, Any] | None:
    """Return the last JSON object in a text, fenced or bare; None where there is none."""
    decoder, found, at = json.JSONDecoder(), None, text.find("{")
    while at >= 0:
        try:
            value, length = decoder.raw_decode(text[at:])
        except (ValueError, RecursionError):
            length = 1
        else:
            found = value if isinstance(value, dict) else found
        at = text.find("{", at + length)
    return found


def program(text: str) -> Read:
    """Return the Python program of a reply: its last fenced block that parses, else the text that does."""
    blocks = [textwrap.dedent(block).strip("\n") for block in _FENCE.findall(text)]
    error = ""
    for block in reversed([block for block in blocks if block.strip()]):
        error = _syntax(block)
        if not error:
            return Read(block)
    if error:
        return Read(None, f"the program does not parse ({error})")
    start = _STARTS.search(text)
    lines = text[start.start() :].splitlines() if start else []
    while lines:  # prose after a program
        if not _syntax("\n".join(lines)):
            return Read("\n".join(lines).rstrip())
        lines.pop()
    return Read(None, "it holds no Python program in a fenced block")


def plain_number(text: str) -> str | None:
    """Return the last number in a text as a plain decimal; None where there is none."""
    found = None
    for match in _NUMBER.finditer(text.replace("\u2212", "-")):
        sign, digits, under = match[1] or "", match[2].replace(",", ""), match[3]
        try:
            value = Decimal(f"{sign}{digits}")
            value = value / Decimal(under) if under else value
            if abs(value.adjusted()) > _DIGITS:
                continue
        except (InvalidOperation, ZeroDivisionError):
            continue
        found = format(value.normalize() + 0, "f")
    return found


def _marked(text: str) -> str | None:
    """Return the line that is marked as the answer, without its mark: the last one."""
    if boxed := _BOXED.findall(text):
        return str(boxed[-1])
    for match in reversed([*_MARK.finditer(text)]):
        line = text[match.end() :].split("\n", 1)[0].strip()
        if line.strip("*_` .<>"):
            return line
    return None


def _text(text: str, schema: Schema) -> Read:
    return Read(text)


def _number(text: str, schema: Schema) -> Read:
    marked = _marked(text)
    value = (plain_number(marked) if marked else None) or plain_number(text)
    return Read(value) if value is not None else Read(None, "it holds no number")


def _option(text: str, schema: Schema) -> Read:
    named = f"it names none of {', '.join(schema.options)}"
    for part in (_marked(text), text):
        if part and (label := _label(part, schema.options, whole=part is text)):
            return Read(label)
    return Read(None, named)


def _label(text: str, options: tuple[str, ...], *, whole: bool) -> str | None:
    """Return the label that a text names: the only thing said, in brackets, or as a word of its own, the last one.

    `whole`: the text is prose, where a lone capital may be a word: "A train" is no answer.
    """
    by_name = {matching.words(option): option for option in options}
    letters = {chr(65 + index): option for index, option in enumerate(options)}
    said = matching.words(text)
    if said in by_name:
        return by_name[said]
    if said.upper() in letters:
        return letters[said.upper()]
    names = "|".join(re.escape(option) for option in sorted(options, key=len, reverse=True))
    if whole and all(len(option) == 1 for option in options):
        found = re.findall(rf"\(({names})\)|\b({names})\b(?=\s*(?:[).:,]|$))", text, re.MULTILINE)
    else:
        found = re.findall(rf"(?<!\w)({names})(?!\w)()", text, 0 if max(map(len, options)) == 1 else re.IGNORECASE)
    if not found:
        return None
    # A marked line opens with its label and may go on to explain; prose ends with it.
    first, second = found[-1] if whole else found[0]
    return by_name[matching.words(first or second)]


def _boolean(text: str, schema: Schema) -> Read:
    for part in (_marked(text), text):
        found = re.findall(r"\b(true|false|yes|no)\b", part or "", re.IGNORECASE)
        if found:
            said = matching.boolean(found[-1] if part is text else found[0])
            return Read("true" if said else "false")
    return Read(None, "it says neither true nor false")


def _word(text: str, schema: Schema) -> Read:
    marked = _marked(text)
    bold = re.findall(r"\*\*([^*\n]+)\*\*", text)
    lines = [line for line in text.splitlines() if line.strip()]
    short = len(lines) == 1 and len(text.split()) <= MOST_WORDS
    last = lines[-1] if short or len(lines[-1].split()) == 1 else None
    for part in (marked, bold[-1] if bold else None, last):
        if part and (value := matching.words(part)):
            return Read(value)
    return Read(None, "no line of it begins with Answer:")


def _code(text: str, schema: Schema) -> Read:
    return program(text)


def _values(text: str, schema: Schema) -> Read:
    found = read_object(text)
    given = matching.named_values(json.dumps(found) if found else text)
    wanted = {name: given.get(matching.words(name)) for name in schema.fields}
    missing = [name for name, value in wanted.items() if value is None or not value.strip()]
    if missing:
        return Read(None, f"it gives no value for {', '.join(missing)}")
    return Read(canonical(wanted))


def _syntax(source: str) -> str:
    """Return why a source is no program; empty where it is one that does something."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return " ".join(str(error).split())
    prose = all(isinstance(one, ast.Expr) and isinstance(one.value, ast.Name | ast.Constant) for one in body)
    return "it does nothing" if prose else ""


_READERS: dict[Kind, Callable[[str, Schema], Read]] = {
    "text": _text, "number": _number, "option": _option, "boolean": _boolean, "word": _word, "code": _code,
    "values": _values,
}  # fmt: skip


__all__ = ["Read", "plain_number", "program", "read", "read_object"]
