"""A module as a network: run once and recorded, each call read as a layer, its weights copied.

    network = from_module(module, example)
    network.arch      # the architecture, layers named by their module's path

What is read: convolutions in one and two dimensions (grouped, depthwise), linear layers, batch norm, activations,
pools, flattening, dropout, softmax; sums, products (squeeze-and-excite gates) and concatenations between them;
constants that are added or multiplied, one or one a channel; splits, chunks, parts, shuffles and padding of channels;
as modules, functions or tensor methods. All that cannot be read is named in one error, with file and line.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import SpecError
from .network import Network, label, with_state
from .tracing_blocks import with_blocks
from .tracing_calls import is_whole
from .tracing_record import line_of, recorded
from .tracing_walk import Walk

CLOSE = 1e-4
"""How far the network's outputs may be from the module's, in units of what those vary by from example to example."""
NOISE = 5e-6
"""The same in units of the largest output: what float32 sums differ by."""


class UnreadableModel(SpecError):
    """A module cannot be read as a network: `where` its class, `got` what is wrong, `expected` what can be read."""

    def __str__(self) -> str:
        return f"{self.where}: {self.got}; expected {self.expected}"


READABLE = (
    "convolutions (1-d, 2-d), linear layers, batch norm, activations, pools, flatten, dropout, softmax, sums, "
    "products, concatenations and parts of their outputs, and constants"
)


def from_module(module: nn.Module, example: Tensor) -> Network:
    """Return a network that computes what `module` computes in evaluation mode, with copies of its weights.

    Args:
        module: Of one input and one output, [batch, classes]; its own mode and weights stay as they are.
        example: [batch, ...], float32: what it takes. Only its shape matters.

    Dropout of whole channels is read as dropout of values, a norm's momentum as torch's default, torchvision's
    stochastic depth as nothing: they differ in training alone. A linear layer within a gate is read as a 1x1
    convolution. Sizes are those of the example, and a test of sizes goes as it goes for them.

    Raises:
        UnreadableModel: it does not run, or calls cannot be read; the error names each with its file and line.
    """
    name = type(module).__name__
    if example.dtype != torch.float32 or example.dim() < 2:
        got = f"an example of {example.dtype}, shape {tuple(example.shape)}"
        raise UnreadableModel(name, got, "float32, [batch, channels, ...]")
    strange = next((key for key, value in module.named_parameters() if value.dtype != torch.float32), None)
    if strange:
        raise UnreadableModel(name, f"{strange} is not float32", "a module in float32; call float() on it first")
    _check_forward(module, name)
    with _evaluating(module), torch.no_grad():
        # Two examples: of one alone, squeeze() would take the batch for a dimension to drop.
        several = example[:2] if len(example) > 1 else torch.cat([example, example])
        device = next((value.device for value in module.parameters()), example.device)
        try:
            record = recorded(module, several.to(device, copy=True), is_whole)
        except Exception as error:  # what a module's own forward raises may be anything
            got = f"it does not run on examples of shape {tuple(several.shape)} ({_one_line(error)})"
            raise UnreadableModel(name, got, "an example that it takes") from error
        network = _network(name, Walk(record))
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


def _check_forward(module: nn.Module, name: str) -> None:
    try:
        parameters = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):  # compiled code tells no parameters
        return
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    rest = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if len(needed) > 1 or any(p.kind is p.KEYWORD_ONLY for p in needed) or not (needed or rest or parameters):
        got = f"forward({', '.join(map(str, needed))})"
        raise UnreadableModel(name, got, "a forward that takes one tensor")


def _one_line(error: Exception) -> str:
    line = line_of(error)
    return f"{f'{line}: ' if line else ''}{type(error).__name__}: {' '.join(str(error).split())}"


def _compare(module: nn.Module, network: Network) -> None:
    """Raise where the network gives other outputs than the module: what was read was not all that it does."""
    draw = torch.Generator().manual_seed(0)
    device = next((value.device for value in module.parameters()), torch.device("cpu"))
    name = type(module).__name__
    for batch in (3, 1):
        x = torch.randn(batch, *network.arch.input, generator=draw)
        try:
            expected = module(x.clone().to(device)).cpu()
        except Exception as error:
            got = f"it runs on two examples and not on {batch} ({_one_line(error)})"
            raise UnreadableModel(name, got, "a forward that takes any batch") from error
        got = network.eval()(x)
        network.train()
        if not expected.isfinite().all():
            raise UnreadableModel(name, "outputs that are not finite on random inputs", "numbers to compare with")
        # Of outputs that hardly depend on the input, what they vary by counts.
        varying = float((expected - expected.mean(0)).abs().max()) if batch > 1 else float(expected.abs().max())
        close = max(CLOSE * varying, NOISE * float(expected.abs().max()))
        if got.shape != expected.shape or not torch.allclose(got, expected, rtol=0, atol=close):
            far = float((got - expected).abs().max()) if got.shape == expected.shape else float("nan")
            raise UnreadableModel(
                name, f"read as layers, its outputs differ by {far:.2g}", "a module that its calls describe"
            )
