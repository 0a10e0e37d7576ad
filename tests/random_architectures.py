"""Random networks for tests: chains with residual blocks, gates, concatenations, grouped and depthwise convolutions."""

from hypothesis import strategies as st
from plait.architectures import Architecture, Layer, ShapeError

ACTS = ("relu", "relu6", "gelu", "sigmoid", "leaky_relu", "tanh")
KINDS = ("conv", "strided", "valid", "grouped", "depthwise", "multiplied", "norm", "act", "act", "max_pool",
         "avg_pool", "dropout", "residual", "projected", "gate", "branches", "dense", "pair")  # fmt: skip


class Draft:
    """Layers so far and how many channels the last one makes."""

    def __init__(self, channels):
        self.layers, self.channels = [], channels

    @property
    def last(self):
        return len(self.layers) - 1

    def add(self, op, *inputs, **settings):
        name = f"{op}{len(self.layers)}"
        self.layers.append(Layer(op=op, name=name, inputs=inputs, **settings))
        self.channels = settings.get("out") or self.channels
        return self.last

    def conv(self, out, kernel=3, **settings):
        return self.add("conv", out=out, kernel=(kernel,), padding=(kernel // 2,), **settings)


def _plain(draft, kind, width, act):
    if kind in ("conv", "strided"):
        draft.conv(width, stride=(2,) if kind == "strided" else ())
    elif kind == "valid":
        draft.add("conv", out=width, kernel=(2,), bias=False)
    elif kind == "grouped":
        draft.conv(width * 2)
        draft.conv(width * 4, groups=width)
    elif kind == "depthwise":
        draft.conv(draft.channels if draft.channels > 1 else None, groups=draft.channels if draft.channels > 1 else 0)
    elif kind == "multiplied":
        draft.conv(width)
        if width > 1:
            draft.conv(width * 2, groups=width)
    elif kind == "act":
        draft.add("act", act=act)
    elif kind == "dropout":
        draft.add("dropout", rate=0.5 if width % 2 else 0.0)
    elif kind == "max_pool":
        draft.add("max_pool", kernel=(2,))
    elif kind == "avg_pool":
        draft.add("avg_pool", kernel=(2,))
    else:
        draft.add("norm", eps=0.5 if width % 2 else 1e-5)


def _joined(draft, kind, width, act):
    start, channels, block = draft.last, draft.channels, f"block{len(draft.layers)}"
    if kind in ("residual", "projected"):
        out = channels if kind == "residual" else width
        draft.conv(width, block=block)
        draft.add("act", act=act, block=block)
        draft.conv(out, block=block)
        branch = draft.add("norm", block=block)
        beside = start
        if kind == "projected":
            beside = draft.add("conv", start, out=out, block=block, shortcut=True)
        draft.add("add", branch, beside, block=block)
        draft.add("act", act=act, block=block)
    elif kind == "gate":
        draft.add("global_pool")
        draft.conv(width, kernel=1)
        draft.add("act")
        draft.conv(channels, kernel=1)
        draft.add("mul", start, draft.add("act", act="sigmoid"))
    else:
        draft.conv(width)
        if kind == "pair":  # a sum of a concatenation: parts that do not line up
            draft.add("cat", draft.last, draft.last)
            wide = draft.last
            draft.add("conv", start, out=2 * width)
            draft.add("add", wide, draft.last)
            draft.channels = 2 * width
            return
        first = draft.add("norm")
        if kind == "branches":
            draft.add("conv", start, out=width + 1)
            draft.add("cat", first, draft.last)
            draft.channels = 2 * width + 1
        else:
            draft.add("cat", start, first)
            draft.channels = channels + width


@st.composite
def architectures(draw):
    """Draw a network of up to eight parts on an image or a signal; every layer with weights is named."""
    shape = draw(st.sampled_from([(1, 16), (3, 16, 16), (2, 16, 12)]))
    draft = Draft(shape[0])
    draft.conv(draw(st.integers(1, 6)))
    for kind in draw(st.lists(st.sampled_from(KINDS), max_size=8)):
        width, act = draw(st.integers(1, 6)), draw(st.sampled_from(ACTS))
        before = len(draft.layers), draft.channels
        joined = kind in ("residual", "projected", "gate", "branches", "dense", "pair")
        (_joined if joined else _plain)(draft, kind, width, act)
        if not _runs(shape, draft.layers):  # too small an image by now
            del draft.layers[before[0] :]
            draft.channels = before[1]
    if draw(st.booleans()):
        draft.add("global_pool")
    draft.add("flatten")
    if draw(st.booleans()):
        draft.add("linear", out=5)
        draft.add("act")
    draft.add("linear", out=3)
    return Architecture(input=shape, layers=tuple(draft.layers))


def _runs(shape, layers):
    try:
        return bool(Architecture(input=shape, layers=tuple(layers)).shapes)
    except ShapeError:
        return False
