"""Weights of a teacher handed down to a smaller network: the same layers by name, some of their channels.

Which channels a layer keeps is one choice for all layers that share them (`architecture_groups.py`), so that what is
added, concatenated, gated, flattened or convolved one by one still belongs together.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ..architecture_groups import ChannelGroup, Run, channel_groups, channel_origins
from ..architectures import WEIGHTED, Architecture
from ..errors import SpecError
from .network import Network, State, build, label, tensors, tensors_at

Init = Literal["random", "slice", "sorted"]
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]
Ints = np.ndarray[Any, np.dtype[np.int64]]

FRESH = -1
"""In place of a teacher's channel: there is none, and the weights stay as they were drawn."""


def inherit(arch: Architecture, teacher: Network, how: str, seed: int) -> Network:
    """Return a network that begins with weights of `teacher` where layers have the same name and operation.

    Args:
        arch: Of any width up to the teacher's, with any layers left out; its kernels are cut out of the middle of the
            teacher's. What has no counterpart (a linear layer after a flatten of another size) begins as `build` does.
        teacher: Its running statistics are inherited too; `renormalise` estimates them again.
        how: "random" inherits nothing; "slice" the first channels of a group; "sorted" those of the largest L1 norm
            over all filters that make them (Li et al., arXiv 1608.08710), in the teacher's order.
        seed: Of what is not inherited.

    Raises:
        SpecError: there is no such `how`.
        ShapeError: a layer cannot run on what arrives.
    """
    if how not in get_args(Init):
        raise SpecError("init", how, "random, slice or sorted")
    network = build(arch, seed)
    if how == "random":
        return network
    heritage = _Heritage(arch, teacher, how)
    with torch.no_grad():
        for at, layer in enumerate(arch.layers):
            old = heritage.twin(at)
            if old is None or layer.op not in WEIGHTED:
                continue
            for name, tensor in tensors_at(network, at).items():
                if f"{layer.name}.{name}" in heritage.state:
                    tensor.copy_(torch.from_numpy(heritage.handed(at, old, name, tensor.numpy().copy())))
    return network


def places(arch: Architecture, teacher: Network) -> dict[str, Ints]:
    """Return for each tensor of `arch` where "slice" takes its numbers from: indices into the teacher's, flat.

    Names are those of weights, shapes those of `arch`; FRESH stands where the teacher has no counterpart. `arch` has no
    kernel larger than the teacher's.
    """
    heritage, found = _Heritage(arch, teacher, "slice"), {}
    heritage.state = {name: np.arange(array.size).reshape(array.shape) for name, array in heritage.state.items()}
    for name, tensor in tensors(Network(arch)).items():
        layer, _, own = name.rpartition(".")
        at = next(at for at in range(len(arch.layers)) if label(arch, at) == layer)
        fresh, old = np.full(tuple(tensor.shape), FRESH), heritage.twin(at)
        known = old is not None and name in heritage.state
        found[name] = heritage.handed(at, old, own, fresh) if known and old is not None else fresh
    return found


def renormalise(network: Network, batches: Iterable[Tensor]) -> None:
    """Estimate the running statistics of every norm again: the mean over `batches` of each batch's own.

    Nothing else changes, and dropout is off.

    Raises:
        SpecError: there are no batches.
    """
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        raise SpecError("batches", "none", "one batch or more to estimate statistics from")
    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    mode, momenta = network.training, [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    with torch.no_grad():
        for batch in chain([first], rest):
            network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(mode)


class _Heritage:
    """Which channel of the teacher each channel of the heir is."""

    def __init__(self, arch: Architecture, teacher: Network, how: str) -> None:
        self.arch, self.old = arch, teacher.arch
        self.state = {name: tensor.detach().cpu().numpy() for name, tensor in tensors(teacher).items()}  # only read
        self._groups, self._old_groups = channel_groups(arch), channel_groups(teacher.arch)
        self._origins, self._old_origins = channel_origins(arch), channel_origins(teacher.arch)
        self._names = {layer.name: at for at, layer in enumerate(teacher.arch.layers) if layer.name}
        self._scores = channel_norms(teacher.arch, self.state) if how == "sorted" else self._by_index()
        homes = {at: number for number, group in enumerate(self._old_groups) for at in group.members}
        self._kin = [
            {homes[old] for at in group.members if (old := self.twin(at)) in homes} | ({0} if number == 0 else set())
            for number, group in enumerate(self._groups)
        ]
        numbered, old_numbered = (_numbered(groups) for groups in (self._groups, self._old_groups))
        if len(numbered) == len(old_numbered):  # they always stay, in their order
            for number, old in zip(numbered, old_numbered, strict=True):
                self._kin[number].add(old)
        self._kept = [self._choice(number) for number in range(len(self._groups))]

    def twin(self, at: int) -> int | None:
        """Return the teacher's layer that has the name and operation of layer `at`."""
        layer = self.arch.layers[at]
        old = self._names.get(layer.name) if layer.name else None
        return old if old is not None and self.old.layers[old].op == layer.op else None

    def handed(self, at: int, old: int, name: str, fresh: Any) -> Any:
        """Return the tensor `name` of layer `at`: the teacher's where it has a counterpart, else as in `fresh`."""
        tensor = self.state[f"{self.arch.layers[at].name}.{name}"]
        rows = self._positions(self._origins[at].made, self._old_origins[old].made)
        if fresh.ndim == 1:
            kept = rows >= 0
            fresh[kept] = tensor[rows[kept]]
            return fresh
        tensor = _centred(tensor, fresh.shape[2:])
        if fresh.shape[1] == tensor.shape[1] == 1:  # a filter sees one channel, which follows from whose filter it is
            return _block(fresh, tensor, rows, np.zeros(1, dtype=np.int64))
        columns = self._positions(self._origins[at].given, self._old_origins[old].given)
        groups = len(columns) // fresh.shape[1]
        if groups != self.old.arriving(old)[0] // tensor.shape[1]:
            return fresh
        for part in range(groups):  # a group's filters see its own channels only
            own, theirs = (slice(part * (n // groups), (part + 1) * (n // groups)) for n in (len(rows), len(columns)))
            fresh[own] = _block(
                fresh[own], _part(tensor, part, groups), _within(rows[own], part, len(tensor) // groups),
                _within(columns[theirs], part, tensor.shape[1]),
            )  # fmt: skip
        return fresh

    def _by_index(self) -> list[Floats]:
        return [-np.arange(group.width, dtype=np.float64) for group in self._old_groups]

    def _choice(self, number: int) -> Ints:
        """Return the channels of the teacher that a group keeps: where it unites several of its groups, of each."""
        group, kin = self._groups[number], self._kin[number]
        if not kin:
            return np.arange(group.width)
        width = min(self._old_groups[old].width for old in kin)
        total = np.sum([self._scores[old][:width] for old in sorted(kin)], axis=0)
        step = math.lcm(group.step, *(self._old_groups[old].step for old in kin))
        return _best(total, group.width, step)

    def _positions(self, ours: Sequence[Run], theirs: Sequence[Run]) -> Ints:
        """Return for each of our channels (or features) which one of the teacher's it is, or FRESH."""
        found, unused = [], list(theirs)
        for number, run in enumerate(ours):
            width, channels = self._groups[run.group].width, self._kept[run.group]
            match = next((old for old in unused if old.group in self._kin[run.group]), None)
            if match is None and len(ours) == len(theirs) and theirs[number] in unused:
                # What made these channels is gone, and others arrive in its place: the best of those it read. Or it is
                # grouped, and only one of the two networks is so narrow that each channel is a group: as many of each.
                match = theirs[number]
                count = width * run.repeat // match.repeat
                step = width if count > width else self._old_groups[match.group].step
                channels = _best(self._scores[match.group], count, step)
            if match is None or match.repeat * len(channels) != run.repeat * width:
                found.append(np.full(width * run.repeat, FRESH))
                continue
            unused.remove(match)
            known = channels < self._old_groups[match.group].width
            each = match.start + channels[:, None] * match.repeat + np.arange(match.repeat)
            found.append(np.where(known[:, None], each, FRESH).reshape(-1))
        return np.concatenate(found)


def channel_norms(arch: Architecture, state: State) -> list[Floats]:
    """Return for each group the L1 norm of each channel: of all filters that make it, summed."""
    scores: list[Floats] = [np.zeros(group.width) for group in channel_groups(arch)]
    for at, origins in enumerate(channel_origins(arch)):
        weight = state.get(f"{label(arch, at)}.weight")
        if arch.layers[at].op not in ("conv", "linear") or weight is None:
            continue
        norms = np.abs(weight).reshape(len(weight), -1).sum(1, dtype=np.float64)
        for run in origins.made:
            width = len(scores[run.group])
            scores[run.group] += norms[run.start : run.start + width * run.repeat].reshape(width, run.repeat).sum(1)
    return scores


def _numbered(groups: Sequence[ChannelGroup]) -> list[int]:
    """Return the groups that no layer's width makes: channels taken by number."""
    return [number for number, group in enumerate(groups) if number and not group.members]


def _best(scores: Floats, width: int, step: int) -> Ints:
    """Return the `width` channels of the highest scores, in order; as many of each of `step` equal parts."""
    if width >= len(scores):
        return np.arange(width)
    parts = step if len(scores) % step == width % step == 0 else 1
    split = scores.reshape(parts, -1)
    best = np.sort(np.argsort(-split, axis=1, kind="stable")[:, : width // parts], axis=1)
    return (best + np.arange(parts)[:, None] * split.shape[1]).reshape(-1)


def _centred(weight: Any, kernel: Sequence[int]) -> Any:
    """Return the filters with another kernel: the middle of theirs, or theirs in the middle of zeros."""
    for axis, wanted in enumerate(kernel, start=2):
        spare = weight.shape[axis] - wanted
        if spare > 0:
            weight = np.take(weight, np.arange(spare // 2, spare // 2 + wanted), axis)
        elif spare < 0:
            around = [(0, 0)] * weight.ndim
            around[axis] = (-spare // 2, -spare - -spare // 2)
            weight = np.pad(weight, around)
    return weight


def _part(weight: Any, part: int, groups: int) -> Any:
    size = len(weight) // groups
    return weight[part * size : (part + 1) * size]


def _within(positions: Ints, part: int, size: int) -> Ints:
    """Return positions counted from the start of a part; FRESH for those of other parts."""
    own = positions - part * size
    return np.where((positions >= 0) & (own >= 0) & (own < size), own, FRESH)


def _block(fresh: Any, weight: Any, rows: Ints, columns: Ints) -> Any:
    kept = np.ix_(rows >= 0, columns >= 0)
    fresh[kept] = weight[np.ix_(rows[rows >= 0], columns[columns >= 0])]
    return fresh
