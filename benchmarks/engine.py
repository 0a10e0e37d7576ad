"""Study throughput with an evaluator that does nothing, behind two Ray actors, into a durable SQLite ledger.

The comparison runs the same study with one outcome a call and one commit an outcome. Last line: JSON.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import ray
from plait import Ledger, RandomSearch, Strand, Study
from plait.orchestrator.paying import Policy
from plait.orchestrator.study import BatchPlan
from plait.orchestrator.workers import start_ray_workers
from plait.records import Outcome, Request, Scored
from plait.search.path_space import EditSets

DEPTH = 30


class Nothing:
    """An evaluator that answers at once."""

    name, version, spec = "nothing", 1, None

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        """Return a constant a request."""
        return [Scored({"reward": 0.0}) for _ in requests]


def rate(workers: Sequence[object], strands: int, each: int, policy: Policy, plan: BatchPlan) -> float:
    """Return outcomes a second of one study into a fresh ledger."""
    space = EditSets(DEPTH, (1, 2), (0, 2), 1, 60)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.db")
        searches = [Strand(f"s{i}", RandomSearch(space, each, i), i) for i in range(strands)]
        start = time.perf_counter()
        result = Study(searches, Nothing(), workers, ledger, plan=plan, policy=policy).run()  # type: ignore[arg-type]
        seconds = time.perf_counter() - start
        ledger.close()
    assert result.counts.paid == strands * each
    return result.counts.paid / seconds


def main() -> None:
    """Measure both, interleaved, and print one JSON line."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    workers = start_ray_workers(Nothing, 2)
    batched, single = [], []
    rate(workers, 8, 50, Policy(), BatchPlan())  # warm
    for _ in range(5):
        batched.append(rate(workers, 64, 125, Policy(batch=512), BatchPlan(ask=16, lag=32, window=64)))
        single.append(rate(workers, 1, 300, Policy(batch=1), BatchPlan(ask=1, lag=1, window=1)))
    for worker in workers:
        worker.kill()
    ray.shutdown()
    ours, theirs = statistics.median(batched), statistics.median(single)
    print(
        json.dumps(
            {
                "name": "engine",
                "ratio": round(ours / theirs, 1),
                "cores": os.cpu_count(),
                "outcomes_per_second": round(ours),
                "one_per_call_and_commit": round(theirs),
                "milliseconds_per_outcome": round(1000 / ours, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
