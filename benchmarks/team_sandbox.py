"""Checks of HumanEval's reference solutions a second on all cores, against a bare start of the interpreter a check.

Both sides keep as many processes in flight as there are cores. `ratio` is the time of bare starts (`python -I -c pass`,
by the same means) over that of checks, which do all a check does: sandbox, program, tests, verdict. `over_ms` is what
one check alone takes beyond one bare start alone. Last line: JSON.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from plait.agents.sandbox import Sandbox, SandboxLimits

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "text" / "humaneval.jsonl"
SHIPPED = [{"prompt": "", "canonical_solution": "def f(x):\n    return x + 1\n", "entry_point": "f",
            "test": "def check(candidate):\n    assert candidate(1) == 2\n"}] * 164  # fmt: skip
"""In place of HumanEval where it is not beside the checkout."""
ROUNDS, ALONE = 5, 15
CORES = len(os.sched_getaffinity(0))

One = Callable[[dict[str, str]], Awaitable[None]]
"""What is done for one problem."""


async def bare(_: dict[str, str]) -> None:
    """Start an interpreter that does nothing."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", "pass", env={}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    await process.communicate()
    assert process.returncode == 0


def checks(sandbox: Sandbox) -> One:
    """Return what checks one problem's reference solution."""

    async def check(row: dict[str, str]) -> None:
        name = row["entry_point"]
        program = row["prompt"] + row["canonical_solution"]
        checked = await sandbox.check(program, [f"check({name})"], row["test"], entry_point=name)
        assert checked.all_pass, checked

    return check


async def seconds(
    one: Callable[[dict[str, str]], Awaitable[None]], rows: Sequence[dict[str, str]], slots: int
) -> float:
    """Return how long `one` takes for all rows, `slots` at once."""
    left = iter(rows)

    async def lane() -> None:
        for row in left:
            await one(row)

    start = time.perf_counter()
    await asyncio.gather(*[lane() for _ in range(slots)])
    return time.perf_counter() - start


async def measure() -> dict[str, object]:
    """Interleave both sides, then take each alone."""
    rows = [json.loads(line) for line in DATA.read_text().splitlines()] if DATA.is_file() else SHIPPED
    check = checks(Sandbox(SandboxLimits(seconds=60.0, cpu_seconds=30)))
    await seconds(check, rows[:8], CORES)  # equal verdicts first; this also warms both sides up
    await seconds(bare, rows[:8], CORES)
    pairs = [(await seconds(bare, rows, CORES), await seconds(check, rows, CORES)) for _ in range(ROUNDS)]
    ratios = sorted(start / checked for start, checked in pairs)
    alone = [(await seconds(bare, rows[:1], 1), await seconds(check, rows[:1], 1)) for _ in range(ALONE)]
    return {
        "name": "team-sandbox",
        "ratio": round(statistics.median(ratios), 2),
        "range": [round(ratios[0], 2), round(ratios[-1], 2)],
        "cores": CORES,
        "checks_per_second": round(len(rows) / statistics.median(checked for _, checked in pairs), 1),
        "over_ms": round(statistics.median(checked - start for start, checked in alone) * 1e3, 1),
        "problems": "HumanEval" if DATA.is_file() else "one of ours, 164 times",
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure())))
