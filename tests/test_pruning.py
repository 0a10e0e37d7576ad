"""Pruning: the channels that go are the weakest, the target is met, pruned weights stay 0, levels go on from files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.architecture_groups import channel_groups, channel_origins, shrunk
from plait.errors import SpecError
from plait.models.distill import Training
from plait.models.network import build, label, state_of, with_state
from plait.models.pruning import LotteryTrainer, bn_widths, l1_widths
from plait.models.students import StudentSetup, StudentTrainer, item_of
from plait.models.zoo import convnet, mlp, resnet
from plait.records import Failed, Request, Scored
from small_images import CLASSES, patterns

RESIDUAL = resnet((3, 8, 8), 10, blocks=(2, 2), width=8)
PRUNERS = {"l1": l1_widths, "bn": bn_widths}


def params(arch):
    return arch.params


def weakened(arch, weak, how):
    """A network whose last `weak[g]` channels of each group are 1000 times weaker, in their filters or their scales."""
    state, groups = state_of(build(arch, 0)), channel_groups(arch)
    for at, origins in enumerate(channel_origins(arch)):
        if arch.layers[at].op != ("conv" if how == "l1" else "norm"):
            continue
        for run in origins.made:
            width = groups[run.group].width
            state[f"{label(arch, at)}.weight"][run.start + width - weak[run.group] : run.start + width] *= 1e-3
    return with_state(arch, state)


class TestChannels:
    @pytest.mark.parametrize("how", PRUNERS)
    def test_the_weak_go_and_the_strong_stay(self, how):
        groups = channel_groups(RESIDUAL)
        weak = [0 if group.fixed else 1 + number % 3 for number, group in enumerate(groups)]
        wanted = shrunk(RESIDUAL, [group.width - gone for group, gone in zip(groups, weak, strict=True)])
        found = PRUNERS[how](weakened(RESIDUAL, weak, how), params, wanted.params, narrowest=1)
        assert found.key == wanted.key

    @settings(max_examples=15, deadline=None)
    @given(st.sampled_from(list(PRUNERS)), st.floats(0, 1), st.integers(0, 100), st.sampled_from(["params", "macs"]))
    def test_the_target_is_met_by_the_largest_that_a_threshold_gives(self, how, share, seed, what):
        network = build(RESIDUAL, seed)
        state = state_of(network)
        for name in state:
            if "norm" in name and name.endswith(".weight"):
                state[name][:] = np.random.default_rng(seed).uniform(0, 1, len(state[name]))
        network, cost = with_state(RESIDUAL, state), lambda arch: getattr(arch, what)
        asked = []

        def watched(arch):
            asked.append(cost(arch))
            return asked[-1]

        least = cost(shrunk(RESIDUAL, [4] * len(channel_groups(RESIDUAL))))
        limit = least + share * (cost(RESIDUAL) - least)
        found = PRUNERS[how](network, watched, limit)
        assert cost(found) <= limit
        assert cost(found) == max(value for value in asked if value <= limit)
        again = PRUNERS[how](network, cost, cost(found))
        assert again.key == found.key
        assert all(group.width >= 4 for group in channel_groups(found) if group.width != 3)

    @pytest.mark.parametrize("how", PRUNERS)
    def test_no_other_threshold_gives_a_larger_one_within_the_limit(self, how):
        network = weakened(RESIDUAL, [number % 4 for number in range(len(channel_groups(RESIDUAL)))], "bn")
        limits = [round(RESIDUAL.params * (0.3 + 0.05 * step)) for step in range(15)]
        costs = [PRUNERS[how](network, params, limit).params for limit in limits]
        assert len(set(costs)) > 2
        for limit, cost in zip(limits, costs, strict=True):
            assert cost == max(other for other in costs if other <= limit)

    def test_the_scale_of_a_whole_layer_decides_nothing(self):
        """A norm follows: 100 times the filters of a layer are the same function, and no reason to keep more of it."""
        plain = state_of(build(RESIDUAL, 0))
        scaled = {name: array * 100 if name == "layer1.0.conv1.weight" else array for name, array in plain.items()}
        limit = RESIDUAL.params // 2
        one, two = (l1_widths(with_state(RESIDUAL, state), params, limit) for state in (plain, scaled))
        assert "layer1.0.conv1.weight" in plain
        assert one.key == two.key

    @pytest.mark.parametrize("how", PRUNERS)
    def test_a_limit_that_the_teacher_is_within_prunes_nothing(self, how):
        assert PRUNERS[how](build(RESIDUAL, 0), params, RESIDUAL.params).key == RESIDUAL.key

    @pytest.mark.parametrize("how", PRUNERS)
    def test_an_unreachable_target_says_the_smallest(self, how):
        smallest = shrunk(RESIDUAL, [4] * len(channel_groups(RESIDUAL))).params
        assert PRUNERS[how](build(RESIDUAL, 0), params, smallest).params == smallest
        with pytest.raises(SpecError, match=f"target: got {smallest - 1}, expected {smallest} or more"):
            PRUNERS[how](build(RESIDUAL, 0), params, smallest - 1)

    def test_scales_need_a_norm(self):
        with pytest.raises(SpecError, match="batch norm"):
            bn_widths(build(mlp((16,), 4, (8, 8)), 0), params, 100)


DATA = patterns()
NET = convnet(DATA.input, CLASSES, width=8)
TEACHER = build(convnet(DATA.input, CLASSES, width=16), 3)
TRAINING = Training(learning_rate=3e-3, weight_decay=0.05, schedule=(1, 3), init="random")
SETUP = StudentSetup.of(DATA, TRAINING, TEACHER)


def lottery(folder=None, **settings):
    return LotteryTrainer(settings.pop("setup", SETUP), folder, **{"levels": 12, **settings})


def ask(trainer, level, split="validation", arch=NET):
    (outcome,) = trainer.evaluate([Request(f"{arch.key}@{level}", item_of(5, split))])
    return outcome


def pruned_of(network):
    """Which weights of convolutions and linear layers are 0."""
    state = state_of(network)
    names = [f"{layer.name}.weight" for layer in network.arch.layers if layer.op in ("conv", "linear")]
    return {name: state[name] == 0 for name in names}


class TestLottery:
    def test_levels_keep_four_fifths_each_of_what_was_left(self):
        size = sum(mask.size for mask in pruned_of(build(NET, 0)).values())
        left, found = size, []
        for level in range(4):
            outcome = ask(lottery(), level)
            assert isinstance(outcome, Scored), outcome
            found.append(outcome.values)
            assert outcome.values["kept"] == left / size == pytest.approx(0.8**level, abs=1 / size)
            assert outcome.values["params"] == NET.params - size + left
            left -= round(0.2 * left)
        assert [values["epochs"] for values in found] == [3, 5, 7, 9]
        assert found[3]["curve"] == [values["accuracy"] for values in found]

    def test_the_smallest_go_and_stay_zero_through_training_and_decay(self):
        before, after = (lottery().network(f"{NET.key}@{level}", 5) for level in (0, 1))
        gone, state = pruned_of(after), state_of(before)
        magnitudes = {name: np.abs(state[name]) for name in gone}
        largest_gone = max(magnitudes[name][gone[name]].max() for name in gone)
        smallest_left = min(magnitudes[name][~gone[name]].min() for name in gone)
        assert largest_gone <= smallest_left
        assert sum(mask.sum() for mask in gone.values()) == round(0.2 * sum(mask.size for mask in gone.values()))

    def test_what_is_pruned_once_is_pruned_for_good(self):
        one, two = (pruned_of(lottery().network(f"{NET.key}@{level}", 5)) for level in (1, 2))
        assert all((two[name] | ~one[name]).all() for name in one)
        assert any((two[name] & ~one[name]).any() for name in one)

    def test_level_0_is_the_student_that_other_methods_train(self):
        students = StudentTrainer(SETUP)
        (student,) = students.evaluate([Request(f"{NET.key}@1", item_of(5))])
        ticket = ask(lottery(), 0)
        assert [ticket.values[name] for name in ("accuracy", "loss")] == [
            student.values[name] for name in ("accuracy", "loss")
        ]

    @pytest.mark.parametrize("rewind", [0, 1])
    def test_weights_are_set_back_to_what_they_were_after_so_many_epochs(self, rewind):
        ticket = lottery(rewind=rewind)._reached(NET, 0, 5, [0]).pruned(0.2)
        if rewind:
            early = StudentTrainer(SETUP).network(f"{NET.key}@0", 5)
        else:
            nothing = SETUP.training.model_copy(update={"learning_rate": 1e-45, "schedule": (1,), "weight_decay": 0})
            early = StudentTrainer(StudentSetup.of(DATA, nothing, TEACHER)).network(f"{NET.key}@0", 5)
        expected = state_of(early)
        for name, array in state_of(ticket.network).items():
            mask = ticket.masks.get(name, np.ones(array.shape, dtype=bool))
            if rewind or name in ticket.masks:  # statistics of norms move in the epoch that changes no weight
                assert (array == expected[name] * mask).all(), name

    def test_checkpoints_give_the_same_values_and_save_the_epochs(self, tmp_path):
        plain = [ask(lottery(), level) for level in range(3)]
        kept = [ask(lottery(tmp_path), level) for level in range(3)]
        assert [outcome.values for outcome in kept] == [outcome.values for outcome in plain]
        assert [outcome.cost["epochs"] for outcome in plain] == [3, 5, 7]
        assert [outcome.cost["epochs"] for outcome in kept] == [3, 2, 2]
        again = ask(lottery(tmp_path), 1)  # a lower level, when a higher one was kept
        assert (again.values, again.cost["epochs"]) == (plain[1].values, 0)

    def test_a_broken_checkpoint_is_trained_again(self, tmp_path):
        first = ask(lottery(tmp_path), 0)
        (file,) = tmp_path.glob("*.safetensors")
        file.write_bytes(file.read_bytes()[:-7])
        again = ask(lottery(tmp_path), 0)
        assert (again.values, again.cost["epochs"]) == (first.values, 3)

    def test_the_test_part_is_asked_for_only_when_it_is_reported(self):
        calls = []

        def test_part():
            calls.append(1)
            return DATA.test()

        trainer = lottery(test=test_part)
        validated = ask(trainer, 1)
        assert calls == []
        tested = ask(trainer, 1, "test")
        assert (calls, tested.values["n"], validated.values["n"]) == ([1], 50, 40)
        assert tested.values["kept"] == validated.values["kept"]
        assert isinstance(ask(lottery(), 0, "test"), Failed)

    def test_no_batch_mate_changes_a_value(self):
        requests = [Request(f"{NET.key}@{level}", item_of(5)) for level in (1, 0)]
        assert [o.values for o in lottery().evaluate(requests)] == [ask(lottery(), level).values for level in (1, 0)]

    @pytest.mark.parametrize(
        ("candidate", "reason"),
        [(f"{NET.key}@13", "BadInput"), (f"{NET.key}@-1", "BadInput"), ("{}@0", "BadInput"), (NET.key, "BadInput")],
    )
    def test_candidates_that_are_none(self, candidate, reason):
        (outcome,) = lottery().evaluate([Request(candidate, item_of(5))])
        assert isinstance(outcome, Failed)
        assert outcome.reason == reason

    def test_a_loss_that_is_no_number_fails_with_what_was_paid(self):
        wild = TRAINING.model_copy(update={"optimiser": "sgd", "learning_rate": 1e30})
        outcome = ask(lottery(setup=StudentSetup.of(DATA, wild, TEACHER)), 0)
        assert isinstance(outcome, Failed)
        assert outcome.reason == "Diverged"
        assert outcome.cost["epochs"] >= 1

    @pytest.mark.parametrize("settings", [{"rewind": 3}, {"rewind": -1}, {"fraction": 0.0}, {"fraction": 1.0}])
    def test_settings_that_cannot_run(self, settings):
        with pytest.raises(SpecError, match=next(iter(settings))):
            lottery(**settings)

    def test_what_values_depend_on_is_in_the_spec(self):
        specs = [lottery().spec, lottery(rewind=0).spec, lottery(fraction=0.3).spec]
        assert len({str(spec) for spec in specs}) == 3
