"""When to stop asking: votes come one by one, and a rule says whether more could matter. Pure.

Two rules. `Lossless` stops when no vote still to come can change the plurality, so it always gives the full vote's
verdict. `Lead` stops when one label is far enough ahead, cheaper and now and then wrong. The sequential test it
stands for is Wald's; here the lead is chosen by cost, not from error rates.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple, Protocol

from ...errors import SpecError
from .verdicts import LABELS, Abstain, Label, Verdict


@dataclass(frozen=True, slots=True)
class Tally:
    """Votes so far: three counts, how many answered nothing, how many there would be in all."""

    model1: int = 0
    model2: int = 0
    tie: int = 0
    silent: int = 0
    total: int = 0

    @property
    def drawn(self) -> int:
        """Votes asked so far, silent ones included: each has been paid."""
        return self.model1 + self.model2 + self.tie + self.silent

    @property
    def left(self) -> int:
        """Votes that could still come."""
        return self.total - self.drawn

    @property
    def lead(self) -> int:
        """Votes by which the first label is ahead of the second."""
        _, second, first = sorted((self.model1, self.model2, self.tie))
        return first - second

    @property
    def verdict(self) -> Verdict:
        """The plurality so far; a tie on equal counts, an abstention when no vote was cast."""
        counts = {"model1": self.model1, "model2": self.model2, "tie": self.tie}
        top = max(counts.values())
        if top == 0:
            return Abstain("no vote was cast")
        leaders: list[Label] = [label for label in LABELS if counts[label] == top]
        return leaders[0] if len(leaders) == 1 else "tie"

    def plus(self, vote: Verdict) -> "Tally":
        """Return the tally with one vote more."""
        name = "silent" if isinstance(vote, Abstain) else vote
        counts = {key: getattr(self, key) + (key == name) for key in ("model1", "model2", "tie", "silent")}
        return Tally(**counts, total=self.total)


class Rule(Protocol):
    """Decides from a tally alone whether to stop; it is not asked once all votes are in."""

    def stops(self, tally: Tally) -> bool:
        """Return whether no further vote is to be asked."""
        ...


@dataclass(frozen=True, slots=True)
class Lead:
    """Stop when the first label is `votes` ahead of the second.

    Attributes:
        votes: Wanted lead, 1 or more.
        every: Looks only after so many votes: 2 for votes that come in order-swapped pairs, so that no order
            has a word more than the other; 1 for votes whose orders were merged before.
    """

    votes: int
    every: int = 2

    def __post_init__(self) -> None:
        if self.votes < 1 or self.every < 1:
            raise SpecError("lead rule", (self.votes, self.every), "votes and every of 1 or more")

    def stops(self, tally: Tally) -> bool:
        """Return whether the lead is reached, between pairs."""
        return tally.drawn % self.every == 0 and tally.lead >= self.votes


@dataclass(frozen=True, slots=True)
class Lossless:
    """Stop when every way the missing votes could fall gives one and the same verdict; looks after each vote."""

    def stops(self, tally: Tally) -> bool:
        """Return whether the verdict is decided."""
        one, two, tie, left = tally.model1, tally.model2, tally.tie, tally.left
        first = one + left > max(two, tie)
        second = two + left > max(one, tie)
        neither = tie + left >= max(one, two) or abs(one - two) <= left
        return first + second + neither == 1 and max(one, two, tie) > 0


@dataclass(frozen=True, slots=True)
class Fixed:
    """Stop after `votes` votes, whatever they say: the smaller panel that an adaptive one is compared with."""

    votes: int

    def stops(self, tally: Tally) -> bool:
        """Return whether so many votes are in."""
        return tally.drawn >= self.votes


class Stopped(NamedTuple):
    """Where a sequence of votes ended: how many were asked, and what they say."""

    calls: int
    verdict: Verdict


def draw(votes: Sequence[Verdict], rule: Rule | None = None) -> Stopped:
    """Return where `votes`, asked in this order, end under `rule`; None asks for all."""
    tally = Tally(total=len(votes))
    for vote in votes:
        tally = tally.plus(vote)
        if rule is not None and rule.stops(tally):
            break
    return Stopped(tally.drawn, tally.verdict)


@dataclass
class Ballot:
    """A vote in progress over one item: tell it each vote, ask it whether to go on.

    >>> ballot = Ballot(Lead(2), total=8)
    >>> ballot.add("model1"); ballot.add("model1")
    >>> ballot.wants_more, ballot.verdict
    (False, 'model1')
    """

    rule: Rule
    total: int
    tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(total=self.total)

    def add(self, vote: Verdict) -> None:
        """Count one vote; one that comes after the decision (it was in flight) counts as well.

        Raises:
            SpecError: more votes than `total`.
        """
        if self.tally.left < 1:
            raise SpecError("votes of the ballot", self.tally.drawn + 1, f"{self.total} at most")
        self.tally = self.tally.plus(vote)

    @property
    def wants_more(self) -> bool:
        """Whether another vote is to be asked."""
        return self.tally.left > 0 and not (self.tally.drawn > 0 and self.rule.stops(self.tally))

    @property
    def verdict(self) -> Verdict:
        """What the votes so far say."""
        return self.tally.verdict


class Expected(NamedTuple):
    """Means over all orders of the judges: calls, and the chance of each verdict (the rest abstains)."""

    calls: float
    model1: float
    model2: float
    tie: float


def expected(pairs: Sequence[tuple[Verdict, Verdict]], rule: Rule | None = None) -> Expected:
    """Return the exact means over all orders of the pairs, each order as likely.

    Judges with equal pairs are interchangeable, so a state is how many of each kind are left: a few hundred
    states for 15 judges, where sampling orders would leave an error in the third decimal.

    Args:
        pairs: The two votes of each judge, in the order they are asked.
        rule: None asks for all.
    """
    kinds = Counter((_name(first), _name(second)) for first, second in pairs)
    names = list(kinds)
    total = 2 * len(pairs)

    @cache
    def after(left: tuple[int, ...], tally: Tally) -> Expected:
        """Return the means from here, when the rule has not stopped at `tally`."""
        remaining = sum(left)
        if not remaining:
            return _ended(tally)
        parts = []
        for kind, count in enumerate(left):
            if count:
                rest = (*left[:kind], count - 1, *left[kind + 1 :])
                parts.append((count / remaining, step(rest, tally, names[kind])))
        return Expected(*(sum(chance * part[place] for chance, part in parts) for place in range(4)))

    def step(rest: tuple[int, ...], tally: Tally, pair: tuple[Verdict, Verdict]) -> Expected:
        for vote in pair:
            tally = tally.plus(vote)
            if rule is not None and rule.stops(tally):
                return _ended(tally)
        return after(rest, tally)

    return after(tuple(kinds.values()), Tally(total=total))


def _name(vote: Verdict) -> Verdict:
    """Return the vote without its reason, so that all silent votes are of one kind."""
    return Abstain("") if isinstance(vote, Abstain) else vote


def _ended(tally: Tally) -> Expected:
    verdict = tally.verdict
    return Expected(float(tally.drawn), *(float(verdict == label) for label in LABELS))
