"""Hand-designed networks as architectures: teachers, and shapes that searches are compared with. Builds no module."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..architectures import Act, Architecture, Layer, Op, Shape
from ..errors import SpecError

POOL = "M"
"""Marks a halving of the image in the widths of a VGG."""

VGGS: dict[str, tuple[int | str, ...]] = {
    "vgg11": (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL),
    "vgg13": (64, 64, POOL, 128, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL),
    "vgg16": (64, 64, POOL, 128, 128, POOL, *3 * (256,), POOL, *3 * (512,), POOL, *3 * (512,), POOL),
    "vgg19": (64, 64, POOL, 128, 128, POOL, *4 * (256,), POOL, *4 * (512,), POOL, *4 * (512,), POOL),
}
"""Channels of each 3x3 convolution (Simonyan and Zisserman, arXiv 1409.1556, table 1)."""

RESNETS: dict[str, tuple[tuple[int, ...], int, bool]] = {
    **{f"resnet{6 * n + 2}": ((n, n, n), 16, False) for n in (1, 2, 3, 5, 7, 9)},
    "resnet18": ((2, 2, 2, 2), 64, False),
    "resnet34": ((3, 4, 6, 3), 64, False),
    "resnet50": ((3, 4, 6, 3), 64, True),
    "resnet101": ((3, 4, 23, 3), 64, True),
    "resnet152": ((3, 8, 36, 3), 64, True),
}
"""Blocks a stage, channels of the first, whether bottlenecks (He et al., arXiv 1512.03385, table 1, section 4.2)."""


@dataclass
class _Sketch:
    """Layers so far. `add` appends one and returns its index."""

    layers: list[Layer] = field(default_factory=list)
    block: str = ""

    def add(self, op: Op, name: str, *inputs: int, shortcut: bool = False, **settings: Any) -> int:
        at = len(self.layers)
        sources = () if inputs == (at - 1,) else inputs
        layer = Layer(op=op, name=name, inputs=sources, block=self.block, shortcut=shortcut, **settings)
        self.layers.append(layer)
        return at

    def conv_norm(self, name: str, number: str, *inputs: int, shortcut: bool = False, **settings: Any) -> int:
        """Add a 3x3 convolution (or another) that keeps the size at stride 1, and its batch norm."""
        kernel = settings.setdefault("kernel", (3,))
        padding = () if kernel == (1,) else (kernel[0] // 2,)
        settings = {"padding": padding, "bias": False, **settings}
        self.add("conv", f"{name}conv{number}", *inputs, shortcut=shortcut, **settings)
        return self.add("norm", f"{name}norm{number}", shortcut=shortcut)

    def head(self, classes: int) -> None:
        """Average every channel over the image, and read the classes off."""
        self.add("global_pool", "pool")
        self.add("flatten", "flatten")
        self.add("linear", "linear", out=classes)

    def finished(self, shape: Shape) -> Architecture:
        net = Architecture(input=shape, layers=tuple(self.layers))
        assert net.shapes  # a shape that does not fit is told here, where the user named the network
        return net


def vgg(
    shape: Shape, classes: int, widths: str | Sequence[int | str] = "vgg13", width: int = 64, act: Act = "relu"
) -> Architecture:
    """Return 3x3 convolutions, each with batch norm and `act`, and one linear layer after a global average.

    Convolutions have no bias: the norm after them has one. A max pool that the image is too small for is left out,
    so that VGG-13 takes MNIST's 28x28 and the 8x8 digits.

    Args:
        shape: Of one example: channels and one or two spatial dimensions.
        classes: Outputs.
        widths: A name in `VGGS`, or channels a convolution with `POOL` where the image is halved.
        width: Channels of what has 64; the others in proportion, one at least.
        act: Non-linearity.
    """
    plan = VGGS[widths] if isinstance(widths, str) else tuple(widths)
    sketch, sizes, stage, number = _Sketch(), shape[1:], 1, 1
    for entry in plan:
        if isinstance(entry, str):
            if min(sizes, default=0) >= 2:
                sketch.add("max_pool", f"stage{stage}.pool", kernel=(2,))
                sizes = tuple(size // 2 for size in sizes)
            stage, number = stage + 1, 1
            continue
        sketch.conv_norm(f"stage{stage}.", str(number), out=max(1, entry * width // 64))
        sketch.add("act", f"stage{stage}.act{number}", act=act)
        number += 1
    sketch.head(classes)
    return sketch.finished(shape)


def convnet(shape: Shape, classes: int, width: int = 32) -> Architecture:
    """Return four 3x3 convolutions (w, w, half the size, 2w, 2w) with batch norm: a small net for small images."""
    return vgg(shape, classes, widths=(width, width, POOL, 2 * width, 2 * width, POOL))


def resnet(
    shape: Shape, classes: int, blocks: Sequence[int] = (2, 2, 2, 2), width: int = 64, bottleneck: bool = False
) -> Architecture:
    """Return a residual network for small images: a 3x3 stem at stride 1, stages that halve the image and double width.

    Where a block changes size or channels its shortcut is a strided 1x1 convolution with batch norm.

    Args:
        shape: Of one example: channels and one or two spatial dimensions.
        classes: Outputs.
        blocks: Residual blocks of each stage.
        width: Channels of the first stage.
        bottleneck: 1x1, 3x3, 1x1 with four times the channels out, in place of two 3x3.

    Source: He et al., arXiv 1512.03385; the stem and the projections as in N2N's teachers (arXiv 1709.06030).
    """
    sketch, channels = _Sketch(), width
    sketch.conv_norm("", "1", out=width)
    sketch.add("act", "act1")
    for stage, count in enumerate(blocks):
        inner = width * 2**stage
        for number in range(count):
            sketch.block = f"layer{stage + 1}.{number}"
            stride = 2 if stage and not number else 1
            _residual(sketch, channels, inner, stride, bottleneck)
            channels = inner * (4 if bottleneck else 1)
    sketch.block = ""
    sketch.head(classes)
    return sketch.finished(shape)


def _residual(sketch: _Sketch, channels: int, inner: int, stride: int, bottleneck: bool) -> None:
    """Add one block; `channels` arrive."""
    start, name, strides = len(sketch.layers) - 1, f"{sketch.block}.", (stride,) if stride > 1 else ()
    out = inner * 4 if bottleneck else inner
    if bottleneck:
        sketch.conv_norm(name, "1", out=inner, kernel=(1,))
        sketch.add("act", f"{name}act1")
        sketch.conv_norm(name, "2", out=inner, stride=strides)
        sketch.add("act", f"{name}act2")
        branch = sketch.conv_norm(name, "3", out=out, kernel=(1,))
    else:
        sketch.conv_norm(name, "1", out=inner, stride=strides)
        sketch.add("act", f"{name}act1")
        branch = sketch.conv_norm(name, "2", out=out)
    beside = start
    if stride > 1 or channels != out:
        beside = sketch.conv_norm(f"{name}shortcut.", "", start, out=out, kernel=(1,), stride=strides, shortcut=True)
    sketch.add("add", f"{name}add", branch, beside)
    sketch.add("act", f"{name}act{3 if bottleneck else 2}")


def lenet(shape: Shape, classes: int) -> Architecture:
    """Return LeNet as N2N's scripts have it: two 5x5 convolutions (6, 16), ReLU, max pools, 120 and 84 features.

    Source: LeCun et al., Proc. IEEE 1998, with ReLU and max pools in place of its sigmoids and subsampling.
    """
    sketch = _Sketch()
    for number, out in (("1", 6), ("2", 16)):
        sketch.add("conv", f"conv{number}", out=out, kernel=(5,))
        sketch.add("act", f"act{number}")
        sketch.add("max_pool", f"pool{number}", kernel=(2,))
    _dense(sketch, (120, 84), classes)
    return sketch.finished(shape)


def convnet1d(shape: Shape, classes: int, width: int = 25) -> Architecture:
    """Return three strided convolutions of `width` channels (kernels 5, 3, 3) and a linear layer.

    With 25 channels it is the reference CNN of MNIST-1D (Greydanus and Kobak, arXiv 2011.14439): 5,210 parameters on
    signals of 40 numbers.
    """
    sketch = _Sketch()
    for number, kernel in (("1", 5), ("2", 3), ("3", 3)):
        sketch.add("conv", f"conv{number}", out=width, kernel=(kernel,), stride=(2,), padding=(1,))
        sketch.add("act", f"act{number}")
    _dense(sketch, (), classes)
    return sketch.finished(shape)


def mlp(shape: Shape, classes: int, widths: Sequence[int] = (128, 64)) -> Architecture:
    """Return linear layers with ReLU between them, on the flattened example."""
    sketch = _Sketch()
    _dense(sketch, widths, classes)
    return sketch.finished(shape)


def _dense(sketch: _Sketch, widths: Sequence[int], classes: int) -> None:
    sketch.add("flatten", "flatten")
    for number, width in enumerate(widths, 1):
        sketch.add("linear", f"linear{number}", out=width)
        sketch.add("act", f"linear{number}.act")
    sketch.add("linear", "linear", out=classes)


_BUILDERS: dict[str, tuple[Callable[..., Architecture], dict[str, Any], str]] = {
    **{name: (vgg, {"widths": name}, "width") for name in VGGS},
    **{
        name: (resnet, {"blocks": blocks, "width": width, "bottleneck": deep}, "width")
        for name, (blocks, width, deep) in RESNETS.items()
    },
    "cnn": (convnet, {}, "width"),
    "cnn1d": (convnet1d, {}, "width"),
    "lenet": (lenet, {}, ""),
    "mlp": (mlp, {}, "widths"),
}
"""Name -> builder, its settings, and the one setting that may follow the name."""

NAMES = tuple(sorted(_BUILDERS, key=lambda name: (name.rstrip("0123456789"), int(re.sub(r"\D", "", name) or 0))))


def named(text: str, shape: Shape, classes: int) -> Architecture:
    """Return the network that `text` names: `resnet18`, `vgg13:width=16`, `cnn1d:width=25`, `mlp:128-64`.

    Raises:
        SpecError: there is none of this name, or its setting is none.
        ShapeError: it does not run on examples of `shape`.

    >>> named("resnet18:width=8", (3, 32, 32), 10).params
    176402
    """
    if classes < 1:
        raise SpecError("classes", classes, "1 or more")
    name, colon, rest = text.partition(":")
    if name not in _BUILDERS:
        raise SpecError("network", text, f"one of {', '.join(NAMES)}")
    builder, settings, setting = _BUILDERS[name]
    if not colon:
        return builder(shape, classes, **settings)
    if setting == "width" and (match := re.fullmatch(r"width=([1-9][0-9]{0,4})", rest)):
        return builder(shape, classes, **{**settings, "width": int(match[1])})
    if setting == "widths" and re.fullmatch(r"[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})*", rest):
        return builder(shape, classes, widths=tuple(map(int, rest.split("-"))))
    form = {"": "no setting", "width": f"{name}:width=16", "widths": f"{name}:128-64"}[setting]
    raise SpecError("network", text, f"{form} after {name}" if not setting else f"a form such as {form}")
