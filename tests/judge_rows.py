"""Rows of a judge run without a run: from released verdicts, or from a few votes."""

import csv
from collections.abc import Sequence
from pathlib import Path

from plait.agents.judges.decision import Ballots, decide
from plait.agents.judges.verdicts import Label, Verdict, mirrored
from plait.candidates import JudgeNetwork
from plait.orchestrator.recipes.judge_data import load_pairs
from plait.orchestrator.recipes.judge_records import Cast, ItemVerdict, Outcome

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "judge"
SCORES: dict[str, tuple[float, float]] = {"model1": (8.0, 5.0), "model2": (4.0, 7.0), "tie": (6.0, 6.0)}
NETWORK = JudgeNetwork(depth=1)


def ballot(vote: Label, neuron: int, order: str, angle: str = "", layer: int = 1, text: str = "") -> Cast:
    """One order of a neuron that votes for `vote`, whatever is shown first."""
    first, second = SCORES[vote] if order == "12" else SCORES[vote][::-1]
    return Cast(layer=layer, neuron=neuron, angle=angle or f"angle {neuron}", model="m", order=order,
                first=first, second=second, text=text)  # fmt: skip


def outcome(votes: Sequence[tuple[Verdict, Verdict]], angles: Sequence[str] = (), text: str = "", **fields) -> Outcome:
    """What neurons with these votes, order 12 then 21, come to; an abstention is a call that failed."""
    cast = [
        ballot(vote, neuron, order, angles[neuron] if angles else "", text=text)
        for neuron, pair in enumerate(votes)
        for order, vote in zip(("12", "21"), pair, strict=True)
        if isinstance(vote, str)
    ]
    found = decide(Ballots(cast=tuple(cast), expected=2 * len(votes)), NETWORK)
    failed = 2 * len(votes) - len(cast)
    made = {
        "verdict": found.label or "abstain", "reason": "" if found.label else "Unparsable", "margin": found.margin,
        "votes": found.votes, "expected": 2 * len(votes), "ballots": tuple(cast),
        "angles": tuple(dict.fromkeys(one.angle for one in cast)), "failures": {"Unparsable": failed} if failed else {},
    }  # fmt: skip
    return Outcome(**{**made, **fields})


def row(id_: str, human: Label | None, votes: Sequence[tuple[Verdict, Verdict]], **fields) -> ItemVerdict:
    """A row of these votes."""
    made = {"id": id_, "query": f"question {id_}", "lengths": (40, 20), "human": human, "network": outcome(votes)}
    return ItemVerdict(**{**made, **fields})


def released(judges: Sequence[str], sets: Sequence[str], limit: int | None = None, text: str = "") -> list[ItemVerdict]:
    """Rows of released judges as one network, a judge a neuron; the first judge's plain vote stands beside."""
    votes: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    with (DATA / "llmbar" / "verdicts.csv").open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            if line["set"] in sets and line["judge"] in judges:
                orders = line["winner_order12"], line["winner_order21"]
                votes.setdefault((line["set"], line["item"]), {})[line["judge"]] = orders
    rows = []
    for name in sets:
        for pair in load_pairs(DATA / "llmbar" / f"{name}.jsonl", limit):
            given = [tuple(_vote(cell) for cell in votes[name, pair.id][judge]) for judge in judges]
            rows.append(ItemVerdict(
                id=f"{name}-{pair.id}", query=pair.query, lengths=(len(pair.response1), len(pair.response2)),
                human=pair.human, network=outcome(given, judges, text), baselines={"single": outcome(given[:1])},
            ))  # fmt: skip
    return rows


def exchanged(row: ItemVerdict) -> ItemVerdict:
    """The same item with its answers exchanged in name: what was shown and said stays, orders trade places."""
    return row.model_copy(update={
        "lengths": row.lengths[::-1], "human": None if row.human is None else mirrored(row.human),
        "network": _exchanged(row.network),
        "baselines": {name: _exchanged(found) for name, found in row.baselines.items()},
    })  # fmt: skip


def _exchanged(found: Outcome) -> Outcome:
    other = {"12": "21", "21": "12"}
    one, two, tie, silent = found.votes
    return found.model_copy(update={
        "verdict": found.verdict if found.verdict == "abstain" else mirrored(found.verdict),
        "margin": None if found.margin is None else -found.margin, "votes": (two, one, tie, silent),
        "ballots": tuple(b.model_copy(update={"order": other[b.order]}) for b in found.ballots),
    })  # fmt: skip


def _vote(cell: str) -> Verdict:
    from plait.agents.judges.verdicts import Abstain

    return {"1": "model1", "2": "model2", "tie": "tie"}.get(cell) or Abstain("Unparsable")
