"""Regularised evolution over networks: children of tournament winners, the oldest dies. Knows no trainer."""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from ..errors import SpecError
from ..records import Candidate, Outcome, Scored, Trial
from .asha import Asha
from .base import Space
from .epochs import SCHEDULE
from .halving import Rung

C = TypeVar("C", bound=Candidate)

STEPS = 8
"""Mutations in a row, at most, until a child is one that was not asked before."""


class Breeding(Space[C], Protocol[C]):
    """A space whose candidates have neighbours and children."""

    def neighbour(self, arch: C, rng: random.Random) -> C:
        """Return a candidate that differs from `arch` a little."""
        ...

    def cross(self, first: C, second: C, rng: random.Random) -> C:
        """Return a candidate that takes each decision from one of two."""
        ...


@dataclass
class Evolution:
    """Regularised evolution (Real et al., AAAI 2019, algorithm 1) on a budget of student-epochs.

    Children are scored at the rung `lowest`, and it is those scores that tournaments compare; with `highest` above
    it the best go on as in `Asha`, which changes what is found and not who breeds. Differences from the paper: a
    child of two parents now and then, no child that was asked before, and a failure never enters the population.

    Attributes:
        space: What is drawn from and mutated.
        budget: Student-epochs; see `epochs.Epochs`.
        seed: Child i is a function of (seed, i) and of what was told.
        population: Candidates alive; the first so many are drawn.
        sample: Members that compete to be a parent.
        crossover: Chance that a child has two parents.
        schedule: Epochs that a student has had at the end of each rung.
        lowest: Rung that children are scored at.
        highest: Rung that none passes; None for no promotion.
        eta: How many compete for one place in the next rung.
        first: Candidates asked before any is drawn.
    """

    space: Breeding[Any]
    budget: int
    seed: int
    population: int = 16
    sample: int = 4
    crossover: float = 0.2
    schedule: Sequence[int] = SCHEDULE
    lowest: int = 0
    highest: int | None = None
    eta: int = 2
    first: tuple[Candidate, ...] = ()
    _alive: deque[tuple[float, int, Candidate]] = field(default_factory=deque)
    _asha: Asha = field(init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.sample <= self.population:
            raise SpecError("Evolution.sample", self.sample, f"1 to the population, {self.population}")
        self._alive = deque(maxlen=self.population)
        highest = self.lowest if self.highest is None else self.highest
        self._asha = Asha(
            self.space, self.budget, self.seed, self.schedule, self.eta, self.lowest, highest,
            first=self.first, draw=self._child, capped=True,  # children get better all the time
        )  # fmt: skip
        self.epochs, self.rungs = self._asha.epochs, self._asha.rungs

    @property
    def done(self) -> bool:
        """Whether the budget pays for nothing more."""
        return self._asha.done

    def ask(self, n: int) -> list[Trial]:
        """Return up to `n` trials: promotions first, then children."""
        return self._asha.ask(n)

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Learn a score; one of the lowest rung enters the population, and the oldest member leaves."""
        self._asha.tell(trial, outcome)
        assert isinstance(trial.candidate, Rung), "a trial of another search"
        if isinstance(outcome, Scored) and trial.candidate.rung == self.lowest:
            reward = float(outcome.values["reward"])
            self._alive.append((reward, -trial.index, trial.candidate.candidate))

    def _child(self, rng: random.Random) -> Candidate:
        """Return a draw while the population is young, else a mutated winner that was not asked before."""
        if len(self._asha.started) < self.population or not self._alive:
            return self.space.draw(rng)
        child = self._parent(rng)
        if rng.random() < self.crossover:
            child = self.space.cross(child, self._parent(rng), rng)
        for _ in range(STEPS):
            child = self.space.neighbour(child, rng)
            if child.key not in self._asha.started:
                break
        return child

    def _parent(self, rng: random.Random) -> Candidate:
        """Return the best of a sample, the earlier asked of equals."""
        members = [rng.choice(self._alive) for _ in range(self.sample)]
        return max(members, key=lambda member: member[:2])[2]
