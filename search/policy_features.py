"""What a policy reads of a network, layer by layer: the published seven numbers. Pure."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from ..architectures import ARRANGED, JOINS, Architecture, Layer

CODES = {
    "conv": 1, "max_pool": 2, "act": 3, "norm": 4, "linear": 5, "dropout": 6, "log_softmax": 7, "avg_pool": 8,
    "global_pool": 8, "softmax": 10,
}  # fmt: skip
"""Type codes of the released code; a global pool is its AvgPool2d. 0 is anything else."""

TYPE, KERNEL, STRIDE, PADDING, OUTPUTS, START, END = range(7)
"""Places in a layer's vector (l, k, s, p, n, s_start, s_end)."""

VARIABLES = (KERNEL, STRIDE, PADDING, OUTPUTS)
"""What shrinkage may scale, in the order of its actions."""


def module_layers(arch: Architecture) -> tuple[int, ...]:
    """Return the layers that the published policies act on: those that are modules, off the shortcuts.

    Joins, flattening, constants and what arranges channels are no modules in the released code. Its rebuild skips the
    shortcuts' modules and its action sequence does not, which shifts every action after the first projection; here
    neither has them.
    """
    return tuple(
        at
        for at, layer in enumerate(arch.layers)
        if layer.op not in (*JOINS, *ARRANGED, "flatten") and not layer.shortcut
    )


def paper_features(arch: Architecture, layers: Sequence[int]) -> list[list[float]]:
    """Return (l, k, s, p, n, s_start, s_end) of each of `layers`, raw.

    Kernel, stride and padding are their first numbers; n is 0 where a layer has no filters or features of its own;
    s_start and s_end count the modules of the same residual branch before and after, 0 outside of branches.

    Source: N2N Learning, arXiv 1709.06030, section 3.2; the released code leaves the last two out.
    """
    rows = []
    for at in layers:
        layer = arch.layers[at]
        branch = [other for other in layers if layer.block and arch.layers[other].block == layer.block]
        start, end = (branch.index(at), len(branch) - 1 - branch.index(at)) if branch else (0, 0)
        rows.append([float(CODES.get(layer.op, 0)), *_window(arch, at), float(_outputs(arch, at)), start, end])
    return rows


@dataclass(frozen=True, slots=True)
class Variable:
    """One thing that shrinkage scales.

    Attributes:
        layer: Index in the architecture.
        field: Its place in the layer's vector.
    """

    layer: int
    field: int


def shrink_variables(arch: Architecture, layers: Sequence[int], deciding: Container[int]) -> tuple[Variable, ...]:
    """Return what one shrinkage action each decides: of convolutions k, s, p and n, of max pools k, s and p.

    Linear and average pool layers are left alone, and in residual blocks filters alone are scaled, as in the released
    code. It also leaves strided convolutions outside of blocks alone; here their filters are scaled, as the paper has
    it, or a network of nothing else would have nothing to decide. And it acts on the filters of layers whose width is
    another's, and discards that; here `deciding` holds the layers whose filters are theirs, and others have no action.
    """
    return tuple(
        Variable(at, field)
        for at in layers
        for field in VARIABLES
        if _scales(arch.layers[at], field) and (field != OUTPUTS or at in deciding)
    )


def _scales(layer: Layer, field: int) -> bool:
    if layer.op == "max_pool":
        return not layer.block and field != OUTPUTS
    if layer.op != "conv":
        return False
    return field == OUTPUTS or not (layer.block or max(layer.stride, default=1) > 1)


def with_window(arch: Architecture, windows: Mapping[int, Mapping[int, float]]) -> Architecture:
    """Return the network with windows scaled: `windows` maps a layer to factors of KERNEL, STRIDE and PADDING.

    A kernel and a stride are 1 at least; all are rounded down, as published. Nothing is padded to keep the size.
    """
    layers = list(arch.layers)
    for at, factors in windows.items():
        kernel, stride, padding = layers[at].spread(len(arch.arriving(at)) - 1)
        changed = {
            "kernel": _scaled(kernel, factors.get(KERNEL, 1.0), 1),
            "stride": _scaled(stride, factors.get(STRIDE, 1.0), 1),
            "padding": _scaled(padding, factors.get(PADDING, 1.0), 0),
        }
        if layers[at].op == "max_pool":  # one that pads more than half its kernel does not run
            halves = [size // 2 for size in changed["kernel"]]
            changed["padding"] = tuple(map(min, changed["padding"], halves))
        if (kernel, stride, padding) != tuple(changed.values()):
            layers[at] = layers[at].model_copy(update={name: _short(sizes) for name, sizes in changed.items()})
    return Architecture(input=arch.input, layers=tuple(layers))


def _scaled(sizes: Sequence[int], factor: float, least: int) -> tuple[int, ...]:
    return tuple(max(int(size * factor + 1e-9), least) for size in sizes)


def _short(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return sizes[:1] if len(set(sizes)) == 1 else sizes


def _window(arch: Architecture, at: int) -> tuple[float, float, float]:
    layer = arch.layers[at]
    dims = len(arch.arriving(at)) - 1
    if layer.op not in ("conv", "max_pool", "avg_pool") or not dims:
        return 0.0, 0.0, 0.0
    kernel, stride, padding = layer.spread(dims)
    return float(kernel[0]), float(stride[0]), float(padding[0])


def _outputs(arch: Architecture, at: int) -> int:
    return arch.shapes[at][0] if arch.layers[at].op in ("conv", "linear") else 0
