"""A team's forward pass, 320 calls at 50 ms: Plait's graphs against the same calls one after the other.

    python benchmarks/team_forward.py [--rounds 3]

A team of three layers (a planner, six solvers that vote, a checker: 8 calls an item) on 40 items. The model is in this
process, answers by content after 50 ms, and notes what it is sent. Ours: `TeamGraphs` through `GraphRun`, 32 calls in
flight, a durable SQLite ledger that is new for every round. Theirs: a loop that sends the same messages one by one,
with no engine and no ledger. Both sides must send the same prompts.

`bare_ratio` is the loop against the same calls under `asyncio` alone, 32 in flight and in no order: no engine comes
above it. `overhead_ms` is what a call of ours takes beyond that in wall time, `cpu_ms` its processor time, which other
work on the machine changes less. Last line: JSON.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from plait import Ledger
from plait.agents.teams.forward import TeamGraphs
from plait.agents.teams.items import TaskItem, task_item
from plait.graphs import Graph
from plait.models.chat import GREEDY, Capabilities, LabelScores, Message, Reply, Sampling, Usage
from plait.orchestrator.calls import CallWorker
from plait.orchestrator.graph_run import GraphRun
from plait.orchestrator.limiter import Limiter
from plait.teams import AgentSpec, Aggregator, Block, LayerSpec, Schema, TeamSpec

ITEMS, IN_FLIGHT, LATENCY, SOLVERS = 40, 32, 0.05, 6
CALLS = ITEMS * (SOLVERS + 2)
NUMBER = Schema(kind="number")

Asked = tuple[list[Message], Sampling]


class Slow:
    """A chat model of one latency that answers by content and remembers what it was asked."""

    name, price, identity = "slow", None, {"slow": 1}

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    async def generate(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Reply:
        """Answer with a number that the messages decide."""
        self.asked.append((list(messages), sampling))
        await asyncio.sleep(LATENCY)
        seen = sha256(json.dumps(list(messages)).encode()).digest()
        return Reply(f"It comes to this.\nAnswer: {seen[0] % 3}", "stop", Usage(200, 8))

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


def team() -> TeamSpec:
    """Return the team."""
    solvers = tuple(
        AgentSpec(name=f"solver-{index}", role=f"solver {index}", output=NUMBER) for index in range(SOLVERS)
    )
    return TeamSpec(
        layers=(
            layer("plan", Block(name="plan", agents=(AgentSpec(name="planner"),))),
            layer("solve", Block(name="solve", agents=solvers, aggregate=Aggregator(kind="majority"))),
            layer("check", Block(name="check", agents=(AgentSpec(name="checker", output=NUMBER),))),
        ),
        answer=NUMBER,
    )


def layer(name: str, block: Block) -> LayerSpec:
    """Return a layer of one block."""
    return LayerSpec(name=name, task=f"Do {name}.", blocks=(block,))


def items() -> list[TaskItem]:
    """Return items that differ."""
    return [task_item(f"A farmer has {index} sheep and buys {index + 3} more. How many?", "number", 2 * index + 3)
            for index in range(ITEMS)]  # fmt: skip


def ours() -> tuple[float, float, list[Asked]]:
    """Return the wall time of the graphs, their processor time, and what was asked."""
    model, graphs = Slow(), TeamGraphs(team(), {"": "slow"})
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.db")
        started, worked = time.perf_counter(), time.process_time()
        made = [Graph(item.id, graphs.nodes(item)) for item in items()]
        worker = CallWorker(model, Limiter(window=IN_FLIGHT, most=IN_FLIGHT))
        result = GraphRun(made, [worker], ledger).run()
        seconds, cpu = time.perf_counter() - started, time.process_time() - worked
        ledger.close()
    assert result.counts.paid == CALLS == len(model.asked)
    assert not any(graph.failed for graph in made)
    return seconds, cpu, model.asked


def serial(asked: Sequence[Asked]) -> float:
    """Return the wall time of the calls one after the other."""

    async def loop() -> float:
        model, started = Slow(), time.perf_counter()
        for messages, sampling in asked:
            await model.generate(messages, sampling)
        return time.perf_counter() - started

    return asyncio.run(loop())


def bare(asked: Sequence[Asked]) -> float:
    """Return the wall time of the calls under `asyncio` alone, as many in flight as ours."""

    async def gathered() -> float:
        model, slots, started = Slow(), asyncio.Semaphore(IN_FLIGHT), time.perf_counter()

        async def one(messages: list[Message], sampling: Sampling) -> None:
            async with slots:
                await model.generate(messages, sampling)

        await asyncio.gather(*(one(*call) for call in asked))
        return time.perf_counter() - started

    return asyncio.run(gathered())


def main() -> None:
    """Measure all sides, interleaved, and print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    _, _, asked = ours()  # warm; and the prompts that both sides send
    wanted = sorted(json.dumps(messages) for messages, _ in asked)
    rows = []
    for _ in range(rounds):
        mine, cpu, sent = ours()
        assert sorted(json.dumps(messages) for messages, _ in sent) == wanted
        rows.append((serial(asked) / mine, mine, bare(asked), cpu))
    ratios = sorted(ratio for ratio, *_ in rows)
    seconds = statistics.median(mine for _, mine, *_ in rows)
    alone = statistics.median(one for _, _, one, _ in rows)
    result = {
        "name": "team-forward",
        "ratio": round(statistics.median(ratios), 2),  # above 1: Plait is faster
        "cores": len(os.sched_getaffinity(0)),
        "range": [round(ratios[0], 2), round(ratios[-1], 2)],
        "bare_ratio": round(statistics.median(ratios) * seconds / alone, 2),
        "calls": CALLS,
        "in_flight": IN_FLIGHT,
        "seconds": round(seconds, 3),
        "overhead_ms": round(1000 * (seconds - alone) / CALLS, 3),
        "cpu_ms": round(1000 * statistics.median(cpu for *_, cpu in rows) / CALLS, 3),
        "target": 10,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
