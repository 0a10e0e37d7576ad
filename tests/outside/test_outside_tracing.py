"""Networks as people write them, read as networks that compute the same; what is refused names its line."""

import inspect
import random
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from plait.models.inheritance import inherit
from plait.models.network import state_of, tensors, with_state
from plait.models.tracing import UnreadableModel, from_module
from plait.search.network_space import NetworkSpace
from plait.tests.settled_norms import settled
from torch import nn

HERE = Path(__file__).name


def same(module, *shape, names=True):
    """Read the module; require equal outputs for several batches, equal counts, and edits that run."""
    torch.manual_seed(0)
    settled(module).eval()
    network = from_module(module, torch.zeros(1, *shape)).eval()
    with torch.no_grad():
        for batch in (1, 2, 5):
            x = 3 * torch.randn(batch, *shape)
            torch.testing.assert_close(network(x), module(x.clone()), rtol=1e-4, atol=1e-5)
    assert network.arch.params == sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert network.arch.macs == counted(module, *shape)
    edited(network)
    return network.arch


def counted(module, *shape):
    """Return multiply-accumulates of convolutions and linear layers, counted where they run."""
    total = []

    def note(part, given, made):
        total.append(part.weight[0].numel() * made[0].numel())

    hooks = [
        part.register_forward_hook(note)
        for part in module.modules()
        if isinstance(part, (nn.Conv1d, nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        module(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    return sum(total)


def edited(network):
    """Require that dropping nothing changes nothing, and that networks drawn from this one run."""
    space = NetworkSpace(network.arch)
    whole = space.apply([True] * len(space.units), [1.0] * len(space.groups))
    state = state_of(network)
    again = with_state(whole, {name: state[name] for name in tensors(inherit(whole, network, "random", 0))}).eval()
    x = torch.randn(2, *network.arch.input)
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(again(x), expected, rtol=1e-4, atol=1e-5)
        rng = random.Random(0)
        for _ in range(6):
            student = inherit(space.draw(rng), network, rng.choice(["sorted", "slice", "random"]), 0).eval()
            made = student(x)
            assert made.shape == expected.shape
            assert made.isfinite().all()


class Checked(nn.Module):
    """Tests of shapes, as published code has them."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8 * 4 * 4, 5)

    def forward(self, x):
        assert isinstance(x, torch.Tensor)
        assert x.dim() == 4, f"four dimensions, not {x.shape}"
        assert x.shape[1] == 3
        if x.shape[-1] != x.shape[-2] or x.size(2) % 2:
            raise ValueError("square images of even size")
        n, _, h, w = x.shape
        x = F.relu(self.conv1(x))
        if h > 4:
            x = F.max_pool2d(x, kernel_size=2)
        for _ in range(int(w // 8) - 1):
            x = F.relu(self.conv2(x))
        b = len(x)
        return self.fc(x.view(n, -1) if b == n else x.reshape(b, -1))


@pytest.mark.row("F: tracing refusals, shape tests")
def test_tests_of_shapes_are_tests_of_numbers():
    arch = same(Checked(), 3, 16, 16)
    assert [layer.op for layer in arch.layers] == ["conv", "act", "max_pool", "conv", "act", "flatten", "linear"]


class Normalised(nn.Module):
    """Normalisation of raw pixels in the network itself, with buffers and plain numbers."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.register_buffer("mean", torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1))
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def normalised(self, x):
        if self.how == "buffers":
            return (x - self.mean) / self.std
        if self.how == "numbers":
            return x / 255.0 * 2 - 1
        if self.how == "flat":
            return x.sub(self.mean.flatten()[:, None, None]).div(self.std.flatten()[:, None, None])
        if self.how == "inverse":
            return 1 - torch.mul(x, 1 / 255)
        mean = torch.tensor([0.4, 0.5, 0.6], device=x.device, dtype=x.dtype)
        x = x.clone()
        x.sub_(mean.reshape(-1, 1, 1)).div_(0.25)
        return -x

    def forward(self, x):
        x = F.relu6(self.bn(self.conv(self.normalised(x))) + 3) / 6
        return self.fc(0.5 * x.mean([2, 3]))


@pytest.mark.row("F: tracing refusals, constants and buffers")
@pytest.mark.parametrize("how", ["buffers", "numbers", "flat", "inverse", "made in place"])
def test_constants_and_buffers_are_read(how):
    same(Normalised(how), 3, 8, 8)


class Split(nn.Module):
    """Branches on parts of the channels, cut in every way there is."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(3, 12, 3, padding=1)
        self.left, self.right = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(8, 6, 1)
        self.bn = nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        x = self.conv(x)
        if self.how == "split":
            left, right = torch.split(x, [4, 8], 1)
        elif self.how == "method":
            left, right = x.split((4, 8), dim=1)
        elif self.how == "chunk":
            left, *rest = x.chunk(3, dim=1)
            right = torch.cat(rest, 1)
        elif self.how == "index":
            left, right = x[:, :4], x[:, 4:, :, :]
        else:
            left, right = x.narrow(1, 0, 4), x.narrow(1, 4, 8)
        x = torch.cat([self.left(left), F.silu(self.right(right))], dim=1)
        return self.fc(F.adaptive_avg_pool2d(self.bn(x), 1).squeeze(-1).squeeze(-1))


@pytest.mark.row("F: tracing refusals, split and chunk")
@pytest.mark.parametrize("how", ["split", "method", "chunk", "index", "narrow"])
def test_splits_and_chunks_are_read(how):
    same(Split(how), 3, 8, 8)


class Shuffle(nn.Module):
    """ShuffleNet's unit: half of the channels go on as they are, then all are dealt in turn."""

    def __init__(self, ready):
        super().__init__()
        self.shuffle = nn.ChannelShuffle(2) if ready else self.dealt
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
                nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(4),
                nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
            )
            for _ in range(3)
        )  # fmt: skip
        self.fc = nn.Linear(8, 4)

    @staticmethod
    def dealt(x):
        n, c, h, w = x.size()
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)

    def forward(self, x):
        x = self.stem(x)
        for branch in self.branches:
            one, two = x.chunk(2, dim=1)
            x = self.shuffle(torch.cat((one, branch(two)), dim=1))
        return self.fc(x.mean([2, 3]))


@pytest.mark.row("F: tracing refusals, shuffle")
@pytest.mark.parametrize("ready", [False, True])
def test_channel_shuffles_are_read(ready):
    arch = same(Shuffle(ready), 3, 8, 8)
    assert sum(layer.op == "conv" for layer in arch.layers) == 10


class OptionA(nn.Module):
    """The shortcut of the first residual networks on small images: every second pixel, zeros for new channels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv1, self.bn1 = nn.Conv2d(4, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu(self.stem(x))
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        y += F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2), "constant", 0)
        x = F.relu(y)
        x = F.avg_pool2d(x, x.size()[3])
        return self.fc(x.view(x.size(0), -1))


@pytest.mark.row("F: tracing refusals, shape tests")
def test_shortcuts_of_every_second_pixel_and_zeros_are_read():
    same(OptionA(), 3, 8, 8)


class Functional(nn.Module):
    """Functions and methods for all that has no weights, with constants of their own."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6, affine=False)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.down, self.up = nn.Linear(6, 3), nn.Linear(3, 6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        x = F.leaky_relu(self.bn(self.conv(x)), 0.1)
        x = F.avg_pool2d(self.pool(x), 3, stride=2, padding=1, count_include_pad=False)
        x = x * torch.sigmoid(self.up(F.gelu(self.down(x.mean(3).mean(2)), approximate="tanh")))[:, :, None, None]
        x = F.dropout(F.elu(x, 0.5), 0.2, self.training)
        x = x - x.clamp(min=0) + x + F.mish(x)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


@pytest.mark.row("F: tracing refusals, constants and buffers")
def test_functions_with_constants_of_their_own_are_read():
    same(Functional(), 1, 14, 14)


class Foreign(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)
        self.gain = nn.Parameter(torch.ones(4, 1, 1))
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = self.norm(self.conv(x))
        x = x * self.gain
        x = F.layer_norm(x, x.shape[1:])
        if x.max() > 0:
            x = torch.cumsum(x, 1)
        return self.fc(x.mean((2, 3)))


@pytest.mark.row("F: tracing refusals, no layer named")
def test_a_refusal_names_the_line_of_every_call():
    with pytest.raises(UnreadableModel) as caught:
        from_module(Foreign(), torch.zeros(1, 3, 8, 8))
    line = str(caught.value)
    assert "\n" not in line
    lines, first = inspect.getsourcelines(Foreign.forward)
    wanted = {"norm (GroupNorm": 1, "mul (mul": 2, "layer_norm (layer_norm": 3, "bool (bool": 4, "cumsum (cumsum": 5}
    for name, at in wanted.items():
        assert re.search(rf"{HERE}:{first + at}: {re.escape(name)}", line), (name, line)
    assert "gain" in line
    assert len(lines) == 7
