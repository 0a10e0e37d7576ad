"""Edits of networks: clean-up changes no function, removal bypasses and always adds up, kernels keep sizes."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from plait.architecture_edits import _USED, cleaned, fitted, pinned, removed, with_kernels
from plait.architectures import WEIGHTED, Architecture, Layer, ShapeError
from plait.errors import SpecError
from plait.models.network import build, state_of, with_state
from plait.models.zoo import NAMES, named, resnet
from random_architectures import architectures


def conv(name="", out=4, *inputs, **settings):
    return Layer(op="conv", name=name, out=out, inputs=inputs, **{"kernel": (3,), "padding": (1,), **settings})


def act(name="relu", *inputs, **settings):
    return Layer(op="act", act=name, inputs=inputs, **settings)


def norm(name="", *inputs):
    return Layer(op="norm", name=name, inputs=inputs)


HEAD = (Layer(op="global_pool"), Layer(op="flatten"), Layer(op="linear", name="head", out=10))


def net(*layers, head=HEAD, channels=3):
    return Architecture(input=(channels, 8, 8), layers=(*layers, *head))


def ops(arch):
    return [layer.op for layer in arch.layers]


def weighted(arch):
    return [layer.name for layer in arch.layers if layer.op in WEIGHTED]


# -- clean-up


def test_clean_up_knows_every_field_of_a_layer():
    known = {name for names in _USED.values() for name in names}
    assert {*Layer.model_fields} == {"op", "name", "inputs", "block", "shortcut"} | known


@given(architectures())
def test_clean_up_is_idempotent_and_keeps_the_output_s_shape(arch):
    once = cleaned(arch)
    assert cleaned(once).key == once.key
    assert once.shapes[-1] == arch.shapes[-1]
    assert len(once.layers) <= len(arch.layers)


@given(architectures(), st.data())
def test_clean_up_after_removal_is_idempotent(arch, data):
    keep = data.draw(st.tuples(*(st.booleans() for _ in arch.layers)))
    once = removed(arch, fitted(arch, keep))
    assert cleaned(once).key == once.key


@given(architectures())
def test_clean_up_does_not_change_what_a_network_computes(arch):
    """All but a norm of a norm and a sum of a layer with itself, which count as one: they are left out here."""
    sources = [(layer.op, read) for layer, read in zip(arch.layers, arch.sources, strict=True)]
    assume(not any(op == "norm" and arch.layers[read[0]].op == "norm" for op, read in sources))
    assume(not any(op == "add" and len(set(read)) < len(read) for op, read in sources))
    whole, few = build(arch, 3).eval(), cleaned(arch)
    state = {name: array for name, array in state_of(whole).items() if name.rpartition(".")[0] in weighted(few)}
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, *arch.input), dtype=np.float32))
    with torch.no_grad():
        torch.testing.assert_close(with_state(few, state).eval()(x), whole(x))


@pytest.mark.parametrize(
    ("layers", "left"),
    [
        ((conv(), act(), act()), ["conv", "act"]),
        ((conv(), act(), Layer(op="max_pool", kernel=(2,)), act()), ["conv", "act", "max_pool"]),
        ((conv(), act("sigmoid"), act("relu6")), ["conv", "act"]),
        ((conv(), act("relu"), act("relu6")), ["conv", "act", "act"]),
        ((conv(), act("gelu"), act("gelu")), ["conv", "act", "act"]),
        ((conv(), act("relu"), Layer(op="dropout", rate=0.5), act("relu")), ["conv", "act", "dropout"]),
        ((conv(), act("relu6"), Layer(op="dropout", rate=0.5), act("relu6")), ["conv", "act", "dropout", "act"]),
        ((conv(), norm(), norm(), act()), ["conv", "norm", "act"]),
        ((conv(), norm(), act(), norm()), ["conv", "norm", "act", "norm"]),
        ((norm(), conv()), ["norm", "conv"]),
        ((conv(), Layer(op="dropout")), ["conv"]),
        ((conv(), Layer(op="max_pool", kernel=(1,))), ["conv"]),
        ((conv(), Layer(op="max_pool", kernel=(1,), stride=(2,))), ["conv", "max_pool"]),
        ((conv(), Layer(op="add", inputs=(0, 0))), ["conv"]),
        ((conv(), Layer(op="mul", inputs=(0, 0))), ["conv", "mul"]),
        ((conv(), conv("", 4, -1), act("relu", 0)), ["conv", "act"]),
    ],
)
def test_dead_layers_go_and_others_stay(layers, left):
    assert ops(cleaned(net(*layers))) == left + ops(net(*HEAD, head=()))


def test_of_two_norms_the_first_stays_since_its_statistics_are_those_of_its_input():
    assert weighted(cleaned(net(conv("c"), norm("first"), norm("second")))) == ["c", "first", "head"]


def test_one_network_has_one_text():
    spelt = net(
        conv("a", 4, -1, kernel=(3, 3), stride=(1, 1), padding=(1, 1)), norm("n", 0), act("relu", 1, rate=0.3),
        conv("b", 4, 2, groups=4, padding=(1, 1)), conv("c", 4, kernel=(1, 1), padding=(0,)),
        Layer(op="max_pool", kernel=(2, 2), stride=(2,), padding=(0, 0), bias=False), Layer(op="add", inputs=(5, 5)),
    )  # fmt: skip
    short = net(
        conv("a"), norm("n"), act(), Layer(op="conv", name="b", groups=0, kernel=(3,), padding=(1,)),
        Layer(op="conv", name="c", out=4), Layer(op="max_pool", kernel=(2,)),
    )  # fmt: skip
    assert cleaned(spelt) == short
    assert cleaned(spelt).params == spelt.params


def test_a_network_of_dead_layers_alone_is_left_as_it_is():
    arch = Architecture(input=(4,), layers=(Layer(op="dropout"),))
    assert cleaned(arch) == arch


def test_whichever_of_two_equal_activations_went_the_same_network_comes_out():
    arch = named("resnet18:width=4", (3, 16, 16), 10)
    at = {layer.name: number for number, layer in enumerate(arch.layers)}
    emptied = {at[f"layer1.1.{part}"] for part in ("conv1", "norm1", "act1", "conv2", "norm2")}
    first = removed(arch, [number not in emptied | {at["layer1.0.act2"]} for number in range(len(arch.layers))])
    second = removed(arch, [number not in emptied | {at["layer1.1.act2"]} for number in range(len(arch.layers))])
    neither = removed(arch, [number not in emptied for number in range(len(arch.layers))])
    assert first.key == second.key == neither.key


# -- removal


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("resnet50", "resnet101", "resnet152")])
def test_first_and_last_layers_strided_convolutions_and_linears_survive_the_removal_of_all(name):
    arch = named(name, (1, 40) if name == "cnn1d" else (1, 32, 32), 10)
    left = removed(arch, [False] * len(arch.layers))
    convs = [layer for layer in arch.layers if layer.op == "conv"]
    strided = [layer.name for layer in convs if layer.stride not in ((), (1,))]
    must = [layer.name for layer in convs[:1]] + strided + [la.name for la in arch.layers if la.op == "linear"]
    assert set(must) <= set(weighted(left))
    assert left.layers[-1].name == arch.layers[-1].name == "linear"
    assert "act" not in ops(left)[:-1] or name == "mlp"
    assert left.shapes[-1] == (10,)


def test_what_is_pinned():
    arch = net(
        Layer(op="dropout", rate=0.1), conv("a"), norm("n"), act(), conv("s", 8, stride=(2,)), conv("x", 8),
        conv("beside", 8, 3, stride=(2,), shortcut=True), Layer(op="norm", shortcut=True),
        Layer(op="add", inputs=(5, 7)), Layer(op="max_pool", kernel=(2,)), Layer(op="avg_pool", kernel=(2,)),
        conv("b", 6), head=(*HEAD, Layer(op="log_softmax")),
    )  # fmt: skip
    pins = pinned(arch)
    free = [arch.layers[at].label for at, pin in enumerate(pins) if not pin]
    assert free == ["norm n", "act", "conv x", "max_pool", "conv b"]


def test_keeping_all_changes_nothing_but_how_it_is_written():
    arch = named("resnet34:width=4", (3, 32, 32), 10)
    whole = removed(arch, [True] * len(arch.layers))
    assert whole == cleaned(arch)
    assert (ops(whole), weighted(whole), whole.params) == (ops(arch), weighted(arch), arch.params)


def test_each_action_is_about_its_own_layer_also_after_projection_shortcuts():
    """The released code of N2N skips shortcuts when it rebuilds, and not when it acts: its actions shift."""
    arch = named("resnet18:width=4", (3, 32, 32), 10)
    pins = pinned(arch)
    assert len(pins) == len(arch.layers) == len(removed(arch, [True] * len(pins)).layers)
    for at, layer in enumerate(arch.layers):
        left = removed(arch, [other != at for other in range(len(arch.layers))])
        gone = [] if pins[at] or layer.op not in WEIGHTED else [layer.name]
        assert [name for name in weighted(arch) if name not in weighted(left)] == gone
        if layer.op == "act" and not pins[at]:
            assert ops(left).count("act") == ops(arch).count("act") - 1


def test_an_emptied_identity_block_is_the_identity():
    """Ours; the released code of N2N computes relu(2x) there."""
    trunk = (conv("a"), norm("n"), act())
    arch = net(*trunk, conv("b"), norm("m"), act(), Layer(op="add", inputs=(5, 2)), act())
    assert removed(arch, [at not in (3, 4, 5) for at in range(len(arch.layers))]) == net(*trunk)
    assert removed(arch, [at not in (3, 4) for at in range(len(arch.layers))]) == net(*trunk)  # relu(relu(x)) is x too
    whole = named("resnet18:width=4", (3, 16, 16), 10)
    left = removed(whole, [layer.block != "layer3.1" for layer in whole.layers])
    assert left == cleaned(resnet((3, 16, 16), 10, (2, 2, 1, 2), width=4))


def test_an_emptied_block_with_a_projection_is_its_shortcut():
    arch = net(
        conv("a", 4), act(), conv("b", 8), norm("n"), conv("proj", 8, 1, shortcut=True), Layer(op="add", inputs=(3, 4)),
    )  # fmt: skip
    left = removed(arch, [at not in (2, 3) for at in range(len(arch.layers))])
    assert weighted(left) == ["a", "proj", "head"]
    assert "add" not in ops(left)


def test_an_emptied_branch_of_a_concatenation_adds_nothing():
    arch = net(conv("a", 4), conv("b", 5), conv("c", 6, 0), Layer(op="cat", inputs=(1, 2)))
    left = removed(arch, [at != 1 for at in range(len(arch.layers))])
    assert (weighted(left), left.shapes[-3]) == (["a", "c", "head"], (6, 1, 1))
    dense = net(conv("a", 4), conv("b", 5), Layer(op="cat", inputs=(0, 1)))
    assert ops(removed(dense, [at != 1 for at in range(len(dense.layers))])) == ["conv", *ops(net(*HEAD, head=()))]


def test_an_emptied_gate_leaves_its_map():
    arch = net(conv("a"), conv("g"), act("sigmoid"), Layer(op="mul", inputs=(0, 2)))
    assert weighted(removed(arch, [at not in (1, 2) for at in range(len(arch.layers))])) == ["a", "head"]
    square = net(conv("a"), Layer(op="mul", inputs=(0, 0)))
    assert "mul" in ops(removed(square, [False] * len(square.layers)))


def test_removing_channels_that_a_sum_needs_is_told():
    arch = named("resnet50:width=4", (3, 16, 16), 10)
    with pytest.raises(ShapeError, match=r"layer2.0.add: got \(\(8, 8, 8\), \(32, 8, 8\)\)"):
        removed(arch, [False] * len(arch.layers))


@given(architectures(), st.data())
def test_what_is_fitted_fits_and_keeps_what_was_wished(arch, data):
    wish = data.draw(st.tuples(*(st.booleans() for _ in arch.layers)))
    keep = fitted(arch, wish)
    left = removed(arch, keep)
    assert left.shapes[-1] == arch.shapes[-1]
    assert all(kept for kept, wished, pin in zip(keep, wish, pinned(arch), strict=True) if wished or pin)
    assert fitted(arch, keep) == keep
    least = tuple(wished or pin for wished, pin in zip(wish, pinned(arch), strict=True))
    if keep != least:
        with pytest.raises(ShapeError):
            removed(arch, wish)


def test_what_is_kept_after_all_is_what_makes_the_channels():
    arch = named("resnet50:width=4", (3, 16, 16), 10)
    gone = {"layer1.1.conv3", "layer1.1.norm3"}
    keep = fitted(arch, [layer.name not in gone for layer in arch.layers])
    assert [layer.name for layer, kept in zip(arch.layers, keep, strict=True) if not kept] == ["layer1.1.norm3"]


@pytest.mark.parametrize("edit", [removed, fitted])
@pytest.mark.parametrize("length", [0, 11, 13])
def test_choices_are_one_a_layer(edit, length):
    with pytest.raises(SpecError, match="12, one a layer"):
        edit(named("lenet", (1, 28, 28), 10), [True] * length)


def test_channels_follow_from_what_arrives():
    arch = named("vgg13:width=8", (1, 32, 32), 10)
    at = {layer.name: number for number, layer in enumerate(arch.layers)}
    left = removed(arch, [number != at["stage2.conv1"] for number in range(len(arch.layers))])
    where = [layer.name for layer in left.layers].index("stage2.conv2")
    assert (left.arriving(where)[0], left.layers[where].out) == (8, 16)


# -- kernels


@pytest.mark.parametrize(
    ("layer", "kernel", "becomes"),
    [
        (conv(), (1,), ((1, 1), (1, 1), (0, 0))),
        (conv(), (2,), ((1, 1), (1, 1), (0, 0))),
        (conv(kernel=(5,), padding=(2,)), (4,), ((3, 3), (1, 1), (1, 1))),
        (conv(kernel=(5, 3), padding=(2, 1), stride=(2,)), (3, 1), ((3, 1), (2, 2), (1, 0))),
        (conv(kernel=(5,), padding=(0,)), (2,), ((2, 2), (1, 1), (0, 0))),
        (Layer(op="max_pool", kernel=(3,), padding=(1,)), (2,), ((1, 1), (3, 3), (0, 0))),
        (Layer(op="avg_pool", kernel=(4,), padding=(2,)), (2,), ((2, 2), (4, 4), (1, 1))),
    ],
)
def test_padding_goes_with_the_kernel_and_strides_stay(layer, kernel, becomes):
    arch = net(layer)
    edited = with_kernels(arch, {0: kernel})
    assert edited.layers[0].spread(2) == becomes
    if layer.padding == tuple(size // 2 for size in layer.kernel):
        assert edited.shapes[0] == arch.shapes[0]


@pytest.mark.parametrize(
    ("kernels", "match"),
    [
        ({9: (1,)}, "index"), ({-1: (1,)}, "index"), ({1: (1,)}, "index"), ({0: (0,)}, "1 or more"),
        ({0: ()}, "1 or more"), ({0: (1, 1, 1)}, "1 or 2 numbers"), ({0: (30,)}, "too small"),
    ],
)  # fmt: skip
def test_a_kernel_that_cannot_be_is_one_clear_line(kernels, match):
    arch = net(conv("a", 4, kernel=(2,), padding=(0,)), act())
    with pytest.raises(SpecError, match=match) as error:
        with_kernels(arch, kernels)
    assert "\n" not in str(error.value)
