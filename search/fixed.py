"""A given list of candidates as a search: menus, re-verification, single paths."""

from collections.abc import Sequence

from ..records import Candidate, Outcome, Trial


class FixedSearch:
    """Asks each of `candidates` once, in order, and learns nothing."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates, self._asked = tuple(candidates), 0

    @property
    def done(self) -> bool:
        """Whether all have been asked."""
        return self._asked == len(self._candidates)

    def ask(self, n: int) -> list[Trial]:
        """Return the next `n` candidates."""
        first, self._asked = self._asked, min(self._asked + n, len(self._candidates))
        return [Trial(index, self._candidates[index]) for index in range(first, self._asked)]

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Learn nothing."""
