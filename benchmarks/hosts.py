"""Two model hosts against one on the same search, and what 1, 2 and 4 hosts weigh (summed PSS).

The yardstick of memory is a bare Ray actor without a model, in two measures: `lazy` has imported torch and
transformers, which loads little before a model is asked for; `model_code` has also imported the model code
(`transformers.modeling_utils`, the tokenizers), as loading any model does. Last line: JSON.
"""

import json
import os
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

import ray
from plait import CoLa, ensure
from plait.models.evaluator import ScorerSpec
from plait.models.host import HostSpec
from plait.orchestrator.events import read_events
from plait.orchestrator.hosts import host_workers

MIB = 1 << 20


@ray.remote
class Bare:
    """What any actor of this kind weighs without a model."""

    def pid(self, model_code: bool) -> int:
        """Import what the measure says; return the process id."""
        import torch
        import transformers

        if model_code:
            import transformers.modeling_utils
            import transformers.models.llama.modeling_llama
            import transformers.tokenization_utils_tokenizers  # noqa: F401

        torch.set_num_threads(1)
        return os.getpid()


def pss(pids: list[int]) -> float:
    """Return the summed proportional set size of processes, in MiB."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total / MIB


def stop_hosts() -> None:
    """Kill every host of this cluster."""
    for actor in ray.util.list_named_actors(all_namespaces=True):
        ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))
    time.sleep(1)


def memory(counts: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Return, per measure of bare actors, the summed PSS in MiB of so many hosts beyond as many of those."""
    model = ensure("smollm2-135m")
    spec = HostSpec("smollm2-135m", ScorerSpec(model.model_hash))
    item = {"prompt": "Question: What is wet?\nAnswer:", "options": [" water", " sand"]}
    found: dict[str, dict[str, float]] = {"lazy": {}, "model_code": {}}
    for count in counts:
        workers = host_workers(spec, count)
        handles = [worker._handle for worker in workers]
        ray.get([handle.score_paths.remote([("0-29", item)], {}) for handle in handles])
        ours = pss([ray.get(handle.describe.remote())["pid"] for handle in handles])
        stop_hosts()
        for measure, weighed in found.items():
            actors = [Bare.options(num_cpus=1).remote() for _ in range(count)]
            bare = pss(ray.get([actor.pid.remote(measure == "model_code") for actor in actors]))
            for actor in actors:
                ray.kill(actor)
            time.sleep(1)
            weighed[str(count)] = round(ours - bare, 1)
    return found


def search_seconds(actors: int) -> float:
    """Return the seconds from the first phase to the end of a run on hosts just started, caches cold."""
    with tempfile.TemporaryDirectory() as folder:
        run = {"actors": actors}
        result = CoLa(limit=24, simulations=12, menu=0, verify=False, random_baseline=False, run=run).run(
            Path(folder) / "run"
        )
        events = read_events(result.folder / "events.jsonl")
    stop_hosts()
    times = [datetime.fromisoformat(str(event["t"])) for event in events if event["kind"] != "run"]
    first = next(i for i, event in enumerate(events) if event["kind"] == "phase") - 1
    return (times[-1] - times[first]).total_seconds()


def main() -> None:
    """Measure both and print one JSON line."""
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, namespace="plait")
    weights = ensure("smollm2-135m").bytes / MIB
    weighed = memory((1, 2, 4))
    times: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(3):
        for actors in (1, 2) if repeat % 2 else (2, 1):
            times[actors].append(search_seconds(actors))
    stop_hosts()
    ray.shutdown()
    one, two = statistics.median(times[1]), statistics.median(times[2])
    further = {
        measure: round(max(found["2"] - found["1"], (found["4"] - found["2"]) / 2) / weights, 3)
        for measure, found in weighed.items()
    }
    print(
        json.dumps(
            {
                "name": "hosts",
                "ratio": round(one / two, 2),
                "cores": os.cpu_count(),
                "weights_mib": round(weights),
                "pss_mib_beyond_bare_actors": weighed,
                "further_host_over_weights": further,
            }
        )
    )


if __name__ == "__main__":
    main()
