"""Modules written by hand are read as networks that compute the same; what cannot be read is named, all of it."""

import operator
import pickle
import random

import pytest
import torch
import torch.nn.functional as F
from plait.architecture_edits import cleaned
from plait.models.export_source import source_of
from plait.models.network import build, state_of, tensors, with_state
from plait.models.tracing import UnreadableModel, from_module
from plait.search.network_space import NetworkSpace
from plait.tests.settled_norms import settled
from torch import nn


def read(module, *shape):
    """Read the module, and require equal outputs on examples that reading did not see."""
    torch.manual_seed(0)
    example = torch.zeros(1, *shape)
    settled(module)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    network = from_module(module, example)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    x = torch.randn(5, *shape)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(x), module.eval()(x.clone()), rtol=1e-4, atol=1e-5)
    return network.arch


class Basic(nn.Module):
    """A residual block; the shortcut is a projection where shapes differ."""

    def __init__(self, inside, outside, stride, inplace=False):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace)
        self.shortcut = nn.Sequential()
        if stride > 1 or inside != outside:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.shortcut(x)
        return self.relu(y)


class Residual(nn.Module):
    def __init__(self, inplace=False):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.stage1 = nn.Sequential(Basic(8, 8, 1, inplace), Basic(8, 8, 1, inplace))
        self.stage2 = nn.Sequential(Basic(8, 12, 2, inplace))
        self.fc = nn.Linear(12, 10)

    def forward(self, x):
        x = self.stage2(self.stage1(F.relu(self.stem(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1))


@pytest.mark.parametrize("inplace", [False, True])
def test_a_residual_network_is_read_with_its_blocks(inplace):
    arch = read(Residual(inplace), 3, 16, 16)
    blocks = {layer.block for layer in arch.layers if layer.block}
    assert blocks == {"stage1.0", "stage1.1", "stage2.0"}
    shortcuts = [layer.name for layer in arch.layers if layer.shortcut]
    assert shortcuts == ["stage2.0.shortcut.0", "stage2.0.shortcut.1"]
    inside = [layer.name for layer in arch.layers if layer.block == "stage1.0"]
    assert inside == [f"stage1.0.{part}" for part in ("conv1", "bn1", "relu", "conv2", "bn2", "add", "relu:2")]
    assert arch.params == sum(p.numel() for p in Residual().parameters())


class PreActivation(nn.Module):
    """Norm and an in-place activation come first, and what the shortcut carries is changed by it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.conv1, self.conv2 = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        x = self.bn(self.stem(x))
        y = self.conv1(F.relu(x, inplace=True))
        x = x + self.conv2(torch.relu_(y))
        return self.fc(x.mean((2, 3)))


def test_what_works_in_place_changes_what_is_read_later():
    arch = read(PreActivation(), 3, 8, 8)
    assert [layer.name for layer in arch.layers if layer.block] == ["conv1", "relu:2", "conv2", "add"]


class Dense(nn.Module):
    """Concatenations of maps and of features."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(7, 5, 3, padding="same")
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.fc = nn.Linear(24, 4)

    def forward(self, x):
        x = torch.cat([x, self.conv1(x).relu()], 1)
        x = torch.cat((x, F.silu(self.conv2(x))), dim=-3)
        x = self.pool(x)
        wide, high = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        return self.fc(torch.cat([torch.flatten(wide, 1), high.flatten(1)], -1))


def test_concatenations_are_read():
    arch = read(Dense(), 3, 8, 8)
    assert [arch.shapes[at] for at, layer in enumerate(arch.layers) if layer.op == "cat"] == [
        (7, 8, 8), (12, 8, 8), (24,),
    ]  # fmt: skip


def test_depthwise_separable_and_grouped_convolutions_are_read():
    module = nn.Sequential(
        nn.Conv2d(4, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8, eps=1e-3), nn.ReLU6(inplace=True),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8, affine=False), nn.Hardswish(),
        nn.Conv2d(8, 12, 1), nn.Conv2d(12, 18, 3, groups=3), nn.GELU(), nn.Dropout2d(0.2), nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Dropout(0.5), nn.Linear(18, 5), nn.LogSoftmax(dim=-1),
    )  # fmt: skip
    arch = read(module, 4, 16, 16)
    convs = [layer for layer in arch.layers if layer.op == "conv"]
    assert [layer.groups for layer in convs] == [1, 0, 1, 3]
    assert [layer.rate for layer in arch.layers if layer.op == "dropout"] == [0.2, 0.5]
    assert arch.layers[1].eps == 1e-3
    assert [layer.name for layer in arch.layers] == [str(at) for at in range(len(module))]


class Squeeze(nn.Module):
    """Squeeze-and-excite in the ways it is written."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        linear = how != "conv"
        self.down = nn.Linear(8, 2) if linear else nn.Conv2d(8, 2, 1)
        self.up = nn.Linear(2, 8) if linear else nn.Conv2d(2, 8, 1)
        self.fc = nn.Linear(8, 4)

    def gate(self, x):
        return torch.sigmoid(self.up(F.relu(self.down(x))))

    def forward(self, x):
        x = self.conv(x)
        n, c, _, _ = x.size()
        if self.how == "view":
            x = x * self.gate(F.adaptive_avg_pool2d(x, 1).view(n, c)).view(n, c, 1, 1).expand_as(x)
        elif self.how == "mean":
            x = self.gate(x.mean(dim=(2, 3))).unsqueeze(-1).unsqueeze(-1) * x
        elif self.how == "index":
            x = x * self.gate(x.mean([-1, -2], keepdim=True).flatten(1))[:, :, None, None]
        else:
            x = x.mul(self.gate(F.adaptive_avg_pool2d(x, (1, 1))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


@pytest.mark.parametrize("how", ["view", "mean", "index", "conv"])
def test_squeeze_and_excite_is_read_however_it_is_written(how):
    arch = read(Squeeze(how), 3, 8, 8)
    assert [layer.op for layer in arch.layers] == [
        "conv", "global_pool", "conv", "act", "conv", "act", "mul", "global_pool", "flatten", "linear",
    ]  # fmt: skip
    assert arch.params == sum(p.numel() for p in Squeeze(how).parameters())


def test_networks_of_one_dimension_and_of_features_are_read():
    line = nn.Sequential(
        nn.Conv1d(1, 6, 5, 2, 2), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(6, 6, 3, groups=6),
        nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip
    plain = nn.Sequential(nn.Linear(7, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Identity(), nn.Linear(9, 3))
    assert read(line, 1, 40).input == (1, 40)
    assert [layer.op for layer in read(plain, 7).layers] == ["linear", "norm", "act", "linear"]


class Functional(nn.Module):
    """Weights used through functions; a switch with a default; sizes read from the tensor."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.weight = nn.Parameter(torch.randn(5, 4 * 4 * 4))

    def forward(self, x, extra=None, twice=False):
        x = F.conv2d(x, self.conv.weight, self.conv.bias, 1, [1, 1])
        bn = self.bn
        x = F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, self.training, 0.1, bn.eps)
        x = F.dropout(F.leaky_relu(x), 0.3, training=self.training)
        x = F.avg_pool2d(F.max_pool2d(x, 3, stride=2, padding=1), kernel_size=(2, 2))
        x = sum([x, torch.sigmoid(x)])
        if extra is not None:
            x = x + extra
        return F.linear(x.reshape(x.shape[0], -1), self.weight)


def test_functions_with_weights_are_read_and_switches_keep_their_defaults():
    arch = read(Functional(), 1, 16, 16)
    assert [layer.name for layer in arch.layers if layer.op in ("conv", "norm", "linear")] == ["conv", "bn", "weight"]


class Own(nn.Conv2d):
    """A subclass that changes nothing of what a convolution computes."""


def test_a_subclass_that_computes_the_same_is_read_as_what_it_is():
    module = nn.Sequential(Own(1, 3, 3), nn.Flatten(), nn.Linear(3 * 36, 2))
    assert read(module, 1, 8, 8).layers[0].op == "conv"


def test_a_pool_s_rounding_up_that_changes_nothing_is_read():
    assert read(nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(16, 2)), 1, 8, 8).classes == 2


def test_weights_keep_the_names_that_they_have_in_the_module():
    module = Residual()
    ours = state_of(from_module(module, torch.zeros(2, 3, 16, 16)))
    theirs = {name for name in module.state_dict() if not name.endswith("num_batches_tracked")}
    assert set(ours) == theirs


def test_modes_of_the_module_and_its_parts_stay_as_they_were():
    module = Residual()
    module.stage1.eval()
    from_module(module, torch.zeros(1, 3, 16, 16))
    assert module.training
    assert module.stem.training
    assert not module.stage1[0].bn1.training


class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 4, 2)
        self.norm = nn.GroupNorm(2, 4)
        self.dilated = nn.Conv2d(4, 4, 3, dilation=2)
        self.act = nn.PReLU()
        self.scale = nn.Parameter(torch.ones(1))
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = self.act(self.dilated(self.norm(self.up(x))))
        x = x * self.scale + 1
        left, right = x.chunk(2, 1)
        return self.fc(torch.cat([right.flip(2), left.cumsum(1)], 1).mean((2, 3)))


def test_all_that_cannot_be_read_is_named_in_one_line():
    with pytest.raises(UnreadableModel) as caught:
        from_module(Strange(), torch.zeros(1, 3, 8, 8))
    line = str(caught.value)
    assert "\n" not in line
    for part in (
        "up (ConvTranspose2d: no layer of this kind)", "norm (GroupNorm: no layer of this kind)",
        "dilated (Conv2d: dilation=(2, 2))", "act (PReLU: no layer of this kind)",
        "mul (mul: multiplies by scale, a trained parameter that no layer holds)", "cat (cat: reads what flip at ",
        "cumsum (cumsum: no layer of this kind)",
    ):  # fmt: skip
        assert part in line, part
    assert "fc" not in line
    assert line.count(" (") - line.count("convolutions (") == 7
    assert str(pickle.loads(pickle.dumps(caught.value))) == line


@torch.fx.wrap
def stochastic_depth(given, p, mode, training=True):
    """Stands for torchvision's, which is one call in a traced module."""
    assert not training
    return given


stochastic_depth.__module__ = "torchvision.ops.stochastic_depth"


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.out(x + stochastic_depth(F.relu(self.fc(x)), 0.2, "row", self.training))


def test_stochastic_depth_is_nothing_when_a_model_is_evaluated():
    arch = read(Dropping(), 6)
    assert [layer.op for layer in arch.layers] == ["linear", "act", "add", "linear"]
    assert [layer.block != "" for layer in arch.layers] == [True, True, True, False]


class AlwaysOn(nn.Module):
    def forward(self, x):
        return F.dropout(x.flatten(1), 0.5)


class Branching(nn.Module):
    def forward(self, x):
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


class Two(nn.Module):
    def forward(self, x, y):
        return x + y


class Tuple(nn.Module):
    def forward(self, x):
        return x.flatten(1), x


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(F.relu(self.fc(x)))


class Noisy(nn.Module):
    """Computes something that its calls do not show."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x) * random.random()


@pytest.mark.parametrize(
    ("module", "example", "line"),
    [
        (Branching(), torch.zeros(1, 3, 4, 4), "bool (bool: what follows depends on the values of the input)"),
        (Two(), torch.zeros(1, 4), "Two: forward(x, y); expected a forward that takes one tensor"),
        (Tuple(), torch.zeros(1, 3, 4, 4), "Tuple: cannot read output (tuple: not one tensor)"),
        (nn.Conv2d(3, 2, 1), torch.zeros(1, 3, 4, 4), "not one value a class"),
        (AlwaysOn(), torch.zeros(1, 4, 4), "dropout (dropout: on when the model is evaluated"),
        (Tied(), torch.zeros(1, 4), "fc (Linear: called a second time with the same weights)"),
        (Noisy(), torch.zeros(1, 4), "Noisy: read as layers, its outputs differ by "),
        (nn.Sequential(nn.Linear(5, 2)), torch.zeros(1, 4), "Sequential: it does not run on examples of shape "),
        (nn.Sequential(nn.Linear(4, 2)).double(), torch.zeros(1, 4), "0.weight is not float32"),
        (nn.Linear(4, 2), torch.zeros(1, 4, dtype=torch.int64), "Linear: an example of torch.int64"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten()), torch.zeros(1, 1, 4, 4), "does not divide"),
        (nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False)), torch.zeros(1, 4), "no running statistics"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)  # fmt: skip
def test_what_is_no_network_is_one_clear_line(module, example, line):
    with pytest.raises(UnreadableModel) as caught:
        from_module(module, example)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


class Parallel(nn.Module):
    """Two branches of one weight each are a sum and no residual block."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 5, padding=2)
        self.gate = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        x = operator.add(self.one(x), self.other(x))
        return (x * self.gate(x)).flatten(1)


def test_parallel_branches_are_no_residual_block():
    assert not any(layer.block for layer in read(Parallel(), 3, 4, 4).layers)


class Twice(nn.Module):
    """Sums and norms that a clean-up would take for what is left of something removed."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn1, self.bn2 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x):
        x = F.relu(self.bn2(self.bn1(self.conv(x))))
        x = x + x
        x = x + F.relu(x)
        return (F.hardswish(x) - 2 * x).mean((2, 3))


def test_the_clean_up_leaves_what_a_module_computes():
    module = settled(Twice())
    network = from_module(module, torch.zeros(1, 3, 6, 6)).eval()
    arch = cleaned(network.arch)
    assert sum(layer.op == "norm" for layer in arch.layers) == 2
    state, x = state_of(network), torch.randn(4, 3, 6, 6)
    again = with_state(arch, {name: state[name] for name in tensors(build(arch, 0))}).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(x), module.eval()(x))


class Aliased(nn.Module):
    """Changes a part of a tensor in place, and then reads the whole."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        x = self.fc(x)
        x[:, :2].mul_(3)
        return x + x.view(-1, 4).relu_()


class Written(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("last", torch.zeros(2, 4))

    def forward(self, x):
        self.last[: len(x)].copy_(x[:2])
        return x * self.last.sum()


class Fixed(nn.Module):
    """Takes batches of two alone."""

    def forward(self, x):
        return x.view(2, 12)


class Weighted(nn.Module):
    """Its weight is computed of two parameters."""

    def __init__(self):
        super().__init__()
        self.weight, self.gain = nn.Parameter(torch.ones(2, 4)), nn.Parameter(torch.ones(2, 1))

    def forward(self, x):
        return F.linear(x, self.weight * self.gain)


class Endless(nn.Module):
    def forward(self, x):
        return torch.relu(x) * 3e38 * 3e38


@pytest.mark.parametrize(
    ("module", "example", "line"),
    [
        (Aliased(), torch.zeros(1, 4), "changed in place under another name"),
        (Written(), torch.zeros(1, 4), "copy (copy: writes what depends on the input into a constant)"),
        (Fixed(), torch.zeros(1, 3, 2, 2), "it runs on two examples and not on 3"),
        (Weighted(), torch.zeros(1, 4), "linear (linear: its weight is computed from weight and gain)"),
        (Endless(), torch.zeros(1, 4), "outputs that are not finite on random inputs"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_a_run_alone_would_get_wrong_is_refused(module, example, line):
    with pytest.raises(UnreadableModel) as caught:
        from_module(module, example)
    assert line in str(caught.value)


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.fc.register_forward_hook(lambda module, given, made: made * 2)

    def forward(self, x):
        return self.fc(x)


def test_what_hooks_compute_is_read():
    assert [layer.op for layer in read(Hooked(), 4).layers] == ["linear", "scale"]


class DenselyJoined(nn.Module):
    """Each layer reads all before it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6 + 4 * at) for at in range(5))
        self.convs = nn.ModuleList(nn.Conv2d(6 + 4 * at, 4, 3, padding=1) for at in range(5))
        self.fc = nn.Linear(26, 3)

    def forward(self, x):
        parts = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            parts.append(conv(F.relu(norm(torch.cat(parts, 1)))))
        return self.fc(torch.cat(parts, 1).mean((2, 3)))


def test_a_layer_dropped_from_a_concatenation_adds_nothing_to_it():
    space = NetworkSpace(read(DenselyJoined(), 3, 8, 8))
    assert len(space.units) > 3
    for at in range(len(space.units)):
        keep = [other != at for other in range(len(space.units))]
        smaller = space.apply(keep, [1.0] * len(space.groups))
        assert smaller.params < space.teacher.params
        assert smaller.classes == 3


def test_constants_are_exported():
    module = nn.Sequential(Halves(), nn.MaxPool2d(3, 2, ceil_mode=True), nn.LeakyReLU(0.2), nn.Flatten())
    network = from_module(module, torch.zeros(1, 4, 6, 6)).eval()
    assert {"shift", "scale", "part", "shuffle", "pad"} <= {layer.op for layer in network.arch.layers}
    code = {"__file__": "model.py", "__name__": "model"}
    exec(source_of(network.arch), code)
    x = torch.randn(3, 4, 6, 6)
    assert torch.equal(code["Network"]().eval()(x), network(x))


class Halves(nn.Module):
    def forward(self, x):
        x = (x - torch.tensor([1.0, 2.0, 3.0, 4.0]).view(-1, 1, 1)) / 4
        one, other = F.channel_shuffle(x, 2).chunk(2, 1)
        return F.pad(torch.cat([one, F.gelu(other, approximate="tanh")], 1), (0, 1, 2, 0))
