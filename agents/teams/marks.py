r"""Where a reply marks its answer: `\boxed{...}`, "Answer: ...", "the answer is ...", "#### ...", or a JSON object.

A mark that is denied ("wrong answer:"), supposed ("if the answer is 5") or taken back ("Answer: 6. Wait, ...") marks
nothing. Pure text; must not know schemas or items.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_AUXILIARY = r"is|was|would\s+be|should\s+be|must\s+be|equals"
_MARK = re.compile(
    r"(?:(?P<strong>\banswer|\bans)|(?P<weak>\bresult|\bsolution))(?:\s*\([^()\n]{1,40}\))?"
    r"(?:\s+(?:to|of|for)\s+[^.:=\n?]{1,80}?)?[\"'*_`\s]*(?:\b(?:" + _AUXILIARY + r")\b|[:=])[\"'*_`\s:=]*",
    re.IGNORECASE,
)
_HASHES = re.compile(r"^[ \t]*####[ \t]*(?=\S)", re.MULTILINE)
_BOXED = re.compile(r"\\f?boxed\s*(?:\{|(?=\d))")
_NOT_THE_ANSWER = re.compile(
    r"(?:\b(?:if|whether|unless|suppose|supposing|assume|assuming|wrong|incorrect|false|bad|previous|earlier|old|"
    r"initial|possible|potential|student'?s|draft|tentative|not|no|another|other|any)|n't)"
    r"(?:\s+(?:that|the|a|an|my|our|final|correct|right|be))*\s+$",
    re.IGNORECASE,
)
TAKEN_BACK = re.compile(
    r"\b(?:no,?\s+wait|wait|hold\s+on|correction|scratch\s+that|on\s+second\s+thoughts?|oops|"
    r"(?:made|is)\s+an?\s+(?:mistake|error)|let\s+me\s+(?:re-?check|re-?do|re-?consider|recalculate|correct))\b",
    re.IGNORECASE,
)
_TEXT_COMMAND = re.compile(
    r"\\(?:text(?:bf|it|rm|tt|sf)?|mathrm|mathbf|mathit|mathsf|mbox|operatorname|boxed|fbox)\s*\{"
)
_FENCED = re.compile(r"\A\s*(`{3,}|~{3,})[^\n]*\n(.*?)\n?\s*\1\s*\Z", re.DOTALL)
_KEYS = ("answer", "final_answer", "finalanswer", "final answer", "result", "solution", "value", "choice", "option")
_TRAILING = re.compile(r",(\s*[}\]])")


class Marked(NamedTuple):
    """What a reply marks as its answer."""

    text: str
    """The marked text: the content of a box, or the rest of the line."""
    exact: bool = False
    """Whether the text is the answer and nothing else: a box or a JSON value."""


def marked(text: str) -> Marked | str | None:
    """Return what is marked as the answer, the last such mark; None where nothing is; a text: why it does not count.

    Strong marks (a box, "answer", "####") go before weak ones ("result", "solution") wherever they stand.
    """
    if (value := json_answer(text)) is not None:
        return Marked(value, exact=True)
    found = sorted(_marks(text))
    if not found:
        return None
    counted = [mark for mark in found if mark.counts]
    if not counted:
        return "its answer is denied or only supposed"
    last = [mark for mark in counted if mark.strong][-1:] or counted[-1:]
    _, end, _, content, strong, exact = last[0]
    if TAKEN_BACK.search(text, end):
        return "it takes its answer back"
    if exact and _two_boxes(text, [mark for mark in counted if mark.exact]):
        return "it boxes several answers"
    if not content.strip("*_` .<>") or (not strong and content.rstrip("*_` ").endswith(":")):
        return None
    return Marked(content, exact)


class _Mark(NamedTuple):
    start: int
    end: int
    counts: bool
    content: str
    strong: bool
    exact: bool


def _marks(text: str) -> Iterator[_Mark]:
    for match in _MARK.finditer(text):
        line = text[match.end() :].split("\n", 1)[0].strip()
        counts = not _NOT_THE_ANSWER.search(text[max(0, match.start() - 60) : match.start()])
        if line.strip("*_` .<>"):
            yield _Mark(match.start(), match.end(), counts, line, bool(match["strong"]), False)
    for match in _HASHES.finditer(text):
        line = text[match.end() :].split("\n", 1)[0].strip()
        if len(line.split()) <= 4 and not re.match(r"\d+[.)]\s|\w+\s*\d*:", line):  # a heading is no answer
            yield _Mark(match.start(), match.end(), True, line, True, False)
    closed = 0
    for match in _BOXED.finditer(text):
        if match.start() < closed:  # a box in a box
            continue
        content = braced(text, match.end()) if match[0].endswith("{") else re.match(r"\d+", text[match.end() :])[0]  # type: ignore[index]
        if content is None:  # never closed, nor is what opens behind it
            return
        if content.strip():
            closed = match.end() + len(content)
            yield _Mark(match.start(), match.end() + len(content), True, content.strip(), True, True)


def _two_boxes(text: str, boxes: list[_Mark]) -> bool:
    """Whether the last two boxes, of different content, stand side by side as two answers."""
    if len(boxes) < 2 or boxes[-1].content == boxes[-2].content:
        return False
    between = text[boxes[-2].end : boxes[-1].start]
    return re.fullmatch(r"[\s}$)\\,;]*(?:and|or)?[\s$(\\]*", between) is not None


def braced(text: str, start: int) -> str | None:
    """Return what stands between an opening brace, which `start` is behind, and the one that closes it."""
    depth = 1
    for at in range(start, len(text)):
        if text[at] == "{" and text[at - 1 : at] != "\\":
            depth += 1
        elif text[at] == "}" and text[at - 1 : at] != "\\":
            depth -= 1
            if not depth:
                return text[start:at]
    return None


def unwrapped(text: str) -> str:
    r"""Return text without `\text{...}` and its like (their content stays) and without mathematics' delimiters."""
    while match := _TEXT_COMMAND.search(text):
        content = braced(text, match.end())
        if content is None:
            return text
        text = f"{text[: match.start()]} {content} {text[match.end() + len(content) + 1 :]}"
    text = re.sub(r"\\[()\[\]]|\$\$", " ", text)
    return re.sub(r"\$(?=\S)([^$\n]+)(?<=\S)\$(?!\d)", r" \1 ", text)  # prices stay: "$5 and $10"


def json_answer(text: str) -> str | None:
    """Return the answer of a reply that is a JSON object and nothing else; None where it is none, or holds none."""
    fenced = _FENCED.match(text)
    plain = (fenced[2] if fenced else text).strip()
    if not (plain.startswith("{") and plain.endswith("}")):
        return None
    values = json_object(plain)
    if values is None:
        return None
    named = [value for key in _KEYS for name, value in values.items() if name.strip().casefold() == key]
    value = named[0] if named else next(iter(values.values())) if len(values) == 1 else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def json_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text is; trailing commas and single quotes are forgiven, a repeated name is not."""
    for form in (text, _TRAILING.sub(r"\1", text), _TRAILING.sub(r"\1", double_quoted(text))):
        try:
            value = json.loads(form, object_pairs_hook=_unique, strict=False)
        except (ValueError, RecursionError):
            continue
        return value if isinstance(value, dict) else None
    return None


def double_quoted(text: str) -> str:
    """Return text whose single quotes around names and values are double ones; apostrophes in words stay."""
    return re.sub(r"(?<=[{\[,:\s])'((?:[^'\"\\\n]|(?<=\w)'(?=\w))*)'(?=\s*[:,}\]])", r'"\1"', text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object; one that says two things of one name says nothing of it."""
    said: dict[str, Any] = {}
    for name, value in pairs:
        said[name] = None if name in said and said[name] != value else value
    return said


__all__ = ["TAKEN_BACK", "Marked", "braced", "double_quoted", "json_answer", "json_object", "marked", "unwrapped"]
