"""The networks that come of a teacher by dropping units and narrowing channel groups, all within a limit.

What is drawn is feasible by construction: a network past the limit is narrowed by one common factor, and where even
the narrowest is past it, loses units. Knows what a network costs only through the function given; trains nothing.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..architecture_edits import cleaned, pinned
from ..architecture_groups import ChannelGroup, channel_groups, shrunk
from ..architectures import Architecture
from ..errors import SpecError
from .network_genes import Genes, named, read
from .network_units import Unit, units_of, without

Cost = Callable[[Architecture], float]
"""What the limit bounds: parameters, MACs, bytes or milliseconds."""

FACTORS = tuple(number / 10 for number in range(1, 11))
STEPS = 1024
"""A common factor is a multiple of one over this."""
TRIES = 8
"""Decisions tried until a neighbour is another network: the width of what was dropped changes nothing."""


@dataclass
class NetworkSpace:
    """Networks reached from `teacher` by dropping units and narrowing channel groups.

    Attributes:
        teacher: Where all begin; taken in canonical form, nameless layers with weights called `#` and their index.
        cost: What `limit` bounds.
        limit: The largest cost allowed; None for any.
        factors: Widths that a draw chooses from, as shares of the teacher's.
        narrowest: Channels that narrowing leaves at least, where the teacher has as many.
        blocks: Whether units are residual branches and convolutions with what follows them, or single layers.

    Raises:
        SpecError: no network of the space is within the limit; the error says the smallest one's cost.
    """

    teacher: Architecture
    cost: Cost = field(default=lambda arch: arch.params)
    limit: float | None = None
    factors: tuple[float, ...] = FACTORS
    narrowest: int = 4
    blocks: bool = True

    def __post_init__(self) -> None:
        if not self.factors or not all(0 < factor <= 1 for factor in self.factors):
            raise SpecError("NetworkSpace.factors", self.factors, "one factor or more, above 0 and up to 1")
        self.teacher = named(self.teacher)
        if self.limit is not None and not self.feasible(least := self.smallest()):
            expected = (
                f"{self.cost(least):g} or more: the smallest network of this teacher "
                f"({len(least.layers)} layers, {least.params} parameters)"
            )
            raise SpecError("target", self.limit, expected)

    # -- what there is to decide

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """What may be dropped, in the order of the layers."""
        return units_of(self.teacher, blocks=self.blocks)

    @cached_property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """The teacher's channel groups that may be narrowed."""
        return tuple(group for group in channel_groups(self.teacher) if not group.fixed)

    @cached_property
    def pinned(self) -> tuple[bool, ...]:
        """For each layer of the teacher whether it always stays."""
        return pinned(self.teacher)

    def unit_groups(self, unit: Unit) -> tuple[int, ...]:
        """Return the groups (indices into `groups`) whose width layers of `unit` set."""
        return tuple(at for at, group in enumerate(self.groups) if set(group.members) & set(unit.layers))

    @property
    def size(self) -> float:
        """How many decisions there are; different ones may come to the same network."""
        bits = len(self.units) * math.log(2) + len(self.groups) * math.log(len(self.factors))
        return math.exp(bits) if bits < 700 else math.inf

    def feasible(self, arch: Architecture) -> bool:
        """Return whether `arch` is within the limit."""
        return self.limit is None or self.cost(arch) <= self.limit

    # -- networks from decisions

    def apply(self, keep: Sequence[bool], factors: Sequence[float]) -> Architecture:
        """Return the teacher without the units that `keep` denies, its groups scaled by `factors`; looks at no limit.

        Units without which the rest does not fit together stay. A group that dropping made one of several takes
        the widest of their widths.
        """
        if len(keep) != len(self.units) or len(factors) != len(self.groups):
            expected = f"{len(self.units)} bits and {len(self.groups)} factors"
            raise SpecError("NetworkSpace.apply", (len(keep), len(factors)), expected)
        arch = without(self.teacher, self.units, keep)
        scale = {name: factors[at] for name, at in self._group_of.items()}
        groups = channel_groups(arch)
        return cleaned(shrunk(arch, [_wide(arch, group, scale, self.narrowest) for group in groups]))

    def projected(self, keep: Sequence[bool], factors: Sequence[float]) -> Architecture:
        """Return the network of these decisions, or one near it that is within the limit.

        Past the limit it is narrowed by one common factor; where the narrowest is past it, units go, the last first.
        """
        found = self.repaired(self.apply(keep, factors))
        bits = list(keep)
        for at in [at for at, kept in enumerate(keep) if kept][::-1]:
            if found is not None:
                break
            bits[at] = False
            found = self.repaired(self.apply(bits, factors))
        return self.smallest() if found is None else found

    def repaired(self, arch: Architecture) -> Architecture | None:
        """Return `arch` narrowed by the largest common factor that is within the limit; None if none is."""
        if self.feasible(arch):
            return arch
        low, high, found = 0, STEPS, None
        while high - low > 1 or found is None:
            middle = (low + high) // 2
            narrower = self._narrowed(arch, middle / STEPS)
            if self.feasible(narrower):
                low, found = middle, narrower
            elif middle == 0:
                return None
            else:
                high = middle
        return found

    def smallest(self) -> Architecture:
        """Return the cheapest network: every group at its narrowest, and without each unit that costs anything.

        Dropping is tried unit by unit from the end, so it is the cheapest that was found, and no more.
        """
        return self._smallest

    @cached_property
    def _smallest(self) -> Architecture:
        keep, zeros = [True] * len(self.units), [0.0] * len(self.groups)
        found = self.apply(keep, zeros)
        for at in reversed(range(len(keep))):
            keep[at] = False
            other = self.apply(keep, zeros)
            if self.cost(other) <= self.cost(found):
                found = other
            else:
                keep[at] = True
        return found

    def uniform(self, width: float, depth: float = 1.0) -> Architecture:
        """Return the teacher with every group scaled by `width` and the first `depth` of each stage's units.

        A stage are the units whose output has one shape; of n units the first ceil(depth n) stay.
        """
        stages: dict[tuple[int, ...], list[int]] = {}
        for at, unit in enumerate(self.units):
            stages.setdefault(self.teacher.shapes[unit.layers[-1]], []).append(at)
        kept = {at for stage in stages.values() for at in stage[: math.ceil(depth * len(stage))]}
        return self.apply([at in kept for at in range(len(self.units))], [width] * len(self.groups))

    # -- what searches draw

    def draw(self, rng: random.Random) -> Architecture:
        """Return a feasible network: a share of units dropped that is itself drawn, a factor a group."""
        share = rng.random()
        keep = [rng.random() >= share for _ in self.units]
        return self.projected(keep, [rng.choice(self.factors) for _ in self.groups])

    def genes(self, arch: Architecture) -> Genes:
        """Return the decisions that lead to `arch`, a network of this space."""
        return read(arch, self.teacher, self.units, self.groups)

    def neighbour(self, arch: Architecture, rng: random.Random) -> Architecture:
        """Return a feasible network one decision from `arch`: a unit dropped or brought back, or a group's factor."""
        genes = self.genes(arch)
        child = arch
        for _ in range(TRIES if genes.keep or genes.factors else 0):
            keep, factors = list(genes.keep), list(genes.factors)
            at = rng.randrange(len(keep) + len(factors))
            if at < len(keep):
                keep[at] = not keep[at]
            else:
                factors[at - len(keep)] = rng.choice(self.factors)
            child = self.projected(keep, factors)
            if child.key != arch.key:
                break
        return child

    def cross(self, first: Architecture, second: Architecture, rng: random.Random) -> Architecture:
        """Return a feasible network that takes each decision from one of two."""
        one, two = self.genes(first), self.genes(second)
        keep = [rng.choice(pair) for pair in zip(one.keep, two.keep, strict=True)]
        return self.projected(keep, [rng.choice(pair) for pair in zip(one.factors, two.factors, strict=True)])

    # -- helpers

    @cached_property
    def _group_of(self) -> Mapping[str, int]:
        """The group, as an index into `groups`, that each layer's width belongs to."""
        return {
            self.teacher.layers[member].name: at for at, group in enumerate(self.groups) for member in group.members
        }

    def _narrowed(self, arch: Architecture, factor: float) -> Architecture:
        groups = channel_groups(arch)
        return cleaned(shrunk(arch, [_width(group.width, factor, self.narrowest) for group in groups]))


def _width(full: int, factor: float, narrowest: int) -> int:
    return max(round(full * factor), min(narrowest, full))


def _wide(arch: Architecture, group: ChannelGroup, scale: Mapping[str, float], narrowest: int) -> int:
    """Return the width of a group of `arch`: the widest that its layers' factors give."""
    there = [scale[arch.layers[at].name] for at in group.members if arch.layers[at].name in scale]
    return _width(group.width, max(there), narrowest) if there else group.width
