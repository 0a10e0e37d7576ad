"""The space of networks that come of a teacher: every draw within the limit, or one clear line before anything runs."""

import math
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.architectures import Architecture, Layer
from plait.errors import SpecError
from plait.models.zoo import named, resnet
from plait.records import generator
from plait.search.network_space import NetworkSpace
from plait.search.uniform import uniform_students

TEACHERS = {
    "resnet18:width=8": (3, 16, 16), "vgg13:width=8": (3, 32, 32),
    "lenet": (1, 28, 28), "cnn1d:width=25": (1, 40), "mlp:64-32": (64,),
}  # fmt: skip


def separable() -> Architecture:
    """A net of depthwise and grouped convolutions, a gate and a concatenation; some layers have no name."""
    conv = {"kernel": (3,), "padding": (1,)}
    return Architecture(
        input=(3, 8, 8),
        layers=(
            Layer(op="conv", name="stem", out=16, **conv),
            Layer(op="act"),
            Layer(op="conv", name="depth", groups=0, **conv),
            Layer(op="conv", out=16),
            Layer(op="conv", name="grouped", out=16, groups=4, **conv),
            Layer(op="norm"),
            Layer(op="act"),
            Layer(op="global_pool"),
            Layer(op="conv", name="gate", out=16),
            Layer(op="act", act="sigmoid"),
            Layer(op="mul", inputs=(6, 9)),
            Layer(op="cat", inputs=(10, 1)),
            Layer(op="max_pool", kernel=(2,)),
            Layer(op="flatten"),
            Layer(op="linear", name="head", out=10),
        ),
    )


def teacher_of(name: str) -> Architecture:
    if name == "bottlenecks":
        return resnet((3, 8, 8), 10, blocks=(2, 2), width=4, bottleneck=True)
    return separable() if name == "separable" else named(name, TEACHERS[name], 10)


@lru_cache
def open_space(name: str, cost: str = "params", floor: int = 4, blocks: bool = True) -> NetworkSpace:
    """A space without a limit: to look at, and to know the smallest of."""
    return NetworkSpace(teacher_of(name), COSTS[cost], narrowest=floor, blocks=blocks)


def weights(arch: Architecture) -> list[tuple[str, int]]:
    """Names and channels of the layers with weights."""
    pairs = zip(arch.layers, arch.shapes, strict=True)
    return [(layer.name, shape[0]) for layer, shape in pairs if layer.name]


NAMES = [*TEACHERS, "bottlenecks", "separable"]
COSTS = {"params": lambda arch: arch.params, "macs": lambda arch: arch.macs, "layers": lambda arch: len(arch.layers)}


class TestDraws:
    @given(
        st.sampled_from(NAMES), st.sampled_from(["params", "macs"]), st.floats(0, 1), st.booleans(),
        st.sampled_from([1, 4, 12]), st.integers(0, 10**6),
    )  # fmt: skip
    def test_every_draw_neighbour_and_child_is_within_a_reachable_limit(self, name, cost, share, blocks, floor, seed):
        least, teacher, cost = open_space(name, cost, floor, blocks).smallest(), teacher_of(name), COSTS[cost]
        least = cost(least)
        limit = math.ceil(least + share**3 * (cost(teacher) - least))
        space = NetworkSpace(teacher, cost, limit, narrowest=floor, blocks=blocks)
        rng = generator(seed, "test")
        first, second = space.draw(rng), space.draw(rng)
        for arch in (first, second, space.neighbour(first, rng), space.cross(first, second, rng)):
            assert cost(arch) <= limit
            assert arch.shapes[-1] == (10,)
            assert arch.input == teacher.input
            assert arch.params <= teacher.params or cost is not COSTS["params"]

    @pytest.mark.parametrize("cost", COSTS)
    @pytest.mark.parametrize("name", NAMES)
    def test_an_unreachable_limit_is_one_line_with_the_smallest(self, name, cost):
        teacher, cost = teacher_of(name), COSTS[cost]
        least = NetworkSpace(teacher, cost).smallest()
        assert NetworkSpace(teacher, cost, cost(least)).draw(generator(0, "test")) is not None
        with pytest.raises(SpecError) as error:
            NetworkSpace(teacher, cost, cost(least) - 1)
        line = str(error.value)
        assert "\n" not in line
        assert line.startswith("target: ")
        assert f"{cost(least):g} or more" in line
        assert f"{least.params} parameters" in line

    @pytest.mark.parametrize("name", NAMES)
    def test_a_draw_belongs_to_its_generator_alone(self, name):
        space, again = NetworkSpace(teacher_of(name)), NetworkSpace(teacher_of(name))
        for _ in range(3):
            space.draw(generator(9, "other"))
        assert space.draw(generator(1, "test")).key == again.draw(generator(1, "test")).key

    def test_draws_differ_in_depth_and_width(self):
        space = NetworkSpace(teacher_of("resnet18:width=8"))
        drawn = [space.draw(generator(seed, "test")) for seed in range(60)]
        depths = {sum(space.genes(arch).keep) for arch in drawn}
        assert {0, len(space.units)} <= depths
        assert len({arch.key for arch in drawn}) >= 55

    @pytest.mark.parametrize("factors", [(), (0.0, 1.0), (0.5, 1.5)])
    def test_factors_that_cannot_be(self, factors):
        with pytest.raises(SpecError, match="factors"):
            NetworkSpace(teacher_of("lenet"), factors=factors)


class TestProjection:
    @given(st.sampled_from(NAMES), st.floats(0.02, 0.98), st.integers(0, 10**6))
    def test_it_takes_no_more_than_it_must(self, name, share, seed):
        """One step of the common factor more is past the limit, and what is within it comes back as it is."""
        arch = open_space(name).draw(generator(seed, "test"))
        space = NetworkSpace(teacher_of(name), limit=max(share * arch.params, open_space(name).smallest().params))
        found = space.repaired(arch)
        if found is None:
            assert not space.feasible(space._narrowed(arch, 0.0))
            return
        assert space.feasible(found)
        assert space.repaired(found) is found
        tried = {space._narrowed(arch, step / 1024).params for step in range(0, 1025, 16)}
        assert found.params >= max(params for params in tried if params <= space.limit)

    def test_a_net_too_deep_for_the_limit_loses_its_last_units(self):
        teacher = teacher_of("resnet18:width=8")
        space = NetworkSpace(teacher, limit=NetworkSpace(teacher).smallest().params + 400)
        arch = space.projected([True] * 8, [1.0] * len(space.groups))
        kept = space.genes(arch).keep
        assert any(kept)
        assert not all(kept)
        assert kept == tuple(sorted(kept, reverse=True))


class TestUnits:
    @pytest.mark.parametrize(("name", "units"), [("resnet18:width=8", 8), ("vgg13:width=8", 9), ("lenet", 1)])
    def test_counts(self, name, units):
        assert len(NetworkSpace(teacher_of(name)).units) == units

    def test_an_identity_block_goes_whole_and_a_strided_one_keeps_its_first_convolution(self):
        space = NetworkSpace(teacher_of("resnet18:width=8"))
        for unit in space.units:
            keep = [other is not unit for other in space.units]
            arch = space.apply(keep, [1.0] * len(space.groups))
            convs = sum(layer.op == "conv" for layer in space.teacher.layers) - sum(
                layer.op == "conv" for layer in arch.layers
            )
            strided = unit.name in ("layer2.0", "layer3.0", "layer4.0")
            assert convs == (1 if strided else 2)

    @pytest.mark.parametrize("name", NAMES)
    def test_none_holds_a_pinned_layer_and_no_layer_is_in_two(self, name):
        for blocks in (True, False):
            space = NetworkSpace(teacher_of(name), blocks=blocks)
            layers = [at for unit in space.units for at in unit.layers]
            assert len(layers) == len(set(layers))
            assert not any(space.pinned[at] for at in layers)

    @pytest.mark.parametrize("name", NAMES)
    def test_dropping_one_makes_the_network_smaller(self, name):
        space = NetworkSpace(teacher_of(name))
        for unit in space.units:
            arch = space.apply([other is not unit for other in space.units], [1.0] * len(space.groups))
            assert len(arch.layers) < len(space.teacher.layers)

    def test_single_layers_are_all_that_are_not_pinned(self):
        space = NetworkSpace(teacher_of("vgg13:width=8"), blocks=False)
        assert [unit.layers for unit in space.units] == [(at,) for at, pin in enumerate(space.pinned) if not pin]

    def test_a_wrong_number_of_decisions_is_told(self):
        with pytest.raises(SpecError, match="8 bits and 12 factors"):
            NetworkSpace(teacher_of("resnet18:width=8")).apply([True], [1.0])


class TestGenes:
    @given(st.sampled_from(NAMES), st.booleans(), st.integers(0, 10**6), st.floats(0.05, 1))
    def test_reading_a_network_back_leads_to_it_again(self, name, blocks, seed, share):
        teacher = teacher_of(name)
        least = open_space(name, blocks=blocks).smallest().params
        space = NetworkSpace(teacher, limit=max(least, share * teacher.params), blocks=blocks)
        arch = space.draw(generator(seed, "test"))
        genes = space.genes(arch)
        again = space.apply(genes.keep, genes.factors)
        assert weights(again) == weights(arch)
        if blocks:  # activations and pools have no names: where each is a choice of its own, reading is approximate
            assert again.key == arch.key

    @given(st.sampled_from([name for name in NAMES if name != "mlp:64-32"]), st.integers(0, 10**6))
    def test_decisions_survive_being_read(self, name, seed):
        space = NetworkSpace(teacher_of(name))
        rng = generator(seed, "test")
        keep = [rng.random() < 0.5 for _ in space.units]
        arch = space.apply(keep, [1.0] * len(space.groups))
        assert space.genes(arch).keep == tuple(keep)
        assert all(factor == 1.0 for factor in space.genes(arch).factors)

    def test_a_neighbour_is_another_network(self):
        space = NetworkSpace(teacher_of("resnet18:width=8"))
        arch = space.draw(generator(3, "test"))
        keys = {space.neighbour(arch, generator(seed, "step")).key for seed in range(40)}
        assert arch.key not in keys
        assert len(keys) > 20

    def test_a_child_takes_every_decision_from_a_parent(self):
        space = NetworkSpace(teacher_of("resnet18:width=8"), narrowest=1)
        whole = space.apply([True] * 8, [1.0] * len(space.groups))
        half = space.apply([True] * 8, [0.5] * len(space.groups))
        factors = space.genes(space.cross(whole, half, generator(0, "test"))).factors
        assert set(factors) == {0.5, 1.0}


class TestUniform:
    def test_width_scales_every_group_and_depth_keeps_the_first_of_each_stage(self):
        space = NetworkSpace(teacher_of("resnet18:width=8"))
        arch = space.uniform(0.5, 0.5)
        assert space.genes(arch).keep == (True, False) * 4
        assert {layer.out for layer in arch.layers if layer.op == "conv"} == {4, 8, 16, 32}
        assert space.uniform(1.0).key == space.apply([True] * 8, [1.0] * len(space.groups)).key

    def test_the_family_is_within_limit_and_budget_and_asked_once(self):
        teacher = teacher_of("resnet18:width=8")
        space = NetworkSpace(teacher, limit=0.3 * teacher.params)
        search = uniform_students(space, budget=16 * 5)
        archs = [trial.candidate for trial in search.ask(100)]
        assert 3 <= len(archs) <= 5
        assert {rung.rung for rung in archs} == {4}
        assert len({rung.key for rung in archs}) == len(archs)
        assert all(space.feasible(rung.candidate) for rung in archs)
        # The first is the widest of full depth: the same factor everywhere, and little of the limit unused.
        assert all(space.genes(archs[0].candidate).keep)
        assert archs[0].candidate.params > 0.9 * space.limit

    def test_a_rung_that_is_not_in_the_schedule(self):
        with pytest.raises(SpecError, match="rung"):
            uniform_students(NetworkSpace(teacher_of("lenet")), 100, rung=5)
