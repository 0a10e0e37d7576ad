"""A scripted judge behind OpenAI's API: what it says, and how it fails, is a function of what it is asked.

    with FaultServer(scripted()) as server: ...
    python tests/judge_server.py --faults          # in a process of its own; the port is the first line printed

Scores and faults follow from the conversation alone, never from time or order: two runs that ask the same are
answered the same. Its opinions mean nothing, and no test of quality may use it.
"""

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from fault_server import (
    FaultServer,
    Step,
    empty_choices,
    filtered,
    refusal,
    status,
    text,
    truncated,
    wrong_json,
)  # fmt: skip

ANGLES = ("Truth", "Clarity", "Depth")

LASTING: tuple[Callable[[], Step], ...] = (
    lambda: text("Both are fine, I would say."),  # no scores, and no better when asked again
    lambda: text("Score of Assistant 1: 11\nScore of Assistant 2: -3"),
    lambda: text("7"),
    refusal,
    filtered,
    lambda: status(500),
    lambda: status(400),
    wrong_json,
    truncated,
)
"""Faults that a conversation meets however often it is tried."""

PASSING: tuple[Callable[[], Step], ...] = (
    lambda: status(429, retry_after="0.01"),
    lambda: status(503),
    empty_choices,
)
"""Faults that it meets on its first two tries."""


def opinion(messages: list[dict[str, str]]) -> str:
    """Return what the judge says: angles, two scores alone, or a review with scores."""
    said, seen = messages[-1]["content"], sha256(json.dumps(messages).encode()).digest()
    if "which angles matter" in said.lower():
        return "\n".join(f"${angle}&: what to look at" for angle in ANGLES)
    one, two = 1 + seen[0] % 10, 1 + seen[1] % 10
    if "two scores alone" in said:
        return f"{one} {two}"
    return f"Seen {seen.hex()[:8]}.\nScore of Assistant 1: {one}\nScore of Assistant 2: {two}"


def scripted(faults: bool = False, latency: float = 0.0) -> Callable[[int, dict[str, Any]], Step]:
    """Return a script; with `faults` a fifth of all conversations go wrong, three quarters of those for good."""
    tries: Counter[str] = Counter()

    def step(index: int, body: dict[str, Any]) -> Step:
        asked = sha256(b"fault" + json.dumps(body["messages"]).encode())
        draw, kind, key = asked.digest()[0] / 256, asked.digest()[1], asked.hexdigest()
        tries[key] += 1
        if faults and draw < 0.15:
            return LASTING[kind % len(LASTING)]()
        if faults and draw < 0.20 and tries[key] <= 2:
            return PASSING[kind % len(PASSING)]()
        if faults and kind % 2 and "two scores alone" in body["messages"][-1]["content"]:
            return text("I would rather not say.")  # half of all repairs fail too
        return text(opinion(body["messages"]), latency=latency)

    return step


def main() -> None:
    """Serve for ever; the port is the first line printed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each good answer")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    server = FaultServer(scripted(options.faults, options.latency), keep=False, port=options.port)

    async def run() -> None:
        async with await server.start() as listening:
            print(server.port, flush=True)
            await listening.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    main()
