"""Feed-forward networks as frozen values: typed layers in order, their shapes, parameters and MACs. Imports no folder.

An architecture is a list of layers; each reads the layer before it, or the layers that `inputs` names, so that skips,
concatenations and gates are edges and not special cases. Nothing here runs: `models/network.py` builds the module.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from .errors import SpecError
from .records import canonical, digest

Op = Literal[
    "conv", "linear", "norm", "act", "max_pool", "avg_pool", "global_pool", "flatten", "dropout",
    "add", "mul", "cat", "softmax", "log_softmax", "shift", "scale", "part", "shuffle", "pad",
]  # fmt: skip
Act = Literal[
    "relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "leaky_relu", "elu",
    "gelu_tanh", "selu", "softplus",
]  # fmt: skip
Shape = tuple[int, ...]
"""Of one example, without the batch: (channels, height, width), (channels, length) or (features,)."""

JOINS = ("add", "mul", "cat")
WEIGHTED = ("conv", "linear", "norm")
ARRANGED = ("shift", "scale", "part", "shuffle", "pad")
"""What holds for given channels in a given order: such layers always stay, and most keep the widths around them."""


class ShapeError(SpecError):
    """A layer cannot run on what arrives at it: too small an image, channels that do not match."""


class Layer(BaseModel):
    """One layer. Fields that its `op` does not use keep their defaults.

    Kernel, stride and padding have one number a spatial dimension, or one for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    op: Op
    """What it computes. `norm` is batch normalisation; `global_pool` averages to one value a channel; `shift` adds
    constants and `scale` multiplies by them; `part` takes channels out of the middle; `shuffle` deals channels out of
    `groups` equal parts in turn (ShuffleNet's); `pad` puts zeros around, or cuts off."""
    name: str = ""
    """Stable name, the module path in the teacher: weights are inherited by it. Unique where given."""
    inputs: tuple[int, ...] = ()
    """Indices of the layers it reads, -1 for the network's input; () for the layer before."""
    out: PositiveInt | None = None
    """Output channels (conv, part) or features (linear)."""
    kernel: tuple[PositiveInt, ...] = ()
    """Kernel of conv and pools; () for conv means 1."""
    stride: tuple[PositiveInt, ...] = ()
    """() means 1 for conv, the kernel for pools."""
    padding: tuple[NonNegativeInt, ...] = ()
    """Zeros at each side; () means none."""
    groups: NonNegativeInt = 1
    """Groups of a convolution or a shuffle; 0 means depthwise: one group a channel, as many channels out as in."""
    bias: bool = True
    """Whether conv or linear adds one."""
    act: Act = "relu"
    """Which function an `act` applies."""
    alpha: float | None = None
    """The constant of leaky_relu or elu, where it is another than torch's default."""
    rate: float = Field(default=0.0, ge=0, lt=1)
    """Of dropout."""
    eps: float = Field(default=1e-5, gt=0)
    """What a norm adds to the variance."""
    affine: bool = True
    """Whether a norm has weight and bias."""
    ceil: bool = False
    """Whether a pool's last window may stick out."""
    count_padding: bool = True
    """Whether an average pool counts the zeros of its padding."""
    values: tuple[float, ...] = ()
    """Constants of a shift or a scale, never trained: one for all channels, or one a channel."""
    start: NonNegativeInt = 0
    """First channel of a part."""
    whole: PositiveInt | None = None
    """Channels that a part is taken of, or that a shuffle, or a pad of channels, arranges: as many must arrive."""
    sides: tuple[int, ...] = ()
    """Zeros of a pad before and after the channels, then each spatial dimension; below 0 for what is cut off."""
    block: str = ""
    """Residual block that the layer belongs to; its `add` closes it."""
    shortcut: bool = False
    """Whether the layer lies on the block's shortcut and not on its branch."""

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        depthwise = self.op == "conv" and self.groups == 0
        if (self.op in ("conv", "linear", "part") and not depthwise) != (self.out is not None):
            raise ValueError(f"`out` exactly for linear, part and conv that is not depthwise, in {self.label}")
        if (self.op in ("shift", "scale")) != bool(self.values) or not all(map(math.isfinite, self.values)):
            raise ValueError(f"finite `values` exactly for shift and scale, in {self.label}")
        if (self.op in ("part", "shuffle") and self.whole is None) or (self.op == "pad" and not self.sides):
            raise ValueError(f"`whole` for part and shuffle, `sides` for pad, in {self.label}")
        if self.op in ("max_pool", "avg_pool") and not self.kernel:
            raise ValueError(f"a kernel, in {self.label}")
        if self.op in JOINS and len(self.inputs) < 2:
            raise ValueError(f"two inputs or more, in {self.label}")
        return self

    @property
    def label(self) -> str:
        """What to call it in messages."""
        return f"{self.op} {self.name}".strip()

    def spread(self, dims: int) -> tuple[Shape, Shape, Shape]:
        """Return kernel, stride and padding with one number a spatial dimension."""
        kernel = _spread(self.kernel or (1,), dims, self)
        stride = _spread(self.stride or (kernel if self.op != "conv" else (1,)), dims, self)
        return kernel, stride, _spread(self.padding or (0,), dims, self)


class Architecture(BaseModel):
    """A network: the shape of one example, and layers in an order in which each reads only earlier ones.

    >>> net = Architecture(input=(1, 8, 8), layers=(
    ...     Layer(op="conv", out=4, kernel=(3,), padding=(1,)), Layer(op="act"), Layer(op="global_pool"),
    ...     Layer(op="flatten"), Layer(op="linear", out=10)))
    >>> net.params, net.macs, net.classes
    (90, 2344, 10)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    input: tuple[PositiveInt, ...] = Field(min_length=1, max_length=3)
    """Shape of one example: channels first, then 0, 1 or 2 spatial dimensions."""
    layers: tuple[Layer, ...] = Field(min_length=1)
    """The last one's output is the network's."""

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        names = [layer.name for layer in self.layers if layer.name]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"names that occur once; {twice!r} occurs twice")
        for at, layer in enumerate(self.layers):
            if any(not -1 <= source < at for source in layer.inputs):
                raise ValueError(f"inputs from -1 to {at - 1} at layer {at} ({layer.label}), not {layer.inputs}")
        return self

    @cached_property
    def key(self) -> str:
        """The canonical text: JSON of all that is not a default."""
        return canonical(self.model_dump(mode="json", exclude_defaults=True))

    @cached_property
    def hash(self) -> str:
        """16 digits of the SHA-256 of the key."""
        return digest(self.key)[:16]

    def __hash__(self) -> int:
        return hash(self.key)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the architecture that a key, or any JSON of one, names.

        Raises:
            SpecError: it is none; the error names the field.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(["architecture", *map(str, first["loc"])])
            raise SpecError(where, str(first["input"])[:80], first["msg"]) from error

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a changed copy, validated; pydantic's own would carry this one's shapes and key along."""
        return type(self)(**{"input": self.input, "layers": self.layers, **(update or {})})

    def anonymous(self) -> Self:
        """Return the same network without names: what it is where no weights are inherited."""
        return type(self)(
            input=self.input, layers=tuple(layer.model_copy(update={"name": ""}) for layer in self.layers)
        )

    @cached_property
    def sources(self) -> tuple[tuple[int, ...], ...]:
        """For each layer the indices of the layers it reads; -1 is the network's input."""
        return tuple(layer.inputs or (at - 1,) for at, layer in enumerate(self.layers))

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The output shape of each layer, for one example.

        Raises:
            ShapeError: a layer cannot run on what arrives; the error names it.
        """
        shapes: list[Shape] = []
        for layer, sources in zip(self.layers, self.sources, strict=True):
            given = [shapes[source] if source >= 0 else self.input for source in sources]
            shapes.append(shape_after(layer, given))
        return tuple(shapes)

    def arriving(self, at: int) -> Shape:
        """Return the shape of the (first) input of layer `at`."""
        source = self.sources[at][0]
        return self.shapes[source] if source >= 0 else self.input

    @property
    def classes(self) -> int:
        """Features of the output."""
        return self.shapes[-1][0]

    @cached_property
    def layer_params(self) -> tuple[int, ...]:
        """Trained parameters of each layer; running statistics of a norm are none."""
        return tuple(self._params(at) for at in range(len(self.layers)))

    @cached_property
    def layer_macs(self) -> tuple[int, ...]:
        """Multiply-accumulates of each layer for one example; convolutions and linear layers count."""
        return tuple(self._macs(at) for at in range(len(self.layers)))

    @property
    def params(self) -> int:
        """Trained parameters."""
        return sum(self.layer_params)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one example."""
        return sum(self.layer_macs)

    def _params(self, at: int) -> int:
        layer, given, made = self.layers[at], self.arriving(at), self.shapes[at]
        if layer.op == "norm":
            return 2 * given[0] if layer.affine else 0
        if layer.op not in ("conv", "linear"):
            return 0
        return self._weights(at) + (made[0] if layer.bias else 0)

    def _weights(self, at: int) -> int:
        layer, given, made = self.layers[at], self.arriving(at), self.shapes[at]
        if layer.op == "linear":
            return given[0] * made[0]
        groups = layer.groups or given[0]
        return made[0] * (given[0] // groups) * math.prod(layer.spread(len(given) - 1)[0])

    def _macs(self, at: int) -> int:
        if self.layers[at].op not in ("conv", "linear"):
            return 0
        return self._weights(at) * math.prod(self.shapes[at][1:])


def shape_after(layer: Layer, given: Sequence[Shape]) -> Shape:
    """Return the shape that a layer makes of what it is given.

    Raises:
        ShapeError: the layer cannot run on it.
    """
    return _SHAPES[layer.op](layer, given)


def _spread(values: Sequence[int], dims: int, layer: Layer) -> Shape:
    if len(values) == 1:
        return tuple(values) * dims
    if len(values) != dims:
        raise ShapeError(layer.label, tuple(values), f"1 or {dims} numbers, one a spatial dimension")
    return tuple(values)


def _windowed(layer: Layer, given: Shape) -> Shape:
    """Return the spatial sizes after a sliding window."""
    if len(given) < 2:
        raise ShapeError(layer.label, given, "channels and one or two spatial dimensions")
    kernel, stride, padding = layer.spread(len(given) - 1)
    numbers = zip(given[1:], kernel, stride, padding, strict=True)
    sizes = [windows(size, width, step, pad, layer.ceil) for size, width, step, pad in numbers]
    if any(size < 1 for size in sizes):
        raise ShapeError(layer.label, given, f"an input of at least its kernel {kernel}: the image is too small")
    return tuple(sizes)


def windows(size: int, width: int, step: int, pad: int, ceil: bool = False) -> int:
    """Return how many windows fit; with `ceil` the last may stick out, where it begins within what is padded."""
    spare = size + 2 * pad - width
    count = (-(-spare // step) if ceil else spare // step) + 1
    return count - 1 if ceil and (count - 1) * step >= size + pad else count


def _conv(layer: Layer, given: Sequence[Shape]) -> Shape:
    shape = given[0]
    channels = layer.out or shape[0]
    groups = layer.groups or shape[0]
    if shape[0] % groups or channels % groups:
        raise ShapeError(layer.label, (shape[0], channels), f"channels in and out that {groups} groups divide")
    return (channels, *_windowed(layer, shape))


def _linear(layer: Layer, given: Sequence[Shape]) -> Shape:
    if len(given[0]) != 1:
        raise ShapeError(layer.label, given[0], "features alone; a flatten comes before")
    assert layer.out is not None
    return (layer.out,)


def _pool(layer: Layer, given: Sequence[Shape]) -> Shape:
    return (given[0][0], *_windowed(layer, given[0]))


def _broadcast(layer: Layer, given: Sequence[Shape]) -> Shape:
    """Return the shape of a sum or product: equal shapes, or one value a channel beside whole maps (a gate)."""
    whole = max(given, key=lambda shape: (len(shape), math.prod(shape)))
    for shape in given:
        if len(shape) != len(whole) or shape[0] != whole[0]:
            raise ShapeError(layer.label, tuple(given), "inputs of as many channels")
        if any(size not in (1, full) for size, full in zip(shape[1:], whole[1:], strict=True)):
            raise ShapeError(layer.label, tuple(given), "inputs of one size, or of size 1")
    return whole


def _cat(layer: Layer, given: Sequence[Shape]) -> Shape:
    if any(shape[1:] != given[0][1:] for shape in given):
        raise ShapeError(layer.label, tuple(given), "inputs of one spatial size")
    return (sum(shape[0] for shape in given), *given[0][1:])


def _same(layer: Layer, given: Sequence[Shape]) -> Shape:
    return given[0]


def _constants(layer: Layer, given: Sequence[Shape]) -> Shape:
    if len(layer.values) not in (1, given[0][0]):
        raise ShapeError(layer.label, given[0], f"{len(layer.values)} channels, one a constant")
    return given[0]


def _arranged(layer: Layer, shape: Shape) -> Shape:
    if layer.whole not in (None, shape[0]):
        raise ShapeError(layer.label, shape, f"{layer.whole} channels")
    return shape


def _part(layer: Layer, given: Sequence[Shape]) -> Shape:
    shape = _arranged(layer, given[0])
    assert layer.out is not None
    if layer.start + layer.out > shape[0]:
        raise ShapeError(layer.label, shape, f"{layer.start + layer.out} channels or more")
    return (layer.out, *shape[1:])


def _shuffle(layer: Layer, given: Sequence[Shape]) -> Shape:
    shape = _arranged(layer, given[0])
    if not layer.groups or shape[0] % layer.groups:
        raise ShapeError(layer.label, shape, f"channels that {layer.groups} groups divide")
    return shape


def _pad(layer: Layer, given: Sequence[Shape]) -> Shape:
    shape = _arranged(layer, given[0])
    if len(layer.sides) != 2 * len(shape):
        raise ShapeError(layer.label, shape, f"{len(layer.sides) // 2} dimensions, two sides each")
    made = tuple(size + sum(layer.sides[2 * at : 2 * at + 2]) for at, size in enumerate(shape))
    if min(made) < 1:
        raise ShapeError(layer.label, shape, "more than it cuts off")
    return made


_SHAPES: dict[str, Callable[[Layer, Sequence[Shape]], Shape]] = {
    "conv": _conv, "linear": _linear, "norm": _same, "act": _same, "max_pool": _pool, "avg_pool": _pool,
    "global_pool": lambda layer, given: (given[0][0], *(1 for _ in given[0][1:])),
    "flatten": lambda layer, given: (math.prod(given[0]),),
    "dropout": _same, "add": _broadcast, "mul": _broadcast, "cat": _cat, "softmax": _same, "log_softmax": _same,
    "shift": _constants, "scale": _constants, "part": _part, "shuffle": _shuffle, "pad": _pad,
}  # fmt: skip
