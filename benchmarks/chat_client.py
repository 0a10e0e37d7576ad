"""CPU of one chat call at 64 in flight on loopback: ours against the official client used as its README shows.

Both talk to the scripted server of the tests, in a process of its own; only this process's CPU is counted.
`wave_ms` is what twelve calls at once take beyond the server's 50 ms. Last line: JSON.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import openai
from plait.models.chat import Message, Sampling
from plait.models.endpoint import EndpointChat

SERVER = Path(__file__).resolve().parent.parent / "tests" / "fault_server.py"
MESSAGES: list[Message] = [
    {"role": "system", "content": "You are one of a group of judges. " * 5},
    {"role": "user", "content": "Compare the two answers from one angle. " * 60},
]
IN_FLIGHT, CALLS, ROUNDS, LATENCY = 64, 1000, 7, 0.05

Call = Callable[[], Awaitable[str]]
Side = tuple[Call, Callable[[], Awaitable[None]]]
"""A call, and what closes its client."""


async def drive(call: Call) -> float:
    """Return milliseconds of this process's CPU a call."""
    left = iter(range(CALLS))

    async def lane() -> None:
        for _ in left:
            await call()

    start = time.process_time()
    await asyncio.gather(*[lane() for _ in range(IN_FLIGHT)])
    return (time.process_time() - start) / CALLS * 1e3


async def wave(call: Call) -> float:
    """Return milliseconds that twelve calls at once take beyond the server's latency."""
    start = time.perf_counter()
    await asyncio.gather(*[call() for _ in range(12)])
    return (time.perf_counter() - start - LATENCY) * 1e3


def ours(url: str) -> Side:
    """Return a call through `EndpointChat`."""
    model, sampling = EndpointChat("any", url), Sampling(seed=3)

    async def call() -> str:
        return (await model.generate(MESSAGES, sampling)).text

    return call, model.close


def official(url: str) -> Side:
    """Return the same call through the official client alone."""
    client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0)

    async def call() -> str:
        answer = await client.chat.completions.create(
            model="any", messages=MESSAGES, temperature=0.0, max_tokens=512, seed=3
        )  # fmt: skip
        return answer.choices[0].message.content or ""

    return call, client.close


async def measure(fast: str, slow: str) -> dict[str, object]:
    """Interleave both sides; `fast` answers at once, `slow` after the latency."""
    sides = [ours(fast), official(fast), ours(slow), official(slow)]
    mine, theirs, late, late_theirs = [call for call, _ in sides]
    assert await mine() == await theirs()  # equal answers first; this also warms both sides up
    pairs = [(await drive(theirs), await drive(mine)) for _ in range(ROUNDS)]
    ratios = sorted(slower / faster for slower, faster in pairs)
    waves = [(await wave(late_theirs), await wave(late)) for _ in range(3 * ROUNDS)]
    for _, close in sides:
        await close()
    return {
        "name": "chat-client",
        "ratio": round(statistics.median(ratios), 2),
        "range": [round(ratios[0], 2), round(ratios[-1], 2)],
        "cores": len(os.sched_getaffinity(0)),
        "cpu_ms_a_call": round(statistics.median(mine for _, mine in pairs), 3),
        "official_cpu_ms_a_call": round(statistics.median(theirs for theirs, _ in pairs), 3),
        "wave_ms": round(statistics.median(mine for _, mine in waves), 1),
        "official_wave_ms": round(statistics.median(theirs for theirs, _ in waves), 1),
    }


def main() -> None:
    """Start both servers, measure, print one JSON line."""
    latencies = ("0", str(LATENCY))
    commands = [[sys.executable, str(SERVER), "--text", "word " * 80, "--latency", each] for each in latencies]
    servers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    try:
        ports = [server.stdout.readline().strip() for server in servers if server.stdout]
        print(json.dumps(asyncio.run(measure(*[f"http://127.0.0.1:{port}/v1" for port in ports]))))
    finally:
        for server in servers:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
