"""Validation items a decision on an edit: three looks against a fixed 300, on edits of the sizes of specs/ann, 9.8.

Runs of twenty edits drawn 25/25/20/20/10 % from -6/-2/0/+3/+8 points, one validation set a run, the incumbent's
answers out of the cache. Prints a table of gates: items a decision, true accuracy at the end (from .50), edits kept
that brought nothing. Last line: JSON; `ratio` is 300 over the items a decision of the default gate (2.5 is wanted),
`range` its 95 % interval over runs. `redrawn` is the same ratio where an adopted team answers afresh, and `fresh`,
computed and not simulated, that of a first edit: both are lower, since an incumbent that keeps its lucky answers also
lets challengers be dropped sooner.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from plait.search.gate import EAGER, MEAN, THREE_LOOKS, Gate, sign

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from gate_runs import EDITS, MIX, Runs, run

FIXED = 300
GATES = ((THREE_LOOKS, 300), (EAGER, 300), (MEAN, 100), (MEAN, 300), (sign(0.2, 100), 100), (sign(0.2, 300), 300))


def line(gate: Gate, n: int, runs: Runs) -> str:
    """Return a row of the table."""
    items, final, useless = runs.items.mean() / EDITS, runs.final.mean(), runs.useless.mean()
    return f"{gate.name:14} n={n}  items {items:6.1f}  final {final:.3f}  useless kept {useless:5.2f}"


def main(count: int = 1000) -> None:
    """Print the table and the line."""
    for gate, n in GATES:
        print(line(gate, n, run(gate, count, n=n)))
    items = run(THREE_LOOKS, count).items / EDITS
    redrawn = run(THREE_LOOKS, count, redraw=True).items / EDITS
    spread = 1.96 * float(items.std()) / np.sqrt(count)
    fresh = sum(share * THREE_LOOKS.odds(FIXED, change).items for change, share in MIX.items())
    result = {
        "name": "team_gate",
        "ratio": round(FIXED / float(items.mean()), 3),
        "cores": os.cpu_count(),
        "range": [round(FIXED / (float(items.mean()) + side * spread), 3) for side in (1, -1)],
        "redrawn": round(FIXED / float(redrawn.mean()), 3),
        "fresh": round(FIXED / fresh, 3),
        "items": round(float(items.mean()), 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
