"""The `model.py` of an export: an architecture as a plain torch module, with a reader of its weights, as text."""

import json
from keyword import iskeyword

from torch import nn

from ..architectures import ARRANGED, WEIGHTED, Architecture, Layer

CALLS = {
    "relu": "F.relu", "relu6": "F.relu6", "gelu": "F.gelu", "silu": "F.silu", "sigmoid": "torch.sigmoid",
    "tanh": "torch.tanh", "hardswish": "F.hardswish", "hardsigmoid": "F.hardsigmoid", "leaky_relu": "F.leaky_relu",
    "elu": "F.elu", "selu": "F.selu", "softplus": "F.softplus",
}  # fmt: skip
"""What an activation is called as, in the generated code."""

TEMPLATE = '''"""A network for examples of shape {shape}, {classes} outputs; it needs torch alone.

    from model import load
    model = load()                        # in evaluation mode, its weights read from model.safetensors
    outputs = model(prepared(examples))   # [batch, {classes}] of [batch, {sizes}]
"""

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

HERE = Path(__file__).resolve().parent
ARCHITECTURE = "{hash}"
# Each layer's name in model.safetensors.
LAYERS = {names}


class Network(nn.Module):
    def __init__(self):
        super().__init__()
{modules}

    def forward(self, x):
{calls}


def prepared(examples):
    """Return raw examples, as they lay in the data, as the network was trained on them: [batch, {sizes}], float32.

    config.json says what is done: its `preparation` (layout, scale, size, normalisation), or `normalisation` alone.
    Takes a tensor or an array, a row an example. ValueError where they are of another shape, or on another scale.
    """
    config = json.loads((HERE / "config.json").read_text())
    about, how = config.get("normalisation"), config.get("preparation")
    x = examples if isinstance(examples, torch.Tensor) else torch.tensor(examples)
    if how:
        x = resized(laid_out(scaled(x, how), how), how)
    if not about:
        return x
    mean, std = (
        torch.tensor(about[name], device=x.device).reshape(1, -1, *[1] * (x.dim() - 2)) for name in ("mean", "std")
    )
    return (x - mean) / std


def scaled(x, how):
    """Return numbers divided as in training: bytes where those were bytes, or what is on their scale already."""
    if how["bytes"] and x.dtype == torch.uint8:
        return x.float() / how["scale"]
    if not x.is_floating_point():
        expected = "uint8" if how["bytes"] else "floating-point numbers"
        raise ValueError(f"examples are {{x.dtype}}, expected {{expected}}")
    x = x.float()
    if not torch.isfinite(x).all():
        raise ValueError("examples hold NaN or infinity, expected finite numbers")
    if not how["bytes"]:
        return x / how["scale"]
    most = 255 / how["scale"]
    if x.numel() and (x.min() < 0 or x.max() > most):
        found = f"{{x.min():g}} to {{x.max():g}}"
        raise ValueError(f"examples reach from {{found}}, expected bytes (uint8), or 0 to {{most:g}}")
    return x


def laid_out(x, how):
    """Return [batch, channels, ...] of examples as they lay in the data, or of the other layout where that is clear."""
    raw, layout, shape = tuple(how["shape"]), how["layout"], tuple(x.shape[1:])
    moved = (*raw[-1:], *raw[:-1])
    first = {{"no_channels": (1, *raw), "channels_first": raw, "channels_last": moved, "features": raw}}[layout]
    if shape == raw and layout == "no_channels":
        return x[:, None]
    if shape == raw and layout == "channels_last":
        return x.movedim(-1, 1)
    if shape == first:
        return x
    if shape == (*first[1:], first[0]):
        return x.movedim(-1, 1)
    raise ValueError(f"examples of shape {{shape}}, expected {{raw}} ({{layout}}), as in training")


def resized(x, how):
    """Return images averaged over equal windows."""
    if how["size"] is None:
        return x
    side = how["size"]
    return x.reshape(*x.shape[:2], side, x.shape[2] // side, side, x.shape[3] // side).mean((3, 5))


def read_weights(path):
    """Return the tensors of a safetensors file of float32, and its metadata."""
    data = bytearray(Path(path).read_bytes())
    try:
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        about = header.pop("__metadata__", {{}})
        tensors = {{}}
        for name, entry in header.items():
            (first, last), shape = entry["data_offsets"], entry["shape"]
            if entry["dtype"] != "F32" or len(data) < start + last:
                raise ValueError(name)
            tensors[name] = torch.frombuffer(data, dtype=torch.float32, count=(last - first) // 4, offset=start + first)
            tensors[name] = tensors[name].reshape(shape).clone()
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{{path}}: not a whole safetensors file of float32 ({{error}})") from error
    return tensors, about


def load(folder=HERE):
    """Return the network with its weights, in evaluation mode; ValueError where files do not belong together."""
    config = json.loads((Path(folder) / "config.json").read_text())
    path = Path(folder) / "model.safetensors"
    tensors, about = read_weights(path)
    for place, found in (("config.json", config.get("hash")), (path.name, about.get("architecture", ARCHITECTURE))):
        if found != ARCHITECTURE:
            raise ValueError(f"{{place}}: architecture {{found}}, expected {{ARCHITECTURE}}, that of model.py")
    model = Network()
    wanted = {{}}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        layer, _, own = name.rpartition(".")
        if own != "num_batches_tracked":
            wanted[f"{{LAYERS[layer]}}.{{own}}"] = tensor
    for name in sorted(wanted.keys() | tensors.keys()):
        shapes = [tuple(side[name].shape) if name in side else None for side in (tensors, wanted)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{{path}}: {{name}} has shape {{shapes[0]}}, expected {{shapes[1]}}")
        wanted[name].data.copy_(tensors[name])
    return model.eval()


if __name__ == "__main__":
    try:
        network = load()
    except (OSError, ValueError) as error:
        sys.exit(f"model.py: {{error}}")
    with torch.no_grad():
        print(tuple(network(torch.zeros(1, {sizes})).shape))
'''


def source_of(arch: Architecture) -> str:
    """Return the text of `model.py`: layers as attributes, the forward pass one line a layer."""
    names = _attributes(arch)
    return TEMPLATE.format(
        shape=tuple(arch.input), sizes=", ".join(map(str, arch.input)), classes=arch.classes, hash=arch.hash,
        names=json.dumps({attribute: arch.layers[at].name or f"#{at}" for at, attribute in names.items()}, indent=4),
        modules="\n".join(f"        self.{name} = {_module(arch, at)}" for at, name in names.items()) or "        pass",
        calls="\n".join(f"        {line}" for line in _calls(arch, names)),
    )  # fmt: skip


def _attributes(arch: Architecture) -> dict[int, str]:
    """Return a Python name for each layer with weights: its own with `_` for dots, where a module has none of that."""
    names: dict[int, str] = {}
    for at, layer in enumerate(arch.layers):
        if layer.op in WEIGHTED:
            plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in layer.name)
            taken = plain in names.values() or hasattr(nn.Module(), plain) or iskeyword(plain)
            names[at] = plain if plain.isidentifier() and not taken else f"{layer.op}{at}_{plain}".rstrip("_")
    return names


def _module(arch: Architecture, at: int) -> str:
    layer, given, made = arch.layers[at], arch.arriving(at), arch.shapes[at]
    dims = len(given) - 1
    if layer.op == "norm":
        said = ("" if layer.eps == 1e-5 else f", eps={layer.eps!r}") + ("" if layer.affine else ", affine=False")
        return f"nn.BatchNorm{max(dims, 1)}d({given[0]}{said})"
    if layer.op == "linear":
        return f"nn.Linear({given[0]}, {made[0]}, bias={layer.bias})"
    kernel, stride, padding = layer.spread(dims)
    groups = layer.groups or given[0]
    options = {"stride": stride, "padding": padding, "groups": groups, "bias": layer.bias}
    plain = {"stride": (1,) * dims, "padding": (0,) * dims, "groups": 1, "bias": True}
    said = "".join(f", {name}={value}" for name, value in options.items() if value != plain[name])
    return f"nn.Conv{dims}d({given[0]}, {made[0]}, {kernel}{said})"


def _calls(arch: Architecture, names: dict[int, str]) -> list[str]:
    """Return the forward pass, a variable for each value that is still needed."""
    last = {source: at for at, sources in enumerate(arch.sources) for source in sources}
    held, free, made, lines = {-1: "x"}, list[str](), 1, list[str]()
    for at, (layer, sources) in enumerate(zip(arch.layers, arch.sources, strict=True)):
        given = [held[source] for source in sources]
        free += [held.pop(source) for source in dict.fromkeys(sources) if last[source] == at]
        if free:
            free.sort()
            held[at] = free.pop(0)
        else:
            held[at], made = f"x{made}", made + 1
        call = f"self.{names[at]}({given[0]})" if at in names else _call(layer, len(arch.arriving(at)) - 1, given)
        lines.append(f"{held[at]} = {call}")
    return [*lines, f"return {held[len(arch.layers) - 1]}"]


def _call(layer: Layer, dims: int, given: list[str]) -> str:
    """Return the call of a layer without weights: the one that `models/network.py` makes, so that bits are the same."""
    x = given[0]
    if layer.op in ("max_pool", "avg_pool"):
        kernel, stride, padding = layer.spread(dims)
        options = ", ceil_mode=True" if layer.ceil else ""
        options += "" if layer.count_padding else ", count_include_pad=False"
        return f"F.{layer.op}{dims}d({x}, {kernel}, {stride}, {padding}{options})" if dims else x
    if layer.op == "act":
        if layer.act == "gelu_tanh":
            return f'F.gelu({x}, approximate="tanh")'
        return f"{CALLS[layer.act]}({x}{'' if layer.alpha is None else f', {layer.alpha!r}'})"
    if layer.op in ARRANGED:
        return _arranged(layer, dims, x)
    if layer.op == "global_pool":
        return f"F.adaptive_avg_pool{dims}d({x}, 1)" if dims else x
    if layer.op in ("add", "mul"):
        return (" + " if layer.op == "add" else " * ").join(given)
    return {
        "flatten": f"{x}.flatten(1)", "softmax": f"F.softmax({x}, 1)",
        "dropout": f"F.dropout({x}, {layer.rate!r}, self.training)", "log_softmax": f"F.log_softmax({x}, 1)",
        "cat": f"torch.cat(({', '.join(given)}), 1)",
    }[layer.op]  # fmt: skip


def _arranged(layer: Layer, dims: int, x: str) -> str:
    """Return the call of a layer that has constants, or arranges channels or pads."""
    if layer.op == "part":
        return f"{x}[:, {layer.start}:{layer.start + (layer.out or 0)}]"
    if layer.op == "shuffle":
        return f"{x}.unflatten(1, ({layer.groups}, -1)).transpose(1, 2).flatten(1, 2)"
    if layer.op == "pad":
        pairs = [layer.sides[at : at + 2] for at in range(0, len(layer.sides), 2)]
        return f"F.pad({x}, {[side for pair in reversed(pairs) for side in pair]})"
    constants = f"{layer.values[0]!r}"
    if len(layer.values) > 1:
        shape = ", ".join(map(str, (1, -1, *(1,) * dims)))
        constants = f"{x}.new_tensor({list(layer.values)}).reshape({shape})"
    return f"{x} {'+' if layer.op == 'shift' else '*'} {constants}"
