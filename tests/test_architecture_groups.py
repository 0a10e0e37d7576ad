"""Channel groups: what is one width, that any widths fit together, and where a layer's channels come from."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait import architecture_groups
from plait.architecture_groups import Run, channel_groups, channel_origins, shrunk
from plait.architectures import Architecture, Layer
from plait.errors import SpecError
from plait.models.zoo import named
from random_architectures import architectures


def conv(name, out, *inputs, **settings):
    return Layer(op="conv", name=name, out=out, kernel=(3,), padding=(1,), inputs=inputs, **settings)


def net(*layers, channels=3):
    return Architecture(input=(channels, 8, 8), layers=layers)


HEAD = (Layer(op="global_pool"), Layer(op="flatten"), Layer(op="linear", name="head", out=10))


def free(arch):
    return {group.name: group for group in channel_groups(arch) if not group.fixed}


@given(architectures(), st.data())
def test_any_widths_give_a_network_whose_shapes_work(arch, data):
    groups = channel_groups(arch)
    widths = data.draw(st.tuples(*(st.integers(0, group.width + 2) for group in groups)))
    narrow = shrunk(arch, widths)
    assert narrow.shapes[-1] == arch.shapes[-1]
    assert narrow.params <= arch.params
    for group, width in zip(groups, widths, strict=True):
        for at in group.members:
            assert narrow.shapes[at][0] % group.step == 0
            assert narrow.shapes[at][0] == group.width or not group.fixed
            assert group.step <= narrow.shapes[at][0] <= max(width, group.step) or group.fixed


@given(architectures())
def test_the_widths_at_hand_give_the_network_at_hand(arch):
    assert shrunk(arch, [group.width for group in channel_groups(arch)]) == arch


@given(architectures())
def test_every_layer_with_channels_of_its_own_is_in_one_group(arch):
    members = sorted(at for group in channel_groups(arch) for at in group.members)
    own = [at for at, layer in enumerate(arch.layers) if layer.op in ("conv", "linear") and not depthwise(arch, at)]
    assert members == own


def depthwise(arch, at):
    layer = arch.layers[at]
    return layer.op == "conv" and layer.groups != 1 and layer.groups in (0, arch.arriving(at)[0])


@given(architectures(), st.data())
def test_runs_cover_every_channel_before_and_after_shrinking(arch, data):
    """The two together are what weights are sliced by: a run of the teacher's, and the same run of the student's."""
    groups = channel_groups(arch)
    narrow = shrunk(arch, data.draw(st.tuples(*(st.integers(1, group.width) for group in groups))))
    owner = {at: number for number, group in enumerate(groups) for at in group.members}
    widths = [group.width for group in groups]
    news = [group.width if not group.members else narrow.shapes[group.members[0]][0] for group in groups]
    for at, origins in enumerate(channel_origins(arch)):
        for net, sizes in ((arch, widths), (narrow, news)):
            for runs, channels in ((origins.given, net.arriving(at)[0]), (origins.made, net.shapes[at][0])):
                assert sum(sizes[run.group] * run.repeat for run in runs) == channels
        starts = [0]
        for run in origins.made:
            starts.append(starts[-1] + widths[run.group] * run.repeat)
        assert [run.start for run in origins.made] == starts[:-1]
        if at in owner:
            assert origins.made == (Run(owner[at], 0, 1),)


def test_the_sums_of_a_stage_tie_its_widths_together():
    arch = named("resnet18:width=8", (3, 32, 32), 10)
    names = {group.name: [arch.layers[at].name for at in group.members] for group in channel_groups(arch)}
    assert names["conv1"] == ["conv1", "layer1.0.conv2", "layer1.1.conv2"]
    assert names["layer2.0.conv2"] == ["layer2.0.conv2", "layer2.0.shortcut.conv", "layer2.1.conv2"]
    assert names["layer1.0.conv1"] == ["layer1.0.conv1"]
    assert [group.name for group in channel_groups(arch) if group.fixed] == ["input", "linear"]


def test_a_sum_with_the_input_fixes_its_width():
    arch = net(conv("a", 3), Layer(op="add", inputs=(-1, 0)), conv("b", 4), *HEAD)
    assert list(free(arch)) == ["b"]


def test_a_gate_is_as_wide_as_what_it_gates_and_its_waist_is_free():
    arch = net(
        conv("a", 8), Layer(op="global_pool"), conv("down", 2), Layer(op="act"), conv("up", 8),
        Layer(op="act", act="sigmoid"), Layer(op="mul", inputs=(0, 5)), *HEAD,
    )  # fmt: skip
    assert {name: group.members for name, group in free(arch).items()} == {"a": (0, 4), "down": (2,)}


@pytest.mark.parametrize("groups", [0, 8])
def test_a_depthwise_convolution_follows_what_arrives(groups):
    deep = conv("deep", 8 if groups else None, groups=groups)
    arch = net(conv("a", 8), deep, Layer(op="norm", name="n"), *HEAD)
    assert list(free(arch)) == ["a"]
    narrow = shrunk(arch, [3, 5, 10])
    assert narrow.shapes[1][0] == 5
    assert narrow.layer_params[1] == 5 * 9 + 5


def test_a_depthwise_multiplier_stays():
    arch = net(conv("a", 4), conv("deep", 12, groups=4), *HEAD)
    narrow = shrunk(arch, [3, 2, 10])
    assert (narrow.layers[1].groups, narrow.layers[1].out) == (2, 6)
    assert channel_origins(arch)[1].made == (Run(1, 0, 3),)


def test_grouped_convolutions_keep_both_sides_divisible():
    arch = net(conv("a", 12), conv("b", 8, groups=4), conv("c", 6, groups=2), *HEAD)
    assert {name: group.step for name, group in free(arch).items()} == {"a": 4, "b": 4, "c": 2}
    narrow = shrunk(arch, [3, 7, 1, 5, 10])
    assert [layer.out for layer in narrow.layers[:3]] == [4, 4, 4]


def test_a_concatenation_into_a_grouped_convolution_keeps_its_widths():
    arch = net(conv("a", 4), conv("b", 4, -1), Layer(op="cat", inputs=(0, 1)), conv("c", 8, groups=2), *HEAD)
    assert list(free(arch)) == ["c"]


def test_a_sum_passes_on_steps_and_fixed_widths():
    stepped = net(conv("a", 8), conv("b", 8, -1, groups=4), Layer(op="add", inputs=(0, 1)), *HEAD, channels=16)
    assert free(stepped)["a"].step == 4
    held = net(
        conv("a", 4), conv("b", 4, -1), Layer(op="cat", inputs=(1, 1)), conv("c", 8, -1),
        Layer(op="add", inputs=(2, 3)), Layer(op="add", inputs=(0, 1)), Layer(op="cat", inputs=(4, 5)),
        conv("d", 5), *HEAD,
    )  # fmt: skip
    assert list(free(held)) == ["d"]  # b may not change, so a, added to it, may not either


def test_a_flatten_after_a_concatenation_is_runs_of_repeated_channels():
    arch = net(
        conv("a", 4), conv("b", 2, -1), Layer(op="cat", inputs=(0, 1)), Layer(op="max_pool", kernel=(4,)),
        Layer(op="flatten"), Layer(op="linear", name="head", out=10),
    )  # fmt: skip
    assert channel_origins(arch)[5].given == (Run(1, 0, 4), Run(2, 16, 4))
    narrow = shrunk(arch, [3, 3, 1, 10])
    assert narrow.arriving(5) == (16,)
    assert channel_origins(narrow)[5].given == (Run(1, 0, 4), Run(2, 12, 4))


def test_parts_of_a_sum_that_do_not_line_up_keep_their_widths():
    arch = net(
        conv("a", 4), conv("b", 4), Layer(op="cat", inputs=(0, 1)), conv("c", 8, -1), Layer(op="add", inputs=(2, 3)),
        conv("d", 5), *HEAD,
    )  # fmt: skip
    assert list(free(arch)) == ["d"]


def test_widths_are_one_a_group():
    with pytest.raises(SpecError, match="one a channel group"):
        shrunk(named("lenet", (1, 28, 28), 10), [1, 2])


def test_the_example_in_the_docstring_holds():
    assert doctest.testmod(architecture_groups).failed == 0
    assert doctest.testmod(architecture_groups).attempted > 0
