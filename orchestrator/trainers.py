"""Student trainers as workers of the paying path: long-lived actors, one a core, over arrays kept in memory once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..models.images import Part
from ..models.students import StudentSetup, StudentTrainer
from ..records import Outcome, Request
from .workers import Evaluator, RayWorker, start_ray_workers


class TrainerWorker:
    """One trainer actor, one student at a time.

    Ray restarts it when it dies; asked again, it goes on from the student's last checkpoint.
    """

    batch = 1
    """Students take seconds to minutes: a call of several would keep the other workers waiting."""
    slots = 1
    """A student that waits here could have been trained elsewhere; asking for the next one takes milliseconds."""

    def __init__(self, number: int, worker: RayWorker) -> None:
        self.name, self._worker = f"trainer-{number}", worker

    async def run(self, requests: Sequence[Request]) -> list[Outcome]:
        """Return the actor's outcomes, in order.

        Raises:
            WorkerLost: the actor died or is restarting.
        """
        return await self._worker.run(requests)

    async def revive(self) -> None:
        """Wait until Ray has restarted the actor.

        Raises:
            WorkerLost: it has not within three minutes.
        """
        await self._worker.revive()

    def kill(self) -> None:
        """End the actor for good."""
        self._worker.kill()


def trainer_workers(
    setup: StudentSetup,
    folder: Path | str | None,
    count: int,
    *,
    test: Part | None = None,
    kind: Callable[..., Evaluator] = StudentTrainer,
) -> list[TrainerWorker]:
    """Start `count` trainers; the caller ends them with `kill`.

    Setup (examples, soft targets, the teacher's weights) and test examples are put into the object store once, and
    every actor of a node reads the one copy. The test examples are fetched by an actor that is asked for them.

    Args:
        setup: What students are trained on.
        folder: Of checkpoints, one that all actors see; None keeps none.
        count: Actors, a core each.
        test: The test part, where students will be measured on it.
        kind: What an actor holds: a `StudentTrainer`, or what takes its arguments.

    Raises:
        ClusterError: they are not there within three minutes.
    """
    import ray

    data = _kept(("fit", setup.data.digest, len(setup.data.fit_y)), setup.data)
    examples = None if test is None else _kept(("test", setup.data.digest, len(test[1])), test)
    lean = ray.put(replace(setup, data=setup.data.without_examples()))
    workers = start_ray_workers(partial(_trainer, kind, folder, _opaque(lean), data, examples), count)
    return [TrainerWorker(number, worker) for number, worker in enumerate(workers)]


_KEPT: dict[tuple[Any, ...], bytes] = {}
"""References to examples that this process has put into a cluster's store, by job and content."""


def _kept(content: tuple[Any, ...], value: object) -> bytes:
    """Return the reference to `value`, which is put into the store once a job, however many studies need it."""
    import ray

    key = (ray.get_runtime_context().get_job_id(), *content)
    if key not in _KEPT:
        _KEPT[key] = _opaque(ray.put(value))
    return _KEPT[key]


def _opaque(reference: Any) -> bytes:
    """Return a reference as bytes, with which Ray keeps the object until the job ends.

    Ray warns in red of references among the arguments of an actor that restarts: they might be gone by then. These
    are not.
    """
    from ray import cloudpickle

    return bytes(cloudpickle.dumps(reference))


def _trainer(
    kind: Callable[..., Evaluator], folder: Path | str | None, setup: bytes, data: bytes, test: bytes | None
) -> Evaluator:
    """Return a trainer, in the actor; setup, data and test are references from `_opaque`."""
    import ray
    from ray import cloudpickle

    whole = replace(ray.get(cloudpickle.loads(setup)), data=ray.get(cloudpickle.loads(data)))
    return kind(whole, folder, None if test is None else partial(ray.get, cloudpickle.loads(test)))
