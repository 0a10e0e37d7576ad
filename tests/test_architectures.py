"""Architectures: one text a network, shapes, parameters and MACs by hand, and errors of one line."""

import doctest
import pickle

import pytest
from hypothesis import given
from plait import Architecture, architectures
from plait.architectures import Layer, ShapeError
from plait.errors import SpecError
from random_architectures import architectures as random_architectures


def net(*layers, shape=(3, 8, 8)):
    return Architecture(input=shape, layers=layers)


def conv(out=4, *inputs, **settings):
    return Layer(op="conv", out=out, inputs=inputs, **{"kernel": (3,), "padding": (1,), **settings})


# -- text


@given(random_architectures())
def test_print_and_parse_are_inverse(arch):
    again = Architecture.parse(arch.key)
    assert (again, again.key, again.hash, hash(again)) == (arch, arch.key, arch.hash, hash(arch))
    assert "\n" not in arch.key


def test_the_text_leaves_out_what_is_a_default():
    assert net(conv(), Layer(op="act")).key == (
        '{"input":[3,8,8],"layers":[{"kernel":[3],"op":"conv","out":4,"padding":[1]},{"op":"act"}]}'
    )


def test_a_network_without_names_is_another_text_and_the_same_shapes():
    arch = net(conv(name="a"), conv(name="b"))
    bare = arch.anonymous()
    assert bare != arch
    assert bare.hash != arch.hash
    assert (bare.shapes, bare.params, bare.anonymous()) == (arch.shapes, arch.params, bare)


def test_an_architecture_survives_pickling():
    arch = net(conv())
    assert pickle.loads(pickle.dumps(arch)) == arch


# -- shapes and counts


@pytest.mark.parametrize(
    ("layers", "shape", "made", "params", "macs"),
    [
        ((conv(4),), (3, 8, 8), (4, 8, 8), 4 * 27 + 4, 4 * 27 * 64),
        ((conv(4, bias=False, stride=(2,)),), (3, 8, 8), (4, 4, 4), 4 * 27, 4 * 27 * 16),
        ((conv(4, kernel=(), padding=()),), (3, 8), (4, 8), 4 * 3 + 4, 4 * 3 * 8),
        ((conv(4, kernel=(3, 1), padding=(0, 1)),), (3, 8, 8), (4, 6, 10), 4 * 9 + 4, 4 * 9 * 60),
        ((conv(None, groups=0),), (3, 8, 8), (3, 8, 8), 27 + 3, 27 * 64),
        ((conv(6, groups=3),), (3, 8, 8), (6, 8, 8), 6 * 9 + 6, 6 * 9 * 64),
        ((Layer(op="norm"),), (3, 8, 8), (3, 8, 8), 6, 0),
        ((Layer(op="linear", out=5),), (7,), (5,), 40, 35),
        ((Layer(op="linear", out=5, bias=False),), (7,), (5,), 35, 35),
        ((Layer(op="max_pool", kernel=(2,)),), (3, 9, 8), (3, 4, 4), 0, 0),
        ((Layer(op="avg_pool", kernel=(3,), stride=(2,), padding=(1,)),), (3, 8), (3, 4), 0, 0),
        ((Layer(op="global_pool"),), (3, 8, 8), (3, 1, 1), 0, 0),
        ((Layer(op="flatten"),), (3, 8, 8), (192,), 0, 0),
        ((Layer(op="flatten"),), (7,), (7,), 0, 0),
        ((Layer(op="cat", inputs=(-1, -1)),), (3, 8, 8), (6, 8, 8), 0, 0),
        ((Layer(op="global_pool"), Layer(op="mul", inputs=(0, -1))), (3, 8, 8), (3, 8, 8), 0, 0),
        ((conv(4), conv(4, -1), Layer(op="add", inputs=(0, 1))), (3, 8), (4, 8), 2 * 40, 2 * 36 * 8),
    ],
)
def test_shapes_parameters_and_macs(layers, shape, made, params, macs):
    arch = net(*layers, shape=shape)
    assert (arch.shapes[-1], arch.params, arch.macs) == (made, params, macs)


def test_counts_of_the_layers_sum_to_those_of_the_network():
    arch = net(conv(4), Layer(op="norm"), Layer(op="flatten"), Layer(op="linear", out=10))
    assert arch.layer_params == (112, 8, 0, 2570)
    assert arch.params == 2690
    assert arch.classes == 10


@pytest.mark.parametrize(
    ("layers", "shape", "match"),
    [
        ((conv(4, kernel=(9,), padding=()),), (3, 8, 8), r"conv: got \(3, 8, 8\), .* too small"),
        ((conv(),), (7,), "spatial dimensions"),
        ((Layer(op="max_pool", kernel=(2,)),), (7,), "spatial dimensions"),
        ((conv(4, groups=2),), (3, 8, 8), r"got \(3, 4\), expected channels in and out that 2 groups divide"),
        ((conv(4, groups=3),), (3, 8, 8), "3 groups divide"),
        ((conv(4, kernel=(3, 3)),), (3, 8), "1 or 1 numbers"),
        ((Layer(op="linear", out=5),), (3, 8), "flatten"),
        ((conv(4), Layer(op="add", inputs=(0, -1))), (3, 8, 8), "as many channels"),
        ((conv(3, stride=(2,)), Layer(op="add", inputs=(0, -1))), (3, 8, 8), "of one size"),
        ((conv(3, stride=(2,)), Layer(op="cat", inputs=(0, -1))), (3, 8, 8), "one spatial size"),
        ((Layer(op="flatten"), Layer(op="cat", inputs=(0, -1))), (3, 8, 8), "one spatial size"),
        ((Layer(op="max_pool", kernel=(9,)),), (3, 8, 8), "too small"),
    ],
)
def test_a_layer_that_does_not_fit_is_told_in_one_line(layers, shape, match):
    with pytest.raises(ShapeError, match=match) as error:
        net(*layers, shape=shape).shapes
    assert "\n" not in str(error.value)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_an_error_names_the_layer():
    with pytest.raises(ShapeError, match=r"^add block1\.sum: "):
        net(conv(4), Layer(op="add", name="block1.sum", inputs=(0, -1))).shapes


# -- input that is none


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "architecture"),
        ("[]", "architecture"),
        ("{}", "architecture.input"),
        ('{"input":[3,8,8],"layers":[]}', "architecture.layers"),
        ('{"input":[],"layers":[{"op":"act"}]}', "architecture.input"),
        ('{"input":[3,8,8,8],"layers":[{"op":"act"}]}', "architecture.input"),
        ('{"input":[0],"layers":[{"op":"act"}]}', "architecture.input.0"),
        ('{"input":[3],"layers":[{"op":"lstm"}]}', "architecture.layers.0.op"),
        ('{"input":[3],"layers":[{"op":"act"},{"op":"act","act":"mish"}]}', "architecture.layers.1.act"),
        ('{"input":[3],"layers":[{"op":"linear"}]}', "architecture.layers.0"),
        ('{"input":[3],"layers":[{"op":"linear","out":0}]}', "architecture.layers.0.out"),
        ('{"input":[3],"layers":[{"op":"linear","out":1,"width":2}]}', "architecture.layers.0.width"),
        ('{"input":[3,4],"layers":[{"op":"conv","out":4,"groups":0}]}', "architecture.layers.0"),
        ('{"input":[3,4],"layers":[{"op":"conv","out":4,"padding":[-1]}]}', "architecture.layers.0.padding.0"),
        ('{"input":[3,4],"layers":[{"op":"max_pool"}]}', "architecture.layers.0"),
        ('{"input":[3],"layers":[{"op":"dropout","rate":1}]}', "architecture.layers.0.rate"),
        ('{"input":[3],"layers":[{"op":"add","inputs":[-1]}]}', "architecture.layers.0"),
        ('{"input":[3],"layers":[{"op":"act","inputs":[0]}]}', "architecture"),
        ('{"input":[3],"layers":[{"op":"act","inputs":[-2]}]}', "architecture"),
        ('{"input":[3],"layers":[{"op":"act","name":"a"},{"op":"act","name":"a"}]}', "architecture"),
    ],
)
def test_text_that_is_no_architecture_is_one_line_that_names_the_field(text, where):
    with pytest.raises(SpecError) as error:
        Architecture.parse(text)
    assert error.value.where == where
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(architectures).failed == 0
    assert doctest.testmod(architectures).attempted > 0
