"""Which channels of an architecture are one choice of width, and architectures with other widths. Pure.

Channels are tied where they are added, multiplied or pass through a layer that treats each by itself; a concatenation
puts them side by side; a flatten makes several features of each (DepGraph, arXiv 2301.12900, found here by rules on
the operations and not by tracing gradients).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from .architectures import Architecture, Layer
from .errors import SpecError


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Channels that are as many everywhere, one width to choose.

    Attributes:
        name: Of the first layer that makes them; `input` for the examples' own channels, `channels taken by number`
            for what a part, a shuffle or a pad of channels makes: those and what they read are fixed.
        members: Indices of the convolutions and linear layers whose `out` is this width.
        width: Channels in the architecture at hand.
        step: Every width is a multiple of it, for grouped convolutions. Where it is more than 1 the channels are `step`
            equal parts, and each part gives as many.
        fixed: Whether they reach the input or the output, or meet others in a way that a new width would break.
    """

    name: str
    members: tuple[int, ...]
    width: int
    step: int
    fixed: bool


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive channels (or features) at a layer that come from one whole group.

    Attributes:
        group: Index of the group.
        start: Where they start at the layer.
        repeat: Consecutive features that each channel of the group has here: 1, or more after a flatten.
    """

    group: int
    start: int
    repeat: int


@dataclass(frozen=True, slots=True)
class Origins:
    """Where a layer's channels come from.

    Attributes:
        given: Runs of its (first) input.
        made: Runs of its output.
    """

    given: tuple[Run, ...]
    made: tuple[Run, ...]


def channel_groups(arch: Architecture) -> tuple[ChannelGroup, ...]:
    """Return the groups, that of the input first, the others by their first layer.

    Raises:
        ShapeError: the network does not run.

    >>> net = Architecture(input=(1, 8, 8), layers=(
    ...     Layer(op="conv", name="a", out=4, kernel=(3,), padding=(1,)),
    ...     Layer(op="conv", name="b", out=4, kernel=(3,), padding=(1,)), Layer(op="add", inputs=(0, 1)),
    ...     Layer(op="flatten"), Layer(op="linear", name="c", out=10)))
    >>> [(group.name, group.members, group.width, group.fixed) for group in channel_groups(net)]
    [('input', (), 1, True), ('a', (0, 1), 4, False), ('c', (4,), 10, True)]
    """
    return _analysed(arch)[0]


def channel_origins(arch: Architecture) -> tuple[Origins, ...]:
    """Return for each layer where its input's and its output's channels come from, as runs of whole groups.

    Feature j of a run is channel j // repeat of its group; a run holds `width * repeat` features.

    Raises:
        ShapeError: the network does not run.
    """
    return _analysed(arch)[1]


def shrunk(arch: Architecture, widths: Sequence[int]) -> Architecture:
    """Return the network with other widths.

    Args:
        arch: The network.
        widths: One a group. Each is brought down to a multiple of the group's step, and to between one step and the
            width at hand; those of fixed groups are ignored.

    Raises:
        SpecError: there are not as many widths as groups.
    """
    groups = channel_groups(arch)
    if len(widths) != len(groups):
        raise SpecError("widths", f"{len(widths)} numbers", f"{len(groups)}, one a channel group")
    layers = list(arch.layers)
    news = [_width(group, width) for group, width in zip(groups, widths, strict=True)]
    for group, width in zip(groups, news, strict=True):
        for at in group.members:
            layers[at] = layers[at].model_copy(update={"out": width})
    for at, (layer, origins) in enumerate(zip(arch.layers, channel_origins(arch), strict=True)):
        if layer.groups and _multiplier(arch, at):  # one group a channel: as many as now arrive
            arriving = sum(news[run.group] * run.repeat for run in origins.given)
            layers[at] = layer.model_copy(update={"groups": arriving, "out": arriving * _multiplier(arch, at)})
    return Architecture(input=arch.input, layers=tuple(layers))


def _width(group: ChannelGroup, wanted: int) -> int:
    if group.fixed:
        return group.width
    return min(max(wanted // group.step, 1) * group.step, group.width)


def _multiplier(arch: Architecture, at: int) -> int:
    """Return how many channels a depthwise convolution makes of each; 0 for any other layer."""
    layer = arch.layers[at]
    if layer.op != "conv" or layer.groups == 1:
        return 0
    arriving = arch.arriving(at)[0]
    return arch.shapes[at][0] // arriving if layer.groups in (0, arriving) else 0


_Part = tuple[int, int]
"""A variable, one for each choice of width before any are tied, and how many features each of its channels has."""


@dataclass
class _Ties:
    """Union-find over variables: variable 0 is the input's channels."""

    widths: list[int] = field(default_factory=list)
    members: list[list[int]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    fixed: list[bool] = field(default_factory=list)
    above: list[int] = field(default_factory=list)

    def new(self, width: int, *members: int) -> int:
        self.widths.append(width)
        self.members.append([*members])
        self.steps.append(1)
        self.fixed.append(False)
        self.above.append(len(self.above))
        return self.above[-1]

    def root(self, variable: int) -> int:
        while self.above[variable] != variable:
            variable = self.above[variable]
        return variable

    def tie(self, one: int, other: int) -> None:
        low, high = sorted((self.root(one), self.root(other)))
        if low != high:
            self.above[high] = low
            self.members[low] += self.members[high]
            self.steps[low] = math.lcm(self.steps[low], self.steps[high])
            self.fixed[low] |= self.fixed[high]

    def fix(self, parts: Sequence[_Part]) -> None:
        for variable, _ in parts:
            self.fixed[self.root(variable)] = True

    def matched(self, given: Sequence[tuple[_Part, ...]]) -> tuple[_Part, ...]:
        """Tie what is added or multiplied; where the parts differ in size, nothing of them may change."""
        first = given[0]
        for parts in given[1:]:
            if [self.size(part) for part in parts] != [self.size(part) for part in first]:
                self.fix(first)
                self.fix(parts)
                continue
            for (one, _), (other, _) in zip(first, parts, strict=True):
                self.tie(one, other)
        return first

    def size(self, part: _Part) -> tuple[int, int]:
        return self.widths[part[0]], part[1]


@lru_cache(maxsize=256)
def _analysed(arch: Architecture) -> tuple[tuple[ChannelGroup, ...], tuple[Origins, ...]]:
    ties = _Ties()
    read: dict[int, tuple[_Part, ...]] = {-1: ((ties.new(arch.input[0]), 1),)}
    for at, sources in enumerate(arch.sources):
        read[at] = _parts(arch, at, [read[source] for source in sources], ties)
    ties.fix(read[-1])
    ties.fix(read[len(arch.layers) - 1])
    roots = sorted({ties.root(variable) for variable in range(len(ties.above))})
    numbers = {root: number for number, root in enumerate(roots)}
    groups = tuple(_group(arch, ties, root) for root in roots)

    def runs(parts: tuple[_Part, ...]) -> tuple[Run, ...]:
        made, start = [], 0
        for variable, repeat in parts:
            made.append(Run(numbers[ties.root(variable)], start, repeat))
            start += ties.widths[variable] * repeat
        return tuple(made)

    origins = tuple(Origins(runs(read[sources[0]]), runs(read[at])) for at, sources in enumerate(arch.sources))
    return groups, origins


def _group(arch: Architecture, ties: _Ties, root: int) -> ChannelGroup:
    members = tuple(sorted(ties.members[root]))
    if members:
        name = arch.layers[members[0]].name or f"layer {members[0]}"
    else:
        name = "channels taken by number"
    name = "input" if root == 0 else name
    return ChannelGroup(name, members, ties.widths[root], ties.steps[root], ties.fixed[root])


def _parts(arch: Architecture, at: int, given: Sequence[tuple[_Part, ...]], ties: _Ties) -> tuple[_Part, ...]:
    """Return what the channels of layer `at` are made of, and tie what it ties."""
    layer, shape = arch.layers[at], arch.shapes[at]
    if layer.op in ("add", "mul"):
        return ties.matched(given)
    if layer.op == "cat":
        return tuple(part for parts in given for part in parts)
    if layer.op in ("part", "shuffle") or (layer.op == "pad" and any(layer.sides[:2])):
        ties.fix(given[0])  # which channels go where is said by number
        made = ties.new(shape[0])
        ties.fix([(made, 1)])
        return ((made, 1),)
    if layer.op in ("shift", "scale") and len(layer.values) > 1:
        ties.fix(given[0])
        return given[0]
    if layer.op == "flatten":
        features = math.prod(arch.arriving(at)[1:])
        return tuple((variable, repeat * features) for variable, repeat in given[0])
    if times := _multiplier(arch, at):
        return tuple((variable, repeat * times) for variable, repeat in given[0])
    if layer.op not in ("conv", "linear"):
        return given[0]
    made = ties.new(shape[0], at)
    if layer.groups > 1:
        _divide(layer, given[0], made, ties)
    return ((made, 1),)


def _divide(layer: Layer, given: tuple[_Part, ...], made: int, ties: _Ties) -> None:
    """Keep both sides of a grouped convolution divisible by its groups."""
    ties.steps[made] = math.lcm(ties.steps[made], layer.groups)
    if len(given) > 1 or given[0][1] > 1:  # a new width would move channels of one part into another's group
        ties.fix(given)
        return
    root = ties.root(given[0][0])
    ties.steps[root] = math.lcm(ties.steps[root], layer.groups)
