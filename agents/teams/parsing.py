"""What an agent said, read from its text under a schema. Tolerant of form; where nothing can be read it says why.

What is thought is no answer, and a thought that was cut off leaves none. A value is read from what is wholly
understood: a reply that denies, doubts, lists or takes back its answer is unreadable, and is asked for once more.

The value is normalised, so that values can be counted as votes: numbers as plain decimals, labels as they are in the
schema, `true` or `false`, words in lower case, programs as they parse, named values as one JSON object. Pure text;
must not know models.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...models.thoughts import spoken
from ...records import JSON, canonical
from ...teams import Kind, Schema
from . import matching
from .marks import Marked, double_quoted, json_object, marked, unwrapped
from .numerals import Numeral, first_number, last_number, whole_number
from .read_booleans import truth
from .read_options import choice
from .read_programs import program_of

MOST_WORDS = 8
"""Words of a reply that is taken whole where nothing marks its answer."""
SHORT = 8
"""Characters of a reply, ended at its limit, that may be a label and nothing else."""
CUT_THOUGHT = "it ended within its thoughts, before any answer"
CUT_REPLY = "it ended at its limit of tokens, before a whole answer"
_QUOTES = str.maketrans("\u2018\u2019\u201b\u02bc\u201c\u201d\u201f", "''''\"\"\"")
_TRAILING = re.compile(r",(\s*[}\]])")


class Read(NamedTuple):
    """A value, or None and why there is none."""

    value: str | None
    error: str = ""


@dataclass(frozen=True)
class Sought:
    """What a reply is read for, beside its schema.

    Attributes:
        choices: Texts of the options that the schema labels; () where they are not known.
        entry_point: What a program must define; "" where it is run as it stands.
    """

    choices: tuple[str, ...] = ()
    entry_point: str = ""

    def as_json(self) -> dict[str, JSON]:
        """Return what is known, for a ledger's key; {} where nothing is."""
        known = {"choices": list(self.choices), "entry_point": self.entry_point}
        return {name: value for name, value in known.items() if value}


NOTHING_MORE = Sought()


def read(text: str, schema: Schema, sought: Sought = NOTHING_MORE, *, cut: bool = False) -> Read:
    """Return what a reply says under `schema`; an empty reply says nothing, nor does one that only thinks.

    Args:
        text: The reply.
        schema: What its answer must be.
        sought: What else is known of a readable answer.
        cut: Whether it ended at its limit of tokens: then what it says whole before its last line may be read.
    """
    reply = spoken(text)
    if reply.cut:
        return Read(None, CUT_THOUGHT)
    if not reply.text:
        return Read(None, "it was empty")
    if cut and schema.kind != "text":
        return _read_cut(reply.text + "\n" * text.rstrip(" ").endswith("\n"), schema, sought)
    plain = reply.text if schema.kind in ("text", "code", "values", "word") else reply.text.translate(_QUOTES)
    return _READERS[schema.kind](plain, schema, sought)


def _read_cut(text: str, schema: Schema, sought: Sought) -> Read:
    """Return what a reply says that ended at its limit: a number or a line may go on, a program may lack its end."""
    if schema.kind == "code":
        whole = len(re.findall(r"^[ \t]*(?:```|~~~)", text, re.MULTILINE)) % 2 == 0
        return read(text, schema, sought) if whole and re.search(r"```|~~~", text) else Read(None, CUT_REPLY)
    if schema.kind in ("option", "boolean") and len(text) <= SHORT:  # where a token or two are all that was asked for
        return read(text, schema, sought)
    last = re.search(r"\n[^\n]*\Z|(?<=[.!?\]}$])[ \t][^.!?\n]*\Z", text)
    kept = text[: last.start()] if last else ""
    if schema.kind in ("number", "word") and not isinstance(marked(kept), Marked):
        return Read(None, CUT_REPLY)
    found = read(kept, schema, sought) if kept.strip() else Read(None)
    return found if found.value is not None else Read(None, CUT_REPLY)


def read_object(text: str) -> dict[str, Any] | None:
    """Return the last JSON object in a text, fenced or bare; None where there is none.

    Thoughts are passed over; trailing commas and single quotes are forgiven where nothing else can be read.
    """
    plain = spoken(text).text
    for form in (plain, _TRAILING.sub(r"\1", plain), _TRAILING.sub(r"\1", double_quoted(plain))):
        if objects := _objects(form):
            return objects[-1]
    return None


def _objects(text: str) -> list[dict[str, Any]]:
    decoder, found, at = json.JSONDecoder(strict=False), list[dict[str, Any]](), text.find("{")
    while at >= 0:
        try:
            value, length = decoder.raw_decode(text[at:])
        except (ValueError, RecursionError):
            length = 1
        else:
            # Read again with the eyes of `json_object`: what one name says twice in two ways is nothing.
            value = json_object(text[at : at + length]) if isinstance(value, dict) else None
            found += [value] if value is not None else []
        at = text.find("{", at + length)
    return found


def plain_number(text: str) -> str | None:
    """Return the last number in a text as a plain decimal; None where there is none, or it is not understood."""
    found = last_number(text)
    return None if found is None else found.text


def _answer(text: str) -> Marked | Read | None:
    """Return what a reply marks as its answer; a `Read` where its mark says that there is none."""
    mark = marked(text)
    return Read(None, mark) if isinstance(mark, str) else mark


def _text(text: str, schema: Schema, sought: Sought) -> Read:
    return Read(text)


def _number(text: str, schema: Schema, sought: Sought) -> Read:
    mark = _answer(text)
    if isinstance(mark, Read):
        return mark
    found: Numeral | None
    if mark is None:
        found = last_number(text)
    else:
        found = whole_number(mark.text) if mark.exact else first_number(_first_sentence(mark.text))
    if found is None:
        return Read(None, "its answer is no number" if mark is not None else "it holds no number")
    return Read(found.text) if found.text is not None else Read(None, "its number could be read in several ways")


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[A-Za-z*)][.!?;])\s+(?=[A-Z])", text, maxsplit=1)[0]


def _option(text: str, schema: Schema, sought: Sought) -> Read:
    mark = _answer(text)
    if isinstance(mark, Read):
        return mark
    choices = tuple(text.translate(_QUOTES) for text in sought.choices)
    texts = choices if len(sought.choices) == len(schema.options) else ()
    read = choice(text, mark, schema.options, texts)
    return Read(read.label, "" if read.label else read.error or f"it names none of {', '.join(schema.options)}")


def _boolean(text: str, schema: Schema, sought: Sought) -> Read:
    mark = _answer(text)
    if isinstance(mark, Read):
        return mark
    said = truth(text, mark)
    return Read(None, said.error) if said.value is None else Read("true" if said.value else "false")


def _word(text: str, schema: Schema, sought: Sought) -> Read:
    mark = _answer(text)
    if isinstance(mark, Read):
        return mark
    bold = re.findall(r"\*\*([^*\n]+)\*\*", text)
    lines = [line for line in text.splitlines() if line.strip()]
    short = len(lines) == 1 and len(text.split()) <= MOST_WORDS
    last = lines[-1] if short or len(lines[-1].split()) == 1 else None
    for part in (mark.text if mark is not None else None, bold[-1] if bold else None, last):
        if part and (value := matching.words(unwrapped(part))):
            return Read(value)
    return Read(None, "no line of it begins with Answer:")


def _code(text: str, schema: Schema, sought: Sought) -> Read:
    found = program_of(text, sought.entry_point)
    return Read(found.source, found.error)


def _values(text: str, schema: Schema, sought: Sought) -> Read:
    """Return the values that are named, those that are asked for; the share that is right is what counts of them."""
    wanted = {matching.words(name): name for name in schema.fields}
    given: dict[str, str] = {}
    forms = (text, _TRAILING.sub(r"\1", text), _TRAILING.sub(r"\1", double_quoted(text)))
    for objects in map(_objects, forms):
        named = [one for one in objects if wanted.keys() & {matching.words(str(name)) for name in one}]
        if named:
            said = {name: value for name, value in named[-1].items() if value is not None}
            given = matching.named_values(json.dumps(said))
            break
    else:
        given = matching.named_values(text)
    found = {name: given[key] for key, name in wanted.items() if given.get(key, "").strip()}
    if not found:
        return Read(None, f"it gives no value for {', '.join(schema.fields)}")
    return Read(canonical(found))


_READERS: dict[Kind, Callable[[str, Schema, Sought], Read]] = {
    "text": _text, "number": _number, "option": _option, "boolean": _boolean, "word": _word, "code": _code,
    "values": _values,
}  # fmt: skip


__all__ = ["CUT_THOUGHT", "NOTHING_MORE", "Read", "Sought", "plain_number", "read", "read_object"]
