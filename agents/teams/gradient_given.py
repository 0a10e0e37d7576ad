"""What critic and repair are given: plain values, from which their prompts are written.

Feedback may hold a gold answer, so only training items belong in here: whatever is given is shown. Knows teams; must
not know models, graphs or searches.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

from ...records import JSON
from ...team_findings import FindingKind
from ...teams import TeamSpec


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Finding(_Frozen):
    """One fault that a critique found, and what one repair is aimed at."""

    layer: str = ""
    """The layer at fault; "" for the whole team, or where the critique named none that there is."""
    agent: str | None = None
    """The agent at fault, if it is one."""
    kind: FindingKind = "prompt"
    """What is to be changed; `prompt` where the critique does not say."""
    text: str = ""
    """What went wrong; "" where nobody looked, as in random edits."""


class Step(_Frozen):
    """One call of a training pass, as a line of its trace."""

    layer: str
    """Of the call."""
    block: str = ""
    """Of the call."""
    agent: str = ""
    """Who was asked; "" for what the layer came to."""
    output: str = ""
    """What was said."""
    value: str | None = None
    """What was read from it; None where nothing could be."""
    failure: str = ""
    """Why there is no output."""
    unread: str = ""
    """Why no value could be read."""


class Sample(_Frozen):
    """One training item that the team was asked, and what came of it."""

    item: str
    """The item's id."""
    question: str
    """As the team was asked."""
    score: float
    """In 0..1."""
    feedback: str = ""
    """What the loss says; may hold the gold answer."""
    trace: tuple[Step, ...] = ()
    """Its calls, in the order of the layers."""


class CritiqueGiven(_Frozen):
    """What a critic reads: the team, and what it did on a minibatch of training items."""

    team: TeamSpec
    """Shown as text."""
    scope: str = ""
    """"" for the whole team (the global critique), or the name of a layer (a local one)."""
    statistics: tuple[str, ...] = ()
    """A line a layer; `statistic_lines` writes them."""
    shown: tuple[Sample, ...] = ()
    """The minibatch."""


class RepairGiven(_Frozen):
    """What a repair starts from: the team, one finding, critiques, what was tried before."""

    team: TeamSpec
    """Shown as text; the part that the finding names as JSON."""
    finding: Finding
    """What to mend; without text: any edit of that kind at that place."""
    critiques: dict[str, str] = Field(default_factory=dict)
    """`global`, `local` and `previous` (the layer's of the step before), those there are."""
    weights: dict[str, float] = Field(default_factory=dict)
    """`alpha` (this step's critique against the previous one) and `beta` (global against local); {} for no mixing."""
    memory: tuple[str, ...] = ()
    """Earlier edits with their outcomes, one a line, the oldest first."""
    refused: str = ""
    """Why the attempt before was refused."""
    edits: tuple[str, ...] = ()
    """The `op`s that a patch may hold; () for all."""
    shown: tuple[Sample, ...] = ()
    """The minibatch, where no critique has read it."""


MOST_FINDINGS = 3
"""Findings of one critique; they come with the most harmful first."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a prompt may be, in estimated tokens.

    Attributes:
        total: The whole prompt, its own words included: longer texts are cut alike until it fits.
        output: An output of a trace; a question and a feedback have as much.
        critique: What a critique says of one layer, or of the whole team, as repair is shown it.
        memory: All that is shown of earlier edits.
        entries: Earlier edits shown.
        steps: Calls of one item shown; the middle ones are left out where there are more.
    """

    total: int = 8000
    output: int = 600
    critique: int = 600
    memory: int = 400
    entries: int = 6
    steps: int = 24

    def within(self, context: int | None, max_tokens: int) -> "Bounds":
        """Return bounds that fit a model's context (None: it does not say) beside two answers of `max_tokens`."""
        if context is None:
            return self
        return replace(self, total=min(self.total, context - 2 * max_tokens - TEMPLATE))


TEMPLATE = 200
"""Tokens kept free for a chat template and for asking again."""

BOUNDS = Bounds()
"""Fit for a context of some 10,000 tokens, answers included."""


def statistic_lines(statistics: Mapping[str, JSON]) -> tuple[str, ...]:
    """Return statistics by layer as a line a layer.

    >>> statistic_lines({"solve": {"calls": 12, "blame": 0.5, "blocks": {"one": 3, "trio": 1}}})
    ('solve: calls 12, blame 0.5, blocks (one 3, trio 1)',)
    """
    return tuple(f"{layer}: {_said(values)}" for layer, values in statistics.items())


def _said(value: JSON) -> str:
    if isinstance(value, Mapping):
        parts = (
            f"{name} ({_said(one)})" if isinstance(one, Mapping) else f"{name} {_said(one)}"
            for name, one in value.items()
        )
        return ", ".join(parts)
    if isinstance(value, list | tuple):
        return " ".join(map(_said, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


__all__ = [
    "BOUNDS",
    "MOST_FINDINGS",
    "Bounds",
    "CritiqueGiven",
    "Finding",
    "FindingKind",
    "RepairGiven",
    "Sample",
    "Step",
    "statistic_lines",
]
