"""A supernet: reordering changes no output, prefixes run on its own weights, and scores need no training."""

import numpy as np
import pytest
import torch
from plait.architecture_groups import channel_groups, shrunk
from plait.architectures import Architecture, Layer
from plait.errors import SpecError
from plait.models.distill import Diverged, Training
from plait.models.inheritance import channel_norms, inherit, renormalise
from plait.models.network import build, state_of, tensors, with_state
from plait.models.students import StudentSetup, item_of
from plait.models.supernet import Prefix, SupernetScorer, reordered, sliced, train_supernet
from plait.models.zoo import convnet, resnet
from plait.records import Failed, Request, Scored, generator
from plait.search.network_space import NetworkSpace, named
from small_images import CLASSES, patterns

DATA = patterns(fit=200, validation=90)


def layers(*given):
    return tuple(Layer(**settings) for settings in given)


MIXED = Architecture(
    input=(3, 8, 8),
    layers=layers(
        {"op": "conv", "name": "stem", "out": 8, "kernel": (3,), "padding": (1,)}, {"op": "norm", "name": "n0"},
        {"op": "act"},
        {"op": "conv", "name": "deep", "groups": 0, "kernel": (3,), "padding": (1,)}, {"op": "norm", "name": "n1"},
        {"op": "act"},
        {"op": "conv", "name": "wide", "out": 12}, {"op": "conv", "name": "parts", "out": 12, "groups": 2},
        {"op": "cat", "inputs": (2, 7)}, {"op": "conv", "name": "back", "out": 8}, {"op": "add", "inputs": (2, 9)},
        {"op": "avg_pool", "kernel": (4,)}, {"op": "flatten"},
        {"op": "linear", "name": "mid", "out": 6}, {"op": "act"}, {"op": "linear", "name": "fc", "out": 4},
    ),
)  # fmt: skip
"""Depthwise, grouped, a concatenation, a sum and a flatten of maps."""
NETS = {
    "residual": resnet((3, 8, 8), 4, blocks=(1, 1), width=8),
    "bottleneck": resnet((3, 8, 8), 4, blocks=(1, 1), width=4, bottleneck=True),
    "mixed": MIXED,
}


def settled(arch, seed=0):
    """A network whose norms have scales, shifts and statistics of their own."""
    network = build(arch, seed)
    draw, state = np.random.default_rng(seed), state_of(network)
    for name, array in state.items():
        if array.ndim == 1:
            state[name] = draw.uniform(0.5, 1.5, array.shape).astype(np.float32)
    return with_state(arch, state).eval()


def images(arch, count=6, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, *arch.input)).astype(np.float32))


def halved(arch):
    return shrunk(arch, [max(group.width // 2, 1) for group in channel_groups(arch)])


class TestReordering:
    @pytest.mark.parametrize("name", NETS)
    def test_the_function_is_the_same(self, name):
        network = settled(NETS[name])
        other, x = reordered(network).eval(), images(NETS[name])
        with torch.no_grad():
            assert torch.allclose(network(x), other(x), atol=1e-5)
        assert any((state_of(other)[key] != array).any() for key, array in state_of(network).items())

    @pytest.mark.parametrize("name", NETS)
    def test_norms_fall_in_every_group_that_may_be_narrowed(self, name):
        arch = NETS[name]
        for group, norms in zip(
            channel_groups(arch), channel_norms(arch, state_of(reordered(settled(arch)))), strict=True
        ):
            if not group.fixed and group.step == 1:
                assert (np.diff(norms) <= 1e-5).all()

    def test_its_first_channels_are_those_that_sorted_inheritance_keeps(self):
        arch = NETS["residual"]
        network = settled(arch)
        prefix, heir = sliced(halved(arch), reordered(network)), inherit(halved(arch), network, "sorted", 0)
        with torch.no_grad():
            assert torch.allclose(prefix.eval()(images(arch)), heir.eval()(images(arch)), atol=1e-5)


class TestPrefixes:
    @pytest.mark.parametrize("name", NETS)
    def test_a_prefix_computes_what_a_copy_of_its_weights_does(self, name):
        arch = NETS[name]
        network = settled(arch)
        copy = sliced(halved(arch), network).train()
        assert torch.equal(Prefix(halved(arch), network)(images(arch)), copy(images(arch)))

    def test_gradients_reach_its_channels_and_no_other(self):
        arch = NETS["residual"]
        network = build(arch, 0)
        small = halved(arch)
        Prefix(small, network)(images(arch)).square().sum().backward()
        for name, tensor in tensors(sliced(small, network)).items():
            if isinstance(tensor, torch.nn.Parameter):
                gradient = tensors(network)[name].grad
                inside = gradient[tuple(slice(0, size) for size in tensor.shape)]
                assert torch.count_nonzero(inside) > 0, name
                assert torch.count_nonzero(gradient) == torch.count_nonzero(inside), name

    def test_its_batches_leave_the_supernets_statistics_alone(self):
        network = build(NETS["residual"], 0)
        before = state_of(network)
        Prefix(halved(NETS["residual"]), network)(images(NETS["residual"]))
        assert all((state_of(network)[name] == array).all() for name, array in before.items())

    def test_a_network_that_is_not_within_is_refused(self):
        wider = resnet((3, 8, 8), 4, blocks=(1, 1), width=16)
        with pytest.raises(SpecError, match="within the supernet"):
            sliced(wider, build(NETS["residual"], 0))


TEACHER_ARCH = named(resnet(DATA.input, CLASSES, blocks=(2, 2), width=8))
SPACE = NetworkSpace(TEACHER_ARCH, narrowest=2)
SETUP = StudentSetup.of(DATA, Training(learning_rate=3e-3, batch=32, loss="hard", init="random", weight_decay=0), None)


def ask(scorer, arch, split="validation"):
    (outcome,) = scorer.evaluate([Request(f"{arch.key}@0", item_of(1, split))])
    return outcome


@pytest.fixture(scope="module")
def supernet():
    return train_supernet(build(TEACHER_ARCH, 2), SPACE, SETUP, 4, 0)


class TestTraining:
    def test_one_training_serves_every_network_of_the_space(self, supernet):
        archs = [TEACHER_ARCH, SPACE.smallest(), *(SPACE.draw(generator(seed, "test")) for seed in range(12))]
        before, after = (
            [ask(SupernetScorer(network, DATA), arch).values["accuracy"] for arch in archs]
            for network in (build(TEACHER_ARCH, 2), supernet)
        )
        assert np.mean(after) > np.mean(before) + 0.2
        assert after[0] > 2 * DATA.chance

    def test_equal_arguments_give_equal_bits_and_no_global_draw(self, supernet):
        torch.manual_seed(3)
        state = torch.random.get_rng_state()
        one, two = (train_supernet(build(TEACHER_ARCH, 2), SPACE, SETUP, 1, seed) for seed in (0, 0))
        assert torch.equal(torch.random.get_rng_state(), state)
        assert all((state_of(one)[name] == array).all() for name, array in state_of(two).items())
        other = train_supernet(build(TEACHER_ARCH, 2), SPACE, SETUP, 1, 1)
        assert any((state_of(other)[name] != array).any() for name, array in state_of(one).items())

    def test_every_step_trains_the_largest_the_smallest_and_those_between(self):
        asked = []

        class Watched:
            def smallest(self):
                asked.append("smallest")
                return SPACE.smallest()

            def draw(self, rng):
                asked.append("draw")
                return SPACE.draw(rng)

        train_supernet(build(TEACHER_ARCH, 2), Watched(), SETUP, 2, 0, between=3)
        steps = -(-len(DATA.fit_x) // 32)
        assert asked == ["smallest", *["draw"] * (2 * steps * 3)]

    def test_the_smallest_is_trained_and_not_only_found(self):
        class Pair:
            def __init__(self, arch):
                self.arch = arch

            def smallest(self):
                return self.arch

            def draw(self, rng):
                raise AssertionError("nothing between was asked for")

        one, two = (
            train_supernet(build(TEACHER_ARCH, 2), Pair(arch), SETUP, 1, 0, between=0)
            for arch in (SPACE.smallest(), SPACE.uniform(0.5))
        )
        assert any((state_of(one)[name] != array).any() for name, array in state_of(two).items())

    def test_a_loss_that_is_no_number_is_told(self):
        wild = Training(learning_rate=1e30, optimiser="sgd", batch=32, loss="hard", init="random", weight_decay=0)
        with pytest.raises(Diverged, match="prefix in epoch"):
            train_supernet(build(TEACHER_ARCH, 2), SPACE, StudentSetup.of(DATA, wild, None), 2, 0)


class TestScorer:
    def test_scores_are_of_the_slice_with_statistics_of_its_own(self, supernet):
        arch = SPACE.uniform(0.5, 0.5)
        outcome = ask(SupernetScorer(supernet, DATA), arch)
        network = sliced(arch, supernet)
        stale = (network.eval()(torch.from_numpy(DATA.validation_x)).argmax(1).numpy() == DATA.validation_y).sum()
        renormalise(network, [torch.from_numpy(DATA.fit_x)])
        fresh = (network.eval()(torch.from_numpy(DATA.validation_x)).argmax(1).numpy() == DATA.validation_y).sum()
        assert abs(outcome.values["correct"] - fresh) <= 5  # batches of 128 there, one of all here
        assert outcome.values["correct"] > stale

    def test_values_are_those_of_a_student_that_cost_no_epoch(self, supernet):
        outcome = ask(SupernetScorer(supernet, DATA), TEACHER_ARCH)
        assert set(outcome.values) == {"accuracy", "loss", "correct", "n", "epochs", "curve"}
        assert (outcome.values["epochs"], outcome.values["n"], outcome.cost["epochs"]) == (0, 90, 0)

    def test_the_rung_and_batch_mates_change_nothing(self, supernet):
        arch, other = SPACE.uniform(0.5), SPACE.smallest()
        scorer = SupernetScorer(supernet, DATA)
        requests = [Request(f"{net.key}@{rung}", item_of(1)) for net, rung in ((other, 0), (arch, 3), (arch, 0))]
        _, third, zeroth = scorer.evaluate(requests)
        assert third.values == zeroth.values == ask(SupernetScorer(supernet, DATA), arch).values

    def test_the_test_part_is_asked_for_only_when_it_is_reported(self, supernet):
        assert isinstance(ask(SupernetScorer(supernet, DATA), TEACHER_ARCH, "test"), Failed)
        scorer = SupernetScorer(supernet, DATA, DATA.test)
        assert isinstance(tested := ask(scorer, TEACHER_ARCH, "test"), Scored)
        assert tested.values["n"] == 50

    @pytest.mark.parametrize(
        "arch",
        [resnet(DATA.input, CLASSES, blocks=(2, 2), width=16), convnet(DATA.input, CLASSES, 4), NETS["residual"]],
        ids=["wider", "other layers", "other data"],
    )
    def test_networks_that_it_does_not_hold_fail(self, supernet, arch):
        outcome = ask(SupernetScorer(supernet, DATA), arch)
        assert isinstance(outcome, Failed)
        assert outcome.reason == "BadInput"

    def test_what_values_depend_on_is_in_the_spec(self, supernet):
        specs = [
            SupernetScorer(supernet, DATA).spec,
            SupernetScorer(reordered(build(TEACHER_ARCH, 2)), DATA).spec,
            SupernetScorer(supernet, patterns(fit=200, validation=90, seed=1)).spec,
        ]
        assert len({str(spec) for spec in specs}) == 3
