"""What a smaller network inherits: the same layers by name, the same channels wherever they go."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from plait.architecture_edits import cleaned, fitted, removed, with_kernels
from plait.architecture_groups import channel_groups, channel_origins, shrunk
from plait.architectures import Architecture, Layer
from plait.errors import SpecError
from plait.models.inheritance import inherit, renormalise
from plait.models.network import build, state_of, tensors, with_state
from plait.models.zoo import named
from random_architectures import architectures


def layers(*specs):
    return tuple(Layer(**fields) for fields in specs)


GATED = Architecture(
    input=(3, 10, 10),
    layers=layers(
        {"op": "conv", "name": "stem", "out": 8, "kernel": (3,), "padding": (1,)}, {"op": "norm", "name": "n0"},
        {"op": "act"},
        {"op": "conv", "name": "deep", "groups": 0, "kernel": (3,), "padding": (1,)}, {"op": "norm", "name": "n1"},
        {"op": "act"},
        {"op": "conv", "name": "wide", "out": 12}, {"op": "global_pool"}, {"op": "conv", "name": "down", "out": 4},
        {"op": "act"}, {"op": "conv", "name": "up", "out": 12}, {"op": "act", "act": "sigmoid"},
        {"op": "mul", "inputs": (6, 11)},
        {"op": "cat", "inputs": (2, 12)}, {"op": "conv", "name": "back", "out": 8}, {"op": "add", "inputs": (2, 14)},
        {"op": "cat", "inputs": (15, 12)}, {"op": "avg_pool", "kernel": (5,)}, {"op": "flatten"},
        {"op": "linear", "name": "mid", "out": 6}, {"op": "act"}, {"op": "linear", "name": "fc", "out": 4},
    ),
)  # fmt: skip
"""Depthwise, a gate, two concatenations, a sum and a flatten of maps."""
GROUPED = Architecture(
    input=(2, 16),
    layers=layers(
        {"op": "conv", "name": "one", "out": 8, "kernel": (3,)}, {"op": "act"},
        {"op": "conv", "name": "two", "out": 12, "kernel": (3,), "groups": 2}, {"op": "norm", "name": "n"},
        {"op": "act"}, {"op": "flatten"}, {"op": "linear", "name": "fc", "out": 3},
    ),
)  # fmt: skip
NETS = {
    "gated": GATED, "grouped": GROUPED, "resnet": named("resnet18:width=4", (3, 16, 16), 10),
    "bottleneck": named("resnet50:width=4", (3, 16, 16), 5), "vgg": named("vgg11:width=4", (1, 28, 28), 10),
    "line": named("cnn1d:width=6", (1, 40), 10), "features": named("mlp:12-8", (20,), 3),
}  # fmt: skip
CASES = pytest.mark.parametrize("arch", NETS.values(), ids=NETS.keys())


def images(arch, n=4):
    return torch.randn(n, *arch.input, generator=torch.Generator().manual_seed(1))


def outputs(network, x):
    with torch.no_grad():
        return network.eval()(x)


def halves(arch):
    return [max(1, group.width // 2) for group in channel_groups(arch)]


def half_dead(arch, seed, dead):
    """Return a network in which half of each free group's channels are 0 wherever they are made.

    The others are as large as it takes for outputs to depend on the input behind many layers.
    """
    network = build(arch, seed)
    draw = np.random.default_rng(seed)
    groups = channel_groups(arch)
    gone = []
    for group in groups:
        parts = np.arange(group.width).reshape(group.step, -1)
        half = 0 if group.fixed else parts.shape[1] - max(1, group.width // 2 // group.step)
        gone.append(np.concatenate([draw.permutation(part)[:half] if dead == "any" else part[-half or len(part):]
                                    for part in parts]).astype(int))  # fmt: skip
    state = {name: array * (3 if array.ndim > 1 else 1) for name, array in state_of(network).items()}
    for layer, origins in zip(arch.layers, channel_origins(arch), strict=True):
        for name in ("weight", "bias"):
            if f"{layer.name}.{name}" in state:
                for run in origins.made:
                    for channel in gone[run.group]:
                        start = run.start + channel * run.repeat
                        state[f"{layer.name}.{name}"][start : start + run.repeat] = 0
    return with_state(arch, state)


@CASES
@pytest.mark.parametrize("how", ["slice", "sorted"])
def test_an_heir_of_the_same_shape_is_the_teacher(arch, how):
    teacher = build(arch, 0)
    x = images(arch)
    assert torch.equal(outputs(inherit(arch, teacher, how, 1), x), outputs(teacher, x))


@CASES
@pytest.mark.parametrize(("how", "dead"), [("sorted", "any"), ("slice", "last")])
def test_without_its_dead_channels_a_network_computes_the_same(arch, how, dead):
    """Wherever channels go - sums, concatenations, gates, flattening - the live ones must be the ones kept."""
    teacher = half_dead(arch, 3, dead)
    expected = outputs(teacher, images(arch))
    heir = inherit(shrunk(arch, halves(arch)), teacher, how, 1)
    assert heir.arch.params < 0.6 * arch.params
    spread = float(expected.std(0).max())
    assert spread > 0.01
    torch.testing.assert_close(outputs(heir, images(arch)), expected, rtol=1e-4, atol=1e-3 * spread)


@given(architectures())
def test_any_network_computes_the_same_without_its_dead_channels(arch):
    gates = {source for at, layer in enumerate(arch.layers) if layer.op == "mul" for source in arch.sources[at]}
    layers = list(arch.layers)
    for at, layer in enumerate(layers):  # a sigmoid makes something of nothing
        if (layer.op, layer.act) == ("act", "sigmoid") and at not in gates:
            layers[at] = layer.model_copy(update={"act": "relu"})
    arch = arch.model_copy(update={"layers": tuple(layers)})
    assume(any(not group.fixed and group.width > group.step for group in channel_groups(arch)))
    teacher = half_dead(arch, 3, "any")
    expected = outputs(teacher, images(arch))
    heir = inherit(shrunk(arch, halves(arch)), teacher, "sorted", 1)
    torch.testing.assert_close(
        outputs(heir, images(arch)), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
    )


@given(architectures(), st.integers(2, 4))
def test_whatever_is_removed_and_shrunk_what_is_left_runs_and_keeps_its_name(arch, every):
    small = removed(arch, fitted(arch, [at % every > 0 for at in range(len(arch.layers))]))
    small = shrunk(small, halves(small))
    heir = inherit(small, build(arch, 0), "sorted", 5)
    assert torch.isfinite(outputs(heir, images(arch))).all()


@CASES
def test_random_inherits_nothing_and_equal_seeds_give_equal_bits(arch):
    small = shrunk(arch, halves(arch))
    teacher = build(arch, 0)
    for how in ("random", "slice", "sorted"):
        first, again = (state_of(inherit(small, teacher, how, 7)) for _ in range(2))
        assert all(np.array_equal(first[name], again[name]) for name in first)
    fresh, drawn = state_of(build(small, 7)), state_of(inherit(small, teacher, "random", 7))
    assert all(np.array_equal(fresh[name], drawn[name]) for name in fresh)


def test_a_block_whose_branch_adds_nothing_goes_without_a_trace():
    arch = NETS["resnet"]
    state = state_of(build(arch, 0))
    block = next(layer.block for layer in arch.layers if layer.block)
    inside = [layer for layer in arch.layers if layer.block == block]
    last = [layer.name for layer in inside if layer.op == "norm"][-1]
    state[f"{last}.weight"][:] = 0
    state[f"{last}.bias"][:] = 0
    teacher = with_state(arch, state)
    heir = inherit(removed(arch, [layer not in inside for layer in arch.layers]), teacher, "slice", 0)
    assert len(heir.arch.layers) < len(cleaned(arch).layers)
    x = images(arch)
    torch.testing.assert_close(outputs(heir, x), outputs(teacher, x), rtol=1e-5, atol=1e-6)


@CASES
def test_after_any_removal_and_shrinkage_something_is_inherited_and_it_runs(arch):
    teacher = build(arch, 0)
    keep = [at % 3 > 0 or arch.shapes[at] != arch.arriving(at) for at in range(len(arch.layers))]
    small = removed(arch, keep)
    small = shrunk(small, halves(small))
    ours, fresh = state_of(inherit(small, teacher, "sorted", 5)), state_of(build(small, 5))
    changed = [name for name in ours if not np.array_equal(ours[name], fresh[name])]
    assert len(changed) > len([name for name in ours if name.endswith("weight")]) / 2
    assert torch.isfinite(outputs(inherit(small, teacher, "sorted", 5), images(small))).all()


def test_a_gate_that_is_gone_leaves_its_concatenation_in_place():
    teacher = build(GATED, 0)
    gone = {"wide", "down", "up"}
    small = removed(GATED, [layer.name not in gone for layer in GATED.layers])
    heir = state_of(inherit(small, teacher, "slice", 1))
    before = state_of(teacher)
    assert np.array_equal(heir["back.weight"][:, :8], before["back.weight"][:, :8])


def test_each_group_of_a_grouped_convolution_keeps_as_many_channels():
    state = state_of(build(GROUPED, 0))
    state["one.weight"][:4] *= 100  # all of the first group's inputs look better than any of the second's
    teacher = with_state(GROUPED, state)
    heir = state_of(inherit(shrunk(GROUPED, halves(GROUPED)), teacher, "sorted", 1))
    rows = [next(at for at, old in enumerate(state["one.weight"]) if np.array_equal(old, row))
            for row in heir["one.weight"]]  # fmt: skip
    assert rows == sorted(rows)
    assert [row // 4 for row in rows] == [0, 0, 1, 1]
    for filters, old in ((heir["two.weight"][:3], range(6)), (heir["two.weight"][3:], range(6, 12))):
        seen = [row - 4 * (old[0] // 6) for row in rows if row // 4 == old[0] // 6]
        kept = [state["two.weight"][at][seen] for at in old]
        assert all(any(np.array_equal(row, one) for one in kept) for row in filters)


def test_kernels_are_cut_out_of_the_middle():
    arch = NETS["gated"]
    teacher = build(arch, 0)
    heir = state_of(inherit(with_kernels(arch, {0: (1,)}), teacher, "slice", 1))
    assert np.array_equal(heir["stem.weight"], state_of(teacher)["stem.weight"][:, :, 1:2, 1:2])
    wide = with_kernels(arch, {0: (5,)})
    x = images(arch)
    torch.testing.assert_close(outputs(inherit(wide, teacher, "slice", 1), x), outputs(teacher, x))


def test_a_flatten_of_another_size_makes_its_linear_layer_anew():
    pooled = GROUPED.model_copy(
        update={"layers": (*GROUPED.layers[:5], Layer(op="max_pool", kernel=(2,)), *GROUPED.layers[5:])}
    )
    teacher = build(pooled, 0)
    ours, fresh = state_of(inherit(GROUPED, teacher, "slice", 3)), state_of(build(GROUPED, 3))
    assert np.array_equal(ours["fc.weight"], fresh["fc.weight"])
    assert np.array_equal(ours["two.weight"], state_of(teacher)["two.weight"])


def test_layers_of_other_names_or_operations_inherit_nothing():
    teacher = build(NETS["features"], 0)
    stranger = Architecture(input=(20,), layers=layers({"op": "linear", "name": "other", "out": 3}))
    ours, fresh = state_of(inherit(stranger, teacher, "sorted", 3)), state_of(build(stranger, 3))
    assert np.array_equal(ours["other.weight"], fresh["other.weight"])


def test_the_teacher_keeps_its_weights_and_shares_none():
    arch = NETS["gated"]
    teacher = build(arch, 0)
    before = state_of(teacher)
    heir = inherit(arch, teacher, "slice", 1)
    with torch.no_grad():
        for tensor in tensors(heir).values():
            tensor.zero_()
    assert all(np.array_equal(before[name], array) for name, array in state_of(teacher).items())


def test_an_unknown_way_to_inherit_is_one_clear_line():
    with pytest.raises(SpecError, match="init: got 'best', expected random, slice or sorted"):
        inherit(GATED, build(GATED, 0), "best", 0)


def test_statistics_are_estimated_again_as_the_mean_over_batches():
    arch = Architecture(input=(2, 6), layers=layers({"op": "norm", "name": "n"}, {"op": "dropout", "rate": 0.5},
                        {"op": "flatten"}, {"op": "linear", "name": "fc", "out": 2}))  # fmt: skip
    network = build(arch, 0)
    before = state_of(network)
    batches = torch.randn(3, 8, 2, 6) * 2 + 1
    rng = torch.get_rng_state()
    renormalise(network, batches)
    after = state_of(network)
    torch.testing.assert_close(torch.from_numpy(after["n.running_mean"]), batches.mean((0, 1, 3)))
    torch.testing.assert_close(
        torch.from_numpy(after["n.running_var"]), torch.stack([batch.var((0, 2)) for batch in batches]).mean(0)
    )
    assert network.training
    assert network.layer(0).momentum == 0.1
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(np.array_equal(before[name], after[name]) for name in before if "running" not in name)


def test_no_batches_are_one_clear_line_and_change_nothing():
    network = build(GROUPED, 0)
    with pytest.raises(SpecError, match="one batch or more"):
        renormalise(network, [])
    assert network.layer(3).momentum == 0.1
