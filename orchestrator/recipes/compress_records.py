"""What a compression run found, as plain values: students as they were evaluated, finalists, lottery tickets."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from ...architectures import Architecture
from ...records import JSON, Outcome, Scored, Trial
from ...search.halving import Rung

Told = Sequence[tuple[Trial, Outcome]]
Cost = Callable[[Architecture], float]


@dataclass(frozen=True)
class Student:
    """One architecture as one search evaluated it, at the highest rung that it reached.

    Attributes:
        method: Of the search.
        seed: Index of the search among its kind.
        arch: Canonical text of the architecture.
        params: Parameters.
        macs: Multiply-accumulates for one example.
        cost: By the measure of the target.
        epochs: Trained for.
        accuracy: On the validation examples.
    """

    method: str
    seed: int
    arch: str
    params: int
    macs: int
    cost: float
    epochs: int
    accuracy: float


@dataclass(frozen=True)
class Point:
    """The best student of a search once so many student-epochs were spent.

    Attributes:
        epochs: Student-epochs spent.
        accuracy: Best validation accuracy within the limit so far; 0 before there is one.
    """

    epochs: int
    accuracy: float


@dataclass(frozen=True)
class Finalist:
    """A search's chosen student after its final training, on the test examples.

    Attributes:
        student: As it was chosen.
        correct: Test examples it got right.
        n: Test examples.
        validation: Its validation accuracy after final training.
        epochs: It was trained for.
    """

    student: Student
    correct: int
    n: int
    validation: float
    epochs: int

    @property
    def accuracy(self) -> float:
        """On the test examples."""
        return self.correct / self.n

    def to_json(self) -> dict[str, JSON]:
        """Return it as plain JSON."""
        return {**asdict(self), "accuracy": round(self.accuracy, 6)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_json` wrote."""
        fields = {name: values[name] for name in ("correct", "n", "validation", "epochs")}
        return cls(student=Student(**values["student"]), **fields)


def students_of(method: str, seed: int, told: Told, cost: Cost) -> list[Student]:
    """Return every architecture that a search evaluated, in the order of asking, at its highest rung."""
    found: dict[str, Student] = {}
    for trial, outcome in told:
        if not isinstance(outcome, Scored):
            continue
        values, arch = outcome.values, _arch(trial)
        known = found.get(arch.key)
        if known is None:
            known = Student(method, seed, arch.key, arch.params, arch.macs, cost(arch), 0, 0.0)
        if values["epochs"] >= known.epochs:
            known = replace(known, epochs=values["epochs"], accuracy=values["accuracy"])
        found[arch.key] = known
    return list(found.values())


def chosen_of(students: Sequence[Student], limit: float) -> Student | None:
    """Return the student within the limit of the highest validation accuracy among those trained longest.

    Accuracies at different rungs do not compare: one stopped early may look worse than it is, never better for it.
    """
    within = [student for student in students if student.cost <= limit]
    return max(within, key=lambda student: (student.epochs, student.accuracy, -student.cost), default=None)


def curve_of(told: Told, schedule: Sequence[int], cost: Cost, limit: float) -> list[Point]:
    """Return the best validation accuracy within the limit as student-epochs are spent."""
    spent, best, seen = 0, 0.0, set[str]()
    points: list[Point] = []
    for trial, outcome in told:
        if trial.candidate.key not in seen:
            seen.add(trial.candidate.key)
            spent += _epochs(trial.candidate, schedule)
        if isinstance(outcome, Scored) and outcome.values["accuracy"] > best and cost(_arch(trial)) <= limit:
            best = outcome.values["accuracy"]
            points.append(Point(spent, best))
    return [*points, Point(spent, best)]


def epochs_of(told: Told, schedule: Sequence[int]) -> int:
    """Return the student-epochs that a search spent: each rung of each architecture once."""
    rungs = {trial.candidate.key: trial.candidate for trial, _ in told}
    return sum(_epochs(rung, schedule) for rung in rungs.values())


def front_of(students: Iterable[Student], cost: Callable[[Student], float]) -> list[Student]:
    """Return those that no other beats in cost without losing accuracy, cheapest first."""
    front: list[Student] = []
    for student in sorted(students, key=lambda student: (cost(student), -student.accuracy)):
        if not front or student.accuracy > front[-1].accuracy:
            front.append(student)
    return front


def _arch(trial: Trial) -> Architecture:
    rung = trial.candidate
    assert isinstance(rung, Rung), "a trial of another search"
    assert isinstance(rung.candidate, Architecture), "a candidate of another space"
    return rung.candidate


def _epochs(rung: Any, schedule: Sequence[int]) -> int:
    return schedule[rung.rung] - (schedule[rung.rung - 1] if rung.rung else 0)
