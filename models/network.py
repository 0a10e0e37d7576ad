"""Architectures as torch modules: a network runs the layers of its architecture in order, each on what it reads.

Weights have names: the layer's name, or `#` and its index where it has none, and the tensor's (`layer1.0.conv1.weight`,
`#3.bias`). Under them they travel as NumPy arrays; no class is ever pickled. Must not know searches, data or Ray.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..architectures import ARRANGED, WEIGHTED, Architecture, Layer, ShapeError
from ..errors import SpecError
from ..records import seed_of

State = dict[str, np.ndarray[Any, Any]]
"""Weights and running statistics by name."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "relu6": F.relu6, "gelu": F.gelu, "silu": F.silu, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
    "hardswish": F.hardswish, "hardsigmoid": F.hardsigmoid, "leaky_relu": F.leaky_relu, "elu": F.elu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"), "selu": F.selu, "softplus": F.softplus,
}  # fmt: skip
"""Each with its default constants."""


class Network(nn.Module):
    """The module of an architecture; weights are allocated and not yet set (`build`, `with_state` set them).

    Dropout draws from torch's global generator, in train mode alone.
    """

    def __init__(self, arch: Architecture) -> None:
        """Allocate the weights; raises ShapeError where a layer cannot run on what arrives."""
        super().__init__()
        self.arch = arch
        weighted = [at for at, layer in enumerate(arch.layers) if layer.op in WEIGHTED]
        self.layers = nn.ModuleDict({str(at): _module(arch, at) for at in weighted})
        self._calls = [None if layer.op in WEIGHTED else _call(arch, at) for at, layer in enumerate(arch.layers)]
        self._spent = _spent(arch)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's output, [batch, classes], of [batch, *input]."""
        values = {-1: x}
        for at, sources in enumerate(self.arch.sources):
            given = [values[source] for source in sources]
            call = self._calls[at]
            values[at] = self.layers[str(at)](given[0]) if call is None else call(self, given)
            for source in self._spent[at]:
                del values[source]
        return values[len(self._calls) - 1]

    def layer(self, at: int) -> nn.Module:
        """Return the convolution, linear or norm that is layer `at`."""
        return self.layers[str(at)]


def build(arch: Architecture, seed: int) -> Network:
    """Return a network with fresh weights, drawn as torch's layers draw theirs; torch's generator is not touched.

    A layer's weights depend on the seed, its name (its index where it has none) and its shape: networks of one seed
    begin alike wherever they agree.

    Raises:
        ShapeError: a layer cannot run on what arrives.
    """
    network = Network(arch)
    with torch.no_grad():
        for at, layer in enumerate(arch.layers):
            if layer.op == "norm":
                _identity(network.layer(at))
            elif layer.op in WEIGHTED:
                _drawn(network.layer(at), seed_of(seed, "init", label(arch, at)))
    return network


def label(arch: Architecture, at: int) -> str:
    """Return the name under which the weights of layer `at` travel."""
    return arch.layers[at].name or f"#{at}"


def state_of(network: Network) -> State:
    """Return copies of all weights and running statistics, by name."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors(network).items()}


def with_state(arch: Architecture, state: Mapping[str, np.ndarray[Any, Any]]) -> Network:
    """Return a network that holds copies of the given weights.

    Raises:
        SpecError: a name is missing or unknown, or a tensor has another shape; the error names the first.
        ShapeError: a layer cannot run on what arrives.
    """
    network = Network(arch)
    wanted = tensors(network)
    for name in sorted(wanted.keys() ^ state.keys()):
        expected = "no such tensor" if name in state else f"shape {tuple(wanted[name].shape)}"
        raise SpecError(f"weights: {name}", tuple(state[name].shape) if name in state else None, expected)
    with torch.no_grad():
        for name, tensor in wanted.items():
            if tuple(state[name].shape) != tuple(tensor.shape):
                raise SpecError(f"weights: {name}", tuple(state[name].shape), f"shape {tuple(tensor.shape)}")
            tensor.copy_(torch.from_numpy(np.array(state[name], dtype=np.float32)))
    return network


def tensors(network: Network) -> dict[str, Tensor]:
    """Return the network's own weights and running statistics by name, in the order of the layers."""
    return {
        f"{label(network.arch, at)}.{name}": tensor
        for at, layer in enumerate(network.arch.layers)
        if layer.op in WEIGHTED
        for name, tensor in tensors_at(network, at).items()
    }


def tensors_at(network: Network, at: int) -> dict[str, Tensor]:
    """Return the tensors of layer `at`, which has weights, by their own names (`weight`, `running_mean`)."""
    module = network.layer(at)
    own = chain(module.named_parameters(), module.named_buffers())
    # How many batches a norm has seen changes nothing where its momentum is a number.
    return {name: tensor for name, tensor in own if name != "num_batches_tracked"}


def _module(arch: Architecture, at: int) -> nn.Module:
    """Return layer `at` with weights allocated and not set: torch's constructors would draw from its generator."""
    layer, given, made = arch.layers[at], arch.arriving(at), arch.shapes[at]
    dims = len(given) - 1
    if dims > 2:
        raise ShapeError(layer.label, given, "two spatial dimensions at most")
    if layer.op == "norm":
        norm = nn.BatchNorm2d if dims == 2 else nn.BatchNorm1d
        return nn.utils.skip_init(norm, given[0], eps=layer.eps, affine=layer.affine)
    if layer.op == "linear":
        return nn.utils.skip_init(nn.Linear, given[0], made[0], bias=layer.bias)
    kernel, stride, padding = layer.spread(dims)
    options = {"stride": stride, "padding": padding, "groups": layer.groups or given[0], "bias": layer.bias}
    kind = nn.Conv2d if dims == 2 else nn.Conv1d
    if _writes_past_its_memory(given[0], kernel, stride, padding):
        kind = _PointConv2d
    return nn.utils.skip_init(kind, given[0], made[0], kernel, **options)


class _PointConv2d(nn.Conv2d):
    """A convolution of one point with a stride, computed as a stride of the input and a convolution without one."""

    def forward(self, input: Tensor) -> Tensor:
        rows, columns = self.stride
        return F.conv2d(input[:, :, ::rows, ::columns], self.weight, self.bias, groups=self.groups)


def _writes_past_its_memory(
    channels: int, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> bool:
    """Return whether a convolution's weight gradient would write past its memory on this processor.

    oneDNN's AVX2 kernel (torch 2.6 to 2.13) does for one point, a stride, channels last and fewer channels than the
    eight of a register: the process ends somewhere later with "corrupted double-linked list".
    """
    if (len(kernel), max(kernel), max(padding)) != (2, 1, 0) or max(stride) == 1 or channels >= 8:
        return False
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def _identity(norm: nn.Module) -> None:
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    norm.reset_parameters()  # ones, zeros, statistics of a unit normal: nothing drawn


def _drawn(module: nn.Module, seed: int) -> None:
    """Fill weight, then bias: uniform within 1 / sqrt(inputs of one output), which is torch's default."""
    draw = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(module.named_parameters(), reverse=True):
        bound = 1 / math.sqrt(math.prod(module.get_parameter("weight").shape[1:]))
        parameter.uniform_(-bound, bound, generator=draw)


def _spent(arch: Architecture) -> tuple[tuple[int, ...], ...]:
    """Return for each layer the values that nothing reads after it: they are let go there."""
    last = {source: at for at, sources in enumerate(arch.sources) for source in sources}
    spent: list[list[int]] = [[] for _ in arch.layers]
    for source, at in last.items():
        spent[at].append(source)
    return tuple(map(tuple, spent))


Call = Callable[[Network, Sequence[Tensor]], Tensor]


def _call(arch: Architecture, at: int) -> Call:
    """Return what layer `at`, which has no weights, does."""
    layer, dims = arch.layers[at], len(arch.arriving(at)) - 1
    if layer.op in ("max_pool", "avg_pool"):
        kernel, stride, padding = layer.spread(dims)
        if any(2 * pad > width for pad, width in zip(padding, kernel, strict=True)):
            raise ShapeError(layer.label, padding, f"padding of half the kernel {kernel} at most")
        return partial(_pool, layer, kernel, stride, padding)
    if layer.op == "act":
        return partial(_act, layer.act, layer.alpha)
    if layer.op in ARRANGED:
        return partial(_arranged, layer, dims)
    if layer.op == "dropout":
        return partial(_dropout, layer.rate)
    return _PLAIN[layer.op]


def _pool(layer: Layer, kernel: Any, stride: Any, padding: Any, network: Network, given: Sequence[Tensor]) -> Tensor:
    average, flat = layer.op == "avg_pool", len(kernel) == 1
    call: Any = (F.avg_pool1d if flat else F.avg_pool2d) if average else (F.max_pool1d if flat else F.max_pool2d)
    options = {"ceil_mode": layer.ceil} | ({"count_include_pad": layer.count_padding} if average else {})
    return call(given[0], kernel, stride, padding, **options) if kernel else given[0]


def _act(name: str, alpha: float | None, network: Network, given: Sequence[Tensor]) -> Tensor:
    function: Callable[..., Tensor] = ACTIVATIONS[name]
    return function(given[0]) if alpha is None else function(given[0], alpha)


def _arranged(layer: Layer, dims: int, network: Network, given: Sequence[Tensor]) -> Tensor:
    x = given[0]
    if layer.op == "part":
        return x[:, layer.start : layer.start + (layer.out or 0)]
    if layer.op == "shuffle":
        return x.unflatten(1, (layer.groups, -1)).transpose(1, 2).flatten(1, 2)
    if layer.op == "pad":
        pairs = [layer.sides[at : at + 2] for at in range(0, len(layer.sides), 2)]
        return F.pad(x, [side for pair in reversed(pairs) for side in pair])
    constants: Any = layer.values[0]
    if len(layer.values) > 1:
        constants = x.new_tensor(layer.values).reshape(1, -1, *(1,) * dims)
    return x + constants if layer.op == "shift" else x * constants


def _dropout(rate: float, network: Network, given: Sequence[Tensor]) -> Tensor:
    return F.dropout(given[0], rate, network.training)


def _global_pool(network: Network, given: Sequence[Tensor]) -> Tensor:
    x = given[0]
    if x.dim() == 2:
        return x
    return F.adaptive_avg_pool1d(x, 1) if x.dim() == 3 else F.adaptive_avg_pool2d(x, 1)


def _add(network: Network, given: Sequence[Tensor]) -> Tensor:
    total = given[0]
    for term in given[1:]:
        total = total + term
    return total


def _mul(network: Network, given: Sequence[Tensor]) -> Tensor:
    product = given[0]
    for factor in given[1:]:
        product = product * factor
    return product


def _softmax(network: Network, given: Sequence[Tensor]) -> Tensor:
    return F.softmax(given[0], 1)


def _log_softmax(network: Network, given: Sequence[Tensor]) -> Tensor:
    return F.log_softmax(given[0], 1)


def _flatten(network: Network, given: Sequence[Tensor]) -> Tensor:
    return given[0].flatten(1)


def _cat(network: Network, given: Sequence[Tensor]) -> Tensor:
    return torch.cat(tuple(given), 1)


_PLAIN: dict[str, Call] = {
    "global_pool": _global_pool, "flatten": _flatten, "add": _add, "mul": _mul, "cat": _cat, "softmax": _softmax,
    "log_softmax": _log_softmax,
}  # fmt: skip
