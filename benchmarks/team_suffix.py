"""What an edit in the last of three equal layers costs: calls of a full forward pass over calls that are paid again.

    python benchmarks/team_suffix.py

A team of three layers, each with a selector that is a model and two blocks (three agents that vote, one agent), on 100
items. The edit rewrites the instructions of one agent of the last layer's chosen block, then of all three. The model is
in this process, answers by content after 10 ms, and counts its calls; the ledger is SQLite. `ratio` is for the edit of
all three agents: calls of a full pass over calls repaid. A repaid layer is at most a third of a pass with its selector,
so 3 is the least; selectors see none of what an edit of instructions changes, and are never repaid. `wall_ratio` is the
wall time of the full pass over that of the edited one. Last line: JSON.
"""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from plait import Ledger
from plait.agents.teams.forward import TeamGraphs
from plait.agents.teams.items import task_item
from plait.graphs import Graph
from plait.models.chat import GREEDY, Capabilities, LabelScores, Message, Reply, Sampling, Usage
from plait.orchestrator.calls import CallWorker
from plait.orchestrator.graph_run import GraphRun
from plait.orchestrator.limiter import Limiter
from plait.teams import AgentSpec, Aggregator, Block, LayerSpec, Schema, TeamSpec

ITEMS, IN_FLIGHT, LATENCY = 100, 32, 0.01
NUMBER = Schema(kind="number")


class Counting:
    """A chat model that answers by content and counts."""

    name, price, identity = "counting", None, {"counting": 1}

    def __init__(self) -> None:
        self.calls = 0

    async def generate(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Reply:
        """Choose the trio; answer with a number that the messages decide."""
        self.calls += 1
        await asyncio.sleep(LATENCY)
        if "Several groups" in messages[-1]["content"]:
            return Reply('{"reason": "any", "block": "trio"}', "stop", Usage(200, 8))
        seen = sha256(json.dumps(list(messages)).encode()).digest()
        return Reply(f"Answer: {seen[0] % 3}", "stop", Usage(200, 4))

    async def label_logprobs(self, messages: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        """Refuse: teams ask for text."""
        raise NotImplementedError

    async def capabilities(self) -> Capabilities:
        """Say what it can do."""
        return Capabilities(label_logprobs=False, top_logprobs=0, seed=False, structured=False)

    async def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return an estimate."""
        return sum(len(message["content"]) // 4 for message in messages)

    async def close(self) -> None:
        """Do nothing."""


def team(edited: Sequence[str] = (), told: str = "") -> TeamSpec:
    """Return the team; `edited` agents of the last layer are told something more."""

    def agent(name: str) -> AgentSpec:
        more = told if name in edited else ""
        return AgentSpec(name=name, role=f"solver {name}", instructions=more, output=NUMBER)

    def layer(index: int) -> LayerSpec:
        trio = tuple(agent(f"{name}{index}") for name in "abc")
        blocks = (
            Block(name="trio", agents=trio, aggregate=Aggregator(kind="majority")),
            Block(name="solo", agents=(agent(f"d{index}"),)),
        )
        return LayerSpec(name=f"layer-{index}", task=f"Do step {index}.", blocks=blocks, selector="llm")

    return TeamSpec(layers=tuple(map(layer, range(3))), answer=NUMBER)


def forward(spec: TeamSpec, ledger: Ledger) -> tuple[int, float]:
    """Return the calls that a pass over all items pays, and its wall time."""
    model, graphs = Counting(), TeamGraphs(spec, {"": "counting"})
    asked = [task_item(f"A farmer has {index} sheep and buys 3 more. How many?", "number", index + 3)
             for index in range(ITEMS)]  # fmt: skip
    started = time.perf_counter()
    made = [Graph(item.id, graphs.nodes(item)) for item in asked]
    worker = CallWorker(model, Limiter(window=IN_FLIGHT, most=IN_FLIGHT))
    result = GraphRun(made, [worker], ledger).run()
    assert not any(graph.failed for graph in made)
    assert result.cost.get("calls", 0) == model.calls
    return model.calls, time.perf_counter() - started


def main() -> None:
    """Run a full pass, both edits and a repetition; print one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.db")
        full, seconds = forward(team(), ledger)
        again, found = forward(team(), ledger)
        one, _ = forward(team(("a2",), "Mind the units."), ledger)
        repaid, edited = forward(team(("a2", "b2", "c2"), "Check each step twice."), ledger)
        ledger.close()
    assert full == ITEMS * 3 * 4
    assert again == 0
    assert (one, repaid) == (ITEMS, 3 * ITEMS)
    result = {
        "name": "team-suffix",
        "ratio": round(full / repaid, 2),  # above 3: less than the layer and its selector
        "cores": len(os.sched_getaffinity(0)),
        "full": full,
        "repaid": repaid,
        "repaid_one_agent": one,
        "repaid_unchanged": again,
        "wall_ratio": round(seconds / edited, 2),
        "wall_ratio_unchanged": round(seconds / found, 2),
        "target": 3,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
