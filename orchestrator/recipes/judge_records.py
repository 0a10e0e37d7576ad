"""What a judge run found, item by item: the verdict, every ballot with its review, what failed, the baselines."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ...agents.judges.decision import Ballot, Decision
from ...agents.judges.network import VERDICT
from ...agents.judges.tasks import Angles, Opinion
from ...agents.judges.verdicts import Abstain, Label, Verdict
from ...graphs import Graph
from .judge_data import Pair

Name = Literal["model1", "model2", "tie", "abstain"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cast(Ballot):
    """A ballot with the review behind it; `first` and `second` are as shown, so order 21 shows answer 2 first."""

    text: str = ""


class Outcome(_Frozen):
    """What one network came to on one item.

    Attributes:
        verdict: A label, or `abstain`.
        reason: Why it abstained: the commonest reason among the calls that failed.
        margin: For answer 1 minus for answer 2, over neurons with both orders; None without any.
        votes: For answer 1, for answer 2, for neither, silent; each order of a neuron one vote.
        expected: Ballots that would have been cast had every call answered.
        angles: What was looked at.
        fallback: Whether the model named no angle and the fallback was taken.
        ballots: Every ballot, by layer, neuron and order.
        failures: Calls that gave no answer, by reason.
    """

    verdict: Name
    reason: str = ""
    margin: float | None = None
    votes: tuple[int, int, int, int] = (0, 0, 0, 0)
    expected: int = 0
    angles: tuple[str, ...] = ()
    fallback: bool = False
    ballots: tuple[Cast, ...] = ()
    failures: dict[str, int] = {}

    @property
    def as_verdict(self) -> Verdict:
        """The verdict as the statistics take it."""
        return Abstain(self.reason) if self.verdict == "abstain" else self.verdict


class ItemVerdict(_Frozen):
    """One row of verdicts.jsonl.

    Attributes:
        id: Of the item.
        query: What both answers respond to.
        lengths: Characters of answer 1 and answer 2.
        human: The label people gave; None where there is none.
        slice: Whether the item is one of those that anything was fitted on; figures are over the others.
        network: What the network came to.
        baselines: What other networks came to on the same item, by name.
    """

    id: str
    query: str
    lengths: tuple[int, int]
    human: Label | None = None
    slice: bool = False
    network: Outcome
    baselines: dict[str, Outcome] = {}


def outcome_of(graph: Graph | None, reason: str = "") -> Outcome:
    """Return what a graph came to; `reason` says why there is none."""
    if graph is None:
        return Outcome(verdict="abstain", reason=reason)
    failures = Counter(
        state.failed.reason
        for id_, state in graph.states.items()
        if state.failed and state.failed.reason != "Upstream" and graph.nodes[id_].model
    )
    decision: Decision | None = graph.output(VERDICT)
    found: Angles | None = graph.output("angles")
    if decision is None:
        # The final decision fails for want of ballots: the calls below it say why.
        why = max(failures, key=lambda name: (failures[name], name)) if failures else reason or "NotReached"
        return Outcome(verdict="abstain", reason=why, failures=_sorted(failures), ballots=_ballots_of_calls(graph))
    ballots = tuple(Cast(**ballot.model_dump(), text=_text(graph, ballot)) for ballot in decision.ballots)
    return Outcome(
        verdict=decision.label or "abstain",
        reason=decision.reason,
        margin=decision.margin,
        votes=decision.votes,
        expected=decision.expected,
        angles=tuple(dict.fromkeys(ballot.angle for ballot in decision.ballots)),
        fallback=bool(found and found.fallback),
        ballots=ballots,
        failures=_sorted(failures),
    )


def outcome_when(graph: Graph | None, stopped: str) -> Outcome:
    """Return what a graph came to in a run that was stopped for this reason, or was not; none: nobody was asked."""
    if graph is None:
        return outcome_of(None, "EmptyAnswer")
    return outcome_of(graph, "BudgetReached" if stopped.startswith("budget") else "NotReached")


def row(pair: Pair, outcome: Outcome, baselines: Mapping[str, Outcome], *, sliced: bool = False) -> ItemVerdict:
    """Return the row of one item."""
    return ItemVerdict(
        id=pair.id, query=pair.query, lengths=(len(pair.response1), len(pair.response2)), human=pair.human,
        slice=sliced, network=outcome, baselines=dict(baselines),
    )  # fmt: skip


def order_verdicts(outcome: Outcome, order: Literal["12", "21"]) -> list[Verdict]:
    """Return each neuron's vote in one order, last layer, un-swapped: `model1` is answer 1 whatever was shown first."""
    last = max((ballot.layer for ballot in outcome.ballots), default=0)
    return [vote_of(ballot) for ballot in outcome.ballots if ballot.layer == last and ballot.order == order]


def vote_of(ballot: Ballot) -> Label:
    """Return a ballot's vote without any tie band."""
    if ballot.tie is not None and ballot.tie > max(ballot.first, ballot.second):
        return "tie"
    return "tie" if ballot.margin == 0 else "model1" if ballot.margin > 0 else "model2"


def _ballots_of_calls(graph: Graph) -> tuple[Cast, ...]:
    """Return the opinions that there are although they came to no decision."""
    cast = []
    for id_, node in graph.nodes.items():
        opinion = graph.output(id_)
        if isinstance(opinion, Opinion):
            layer, neuron, order = id_.split("/")
            angle = node.label.rsplit(" ", 1)[0]
            ballot = Ballot.of(opinion, int(layer), int(neuron), angle, node.model, order)
            cast.append(Cast(**ballot.model_dump(), text=opinion.text))
    return tuple(cast)


def _text(graph: Graph, ballot: Ballot) -> str:
    opinion = graph.output(f"{ballot.layer}/{ballot.neuron}/{ballot.order}")
    return opinion.text if isinstance(opinion, Opinion) else ""


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def labelled(rows: Sequence[ItemVerdict]) -> list[ItemVerdict]:
    """Return the rows that figures are over: with a human label, and nothing fitted on them."""
    return [one for one in rows if one.human is not None and not one.slice]
