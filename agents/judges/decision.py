"""From the ballots of a network to its decision on one item. Pure; the arithmetic is votes.py."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from ...candidates import JudgeNetwork
from .stopping import Lead, Lossless, Rule, Tally
from .tasks import Opinion
from .verdicts import Abstain, Label, Verdict
from .votes import aggregate, margin_of_logprobs, margin_of_scores, merge_logprobs, merge_scores, prefers_neither

LEAST = 1e-12
"""Probability that a letter without any counts as, so that its logarithm exists."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Ballot(_Frozen):
    """One neuron's opinion in one order, `first` and `second` as they were shown."""

    layer: int
    neuron: int
    angle: str
    model: str
    order: Literal["12", "21"]
    first: float
    second: float
    tie: float | None = None
    inside: float | None = None
    via: str = "text"

    @classmethod
    def of(cls, opinion: Opinion, layer: int, neuron: int, angle: str, model: str, order: str) -> Self:
        """Return the ballot of an opinion."""
        return cls.model_validate(
            {
                **opinion.model_dump(exclude={"text"}),
                "layer": layer, "neuron": neuron, "angle": angle, "model": model, "order": order,
            }
        )  # fmt: skip

    @property
    def margin(self) -> float:
        """What it has for answer 1 minus what it has for answer 2."""
        shown = self.first - self.second
        return shown if self.order == "12" else -shown


class Ballots(_Frozen):
    """The ballots cast, of so many expected."""

    cast: tuple[Ballot, ...]
    expected: int

    @property
    def heard(self) -> set[tuple[int, int]]:
        """The neurons that answered in both orders, as layer and index: one order alone says which place is liked."""
        orders = Counter((ballot.layer, ballot.neuron) for ballot in self.cast)
        return {neuron for neuron, answered in orders.items() if answered == 2}


class Decision(_Frozen):
    """What a network decides.

    `label` is None where it abstains, and `reason` says why; `margin` is for answer 1 minus for answer 2, averaged
    over neurons with both orders; `votes` counts those for answer 1, for answer 2, for neither, and the silent, each
    order of a neuron one vote. Under a stopping rule a neuron with one order is silent in both.
    """

    label: Literal["model1", "model2", "tie"] | None
    reason: str = ""
    margin: float | None = None
    votes: tuple[int, int, int, int] = (0, 0, 0, 0)
    ballots: tuple[Ballot, ...] = ()
    expected: int = 0

    @property
    def verdict(self) -> Verdict:
        """The label, or the abstention."""
        return Abstain(self.reason) if self.label is None else self.label

    def tally(self, left: int = 0) -> Tally:
        """Return the votes, `left` more to come."""
        return Tally(*self.votes, total=sum(self.votes) + left)


def decide(ballots: Ballots, network: JudgeNetwork) -> Decision:
    """Return the network's decision on the ballots that there are."""
    by_neuron = [
        [[b for b in ballots.cast if (b.layer, b.neuron) == (layer, neuron)] for neuron in neurons]
        for layer, neurons in _neurons(ballots.cast).items()
    ]
    layers = [[_margin(orders) for orders in layer] for layer in by_neuron]
    stops, heard = network.stop != "none", ballots.heard
    counted = [b for b in ballots.cast if not stops or (b.layer, b.neuron) in heard]
    votes = Counter(_vote(ballot, network) for ballot in counted)
    counts = (votes["model1"], votes["model2"], votes["tie"], ballots.expected - len(counted))
    verdict: Verdict
    if stops:  # each order a vote, as the stopping rule counted them
        verdict = Tally(*counts).verdict
    elif layers:
        chances = [[_chances(orders) for orders in layer] for layer in by_neuron]
        verdict = aggregate(layers, network.pool, network.layers, network.tie_band, chances)
    else:
        verdict = Abstain("no neuron answered")
    margins = [margin for layer in layers for margin in layer if margin is not None]
    return Decision(
        label=None if isinstance(verdict, Abstain) else verdict,
        reason=verdict.reason if isinstance(verdict, Abstain) else "",
        margin=sum(margins) / len(margins) if margins else None,
        votes=counts,
        ballots=ballots.cast,
        expected=ballots.expected,
    )


def undecided(decision: Decision, network: JudgeNetwork, left: int = 0) -> bool:
    """Return whether more should be asked.

    Args:
        decision: On what was asked so far.
        network: Its rule: a lead of `lead` votes ends it, or, lossless, that nothing left can change the verdict.
        left: Neurons not asked yet, two votes each.
    """
    rule: Rule = Lossless() if network.stop == "lossless" else Lead(network.lead)
    return not rule.stops(decision.tally(2 * left))


def _neurons(cast: Sequence[Ballot]) -> dict[int, list[int]]:
    """Return the neurons of each layer, both in order."""
    layers: dict[int, list[int]] = {}
    for layer, neuron in sorted({(ballot.layer, ballot.neuron) for ballot in cast}):
        layers.setdefault(layer, []).append(neuron)
    return layers


def _margin(orders: Sequence[Ballot]) -> float | None:
    """Return the margin of a neuron whose orders are merged; None unless both answered."""
    by_order = {ballot.order: ballot for ballot in orders}
    one, two = by_order.get("12"), by_order.get("21")
    if one is None or two is None:
        return None
    if one.tie is not None and two.tie is not None:
        return margin_of_logprobs(merge_logprobs(_logs(one), _logs(two)))
    return margin_of_scores(merge_scores((one.first, one.second), (two.first, two.second)))


def _chances(orders: Sequence[Ballot]) -> list[float] | None:
    """Return a neuron's probabilities of model1, model2 and neither, its orders merged; None of scores."""
    by_order = {ballot.order: ballot for ballot in orders}
    one, two = by_order.get("12"), by_order.get("21")
    if one is None or two is None or one.tie is None or two.tie is None:
        return None
    merged = merge_logprobs(_logs(one), _logs(two))
    return None if merged is None else [math.exp(part) for part in merged]


def holds_neither(cast: Sequence[Ballot]) -> bool:
    """Return whether the neurons that answered in both orders hold neither answer likeliest, in the mean."""
    merged = []
    for layer, neurons in _neurons(cast).items():
        for neuron in neurons:
            orders = [ballot for ballot in cast if (ballot.layer, ballot.neuron) == (layer, neuron)]
            if len({ballot.order for ballot in orders}) == 2:
                merged.append(_chances(orders))
    return prefers_neither(merged)


def _logs(ballot: Ballot) -> list[float]:
    return [math.log(max(part or 0.0, LEAST)) for part in (ballot.first, ballot.second, ballot.tie)]


def _vote(ballot: Ballot, network: JudgeNetwork) -> Label:
    """Return the vote of one order of a neuron: its likeliest letter, or the sign of its scores."""
    if ballot.tie is not None and ballot.tie > max(ballot.first, ballot.second):
        return "tie"
    return "tie" if abs(ballot.margin) <= network.tie_band else "model1" if ballot.margin > 0 else "model2"
