"""One call of a recorded module as layers: torch's modules, functions and tensor methods, each by what it computes.

A module and the function of the same name take the same settings (`MaxPool2d.stride`, `max_pool2d(stride=...)`), so one
reader serves both. What an architecture cannot say is refused with a reason; nothing is approximated.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch import Tensor

from ..architectures import Act, Shape, windows
from .tracing_calls import STATISTICS, WEIGHTS, Call, Settings
from .tracing_record import Value


class Unreadable(Exception):
    """A call that no layer says; the text is the reason."""


@dataclass(frozen=True)
class Reading:
    """Layers in sequence, none for the identity; `tensors` are the weights of the first.

    `before` are layers that an input, by its number, goes through first. Where `gates` holds, what the layers give is
    multiplied with what they read.
    """

    layers: tuple[Settings, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    before: Mapping[int, tuple[Settings, ...]] = field(default_factory=dict)
    gates: bool = False


Reader = Callable[[Call], Reading]


def is_known(kind: str) -> bool:
    """Return whether some layers say what calls of a kind compute."""
    return kind in READERS or kind in get_args(Act)


def read(call: Call) -> Reading:
    """Return what a call computes.

    Raises:
        Unreadable: no layers say it; the text is the reason.
    """
    if call.settings.get("out") is not None or call.settings.get("dtype") not in (None, torch.float32):
        raise Unreadable("its result goes elsewhere, or is of another kind")
    if call.kind in get_args(Act):
        return _act(call)
    return READERS[call.kind](call)


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
    weight, bias, given = _weight(call), call.settings.get("bias"), call.given[0]
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


def _weight(call: Call) -> Tensor:
    """Return a call's weight; one that is computed of several parameters, or of a part of one, is not theirs."""
    weight: Tensor = call.settings["weight"]
    names = call.learned.get(id(weight), "")
    if " and " in names:
        raise Unreadable(f"its weight is computed from {names}")
    return weight


def _linear(call: Call) -> Reading:
    weight, bias = _weight(call), call.settings.get("bias")
    if len(call.given[0]) != 1:
        raise Unreadable(f"reads an example of shape {call.given[0]}, not features alone")
    settings = {"out": call.made[0], "bias": bias is not None}
    if call.maps:  # a gate: its features stay maps of one value, where a 1x1 convolution is the linear layer
        weight = weight.reshape(*weight.shape, *(1,) * call.maps)
        return Reading(({"op": "conv", "kernel": (1,), **settings},), _present(weight=weight, bias=bias))
    return Reading(({"op": "linear", **settings},), _present(weight=weight, bias=bias))


def _norm(call: Call) -> Reading:
    mean, variance = (call.settings.get(name) for name in STATISTICS)
    if mean is None or variance is None or call.settings.get("training"):
        raise Unreadable("no running statistics: it normalises by the batch's own when it is evaluated")
    weight, bias = (call.settings.get(name) for name in WEIGHTS)
    affine = weight is not None or bias is not None
    if affine:
        weight = mean.new_ones(mean.shape) if weight is None else weight
        bias = mean.new_zeros(mean.shape) if bias is None else bias
    tensors = _present(weight=weight, bias=bias, running_mean=mean, running_var=variance)
    return Reading(({"op": "norm", "eps": call.settings.get("eps", 1e-5), "affine": affine},), tensors)


def _act(call: Call) -> Reading:
    kind, settings = call.kind, call.settings
    _refused(call, beta=1.0, threshold=20.0)
    if kind == "gelu":
        kind = {"none": "gelu", "tanh": "gelu_tanh"}[settings.get("approximate", "none")]
    layer: Settings = {"op": "act", "act": kind}
    name, default = {"leaky_relu": ("negative_slope", 0.01), "elu": ("alpha", 1.0)}.get(kind, ("", 0.0))
    if settings.get(name, default) != default:
        layer["alpha"] = float(settings[name])
    _refused(call, scale=1.0, input_scale=1.0)
    return Reading((layer,))


def _clamp(call: Call) -> Reading:
    low, high = {
        "clamp": (call.settings.get("min"), call.settings.get("max")), "clamp_min": (call.settings.get("min"), None),
        "hardtanh": (call.settings.get("min_val", -1.0), call.settings.get("max_val", 1.0)),
    }[call.kind]  # fmt: skip
    if isinstance(low, (Tensor, Value)) or isinstance(high, (Tensor, Value)) or low != 0 or high not in (None, 6):
        raise Unreadable(f"keeps values between {low} and {high}, not 0 and 6")
    return Reading(({"op": "act", "act": "relu" if high is None else "relu6"},))


def _pool(call: Call) -> Reading:
    _refused(call, dilation=1, return_indices=False)
    given, dims = call.given[0], int(call.kind[-2])
    if len(given) != dims + 1:
        raise Unreadable(f"reads an example of shape {given}")
    kernel = _numbers(call.settings["kernel_size"], dims)
    stride = _numbers(call.settings.get("stride") or kernel, dims)
    padding = _spare(call.settings.get("padding", 0), 0, dims)
    _refused(call, divisor_override=None)
    layer: Settings = {
        "op": "max_pool" if call.kind.startswith("max") else "avg_pool", "kernel": kernel,
        "stride": () if stride == kernel else stride, "padding": padding,
    }  # fmt: skip
    if call.settings.get("ceil_mode") and call.made[1:] != _floor(given[1:], kernel, stride, padding):
        layer["ceil"] = True
    if (padding or "ceil" in layer) and not call.settings.get("count_include_pad", True):
        layer["count_padding"] = False
    return Reading((layer,))


def _floor(sizes: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Shape:
    wide = [(numbers or (0,)) * (len(sizes) if len(numbers) < 2 else 1) for numbers in (kernel, stride, padding)]
    return tuple(windows(*numbers) for numbers in zip(sizes, *wide, strict=True))


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


def _whole(call: Call) -> Reading:
    """Read what takes one number of a whole map: its mean, or its largest."""
    given, axes = call.given[0], call.settings.get("dim")
    axes = (axes,) if isinstance(axes, int) else tuple(axes or ())
    if len(given) < 2 or {axis % (len(given) + 1) for axis in axes} != set(range(2, len(given) + 1)):
        raise Unreadable(f"over dimensions {axes} of {len(given) + 1}, not over a whole map")
    pool: Settings = {"op": "global_pool"} if call.kind == "mean" else {"op": "max_pool", "kernel": given[1:]}
    return Reading((pool,) if len(call.made) > 1 or call.maps else (pool, {"op": "flatten"}))


def _softmax(call: Call) -> Reading:
    axis = call.settings.get("dim")
    if (1 if axis is None else axis) % (len(call.made) + 1) != 1:
        raise Unreadable(f"over dimension {axis}, not over the channels")
    return Reading(({"op": call.kind},))


def _join(call: Call) -> Reading:
    """Read a sum, difference, product or quotient of two values, or of a value and constants."""
    _refused(call, rounding_mode=None)
    alpha = call.settings.get("alpha", 1)
    if len(call.given) == 1:
        return Reading(tuple(_with_constant(call, alpha)))
    if len({len(shape) for shape in call.given}) > 1 or len({shape[0] for shape in call.given}) > 1:
        raise Unreadable(f"of shapes {' and '.join(map(str, call.given))}, not of as many channels")
    if call.kind not in ("add", "sub", "mul"):
        raise Unreadable("no layer of this kind")
    factor = float(alpha if call.kind == "add" else -alpha)
    before = {} if call.kind == "mul" or factor == 1 else {1: ({"op": "scale", "values": (factor,)},)}
    return Reading(({"op": "mul" if call.kind == "mul" else "add"},), before=before)


def _with_constant(call: Call, alpha: float) -> list[Settings]:
    left = isinstance(call.terms[0], Value)
    constant = _constants(call, call.terms[1] if left else call.terms[0])
    minus: Settings = {"op": "scale", "values": (-1.0,)}
    if call.kind == "rsub":  # rsub(a, b) is b - a
        left = not left
    if call.kind == "mul":
        return _unless(1.0, "scale", constant)
    if call.kind == "div":
        if not left or (constant == 0).any():
            raise Unreadable("divides by what it reads, or by zero")
        return _unless(1.0, "scale", 1 / constant)
    if call.kind == "add":
        if not left and alpha != 1:
            raise Unreadable(f"alpha={alpha}")
        return _unless(0.0, "shift", constant * alpha)
    if alpha != 1:
        raise Unreadable(f"alpha={alpha}")
    return _unless(0.0, "shift", -constant) if left else [minus, *_unless(0.0, "shift", constant)]


def _unless(neutral: float, op: str, constant: Tensor) -> list[Settings]:
    values = tuple(constant.tolist())
    return [] if set(values) == {neutral} else [{"op": op, "values": values}]


def _constants(call: Call, constant: Any) -> Tensor:
    """Return one constant for all channels, or one for each, in float64."""
    verb = {"mul": "multiplies by", "div": "divides by"}.get(call.kind, "adds")
    if names := call.learned.get(id(constant)):
        raise Unreadable(f"{verb} {names}, a trained parameter that no layer holds")
    try:
        tensor = torch.as_tensor(constant, dtype=torch.float64, device="cpu")
        spread = tensor.expand(2, *call.given[0])
    except (TypeError, ValueError, RuntimeError):
        shape = f" of shape {tuple(constant.shape)}" if isinstance(constant, Tensor) else ""
        raise Unreadable(f"{verb} {type(constant).__name__}{shape}, not one number or one a channel") from None
    channels = spread[0].reshape(call.given[0][0], -1)
    if call.made != call.given[0] or not (channels == channels[:, :1]).all() or not torch.equal(*spread):
        raise Unreadable(f"{verb} constants that differ within a channel")
    if not channels.isfinite().all():
        raise Unreadable(f"{verb} what is not finite")
    found = channels[:, 0]
    return found[:1] if (found == found[0]).all() else found


def _mish(call: Call) -> Reading:
    return Reading(({"op": "act", "act": "softplus"}, {"op": "act", "act": "tanh"}), gates=True)


def _neg(call: Call) -> Reading:
    return Reading(({"op": "scale", "values": (-1.0,)},))


def _cat(call: Call) -> Reading:
    axis = call.settings.get("dim", call.settings.get("axis", 0))
    if axis % (len(call.made) + 1) != 1:
        raise Unreadable("not along the channels")
    constants = [term for term in call.terms if not isinstance(term, Value)]
    if not constants:
        return Reading(({"op": "cat"},) if len(call.given) > 1 else ())
    if len(call.given) > 1 or any(term.any() for term in constants):
        raise Unreadable("of constants, and not of one tensor with zeros around it")
    at = next(at for at, term in enumerate(call.terms) if isinstance(term, Value))
    front, back = (sum(len(term[0]) for term in part) for part in (call.terms[:at], call.terms[at + 1 :]))
    sides = (front, back, *(0, 0) * (len(call.made) - 1))
    return Reading(({"op": "pad", "sides": sides, "whole": call.given[0][0]},))


def _dropout(call: Call) -> Reading:
    if call.settings.get("training", True):
        raise Unreadable("on when the model is evaluated; give it training=self.training")
    return Reading(({"op": "dropout", "rate": call.settings.get("p", 0.5)},))


def _present(**tensors: Tensor | None) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


READERS: dict[str, Reader] = {
    "conv1d": _conv, "conv2d": _conv, "linear": _linear, "batch_norm": _norm, "mean": _whole,
    "amax": _whole, "softmax": _softmax, "log_softmax": _softmax, "cat": _cat, "dropout": _dropout, "neg": _neg,
    "mish": _mish,
    **dict.fromkeys(("add", "sub", "rsub", "mul", "div"), _join),
    **dict.fromkeys(("clamp", "clamp_min", "hardtanh"), _clamp), "identity": lambda call: Reading(),
    **{f"{how}_pool{dims}d": _pool for how in ("max", "avg") for dims in (1, 2)},
    **{f"adaptive_{how}_pool{dims}d": _adaptive for how in ("max", "avg") for dims in (1, 2)},
}  # fmt: skip
