"""Any module as a network: traced by torch.fx, each call read as a layer, its weights copied.

    network = from_module(module, example)
    network.arch      # the architecture, layers named by their module's path

What is read: convolutions in one and two dimensions (grouped, depthwise), linear layers, batch norm, activations,
pools, flattening, dropout, softmax; sums, products (squeeze-and-excite gates) and concatenations between them; as
modules, functions or tensor methods. All that cannot be read is named in one error.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..errors import SpecError
from .network import Network, label, with_state
from .tracing_blocks import with_blocks
from .tracing_layers import kind_of_module
from .tracing_walk import Walk

CLOSE = 1e-4
"""How far the network's outputs may be from the module's, in units of the largest: what float32 sums differ by."""


class UnreadableModel(SpecError):
    """A module cannot be read as a network: `where` its class, `got` what is wrong, `expected` what can be read."""

    def __str__(self) -> str:
        return f"{self.where}: {self.got}; expected {self.expected}"


READABLE = (
    "convolutions (1-d, 2-d), linear layers, batch norm, activations, pools, flatten, dropout, softmax, and sums, "
    "products and concatenations of their outputs"
)


def from_module(module: nn.Module, example: Tensor) -> Network:
    """Return a network that computes what `module` computes in evaluation mode, with copies of its weights.

    Args:
        module: Of one input and one output, [batch, classes]; its own mode and weights stay as they are.
        example: [batch, ...], float32: what it takes. Only its shape matters.

    Dropout of whole channels is read as dropout of values, a norm's momentum as torch's default, torchvision's
    stochastic depth as nothing: they differ in training alone. A linear layer within a gate is read as a 1x1
    convolution.

    Raises:
        UnreadableModel: it cannot be traced, or calls cannot be read; the error names each, or says why.
    """
    name = type(module).__name__
    if example.dtype != torch.float32 or example.dim() < 2:
        got = f"an example of {example.dtype}, shape {tuple(example.shape)}"
        raise UnreadableModel(name, got, "float32, [batch, channels, ...]")
    strange = next((key for key, value in module.named_parameters() if value.dtype != torch.float32), None)
    if strange:
        raise UnreadableModel(name, f"{strange} is not float32", "a module in float32; call float() on it first")
    with _evaluating(module), torch.no_grad():
        graph = _traced(module, name)
        # Two examples at least: of one alone, squeeze() would take the batch for a dimension to drop.
        several = example if len(example) > 1 else torch.cat([example, example])
        network = _network(name, Walk(module, graph, _values(module, name, graph, several)))
        _compare(module, network)
    return network


def _network(name: str, walk: Walk) -> Network:
    if walk.problems:
        raise UnreadableModel(name, f"cannot read {'; '.join(walk.problems)}", READABLE)
    try:
        arch = with_blocks(walk.architecture())
        state = {f"{label(arch, at)}.{key}": tensor.cpu().numpy() for (at, key), tensor in walk.tensors.items()}
        return with_state(arch, state)
    except SpecError as error:
        raise UnreadableModel(name, f"its layers do not fit each other as read ({error})", READABLE) from error


class _Tracer(fx.Tracer):
    """Takes for one call what is of torch.nn, and subclasses of what we read that leave `forward` alone."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return bool(kind_of_module(m)) or super().is_leaf_module(m, module_qualified_name)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Put the module in evaluation mode, and each of its parts back afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _traced(module: nn.Module, name: str) -> fx.Graph:
    parameters = list(inspect.signature(module.forward).parameters.values())
    fixed = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    taken = [str(p) for p in parameters if p.name not in fixed]
    if len(taken) != 1 or taken[0].startswith("*"):
        raise UnreadableModel(name, f"forward({', '.join(taken)})", "a forward that takes one tensor")
    try:
        return _Tracer().trace(module, concrete_args=fixed or None)
    except Exception as error:  # what a module's own forward raises may be anything
        got = f"torch.fx cannot trace it ({_first_line(error)})"
        raise UnreadableModel(name, got, "a forward that does the same whatever the values") from error


def _values(module: nn.Module, name: str, graph: fx.Graph, example: Tensor) -> dict[fx.Node, Any]:
    """Return what each node of the graph gives for the example."""
    values: dict[fx.Node, Any] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            values[n] = super().run_node(n)
            return values[n]

    try:
        device = next((value.device for value in module.parameters()), example.device)
        Recorder(fx.GraphModule(module, graph)).run(example.to(device))
    except Exception as error:
        got = f"it does not run on an example of shape {tuple(example.shape)} ({_first_line(error)})"
        raise UnreadableModel(name, got, "an example that it takes") from error
    return values


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:200]


def _compare(module: nn.Module, network: Network) -> None:
    """Raise where the network gives other outputs than the module: what was read was not all that it does."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, *network.arch.input, generator=draw)
    device = next((value.device for value in module.parameters()), x.device)
    expected, got = module(x.clone().to(device)).cpu(), network.eval()(x)
    network.train()
    if not torch.allclose(got, expected, rtol=CLOSE, atol=CLOSE * float(expected.abs().max()), equal_nan=True):
        far = float((got - expected).abs().max())
        raise UnreadableModel(
            type(module).__name__,
            f"read as layers, its outputs differ by {far:.2g}",
            "a module that its calls describe",
        )
