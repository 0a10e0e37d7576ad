"""Gates: whether a changed team takes the place of the one before, decided on items that both have answered.

Pure. Must not know what a team is, where scores come from, or which items a split holds. Source: specs/ann, section
9.8; a gate's level is one proposal's, and what bounds a whole run's error is `confirm` on items of their own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import stats

from ..errors import SpecError
from ..intervals import Interval, difference_interval
from .gate_power import ITEM_PART, START, Counts, Odds, chances, walk

MISSING = 0.1
"""Share of a comparison's items that may lack a score of either team."""
EQUAL = 1e-9
"""Scores that differ by less are equal, and so are a p and a level: neither is exact."""
GAINS = (0.05, 0.10)
"""Changes whose power is told where items are few."""

Answer: TypeAlias = float | Sequence[float | None] | None
"""A team's score on an item, or None where the team failed on it; a sequence for repeats of the item."""
Pairs: TypeAlias = Mapping[str, tuple[Answer, Answer]]
"""By item: the incumbent's answer and the challenger's."""
Choice = Literal["keep", "drop", "go_on", "undecidable"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at a comparison came to.

    Attributes:
        choice: `keep` and `drop` end it, `go_on` asks for the next look's items, `undecidable` is a refusal: too
            many items lack a score.
        wins: Items on which the challenger is better.
        losses: Items on which the incumbent is.
        ties: Items on which neither is.
        missing: Items that one of them, or both, failed on; they are no part of the test.
        p: Of the exact one-sided sign test over wins and losses; whatever the gate goes by.
        look: Index of the look, from 0.
    """

    choice: Choice
    wins: int
    losses: int
    ties: int
    missing: int
    p: float
    look: int

    @property
    def items(self) -> int:
        """Items that both were scored on."""
        return self.wins + self.losses + self.ties

    @property
    def lead(self) -> int:
        """Wins less losses."""
        return self.wins - self.losses

    def __str__(self) -> str:
        missing = f", {self.missing} missing" if self.missing else ""
        counts = f"{self.lead:+d} of {self.items} items ({self.wins} won, {self.losses} lost{missing})"
        return f"{self.choice.replace('_', ' ')}: {counts}, p {self.p:.3g} at look {self.look + 1}"


@dataclass(frozen=True)
class Gate:
    """A rule that keeps or drops a challenger after one or more looks at growing numbers of items.

    Attributes:
        name: As it is written in specs.
        about: What it follows, in a line.
        sizes: Items seen at each look where there are enough of them; () for one look at all there are.
        levels: The challenger is kept at a look whose p is at most this; () for one whose mean is higher.
        drops: It is dropped at a look, but for the last, whose wins less losses are at most this; at the last it is
            dropped if not kept.
    """

    name: str
    about: str
    sizes: tuple[int, ...] = ()
    levels: tuple[float, ...] = ()
    drops: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.levels and not len(self.levels) == len(self.sizes) == len(self.drops) + 1:
            raise SpecError(f"gate {self.name}", (self.sizes, self.levels, self.drops), "a size and a level a look")
        if not all(0 < level < 1 for level in self.levels):
            raise SpecError(f"gate {self.name}", self.levels, "levels between 0 and 1")
        if any(small >= large for small, large in zip((0, *self.sizes), self.sizes, strict=False)):
            raise SpecError(f"gate {self.name}", self.sizes, "growing numbers of items")

    @property
    def least(self) -> int:
        """Fewest items that it can decide on: one for the first look."""
        return 3 ** max(0, len(self.sizes) - 1)

    def looks(self, n: int) -> tuple[int, ...]:
        """Return how many items have been seen at each look when there are `n`: where few, n/9, n/3 and n.

        Raises:
            SpecError: there are fewer than `least`.
        """
        if n < self.least:
            raise SpecError(f"items for gate {self.name}", n, f"{self.least} or more")
        if not self.sizes:
            return (n,)
        if n >= self.sizes[-1]:
            return self.sizes
        return tuple(n // 3**later for later in reversed(range(len(self.sizes))))

    def decide(self, look: int, pairs: Pairs) -> Verdict:
        """Return the verdict at the `look`-th look (from 0) over the answers of all items seen so far.

        An item's repeats are averaged first. Items that a team failed on are left out on both sides, and where that
        is more than a tenth of them, nothing is decided.

        Raises:
            SpecError: a score is no finite number, or the gate has no such look.
        """
        if not 0 <= look < max(1, len(self.sizes)):
            raise SpecError(f"look of gate {self.name}", look, f"0 to {max(1, len(self.sizes)) - 1}")
        differences, missing = compare(pairs)
        wins, losses = _count(differences)
        choice = self._choose(look, wins, losses, math.fsum(differences))
        if not differences or missing / len(pairs) > MISSING:
            choice = "undecidable"
        ties = len(differences) - wins - losses
        return Verdict(choice, wins, losses, ties, missing, float(sign_p(wins, losses)), look)

    def rule(self, look: int, wins: Counts, losses: Counts, lead: Counts = None) -> tuple[Any, Any]:
        """Return whether to keep and whether to drop; of arrays, where to.

        Args:
            look: Index of the look, from 0.
            wins: Items won, or an array of such counts.
            losses: Items lost, in the same shape.
            lead: Sum of the scores' differences; None for wins less losses, which it is where scores are 0 or 1.
        """
        ahead = wins - losses
        if self.levels:
            keep = sign_p(wins, losses) <= self.levels[look] + EQUAL
        else:
            keep = np.asarray(ahead if lead is None else lead) > EQUAL
        last = look + 1 >= len(self.sizes)
        return keep, ~keep & (True if last else ahead <= self.drops[look])

    def odds(self, n: int, gain: float, start: float = START, item_part: float = ITEM_PART) -> Odds:
        """Return how often a change of `gain` (0.05: five points) is kept where there are `n` items, and how soon.

        Right-or-wrong scores, computed in the model of `gate_power`: a fresh comparison, half of an answer's luck
        the item's.

        >>> round(THREE_LOOKS.odds(300, 0.0).kept, 2)
        0.18
        """
        return _odds(self, n, gain, start, item_part)

    def power(self, n: int, gain: float) -> float:
        """Return the share of changes of `gain` that it keeps where there are `n` items."""
        return self.odds(n, gain).kept

    def note(self, n: int) -> str:
        """Return a line on what `n` items are too few for; "" where they are as many as the gate wants.

        Raises:
            SpecError: there are fewer than `least`.
        """
        looks = self.looks(n)
        if not self.sizes or n >= self.sizes[-1]:
            return ""
        seen = ", ".join(map(str, looks))
        kept = " and ".join(f"{self.power(n, gain):.0%} of changes of {100 * gain:+.0f} points" for gain in GAINS)
        return f"{n} items where gate {self.name} wants {self.sizes[-1]}: it looks after {seen} and keeps {kept}"

    def _choose(self, look: int, wins: int, losses: int, lead: float) -> Choice:
        keep, drop = self.rule(look, wins, losses, lead)
        return "keep" if keep else "drop" if drop else "go_on"


@lru_cache(maxsize=256)
def _odds(gate: Gate, n: int, gain: float, start: float, item_part: float) -> Odds:
    return walk(gate.looks(n), *chances(gain, start, item_part), gate.rule)


THREE_LOOKS = Gate(
    name="three_looks",
    about="ours: sign tests after 32, 100 and 300 items",
    sizes=(32, 100, 300),
    levels=(0.03, 0.10, 0.25),
    drops=(-2, 0),
)
EAGER = Gate(
    name="eager",
    about="ours: sign tests after 32, 100 and 300 items that let more through, useless edits among them",
    sizes=(32, 100, 300),
    levels=(0.02, 0.05, 0.50),
    drops=(-3, -2),
)
MEAN = Gate(name="mean", about="ANN, arXiv 2506.09046: a higher mean on the whole validation set; ties are rejected")
MINIBATCH = Gate(name="minibatch", about="GEPA: a higher sum on three items, and no gate after that", sizes=(3,))
GATES = {gate.name: gate for gate in (THREE_LOOKS, EAGER, MEAN, MINIBATCH)}
"""The gates by name; `sign` makes others."""


def sign(level: float, n: int) -> Gate:
    """Return the gate that keeps what passes a sign test at `level` after `n` items."""
    return Gate(f"sign:{level:g}:{n}", f"one sign test at {level:g} after {n} items", (n,), (level,), ())


def gate_of(name: str) -> Gate:
    """Return the gate that a spec names: one of `GATES`, or `sign:LEVEL:ITEMS`.

    Raises:
        SpecError: there is none.
    """
    if name in GATES:
        return GATES[name]
    kind, _, rest = name.partition(":")
    level, _, items = rest.partition(":")
    try:
        if kind == "sign":
            return sign(float(level), int(items))
    except ValueError:
        pass  # told below, with what was expected
    raise SpecError("gate", name, f"one of {', '.join(GATES)}, or sign:LEVEL:ITEMS such as sign:0.05:100")


def sign_p(wins: Counts, losses: Counts) -> Any:
    """Return p of the exact one-sided sign test: how often a fair coin gives so many wins, or more; 1 where all tie."""
    return stats.binom.sf(np.asarray(wins) - 1, np.asarray(wins) + np.asarray(losses), 0.5)


def pair_up(incumbent: Mapping[str, Answer], challenger: Mapping[str, Answer]) -> Pairs:
    """Return both teams' answers by item; an item that only one was given counts as failed on by the other."""
    items = dict.fromkeys([*incumbent, *challenger])
    return {item: (incumbent.get(item), challenger.get(item)) for item in items}


def compare(pairs: Pairs) -> tuple[list[float], int]:
    """Return the challenger's score less the incumbent's on each item that both were scored on, and how many were not.

    Raises:
        SpecError: a score is no finite number.
    """
    differences: list[float] = []
    for item, (incumbent, challenger) in pairs.items():
        ours, theirs = _mean(item, challenger), _mean(item, incumbent)
        if ours is not None and theirs is not None:
            differences.append(ours - theirs)
    return differences, len(pairs) - len(differences)


def gain_of(pairs: Pairs, *purpose: str) -> Interval:
    """Return the mean of the challenger's gain with its interval, over items that both were scored on."""
    differences, _ = compare(pairs)
    bounded = all(-1 <= difference <= 1 for difference in differences)
    return difference_interval(differences, *purpose, support=(-1.0, 1.0) if bounded else None)


def _mean(item: str, answer: Answer) -> float | None:
    """Return the mean of an item's scores over the repeats that have one; None where none has."""
    repeats = answer if isinstance(answer, Sequence) else (answer,)
    scores = [float(score) for score in repeats if score is not None]
    if not all(map(math.isfinite, scores)):
        raise SpecError(f"score of item {item}", answer, "finite numbers, or None where the team failed")
    return math.fsum(scores) / len(scores) if scores else None


def _count(differences: Sequence[float]) -> tuple[int, int]:
    """Return how many are above 0 and how many below."""
    return sum(value > EQUAL for value in differences), sum(value < -EQUAL for value in differences)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Whether the team that a run ended with is better than the one it began with.

    Attributes:
        passed: Whether it is, at the level; the run's answer is the start team where it is not.
        verdict: Of the sign test, the final team as challenger; `undecidable` where too many items lack a score.
        gain: Mean difference over the items, with its paired interval.
        level: Of the test.
        why: The verdict as a line of a report.
    """

    passed: bool
    verdict: Verdict
    gain: Interval
    level: float
    why: str


def confirm(start: Mapping[str, Answer], final: Mapping[str, Answer], level: float = 0.05) -> Confirmed:
    """Compare a run's final team with its start team on items that decided nothing before: once a run.

    Raises:
        SpecError: no items, or a score that is no finite number.
    """
    pairs = pair_up(start, final)
    if not pairs:
        raise SpecError("items to confirm on", 0, "1 or more")
    verdict = sign(level, len(pairs)).decide(0, pairs)
    gain = gain_of(pairs, "confirm")
    passed = verdict.choice == "keep"
    return Confirmed(passed, verdict, gain, level, _why(verdict, level))


def _why(verdict: Verdict, level: float) -> str:
    if verdict.choice == "undecidable":
        asked = verdict.missing + verdict.items
        return f"not confirmed: {verdict.missing} of {asked} items lack a score of one team or both"
    counts = f"{verdict.wins} items won, {verdict.losses} lost, {verdict.ties} equal"
    if verdict.choice == "keep":
        return f"confirmed: {counts}, p {verdict.p:.3g}, at most {level:g}"
    return f"not confirmed: {counts}, p {verdict.p:.3g}, above {level:g}"
