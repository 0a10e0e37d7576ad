"""Calls of a recorded module by what they are: the function that each is like, its settings, what it works on.

A module and the function of the same name take the same settings (`MaxPool2d.stride`, `max_pool2d(stride=...)`), so one
name serves both.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import nn

from ..architectures import Act, Shape
from .tracing_record import Event

Settings = dict[str, Any]
"""Fields of a `Layer`, or settings of a call by name."""


@dataclass(frozen=True)
class Call:
    """A call as readers see it.

    Attributes:
        kind: The function's name, or the one that a module is like.
        settings: Its settings by the function's parameter names.
        terms: What it works on: values that depend on the example, and constants.
        given: Shapes of the tensors it reads, for one example.
        made: Shape of its output, for one example.
        maps: Spatial dimensions that its features are to keep, of size 1; 0 outside gates.
        learned: Names of the trained parameters that constants were computed from, by id.
    """

    kind: str
    settings: Mapping[str, Any]
    terms: tuple[Any, ...]
    given: tuple[Shape, ...]
    made: Shape
    maps: int
    learned: Mapping[int, str]


WEIGHTS = ("weight", "bias")
STATISTICS = ("running_mean", "running_var")
_POOL = ("kernel_size", "stride", "padding")

PARAMETERS: dict[str, tuple[str, ...]] = {
    "conv1d": (*WEIGHTS, "stride", "padding", "dilation", "groups", "padding_mode"),
    "conv2d": (*WEIGHTS, "stride", "padding", "dilation", "groups", "padding_mode"),
    "linear": WEIGHTS,
    "batch_norm": (*STATISTICS, *WEIGHTS, "training", "momentum", "eps"),
    "leaky_relu": ("negative_slope", "inplace"),
    "elu": ("alpha", "inplace"),
    "gelu": ("approximate",),
    **{f"max_pool{d}d": (*_POOL, "dilation", "ceil_mode", "return_indices") for d in (1, 2)},
    **{f"avg_pool{d}d": (*_POOL, "ceil_mode", "count_include_pad", "divisor_override") for d in (1, 2)},
    **{f"adaptive_{how}_pool{d}d": ("output_size", "return_indices") for d in (1, 2) for how in ("avg", "max")},
    "dropout": ("p", "training", "inplace"),
    "mean": ("dim", "keepdim", "dtype"),
    "amax": ("dim", "keepdim"),
    "softmax": ("dim", "dtype"),
    "log_softmax": ("dim", "dtype"),
    "softplus": ("beta", "threshold"),
    "add": ("other", "alpha"),
    "sub": ("other", "alpha"),
    "rsub": ("other", "alpha"),
    "mul": ("other",),
    "div": ("other", "rounding_mode"),
    "clamp": ("min", "max"),
    "clamp_min": ("min",),
    "hardtanh": ("min_val", "max_val", "inplace"),
    "cat": ("dim",),
}
"""Parameters of each function after the tensor it reads, in their order."""
PARAMETERS |= {name: ("inplace",) for name in get_args(Act) if name not in PARAMETERS}

ALIASES = {
    "multiply": "mul", "subtract": "sub", "divide": "div", "true_divide": "div", "truediv": "div", "negative": "neg",
    "concat": "cat", "concatenate": "cat", "swish": "silu", "clip": "clamp", "feature_dropout": "dropout",
    "dropout1d": "dropout", "dropout2d": "dropout", "positive": "identity", "requires_grad": "identity",
    **{f"max_pool{d}d_with_indices": f"max_pool{d}d" for d in (1, 2)},
    **{f"adaptive_max_pool{d}d_with_indices": f"adaptive_max_pool{d}d" for d in (1, 2)},
}  # fmt: skip

MODULES: dict[type[nn.Module], str] = {
    nn.Conv1d: "conv1d", nn.Conv2d: "conv2d", nn.Linear: "linear", nn.BatchNorm1d: "batch_norm",
    nn.BatchNorm2d: "batch_norm", nn.SyncBatchNorm: "batch_norm", nn.ReLU: "relu", nn.ReLU6: "relu6", nn.GELU: "gelu",
    nn.SiLU: "silu", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh", nn.Hardswish: "hardswish",
    nn.Hardsigmoid: "hardsigmoid", nn.LeakyReLU: "leaky_relu", nn.ELU: "elu", nn.MaxPool1d: "max_pool1d",
    nn.MaxPool2d: "max_pool2d", nn.AvgPool1d: "avg_pool1d", nn.AvgPool2d: "avg_pool2d",
    nn.AdaptiveAvgPool1d: "adaptive_avg_pool1d", nn.AdaptiveAvgPool2d: "adaptive_avg_pool2d",
    nn.AdaptiveMaxPool1d: "adaptive_max_pool1d", nn.AdaptiveMaxPool2d: "adaptive_max_pool2d", nn.Dropout: "dropout",
    nn.Dropout1d: "dropout", nn.Dropout2d: "dropout", nn.Mish: "mish", nn.SELU: "selu",
    nn.Softplus: "softplus", nn.Hardtanh: "hardtanh", nn.Softmax: "softmax", nn.LogSoftmax: "log_softmax",
}  # fmt: skip


def kind_of_module(module: nn.Module) -> str:
    """Return the function that a module is like, "" for none; subclasses that leave `forward` alone are alike."""
    for known in type(module).__mro__:
        if known in MODULES:
            plain = type(module).forward is known.forward and "forward" not in vars(module)
            return MODULES[known] if plain else ""
    return ""


def is_whole(module: nn.Module) -> bool:
    """Return whether a module is one call: torch's own layers, and those that compute as they do."""
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    if any(not str(getattr(type(hook), "__module__", "")).startswith("torch.") for hook in hooks):
        return False  # what else it does is seen only inside
    if isinstance(module, torch.jit.ScriptModule) or kind_of_module(module):
        return True
    own = type(module).__module__.startswith("torch.nn.modules")
    return own and not isinstance(module, nn.Sequential) and "forward" not in vars(module)


def kind_of(event: Event) -> str:
    """Return which of our functions a call is, "" if it is none of torch's."""
    if event.module is not None:
        return kind_of_module(event.module)
    home = getattr(event.function, "__module__", None) or "torch"  # torch's built-in functions name no module
    if home.split(".")[0] not in ("torch", "_operator"):
        return ""
    return ALIASES.get(event.name, event.name)


def settings_of(kind: str, event: Event) -> Settings:
    """Return the settings of a call by name: a module's attributes, or a function's arguments after the first."""
    names = PARAMETERS.get(kind, ())
    if event.module is not None:
        return {name: getattr(event.module, name) for name in names if hasattr(event.module, name)}
    return dict(zip(names, event.args[1:], strict=False)) | event.kwargs


def with_means(events: Sequence[Event]) -> list[Event]:
    """Return the events with a mean of a mean over other dimensions, which nothing else reads, as one."""
    users = Counter(value for event in events for value in event.reads)
    merged: dict[Event, Event] = {}
    for event in events:
        first = event.reads[0].event
        inner = merged.get(first, first) if first else None
        if inner is None or users[event.reads[0]] > 1 or {kind_of(event), kind_of(inner)} != {"mean"}:
            continue
        (axes, keeps), (outer, kept) = _mean_axes(inner), _mean_axes(event)
        if axes is None or outer is None or keeps != kept:
            continue
        left = [axis for axis in range(len(inner.reads[0].shape) + 1) if keeps or axis not in axes]
        both = {"dim": tuple({*axes, *(left[axis % len(left)] for axis in outer)}), "keepdim": keeps}
        merged[event] = replace(event, args=(inner.reads[0],), kwargs=both, reads=list(inner.reads))
    gone = {event.reads[0].event for event in merged}
    kept_events = []
    for event in events:
        if event not in gone:
            kept_events.append(merged.get(event, event))
            for value in event.made:
                value.event = kept_events[-1]
    return kept_events


def _mean_axes(event: Event) -> tuple[tuple[int, ...] | None, bool]:
    settings = settings_of("mean", event)
    dims = len(event.reads[0].shape) + 1
    axes: Any = settings.get("dim")
    axes = (axes,) if isinstance(axes, int) else axes
    known = isinstance(axes, (tuple, list)) and settings.get("dtype") is None
    return tuple(axis % dims for axis in axes) if known else None, bool(settings.get("keepdim"))


def terms_of(event: Event, kind: str) -> tuple[Any, ...]:
    """Return the arguments that a call works on: weights and settings left out."""
    first = event.args[0] if event.args else event.kwargs.get("input", event.kwargs.get("tensors"))
    if kind in ("add", "sub", "rsub", "mul", "div"):
        return first, event.args[1] if len(event.args) > 1 else event.kwargs.get("other")
    return tuple(first) if kind == "cat" and isinstance(first, (list, tuple)) else (first,)
