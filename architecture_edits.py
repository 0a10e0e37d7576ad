"""Edits of architectures: clean-up, removal of layers, kernels. Pure; channel widths are in `architecture_groups.py`.

A layer that goes is bypassed: what read it reads what it read. Names and blocks of layers with weights stay, since
weights are inherited by name; input channels are never written down, so that they follow from what arrives.
"""

from collections.abc import Mapping, Sequence

from .architectures import ARRANGED, JOINS, WEIGHTED, Architecture, Layer, Shape, ShapeError, shape_after
from .errors import SpecError

_USED = {
    "conv": ("out", "kernel", "stride", "padding", "groups", "bias"), "linear": ("out", "bias"),
    "act": ("act", "alpha"), "max_pool": ("kernel", "stride", "padding", "ceil"),
    "avg_pool": ("kernel", "stride", "padding", "ceil", "count_padding"), "dropout": ("rate",),
    "norm": ("eps", "affine"), "shift": ("values",), "scale": ("values",), "part": ("start", "out", "whole"),
    "shuffle": ("groups", "whole"), "pad": ("sides", "whole"),
}  # fmt: skip
"""Fields that an operation reads, beside its inputs, name and block."""

_POSITIVE, _SIX = 1, 2
"""What is known of a layer's values: 0 nothing, never negative, or within 0 and 6."""

_Entries = dict[int, tuple[Layer, tuple[int, ...]]]
"""Layers that stay, by their old index, each with the old indices that it now reads."""


def cleaned(arch: Architecture) -> Architecture:
    """Return the canonical form: the same network without dead layers, each field written in one way.

    Dead are an activation on values that it leaves as they are (ReLU after ReLU, also through pools, sums and
    concatenations), a norm directly after a norm (a norm of its values is a norm of its input), a dropout of rate 0, a
    max pool of one value, and whatever the output does not read. The sum of a layer with itself is that layer: an
    emptied residual block is the identity, where the code of N2N (arXiv 1709.06030) computes relu(2x). Layers without
    weights lose their names, and an activation takes the block of what it reads, so that the same network comes out
    whichever of two equal activations or pools was dropped. Idempotent; shapes stay.

    Raises:
        ShapeError: the network does not run.
    """
    stands, ranges, entries = {-1: -1}, {-1: 0}, _Entries()
    for at, layer in enumerate(arch.layers):
        sources = tuple(stands[source] for source in arch.sources[at])
        if layer.op == "add":
            sources = tuple(dict.fromkeys(sources))
        known = [ranges[source] for source in sources]
        if _dead(layer, sources, known, entries):
            stands[at] = sources[0]
            continue
        stands[at], ranges[at] = at, _range(layer, known)
        entries[at] = _canonical(arch, at, entries.get(sources[0])), sources
    last = len(arch.layers) - 1
    if stands[last] < 0:  # nothing is left but the input: a network has one layer or more
        return arch
    return _assembled(arch, entries, stands[last])


def _dead(layer: Layer, sources: tuple[int, ...], known: Sequence[int], entries: _Entries) -> bool:
    if layer.op == "act":
        if layer.act == "relu6":
            return known[0] == _SIX
        return layer.act in ("relu", "leaky_relu", "elu") and known[0] >= _POSITIVE
    if layer.op == "norm":
        return sources[0] in entries and entries[sources[0]][0].op == "norm"
    if layer.op == "dropout":
        return layer.rate == 0
    if layer.op == "max_pool":
        return {*layer.kernel, *layer.stride} == {1} and not any(layer.padding)
    return layer.op in JOINS and len(sources) == 1


def _range(layer: Layer, known: Sequence[int]) -> int:
    """Return what is known of the layer's values, given what is known of each of its inputs."""
    if layer.op == "act":
        return {"relu": _POSITIVE, "relu6": _SIX, "sigmoid": _SIX, "hardsigmoid": _SIX}.get(layer.act, 0)
    if layer.op in ("max_pool", "avg_pool", "global_pool", "flatten", "cat", "part", "shuffle", "pad"):
        return min(known)
    if layer.op in ("add", "mul", "dropout"):  # dropout scales what it keeps
        return min(*known, _POSITIVE)
    return _SIX if layer.op == "softmax" else 0


def _canonical(arch: Architecture, at: int, source: tuple[Layer, tuple[int, ...]] | None) -> Layer:
    """Return layer `at` with only the fields that it uses, each in its shortest form; `source` is what it reads."""
    layer = arch.layers[at]
    used = {name: getattr(layer, name) for name in _USED.get(layer.op, ())}
    for name in ("kernel", "stride", "padding"):
        if len(set(used.get(name, ()))) == 1:
            used[name] = used[name][:1]
    if layer.op == "conv":
        arriving = arch.arriving(at)[0]
        if layer.groups == arriving == layer.out != 1:
            used |= {"groups": 0, "out": None}
        used |= {name: () for name in ("kernel", "stride") if used[name] == (1,)}
    elif used.get("stride") == used.get("kernel"):
        used.pop("stride", None)
    if used.get("padding") == (0,):
        used["padding"] = ()
    home = layer if layer.op != "act" else source[0] if source else Layer(op="act")
    name = layer.name if layer.op in WEIGHTED else ""
    return Layer(op=layer.op, name=name, inputs=layer.inputs, block=home.block, shortcut=home.shortcut, **used)


def _assembled(arch: Architecture, entries: _Entries, last: int) -> Architecture:
    """Return the network of the entries that `last` reads, numbered anew."""
    order = sorted(_reached(entries, last))
    numbers = {-1: -1, **{old: new for new, old in enumerate(order)}}
    layers = []
    for new, old in enumerate(order):
        layer, sources = entries[old]
        inputs = tuple(numbers[source] for source in sources)
        layers.append(layer.model_copy(update={"inputs": () if inputs == (new - 1,) else inputs}))
    return Architecture(input=arch.input, layers=tuple(layers))


def _reached(entries: _Entries, last: int) -> set[int]:
    """Return `last` and the layers that it reads, directly or through others."""
    reached, stack = set[int](), [last]
    while stack:
        at = stack.pop()
        if at >= 0 and at not in reached:
            reached.add(at)
            stack += entries[at][1]
    return reached


def pinned(arch: Architecture) -> tuple[bool, ...]:
    """Return for each layer whether removal always keeps it.

    The first and the last layer, the first convolution or linear layer, those that make the class outputs, whatever
    their kind, every linear layer, average and global pool, flatten and join, constants and what arranges channels or
    pads, every strided convolution, and whatever lies on a shortcut.

    Source: the code of N2N (arXiv 1709.06030); it never visits shortcuts, we pin them, so that action i is layer i.
    """
    first = next((at for at, layer in enumerate(arch.layers) if layer.op in ("conv", "linear")), 0)
    always = {"linear", "avg_pool", "global_pool", "flatten", *JOINS, *ARRANGED}
    held = {0, first, len(arch.layers) - 1} | _classifiers(arch)
    return tuple(
        at in held
        or layer.op in always
        or layer.shortcut
        or (layer.op == "conv" and any(step > 1 for step in layer.stride))
        for at, layer in enumerate(arch.layers)
    )


def _classifiers(arch: Architecture) -> set[int]:
    """Return the convolutions and linear layers whose channels become the class outputs."""
    made, stack, seen = set[int](), [len(arch.layers) - 1], set[int]()
    while stack:
        at = stack.pop()
        if at < 0 or at in seen:
            continue
        seen.add(at)
        layer = arch.layers[at]
        if layer.op in ("conv", "linear"):
            made.add(at)
            if layer.out is not None:  # a depthwise one takes its channels from what it reads
                continue
        stack += arch.sources[at]
    return made


def removed(arch: Architecture, keep: Sequence[bool]) -> Architecture:
    """Return the network without the layers whose `keep` is false, cleaned.

    Pinned layers stay, whatever `keep` says. A branch that nothing is left of adds nothing: its sum or concatenation is
    that of the other branches, so that an emptied identity block is the identity and an emptied projection block its
    shortcut; an emptied gate leaves its map as it is.

    Args:
        arch: The teacher.
        keep: One a layer.

    Raises:
        SpecError: `keep` is not as long as the network.
        ShapeError: what is left does not fit together, such as a sum of 64 and 256 channels; see `fitted`.
    """
    entries, last = _bypassed(arch, keep)
    return cleaned(_assembled(arch, entries, last))


def fitted(arch: Architecture, keep: Sequence[bool]) -> tuple[bool, ...]:
    """Return `keep` with pinned layers kept, and with as many more as it takes for `removed` to fit.

    At the first layer that does not fit, the last dropped layer above it that changes its input's shape is kept after
    all; this repeats until all fits. A `keep` that fits comes back with no more than the pinned layers added.
    """
    _check(arch, keep)
    kept = [wish or pin for wish, pin in zip(keep, pinned(arch), strict=True)]
    teacher = dict(enumerate(zip(arch.layers, arch.sources, strict=True)))
    while (misfit := _misfit(arch, kept)) is not None:
        gone = [at for at in _reached(teacher, misfit) if not kept[at]]
        changing = [at for at in gone if arch.shapes[at] != arch.arriving(at)]
        kept[max(changing or gone)] = True  # what changes no shape matters where its whole branch is gone from a cat
    return tuple(kept)


def _check(arch: Architecture, keep: Sequence[bool]) -> None:
    if len(keep) != len(arch.layers):
        raise SpecError("keep", f"{len(keep)} choices", f"{len(arch.layers)}, one a layer")


def _misfit(arch: Architecture, keep: Sequence[bool]) -> int | None:
    """Return the first layer that does not run once the others are gone; None where all do."""
    entries, last = _bypassed(arch, keep)
    shapes: dict[int, Shape] = {-1: arch.input}
    for at in sorted(_reached(entries, last)):
        layer, sources = entries[at]
        try:
            shapes[at] = shape_after(layer, [shapes[source] for source in sources])
        except ShapeError:
            return at
    end = len(arch.layers) - 1  # pinned; other outputs than the teacher's are as wrong as a sum that does not fit
    return end if shapes[last] != arch.shapes[end] else None


def _bypassed(arch: Architecture, keep: Sequence[bool]) -> tuple[_Entries, int]:
    """Return the layers that stay with what they now read, and the one whose output is the network's."""
    _check(arch, keep)
    forks, stands, entries = _forks(arch), {-1: -1}, _Entries()
    for at, (layer, wish, pin) in enumerate(zip(arch.layers, keep, pinned(arch), strict=True)):
        sources = _alive(arch, at, forks[at], stands)
        if not (wish or pin) or (layer.op in JOINS and len(sources) == 1):
            stands[at] = sources[0]
        else:
            stands[at], entries[at] = at, (layer, sources)
    return entries, stands[len(arch.layers) - 1]


def _alive(arch: Architecture, at: int, fork: int, stands: Mapping[int, int]) -> tuple[int, ...]:
    """Return what layer `at` now reads, without branches from `fork` of which nothing is left."""
    before, op = arch.sources[at], arch.layers[at].op
    if op in ("add", "cat"):
        left = [source for source in before if source == fork or stands[source] != stands[fork]]
        if op == "cat":  # a branch whose last channels nothing makes any more would put what it read in their place
            left = [source for source in left if _channels(arch, source) == _channels(arch, stands[source])]
        return tuple(stands[source] for source in left or [fork])
    if op == "mul":  # a product without its gate is the map; one that was a square stays one
        firsts: dict[int, int] = {}
        left = [source for source in before if firsts.setdefault(stands[source], source) == source]
        return tuple(stands[source] for source in left)
    return tuple(stands[source] for source in before)


def _channels(arch: Architecture, at: int) -> int:
    return (arch.shapes[at] if at >= 0 else arch.input)[0]


def _forks(arch: Architecture) -> list[int]:
    """Return for each layer the last layer that all of its paths from the input run through: its dominator."""
    above, depth = {-1: -1}, {-1: 0}
    for at, sources in enumerate(arch.sources):
        meet = sources[0]
        for source in sources[1:]:
            while meet != source:
                if depth[meet] >= depth[source]:
                    meet = above[meet]
                else:
                    source = above[source]
        above[at], depth[at] = meet, depth[meet] + 1
    return [above[at] for at in range(len(arch.layers))]


def with_kernels(arch: Architecture, kernels: Mapping[int, Shape]) -> Architecture:
    """Return the network with other kernels; strides stay.

    Where padding kept the size (half of an odd kernel) it goes on doing so: an even kernel is made smaller by one.
    Elsewhere the padding stays, up to half of the new kernel.

    Args:
        arch: The network.
        kernels: Layer index -> kernel, one number a spatial dimension or one for all.

    Raises:
        SpecError: the layer has no kernel, or the numbers are none.
        ShapeError: the network does not run with them.
    """
    layers = list(arch.layers)
    for at, kernel in kernels.items():
        if not 0 <= at < len(layers) or layers[at].op not in ("conv", "max_pool", "avg_pool"):
            raise SpecError("kernels", at, "the index of a convolution or a pool")
        if not kernel or min(kernel) < 1:
            raise SpecError(f"kernels of {layers[at].label}", kernel, "numbers of 1 or more")
        layers[at] = _with_kernel(layers[at], tuple(kernel), len(arch.arriving(at)) - 1)
    edited = Architecture(input=arch.input, layers=tuple(layers))
    assert edited.shapes
    return edited


def _with_kernel(layer: Layer, wanted: Shape, dims: int) -> Layer:
    olds, strides, pads = layer.spread(dims)
    wishes, _, _ = layer.model_copy(update={"kernel": wanted}).spread(dims)
    kernel, padding = [], []
    for old, pad, wish in zip(olds, pads, wishes, strict=True):
        same = old == 2 * pad + 1
        size = wish - 1 if same and wish % 2 == 0 else wish
        kernel.append(size)
        padding.append(size // 2 if same else min(pad, size // 2))
    return layer.model_copy(update={"kernel": tuple(kernel), "stride": strides, "padding": tuple(padding)})
