"""A network computes what its architecture says, begins alike for equal seeds, and refuses weights of another."""

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plait.architecture_edits import cleaned
from plait.architectures import Architecture, Layer, ShapeError
from plait.errors import SpecError
from plait.models.network import build, state_of, tensors, with_state
from torch import nn

SEQUENCE = Architecture(
    input=(1, 8, 8),
    layers=(
        Layer(op="conv", name="conv1", out=4, kernel=(3,), padding=(1,)), Layer(op="norm", name="norm1"),
        Layer(op="act"), Layer(op="max_pool", kernel=(2,)), Layer(op="flatten"),
        Layer(op="linear", name="fc", out=10),
    ),
)  # fmt: skip
GATED = Architecture(
    input=(4, 12),
    layers=(
        Layer(op="conv", name="wide", out=6, kernel=(3,), padding=(1,), bias=False),
        Layer(op="global_pool"), Layer(op="act", act="sigmoid"), Layer(op="mul", inputs=(0, 2)),
        Layer(op="conv", name="deep", groups=0, kernel=(3,), padding=(1,)), Layer(op="add", inputs=(3, 4)),
        Layer(op="avg_pool", kernel=(3,), stride=(2,), padding=(1,)), Layer(op="cat", inputs=(6, 6)),
        Layer(op="flatten"), Layer(op="dropout", rate=0.5), Layer(op="linear", out=3), Layer(op="log_softmax"),
    ),
)  # fmt: skip
PLAIN = Architecture(
    input=(5,), layers=(Layer(op="linear", out=7), Layer(op="norm"), Layer(op="act"), Layer(op="linear", out=2))
)


def images(arch, n=3):
    return torch.randn(n, *arch.input, generator=torch.Generator().manual_seed(0))


def test_a_sequence_computes_what_torch_layers_compute():
    network = build(SEQUENCE, 0).eval()
    state = {name: torch.from_numpy(array) for name, array in state_of(network).items()}
    x = images(SEQUENCE)
    y = F.conv2d(x, state["conv1.weight"], state["conv1.bias"], padding=1)
    y = F.batch_norm(y, state["norm1.running_mean"], state["norm1.running_var"], state["norm1.weight"],
                     state["norm1.bias"])  # fmt: skip
    y = F.linear(F.max_pool2d(F.relu(y), 2).flatten(1), state["fc.weight"], state["fc.bias"])
    assert torch.equal(network(x), y)


def test_gates_depthwise_sums_and_concatenations_compute_what_they_say():
    network = build(GATED, 1).eval()
    state = {name: torch.from_numpy(array) for name, array in state_of(network).items()}
    x = images(GATED)
    wide = F.conv1d(x, state["wide.weight"], padding=1)
    gated = wide * torch.sigmoid(F.adaptive_avg_pool1d(wide, 1))
    y = gated + F.conv1d(gated, state["deep.weight"], state["deep.bias"], padding=1, groups=6)
    y = F.avg_pool1d(y, 3, 2, 1)
    y = torch.cat([y, y], 1).flatten(1)
    y = F.log_softmax(F.linear(y, state["#10.weight"], state["#10.bias"]), 1)
    assert torch.equal(network(x), y)


@pytest.mark.parametrize("arch", [SEQUENCE, GATED, PLAIN], ids=["2d", "1d", "0d"])
def test_shapes_and_parameters_are_the_architecture_s(arch):
    network = build(arch, 0)
    assert network(images(arch)).shape == (3, arch.classes)
    assert sum(parameter.numel() for parameter in network.parameters()) == arch.params


def test_equal_seeds_begin_alike_and_torch_s_generator_is_not_touched():
    before = torch.get_rng_state()
    first, again, other = (state_of(build(GATED, seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)


def test_a_layer_begins_alike_in_networks_that_differ_elsewhere():
    deeper = SEQUENCE.model_copy(update={"layers": (SEQUENCE.layers[0], Layer(op="act"), *SEQUENCE.layers[1:])})
    ours, theirs = state_of(build(SEQUENCE, 3)), state_of(build(deeper, 3))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_fresh_weights_have_the_spread_of_torch_s():
    arch = Architecture(input=(64, 4, 4), layers=(Layer(op="conv", name="c", out=128, kernel=(3,)),))
    ours = state_of(build(arch, 0))
    torch.manual_seed(0)
    theirs = nn.Conv2d(64, 128, 3)
    for name in ("weight", "bias"):
        expected = theirs.get_parameter(name).detach()
        assert np.abs(ours[f"c.{name}"]).max() == pytest.approx(float(expected.abs().max()), rel=0.05)
        assert ours[f"c.{name}"].std() == pytest.approx(float(expected.std()), rel=0.15)


def test_state_goes_out_and_comes_back():
    network = build(GATED, 0)
    state = state_of(network)
    back = with_state(GATED, state)
    x = images(GATED)
    assert torch.equal(network.eval()(x), back.eval()(x))
    back.layer(0).get_parameter("weight").data.zero_()
    assert state["wide.weight"].any()  # copies


def test_read_only_weights_are_taken():
    state = state_of(build(PLAIN, 0))
    for array in state.values():
        array.setflags(write=False)
    assert with_state(PLAIN, state)(images(PLAIN)).shape == (3, 2)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda s: s.pop("fc.bias"), "weights: fc.bias: got None, expected shape (10,)"),
        (lambda s: s.update(extra=np.zeros(3)), "weights: extra: got (3,), expected no such tensor"),
        (
            lambda s: s.update({"fc.weight": np.zeros((10, 63))}),
            "weights: fc.weight: got (10, 63), expected shape (10, 64)",
        ),
    ],
    ids=["missing", "unknown", "shape"],
)
def test_weights_of_another_network_are_one_clear_line(change, line):
    state = state_of(build(SEQUENCE, 0))
    change(state)
    with pytest.raises(SpecError) as caught:
        with_state(SEQUENCE, state)
    assert str(caught.value) == line


def test_a_network_is_copied_and_pickled_whole():
    network = build(GATED, 0).eval()
    x = images(GATED)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(network(x), other(x))
        other.layer(0).get_parameter("weight").data.zero_()
        assert not torch.equal(network(x), other(x))


def test_an_image_too_small_is_told_before_anything_runs():
    small = SEQUENCE.model_copy(update={"input": (1, 1, 1)})
    with pytest.raises(ShapeError, match="too small"):
        build(small, 0)


def test_padding_beyond_half_a_pool_s_kernel_is_told_when_built():
    arch = Architecture(input=(1, 8, 8), layers=(Layer(op="max_pool", kernel=(2,), padding=(2,)),))
    with pytest.raises(ShapeError, match="half the kernel"):
        build(arch, 0)


def test_weights_are_named_in_the_order_of_the_layers():
    assert list(tensors(build(PLAIN, 0))) == [
        "#0.weight", "#0.bias", "#1.weight", "#1.bias", "#1.running_mean", "#1.running_var", "#3.weight", "#3.bias",
    ]  # fmt: skip


def test_a_norm_adds_the_eps_that_it_was_given_and_keeps_it_through_a_clean_up():
    arch = Architecture(input=(3, 4), layers=(Layer(op="conv", out=2), Layer(op="norm", name="n", eps=0.5)))
    assert build(arch, 0).layer(1).eps == 0.5
    assert cleaned(arch).layers[1].eps == 0.5


NARROW_STEPS = """
import torch
from plait.architectures import Architecture
from plait.models.network import build

torch.set_num_threads(1)
network = build(Architecture.parse(ARCH), 0).to(memory_format=torch.channels_last)
kept = []
for step in range(200):
    network(torch.randn(16, 4, 8, 8).contiguous(memory_format=torch.channels_last)).sum().backward()
    kept = [*kept[-30:], torch.randn(5 + step % 40)]
"""


def test_a_narrow_point_convolution_with_a_stride_trains_without_harm_to_memory():
    layers = (
        Layer(op="conv", out=8, kernel=(1,), stride=(2,)),
        Layer(op="flatten"),
        Layer(op="linear", out=3),
    )
    arch = Architecture(input=(4, 8, 8), layers=layers)
    environment = {**os.environ, "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "7"}
    code = NARROW_STEPS.replace("ARCH", repr(arch.key))
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-500:]
    network, x = build(arch, 0), torch.randn(2, 4, 8, 8)
    layer = network.layer(0)
    usual = torch.nn.functional.conv2d(x, layer.weight, layer.bias, stride=2)
    torch.testing.assert_close(layer(x), usual)
