"""One call in a traced module as layers: torch's modules, functions and tensor methods, each by what it computes.

A module and the function of the same name take the same settings (`MaxPool2d.stride`, `max_pool2d(stride=...)`), so one
reader serves both. What an architecture cannot say is refused with a reason; nothing is approximated.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from torch import Tensor, fx, nn

from ..architectures import Act, Shape

Settings = dict[str, Any]
"""Fields of a `Layer`."""


class Unreadable(Exception):
    """A call that no layer says; the text is the reason."""


@dataclass(frozen=True)
class Call:
    """A call as readers see it.

    Attributes:
        kind: The function's name, or the one that a module is like.
        settings: Its settings by the function's parameter names.
        given: Shapes of the tensors it reads, for one example.
        made: Shape of its output, for one example.
        maps: Spatial dimensions that its features are to keep, of size 1; 0 outside gates.
    """

    kind: str
    settings: Mapping[str, Any]
    given: tuple[Shape, ...]
    made: Shape
    maps: int = 0


@dataclass(frozen=True)
class Reading:
    """Layers in sequence, none for the identity; `tensors` are the weights of the first."""

    layers: tuple[Settings, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


Reader = Callable[[Call], Reading]

_WEIGHTS = ("weight", "bias")
_STATISTICS = ("running_mean", "running_var")
_POOL = ("kernel_size", "stride", "padding")

PARAMETERS: dict[str, tuple[str, ...]] = {
    "conv1d": (*_WEIGHTS, "stride", "padding", "dilation", "groups", "padding_mode"),
    "conv2d": (*_WEIGHTS, "stride", "padding", "dilation", "groups", "padding_mode"),
    "linear": _WEIGHTS,
    "batch_norm": (*_STATISTICS, *_WEIGHTS, "training", "momentum", "eps"),
    "leaky_relu": ("negative_slope", "inplace"),
    "elu": ("alpha", "inplace"),
    "gelu": ("approximate",),
    **{f"max_pool{d}d": (*_POOL, "dilation", "ceil_mode", "return_indices") for d in (1, 2)},
    **{f"avg_pool{d}d": (*_POOL, "ceil_mode", "count_include_pad", "divisor_override") for d in (1, 2)},
    **{f"adaptive_{how}_pool{d}d": ("output_size", "return_indices") for d in (1, 2) for how in ("avg", "max")},
    "dropout": ("p", "training", "inplace"),
    "stochastic_depth": ("p", "mode", "training"),
    "mean": ("dim", "keepdim"),
    "softmax": ("dim",),
    "log_softmax": ("dim",),
    "add": ("other", "alpha"),
    "mul": ("other",),
    "cat": ("dim",),
    "getitem": ("index",),
}
"""Parameters of each function after the tensor it reads, in their order; () for what is read from shapes."""
PARAMETERS |= {name: ("inplace",) for name in get_args(Act) if name not in PARAMETERS}

ALIASES = {
    "iadd": "add", "imul": "mul", "multiply": "mul", "concat": "cat", "concatenate": "cat", "swish": "silu",
    "dropout1d": "dropout", "dropout2d": "dropout", "feature_dropout": "dropout", "clone": "identity",
    "contiguous": "identity", "detach": "identity", "expand_as": "expand", "Identity": "identity",
    **dict.fromkeys(("view", "reshape", "flatten", "squeeze", "unsqueeze", "view_as", "reshape_as"), "shape"),
}  # fmt: skip

MODULES: dict[type[nn.Module], str] = {
    nn.Conv1d: "conv1d", nn.Conv2d: "conv2d", nn.Linear: "linear", nn.BatchNorm1d: "batch_norm",
    nn.BatchNorm2d: "batch_norm", nn.SyncBatchNorm: "batch_norm", nn.ReLU: "relu", nn.ReLU6: "relu6", nn.GELU: "gelu",
    nn.SiLU: "silu", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh", nn.Hardswish: "hardswish",
    nn.Hardsigmoid: "hardsigmoid", nn.LeakyReLU: "leaky_relu", nn.ELU: "elu", nn.MaxPool1d: "max_pool1d",
    nn.MaxPool2d: "max_pool2d", nn.AvgPool1d: "avg_pool1d", nn.AvgPool2d: "avg_pool2d",
    nn.AdaptiveAvgPool1d: "adaptive_avg_pool1d", nn.AdaptiveAvgPool2d: "adaptive_avg_pool2d",
    nn.AdaptiveMaxPool1d: "adaptive_max_pool1d", nn.AdaptiveMaxPool2d: "adaptive_max_pool2d", nn.Dropout: "dropout",
    nn.Dropout1d: "dropout", nn.Dropout2d: "dropout", nn.Flatten: "shape", nn.Unflatten: "shape",
    nn.Identity: "identity", nn.Softmax: "softmax", nn.LogSoftmax: "log_softmax",
}  # fmt: skip


def kind_of_module(module: nn.Module) -> str:
    """Return the function that a module is like, "" for none; subclasses that leave `forward` alone are alike."""
    for known in type(module).__mro__:
        if known in MODULES:
            return MODULES[known] if type(module).forward is known.forward else ""
    return ""


def kind_of_target(target: Any) -> tuple[str, bool]:
    """Return a function's or method's name among ours ("" if it is none of torch's), and whether it works in place."""
    if not isinstance(target, str):
        home = getattr(target, "__module__", None) or "torch"  # torch's built-in functions name no module
        if home.split(".")[0] not in ("torch", "_operator") and home != "torchvision.ops.stochastic_depth":
            return "", False
    name = target if isinstance(target, str) else target.__name__
    inplace = name in ("iadd", "imul") or (name.endswith("_") and not name.startswith("_"))
    name = name.rstrip("_") if inplace else name
    return ALIASES.get(name, name), inplace


def settings_of(kind: str, node: fx.Node, module: nn.Module | None, values: Mapping[fx.Node, Any]) -> Settings:
    """Return the settings of a call by name: a module's attributes, or a function's arguments after the first."""
    names = PARAMETERS.get(kind, ())
    if module is not None:
        return {name: getattr(module, name) for name in names if hasattr(module, name)}
    given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
    return {name: fx.map_arg(value, values.__getitem__) for name, value in given.items()}


def read(call: Call) -> Reading:
    """Return what a call computes.

    Raises:
        Unreadable: no layers say it; the text is the reason.
    """
    if call.kind in get_args(Act):
        return _act(call)
    if call.kind not in READERS:
        raise Unreadable("no layer of this kind")
    return READERS[call.kind](call)


def is_flattening(call: Call) -> bool:
    """Return whether a call makes features of maps of one value each."""
    flat = call.kind in ("shape", "mean", "getitem") and len(call.made) == 1 < len(call.given[0])
    return flat and (call.kind == "mean" or math.prod(call.given[0][1:]) == 1)


def is_unflattening(call: Call) -> bool:
    """Return whether a call makes maps of one value each of features."""
    same = call.kind in ("shape", "getitem") and len(call.given[0]) == 1 < len(call.made)
    return same and call.made[0] == math.prod(call.made) == call.given[0][0]


def _refused(call: Call, **allowed: Any) -> None:
    """Raise for a setting that is given and is not the one value that layers have."""
    for name, value in allowed.items():
        got = call.settings.get(name, value)
        if got not in (value, (value,), (value, value), [value], [value, value]):
            raise Unreadable(f"{name}={got}")


def _numbers(value: Any, dims: int) -> Shape:
    """Return one number a dimension, shortened to one where all are alike."""
    numbers = tuple(value) if isinstance(value, Sequence) else (value,)
    return numbers[:1] if len(set(numbers)) == 1 else numbers


def _spare(value: Any, default: int, dims: int) -> Shape:
    numbers = _numbers(value, dims)
    return () if numbers == (default,) else numbers


def _conv(call: Call) -> Reading:
    weight, bias, given = call.settings["weight"], call.settings.get("bias"), call.given[0]
    _refused(call, dilation=1, padding_mode="zeros")
    groups, dims = call.settings.get("groups", 1), len(given) - 1
    stride, padding = call.settings.get("stride", 1), call.settings.get("padding", 0)
    kernel = tuple(weight.shape[2:])
    if dims != len(kernel):
        raise Unreadable(f"reads an example of shape {given}")
    if padding == "same" and any(width % 2 == 0 for width in kernel):
        raise Unreadable("padding='same' with an even kernel, which is not the same at both sides")
    if isinstance(padding, str):
        padding = tuple(width // 2 for width in kernel) if padding == "same" else 0
    depthwise = groups == given[0] == call.made[0] and groups > 1
    layer = {
        "op": "conv", "out": None if depthwise else call.made[0], "kernel": _numbers(kernel, dims),
        "stride": _spare(stride, 1, dims), "padding": _spare(padding, 0, dims),
        "groups": 0 if depthwise else groups, "bias": bias is not None,
    }  # fmt: skip
    return Reading((layer,), _present(weight=weight, bias=bias))


def _linear(call: Call) -> Reading:
    weight, bias = call.settings["weight"], call.settings.get("bias")
    if len(call.given[0]) != 1:
        raise Unreadable(f"reads an example of shape {call.given[0]}, not features alone")
    settings = {"out": call.made[0], "bias": bias is not None}
    if call.maps:  # a gate: its features stay maps of one value, where a 1x1 convolution is the linear layer
        weight = weight.reshape(*weight.shape, *(1,) * call.maps)
        return Reading(({"op": "conv", "kernel": (1,), **settings},), _present(weight=weight, bias=bias))
    return Reading(({"op": "linear", **settings},), _present(weight=weight, bias=bias))


def _norm(call: Call) -> Reading:
    mean, variance = (call.settings.get(name) for name in _STATISTICS)
    if mean is None or variance is None or call.settings.get("training"):
        raise Unreadable("no running statistics: it normalises by the batch's own when it is evaluated")
    weight, bias = (call.settings.get(name) for name in _WEIGHTS)
    tensors = {
        "weight": mean.new_ones(mean.shape) if weight is None else weight,
        "bias": mean.new_zeros(mean.shape) if bias is None else bias,
        "running_mean": mean, "running_var": variance,
    }  # fmt: skip
    return Reading(({"op": "norm", "eps": call.settings.get("eps", 1e-5)},), tensors)


def _act(call: Call) -> Reading:
    _refused(call, negative_slope=0.01, alpha=1.0, approximate="none")
    return Reading(({"op": "act", "act": call.kind},))


def _pool(call: Call) -> Reading:
    _refused(call, dilation=1, return_indices=False)
    given, dims = call.given[0], int(call.kind[-2])
    if len(given) != dims + 1:
        raise Unreadable(f"reads an example of shape {given}")
    kernel = _numbers(call.settings["kernel_size"], dims)
    stride = _numbers(call.settings.get("stride") or kernel, dims)
    padding = _spare(call.settings.get("padding", 0), 0, dims)
    if padding:
        _refused(call, count_include_pad=True)
    _refused(call, divisor_override=None)
    if call.settings.get("ceil_mode") and call.made[1:] != _floor(given[1:], kernel, stride, padding):
        raise Unreadable("ceil_mode=True, and a last window that sticks out")
    op = "max_pool" if call.kind.startswith("max") else "avg_pool"
    return Reading(({"op": op, "kernel": kernel, "stride": () if stride == kernel else stride, "padding": padding},))


def _floor(sizes: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Shape:
    wide = [(numbers or (0,)) * (len(sizes) if len(numbers) < 2 else 1) for numbers in (kernel, stride, padding)]
    return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(sizes, *wide, strict=True))


def _adaptive(call: Call) -> Reading:
    _refused(call, return_indices=False)
    sizes, wanted = call.given[0][1:], call.made[1:]
    average = "avg" in call.kind
    if average and math.prod(wanted) == 1:
        return Reading(({"op": "global_pool"},))
    if sizes == wanted:
        return Reading()
    if any(size % made for size, made in zip(sizes, wanted, strict=True)):
        raise Unreadable(f"pools {sizes} into {wanted}, which does not divide it")
    kernel = tuple(size // made for size, made in zip(sizes, wanted, strict=True))
    return Reading(({"op": "avg_pool" if average else "max_pool", "kernel": _numbers(kernel, len(sizes))},))


def _mean(call: Call) -> Reading:
    given, axes = call.given[0], call.settings.get("dim")
    axes = (axes,) if isinstance(axes, int) else tuple(axes or ())
    if len(given) < 2 or {axis % (len(given) + 1) for axis in axes} != set(range(2, len(given) + 1)):
        raise Unreadable(f"a mean over dimensions {axes} of {len(given) + 1}, not over a whole map")
    keeps = len(call.made) > 1 or call.maps
    return Reading(({"op": "global_pool"},) if keeps else ({"op": "global_pool"}, {"op": "flatten"}))


def _shape(call: Call) -> Reading:
    """Read a change of shape by what it does to one example; elements keep their order in all of them."""
    given, made = call.given[0], call.made
    squeezed = given[0] == made[0] and math.prod(given[1:]) == math.prod(made[1:]) == 1 < min(len(given), len(made))
    if given == made or squeezed or (call.maps and (is_flattening(call) or is_unflattening(call))):
        return Reading()
    if made == (math.prod(given),):
        return Reading(({"op": "flatten"},))
    raise Unreadable(f"makes {made} of {given}")


def _getitem(call: Call) -> Reading:
    index = call.settings["index"]
    index = index if isinstance(index, tuple) else (index,)
    if any(not (item is None or item is Ellipsis or item == slice(None)) for item in index):
        raise Unreadable("takes a part")
    return _shape(call)


def _softmax(call: Call) -> Reading:
    axis = call.settings.get("dim")
    if (1 if axis is None else axis) % (len(call.made) + 1) != 1:
        raise Unreadable(f"over dimension {axis}, not over the channels")
    return Reading(({"op": call.kind},))


def _join(call: Call) -> Reading:
    neutral = 0 if call.kind == "add" else 1
    _refused(call, alpha=1)
    if len(call.given) == 1:
        constant = call.settings.get("other")
        if constant != neutral:
            raise Unreadable(f"{'adds' if call.kind == 'add' else 'multiplies by'} the constant {constant}")
        return Reading()
    return Reading(({"op": call.kind},))


def _cat(call: Call) -> Reading:
    if call.settings.get("dim", 0) % (len(call.made) + 1) != 1:
        raise Unreadable("not along the channels")
    return Reading(({"op": "cat"},) if len(call.given) > 1 else ())


def _dropout(call: Call) -> Reading:
    if call.settings.get("training", True):
        raise Unreadable("on when the model is evaluated; give it training=self.training")
    if call.kind == "stochastic_depth":
        return Reading()
    return Reading(({"op": "dropout", "rate": call.settings.get("p", 0.5)},))


def _present(**tensors: Tensor | None) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


READERS: dict[str, Reader] = {
    "conv1d": _conv, "conv2d": _conv, "linear": _linear, "batch_norm": _norm, "mean": _mean, "shape": _shape,
    "getitem": _getitem, "softmax": _softmax, "log_softmax": _softmax, "add": _join, "mul": _join, "cat": _cat,
    "dropout": _dropout, "stochastic_depth": _dropout,
    "identity": lambda call: Reading(), "expand": lambda call: Reading(),
    **{f"{how}_pool{dims}d": _pool for how in ("max", "avg") for dims in (1, 2)},
    **{f"adaptive_{how}_pool{dims}d": _adaptive for how in ("max", "avg") for dims in (1, 2)},
}  # fmt: skip
