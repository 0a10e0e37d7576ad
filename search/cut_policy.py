"""A policy-gradient search over cuts of a decoder: how many blocks go, which, and how wide the others are.

The policy is a product of small distributions, all given by logits:

    how many   a categorical over the counts that the space allows, few the likelier at the start;
    which      Plackett-Luce: blocks leave one after another, each with odds exp(score), the prior being block
               influence (ShortGPT, arXiv 2403.03853): the less a block turns its input, the sooner it goes;
    how wide   a categorical over the space's relative widths, one a block, at the start mostly the widest.

So it starts as small changes of the cut of one width, which drops nothing. Few numbers, because a language model
allows few evaluations; the gradient is exact and needs no torch. The space fits what is drawn to the limit, so that no
draw is wasted; the gradient is that of what was drawn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..decoder_cuts import DecoderCut
from ..errors import SpecError
from ..records import Outcome, Scored, Trial, generator
from .cut_space import CutSpace
from .random_search import PATIENCE

Logits = list[float]


@dataclass(frozen=True, slots=True)
class _Draw:
    """What the policy chose, before it was fitted: a count, the blocks in the order they left, a width a block."""

    count: int
    dropped: tuple[int, ...]
    widths: tuple[int, ...]


@dataclass
class CutPolicy:
    """REINFORCE with the leave-one-out baseline over batches (Kool et al. 2019), advantages scaled to one deviation.

    Attributes:
        space: Of the cuts; its factors are what the policy chooses widths from.
        quota: Cuts asked in all.
        seed: Draw i is a function of (seed, i) and of the outcomes told before it.
        influence: Prior, one a block, above 0; None starts with equal odds.
        batch: Outcomes an update; the next batch is drawn when all are told.
        rate: Step along the gradient, in logits an advantage of one deviation; 0 draws from the prior and learns
            nothing, the control that tells what learning gives.
        sharpness: Power to which a block's odds of leaving follow 1 / influence at the start.
        caution: Log-odds of one block fewer gone, at the start.
        trust: Log-odds of a block's widest choice over each other, at the start.
    """

    space: CutSpace
    quota: int
    seed: int
    influence: Sequence[float] | None = None
    batch: int = 8
    rate: float = 1.0
    sharpness: float = 2.0
    caution: float = 0.5
    trust: float = 2.0
    _draws: int = 0
    _open: list[tuple[int, _Draw]] = field(default_factory=list)
    _rewards: dict[int, float] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)
    _told: int = 0
    _exhausted: bool = False

    def __post_init__(self) -> None:
        blocks = self.space.sizes.blocks
        prior = [1.0] * blocks if self.influence is None else list(self.influence)
        if len(prior) != blocks or min(prior) <= 0:
            raise SpecError("influence", f"{len(prior)} numbers", f"one above 0 for each of {blocks} blocks")
        self._count: Logits = [-self.caution * more for more in range(self.space.most - self.space.least + 1)]
        self._scores: Logits = [-self.sharpness * math.log(value) for value in prior]
        widest = max(self.space.factors)
        self._widths = [[self.trust * (factor == widest) for factor in self.space.factors] for _ in range(blocks)]

    @property
    def done(self) -> bool:
        """Whether the quota, or what the policy can still find, has been asked."""
        return self._exhausted or len(self._asked) >= self.quota

    def ask(self, n: int) -> list[Trial]:
        """Return up to `n` cuts of this batch; `[]` while the batch's outcomes are awaited."""
        trials: list[Trial] = []
        while len(trials) < n and not self.done and len(self._open) < self.batch:
            found = self._next()
            if found is None:
                self._exhausted = True
                break
            cut, draw = found
            self._open.append((len(self._asked), draw))
            trials.append(Trial(len(self._asked), cut))
            self._asked.add(cut.key)
        return trials

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Keep the reward; the last of a batch moves the logits. A failure takes no part in the gradient."""
        self._told += 1
        if isinstance(outcome, Scored):
            self._rewards[trial.index] = float(outcome.values["reward"])
        if len(self._open) == self.batch and self._told == len(self._asked):
            self._learn()
            self._open, self._rewards = [], {}

    def odds(self) -> list[float]:
        """Return the probability of each block to be the first to go, 0 for the pinned ones."""
        inner = self.space.inner
        shares = dict(zip(inner, _softmax([self._scores[index] for index in inner]), strict=True))
        return [shares.get(index, 0.0) for index in range(self.space.sizes.blocks)]

    def _next(self) -> tuple[DecoderCut, _Draw] | None:
        for _ in range(PATIENCE):
            draw = self._drawn()
            factors = [self.space.factors[choice] for choice in draw.widths]
            cut = self.space.fitted(draw.dropped, factors)
            if cut.key not in self._asked:
                return cut, draw
        return None

    def _drawn(self) -> _Draw:
        rng = generator(self.seed, "cut-policy", self._draws)
        self._draws += 1
        count = self.space.least + _pick(_softmax(self._count), rng.random())
        left, dropped = list(self.space.inner), []
        for _ in range(count):
            at = _pick(_softmax([self._scores[index] for index in left]), rng.random())
            dropped.append(left.pop(at))
        widths = tuple(_pick(_softmax(logits), rng.random()) for logits in self._widths)
        return _Draw(count, tuple(dropped), widths)

    def _learn(self) -> None:
        """Follow the gradient of the batch's expected reward."""
        scored = [(self._rewards[index], draw) for index, draw in self._open if index in self._rewards]
        if len(scored) < 2:
            return
        rewards = [reward for reward, _ in scored]
        mean = sum(rewards) / len(rewards)
        deviation = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / len(rewards))
        if deviation == 0:
            return
        leave_one_out = len(rewards) / (len(rewards) - 1)  # r - mean of the others = (r - mean) n / (n - 1)
        steps = [
            (draw, self.rate * leave_one_out * (reward - mean) / deviation / len(rewards)) for reward, draw in scored
        ]
        gradients = [(self._gradient(draw), step) for draw, step in steps]  # all at the logits that drew them
        for gradient, step in gradients:
            for logits, slope in zip((self._count, self._scores, *self._widths), gradient, strict=True):
                for index, value in enumerate(slope):
                    logits[index] += step * value

    def _gradient(self, draw: _Draw) -> list[Logits]:
        """Return the gradient of the log-probability of `draw`: by counts, by scores, by each block's widths."""
        count = _slope(self._count, draw.count - self.space.least)
        scores, left = [0.0] * len(self._scores), list(self.space.inner)
        for gone in draw.dropped:
            slope = _slope([self._scores[index] for index in left], left.index(gone))
            for index, value in zip(left, slope, strict=True):
                scores[index] += value
            left.remove(gone)
        kept = set(range(self.space.sizes.blocks)) - set(draw.dropped)
        widths = [
            _slope(logits, choice) if index in kept else [0.0] * len(logits)
            for index, (logits, choice) in enumerate(zip(self._widths, draw.widths, strict=True))
        ]
        return [count, scores, *widths]


def _softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    parts = [math.exp(value - top) for value in logits]
    whole = sum(parts)
    return [part / whole for part in parts]


def _pick(shares: Sequence[float], at: float) -> int:
    """Return the index whose share covers `at`, a number in 0..1."""
    for index, share in enumerate(shares):
        at -= share
        if at < 0:
            return index
    return len(shares) - 1


def _slope(logits: Sequence[float], chosen: int) -> Logits:
    """Return the gradient of the log-probability of `chosen` by the logits."""
    return [float(index == chosen) - share for index, share in enumerate(_softmax(logits))]
