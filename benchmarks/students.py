"""Training students: two trainer actors against the serial loop of N2N's code; and the epochs that inheritance saves.

A real batch of rollouts: random students of a residual teacher on MNIST, averaged to 14x14, 10,000 images. Serial
means one student after another in one process, the teacher asked again for every batch. The second part ranks the
students by their accuracy after a few epochs, fresh and inherited, against the ranking after 16 fresh epochs.

Usage: students.py [path of mnist .npz]. Last line: JSON.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import ray
import torch
from plait.architectures import Architecture
from plait.models.distill import Training, measure, one_thread, train_teacher
from plait.models.images import ImageData, load_images
from plait.models.network import Network, build
from plait.models.students import StudentSetup, StudentTrainer, item_of
from plait.models.zoo import named
from plait.orchestrator.trainers import TrainerWorker, trainer_workers
from plait.records import Request, Scored, generator
from plait.search.halving import Rung
from plait.search.network_space import NetworkSpace
from scipy.stats import spearmanr

STUDENTS, EPOCHS, ROUNDS = 8, 2, 3
RANKED, SCHEDULE = 12, (1, 2, 4, 8, 16)


def serial(archs: Sequence[Architecture], teacher: Network, data: ImageData, training: Training) -> float:
    """Return the seconds of one student after another, each batch's targets asked of the teacher."""
    start = time.perf_counter()
    x, y = torch.from_numpy(data.fit_x.copy()), torch.from_numpy(data.fit_y.copy())
    with one_thread():
        for arch in archs:
            student = build(arch, 0)
            optimiser = torch.optim.Adam(student.parameters(), training.learning_rate, weight_decay=5e-4)
            for _ in range(EPOCHS):
                student.train()
                for rows in torch.randperm(len(y)).split(training.batch):
                    with torch.inference_mode():
                        targets = teacher(x[rows])
                    optimiser.zero_grad()
                    torch.nn.functional.mse_loss(student(x[rows]), targets.clone()).backward()
                    optimiser.step()
            measure(student, data.validation_x, data.validation_y)
    return time.perf_counter() - start


def parallel(archs: Sequence[Architecture], workers: Sequence[TrainerWorker]) -> float:
    """Return the seconds of the same students on trainer actors, each taking the next when it is free."""
    waiting = [Request(Rung(arch, 0).key, item_of(0)) for arch in archs]

    async def work(worker: TrainerWorker) -> None:
        while waiting:
            outcomes = await worker.run([waiting.pop(0)])
            assert isinstance(outcomes[0], Scored), outcomes[0]

    async def everyone() -> None:
        await asyncio.gather(*(work(worker) for worker in workers))

    start = time.perf_counter()
    asyncio.run(everyone())
    return time.perf_counter() - start


def speed(archs: Sequence[Architecture], teacher: Network, data: ImageData, training: Training) -> list[float]:
    """Return the ratio serial / two actors of each round, interleaved."""
    one_rung = training.model_copy(update={"schedule": (EPOCHS,)})
    workers = trainer_workers(StudentSetup.of(data, one_rung, teacher), None, 2)
    parallel(archs[:2], workers)  # warm
    ratios = []
    for _ in range(ROUNDS):
        alone = serial(archs, teacher, data, training)
        ratios.append(alone / parallel(archs, workers))
    for worker in workers:
        worker.kill()
    return ratios


def ranks(
    archs: Sequence[Architecture], teacher: Network, data: ImageData, training: Training
) -> dict[str, list[float]]:
    """Return for fresh and inherited weights the Spearman correlation with the last ranking, at each rung."""
    curves = {}
    for init in ("random", "sorted"):
        setup = StudentSetup.of(data, training.model_copy(update={"init": init, "schedule": SCHEDULE}), teacher)
        trainer = StudentTrainer(setup)
        keys = [Request(Rung(arch, len(SCHEDULE) - 1).key, item_of(0)) for arch in archs]
        outcomes = [trainer.evaluate([request])[0] for request in keys]
        curves[init] = [outcome.values["curve"] for outcome in outcomes if isinstance(outcome, Scored)]
    last = [curve[-1] for curve in curves["random"]]
    return {
        init: [float(spearmanr([curve[rung] for curve in found], last).statistic) for rung in range(len(SCHEDULE))]
        for init, found in curves.items()
    }


def saved(found: dict[str, list[float]]) -> float:
    """Return the largest ratio of epochs, fresh over inherited, at which fresh ranks no better than inherited did."""
    best = 0.0
    for rung, reached in enumerate(found["sorted"]):
        fresh = next((SCHEDULE[at] for at, rho in enumerate(found["random"]) if rho >= reached), SCHEDULE[-1])
        best = max(best, fresh / SCHEDULE[rung])
    return best


def main() -> None:
    """Measure both, and print one JSON line."""
    source = sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).parents[2] / "shared/data/images/mnist_full.npz")
    data = load_images(source, size=14, train=10_000)
    training = Training(learning_rate=2e-3, batch=64)
    teacher, _ = train_teacher(
        named("cnn:width=16", data.input, data.classes), data, training.model_copy(update={"schedule": (4,)}), 0
    )
    space = NetworkSpace(teacher.arch, limit=0.6 * teacher.arch.params)
    archs = [space.draw(generator(0, "benchmark", at)) for at in range(RANKED)]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    ratios = speed(archs[:STUDENTS], teacher, data, training)
    ray.shutdown()
    small = load_images(source, size=14, train=3_000)
    found = ranks(archs, teacher, small, training)
    rounded = {init: [round(rho, 2) for rho in rhos] for init, rhos in found.items()}
    print(
        json.dumps(
            {
                "name": "students",
                "ratio": round(statistics.median(ratios), 2),
                "cores": os.cpu_count(),
                "ratios": [round(ratio, 2) for ratio in ratios],
                "epochs_saved_at_equal_rank": round(saved(found), 2),
                "spearman_by_epochs_1_2_4_8_16": rounded,
            }
        )
    )


if __name__ == "__main__":
    main()
