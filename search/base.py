"""What a search is: the ask/tell contract. Pure: no I/O, no clock, no Ray, no torch, no global random state.

The order of calls is the study's promise: `ask` may be called while earlier trials are still open; every trial
asked is told exactly once; **tells come in the order of asking**, whatever order the evaluations ended in. A
search is therefore a function of its seed and of the outcomes, and is resumed by replay: a fresh one, asked and
told again, asks the same candidates.
"""

import random
from typing import Protocol, TypeVar, runtime_checkable

from ..records import Candidate, Outcome, Trial

C = TypeVar("C", bound=Candidate, covariant=True)


@runtime_checkable
class Search(Protocol):
    """A source of trials that learns from their outcomes."""

    @property
    def done(self) -> bool:
        """Whether no further trial will be asked, whatever is told."""
        ...

    def ask(self, n: int) -> list[Trial]:
        """Return up to `n` new trials, indexed on; `[]` means waiting for tells, or done."""
        ...

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Learn the outcome of `trial`, the oldest that was asked and not yet told.

        A `Scored` outcome carries what the study's objective made of the raw values; searches that maximise
        read `values["reward"]`. A `Failed` outcome must leave the search usable and is never a reward.
        """
        ...


class Space(Protocol[C]):
    """What a search draws from."""

    @property
    def size(self) -> float:
        """How many candidates there are; `math.inf` where they are not counted."""
        ...

    def draw(self, rng: random.Random) -> C:
        """Return one candidate, a function of the state of `rng` alone."""
        ...
