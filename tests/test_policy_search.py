"""Policy-gradient search: what is invalid, what is asked, what is learned, what ends it."""

import dataclasses
import math
import statistics
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.architectures import Architecture, Layer
from plait.errors import SpecError
from plait.models.zoo import named
from plait.records import Failed, Scored, digest, generator
from plait.search.asha import Asha
from plait.search.epochs import Epochs
from plait.search.halving import Rung
from plait.search.network_space import NetworkSpace
from plait.search.policy_features import KERNEL, OUTPUTS, PADDING, STRIDE, module_layers, paper_features, with_window
from plait.search.policy_profiles import PAPER, PLAIT, policy_profile
from plait.search.policy_rungs import Race, Scores
from plait.search.policy_search import PolicySearch
from plait.search.policy_stages import RemovalStage, ShrinkageStage, UnitStage
from plait.search.rewards import constrained
from plait.search.uniform import even_students

SMALL = named("cnn:width=16", (1, 8, 8), 10)
RESNET = named("resnet20:width=8", (3, 16, 16), 10)
PLAIN = named("vgg11:width=16", (1, 14, 14), 10)
SCHEDULE = (1, 2, 4, 8)
TENTHS = tuple(number / 10 for number in range(1, 11))


def made_up(arch: Architecture) -> float:
    """A reward that the architecture alone decides."""
    return int(digest(arch.key)[:8], 16) / 16**8


def play(
    search: PolicySearch, ask: int = 8, lag: int = 16, reward=lambda rung: Scored({"reward": made_up(rung.candidate)})
):
    """Run a search to its end; return the rungs in the order of asking."""
    asked, waiting = [], []
    while not search.done or waiting:
        new = search.ask(ask) if not search.done and len(waiting) + ask <= lag else []
        waiting += new
        asked += [trial.candidate for trial in new]
        if not new:
            trial = waiting.pop(0)
            search.tell(trial, reward(trial.candidate))
    return asked


def space_of(teacher: Architecture, share: float | None = None) -> NetworkSpace:
    return NetworkSpace(teacher, limit=None if share is None else share * teacher.params)


class TestPublishedRules:
    def test_keeping_every_layer_compresses_nothing_and_is_invalid(self):
        for teacher in (SMALL, RESNET):
            stage = RemovalStage(teacher)
            assert stage.architecture([1] * len(stage.steps.features)) is None
            shrinkage = ShrinkageStage(teacher, TENTHS)
            assert shrinkage.architecture([9] * len(shrinkage.steps.features)) is None

    def test_an_invalid_rollout_gets_minus_one_and_is_never_asked(self):
        search = PolicySearch(space_of(named("lenet", (1, 28, 28), 10)), 60, PAPER, 1)
        asked = {rung.candidate.key for rung in play(search)}
        invalid = [rollout for rollout in search.rollouts if rollout.key is None]
        assert invalid
        assert {rollout.reward for rollout in invalid} == {-1.0}
        assert {rollout.key for rollout in search.rollouts if rollout.reward is not None} - {None} == asked

    def test_first_last_linear_and_strided_layers_survive_when_all_are_dropped(self):
        teacher = named("resnet18:width=8", (3, 32, 32), 10)
        stage = RemovalStage(teacher)
        bare = stage.architecture([0] * len(stage.steps.features))
        assert bare is not None
        left = {layer.name for layer in bare.layers}
        strided = {layer.name for layer in teacher.layers if layer.op == "conv" and max(layer.stride, default=1) > 1}
        assert strided
        assert {"conv1", "linear"} | strided <= left

    def test_actions_are_as_many_as_layers_off_the_shortcuts(self):
        """The released code's 51 actions for 45 layers shift every action after the first projection."""
        teacher = named("resnet18:width=8", (3, 32, 32), 10)
        stage = RemovalStage(teacher)
        layers = module_layers(teacher)
        assert len(stage.steps.features) == len(layers)
        assert len(layers) == sum(layer.op not in ("add", "flatten") and not layer.shortcut for layer in teacher.layers)
        kept = [1] * len(layers)
        droppable = next(at for at in layers if teacher.layers[at].name == "layer4.1.conv2")
        kept[layers.index(droppable)] = 0
        found = stage.architecture(kept)
        assert found is not None
        gone = {layer.name for layer in teacher.layers if layer.op == "conv"} - {layer.name for layer in found.layers}
        assert gone == {"layer4.1.conv2"}

    def test_a_linear_layer_of_more_than_fifty_thousand_inputs_is_invalid(self):
        layers = (
            Layer(op="conv", name="a", out=16, kernel=(3,), padding=(1,)),
            Layer(op="conv", name="b", out=16, kernel=(3,), padding=(1,)),
            Layer(op="max_pool", kernel=(2,)), Layer(op="flatten"), Layer(op="linear", name="c", out=10),
        )  # fmt: skip
        teacher = Architecture(input=(3, 64, 64), layers=layers)
        stage = RemovalStage(teacher)
        assert stage.architecture([1, 0, 1, 1]) is not None  # 16 x 32 x 32 inputs
        assert stage.architecture([1, 0, 0, 1]) is None  # 16 x 64 x 64
        # The rule and not the parameters: with a parent so large that nothing outgrows it, it still holds.
        wide = (layers[0], layers[1].model_copy(update={"out": 64}), *layers[2:])
        stage = RemovalStage(Architecture(input=(3, 64, 64), layers=wide))
        assert stage.architecture([1, 0, 0, 1]) is None

    def test_layers_that_no_longer_fit_the_image_are_invalid(self):
        convs = [Layer(op="conv", name=str(at), out=12, kernel=(3,), padding=(1,)) for at in range(4)]
        tail = (Layer(op="global_pool"), Layer(op="flatten"), Layer(op="linear", name="out", out=10))
        stage = ShrinkageStage(Architecture(input=(1, 6, 6), layers=(*convs, *tail)), TENTHS)
        shrink = [9, 9, 9, 9] * 4
        shrink[3] = 8  # fewer filters: a valid student
        assert stage.architecture(shrink) is not None
        shrink[2::4] = [0] * 4  # and no padding: 6, 4, 2, 0
        assert stage.architecture(shrink) is None

    def test_features_are_the_seven_published_numbers(self):
        layers = module_layers(RESNET)
        rows = dict(zip((RESNET.layers[at].name for at in layers), paper_features(RESNET, layers), strict=True))
        assert rows["conv1"] == [1, 3, 1, 1, 8, 0, 0]
        assert rows["layer2.0.conv1"][:5] == [1, 3, 2, 1, 16]
        branch = [row for name, row in rows.items() if name.startswith("layer2.0.")]
        assert [row[5:] for row in branch] == [[at, len(branch) - 1 - at] for at in range(len(branch))]

    def test_shrinking_rounds_down_and_leaves_ten_filters(self):
        stage = ShrinkageStage(named("vgg13:width=64", (1, 14, 14), 10), TENTHS)
        found = stage.architecture([9, 9, 9, 0, *[9] * (len(stage.steps.features) - 4)])
        assert found is not None
        assert found.layers[0].out == 10
        found = stage.architecture([9, 9, 9, 5, *[9] * (len(stage.steps.features) - 4)])
        assert found is not None
        assert found.layers[0].out == 38

    def test_windows_are_scaled_down_to_one(self):
        teacher = named("lenet", (1, 28, 28), 10)
        found = with_window(teacher, {0: {KERNEL: 0.7}, 2: {KERNEL: 0.5, STRIDE: 0.1, PADDING: 0.5}, 3: {OUTPUTS: 0.1}})
        assert found.layers[0].kernel == (3,)
        assert (found.layers[2].kernel, found.layers[2].stride) == ((1,), (1,))
        assert found.layers[3:] == teacher.layers[3:]
        assert with_window(teacher, {0: {KERNEL: 1.0}, 2: {STRIDE: 1.0}}) == teacher

    def test_past_a_limit_the_reward_sinks_to_minus_one(self):
        teacher = named("vgg13:width=16", (1, 14, 14), 10)
        search = PolicySearch(space_of(teacher, 0.05), 800, PAPER, 2)
        asked = {rung.candidate.key: rung.candidate for rung in play(search)}
        seen = set()
        for rollout in search.rollouts:
            if rollout.key is not None and rollout.reward is not None:
                arch = asked[rollout.key]
                over = arch.params > 0.05 * teacher.params
                seen.add((over, min(rollout.iteration, 15) // 15))
                assert rollout.reward == pytest.approx(constrained(made_up(arch), over, rollout.iteration))
        assert {(True, 0), (True, 1), (False, 0)} <= seen

    def test_stage_two_starts_from_the_best_of_stage_one(self):
        search = PolicySearch(space_of(named("vgg13:width=16", (1, 14, 14), 10)), 300, PAPER, 3)
        asked = play(search)
        first = [rollout.key for rollout in search.rollouts if rollout.stage == 0 and rollout.key]
        nets = {rung.candidate.key: rung.candidate for rung in asked}
        winner = max((nets[key] for key in first if key in nets), key=made_up)
        second = [nets[rollout.key] for rollout in search.rollouts if rollout.stage == 1 and rollout.key in nets]
        assert second
        names = [layer.name for layer in winner.layers if layer.name]
        assert all([layer.name for layer in net.layers if layer.name] == names for net in second)
        assert all(net.params < winner.params for net in second)
        assert {rung.rung for rung in asked} == {0}


class TestOurs:
    @pytest.mark.parametrize("teacher", ["resnet18:width=8", "resnet20:width=8", "vgg13:width=16", "cnn:width=16"])
    @pytest.mark.parametrize("share", [0.1, 0.4])
    def test_every_rollout_is_within_the_limit(self, teacher, share):
        space = space_of(named(teacher, (3, 16, 16), 10), share)
        stage = UnitStage(space)
        rng = generator(0, "test")
        for _ in range(20):
            actions = [rng.choice([at for at, legal in enumerate(row) if legal]) for row in stage.steps.legal]
            arch = stage.architecture(actions)
            assert space.feasible(arch)
            assert arch.shapes[-1] == (10,)

    def test_every_unit_and_every_group_is_decided_once(self):
        for teacher in (SMALL, RESNET, named("resnet50:width=8", (3, 16, 16), 10)):
            space = space_of(teacher)
            slots = UnitStage(space).slots
            assert sorted(slot.unit for slot in slots if slot.unit is not None) == list(range(len(space.units)))
            assert sorted(group for slot in slots for group in slot.groups) == list(range(len(space.groups)))

    def test_what_cannot_be_dropped_or_has_no_width_is_masked(self):
        stage = UnitStage(space_of(RESNET))
        for slot, legal in zip(stage.slots, stage.steps.legal, strict=True):
            assert legal[0] == (slot.unit is not None)
            assert legal[-1]
            assert all(legal[1:]) == bool(slot.groups)
            assert any(legal[1:-1]) == bool(slot.groups)

    def test_what_the_policy_reads_is_about_one_and_tells_slots_apart(self):
        stage = UnitStage(space_of(RESNET))
        assert all(0 <= number <= 1.5 for row in stage.steps.features for number in row)
        assert len({tuple(row) for row in stage.steps.features}) == len(stage.steps.features)

    def test_rewards_of_a_batch_differ_and_so_do_credits(self):
        search = PolicySearch(space_of(RESNET, 0.3), 60, PLAIT, 0, SCHEDULE)
        play(search)
        rewards = [rollout.reward for rollout in search.rollouts[: PLAIT.rollouts]]
        assert len(set(rewards)) == len({rollout.key for rollout in search.rollouts[: PLAIT.rollouts]}) > 4


class TestBudget:
    @settings(max_examples=12, deadline=None)
    @given(st.integers(8, 120), st.integers(0, 99), st.sampled_from([PLAIT, PAPER]))
    def test_no_more_is_asked_than_is_paid_for(self, budget, seed, profile):
        search = PolicySearch(space_of(SMALL, 0.4), budget, profile, seed)
        asked = play(search)
        schedule = search.epochs.schedule
        steps = [schedule[0], *(later - before for before, later in pairwise(schedule))]
        assert sum(steps[rung.rung] for rung in asked) == search.epochs.spent <= budget
        assert len(set(asked)) == len(asked)
        for rung in asked:
            assert rung.rung == 0 or Rung(rung.candidate, rung.rung - 1) in asked

    def test_what_is_asked_does_not_depend_on_how_many_at_once(self):
        one, two = (PolicySearch(space_of(RESNET, 0.3), 100, PLAIT, 5, SCHEDULE) for _ in range(2))
        assert play(one, 1, 1) == play(two, 8, 32)
        assert one.policies() == two.policies()

    def test_another_process_asks_the_same_bits(self):
        code = (
            "from plait.models.zoo import named\n"
            "from plait.records import Scored, digest\n"
            "from plait.search.network_space import NetworkSpace\n"
            "from plait.search.policy_profiles import policy_profile\n"
            "from plait.search.policy_search import PolicySearch\n"
            "teacher = named('cnn:width=16', (1, 8, 8), 10)\n"
            "for name in ('plait', 'n2n-paper'):\n"
            "    space = NetworkSpace(teacher, limit=0.4 * teacher.params)\n"
            "    search = PolicySearch(space, 60, policy_profile(name), 7)\n"
            "    while not search.done:\n"
            "        for trial in search.ask(4):\n"
            "            key = trial.candidate.candidate.key\n"
            "            search.tell(trial, Scored({'reward': int(digest(key)[:8], 16) / 16**8}))\n"
            "    saved = [weights.hex() for weights in search.policies().values()]\n"
            "    print(digest([saved, [rollout.key for rollout in search.rollouts]]))\n"
        )
        runs = [
            subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads},
                           capture_output=True, text=True, check=True).stdout
            for seed, threads in (("1", "1"), ("2", "2"))
        ]  # fmt: skip
        assert runs[0] == runs[1]
        assert len(runs[0].split()) == 2


class TestEnds:
    def test_a_teacher_with_nothing_to_decide_asks_nothing(self):
        search = PolicySearch(space_of(named("mlp:16", (1, 8, 8), 10)), 100, PAPER, 0)
        assert search.done
        assert search.ask(4) == []
        assert search.best is None
        assert {rollout.reward for rollout in search.rollouts} <= {-1.0}

    def test_batches_of_invalid_networks_alone_do_not_stall(self):
        search = PolicySearch(space_of(named("cnn1d:width=25", (1, 40), 10)), 50, PAPER, 0)
        first = [rollout for rollout in search.rollouts if rollout.stage == 0]
        assert len(first) == PAPER.rollouts * min(PAPER.iterations, PAPER.patience)
        assert {rollout.key for rollout in first} == {None}
        assert play(search)

    def test_it_ends_when_the_policy_asks_nothing_new(self):
        teacher = named("cnn1d:width=25", (1, 40), 10)
        space = NetworkSpace(teacher, factors=(0.5, 1.0))
        search = PolicySearch(space, 10_000, PLAIT, 0, (1,))
        asked = play(search)
        assert search.done
        assert 1 < len(asked) <= round(space.size)
        assert search.epochs.left > 0

    def test_failures_are_no_rewards(self):
        def half(rung: Rung):
            value = made_up(rung.candidate)
            return Failed("Diverged") if value < 0.5 else Scored({"reward": value})

        search = PolicySearch(space_of(RESNET, 0.3), 80, PLAIT, 1, SCHEDULE)
        asked = play(search, reward=half)
        failed = {rung.candidate.key for rung in asked if made_up(rung.candidate) < 0.5}
        assert failed
        assert all(rollout.reward is None for rollout in search.rollouts if rollout.key in failed)
        assert not {rung.candidate.key for rung in asked if rung.rung} & failed

    def test_a_reward_that_is_no_number_is_a_failure(self):
        search = PolicySearch(space_of(SMALL, 0.4), 30, PLAIT, 1, SCHEDULE)
        play(search, reward=lambda rung: Scored({"reward": math.nan}))
        assert search.best is None
        assert {rollout.reward for rollout in search.rollouts} == {None}


class TestTransfer:
    @pytest.mark.parametrize("name", ["plait", "n2n-paper"])
    def test_a_policy_of_one_teacher_starts_a_search_on_another(self, name):
        profile = policy_profile(name)
        small = PolicySearch(space_of(named("vgg11:width=8", (1, 14, 14), 10), 0.4), 120, profile, 0)
        play(small)
        large = space_of(named("vgg19:width=8", (1, 14, 14), 10), 0.4)
        warm, cold = PolicySearch(large, 60, profile, 1, start=small.policies()), PolicySearch(large, 60, profile, 1)
        assert (
            warm.rollouts[0].actions != cold.rollouts[0].actions or warm.rollouts[1].actions != cold.rollouts[1].actions
        )
        play(warm)
        assert warm.best is not None

    def test_a_saved_policy_goes_on_where_it_was(self):
        search = PolicySearch(space_of(RESNET, 0.3), 60, PLAIT, 0, SCHEDULE)
        play(search)
        again = PolicySearch(space_of(RESNET, 0.3), 60, PLAIT, 0, SCHEDULE, start=search.policies())
        assert again.policies() == search.policies()

    def test_a_policy_of_another_profile_is_refused(self):
        saved = PolicySearch(space_of(SMALL, 0.4), 30, PLAIT, 0).policies()
        with pytest.raises(SpecError, match="saved policy"):
            PolicySearch(space_of(SMALL), 30, PAPER, 0, start=saved)


class TestRaces:
    NETS = tuple(named(f"cnn:width={width}", (1, 8, 8), 10) for width in range(4, 12))

    def race(self, scores: Scores, budget: int = 100) -> list[Rung]:
        race, asked = Race(list(self.NETS), scores, Epochs(budget, SCHEDULE), 2), []
        while not race.finished:
            taken = race.take(3)
            asked += taken
            for rung in taken:
                scores.record(rung.candidate.key, rung.rung, float(self.NETS.index(rung.candidate) + 10 * rung.rung))
                race.tell()
        return asked

    def test_the_better_half_goes_on(self):
        asked = self.race(Scores())
        by_rung = [[self.NETS.index(rung.candidate) for rung in asked if rung.rung == at] for at in range(4)]
        assert by_rung == [[0, 1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4], [7, 6], [7]]

    def test_what_is_known_is_not_asked_again(self):
        scores = Scores()
        self.race(scores)
        assert self.race(scores) == []

    def test_what_cannot_be_paid_is_left_out(self):
        asked = self.race(Scores(), 9)
        assert [rung.rung for rung in asked] == [0] * 8 + [1]

    def test_the_promise_of_a_stopped_one_has_the_mean_gain_of_those_that_went_on(self):
        scores = Scores()
        for key, rewards in {"a": [0.5, 0.7, 0.9], "b": [0.4, 0.5], "c": [0.2]}.items():
            for rung, reward in enumerate(rewards):
                scores.record(key, rung, reward)
        gains = scores.gains()
        assert gains == pytest.approx([0.15, 0.2])
        assert [scores.promise(key, gains) for key in "abc"] == pytest.approx([0.9, 0.7, 0.55])
        assert scores.promise("d", gains) is None
        assert scores.best() == "a"
        scores.record("a", 3, None)
        assert scores.promise("a", scores.gains()) is None


class Landscape:
    """Rewards known by construction: what each unit and each group is worth, width paying less and less.

    Training closes in on a network's quality, and what is measured is a little off.
    """

    def __init__(self, space: NetworkSpace, seed: int) -> None:
        self.space = space
        rng = generator(seed, "landscape")
        self.units = [rng.random() ** 2 for _ in space.units]
        self.groups = [rng.random() ** 2 for _ in space.groups]

    def quality(self, arch: Architecture) -> float:
        space, genes = self.space, self.space.genes(arch)
        names = {layer.name for layer in arch.layers}
        worth = sum(value for value, kept in zip(self.units, genes.keep, strict=True) if kept)
        for group, value, factor in zip(space.groups, self.groups, genes.factors, strict=True):
            if any(space.teacher.layers[at].name in names for at in group.members):
                worth += value * (1 - math.exp(-4 * factor)) / (1 - math.exp(-4))
        return worth / (sum(self.units) + sum(self.groups))

    def reward(self, rung: Rung) -> Scored:
        epochs = SCHEDULE[rung.rung]
        noise = 0.02 * (made_up_at(rung) - 0.5) * (1 + 2 * math.exp(-epochs / 2))
        return Scored({"reward": self.quality(rung.candidate) * (1 - 0.6 * math.exp(-epochs / 4)) + noise})

    def chosen(self, asked: list[Rung]) -> float:
        """Return the true quality of the best at the highest rung, which is what a search would hand back."""
        top = max(rung.rung for rung in asked)
        at_top = [rung for rung in asked if rung.rung == top]
        return self.quality(max(at_top, key=lambda rung: self.reward(rung).values["reward"]).candidate)


def made_up_at(rung: Rung) -> float:
    return int(digest(rung.key)[:8], 16) / 16**8


def test_the_policy_beats_its_first_batch_and_random_search_at_the_same_budget():
    """On ten landscapes, 150 student-epochs each; the rival is asynchronous halving around random draws."""
    ours, first, blind = [], [], []
    for seed in range(10):
        space = space_of(PLAIN, 0.3)
        land = Landscape(space, seed)
        asked = play(PolicySearch(space, 150, PLAIT, seed, SCHEDULE), reward=land.reward)
        ours.append(land.chosen(asked))
        first.append(max(land.quality(rung.candidate) for rung in asked[: PLAIT.rollouts]))
        blind.append(land.chosen(play(Asha(space, 150, seed, SCHEDULE), reward=land.reward)))
    assert sum(found > start for found, start in zip(ours, first, strict=True)) >= 8
    assert sum(ours) > sum(blind)
    assert sum(found > rival for found, rival in zip(ours, blind, strict=True)) >= 6


def test_what_a_policy_samples_gets_better_because_it_learns():
    """Beside the same search at a learning rate of nothing, whose prior and halving alone find a good network too."""
    frozen = dataclasses.replace(PLAIT, rates=(0.0,))
    late: dict[str, list[float]] = {"learned": [], "frozen": []}
    found: dict[str, list[float]] = {"learned": [], "frozen": []}
    for seed in range(3):
        space = space_of(RESNET, 0.3)
        land = Landscape(space, seed)
        for name, profile in (("learned", PLAIT), ("frozen", frozen)):
            asked = play(PolicySearch(space, 200, profile, seed, SCHEDULE), reward=land.reward)
            late[name] += [land.quality(rung.candidate) for rung in asked[-30:] if rung.rung == 0]
            found[name].append(land.chosen(asked))
    assert statistics.mean(late["learned"]) > statistics.mean(late["frozen"]) + 0.05
    assert sum(found["learned"]) > sum(found["frozen"])


def test_what_must_be_beaten_is_trained_to_the_last_rung_before_the_first_batch():
    space = space_of(RESNET, 0.3)
    even = even_students(space)
    assert len(even) >= 2
    search = PolicySearch(space, 120, PLAIT, 0, (1, 2, 4), first=even)
    asked = play(search)
    assert [rung.key for rung in asked[: len(even)]] == [Rung(arch, 2).key for arch in even]
    assert {rung.rung for rung in asked[len(even) : len(even) + 4]} == {0}
    assert search.epochs.spent <= 120
    assert len(search.rollouts) >= PLAIT.rollouts
