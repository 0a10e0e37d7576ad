"""Student trainers as workers of the paying path: long-lived actors, one a core, over arrays kept in memory once."""

from collections.abc import Callable, Sequence
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

    def __init__(self, number: int, worker: RayWorker, held: Sequence[Any]) -> None:
        self.name, self._worker = f"trainer-{number}", worker
        self._held = tuple(held)  # a restarted actor reads them again

    async def run(self, requests: Sequence[Request]) -> list[Outcome]:
        """Return the actor's outcomes, in order.

        Raises:
            WorkerLost: the actor died or is restarting.
        """
        return await self._worker.run(requests)

    async def revive(self) -> None:
        """Wait until Ray has restarted the actor.

        Raises:
            WorkerLost: it has not within a minute.
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
        ClusterError: they are not placed within a minute.
    """
    import ray

    stored = ray.put(setup)
    tested = None if test is None else ray.put(test)
    workers = start_ray_workers(partial(_trainer, kind, folder, _opaque(stored), _opaque(tested)), count)
    return [TrainerWorker(number, worker, (stored, tested)) for number, worker in enumerate(workers)]


def _opaque(reference: Any) -> bytes:
    """Return a reference as bytes.

    Ray warns in red of references among the arguments of an actor that restarts: they might be gone by then. These
    are not, since the workers hold them.
    """
    from ray import cloudpickle

    return bytes(cloudpickle.dumps(reference))


def _trainer(kind: Callable[..., Evaluator], folder: Path | str | None, setup: bytes, test: bytes) -> Evaluator:
    """Return a trainer, in the actor; `setup` and `test` are references from `_opaque`."""
    import ray
    from ray import cloudpickle

    examples = cloudpickle.loads(test)
    return kind(ray.get(cloudpickle.loads(setup)), folder, None if examples is None else partial(ray.get, examples))
