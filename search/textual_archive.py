"""Teams worth changing or merging beside the incumbent: a Pareto set over items won, tokens and calls in a row. Pure.

Teams are compared on items that both have a score for, never on means of different items.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from ..errors import SpecError
from ..teams import TeamSpec
from .textual_records import Pass

SHARED = 9
"""Items that two teams must share for one to dominate the other: a gate's first look, at the least."""


@dataclass(frozen=True)
class Member:
    """A team with what it made of validation items.

    Attributes:
        team: The team.
        scores: By item, the mean over its draws.
        tokens: Mean of an item.
        path: Mean number of calls one after the other.
    """

    team: TeamSpec
    scores: Mapping[str, float]
    tokens: float
    path: float

    @classmethod
    def of(cls, team: TeamSpec, passes: Mapping[str, Sequence[Pass]]) -> "Member":
        """Return the member of a team's passes by item, one or more of each."""
        every = [one for drawn in passes.values() for one in drawn]
        scores = {item: fmean(one.score for one in drawn) for item, drawn in passes.items()}
        return cls(team, scores, fmean(one.tokens for one in every), fmean(one.path for one in every))

    @property
    def mean(self) -> float:
        """Mean score of its items: for choosing, never a result."""
        return fmean(self.scores.values())

    def dominates(self, other: "Member") -> bool:
        """Whether it is nowhere worse, on shared items, tokens and path, and better somewhere."""
        shared = self.scores.keys() & other.scores.keys()
        if len(shared) < SHARED or self.tokens > other.tokens or self.path > other.path:
            return False
        if any(self.scores[item] < other.scores[item] for item in shared):
            return False
        cheaper = self.tokens < other.tokens or self.path < other.path
        return cheaper or any(self.scores[item] > other.scores[item] for item in shared)


@dataclass
class Archive:
    """The members that no other dominates, in the order they came."""

    members: list[Member] = field(default_factory=list)

    def offer(self, new: Member) -> None:
        """Take a team in, in place of its own earlier scores and of those it dominates, unless one dominates it."""
        others = [member for member in self.members if member.team.hash != new.team.hash]
        if any(member.dominates(new) for member in others):
            self.members = others
        else:
            self.members = [member for member in others if not new.dominates(member)] + [new]

    def pick(self, rng: random.Random, but: TeamSpec) -> TeamSpec:
        """Return a team of the archive other than `but`; `but` where there is none."""
        others = [member.team for member in self.members if member.team.hash != but.hash]
        return rng.choice(others) if others else but

    def front(self, rng: random.Random, otherwise: TeamSpec) -> TeamSpec:
        """Return a team, as often as it is best on an item (GEPA); `otherwise` where there are none.

        A member is covered, and not drawn, where every item that it is best on has another that is kept and as good;
        the lowest means are looked at first.
        """
        best: dict[str, float] = {}
        for member in self.members:
            for item, score in member.scores.items():
                best[item] = max(score, best.get(item, score))
        led = [{item for item, score in member.scores.items() if score == best[item]} for member in self.members]
        kept = list(range(len(led)))
        for at in sorted(kept, key=lambda at: self.members[at].mean):
            if led[at] <= {item for other in kept if other != at for item in led[other]}:
                kept.remove(at)
        if not kept:
            return otherwise
        return rng.choices([self.members[at].team for at in kept], [len(led[at]) for at in kept])[0]

    def merge(self, rng: random.Random) -> TeamSpec | None:
        """Return a team with layers of two members; None where two cannot be merged into a third.

        Layers are matched by name, in the order of the first; a layer that they agree on, or that one lacks, is the
        first's. One differing layer at least is taken from each.
        """
        if len(self.members) < 2:
            return None
        first, second = (member.team for member in rng.sample(self.members, 2))
        differing = [layer.name for layer in first.layers if second.layer(layer.name) not in (None, layer)]
        if len(differing) < 2:
            return None
        rng.shuffle(differing)
        taken = differing[: rng.randrange(1, len(differing))]
        layers = (second.layer(layer.name) if layer.name in taken else layer for layer in first.layers)
        values = first.model_copy(update={"layers": tuple(layers)}).model_dump(mode="json", exclude_defaults=True)
        try:
            return TeamSpec.parse(values)
        except SpecError:
            return None  # names or reads that no longer fit: the two cannot be merged
