"""Rewards of a policy's architectures over rungs, and the race of one batch. Pure; knows no policy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..architectures import Architecture
from .epochs import Epochs
from .halving import Rung


@dataclass
class Scores:
    """What every architecture got, by rung. Those that failed have no reward at any rung from there on.

    Attributes:
        known: Key -> rung -> reward.
        failed: Keys of those that failed at some rung.
    """

    known: dict[str, dict[int, float]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def record(self, key: str, rung: int, reward: float | None) -> None:
        """Keep a reward; None, or one that is no number, is a failure."""
        if reward is None or not math.isfinite(reward):
            self.failed.add(key)
        else:
            self.known.setdefault(key, {})[rung] = reward

    def has(self, key: str, rung: int) -> bool:
        """Return whether the outcome at `rung` is known."""
        return key in self.failed or rung in self.known.get(key, {})

    def gains(self) -> list[float]:
        """Return the mean gain from each rung to the next, over the architectures that have a reward at both.

        As long as the highest rung that any has reached.
        """
        top = max((max(rewards) for rewards in self.known.values()), default=0)
        steps = []
        for rung in range(top):
            pairs = [(had[rung], had[rung + 1]) for had in self.known.values() if rung in had and rung + 1 in had]
            steps.append(sum(later - before for before, later in pairs) / len(pairs) if pairs else 0.0)
        return steps

    def promise(self, key: str, gains: Sequence[float]) -> float | None:
        """Return the reward at the highest rung that `key` has, and what the further ones bring on average.

        None where it failed or was never scored: a failure is no reward.
        """
        rewards = self.known.get(key)
        if not rewards or key in self.failed:
            return None
        reached = max(rewards)
        return rewards[reached] + sum(gains[reached:])

    def best(self) -> str | None:
        """Return the key of the largest promise, the first of equals; None where nothing was scored."""
        gains = self.gains()
        promises = [(key, self.promise(key, gains)) for key in self.known]
        found = [(promise, -at, key) for at, (key, promise) in enumerate(promises) if promise is not None]
        return max(found)[2] if found else None


@dataclass
class Race:
    """Successive halving within one batch: all at rung `start`, the best 1/eta on to the next, until one is left.

    What is known of a rung from an earlier batch is not asked again. What the budget does not pay for is left out.

    Attributes:
        runners: Distinct architectures still in the race, in the order they were proposed.
        scores: Where outcomes are read and kept.
        epochs: The budget.
        eta: How many compete for one place.
        queue: What is to be asked next.
        start: The first rung.
    """

    runners: list[Architecture]
    scores: Scores
    epochs: Epochs
    eta: int
    queue: list[Rung] = field(default_factory=list)
    finished: bool = False
    start: int = 0
    _open: int = 0

    def __post_init__(self) -> None:
        self._rung = self.start
        self._enter()

    def take(self, n: int) -> list[Rung]:
        """Return up to `n` of what is to be asked, as asked now."""
        taken, self.queue = self.queue[:n], self.queue[n:]
        self._open += len(taken)
        return taken

    def tell(self) -> None:
        """Note that an outcome was recorded; the last one of a rung opens the next."""
        self._open -= 1
        if not self._open and not self.queue:
            self._close()

    def _enter(self) -> None:
        """Queue what is not known of this rung and can be paid for."""
        self.queue = []
        for arch in self.runners:
            if not self.scores.has(arch.key, self._rung) and self.epochs.affords(arch, self._rung):
                self.epochs.spend(arch, self._rung)
                self.queue.append(Rung(arch, self._rung))
        if not self.queue:
            self._close()

    def _close(self) -> None:
        """End this rung, and with it the race unless two or more were scored and another rung follows."""
        known = self.scores.known
        scored = [arch for arch in self.runners if self._rung in known.get(arch.key, {})]
        scored = [arch for arch in scored if arch.key not in self.scores.failed]
        if len(scored) < 2 or self._rung + 1 >= len(self.epochs.schedule):
            self.finished = True
            return
        places = math.ceil(len(scored) / self.eta)
        self.runners = sorted(scored, key=lambda arch: -known[arch.key][self._rung])[:places]
        self._rung += 1
        self._enter()
