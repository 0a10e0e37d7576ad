"""What a search over teams remembers from step to step, layer by layer, and shows to repair. Pure.

Two kinds. Published (ANN, arXiv 2506.09046, section 2.2 of specs/ann): the previous raw critique of each layer, shown
beside the present one with weights. Ours: the last edits of each layer with what became of them, bounded in entries
and in tokens. Neither holds anything else of the run.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

MomentumKind: TypeAlias = Literal["edits", "critiques", "none"]

ENTRIES = 6
"""Edits remembered of a layer."""
TOKENS = 400
"""Of all that is remembered of a layer, by `tokens`."""
PART = 128
"""Characters kept of a finding, of an edit's line and of a verdict: one entry alone is within the tokens."""

_PIECE = re.compile(r"[A-Za-z0-9]+|[^\s]")


def tokens(text: str) -> int:
    """Return how many tokens `text` has at most, roughly: 4 letters or digits of a word, or one other sign, are one.

    There is no tokenizer here, and a bound must not depend on one; common ones need fewer for English.

    >>> tokens("rejected -2 of 32")
    6
    """
    return sum((len(piece) + 3) // 4 for piece in _PIECE.findall(text))


def shorten(text: str, limit: int = PART) -> str:
    """Return `text` on one line, cut to `limit` characters with a visible mark."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 5].rstrip()} [..]"


@dataclass(frozen=True, slots=True)
class Tried:
    """One edit and what became of it.

    Attributes:
        finding: What it was aimed at.
        edit: The edit in a line.
        verdict: `kept +7 of 100`, `rejected -2 of 32`, `refused: cycle at ...`.
    """

    finding: str
    edit: str
    verdict: str

    def __str__(self) -> str:
        return f"{shorten(self.finding)} => {shorten(self.edit)} => {shorten(self.verdict)}"


@dataclass
class EditMemory:
    """The last edits of each layer with their outcomes; the oldest are forgotten first."""

    entries: int = ENTRIES
    limit: int = TOKENS
    _tried: dict[str, list[Tried]] = field(default_factory=dict, init=False)

    def note(self, layer: str, tried: Tried) -> None:
        """Remember one edit of `layer`."""
        kept = [*self._tried.get(layer, []), tried][-self.entries :]
        while len(kept) > 1 and sum(tokens(str(one)) for one in kept) > self.limit:
            kept = kept[1:]
        self._tried[layer] = kept

    def lines(self, layer: str) -> tuple[str, ...]:
        """Return what is remembered of `layer`, one edit a line, the oldest first."""
        return tuple(str(one) for one in self._tried.get(layer, []))


@dataclass
class CritiqueMemory:
    """The previous raw critique of each layer."""

    _previous: dict[str, str] = field(default_factory=dict, init=False)

    def previous(self, layer: str) -> str:
        """Return the critique of `layer` before the present one; "" where there was none."""
        return self._previous.get(layer, "")

    def replace(self, critiques: Mapping[str, str]) -> None:
        """Remember this step's critiques, whatever became of the repair; a layer without one keeps its last."""
        self._previous |= {layer: text for layer, text in critiques.items() if text}


@dataclass
class Momentum:
    """Both kinds behind one face, of which at most one is at work.

    Attributes:
        kind: Which; `none` remembers nothing, and repair is shown nothing.
    """

    kind: MomentumKind
    _edits: EditMemory = field(default_factory=EditMemory, init=False)
    _critiques: CritiqueMemory = field(default_factory=CritiqueMemory, init=False)

    def note(self, layer: str, tried: Tried) -> None:
        """Remember an edit and its outcome, where edits are remembered."""
        if self.kind == "edits":
            self._edits.note(layer, tried)

    def replace(self, critiques: Mapping[str, str]) -> None:
        """Remember this step's local critiques, where critiques are remembered."""
        if self.kind == "critiques":
            self._critiques.replace(critiques)

    def lines(self, layer: str) -> tuple[str, ...]:
        """Return the remembered edits of a layer."""
        return self._edits.lines(layer)

    def previous(self, layer: str) -> str:
        """Return the remembered critique of a layer."""
        return self._critiques.previous(layer)
