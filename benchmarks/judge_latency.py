"""A judge network's calls against an endpoint of 50 ms: Plait's graphs against the same calls one after the other.

    python benchmarks/judge_latency.py [--rounds 5]

The network `paper` with an angle call and six angles, both orders, two layers: 1 + 2 * 6 * 2 = 25 calls an item, 20
items. Ours: `Judges` graphs through `GraphRun`, `EndpointChat` and a durable SQLite ledger, new for every run. Theirs:
the serial order of the released code, the same messages through the plain client (`openai.OpenAI`), no ledger.
The server (that of the tests, in a process of its own) answers by content, so that equal scores mean equal prompts.

`ratio` is one item's latency, theirs to ours; `throughput_ratio` items a second, ours for all items with 64 calls in
flight. `bare_ratio` is the same for the client alone, 64 calls in flight without engine, ledger or an order to keep:
no engine here comes above it. `overhead_ms` is what a call costs beyond that: wall time of ours less that of the
client alone, over 500 calls; `client_cpu_ms` is the client's own CPU a call. Last line: JSON.
"""

import argparse
import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import openai
from plait import Ledger
from plait.agents.judges.network import VERDICT, Item, Judges
from plait.agents.judges.wording import Wording
from plait.candidates import NETWORKS
from plait.graphs import Graph
from plait.models.chat import GREEDY, Message, Reply, Sampling
from plait.models.endpoint import EndpointChat
from plait.orchestrator.calls import CallWorker
from plait.orchestrator.graph_run import GraphRun
from plait.orchestrator.limiter import Limiter

TESTS = Path(__file__).resolve().parent.parent / "tests"
ANGLES = ("Accuracy", "Relevance", "Depth", "Clarity", "Coverage", "Tone")
ITEMS, IN_FLIGHT, LATENCY, CALLS = 20, 64, 0.05, 1 + 2 * 6 * 2
WORDING = Wording()

Asked = list[tuple[list[Message], Sampling]]


def serve() -> None:
    """Answer by content for ever; the port is the first line printed."""
    sys.path.insert(0, str(TESTS))
    from fault_server import FaultServer, Step, text

    names = "\n".join(f"${angle}&: what to look at" for angle in ANGLES)

    def step(index: int, body: dict[str, Any]) -> Step:
        seen = sha256(json.dumps(body["messages"]).encode()).digest()
        review = "Both answers say something of it. " * 12
        scores = f"Score of Assistant 1: {1 + seen[0] % 10}\nScore of Assistant 2: {1 + seen[1] % 10}"
        return text(f"{names}\n{review}\n{scores}", latency=LATENCY)

    async def run() -> None:
        server = FaultServer(step, keep=False)
        async with await server.start() as listening:
            print(server.port, flush=True)
            await listening.serve_forever()

    asyncio.run(run())


def items(count: int, start: int = 0) -> list[Item]:
    """Return items of some 250 tokens, all different."""
    answer = "The sky is blue because air scatters short waves more than long ones. " * 6
    numbers = range(start, start + count)
    return [Item(f"item-{i}", f"Why is the sky blue? ({i})", f"{answer}{i}", f"{i} {answer}") for i in numbers]


class Noted(EndpointChat):
    """Keeps what was asked, in the order of the calls."""

    def __init__(self, url: str) -> None:
        super().__init__("any", url)
        self.asked: Asked = []

    async def generate(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Reply:
        """Note and ask."""
        self.asked.append((list(messages), sampling))
        return await super().generate(messages, sampling)


async def judged(model: EndpointChat, given: Sequence[Item]) -> tuple[float, list[Graph]]:
    """Return the seconds that a run into a new ledger took, and its graphs."""
    judges = Judges(NETWORKS["paper"], (model.name,), WORDING)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.db")
        start = time.perf_counter()
        graphs = [Graph(item.id, judges.nodes(item)) for item in given]
        worker = CallWorker(model, Limiter(most=IN_FLIGHT, window=IN_FLIGHT))
        result = await GraphRun(graphs, [worker], ledger).run_async()
        seconds = time.perf_counter() - start
        ledger.close()
    assert result.counts.paid == CALLS * len(given), result.counts
    return seconds, result.graphs


def serial(client: openai.OpenAI, asked: Asked) -> tuple[float, list[str]]:
    """Return the seconds that the calls take one after the other, and the answers."""
    start, answers = time.perf_counter(), []
    for messages, sampling in asked:
        reply = client.chat.completions.create(
            model="any", messages=messages, temperature=sampling.temperature, max_tokens=sampling.max_tokens,
            seed=sampling.seed,
        )  # fmt: skip
        answers.append(reply.choices[0].message.content or "")
    return time.perf_counter() - start, answers


async def bare(model: EndpointChat, asked: Asked) -> tuple[float, float]:
    """Return the wall and CPU seconds of the calls, 64 in flight, through the client alone."""
    left, start, busy = iter(asked), time.perf_counter(), time.process_time()

    async def lane() -> None:
        for messages, sampling in left:
            await model.generate(messages, sampling)

    await asyncio.gather(*[lane() for _ in range(IN_FLIGHT)])
    return time.perf_counter() - start, time.process_time() - busy


async def equal_answers(url: str, client: openai.OpenAI) -> Asked:
    """Compare both sides' answers on one item, all calls of it; return what was asked."""
    noted = Noted(url)
    _, (graph,) = await judged(noted, items(1))
    await noted.close()
    assert len(noted.asked) == CALLS
    _, answers = serial(client, noted.asked)
    texts = [graph.output(id_).text for id_ in graph.nodes if "/" in id_]
    assert sorted(texts) == sorted(answers[1:]), "both sides see the same answers"
    assert graph.output(VERDICT).label is not None
    return noted.asked


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


async def measure(url: str, rounds: int) -> dict[str, Any]:
    """Interleave the sides, both with their connections open."""
    model = EndpointChat("any", url)
    gc.freeze()  # as the command line does: a collection over all libraries costs 0.15 s, and whom it hits is chance
    with openai.OpenAI(api_key="none", base_url=url, max_retries=0) as client:
        asked = await equal_answers(url, client)
        await bare(model, asked * ITEMS)
        one, theirs, all_, alone, busy = [], [], [], [], []
        for number in range(rounds):
            one.append((await judged(model, items(1, number)))[0])
            theirs.append(serial(client, asked)[0])
            all_.append((await judged(model, items(ITEMS)))[0])
            wall, cpu = await bare(model, asked * ITEMS)
            alone.append(wall)
            busy.append(cpu / (CALLS * ITEMS))
    await model.close()
    overhead = [(ours - client) / (CALLS * ITEMS) for ours, client in zip(all_, alone, strict=True)]
    ratios = sorted(slow / fast for slow, fast in zip(theirs, one, strict=True))
    rates = sorted(ITEMS * slow / fast for slow, fast in zip(theirs, all_, strict=True))
    return {
        "name": "judge_latency",
        "ratio": round(middle(ratios), 2),
        "range": [round(ratios[0], 2), round(ratios[-1], 2)],
        "throughput_ratio": round(middle(rates), 1),
        "throughput_range": [round(rates[0], 1), round(rates[-1], 1)],
        "bare_ratio": round(middle([ITEMS * slow / fast for slow, fast in zip(theirs, alone, strict=True)]), 1),
        "overhead_ms": round(middle(overhead) * 1e3, 3),
        "client_cpu_ms": round(middle(busy) * 1e3, 3),
        "one_item_ms": round(middle(one) * 1e3, 1),
        "serial_item_ms": round(middle(theirs) * 1e3, 1),
        "all_items_ms": round(middle(all_) * 1e3, 1),
        "cores": len(os.sched_getaffinity(0)),
    }


def main() -> None:
    """Start the server, measure, print one JSON line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help="be the server")
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            port = server.stdout.readline().strip()
            print(json.dumps(asyncio.run(measure(f"http://127.0.0.1:{port}/v1", options.rounds))))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
