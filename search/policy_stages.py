"""What a policy's actions mean on one network: which layers go, which widths change. Trains and scores nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from ..architecture_edits import cleaned, removed
from ..architecture_groups import ChannelGroup, channel_groups, shrunk
from ..architectures import Architecture, ShapeError
from .network_space import NetworkSpace
from .policy_features import OUTPUTS, module_layers, paper_features, shrink_variables, with_window
from .policy_nets import Policy, RemovalPolicy, ShrinkagePolicy, Steps, UnitPolicy

WIDEST_LINEAR = 50_000
"""Inputs of a linear layer past which a network is invalid (released code)."""
NARROWEST_LINEAR = 10
"""Inputs of a linear layer below which a shrunk network is invalid (released code)."""
FEWEST_FILTERS = 10
"""Filters that shrinking leaves, where there are as many (released code)."""

NUMBERS = 15
"""What the joint policy reads of a decision."""
DROPPED = 0.2
"""Share of units that an untrained joint policy drops."""


class Stage(Protocol):
    """What a policy's actions do to one network."""

    @property
    def steps(self) -> Steps:
        """The decisions there are."""
        ...

    def architecture(self, actions: Sequence[int]) -> Architecture | None:
        """Return the network that one rollout's actions lead to; None where it is invalid."""
        ...


def new_policy(stage: str, factors: Sequence[float], seed: int) -> Policy:
    """Return an untrained policy for `stage`: `removal`, `shrinkage` or `units`."""
    if stage == RemovalPolicy.kind:
        return RemovalPolicy(seed)
    if stage == ShrinkagePolicy.kind:
        return ShrinkagePolicy(seed, factors)
    drop = math.log(DROPPED / (1 - DROPPED) * len(factors))
    return UnitPolicy(seed, NUMBERS, 1 + len(factors), prior=[drop, *(0.0 for _ in factors)])


def new_stage(stage: str, space: NetworkSpace, parent: Architecture) -> Stage:
    """Return `stage` on `parent`; the joint one decides on the space's teacher, whatever `parent` is."""
    if stage == RemovalPolicy.kind:
        return RemovalStage(parent)
    if stage == ShrinkagePolicy.kind:
        return ShrinkageStage(parent, space.factors)
    return UnitStage(space)


def valid(arch: Architecture, parent: Architecture, narrowest: int = 0) -> bool:
    """Return whether `arch` may be trained: it runs, is smaller than `parent`, and no linear layer is out of bounds.

    Source: the released code of N2N; spec section 5. A linear layer that has fewer inputs than `narrowest` in the
    parent already may keep them.
    """
    try:
        least, most = _linear_inputs(arch)
        return (
            arch.params < parent.params and most <= WIDEST_LINEAR and least >= min(narrowest, _linear_inputs(parent)[0])
        )
    except ShapeError:
        return False


def _linear_inputs(arch: Architecture) -> tuple[int, int]:
    """Return the fewest and the most inputs of a linear layer; where there is none, bounds that hold."""
    sizes = [arch.arriving(at)[0] for at, layer in enumerate(arch.layers) if layer.op == "linear"]
    return min(sizes, default=NARROWEST_LINEAR), max(sizes, default=0)


class RemovalStage:
    """Stage 1 as published: a bit a module; pinned ones stay whatever their bit says."""

    def __init__(self, parent: Architecture) -> None:
        self._parent = parent
        self._layers = module_layers(parent)
        self.steps = Steps(paper_features(parent, self._layers))

    def architecture(self, actions: Sequence[int]) -> Architecture | None:
        """Return the parent without the layers whose action is 0; None where that is invalid."""
        dropped = {at for at, action in zip(self._layers, actions, strict=True) if not action}
        try:
            arch = removed(self._parent, [at not in dropped for at in range(len(self._parent.layers))])
        except ShapeError:
            return None
        return arch if valid(arch, self._parent) else None


class ShrinkageStage:
    """Stage 2 as published: a factor a variable, each sampled with the one before it in view."""

    def __init__(self, parent: Architecture, factors: Sequence[float]) -> None:
        self._parent, self._factors = parent, tuple(factors)
        layers = module_layers(parent)
        self._groups = channel_groups(parent)
        firsts = (next((at for at in group.members if at in layers), None) for group in self._groups if not group.fixed)
        self._deciding = {at for at in firsts if at is not None}
        self._variables = shrink_variables(parent, layers, self._deciding)
        rows = dict(zip(layers, paper_features(parent, layers), strict=True))
        self.steps = Steps([rows[variable.layer] for variable in self._variables], earlier=self._earlier())

    def architecture(self, actions: Sequence[int]) -> Architecture | None:
        """Return the parent with every variable scaled; None where that is invalid."""
        factors: dict[int, dict[int, float]] = {}
        for variable, action in zip(self._variables, actions, strict=True):
            factors.setdefault(variable.layer, {})[variable.field] = self._factors[action]
        try:
            arch = cleaned(shrunk(with_window(self._parent, factors), self._widths(factors)))
        except ShapeError:
            return None
        return arch if valid(arch, self._parent, NARROWEST_LINEAR) else None

    def _earlier(self) -> list[list[tuple[int, int]]]:
        """Return for each step the earlier steps on the same layer, with the place of what they scale."""
        return [
            [(at, other.field) for at, other in enumerate(self._variables[:step]) if other.layer == variable.layer]
            for step, variable in enumerate(self._variables)
        ]

    def _widths(self, factors: Mapping[int, Mapping[int, float]]) -> list[int]:
        return [self._width(group, factors) for group in self._groups]

    def _width(self, group: ChannelGroup, factors: Mapping[int, Mapping[int, float]]) -> int:
        decider = next((at for at in group.members if at in self._deciding), None)
        factor = factors.get(decider, {}).get(OUTPUTS, 1.0) if decider is not None else 1.0
        return min(group.width, max(int(group.width * factor + 1e-9), FEWEST_FILTERS))


@dataclass(frozen=True)
class Slot:
    """One decision of the joint policy.

    Attributes:
        unit: What it may drop, an index into the space's units; None where it decides a width alone.
        groups: The groups whose width it decides, as indices into the space's groups.
        layers: The teacher's layers that it speaks for.
    """

    unit: int | None
    groups: tuple[int, ...]
    layers: tuple[int, ...]


class UnitStage:
    """Ours: one decision a unit (drop it, or keep it at a width), then the projection on the limit.

    A width that several units share, such as that of a stage of residual blocks, is a decision of its own. What may
    not be dropped, or has no width, has those choices masked.
    """

    def __init__(self, space: NetworkSpace) -> None:
        self._space = space
        self.steps = Steps([self._numbers(slot) for slot in self.slots], [self._legal(slot) for slot in self.slots])

    def architecture(self, actions: Sequence[int]) -> Architecture:
        """Return the network of these decisions, within the limit; never invalid."""
        keep = [True] * len(self._space.units)
        factors = [1.0] * len(self._space.groups)
        for slot, action in zip(self.slots, actions, strict=True):
            if action == 0 and slot.unit is not None:
                keep[slot.unit] = False
                continue
            for group in slot.groups:
                factors[group] = self._space.factors[action - 1]
        return self._space.projected(keep, factors)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The decisions, in the order of the layers."""
        space, taken = self._space, set[int]()
        slots = []
        for at, unit in enumerate(space.units):
            own = [g for g in space.unit_groups(unit) if set(space.groups[g].members) <= set(unit.layers)]
            taken.update(own)
            slots.append(Slot(at, tuple(own), unit.layers))
        rest = (g for g in range(len(space.groups)) if g not in taken)
        slots += [Slot(None, (g,), space.groups[g].members) for g in rest]
        return tuple(sorted(slots, key=lambda slot: (min(slot.layers), slot.unit is None)))

    def _legal(self, slot: Slot) -> list[bool]:
        last = len(self._space.factors) - 1
        widths = [bool(slot.groups) or at == last for at in range(last + 1)]
        return [slot.unit is not None, *widths]

    def _numbers(self, slot: Slot) -> list[float]:
        """Return what the policy reads of a slot, every number about 0 to 1."""
        arch = self._space.teacher
        heads = [at for at in slot.layers if arch.layers[at].op in ("conv", "linear")] or list(slot.layers)
        head = arch.layers[heads[0]]
        given, made = arch.arriving(heads[0]), arch.shapes[heads[0]]
        kernel, stride = (0, 1) if head.op != "conv" else (spread[0] for spread in head.spread(len(given) - 1)[:2])
        kinds = [slot.unit is None, bool(head.block), head.op == "conv", head.op == "linear", head.groups != 1]
        return [
            *map(float, kinds),
            float(slot.unit is not None),
            float(bool(slot.groups)),
            math.log2(made[0]) / 10,
            math.log2(math.prod(given[1:])) / 10,
            kernel / 7,
            stride / 2,
            heads[0] / len(arch.layers),
            len(heads) / 8,
            sum(arch.layer_params[at] for at in slot.layers) / max(arch.params, 1),
            sum(arch.layer_macs[at] for at in slot.layers) / max(arch.macs, 1),
        ]
