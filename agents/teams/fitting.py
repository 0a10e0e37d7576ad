"""Texts of others inside a prompt: quoted line by line, cut with a visible mark, fitted to a bound on the whole prompt.

Bounds are in estimated tokens: there is no tokenizer here, and a prompt must not depend on one. Pure text.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeAlias

from ...errors import SpecError

_PIECE = re.compile(r"[A-Za-z0-9]{1,4}|\n|[^\S\n]{8}|[^\sA-Za-z0-9]")
Spans: TypeAlias = list[tuple[int, int]]
"""Where the pieces of a text begin and end."""

_ROUNDS = 6
"""Times that a prompt is fitted: marks and quotation signs are counted only once they are there."""


class Shown(Protocol):
    """Puts a text into a prompt; what templates call."""

    def __call__(self, text: str, most: int = ..., /) -> str:
        """Return `text` quoted, cut to `most` tokens or to what there is room for."""
        ...


def tokens(text: str) -> int:
    """Return how many tokens `text` has, roughly and rather too many: 4 letters or digits, a sign, a new line.

    >>> tokens("rejected -2 of 32")
    6
    """
    return len(_PIECE.findall(text))


def cut(text: str, most: int) -> str:
    """Return a text of `most` tokens; where its middle was left out a mark says how much, and the end is kept.

    >>> cut("one two three four five six", 3).splitlines()
    ['one two', '[... about 4 tokens left out ...]', 'six']
    """
    return _cut(text, _spans(text), most)


def _spans(text: str) -> Spans:
    return [piece.span() for piece in _PIECE.finditer(text)]


def _cut(text: str, spans: Spans, most: int) -> str:
    if len(spans) <= most:
        return text.strip()
    most = max(0, most)
    tail = most // 3
    head = most - tail
    start = text[: spans[head - 1][1]] if head else ""
    end = text[spans[-tail][0] :] if tail else ""
    mark = f"[... about {len(spans) - most} tokens left out ...]"
    return "\n".join(part for part in (start.strip(), mark, end.strip()) if part)


def quoted(text: str) -> str:
    """Return a text whose every line begins with `| `: nothing in it can pass for what is around it."""
    return "\n".join(f"| {line}" for line in text.splitlines()) or "| (empty)"


def newest(lines: Iterable[str], entries: int, most: int) -> list[str]:
    """Return the last `entries` lines that have `most` tokens together, each on one line; the order stays."""
    kept: list[str] = []
    for line in reversed([" ".join(line.split()) for line in lines][-entries:] if entries else []):
        room = most - sum(map(tokens, kept))
        if tokens(line) > room:
            if not kept:
                kept.append(" ".join(cut(line, room).split()))
            break
        kept.append(line)
    return kept[::-1]


def level(lengths: Sequence[int], room: int) -> int:
    """Return to what length texts must be cut to have `room` together: the long ones alike, the short ones not at all.

    >>> level([5, 100, 200], 65)
    30
    """
    left = max(0, room)
    for at, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - at)
        if length > share:
            return share
        left -= length
    return max(lengths, default=0)


def fitted(render: Callable[[Shown], str], total: int, where: str) -> str:
    """Return the prompt that `render` makes, its shown texts cut alike until the whole has `total` tokens.

    Raises:
        SpecError: its own words alone have more.
    """
    lengths: list[int] = []
    spans: dict[str, Spans] = {}

    def measured(text: str, most: int = total, /) -> str:
        spans.setdefault(text, _spans(text))
        lengths.append(min(len(spans[text]), most))
        return ""

    room = total - tokens(render(measured))
    for _ in range(_ROUNDS):
        reached = level(lengths, room)
        prompt = render(lambda text, most=total, /: quoted(_cut(text, spans[text], min(most, reached))))  # noqa: B023
        over = tokens(prompt) - total
        if over <= 0:
            return prompt
        room -= over
    raise SpecError(where, total, f"a bound of {total + over} tokens or more: its own words take so many")


__all__ = ["Shown", "cut", "fitted", "level", "newest", "quoted", "tokens"]
