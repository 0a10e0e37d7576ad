"""Students as an evaluator: an architecture and a rung in, raw accuracies out. Must not know rewards, ledgers or Ray.

A student is trained rung by rung at a constant learning rate. Each draw belongs to (its seed, its architecture,
epoch), so that a student of rung 3 is the student of rung 2 trained on, bit for bit, whether it was kept or not.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from ..architectures import Architecture, ShapeError
from ..errors import PlaitError, SpecError, StoreError
from ..records import JSON, Failed, Outcome, Request, Scored, digest, seed_of
from .checkpoints import Checkpoint, Checkpoints
from .distill import (
    Diverged,
    FitSet,
    Measured,
    SoftTargets,
    Training,
    check_fits,
    measure,
    network_digest,
    one_thread,
    optimiser_of,
    soft_targets,
    train_epoch,
)
from .images import Array, ImageData, Part
from .inheritance import inherit
from .network import Network, State, build, state_of, with_state

__all__ = ["Student", "StudentIdentity", "StudentSetup", "StudentTrainer", "Training", "item_of"]


@dataclass(frozen=True)
class StudentIdentity:
    """What the ledger knows a student trainer by."""

    spec: JSON
    name: str = "student"
    version: int = 1


@dataclass(frozen=True)
class StudentSetup:
    """All that a student's values depend on beside its architecture, rung and seed; made by `of`.

    Attributes:
        training: How students are trained.
        data: Fit and validation examples; no test example.
        targets: What teachers and assistants say of the fit examples.
        teacher: Whose weights are inherited, as architecture and state; None where none are.
        spec: Their digests, as JSON.
    """

    training: Training
    data: ImageData
    targets: tuple[SoftTargets, ...]
    teacher: tuple[Architecture, State] | None
    spec: JSON

    @classmethod
    def of(
        cls,
        data: ImageData,
        training: Training,
        teacher: Network | None = None,
        *,
        assistants: Sequence[Network] = (),
        targets: Sequence[SoftTargets] | None = None,
    ) -> "StudentSetup":
        """Return the setup; the logits of teacher and assistants are computed here, once for all students.

        Args:
            data: Its test part is left out.
            training: Settings.
            teacher: Whose logits are learnt, and whose weights `init` inherits.
            assistants: Networks between teacher and student in size, whose logits are learnt beside the teacher's.
            targets: In place of the logits of `teacher`: those of several, each about some of the classes.

        Raises:
            SpecError: the settings ask for a teacher and there is none, or one does not fit the data.
        """
        networks = [*([teacher] if teacher and targets is None else []), *assistants]
        for network in networks:
            check_fits(network.arch, data)
        taught = tuple(targets or ()) + tuple(soft_targets(network, data.fit_x) for network in networks)
        if training.loss == "hard":
            taught = ()
        elif not taught:
            raise SpecError("training.loss", training.loss, "hard where there is no teacher")
        if training.decay != "none":
            raise SpecError("training.decay", training.decay, "none for students: a rung must not depend on the last")
        heir = None
        if training.init != "random":
            if teacher is None:
                raise SpecError("training.init", training.init, "random where there is no teacher to inherit from")
            heir = (teacher.arch, state_of(teacher))
        spec = {
            "training": training.model_dump(mode="json"),
            "data": data.digest,
            "targets": [one.identity for one in taught],
            "teacher": network_digest(teacher) if teacher and heir else None,
        }
        return cls(training, data.without_test(), taught, heir, spec)

    @property
    def identity(self) -> StudentIdentity:
        """What the ledger knows these students by; a driver needs no more."""
        return StudentIdentity(self.spec, StudentTrainer.name, StudentTrainer.version)


@dataclass
class Student:
    """A student in training: what it is now, and what it did on validation at the end of each rung so far."""

    arch: Architecture
    seed: int
    network: Network
    optimiser: torch.optim.Optimizer
    results: list[dict[str, JSON]] = field(default_factory=list)


@dataclass
class _Spent:
    epochs: int = 0
    started: float = field(default_factory=time.perf_counter)

    @property
    def cost(self) -> dict[str, float]:
        return {"epochs": float(self.epochs), "seconds": time.perf_counter() - self.started}


class StudentTrainer:
    """Trains and measures students: `candidate` is "ARCHITECTURE@RUNG", `item` {"seed", "split"} (see `item_of`).

    `Scored.values` are `accuracy`, `loss` (nats), `correct` and `n` on the split, `epochs` in all, and `curve`, the
    validation accuracy at the end of each rung. `Scored.cost` is what was trained now: `epochs`, and `seconds`.

    Args:
        setup: Settings, data, teachers.
        folder: Of checkpoints; None keeps none, and each rung is trained from the first epoch.
        test: Returns the test part; called when an item's split is "test", never before.
    """

    name: ClassVar[str] = "student"
    version: ClassVar[int] = 1
    """Raise it whenever a change here, in training, inheritance or networks may change a value."""

    def __init__(
        self, setup: StudentSetup, folder: Path | str | None = None, test: Callable[[], Part] | None = None
    ) -> None:
        self._setup, self._test = setup, test
        self._folder = None if folder is None else Path(folder)
        self._fit = FitSet(setup.data, setup.targets)
        self._teacher = None if setup.teacher is None else with_state(*setup.teacher)
        # Weights that one build of torch began are not trained on by another: it would round otherwise.
        self._build = [torch.__version__, torch.backends.cpu.get_cpu_capability()]

    @property
    def spec(self) -> JSON:
        """The part of the ledger key that this evaluator answers for."""
        return self._setup.spec

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        """Return one outcome a request, in order.

        `Failed` reasons: `BadInput` (no such candidate or item), `Invalid` (a network that does not run on these
        examples), `Diverged` (a loss that is not finite), `StoreError` (no checkpoint can be written; may be repeated).
        """
        return [self._outcome(request) for request in requests]

    def network(self, candidate: str, seed: int) -> Network:
        """Return a trained student, from its checkpoint or trained again.

        Raises:
            SpecError: no such candidate; ShapeError where it does not run on these examples.
            Diverged: its loss is not finite.
        """
        arch, rung = self._parse(candidate)
        return self._trained(arch, rung, seed, _Spent()).network

    def _outcome(self, request: Request) -> Outcome:
        spent = _Spent()
        try:
            arch, rung = self._parse(request.candidate)
            seed, split = read_item(request.item)
            values = self._values(arch, rung, seed, split, spent)
        except ShapeError as error:
            return Failed("Invalid", str(error), cost=spent.cost)
        except Diverged as error:
            return Failed("Diverged", str(error), cost=spent.cost)
        except SpecError as error:
            return Failed("BadInput", str(error), cost=spent.cost)
        except StoreError as error:
            return Failed("StoreError", str(error), retryable=True, cost=spent.cost)
        return Scored(values, spent.cost)

    def _parse(self, candidate: str) -> tuple[Architecture, int]:
        """Return architecture and rung of "ARCHITECTURE@RUNG", checked against data and schedule."""
        text, _, number = candidate.rpartition("@")
        rungs = len(self._setup.training.schedule)
        if not (number.isdecimal() and int(number) < rungs):
            raise SpecError("student: rung", number, f"0 to {rungs - 1}, after an architecture and @")
        arch = Architecture.parse(text)
        check_fits(arch, self._setup.data)
        return arch, int(number)

    def _values(self, arch: Architecture, rung: int, seed: int, split: str, spent: _Spent) -> dict[str, JSON]:
        results = self._known(arch, seed) if split == "validation" else ()
        if len(results) <= rung:
            student = self._trained(arch, rung, seed, spent)
            results = tuple(student.results)
        measured = results[rung] if split == "validation" else self._tested(student.network).to_json()
        curve = [result["accuracy"] for result in results[: rung + 1]]
        return {**measured, "epochs": self._setup.training.schedule[rung], "curve": curve}

    def _tested(self, network: Network) -> Measured:
        if self._test is None:
            raise SpecError("item.split", "test", "validation: this trainer was given no test examples")
        with one_thread():
            return measure(network, *self._test())

    def _known(self, arch: Architecture, seed: int) -> tuple[dict[str, JSON], ...]:
        """Return the validation results that the highest checkpoint holds."""
        store = self._store(arch, seed)
        best = next(store.found(), None) if store else None
        return best.results if best else ()

    def _trained(self, arch: Architecture, rung: int, seed: int, spent: _Spent) -> Student:
        """Return the student at the end of a rung, trained on from the highest checkpoint that is not above it."""
        schedule, data, store = self._setup.training.schedule, self._setup.data, self._store(arch, seed)
        with one_thread():
            student = self._restored(arch, rung, seed, store) or self._fresh(arch, seed)
            for at in range(len(student.results), rung + 1):
                done = schedule[at - 1] if at else 0
                for epoch in range(done + 1, schedule[at] + 1):
                    spent.epochs += 1
                    train_epoch(
                        student.network, student.optimiser, self._fit, self._setup.training, student.seed, epoch
                    )
                measured = measure(student.network, data.validation_x, data.validation_y)
                student.results.append(measured.to_json())
                if store:
                    store.save(_checkpoint(student))
        return student

    def _fresh(self, arch: Architecture, seed: int) -> Student:
        own, how = seed_of(seed, arch.hash), self._setup.training.init
        if self._teacher is None:
            network = build(arch, seed_of(own, "weights"))
        else:
            network = inherit(arch, self._teacher, how, seed_of(own, "weights"))
        return Student(arch, own, network, optimiser_of(network, self._setup.training))

    def _restored(self, arch: Architecture, rung: int, seed: int, store: Checkpoints | None) -> Student | None:
        for checkpoint in store.found() if store else ():
            if checkpoint.rung <= rung:
                try:
                    return self._student(arch, seed, checkpoint)
                except (PlaitError, KeyError):
                    continue  # whole, but not of this student: as good as absent
        return None

    def _student(self, arch: Architecture, seed: int, checkpoint: Checkpoint) -> Student:
        parts: dict[str, State] = {"network": {}, "optimiser": {}}
        for name, array in checkpoint.arrays.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = array
        network = with_state(arch, parts["network"])
        optimiser = optimiser_of(network, self._setup.training)
        _load_optimiser(optimiser, parts["optimiser"])
        return Student(arch, seed_of(seed, arch.hash), network, optimiser, list(checkpoint.results))

    def _store(self, arch: Architecture, seed: int) -> Checkpoints | None:
        if self._folder is None:
            return None
        return Checkpoints(self._folder, digest([self.version, self.spec, self._build, arch.key, seed])[:32])


def item_of(seed: int, split: str = "validation") -> dict[str, JSON]:
    """Return the item of a request; seeds are of a run or of a repetition, splits `validation` or `test`."""
    return {"seed": seed, "split": split}


def read_item(item: JSON) -> tuple[int, str]:
    """Return seed and split of a request's item; SpecError where it has not both, and nothing else."""
    if not isinstance(item, dict) or set(item) != {"seed", "split"} or type(item["seed"]) is not int:
        raise SpecError("item", item, "a whole number `seed`, and `split`")
    if item["split"] not in ("validation", "test"):
        raise SpecError("item.split", item["split"], "validation or test")
    return item["seed"], item["split"]


def _checkpoint(student: Student) -> Checkpoint:
    arrays = {f"network/{name}": array for name, array in state_of(student.network).items()}
    for at, tensors in student.optimiser.state_dict()["state"].items():
        arrays |= {f"optimiser/{at}/{name}": tensor.contiguous().numpy() for name, tensor in tensors.items()}
    return Checkpoint(len(student.results) - 1, arrays, tuple(student.results))


def _load_optimiser(optimiser: torch.optim.Optimizer, arrays: dict[str, Array]) -> None:
    """Put a state back, each tensor in its parameter's layout: steps over mixed layouts round otherwise."""
    parameters = [one for group in optimiser.param_groups for one in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for path, array in arrays.items():
        at, _, name = path.partition("/")
        value, like = torch.from_numpy(np.array(array)), parameters[int(at)]
        same = value.shape == like.shape
        state.setdefault(int(at), {})[name] = torch.empty_like(like).copy_(value) if same else value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
