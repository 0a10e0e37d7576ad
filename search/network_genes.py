"""How a network came of its teacher, read back from the network alone: by the names of its layers with weights."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..architecture_edits import cleaned
from ..architecture_groups import ChannelGroup
from ..architectures import WEIGHTED, Architecture, Layer
from .network_units import Unit


@dataclass(frozen=True, slots=True)
class Genes:
    """Decisions that lead to a network: a bit a unit, a factor a channel group, in the space's order."""

    keep: tuple[bool, ...]
    factors: tuple[float, ...]


def named(arch: Architecture) -> Architecture:
    """Return the canonical form, with each nameless layer with weights called `#` and the index it had.

    That is what weights of nameless layers are called too.
    """
    layers = tuple(
        layer.model_copy(update={"name": f"#{at}"}) if layer.op in WEIGHTED and not layer.name else layer
        for at, layer in enumerate(arch.layers)
    )
    return cleaned(Architecture(input=arch.input, layers=layers))


def read(arch: Architecture, teacher: Architecture, units: Sequence[Unit], groups: Sequence[ChannelGroup]) -> Genes:
    """Return the decisions that lead from `teacher` to `arch`.

    A layer without weights, which has no name, counts as there if one like it follows the same layer with weights:
    exact where units are blocks, nearly so where each layer is one. A group that is gone has the mean factor of those
    that are there.
    """
    there = _there(arch, teacher)
    weighted = {at for at, layer in enumerate(teacher.layers) if layer.op in WEIGHTED}
    keep = tuple(any(there[at] for at in (weighted & set(unit.layers)) or unit.layers) for unit in units)
    out = {layer.name: shape[0] for layer, shape in zip(arch.layers, arch.shapes, strict=True) if layer.name}
    factors: list[float | None] = []
    for group in groups:
        widths = [out[name] for at in group.members if (name := teacher.layers[at].name) in out]
        factors.append(max(widths) / group.width if widths else None)
    known = [factor for factor in factors if factor is not None]
    mean = sum(known) / len(known) if known else 1.0
    return Genes(keep, tuple(mean if factor is None else factor for factor in factors))


def _there(arch: Architecture, teacher: Architecture) -> list[bool]:
    """Return for each layer of the teacher whether `arch` has it."""
    names = {layer.name for layer in arch.layers if layer.name}
    left = Counter(_place(arch, at, names) for at, layer in enumerate(arch.layers) if layer.op not in WEIGHTED)
    found = []
    for at, layer in enumerate(teacher.layers):
        if layer.op in WEIGHTED:
            found.append(layer.name in names)
            continue
        place = _place(teacher, at, names)
        found.append(left[place] > 0)
        left[place] -= 1
    return found


def _place(arch: Architecture, at: int, names: set[str]) -> tuple[str, str]:
    """Return what a layer without weights computes, and the name of the nearest layer above it out of `names`."""
    layer = arch.layers[at]
    kind = Layer(op=layer.op, act=layer.act, kernel=layer.kernel, stride=layer.stride, inputs=layer.inputs and (0, 0))
    above = arch.sources[at][0]
    while above >= 0 and arch.layers[above].name not in names:
        above = arch.sources[above][0]
    return str(kind), arch.layers[above].name if above >= 0 else ""
