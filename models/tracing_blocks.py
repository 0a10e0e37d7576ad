"""Residual blocks found in a traced architecture: sums whose terms come from one layer, one of them hardly changed."""

from collections.abc import Sequence

from ..architectures import Architecture, Layer

PROJECTION = ("conv", "norm", "avg_pool", "max_pool")
"""What a shortcut may hold: at most one convolution, and what fits its size."""


def with_blocks(arch: Architecture) -> Architecture:
    """Return the same network with its residual blocks named and their shortcuts marked.

    A block is a sum of two, a branch and a shortcut, that share one layer which both come from; nothing outside reads
    what lies between. The shortcut is that layer itself, or a projection of it: at most one convolution, with norm and
    pools. A block within a block's branch is told and the outer one is not: layers have one block.
    """
    layers = list(arch.layers)
    readers = _readers(arch)
    for at, layer in enumerate(arch.layers):
        found = _sides(arch, readers, at) if layer.op == "add" and len(layer.inputs) == 2 else None
        if found is None or any(layers[inner].block for side in found for inner in side):
            continue
        branch, shortcut = found
        after = [reader for reader in readers[at] if layers[reader].op == "act"] if len(readers[at]) == 1 else []
        name = _name(arch, (*branch, at), {known.block for known in layers})
        for inner in (*branch, *shortcut, at, *after):
            update = {"block": name, "shortcut": inner in shortcut}
            layers[inner] = layers[inner].model_copy(update=update)
    return Architecture(input=arch.input, layers=tuple(layers))


def _readers(arch: Architecture) -> dict[int, list[int]]:
    """Return for each layer, and -1, the layers that read it."""
    readers: dict[int, list[int]] = {at: [] for at in range(-1, len(arch.layers))}
    for at, sources in enumerate(arch.sources):
        for source in sources:
            readers[source].append(at)
    return readers


def _sides(arch: Architecture, readers: dict[int, list[int]], at: int) -> tuple[list[int], list[int]] | None:
    """Return the layers of branch and shortcut of the sum `at`; None where it closes no residual block."""
    one, other = arch.sources[at]
    behind = {end: _behind(arch, end) for end in (one, other)}
    shared = behind[one] & behind[other]
    if one == other or not shared:
        return None
    start = max(shared)
    sides = [sorted(layer for layer in behind[end] - _behind(arch, start)) for end in (one, other)]
    sides.sort(key=lambda side: (_convolutions(arch, side), len(side)))
    shortcut, branch = sides
    inside = {*shortcut, *branch}
    closed = all(
        set(arch.sources[inner]) <= inside | {start} and set(readers[inner]) <= inside | {at} for inner in inside
    )
    plain = all(arch.layers[inner].op in PROJECTION for inner in shortcut)
    whole = closed and plain and _convolutions(arch, shortcut) <= 1 and _convolutions(arch, branch) >= 1
    return (branch, shortcut) if whole and len(branch) > len(shortcut) else None


def _behind(arch: Architecture, at: int) -> set[int]:
    """Return the layers that `at` depends on, itself and the input (-1) included."""
    found, todo = {at}, [at]
    while todo:
        at = todo.pop()
        new = set(arch.sources[at]) - found if at >= 0 else set()
        found |= new
        todo += new
    return found


def _convolutions(arch: Architecture, side: Sequence[int]) -> int:
    return sum(arch.layers[at].op in ("conv", "linear") for at in side)


def _name(arch: Architecture, inside: Sequence[int], taken: set[str]) -> str:
    """Return the deepest module that holds all of the block, else the sum's own name."""
    paths = [arch.layers[at].name.split(".")[:-1] for at in inside]
    common: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    name = ".".join(common)
    return name if name and name not in taken else _own(arch.layers[inside[-1]])


def _own(layer: Layer) -> str:
    return layer.name or "block"
