"""What is searched over: frozen values, parsed and printed, nothing run. Imports no folder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from .errors import SpecError
from .records import canonical

LONGEST = 4096
"""Layers of a path at most, so that a typing slip like `0x99999999` is refused and not built."""

_TOKEN = re.compile(r"\s*(\d+|[-,()x])")


@dataclass(frozen=True, slots=True, eq=False)
class LayerPath:
    """A sequence of layer indices, repeats allowed: which layers of a decoder run, in which order.

    The canonical text lists runs (`0-11`), repeats of one layer (`12x3`) and of a block (`(5-8)x2`):

    >>> str(LayerPath((0, 1, 2, 2, 2, 5, 6, 5, 6)))
    '0-1,2x3,(5-6)x2'
    >>> LayerPath.parse("0-1,2x3,(5-6)x2").layers
    (0, 1, 2, 2, 2, 5, 6, 5, 6)

    Source: CoLa, arXiv 2507.07996, section 3.
    """

    layers: tuple[int, ...]
    _text: list[str] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.layers:
            raise SpecError("layer path", self.layers, "one layer or more")

    def __eq__(self, other: object) -> bool:
        return self.layers == other.layers if isinstance(other, LayerPath) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __str__(self) -> str:
        if not self._text:
            self._text.append(_print(self.layers))
        return self._text[0]

    @property
    def key(self) -> str:
        """The canonical text."""
        return str(self)

    @classmethod
    def identity(cls, depth: int) -> Self:
        """Return the path of the unmodified decoder."""
        return cls(tuple(range(depth)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the path that `text` names, canonical or not.

        Raises:
            SpecError: the text is no path; the error names the place.
        """
        return cls(tuple(_Parser(text).path()))

    def check(self, depth: int) -> None:
        """Refuse a layer that a decoder of `depth` layers does not have."""
        for layer in self.layers:
            if not 0 <= layer < depth:
                raise SpecError(f"layer path {self}", layer, f"layers 0 to {depth - 1} of this model")

    def edits(self, depth: int) -> str:
        """Return how the path differs from the identity, for people: `skip 3-5; repeat 12 x2`."""
        counts = [self.layers.count(layer) for layer in range(depth)]
        skipped = [layer for layer in range(depth) if not counts[layer]]
        parts = [f"skip {_print(tuple(skipped))}"] if skipped else []
        parts += [f"repeat {layer} x{count}" for layer, count in enumerate(counts) if count > 1]
        return "; ".join(parts) or "none"


def _print(layers: Sequence[int]) -> str:
    """Return the canonical text: at each place the shortest repeating block, else the longest rising run."""
    parts: list[str] = []
    at = 0
    while at < len(layers):
        period, times = _repeat(layers, at)
        if times > 1:
            block = _print(layers[at : at + period])
            parts.append(f"{block}x{times}" if period == 1 else f"({block})x{times}")
            at += period * times
            continue
        stop = at + 1
        while stop < len(layers) and layers[stop] == layers[stop - 1] + 1 and _repeat(layers, stop)[1] == 1:
            stop += 1
        parts.append(str(layers[at]) if stop == at + 1 else f"{layers[at]}-{layers[stop - 1]}")
        at = stop
    return ",".join(parts)


def _repeat(layers: Sequence[int], at: int) -> tuple[int, int]:
    """Return (period, times) of the shortest block at `at` that comes twice or more at once; (1, 1) if none does."""
    for period in range(1, (len(layers) - at) // 2 + 1):
        if layers[at] != layers[at + period]:
            continue
        block, times = layers[at : at + period], 1
        while layers[at + times * period : at + (times + 1) * period] == block:
            times += 1
        if times > 1:
            return period, times
    return 1, 1


class _Parser:
    """Recursive descent over `path := part (',' part)*`, `part := (int | int-int | '(' path ')') ['x' int]`."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens, at = text, [], 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._error(text[at:].strip()[:10])
            self._tokens.append(match[1])
            at = match.end()
        self._at = 0

    def path(self) -> list[int]:
        layers = self._sequence()
        if self._at < len(self._tokens):
            raise self._error(self._tokens[self._at])
        return layers

    def _sequence(self) -> list[int]:
        layers = self._part()
        while self._peek() == ",":
            self._at += 1
            layers += self._part()
            self._bound(len(layers))
        return layers

    def _part(self) -> list[int]:
        if self._peek() == "(":
            self._at += 1
            block = self._sequence()
            self._take(")")
        else:
            block = self._run()
        if self._peek() == "x":
            self._at += 1
            times = self._number()
            if times < 1:
                raise self._error(f"x{times}")
            self._bound(len(block) * times)
            block = block * times
        return block

    def _run(self) -> list[int]:
        first = self._number()
        if self._peek() != "-":
            return [first]
        self._at += 1
        last = self._number()
        if last <= first:
            raise self._error(f"{first}-{last}")
        self._bound(last - first)
        return list(range(first, last + 1))

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, token: str) -> None:
        if self._peek() != token:
            raise self._error(self._peek() or "the end")
        self._at += 1

    def _number(self) -> int:
        token = self._peek()
        if not token.isdigit():
            raise self._error(token or "the end")
        self._at += 1
        return int(token)

    def _bound(self, length: int) -> None:
        if length > LONGEST:
            raise self._error(f"{length} layers")

    def _error(self, got: str) -> SpecError:
        expected = f"a path such as 0-11,12x3,(5-8)x2 of at most {LONGEST} layers"
        return SpecError(f"layer path {self._text[:60]!r}", got, expected)


class JudgeNetwork(BaseModel):
    """A network of judges: how wide, how deep, how connected, and how its scores become a verdict.

    Source: WideDeep, arXiv 2308.01862; where its paper and its released code differ, both are settings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    family: str = "general"
    """Task family: which nouns the prompts use, and the standard angles."""
    roles: Literal["generated", "standard", "given"] = "generated"
    """Angles: asked of the model per item (paper), those of the family, or those in `angles`."""
    role_limit: PositiveInt | None = None
    """Angles asked for at most; None for as many as the model names (paper); 2 is the released code's --limited."""
    angles: tuple[str, ...] = ()
    """The angles, where `roles` is given."""
    samples: PositiveInt = 1
    """Neurons of the same angle and model, each with a draw of its own; more than one needs a temperature."""
    width: PositiveInt | None = None
    """Neurons of a layer at most; None for one an angle, model and sample."""
    depth: PositiveInt = 2
    """Layers."""
    topology: Literal["full", "window"] = "full"
    """Whose reviews a neuron above the first layer reads: the whole layer's (paper) or its neighbours' (code)."""
    window: PositiveInt = 2
    """Under `window`: neighbours nearer than this; 2 is the released code's."""
    scoring: Literal["text", "letters"] = "text"
    """Scores written into a review, or the probabilities of one letter at the last layer."""
    pool: Literal["mean", "vote"] = "mean"
    """Scores averaged, or one vote a neuron once its two orders are merged."""
    layers: Literal["all", "last"] = "all"
    """Which layers count."""
    tie_band: float = Field(default=0.0, ge=0)
    """Differences up to this are ties: in score points of 1 to 10, or in probability. Of letters, a largest mean
    probability of neither (C) is a tie whatever the band."""
    hygiene: bool = False
    """Above the first layer: reviews without author, angle or score, and a word against following majorities."""
    stop: Literal["none", "lead", "lossless"] = "none"
    """Ask neurons in turn until the lead is `lead` votes, or until no later vote can change the verdict."""
    lead: PositiveInt = 2
    """Votes of lead that end an adaptive network; each order of a neuron is a vote."""
    deepen: Literal["always", "undecided"] = "always"
    """Run the layers above the first always, or only where the first is undecided."""
    quorum: float = Field(default=0.5, gt=0, le=1)
    """Share of the calls that must have answered; with fewer the network abstains."""
    temperature: float = Field(default=0.0, ge=0)
    """Of reviews; the released code leaves it at the endpoint's default, 1."""
    max_tokens: PositiveInt = 512
    """Of a review."""

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if (self.roles == "given") != bool(self.angles):
            raise ValueError("angles exactly where roles is given")
        if self.stop != "none" and self.depth > 1:
            raise ValueError("depth 1 where stop is not none: neurons asked in turn have no layer above")
        if self.samples > 1 and not self.temperature:
            raise ValueError("a temperature above 0 where samples is above 1: equal draws would be one vote twice")
        return self

    @property
    def key(self) -> str:
        """The canonical text."""
        return canonical(self.model_dump(mode="json"))


NETWORKS: dict[str, JudgeNetwork] = {
    "paper": JudgeNetwork(temperature=1.0),
    "released": JudgeNetwork(topology="window", temperature=1.0),
    "wide": JudgeNetwork(roles="standard", depth=1, scoring="letters"),
    "adaptive": JudgeNetwork(roles="standard", depth=1, scoring="letters", pool="vote", stop="lead"),
    "single": JudgeNetwork(roles="given", angles=("overall quality",), depth=1, scoring="letters"),
    "faireval": JudgeNetwork(roles="given", angles=("overall quality",), depth=1, samples=3, temperature=1.0),
}
"""Judge networks by name: as published, as its code was released, and ours."""
