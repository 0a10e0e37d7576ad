"""Student-epochs until a search has 95 % of the best reward that the published one ends with: published against ours.

Both on a residual teacher and scikit-learn's digits, real students on two trainer actors; the reward of either is the
published C (2 - C) A / A_teacher on validation examples, whatever the search itself learns from. Ours is given the
limit params=0.2x, and begins with the teacher scaled evenly as in `plait compress`. A search that never gets there
counts with its whole budget. Last line: JSON.
"""

import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import ray
from plait import Ledger, Strand, Study
from plait.architectures import Architecture
from plait.models.distill import Training, measure, train_teacher
from plait.models.images import load_images
from plait.models.students import StudentSetup, StudentTrainer, item_of
from plait.models.zoo import named
from plait.orchestrator.study import BatchPlan
from plait.orchestrator.trainers import trainer_workers
from plait.records import Outcome, Scored, Trial
from plait.search.halving import Rung
from plait.search.network_space import NetworkSpace
from plait.search.policy_profiles import policy_profile
from plait.search.policy_search import PolicySearch
from plait.search.rewards import n2n_reward
from plait.search.uniform import even_students

BUDGET, SEEDS, SHARE = 150, 3, 0.95
SCHEDULES = {"plait": (1, 2, 4, 8), "n2n-paper": (5,)}


def curve(told: Sequence[tuple[Trial, Outcome]], schedule: Sequence[int], accuracy: float, size: int) -> list[float]:
    """Return the best reward so far after each student-epoch spent."""
    best, rewards, seen = 0.0, [0.0], set[str]()
    for trial, outcome in told:
        rung = trial.candidate
        assert isinstance(rung, Rung)
        assert isinstance(rung.candidate, Architecture)
        if rung.key not in seen:
            seen.add(rung.key)
            rewards += [best] * (schedule[rung.rung] - (schedule[rung.rung - 1] if rung.rung else 0))
        if isinstance(outcome, Scored):
            best = max(best, n2n_reward(outcome.values["accuracy"], accuracy, rung.candidate.params, size))
            rewards[-1] = best
    return rewards


def _search(space: NetworkSpace, name: str, seed: int, schedule: Sequence[int]) -> PolicySearch:
    even = even_students(space)[:1] if name == "plait" else ()
    return PolicySearch(space, BUDGET, policy_profile(name), seed, schedule, first=even)


def main() -> None:
    """Run both from several seeds, and print one JSON line."""
    data, training = load_images("plait:digits"), Training(learning_rate=2e-3)
    teaching = training.model_copy(update={"schedule": (20,)})
    teacher, _ = train_teacher(named("resnet8:width=8", data.input, data.classes), data, teaching, 0)
    accuracy = measure(teacher, data.validation_x, data.validation_y).accuracy
    size = teacher.arch.params
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    curves: dict[str, list[list[float]]] = {}
    for name, schedule in SCHEDULES.items():
        init = "random" if name == "n2n-paper" else "sorted"
        setup = StudentSetup.of(data, training.model_copy(update={"schedule": schedule, "init": init}), teacher)
        space = NetworkSpace(teacher.arch, limit=None if name == "n2n-paper" else 0.2 * size)

        def reward(trial: Trial, outcome: Scored, name: str = name) -> Scored:
            right = outcome.values["accuracy"]
            if name == "plait":
                return Scored({"reward": right})
            arch = trial.candidate.candidate  # type: ignore[attr-defined]
            return Scored({"reward": n2n_reward(right, accuracy, arch.params, size)})

        strands = [
            Strand(str(seed), _search(space, name, seed, schedule), item_of(seed), reward) for seed in range(SEEDS)
        ]
        with tempfile.TemporaryDirectory() as folder:
            workers, ledger = trainer_workers(setup, folder, 2), Ledger(Path(folder) / "ledger.db")
            study = Study(strands, StudentTrainer(setup), workers, ledger, plan=BatchPlan(8, 16, SEEDS))
            told = study.run().outcomes
            ledger.close()
            for worker in workers:
                worker.kill()
        curves[name] = [curve(told[str(seed)], schedule, accuracy, size) for seed in range(SEEDS)]
    ray.shutdown()
    needed: dict[str, list[int]] = {name: [] for name in SCHEDULES}
    for seed in range(SEEDS):
        goal = SHARE * curves["n2n-paper"][seed][-1]
        for name in SCHEDULES:
            needed[name].append(next((at for at, best in enumerate(curves[name][seed]) if best >= goal), BUDGET))
    ratio = statistics.median(needed["n2n-paper"]) / statistics.median(needed["plait"])
    print(
        json.dumps(
            {
                "name": "n2n_search",
                "ratio": round(ratio, 2),
                "cores": os.cpu_count(),
                "epochs_needed": needed,
                "best_reward": {name: [round(found[-1], 3) for found in curves[name]] for name in SCHEDULES},
            }
        )
    )


if __name__ == "__main__":
    main()
