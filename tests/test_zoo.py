"""The zoo: parameter counts as published, small images, names and their errors."""

import doctest

import pytest
from plait.errors import PlaitError, SpecError
from plait.models import zoo
from plait.models.zoo import NAMES, named, resnet, vgg

CIFAR, MNIST = (3, 32, 32), (1, 28, 28)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "millions"),
    [
        ("vgg13", CIFAR, 10, 9.41),
        ("vgg13", MNIST, 10, 9.41),
        ("vgg19", CIFAR, 10, 20.04),
        ("resnet18", CIFAR, 10, 11.17),
        ("resnet18", CIFAR, 100, 11.22),
        ("resnet34", CIFAR, 10, 21.28),
        ("resnet34", CIFAR, 100, 21.33),
        ("resnet34", CIFAR, 1000, 21.79),
    ],
)
def test_teachers_have_the_published_parameter_counts(name, shape, classes, millions):
    net = named(name, shape, classes)
    assert round(net.params / 1e6, 2) == millions
    assert net.classes == classes


def test_small_networks_have_their_parameter_counts():
    assert named("cnn1d", (1, 40), 10).params == 5210  # the reference CNN of MNIST-1D
    assert named("lenet", MNIST, 10).params == 44426
    assert named("mlp:128-64", (64,), 10).params == 64 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10


def test_projections_are_marked_and_identities_are_edges():
    net = resnet(CIFAR, 10, width=4)
    shortcuts = [layer.name for layer in net.layers if layer.shortcut]
    assert shortcuts == [f"layer{stage}.0.shortcut.{part}" for stage in (2, 3, 4) for part in ("conv", "norm")]
    adds = [at for at, layer in enumerate(net.layers) if layer.op == "add"]
    assert len(adds) == 8
    first = next(at for at, layer in enumerate(net.layers) if layer.name == "layer1.0.conv1")
    assert net.sources[adds[0]] == (adds[0] - 1, first - 1)  # the branch's end, and what entered the block


def test_a_block_names_its_branch_its_shortcut_its_sum_and_the_activation_after_it():
    net = resnet(CIFAR, 10, blocks=(1, 1), width=4, bottleneck=True)
    for layer in net.layers:
        assert layer.block == (layer.name[: len("layer1.0")] if layer.name.startswith("layer") else "")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "lenet"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 40)])
def test_every_network_takes_small_images_and_signals(name, shape):
    assert named(name, shape, 7).shapes[-1] == (7,)


def test_a_width_scales_every_layer():
    wide, narrow = named("vgg13", CIFAR, 10), named("vgg13:width=16", CIFAR, 10)
    assert [layer.out for layer in narrow.layers if layer.op == "conv"] == [
        layer.out // 4 for layer in wide.layers if layer.op == "conv"
    ]
    assert named("resnet18:width=8", CIFAR, 10) == resnet(CIFAR, 10, width=8)


def test_pools_that_do_not_fit_are_left_out():
    pools = [layer.op for layer in vgg((1, 8, 8), 10, width=4).layers].count("max_pool")
    assert pools == 3


NOT_NAMES = [
    "", "resnet", "ResNet18", "resnet18:", "resnet18:8", "resnet18:width=0", "resnet18:width=8,", "vgg13:width=-1",
    "lenet:width=8", "mlp:", "mlp:0", "mlp:8-", "mlp:width=8", "cnn:width=999999", "mlp:12８",
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_NAMES)
def test_a_bad_name_is_one_clear_line(text):
    with pytest.raises(SpecError) as error:
        named(text, MNIST, 10)
    assert "\n" not in str(error.value)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(("name", "shape"), [("lenet", (1, 8, 8)), ("resnet18", (64,))])
def test_an_image_that_does_not_fit_is_told_with_the_layer(name, shape):
    with pytest.raises(PlaitError, match="conv"):
        named(name, shape, 10)


def test_no_classes_is_refused():
    with pytest.raises(SpecError, match="classes"):
        named("lenet", MNIST, 0)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(zoo).failed == 0
    assert doctest.testmod(zoo).attempted > 0
