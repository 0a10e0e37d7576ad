"""What a search over teams asks for: passes, critiques, repairs. Frozen values, written and parsed, nothing run.

Everything that costs a call is a trial. What is to come back in `Scored.values` stands at each kind; an evaluation
that gave none is `Failed`, never a score of 0. Items are named by their ids: a search holds no question and no answer.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from ..errors import SpecError
from ..records import JSON, canonical
from ..team_findings import FindingKind
from ..teams import TeamSpec


class _Keyed:
    """A value that its canonical text stands for: equal texts are equal values."""

    @cached_property
    def key(self) -> str:
        """The canonical text; `parse` reads it back."""
        return canonical(self._written())

    def _written(self) -> dict[str, JSON]:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, _Keyed) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a critique found, and what one repair is aimed at.

    Attributes:
        layer: The layer at fault; "" for the whole team.
        agent: The agent at fault, if it is one.
        kind: What is to be changed.
        text: What went wrong; "" where nobody looked, as in random edits.
    """

    layer: str
    agent: str | None = None
    kind: FindingKind = "prompt"
    text: str = ""


@dataclass(frozen=True, eq=False)
class Forward(_Keyed):
    """One team on one item, once.

    Values: `score` in [0, 1], `calls`, `tokens`, `path` (calls one after the other), `unparsed` (outputs that nothing
    could be read from), `answer` (text or None), `layers`: {name: {`block`, `bad_selection`, `agents`, `unparsed`,
    `disagree`}}; a donor's calls are in none of these.
    """

    team: TeamSpec
    item: str
    sample: int = 0
    """Which draw of the sampled agents."""
    resample: str = ""
    """A layer whose agents take their next draw, or that is passed over for a donor's; all else stays as it was."""
    donor: TeamSpec | None = None
    """Another team, whose output of the layer `resample` stands in for the team's own."""
    donor_sample: int = 0
    """Which draw of the donor."""

    def _written(self) -> dict[str, JSON]:
        rest: dict[str, JSON] = {"item": self.item, "sample": self.sample, "resample": self.resample}
        if self.donor is not None:  # keys of passes without one are what they were before there were donors
            rest |= {"donor": _team_values(self.donor), "donor_sample": self.donor_sample}
        return {"kind": "forward", "team": _team_values(self.team), **rest}


@dataclass(frozen=True, eq=False)
class Critique(_Keyed):
    """One reading of training passes: of the whole team, or of one layer.

    Values: `findings`: [{`layer`, `agent`, `kind`, `text`}], at most three; `text`: the whole critique.
    """

    team: TeamSpec
    scope: str
    """"" for the whole team (the global critique), or the name of a layer (a local one)."""
    shown: tuple[tuple[str, int], ...]
    """Training passes of `team` to read: (item, sample)."""
    stats: Mapping[str, JSON] = field(default_factory=dict)
    """Of each layer: calls, unparsed outputs, disagreement, choices of blocks, blame."""
    index: int = 0
    """The step it belongs to, so that no two readings are the same trial."""

    def _written(self) -> dict[str, JSON]:
        rest = {"scope": self.scope, "shown": self.shown, "stats": self.stats, "index": self.index}
        return {"kind": "critique", "team": _team_values(self.team), **rest}


@dataclass(frozen=True, eq=False)
class Repair(_Keyed):
    """One proposal of an edit, aimed at one finding.

    Values: `patch` (a `Patch` as JSON, None where the answer was none), `text` (the answer), `error` (why it was none).
    A finding without text asks for an edit of that kind at that place: by the passes `shown`, or where there are none
    for a random one, nobody having looked at a trace.
    """

    team: TeamSpec
    finding: Finding
    critiques: Mapping[str, str] = field(default_factory=dict)
    """`global`, `local` and `previous` (the layer's local critique of the step before), those there are."""
    memory: tuple[str, ...] = ()
    """Earlier edits of the layer with their outcomes, one a line, the oldest first."""
    refused: str = ""
    """Why the attempt before this one was refused."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """`alpha` (this critique against the previous) and `beta` (global against local), where they are mixed."""
    attempt: int = 0
    """0, or 1 where it is asked again."""
    index: int = 0
    """Which proposal of the run, from 0; an attempt asked again has the number of the first."""
    shown: tuple[tuple[str, int], ...] = ()
    """Training passes of `team` to read, (item, sample), where no critique has read them."""
    edits: tuple[str, ...] = ()
    """The `op`s that the patch may hold, where it is told so; () for all."""

    def _written(self) -> dict[str, JSON]:
        finding = {name: getattr(self.finding, name) for name in Finding.__slots__}
        rest = {"critiques": self.critiques, "memory": self.memory, "refused": self.refused, "weights": self.weights}
        numbers = {"attempt": self.attempt, "index": self.index}
        told = {name: value for name, value in (("shown", self.shown), ("edits", self.edits)) if value}
        return {"kind": "repair", "team": _team_values(self.team), "finding": finding, **rest, **numbers, **told}


TextualTrial: TypeAlias = Forward | Critique | Repair


def parse(key: str) -> TextualTrial:
    """Return the candidate that `key` is the text of.

    Raises:
        SpecError: it is the text of none.
    """
    try:
        values = json.loads(key)
        kind = values.pop("kind")
        values["team"] = TeamSpec.parse(values["team"], "trial: team")
        if kind == "forward":
            if "donor" in values:
                values["donor"] = TeamSpec.parse(values["donor"], "trial: donor")
            return Forward(**values)
        if kind == "critique":
            return Critique(**{**values, "shown": _pairs(values["shown"])})
        if kind == "repair":
            values |= {"finding": Finding(**values["finding"]), "memory": tuple(values["memory"])}
            values |= {"shown": _pairs(values.get("shown", ())), "edits": tuple(values.get("edits", ()))}
            return Repair(**values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpecError("trial of a search over teams", key[:80], f"the text of a trial ({error})") from None
    raise SpecError("trial of a search over teams", kind, "forward, critique or repair")


def _pairs(shown: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    return tuple((item, sample) for item, sample in shown)


def _team_values(team: TeamSpec) -> JSON:
    return team.model_dump(mode="json", exclude_defaults=True)
