"""Students as an evaluator: the same bits however they came about, and no test example before it is asked for."""

import re
import threading

import numpy as np
import pytest
import torch
from plait.architectures import Architecture, Layer
from plait.errors import SpecError
from plait.models import students
from plait.models.checkpoints import Checkpoint, Checkpoints
from plait.models.distill import Diverged, SoftTargets, measure, train_teacher
from plait.models.network import state_of
from plait.models.students import StudentSetup, StudentTrainer, Training, item_of
from plait.models.zoo import convnet, resnet
from plait.records import Failed, Request, Scored, canonical
from small_images import CLASSES, patterns

DATA = patterns()
SCHEDULE = (1, 2, 4)
TRAINING = Training(learning_rate=3e-3, batch=16, schedule=SCHEDULE)
PLAIN = convnet(DATA.input, CLASSES, width=4)
SKIPS = resnet(DATA.input, CLASSES, blocks=(1, 1), width=4)
DROPS = PLAIN.model_copy(update={"layers": (*PLAIN.layers[:3], Layer(op="dropout", rate=0.3), *PLAIN.layers[3:])})


@pytest.fixture(scope="module")
def teacher():
    recipe = Training(loss="hard", learning_rate=3e-3, batch=8, schedule=(4,))
    return train_teacher(convnet(DATA.input, CLASSES, width=8), DATA, recipe, 0)[0]


@pytest.fixture(scope="module")
def setup(teacher):
    return StudentSetup.of(DATA, TRAINING, teacher)


def ask(trainer, arch, rung, split="validation", seed=0):
    (outcome,) = trainer.evaluate([Request(f"{arch.key}@{rung}", item_of(seed, split))])
    return outcome


def epochs(outcome):
    return outcome.cost["epochs"]


def counted(monkeypatch):
    """Note the epochs that are trained from now on."""
    seen, real = [], students.train_epoch

    def noted(*arguments):
        seen.append(arguments[-1])
        return real(*arguments)

    monkeypatch.setattr(students, "train_epoch", noted)
    return seen


def test_values_are_raw_and_cost_is_what_was_trained(setup):
    outcome = ask(StudentTrainer(setup), PLAIN, 2)
    assert isinstance(outcome, Scored)
    values = outcome.values
    assert set(values) == {"accuracy", "loss", "correct", "n", "epochs", "curve"}
    assert values["n"] == len(DATA.validation_y)
    assert values["accuracy"] == values["correct"] / values["n"] == values["curve"][-1]
    assert len(values["curve"]) == 3
    assert values["epochs"] == epochs(outcome) == 4
    assert outcome.cost["seconds"] > 0
    canonical(values)


@pytest.mark.parametrize(
    ("arch", "settings"),
    [
        (PLAIN, {}),
        (SKIPS, {}),
        (SKIPS, {"optimiser": "sgd", "loss": "kl", "hard_weight": 0.3}),
        (DROPS, {"init": "slice"}),
        (PLAIN, {"init": "random", "loss": "hard"}),
    ],
    ids=["plain", "skips", "sgd", "dropout", "labels alone"],
)
def test_trained_on_from_a_checkpoint_or_from_nothing_the_bits_are_the_same(arch, settings, teacher, tmp_path):
    setup = StudentSetup.of(DATA, TRAINING.model_copy(update=settings), teacher)
    whole = StudentTrainer(setup)
    straight = ask(whole, arch, 2)
    spent = []
    for rung in (0, 1, 2):
        outcome = ask(StudentTrainer(setup, tmp_path), arch, rung)  # a new trainer each time: nothing in memory
        spent.append(epochs(outcome))
    assert outcome.values == straight.values
    assert spent == [1, 1, 2]
    kept = StudentTrainer(setup, tmp_path).network(f"{arch.key}@2", 0)
    again = whole.network(f"{arch.key}@2", 0)
    assert all((state_of(kept)[name] == array).all() for name, array in state_of(again).items())


def test_a_rung_does_not_depend_on_later_ones(teacher):
    short = StudentSetup.of(DATA, TRAINING.model_copy(update={"schedule": (1, 2)}), teacher)
    long = StudentSetup.of(DATA, TRAINING.model_copy(update={"schedule": (1, 2, 3, 9)}), teacher)
    assert ask(StudentTrainer(short), PLAIN, 1).values == ask(StudentTrainer(long), PLAIN, 1).values


def test_neighbours_in_a_batch_and_torchs_threads_change_nothing(setup):
    alone = [ask(StudentTrainer(setup), arch, 1).values for arch in (PLAIN, SKIPS)]
    requests = [Request(f"{arch.key}@1", item_of(0)) for arch in (SKIPS, PLAIN)]
    torch.set_num_threads(2)
    try:
        together = StudentTrainer(setup).evaluate(requests)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert [outcome.values for outcome in reversed(together)] == alone


def test_seeds_and_architectures_draw_for_themselves(setup):
    trainer = StudentTrainer(setup)
    nets = [trainer.network(f"{PLAIN.key}@0", seed) for seed in (0, 1)]
    assert any((state_of(nets[0])[name] != array).any() for name, array in state_of(nets[1]).items())


def test_the_reward_is_validations_and_test_examples_are_fetched_only_for_the_test_split(setup, tmp_path):
    """The released code searches on test accuracy (n2n.md 12.1)."""
    fetched = []

    def fetch():
        fetched.append(1)
        return DATA.test()

    trainer = StudentTrainer(setup, tmp_path, fetch)
    assert len(setup.data.test_x) == len(setup.data.test_y) == 0
    validated = ask(trainer, PLAIN, 1)
    assert not fetched
    tested = ask(trainer, PLAIN, 1, "test")
    assert fetched == [1]
    network = trainer.network(f"{PLAIN.key}@1", 0)
    for outcome, part in ((validated, (DATA.validation_x, DATA.validation_y)), (tested, DATA.test())):
        measured = measure(network, *part)
        assert (outcome.values["correct"], outcome.values["n"]) == (measured.correct, measured.n)
    assert tested.values["curve"] == validated.values["curve"]
    assert epochs(tested) == 0


def test_a_trainer_without_test_examples_says_so(setup):
    assert ask(StudentTrainer(setup), PLAIN, 0, "test").reason == "BadInput"


def test_norms_train_in_every_epoch_of_every_rung(setup, tmp_path, monkeypatch):
    modes, real = [], students.train_epoch

    def noted(network, *rest):
        before = {name: array for name, array in state_of(network).items() if "running_mean" in name}
        loss = real(network, *rest)
        modes.append(all((state_of(network)[name] != array).any() for name, array in before.items()))
        return loss

    monkeypatch.setattr(students, "train_epoch", noted)
    ask(StudentTrainer(setup, tmp_path), PLAIN, 2)
    assert modes == [True] * 4


def test_a_lower_rung_is_read_from_a_higher_checkpoint(setup, tmp_path):
    trainer = StudentTrainer(setup, tmp_path)
    ask(trainer, PLAIN, 2)
    low = ask(trainer, PLAIN, 0)
    assert epochs(low) == 0
    assert low.values == ask(StudentTrainer(setup), PLAIN, 0).values
    assert epochs(ask(StudentTrainer(setup, tmp_path, DATA.test), PLAIN, 0, "test")) == 1, "its weights are gone"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_trainer_that_dies_in_mid_rung_loses_less_than_the_rung(setup, tmp_path, monkeypatch):
    real = students.train_epoch

    def fatal(*arguments):
        if arguments[-1] == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as dying:
        dying.setattr(students, "train_epoch", fatal)
        with pytest.raises(KeyboardInterrupt):
            ask(StudentTrainer(setup, tmp_path), PLAIN, 2)
    seen = counted(monkeypatch)
    outcome = ask(StudentTrainer(setup, tmp_path), PLAIN, 2)
    assert seen == [3, 4]
    assert outcome.values == ask(StudentTrainer(setup), PLAIN, 2).values


def half(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flipped(file):
    raw = bytearray(file.read_bytes())
    raw[-5] ^= 1
    file.write_bytes(raw)


def emptied(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [half, flipped, emptied])
def test_a_damaged_checkpoint_is_trained_again(damage, setup, tmp_path):
    before = ask(StudentTrainer(setup, tmp_path), PLAIN, 1)
    (file,) = tmp_path.iterdir()
    damage(file)
    again = ask(StudentTrainer(setup, tmp_path), PLAIN, 1)
    assert epochs(again) == 2
    assert again.values == before.values
    assert epochs(ask(StudentTrainer(setup, tmp_path), PLAIN, 1)) == 0


def test_a_checkpoint_of_another_student_is_trained_again(setup, tmp_path):
    ask(StudentTrainer(setup, tmp_path / "one"), PLAIN, 0)
    ask(StudentTrainer(setup, tmp_path / "two"), SKIPS, 0)
    (mine,), (other,) = (list((tmp_path / name).iterdir()) for name in ("one", "two"))
    mine.write_bytes(other.read_bytes())
    outcome = ask(StudentTrainer(setup, tmp_path / "one"), PLAIN, 1)
    assert epochs(outcome) == 2
    assert outcome.values == ask(StudentTrainer(setup), PLAIN, 1).values


def test_checkpoints_of_one_student_written_at_once_leave_one_whole_file(tmp_path):
    store = Checkpoints(tmp_path, "k")
    made = Checkpoint(0, {"w": np.arange(100_000, dtype=np.float32)}, ({"accuracy": 0.5},))
    start, problems = threading.Barrier(4), []

    def write():
        start.wait()
        for _ in range(20):
            store.save(made)
            found = next(store.found(), None)
            if found is None or (found.arrays["w"] != made.arrays["w"]).any():
                problems.append(found)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert [file.name for file in tmp_path.iterdir()] == ["k-0.safetensors"]


def test_a_checkpoint_replaced_between_listing_and_reading_is_absent(tmp_path, monkeypatch):
    """Another trainer wrote the next rung, and removed this one."""
    store = Checkpoints(tmp_path, "k")
    arrays = {"w": np.ones(3, np.float32)}
    store.save(Checkpoint(0, arrays, ({"accuracy": 0.1},)))
    listed = store.found()
    glob = type(tmp_path).glob

    def late(path, pattern):
        files = list(glob(path, pattern))
        store.save(Checkpoint(1, arrays, ({"accuracy": 0.1}, {"accuracy": 0.2})))
        return files

    monkeypatch.setattr(type(tmp_path), "glob", late)
    assert list(listed) == []
    monkeypatch.undo()
    assert [found.rung for found in store.found()] == [1]


def test_a_folder_that_cannot_be_written_is_no_score_and_may_be_tried_again(setup, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = ask(StudentTrainer(setup, tmp_path / "file"), PLAIN, 0)
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.retryable) == ("StoreError", True)


def test_a_loss_that_is_not_finite_fails_the_student_and_no_other(teacher, tmp_path):
    training = TRAINING.model_copy(update={"optimiser": "sgd", "learning_rate": 1e30})
    trainer = StudentTrainer(StudentSetup.of(DATA, training, teacher), tmp_path)
    wild, wrong = trainer.evaluate([Request(f"{PLAIN.key}@2", item_of(0)), Request("nothing@0", item_of(0))])
    assert wild.reason == "Diverged"
    assert not wild.retryable
    assert "in epoch 1" in wild.detail
    assert wild.cost["epochs"] == 1
    assert wrong.reason == "BadInput"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Diverged):
        trainer.network(f"{PLAIN.key}@0", 0)


def too_small():
    head = (Layer(op="global_pool"), Layer(op="flatten"), Layer(op="linear", out=CLASSES))
    return Architecture(input=DATA.input, layers=(Layer(op="conv", out=3, kernel=(9,)), *head))


BAD = {
    "an image too small": (f"{too_small().key}@0", item_of(0), "Invalid", "too small"),
    "another input": (f"{convnet((1, 9, 9), CLASSES, 4).key}@0", item_of(0), "BadInput", r"\(1, 8, 8\)"),
    "other classes": (f"{convnet(DATA.input, 5, 4).key}@0", item_of(0), "BadInput", "one output a class"),
    "no rung": (PLAIN.key, item_of(0), "BadInput", "rung"),
    "a rung too many": (f"{PLAIN.key}@3", item_of(0), "BadInput", "0 to 2"),
    "a negative rung": (f"{PLAIN.key}@-1", item_of(0), "BadInput", "0 to 2"),
    "no architecture": ("{}@0", item_of(0), "BadInput", "architecture"),
    "no seed": (f"{PLAIN.key}@0", {"split": "test"}, "BadInput", "item"),
    "a seed that is none": (f"{PLAIN.key}@0", item_of(True), "BadInput", "whole number"),
    "another split": (f"{PLAIN.key}@0", item_of(0, "fit"), "BadInput", "validation or test"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_fail_with_a_reason(case, setup):
    candidate, item, reason, detail = BAD[case]
    (outcome,) = StudentTrainer(setup).evaluate([Request(candidate, item)])
    assert isinstance(outcome, Failed)
    assert outcome.reason == reason
    assert re.search(detail, outcome.detail)


def test_inherited_weights_are_what_training_starts_from(teacher):
    still = TRAINING.model_copy(update={"learning_rate": 1e-12, "weight_decay": 0.0, "schedule": (1,)})
    named = ask(StudentTrainer(StudentSetup.of(DATA, still, teacher)), teacher.arch, 0)
    fresh = StudentSetup.of(DATA, still.model_copy(update={"init": "random"}), teacher)
    best = measure(teacher, DATA.validation_x, DATA.validation_y).accuracy
    assert best > 0.9
    assert named.values["accuracy"] > best - 0.1
    assert ask(StudentTrainer(fresh), teacher.arch, 0).values["accuracy"] < best - 0.2


def test_the_key_knows_all_that_values_depend_on_and_nothing_else(setup, teacher, tmp_path):
    other = train_teacher(teacher.arch, DATA, Training(loss="hard", batch=8, schedule=(1,)), 1)[0]
    specs = [
        setup.spec,
        StudentSetup.of(DATA, TRAINING.model_copy(update={"batch": 17}), teacher).spec,
        StudentSetup.of(patterns(seed=1), TRAINING, teacher).spec,
        StudentSetup.of(DATA, TRAINING, other).spec,
        StudentSetup.of(DATA, TRAINING, teacher, assistants=[other]).spec,
        StudentSetup.of(DATA, TRAINING, teacher, targets=[SoftTargets(np.zeros((97, 3), np.float32))]).spec,
    ]
    assert len({canonical(spec) for spec in specs}) == len(specs)
    assert StudentSetup.of(DATA, TRAINING, teacher).spec == setup.spec
    trainer = StudentTrainer(setup, tmp_path, DATA.test)
    assert (trainer.name, trainer.version, trainer.spec) == ("student", setup.identity.version, setup.identity.spec)


def test_assistants_and_several_teachers_change_what_is_learnt(setup, teacher):
    helper = train_teacher(PLAIN, DATA, Training(loss="hard", batch=8, schedule=(2,)), 1)[0]
    targets = [
        SoftTargets(np.ones((97, 2), np.float32), classes=(0, 1)), SoftTargets(np.ones((97, 1), np.float32), (2,), 0.5)
    ]  # fmt: skip
    setups = [
        setup,
        StudentSetup.of(DATA, TRAINING, teacher, assistants=[helper]),
        StudentSetup.of(DATA, TRAINING, teacher, targets=targets),
    ]
    assert [len(one.targets) for one in setups] == [1, 2, 2]
    assert len({ask(StudentTrainer(one), PLAIN, 1).values["loss"] for one in setups}) == 3


def test_setups_that_cannot_run_are_refused(teacher):
    with pytest.raises(SpecError, match="hard where there is no teacher"):
        StudentSetup.of(DATA, TRAINING.model_copy(update={"init": "random"}))
    with pytest.raises(SpecError, match=r"training\.init: got 'sorted', expected random"):
        StudentSetup.of(DATA, TRAINING.model_copy(update={"loss": "hard"}))
    with pytest.raises(SpecError, match=r"training\.decay"):
        StudentSetup.of(DATA, TRAINING.model_copy(update={"decay": "cosine"}), teacher)
    with pytest.raises(SpecError, match="network: input"):
        StudentSetup.of(patterns(size=10), TRAINING, teacher)
    with pytest.raises(SpecError, match="soft targets 0"):
        StudentTrainer(StudentSetup.of(DATA, TRAINING, teacher, targets=[SoftTargets(np.ones((3, 3), np.float32))]))
