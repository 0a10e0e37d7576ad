"""Random search, the baseline of every report. Knows spaces and outcomes; must not know actors."""

from dataclasses import dataclass, field

from ..records import Candidate, Outcome, Trial, generator
from .base import Space

PATIENCE = 1000
"""Draws in a row that bring nothing new before a space counts as exhausted."""


@dataclass
class RandomSearch:
    """Uniform draws without replacement (Bergstra and Bengio, JMLR 2012).

    Attributes:
        space: What is drawn from.
        quota: Candidates drawn, those of `first` not counted.
        seed: Draw i is a function of (seed, i).
        first: Candidates asked before any is drawn, such as the unmodified model.
    """

    space: Space[Candidate]
    quota: int
    seed: int
    first: tuple[Candidate, ...] = ()
    _draws: int = 0
    _asked: set[str] = field(default_factory=set)
    _exhausted: bool = False

    @property
    def done(self) -> bool:
        """Whether the quota, or the whole space, has been asked."""
        return self._exhausted or len(self._asked) >= self.quota + len(self.first)

    def ask(self, n: int) -> list[Trial]:
        """Return up to `n` trials of candidates never asked before; `[]` once done."""
        trials: list[Trial] = []
        while len(trials) < n and not self.done:
            candidate = self._next()
            if candidate is None:
                self._exhausted = True
            else:
                trials.append(Trial(len(self._asked), candidate))
                self._asked.add(candidate.key)
        return trials

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Learn nothing; the study keeps the incumbents."""

    def _next(self) -> Candidate | None:
        """Return a candidate not asked yet, or None when none turned up for long."""
        if len(self._asked) < len(self.first):
            return self.first[len(self._asked)]
        for _ in range(PATIENCE):
            candidate = self.space.draw(generator(self.seed, "random-search", self._draws))
            self._draws += 1
            if candidate.key not in self._asked:
                return candidate
        return None
