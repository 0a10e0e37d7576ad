"""What a judge said, read from its text: angles, scores. Tolerant of form, never of origin.

Only the judge's own reply is ever read. A reply may quote what it reviews, and what it reviews may hold the very
lines that scores or angles are written in; so what stands in the material is a quotation, however it is spaced,
broken or marked there, and counts for nothing. Pure text; must not know models.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

_NUMBER = r"[*_`\"'<\[(\s]*(\d{1,2}(?:\.\d+)?)\.?[*_`\"'>\])\s]*(?:/\s*10|out\s+of\s+10|points?)?[*_`.\s]*"
_SCORE = re.compile(
    rf"^[\s>*_`#\-\u2022]*score\s+(?:of|for)\s+(?:the\s+)?assistant\s+([12])[\s*_`]*[:=\u2013-]{_NUMBER}$",
    re.IGNORECASE,
)
_DENIED = re.compile(r"\b(?:not|no|never|neither|nor|cannot|between|instead|unless|or)\b|n['\u2019]t\b", re.IGNORECASE)
_BARE = re.compile(r"(?<![\d.])\d+(?:\.\d+)?")
LOWEST, HIGHEST = 1.0, 10.0

MOST_ANGLES = 12
"""Angles that are read at most: a model that lists a hundred has lost the thread."""


def scores(reply: str, material: Sequence[str]) -> tuple[float, float] | None:
    """Return the judge's two scores, the last of each; None where it gave none of its own.

    Args:
        reply: The judge's text.
        material: What was under review: what stands in it is a quotation.
    """
    quoted = [_plain(text) for text in material]
    found: dict[str, float] = {}
    for line in reply.splitlines():
        match = _SCORE.match(line)
        if match and not any(_plain(line) in text for text in quoted) and LOWEST <= float(match[2]) <= HIGHEST:
            found[match[1]] = float(match[2])
    return (found["1"], found["2"]) if len(found) == 2 else None


def pair(reply: str) -> tuple[float, float] | None:
    """Return two bare numbers, as the repair call asks for them; None where there are not exactly two.

    Nor where a word denies them or offers a choice: "not 8 but 2" holds two numbers and no two scores.
    """
    if _DENIED.search(reply):
        return None
    numbers = [float(number) for number in _BARE.findall(re.sub(r"assistant\s+[12]", "", reply, flags=re.IGNORECASE))]
    if len(numbers) != 2 or not all(LOWEST <= number <= HIGHEST for number in numbers):
        return None
    return numbers[0], numbers[1]


def angles(reply: str, close: str = "&", material: Sequence[str] = ()) -> list[str]:
    """Return the names between `$` and `close`, each once, in order; those of a plain list if none are.

    Args:
        reply: The judge's text.
        close: The sign that ends a name.
        material: What was under review: a name that stands in it, signs and all, is a quotation.
    """
    quoted = [_squeezed(text) for text in material]
    for form in (rf"\$\s*(.+?)\s*{re.escape(close)}", r"^\s*(?:\d+[.)]|[-*\u2022])\s*\**([^:*\n]{2,60}?)\**\s*:"):
        found = re.finditer(form, reply, re.MULTILINE)
        marked = [match[1] for match in found if not any(_squeezed(match[0]) in text for text in quoted)]
        if marked:
            break
    names = [re.sub(r"\s+", " ", name).strip(" .,:;*_`\"'") for name in marked]
    return list(dict.fromkeys(name for name in names if 1 < len(name) <= 80))[:MOST_ANGLES]


def without_scores(text: str) -> str:
    """Return a review without its score lines."""
    return "\n".join(line for line in text.splitlines() if not _SCORE.match(line)).strip()


@lru_cache(maxsize=1024)  # every neuron above reads the same reviews
def exchanged(text: str) -> str:
    """Return a review with Assistant 1 and Assistant 2 exchanged, quotations left as they are."""
    parts = re.split(r"(\"[^\"\n]*\"|\u201c[^\u201d\n]*\u201d)", text)
    return "".join(part if at % 2 else _exchange(part) for at, part in enumerate(parts))


def _exchange(text: str) -> str:
    other = {"1": "2", "2": "1"}
    return re.sub(r"\b(assistant)(\s+|-|_)([12])\b", lambda m: f"{m[1]}{m[2]}{other[m[3]]}", text, flags=re.IGNORECASE)


@lru_cache(maxsize=512)  # every neuron of an item is read against the same material
def _plain(text: str) -> str:
    """Return a text as it is compared: letters and digits alone, lower case, wide forms as plain ones."""
    return re.sub(r"[^a-z0-9.]+", "", unicodedata.normalize("NFKC", text).lower()).strip(".")


def _squeezed(text: str) -> str:
    """Return a text without spaces, in lower case."""
    return "".join(text.lower().split())
