"""Asynchronous successive halving: a student goes on to the next rung as soon as it is among the best of its own.

Decisions are made of the outcomes in the order of tells, which is the order of asking: who is promoted does not
depend on who ended first. Must not know what an epoch trains.
"""

import math
import random
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ..errors import SpecError
from ..records import Candidate, Outcome, Scored, Trial, generator
from .base import Space
from .epochs import SCHEDULE, Epochs
from .halving import Rung

PATIENCE = 100
"""Draws in a row that bring nothing new before a space counts as exhausted."""


class Rungs:
    """The scores of each rung, and who of them may go on.

    Of n that were scored at a rung the best floor(n / eta) may go on, each once; a place once given is not taken
    back when others turn out better. So more than n / eta may have gone on in the end, and where rewards rise all
    the time, as those of a search that learns do, nearly all; `capped` lets no more than floor(n / eta) go. Ties go
    to the candidate asked first. What failed is not among the n.
    """

    def __init__(self, count: int, eta: int, *, capped: bool = False) -> None:
        if eta < 2:
            raise SpecError("eta", eta, "2 or more: how many compete for one place")
        self._eta, self._capped = eta, capped
        self._scores: list[list[tuple[float, int, Candidate]]] = [[] for _ in range(count)]
        self._promoted: list[set[str]] = [set() for _ in range(count)]

    def score(self, candidate: Candidate, rung: int, index: int, reward: float) -> None:
        """Take the reward of `candidate`, the `index`-th asked, at `rung`; one that is no number drops out."""
        if not math.isnan(reward):
            insort(self._scores[rung], (-reward, index, candidate), key=lambda score: score[:2])

    def promotions(self) -> Iterator[tuple[Candidate, int]]:
        """Yield who may go on and to which rung: the highest rung first, and of one rung the best first."""
        for rung in reversed(range(len(self._scores) - 1)):
            places = len(self._scores[rung]) // self._eta
            if self._capped and len(self._promoted[rung]) >= places:
                continue
            for _, _, candidate in self._scores[rung][:places]:
                if candidate.key not in self._promoted[rung]:
                    yield candidate, rung + 1

    def promote(self, candidate: Candidate, rung: int) -> None:
        """Note that `candidate` went on to `rung`."""
        self._promoted[rung - 1].add(candidate.key)

    def best(self) -> tuple[Candidate, int] | None:
        """Return the best of the highest rung that has a score, and that rung."""
        for rung in reversed(range(len(self._scores))):
            if self._scores[rung]:
                return self._scores[rung][0][2], rung
        return None


@dataclass
class Asha:
    """Asynchronous successive halving (Li et al., MLSys 2020, algorithm 2) on a budget of student-epochs.

    Whenever a trial is asked: the best that may go on from the highest rung does, if the budget pays for it; else
    a new candidate starts at the lowest rung. It ends when neither can be paid.

    Attributes:
        space: What is drawn from.
        budget: Student-epochs; see `Epochs`.
        seed: Draw i is a function of (seed, i).
        schedule: Epochs that a student has had at the end of each rung.
        eta: How many compete for one place in the next rung; 2 or more.
        lowest: Rung that candidates start at.
        highest: Rung that none passes; None for the schedule's last. Equal to `lowest`, it is a plain random search.
        quota: Candidates started at most; None for as many as the budget pays for.
        first: Candidates that start before any is drawn.
        draw: Draws a candidate instead of `space`; it may look at what was told.
        capped: Whether at most 1 / eta of a rung goes on, for rewards that rise; the paper's rule has no cap.
    """

    space: Space[Candidate]
    budget: int
    seed: int
    schedule: Sequence[int] = SCHEDULE
    eta: int = 2
    lowest: int = 0
    highest: int | None = None
    quota: int | None = None
    first: tuple[Candidate, ...] = ()
    draw: Callable[[random.Random], Candidate] | None = None
    capped: bool = False
    epochs: Epochs = field(init=False)
    rungs: Rungs = field(init=False)
    started: set[str] = field(default_factory=set, init=False)
    """Keys of the candidates asked at the lowest rung."""
    _asked: int = 0
    _told: int = 0
    _draws: int = 0
    _exhausted: bool = False

    def __post_init__(self) -> None:
        self.epochs = Epochs(self.budget, self.schedule)
        highest = len(self.schedule) - 1 if self.highest is None else self.highest
        if not 0 <= self.lowest <= highest < len(self.schedule):
            raise SpecError("Asha", f"rungs {self.lowest} to {highest}", f"rungs of 0 to {len(self.schedule) - 1}")
        if self.budget < self.schedule[self.lowest]:
            raise SpecError("budget", self.budget, f"student-epochs for one student: {self.schedule[self.lowest]}")
        self.rungs = Rungs(highest + 1, self.eta, capped=self.capped)

    @property
    def done(self) -> bool:
        """Whether nothing more can be paid, drawn or promoted, and no outcome is awaited that may change that."""
        return self._told == self._asked and not self._may_start and next(self._payable(), None) is None

    def ask(self, n: int) -> list[Trial]:
        """Return up to `n` trials; `[]` while outcomes must decide who goes on, or once done."""
        trials: list[Trial] = []
        while len(trials) < n and (chosen := self._next()) is not None:
            self.epochs.spend(chosen.candidate, chosen.rung)
            trials.append(Trial(self._asked, chosen))
            self._asked += 1
        return trials

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Learn a score; a failure drops out of its rung."""
        self._told += 1
        assert isinstance(trial.candidate, Rung), "a trial of another search"
        if isinstance(outcome, Scored):
            reward = float(outcome.values["reward"])
            self.rungs.score(trial.candidate.candidate, trial.candidate.rung, trial.index, reward)

    @property
    def _may_start(self) -> bool:
        within = self.quota is None or len(self.started) < self.quota + len({c.key for c in self.first})
        return within and not self._exhausted and self.epochs.left >= self.schedule[self.lowest]

    def _payable(self) -> Iterator[tuple[Candidate, int]]:
        return (
            (candidate, rung) for candidate, rung in self.rungs.promotions() if self.epochs.affords(candidate, rung)
        )

    def _next(self) -> Rung | None:
        promotion = next(self._payable(), None)
        if promotion is not None:
            self.rungs.promote(*promotion)
            return Rung(*promotion)
        candidate = self._start() if self._may_start else None
        return None if candidate is None else Rung(candidate, self.lowest)

    def _start(self) -> Candidate | None:
        """Return a candidate not started yet, or None when none turned up for long."""
        draw = self.draw or self.space.draw
        for candidate in self.first:
            if candidate.key not in self.started:
                self.started.add(candidate.key)
                return candidate
        for _ in range(PATIENCE):
            candidate = draw(generator(self.seed, "asha", self._draws))
            self._draws += 1
            if candidate.key not in self.started:
                self.started.add(candidate.key)
                return candidate
        self._exhausted = True
        return None


def random_students(
    space: Space[Candidate], budget: int, seed: int, schedule: Sequence[int] = SCHEDULE, rung: int = 2
) -> Asha:
    """Return a random search that trains every draw to the end of `rung` and spends `budget` student-epochs."""
    return Asha(space, budget, seed, schedule, lowest=rung, highest=rung)
