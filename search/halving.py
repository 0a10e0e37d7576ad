"""Successive halving: many candidates on little data, the better part on more. Must not know what data is."""

import math
from dataclasses import dataclass, field

from ..errors import SpecError
from ..records import Candidate, Outcome, Scored, Trial, generator
from .base import Space
from .random_search import PATIENCE


@dataclass(frozen=True, slots=True)
class Rung:
    """A candidate at one size of its evaluation.

    Attributes:
        candidate: What is evaluated.
        rung: 0 for the first round; the objective gives round r `eta ** r` times the data of round 0.
    """

    candidate: Candidate
    rung: int

    @property
    def key(self) -> str:
        """Return the candidate's key with its round, such as `0-29@1`."""
        return f"{self.candidate.key}@{self.rung}"


@dataclass
class SuccessiveHalving:
    """Successive halving (Jamieson and Talwalkar, AISTATS 2016), synchronous.

    Round 0 draws `width` candidates; each round keeps the best 1/`eta` of those that were scored, until one is
    left or `rounds` are done. A failure drops out. Ties go to the candidate asked first.

    Attributes:
        space: What is drawn from.
        width: Candidates of round 0, those of `first` included.
        seed: Draw i is a function of (seed, i).
        eta: How many compete for one place in the next round; 2 or more.
        rounds: At most so many rounds; None runs until one candidate is left.
        first: Candidates that take part before any is drawn.
    """

    space: Space[Candidate]
    width: int
    seed: int
    eta: int = 2
    rounds: int | None = None
    first: tuple[Candidate, ...] = ()
    _asked: int = 0
    _told: int = 0
    _rung: int = 0
    _queue: list[Candidate] = field(default_factory=list)
    _at: int = 0
    _scores: list[tuple[float, int, Candidate]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.eta < 2 or self.width < 1:
            raise SpecError("SuccessiveHalving", f"eta={self.eta}, width={self.width}", "eta >= 2 and width >= 1")
        self._queue = self._draw()

    @property
    def done(self) -> bool:
        """Whether the last round has been asked."""
        return self._at >= len(self._queue) and self._last

    @property
    def _last(self) -> bool:
        return len(self._queue) <= 1 or (self.rounds is not None and self._rung + 1 >= self.rounds)

    def ask(self, n: int) -> list[Trial]:
        """Return up to `n` trials of this round; `[]` while the round's outcomes are awaited."""
        trials = [Trial(self._asked + i, Rung(c, self._rung)) for i, c in enumerate(self._queue[self._at :][:n])]
        self._asked += len(trials)
        self._at += len(trials)
        return trials

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Learn a score of this round; the round's last one opens the next."""
        self._told += 1
        if isinstance(outcome, Scored):
            assert isinstance(trial.candidate, Rung), "a trial of another search"
            self._scores.append((-float(outcome.values["reward"]), trial.index, trial.candidate.candidate))  # type: ignore[arg-type]
        if self._told < self._asked or self._at < len(self._queue) or self._last:
            return
        places = math.ceil(len(self._queue) / self.eta)
        self._queue = [candidate for _, _, candidate in sorted(self._scores, key=lambda score: score[:2])[:places]]
        self._scores, self._at, self._rung = [], 0, self._rung + 1

    def _draw(self) -> list[Candidate]:
        found = {candidate.key: candidate for candidate in self.first}
        misses = draws = 0
        while len(found) < self.width and misses < PATIENCE:
            candidate = self.space.draw(generator(self.seed, "halving", draws))
            draws += 1
            misses = misses + 1 if candidate.key in found else 0
            found.setdefault(candidate.key, candidate)
        return list(found.values())[: self.width]
