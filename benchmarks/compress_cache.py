"""What a repeated architecture costs a study: a lookup in the ledger, against training it. Last line: JSON."""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from plait import Ledger, Strand, Study
from plait.models.distill import Training, train_teacher
from plait.models.images import load_images
from plait.models.students import StudentSetup, StudentTrainer, item_of
from plait.models.zoo import named
from plait.orchestrator.study import BatchPlan, StudyResult
from plait.orchestrator.workers import InlineWorker
from plait.records import Scored, Trial
from plait.search.asha import Asha
from plait.search.network_space import NetworkSpace

BUDGET, ROUNDS = 40, 5


def accuracy(trial: Trial, outcome: Scored) -> Scored:
    """Return the reward."""
    return Scored({"reward": outcome.values["accuracy"]})


def main() -> None:
    """Run a search on digits, then again over its ledger; print one JSON line."""
    data = load_images("plait:digits")
    training = Training(learning_rate=2e-3, schedule=(1, 2, 4))
    teacher, _ = train_teacher(named("resnet8:width=8", data.input, data.classes), data, training, 0)
    trainer = StudentTrainer(StudentSetup.of(data, training, teacher))
    space = NetworkSpace(teacher.arch, limit=0.5 * teacher.arch.params)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.db")

        def run() -> tuple[float, StudyResult]:
            strand = Strand("random", Asha(space, BUDGET, 0, (1, 2, 4)), item_of(0), accuracy)
            study = Study([strand], trainer, [InlineWorker(trainer)], ledger, plan=BatchPlan(ask=8, lag=16))
            start = time.perf_counter()
            result = study.run()
            return 1000 * (time.perf_counter() - start) / len(result.outcomes["random"]), result

        trained, first = run()
        again = []
        for _ in range(ROUNDS):
            took, result = run()
            assert result.counts.paid == 0
            assert result.outcomes == first.outcomes
            again.append(took)
        ledger.close()
    repeated = statistics.median(again)
    print(
        json.dumps(
            {
                "name": "compress_cache",
                "ratio": round(trained / repeated, 1),
                "cores": os.cpu_count(),
                "milliseconds_trained": round(trained, 1),
                "milliseconds_repeated": round(repeated, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
