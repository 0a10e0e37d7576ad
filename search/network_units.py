"""Which parts of a network a search drops as one: residual branches, convolutions with their norm and activation.

Knows architectures and their edits; draws nothing, measures nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..architecture_edits import fitted, pinned, removed
from ..architectures import Architecture

FOLLOWERS = ("norm", "act", "dropout")
"""Layers that go with the convolution before them."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Layers that are kept or dropped as one.

    Attributes:
        name: Its block, or the name of its first layer.
        layers: Their indices in the teacher, none of them pinned.
    """

    name: str
    layers: tuple[int, ...]


def units_of(arch: Architecture, *, blocks: bool) -> tuple[Unit, ...]:
    """Return what may be dropped, in the order of the layers.

    With `blocks` a residual branch is one unit, and so is a convolution outside of blocks with the norm, activation
    and dropout after it. A branch that holds a pinned layer keeps that layer and what follows it; where the rest does
    not fit together without it, the branch is no unit. Without `blocks` every layer that may go is one.
    """
    held = pinned(arch)
    single = (Unit(arch.layers[at].name or f"#{at}", (at,)) for at, pin in enumerate(held) if not pin)
    found = _parts(arch, held) if blocks else single
    return tuple(unit for unit in found if fitting(arch, (unit,), (False,)) == (False,))


def fitting(arch: Architecture, units: Sequence[Unit], keep: Sequence[bool]) -> tuple[bool, ...]:
    """Return `keep` with as many more units as it takes for the rest to fit together."""
    bits = list(keep)
    while True:
        kept = fitted(arch, _layers_kept(arch, units, bits))
        back = [at for at, unit in enumerate(units) if not bits[at] and any(kept[layer] for layer in unit.layers)]
        if not back:
            return tuple(bits)
        bits[back[-1]] = True


def without(arch: Architecture, units: Sequence[Unit], keep: Sequence[bool]) -> Architecture:
    """Return the network without the units that `keep` denies, save those that the rest does not fit without."""
    return removed(arch, _layers_kept(arch, units, fitting(arch, units, keep)))


def _layers_kept(arch: Architecture, units: Sequence[Unit], keep: Sequence[bool]) -> list[bool]:
    dropped = {at for unit, kept in zip(units, keep, strict=True) if not kept for at in unit.layers}
    return [at not in dropped for at in range(len(arch.layers))]


def _parts(arch: Architecture, held: Sequence[bool]) -> Iterator[Unit]:
    seen: set[str] = set()
    taken: set[int] = set()
    for at, layer in enumerate(arch.layers):
        if layer.block and layer.block not in seen:
            seen.add(layer.block)
            layers = _branch(arch, held, layer.block)
            if any(arch.layers[member].op == "conv" for member in layers):
                yield Unit(layer.block, layers)
        elif not layer.block and layer.op == "conv" and not held[at] and at not in taken:
            layers = (at, *_followers(arch, held, at))
            taken.update(layers)
            yield Unit(layer.name, layers)


def _branch(arch: Architecture, held: Sequence[bool], block: str) -> tuple[int, ...]:
    """Return the layers of the block's branch that may go: those not pinned, nor following a pinned one."""
    kept: set[int] = set()
    free = []
    for at, layer in enumerate(arch.layers):
        if layer.block != block or layer.shortcut:
            continue
        if held[at] or (layer.op in FOLLOWERS and set(arch.sources[at]) <= kept):
            kept.add(at)
        else:
            free.append(at)
    return tuple(free)


def _followers(arch: Architecture, held: Sequence[bool], head: int) -> list[int]:
    """Return the norm, activation and dropout right after layer `head`, each reading only the one before it."""
    found: list[int] = []
    last = head
    for at in range(head + 1, len(arch.layers)):
        readers = [other for other, sources in enumerate(arch.sources) if last in sources]
        layer = arch.layers[at]
        if readers != [at] or layer.op not in FOLLOWERS or layer.block or held[at]:
            break
        found.append(at)
        last = at
    return found
