"""Trainer actors on a real Ray: the serial run's bits, arrays read in place, deaths that cost less than a rung."""

import asyncio
import os
import signal
import sys

import pytest
from plait import Ledger, Strand, Study
from plait.errors import WorkerLost
from plait.models.distill import train_teacher
from plait.models.students import StudentSetup, StudentTrainer, Training, item_of
from plait.models.zoo import convnet
from plait.orchestrator.trainers import trainer_workers
from plait.orchestrator.workers import Seat
from plait.records import Request
from plait.search.fixed import FixedSearch
from plait.search.halving import Rung
from small_images import CLASSES, patterns

pytestmark = pytest.mark.ray

DATA = patterns()
EPOCHS = (1, 2, 5)
NETS = [convnet(DATA.input, CLASSES, width=width) for width in (2, 3, 4, 5)]


@pytest.fixture(autouse=True)
def _by_value(ray_cluster):
    """Workers cannot import a test's modules."""
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def setup():
    recipe = Training(loss="hard", learning_rate=3e-3, batch=8, schedule=(4,))
    teacher = train_teacher(convnet(DATA.input, CLASSES, width=8), DATA, recipe, 0)[0]
    return StudentSetup.of(DATA, Training(learning_rate=3e-3, batch=16, schedule=EPOCHS), teacher)


def started(*arguments, **settings):
    workers = trainer_workers(*arguments, **settings)
    yield workers
    for worker in workers:
        worker.kill()


@pytest.fixture(scope="module")
def pair(ray_cluster, setup, tmp_path_factory):
    yield from started(setup, tmp_path_factory.mktemp("pair"), 2)


@pytest.fixture(scope="module")
def single(ray_cluster, setup, tmp_path_factory):
    """One trainer, which may be asked for the test split."""
    yield from started(setup, tmp_path_factory.mktemp("single"), 1, test=DATA.test())


@pytest.fixture
def doomed(ray_cluster, setup, tmp_path):
    yield from started(setup, tmp_path / "doomed", 2)


@pytest.fixture(scope="module")
def serial(setup):
    """What a trainer in this process gives, without checkpoints."""
    trainer = StudentTrainer(setup, None, DATA.test)

    def values(*asked):
        (outcome,) = trainer.evaluate([request(*asked)])
        return outcome.values

    return values


def request(arch, rung, split="validation", seed=0):
    return Request(f"{arch.key}@{rung}", item_of(seed, split))


def run(worker, *requests):
    return asyncio.run(worker.run(requests))


def inside(worker, function, *arguments):
    """Call a function on the actor's own object."""
    import ray

    return ray.get(worker._worker._handle.__ray_call__.remote(function, *arguments))


def studied(folder, workers, setup, rung=2):
    ledger = Ledger(folder / "ledger.db")
    events = []
    try:
        strand = Strand("all", FixedSearch([Rung(arch, rung) for arch in NETS]), item_of(0))
        note = lambda kind, fields: events.append((kind, dict(fields)))  # noqa: E731
        result = Study([strand], setup.identity, workers, ledger, events=note).run()
    finally:
        ledger.close()
    assert result.status == "SUCCEEDED"
    return {trial.candidate.candidate.key: outcome for trial, outcome in result.outcomes["all"]}, events


def test_two_actors_give_the_serial_runs_bits(pair, setup, serial, tmp_path):
    found, _ = studied(tmp_path, pair, setup)
    assert {key: one.values for key, one in found.items()} == {arch.key: serial(arch, 2) for arch in NETS}


def test_rungs_asked_of_either_actor_go_on_from_one_folder(pair, serial):
    first, second = pair
    asked = [(NETS[0], rung, "validation", 1) for rung in (0, 2)]
    (low,) = run(first, request(*asked[0]))
    (high,) = run(second, request(*asked[1]))
    assert [low.values, high.values] == [serial(*one) for one in asked]
    assert (low.cost["epochs"], high.cost["epochs"]) == (1, 4)


def test_two_actors_that_train_the_same_student_at_once_agree(pair, serial):
    asked = (NETS[1], 2, "validation", 2)

    async def both():
        return await asyncio.gather(*(worker.run([request(*asked)]) for worker in pair))

    for (outcome,) in asyncio.run(both()):
        assert outcome.values == serial(*asked)


def held(actor):
    """Return what the actor's trainer holds: memory that others may write to, and test examples."""
    import gc

    import numpy as np
    from plait.models.images import ImageData

    trainer = actor._evaluator
    data = trainer._setup.data
    arrays = [data.fit_x, data.fit_y, data.validation_x, *(one.logits for one in trainer._setup.targets)]
    copied = [array.ctypes.data for array in arrays[:2]] != [trainer._fit.x.data_ptr(), trainer._fit.y.data_ptr()]
    tests = [len(one.test_x) for one in gc.get_objects() if isinstance(one, ImageData)]
    shapes = [one.shape for one in gc.get_objects() if isinstance(one, np.ndarray)]
    return [array.flags.writeable for array in arrays], copied, tests, shapes


def test_actors_read_arrays_in_place_and_hold_no_test_example(single, serial):
    (worker,), arch = single, NETS[2]
    assert run(worker, request(arch, 2))[0].values == serial(arch, 2)
    writeable, copied, tests, shapes = inside(worker, held)
    assert not any(writeable), "not the object store's memory"
    assert not copied
    assert tests == [0]
    assert DATA.test_x.shape not in shapes
    (tested,) = run(worker, request(arch, 2, "test"))
    assert tested.values == serial(arch, 2, "test")
    assert tested.cost["epochs"] == 0


def threads(actor):
    import torch

    return torch.get_num_threads()


def test_a_trainer_takes_one_student_at_a_time_on_one_thread(single):
    seat = Seat.of(single[0])
    assert (seat.name, seat.batch, seat.slots) == ("trainer-0", 1, 1)
    assert inside(single[0], threads) == 1


def die_in(actor, epoch):
    """Have this process end itself when an epoch of that number begins; the one that Ray starts after it will not."""
    from plait.models import students

    real = students.train_epoch

    def fatal(*arguments):
        if arguments[-1] == epoch:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    students.train_epoch = fatal


def test_trainers_killed_in_mid_rung_go_on_from_the_rung_before(doomed, setup, serial, tmp_path):
    for worker in doomed:
        inside(worker, die_in, 4)
    found, events = studied(tmp_path, doomed, setup)
    states = [fields["state"] for kind, fields in events if kind == "worker"]
    assert states.count("lost") == 2
    assert "back" in states  # the other one may have nothing left to come back for
    assert {key: one.values for key, one in found.items()} == {arch.key: serial(arch, 2) for arch in NETS}
    # The two that were in hand had rungs 0 and 1 behind them: 3 epochs of 5 are trained after the death.
    assert sorted(one.cost["epochs"] for one in found.values()) == [3, 3, 5, 5]


def pid(actor):
    return os.getpid()


def test_a_trainer_that_ray_restarts_goes_on_too(single, serial):
    import ray

    (worker,), arch = single, NETS[3]
    run(worker, request(arch, 0))
    before = inside(worker, pid)
    ray.kill(worker._worker._handle, no_restart=False)
    outcome = None
    while outcome is None:
        try:
            (outcome,) = run(worker, request(arch, 2))
        except WorkerLost:  # as the paying path does
            asyncio.run(worker.revive())
    assert inside(worker, pid) != before
    assert outcome.values == serial(arch, 2)
    assert outcome.cost["epochs"] == 4
