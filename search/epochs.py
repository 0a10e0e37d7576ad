"""What a search may spend, counted in epochs of one student. Knows no clock and no trainer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ..errors import SpecError
from ..records import Candidate

SCHEDULE = (1, 2, 4, 8, 16)
"""Epochs that a student has had at the end of each rung."""


@dataclass
class Epochs:
    """A budget of student-epochs.

    A student goes on from the rung it has reached, so a rung costs the epochs between the two; one that was asked
    before, or lies below one that was, costs nothing.

    Attributes:
        budget: Student-epochs in all.
        schedule: Epochs that a student has had at the end of rung 0, 1, ...; rising.
    """

    budget: int
    schedule: Sequence[int] = SCHEDULE
    spent: int = 0
    _reached: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        steps = list(self.schedule)
        if not steps or steps[0] < 1 or any(later <= earlier for earlier, later in pairwise(steps)):
            raise SpecError("schedule", tuple(steps), "epochs that rise from 1 or more, such as 1, 2, 4, 8, 16")
        if self.budget < steps[0]:
            raise SpecError("budget", self.budget, f"student-epochs for one student at rung 0 or more: {steps[0]}")

    @property
    def left(self) -> int:
        """Student-epochs not spent."""
        return self.budget - self.spent

    def price(self, candidate: Candidate, rung: int) -> int:
        """Return what asking `candidate` at `rung` costs now."""
        had = self._reached.get(candidate.key, -1)
        return 0 if rung <= had else self.schedule[rung] - (self.schedule[had] if had >= 0 else 0)

    def affords(self, candidate: Candidate, rung: int) -> bool:
        """Return whether what is left pays for `candidate` at `rung`."""
        return self.price(candidate, rung) <= self.left

    def spend(self, candidate: Candidate, rung: int) -> None:
        """Pay for `candidate` at `rung`."""
        assert self.affords(candidate, rung), "asked for more than is left"
        self.spent += self.price(candidate, rung)
        self._reached[candidate.key] = max(rung, self._reached.get(candidate.key, -1))
