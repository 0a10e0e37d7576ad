"""Training and measuring: losses by their formulas, epochs by their draws, and what teachers are refused for."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from plait.architectures import Architecture, Layer, ShapeError
from plait.errors import SpecError
from plait.models import distill
from plait.models.distill import (
    Diverged,
    FitSet,
    SoftTargets,
    Training,
    batch_loss,
    batches,
    check_teacher,
    measure,
    network_digest,
    optimiser_of,
    soft_targets,
    train_epoch,
    train_teacher,
)
from plait.models.images import ImageData
from plait.models.network import build, state_of, with_state
from plait.models.zoo import convnet
from small_images import CLASSES, patterns

DATA = patterns()
NET = convnet(DATA.input, CLASSES, width=4)


def logits(seed, count=CLASSES):
    return np.random.default_rng(seed).normal(size=(len(DATA.fit_x), count)).astype(np.float32)


def trained(arch=NET, epochs=2, training=None, data=DATA, seed=5):
    network, fit = build(arch, 1), FitSet(data, [SoftTargets(logits(0)), SoftTargets(logits(1))])
    training = training or Training(learning_rate=3e-3)
    optimiser = optimiser_of(network, training)
    losses = [train_epoch(network, optimiser, fit, training, seed, epoch) for epoch in range(1, epochs + 1)]
    return network, losses


def same(one, two):
    one, two = state_of(one), state_of(two)
    return one.keys() == two.keys() and all((one[name] == two[name]).all() for name in one)


@given(st.integers(2, 300), st.integers(2, 70))
def test_every_example_is_in_one_batch_and_no_batch_is_of_one(count, size):
    parts = list(batches(torch.arange(count), size))
    assert torch.cat(parts).tolist() == list(range(count))
    assert all(2 <= len(part) <= size + 1 for part in parts)


def test_a_lone_last_example_trains_under_batch_norm():
    assert len(DATA.fit_x) % 32 == 1
    trained(training=Training(batch=32))
    wide = Architecture(
        input=DATA.input,
        layers=(
            Layer(op="flatten"), Layer(op="linear", out=4), Layer(op="norm"), Layer(op="linear", out=CLASSES),
        ),
    )  # fmt: skip
    trained(wide, training=Training(batch=32))


def test_equal_arguments_give_equal_bits_and_torchs_generator_is_left_alone():
    net = NET.model_copy(update={"layers": (*NET.layers[:3], Layer(op="dropout", rate=0.3), *NET.layers[3:])})
    before = torch.get_rng_state()
    one, losses = trained(net)
    torch.manual_seed(99)
    two, again = trained(net)
    assert same(one, two)
    assert losses == again
    torch.set_rng_state(before)
    trained(net)
    assert (torch.get_rng_state() == before).all()
    assert not same(one, trained(net, seed=6)[0])


def test_read_only_arrays_and_odd_addresses_change_no_bit():
    def shifted(array):
        raw = np.zeros(array.nbytes + 64, np.uint8)
        start = (-raw.ctypes.data) % 64 + 4 if array.dtype == np.float32 else (-raw.ctypes.data) % 64 + 8
        moved = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        moved[...] = array
        moved.flags.writeable = False
        return moved

    fields = ("fit_x", "fit_y", "validation_x", "validation_y", "test_x", "test_y")
    far = ImageData(*(shifted(getattr(DATA, name)) for name in fields), classes=CLASSES, digest=DATA.digest)
    assert far.fit_x.ctypes.data % 64 == 4
    one, two = trained()[0], trained(data=far)[0]
    assert same(one, two)
    assert measure(one, *DATA.test()) == measure(two, *far.test())


def test_norms_learn_statistics_in_every_epoch_though_measuring_freezes_them():
    """The released code calls train() once; after its first test, statistics stand still (n2n.md 12.3)."""
    network, fit, training = build(NET, 1), FitSet(DATA), Training(loss="hard")
    optimiser, seen = optimiser_of(network, training), []
    for epoch in (1, 2, 3):
        train_epoch(network, optimiser, fit, training, 0, epoch)
        measure(network, DATA.validation_x, DATA.validation_y)
        assert not network.training
        seen.append({name: array for name, array in state_of(network).items() if "running" in name})
    assert seen[0]
    for earlier, later in pairwise(seen):
        assert all((earlier[name] != later[name]).any() for name in earlier)


def test_measuring_changes_nothing_and_counts_by_hand():
    network = trained()[0]
    before = state_of(network)
    measured = measure(network, *DATA.test())
    assert all((state_of(network)[name] == before[name]).all() for name in before)
    with torch.no_grad():
        out = network.eval()(torch.tensor(DATA.test_x))
    assert measured.correct == int((out.argmax(1).numpy() == DATA.test_y).sum())
    assert measured.n == len(DATA.test_y)
    assert measured.accuracy == measured.correct / measured.n
    assert math.isclose(measured.loss, F.cross_entropy(out, torch.tensor(DATA.test_y)).item(), rel_tol=1e-5)


def loss_of(training, *targets, kept=None):
    fit, batch = FitSet(DATA, targets), torch.arange(10)
    student = torch.tensor(logits(9))[:10]
    return batch_loss(student, fit, batch, training, range(len(targets)) if kept is None else kept).item(), student


def close(a, b):
    return math.isclose(a, float(b), rel_tol=1e-5)


def test_losses_are_their_formulas():
    z, y = torch.tensor(logits(0))[:10], torch.tensor(DATA.fit_y)[:10]
    mse, x = loss_of(Training(), SoftTargets(logits(0)))
    assert close(mse, ((x - z) ** 2).mean())
    hard, _ = loss_of(Training(loss="hard"), SoftTargets(logits(0)))
    assert close(hard, -F.log_softmax(x, 1)[torch.arange(10), y].mean())
    kl, _ = loss_of(Training(loss="kl", temperature=3.0), SoftTargets(logits(0)))
    p, q = F.softmax(z / 3, 1), F.softmax(x / 3, 1)
    assert close(kl, 9 * (p * (p / q).log()).sum(1).mean())
    mixed, _ = loss_of(Training(hard_weight=0.3), SoftTargets(logits(0)))
    assert close(mixed, 0.7 * mse + 0.3 * hard)
    assert abs(loss_of(Training(loss="kl"), SoftTargets(logits(9)))[0]) < 1e-6


def test_losses_of_several_teachers_are_added_by_weight():
    one, two = SoftTargets(logits(0)), SoftTargets(logits(1), weight=0.5)
    both = loss_of(Training(), one, two)[0]
    assert close(both, loss_of(Training(), one)[0] + 0.5 * loss_of(Training(), SoftTargets(logits(1)))[0])
    assert close(loss_of(Training(), one, two, kept=[1])[0], loss_of(Training(), two)[0])


@pytest.mark.parametrize("loss", ["mse", "kl"])
def test_a_teacher_of_some_classes_pulls_at_those_alone(loss):
    fit = FitSet(DATA, [SoftTargets(logits(3, 2), classes=(2, 0))])
    student = torch.tensor(logits(9))[:10].requires_grad_()
    batch_loss(student, fit, torch.arange(10), Training(loss=loss), [0]).backward()
    assert (student.grad[:, 1] == 0).all()
    assert (student.grad[:, [0, 2]] != 0).all()
    swapped = FitSet(DATA, [SoftTargets(logits(3, 2)[:, ::-1].copy(), classes=(0, 2))])
    arguments = (torch.arange(10), Training(loss=loss), [0])
    assert close(batch_loss(student, fit, *arguments).item(), batch_loss(student, swapped, *arguments).item())


def test_dropped_targets_leave_one_and_change_with_the_batch(monkeypatch):
    kept, real = [], distill.batch_loss

    def noted(*arguments):
        kept.append(tuple(arguments[-1]))
        return real(*arguments)

    monkeypatch.setattr(distill, "batch_loss", noted)
    trained(training=Training(dropped_targets=1, batch=8), epochs=2)
    assert set(kept) == {(0,), (1,)}
    kept.clear()
    trained(training=Training(dropped_targets=5, batch=8), epochs=1)
    assert {len(one) for one in kept} == {1}
    kept.clear()
    trained(training=Training(batch=8), epochs=1)
    assert set(kept) == {(0, 1)}


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (SoftTargets(logits(0)[:5]), r"soft targets 0: got \(5, 3\)"),
        (SoftTargets(logits(0, 2)), r"logits of shape \(97, 3\)"),
        (SoftTargets(logits(0, 2), classes=(0, 3)), "expected classes 0 to 2"),
    ],
)
def test_targets_that_do_not_fit_are_named(one, message):
    with pytest.raises(SpecError, match=message):
        FitSet(DATA, [one])


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_a_step_is_the_textbooks_in_whatever_layout_weights_are(optimiser):
    training = Training(optimiser=optimiser, learning_rate=3e-3, loss="hard")
    ours, plain, fit = build(NET, 1), build(NET, 1), FitSet(DATA)
    steps = optimiser_of(ours, training)
    options = {"lr": 3e-3, "weight_decay": training.weight_decay, "foreach": False, "fused": False}
    if optimiser == "adam":
        theirs = torch.optim.Adam(plain.parameters(), **options)
    else:
        theirs = torch.optim.SGD(plain.parameters(), momentum=0.9, nesterov=True, **options)
    for start in (0, 20, 40):
        batch = torch.arange(start, start + 20)
        for network, one in ((ours, steps), (plain, theirs)):
            one.zero_grad()
            F.cross_entropy(network(distill.laid_out(fit.x[batch])), fit.y[batch]).backward()
            one.step()
    assert all(np.allclose(state_of(plain)[name], array, atol=1e-4) for name, array in state_of(ours).items())


def test_a_loss_that_is_not_finite_is_told():
    with pytest.raises(Diverged, match=r"loss (nan|inf) in epoch"):
        trained(training=Training(learning_rate=1e30, optimiser="sgd"), epochs=3)
    state = state_of(build(NET, 0))
    broken = {name: np.full_like(array, np.nan) for name, array in state.items()}
    with pytest.raises(Diverged, match="when measured"):
        measure(with_state(NET, broken), *DATA.test())


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"schedule": (2, 1)}, "schedule"),
        ({"schedule": (1, 1)}, "schedule"),
        ({"schedule": (0, 1)}, "schedule"),
        ({"batch": 1}, "batch"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"hard_weight": 1.5}, "hard_weight"),
        ({"rate": 1}, "rate"),
    ],
)
def test_settings_that_cannot_run_are_named(settings, field):
    with pytest.raises(ValueError, match=field):
        Training(**settings)


TEACHING = Training(loss="hard", learning_rate=3e-3, batch=8, schedule=(1, 4))


def test_a_teacher_learns_and_its_curve_has_an_entry_a_rung():
    network, curve = train_teacher(NET, DATA, TEACHING, 3)
    assert [entry["epochs"] for entry in curve] == [1, 4]
    assert curve[-1]["accuracy"] == check_teacher(network, DATA).accuracy > 0.7
    assert same(network, train_teacher(NET, DATA, TEACHING, 3)[0])
    assert not same(network, train_teacher(NET, DATA, TEACHING, 4)[0])
    assert not same(network, train_teacher(NET, DATA, TEACHING.model_copy(update={"decay": "cosine"}), 3)[0])


def test_a_teacher_never_sees_validation_or_test_examples():
    bare = DATA.without_test()
    empty = np.zeros_like(DATA.validation_x)
    other = ImageData(bare.fit_x, bare.fit_y, empty, bare.validation_y, bare.test_x, bare.test_y, CLASSES, "")
    assert same(train_teacher(NET, DATA, TEACHING, 3)[0], train_teacher(NET, other, TEACHING, 3)[0])


def test_a_teacher_no_better_than_one_label_is_refused():
    state = {name: np.zeros_like(array) for name, array in state_of(build(NET, 0)).items()}
    with pytest.raises(SpecError, match=r"teacher: validation accuracy: got .* expected more than"):
        check_teacher(with_state(NET, state), DATA)


def test_a_teacher_for_other_examples_is_refused():
    with pytest.raises(SpecError, match=r"network: input: got \(1, 9, 9\)"):
        train_teacher(convnet((1, 9, 9), CLASSES, width=4), DATA, TEACHING, 0)
    with pytest.raises(SpecError, match=r"network: classes: got \(4,\)"):
        train_teacher(convnet(DATA.input, 4, width=4), DATA, TEACHING, 0)
    deep = Architecture(input=DATA.input, layers=(Layer(op="conv", out=3, kernel=(9,)), *NET.layers[-3:]))
    with pytest.raises(ShapeError, match="too small"):
        train_teacher(deep, DATA, TEACHING, 0)
    with pytest.raises(SpecError, match="a smaller one: loss"):
        train_teacher(NET, DATA, Training(learning_rate=1e30, optimiser="sgd"), 0)


def test_soft_targets_are_the_logits_under_the_networks_digest():
    network = build(NET, 0)
    found = soft_targets(network, DATA.fit_x, weight=2.0)
    with torch.no_grad():
        assert np.allclose(found.logits, network.eval()(torch.tensor(DATA.fit_x)).numpy(), atol=1e-5)
    assert found.identity == {"source": network_digest(network), "classes": None, "weight": 2.0}
    assert network_digest(build(NET, 0)) != network_digest(build(NET, 1))
    loose = SoftTargets(logits(0), classes=(0, 1, 2))
    assert loose.identity != SoftTargets(logits(1), classes=(0, 1, 2)).identity


def test_logits_are_the_same_bits_whatever_layout_the_weights_came_in():
    network = train_teacher(NET, DATA, TEACHING, 3)[0]
    again = with_state(NET, state_of(network))
    assert (soft_targets(network, DATA.fit_x).logits == soft_targets(again, DATA.fit_x).logits).all()
