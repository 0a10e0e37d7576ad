"""N2N end to end: a network and examples in, a smaller network and an honest report out.

    spec -> teacher (trained or loaded) -> studies of searches and rivals -> each one's choice, trained to the end
         -> figures -> student exported, result.json, report.html

Knows the parts and wires them; how a search, a trainer or a ledger works is none of its business.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ...architectures import Architecture
from ...errors import SpecError
from ...models.distill import Training
from ...models.images import ImageData
from ...models.network import Network
from ...models.pruning import LotteryTrainer
from ...models.students import StudentTrainer
from ...records import JSON, Outcome, Scored, Trial
from ...search.network_space import NetworkSpace
from ...search.policy_search import PolicySearch
from ...user_objects import names_object, object_of
from ..budget import Budget, Limits
from ..cluster import check_address
from ..counts import Counts
from ..driver import budget_of, summed
from ..ledger import Ledger
from ..runfolder import RunFolder
from ..spec import validated
from ..study import BatchPlan, Strand, Study, StudyResult
from ..trainers import trainer_workers
from .base import MethodRun, opened_ledger
from .compress_data import INLINE, checked_given, loaded
from .compress_phases import (
    PUBLISHED,
    Problem,
    final_strands,
    final_training,
    finalists,
    left_out,
    lottery_strands,
    lottery_training,
    search_strands,
    training_of,
)  # fmt: skip
from .compress_records import Finalist, Student, chosen_of, students_of
from .compress_result import CompressResult
from .compress_spec import CompressSpec
from .compress_summary import summarise
from .compress_target import Target
from .compress_teacher import (
    as_features,
    kept_student,
    latencies,
    module_of,
    predicted,
    settled_teacher,
    student_setup,
    teacher_architecture,
    unfinished,
)

T = TypeVar("T")

SCHEMA = 1
"""Version of result.json."""


class Compress(MethodRun):
    """Search for a smaller network that does what a given one does.

    >>> result = Compress(teacher="cnn1d:width=25", data="mnist1d.npz", target="params=0.2x").run()  # doctest: +SKIP
    >>> result.student()  # doctest: +SKIP

    Args:
        teacher: A name such as resnet18:width=8, which is trained first; the folder of an exported network; or a
            `torch.nn.Module`, read by tracing it with one example.
        data: Labelled examples: all that `load_images` takes, or the `ImageData` that it returned.
        settings: Any other field of `CompressSpec`.

    Raises:
        SpecError: a setting cannot run; a target cannot be reached, and what the smallest network would cost.
        DataError: the examples cannot be used.
    """

    method: ClassVar[str] = "compress"
    spec_type: ClassVar[type[CompressSpec]] = CompressSpec
    result_type: ClassVar[type[CompressResult]] = CompressResult
    rows_kept: ClassVar[bool] = False

    def __init__(self, teacher: Any = "resnet8", data: Any = "plait:digits", **settings: Any) -> None:
        super().__init__()
        given = {"teacher": str(teacher) if isinstance(teacher, str | Path) else INLINE, **settings}
        given["data"] = str(data) if isinstance(data, str | Path) else INLINE
        self.spec = validated(CompressSpec, given, "compress")
        self._module = None if isinstance(teacher, str | Path) else module_of(teacher)
        if names_object(teacher):
            self._module = module_of(object_of(teacher, "compress.teacher"))
        self._source = self.spec.data if isinstance(data, str | Path) else data

    @property
    def _taught(self) -> Any:
        """The teacher as it was handed over: a module, or a text."""
        return self.spec.teacher if self._module is None else self._module

    @cached_property
    def data(self) -> ImageData:
        """The examples, split and normalised."""
        if isinstance(self._source, ImageData):
            return checked_given(self._source, self.spec)
        data = loaded(self.spec, self._source, module=self._module is not None)
        return data if self._module is None or self.spec.layout else as_features(self._module, data, self.spec)

    @cached_property
    def teacher(self) -> Architecture:
        """What is to be compressed."""
        return teacher_architecture(self._taught, self.data)

    def plan(self) -> dict[str, JSON]:
        """Return what the run would ask for at most; refuses a target that no student can reach."""
        if Target.parse(self.spec.target).measure != "ms":
            missing = left_out(self.spec.methods, self._space(self.teacher))
        else:
            missing = {}
        self._policies()
        searches = self.spec.seeds * len(self.spec.methods)
        return {
            "searches": searches,
            "search_epochs": searches * self.spec.budget,
            "final_epochs": searches * self.spec.final_epochs,
            "teacher_params": self.teacher.params,
            "teacher_macs": self.teacher.macs,
            "examples": "as handed over" if self.data.preparation is None else self.data.preparation.said,
            "left_out": dict(missing),
        }

    def run(self, out: str | Path | None = None, *, address: str | None = None) -> CompressResult:
        """Run, or continue, and return the result; the run folder holds all of it.

        Args:
            out: The run folder; by default a new one under `runs/`. An existing run of the same spec is continued.
            address: Of an existing Ray cluster; RAY_ADDRESS counts too.

        Raises:
            PlaitError: any of `errors.py`; what was paid for is in the ledger.
        """
        check_address(address)
        self.plan()  # refuses what cannot be reached before anything is trained
        data = self.data
        resolved: dict[str, JSON] = {
            "teacher": self.teacher.hash, "data_digest": data.digest, "fit": len(data.fit_y),
            "validation": len(data.validation_y), "test": len(data.test_y), "classes": data.classes,
        }  # fmt: skip
        with self._opened(out, address, resolved=resolved, cpus=self.spec.run.actors) as folder:
            return self._run(folder, resolved)

    def _run(self, folder: RunFolder, resolved: dict[str, JSON]) -> CompressResult:
        network, facts = settled_teacher(folder.path, self._taught, self.data, self.spec, self._events)
        ledger = opened_ledger(self.spec.run.ledger, folder)
        limits = Limits(evaluations=self.spec.run.budget_evaluations, seconds=self.spec.run.budget_seconds)
        session = _Session(folder, ledger, budget_of(limits, ledger, folder.id))
        try:
            table = predicted(folder.path, network.arch, self.spec.target)
            space = self._space(network.arch, table)
            found = self._phases(session, Problem(space, network, facts["validation"], self._policies()))
        finally:
            ledger.close()
        return self._finish(session, network, facts, space, found, resolved)

    def _space(self, teacher: Architecture, table: Any = None) -> NetworkSpace:
        target = Target.parse(self.spec.target)
        cost = target.cost(table)
        return NetworkSpace(teacher, cost, target.limit(cost(teacher)))

    def _policies(self) -> dict[str, bytes]:
        """Return the saved policies to start from, by stage.

        Raises:
            SpecError: the folder has none.
        """
        if self.spec.policy is None:
            return {}
        files = sorted(Path(self.spec.policy).glob("*.safetensors"))
        if not files:
            raise SpecError("compress.policy", self.spec.policy, "a folder of saved policies, such as RUN/policy")
        return {file.stem: file.read_bytes() for file in files}

    def _phases(self, session: "_Session", problem: Problem) -> "_Found":
        """Run the searches, then the final training of what each chose, then lottery tickets where they are rivals."""
        found = self._searched(session, problem)
        for mine in _apart(found.chosen, lambda student: student.method):
            if mine and not self._stop:
                training = final_training(self.spec, mine[0].method)
                told = self._study(session, "final", final_strands(self.spec, mine), training, problem)
                scored = {name: pairs[0][1] for name, pairs in told.items() if pairs}
                right = {name: one for name, one in scored.items() if isinstance(one, Scored)}
                found.finals += finalists(mine, right, self.spec.final_epochs)
        if "lottery" in self.spec.methods and not self._stop:
            training, strands = lottery_training(self.spec, problem), lottery_strands(self.spec, problem)
            found.lottery = self._study(session, "lottery", strands, training, problem, LotteryTrainer)
        return found

    def _searched(self, session: "_Session", problem: Problem) -> "_Found":
        """Run the searches, those of one way of training in one study, and choose a student of each."""
        found, methods = _Found(), [name for name in self.spec.methods if name != "lottery"]
        for part in _apart(methods, str):
            if part and not self._stop:
                strands, training = search_strands(self.spec, problem, part), training_of(self.spec, part[0])
                found.searched |= self._study(session, "search", strands, training, problem)
                _keep_policies(session.folder, strands, self.spec.profile)
        for method in methods:
            for at in range(self.spec.seeds):
                told = found.searched.get(f"{method}/{at}", [])
                best = chosen_of(students_of(method, at, told, problem.space.cost), problem.limit)
                found.chosen += [best] if best else []
        return found

    def _study(
        self,
        session: "_Session",
        phase: str,
        strands: list[Strand],
        training: Training,
        problem: Problem,
        kind: type[StudentTrainer] | type[LotteryTrainer] = StudentTrainer,
    ) -> dict[str, list[tuple[Trial, Outcome]]]:
        """Run strands on trainers of one setup."""
        setup = student_setup(self.data, self.spec, training, problem.teacher)
        count, test = self.spec.run.actors, self.data.test()
        workers = trainer_workers(setup, session.checkpoints, count, test=test, kind=kind)
        self._events("phase", {"phase": phase, "strands": len(strands), "total": None, "shows": "best"})
        plan = BatchPlan(self.spec.ask, self.spec.lag, max(len(strands), 1))
        study = self._current = Study(
            strands, kind(setup), workers, session.ledger,
            plan=plan, budget=session.budget, events=self._events, run_id=session.folder.id,
        )  # fmt: skip
        if self._stop:
            study.request_stop(self._stop)
        try:
            result = study.run()
        finally:
            for worker in workers:
                worker.kill()
        self._stop = self._stop or result.stop_reason
        session.count(result)
        return result.outcomes

    def _finish(
        self, session: "_Session", network: Network, facts: dict[str, Any], space: NetworkSpace, found: "_Found",
        resolved: dict[str, JSON],
    ) -> CompressResult:  # fmt: skip
        """Export the student, measure latencies now that nothing trains, write result, timing and report."""
        missing = left_out(self.spec.methods, space)
        summary = summarise(self.spec, facts, space, found.searched, found.finals, found.lottery, missing)
        summary["preparation"] = None if self.data.preparation is None else self.data.preparation.to_json()
        place = session.folder.path
        if not summary["chosen"]:
            summary["chosen"] = unfinished(place, self.data, self.spec, network, found.chosen)
        kept_student(place, self.data, self.spec, network, summary["chosen"])
        nets = [network.arch, *(Architecture.parse(final.student.arch) for final in found.finals)]
        if summary["chosen"]:
            nets.append(Architecture.parse(summary["chosen"]["arch"]))
        result = self._result(SCHEMA, resolved, summary=summary)
        timing = self._timing(
            session.budget, session.counts, session.cost, actors=self.spec.run.actors, latency=latencies(nets)
        )
        folder = session.folder
        self._write(folder, result, timing, lambda *parts: CompressResult(folder.path, *parts).page())
        return CompressResult(folder.path, result, timing)


@dataclass
class _Session:
    """What the studies of one start share, and what they took."""

    folder: RunFolder
    ledger: Ledger
    budget: Budget
    counts: Counts = field(default_factory=Counts)
    cost: dict[str, float] = field(default_factory=dict)

    @property
    def checkpoints(self) -> Path:
        """Where students are kept at the ends of their rungs."""
        return self.folder.path / "checkpoints"

    def count(self, result: StudyResult) -> None:
        """Add a study's counts, and the cost of each of its outcomes once."""
        self.counts.add(result.counts)
        told = (outcome for pairs in result.outcomes.values() for _, outcome in pairs)
        once = {id(outcome): outcome.cost for outcome in told}
        self.cost = summed([self.cost, *once.values()])


def _apart(values: Sequence[T], method: Callable[[T], str]) -> tuple[list[T], list[T]]:
    """Return what is trained our way, and what is trained as published."""
    return [one for one in values if method(one) != PUBLISHED], [one for one in values if method(one) == PUBLISHED]


def _keep_policies(folder: RunFolder, strands: list[Strand], profile: str) -> None:
    """Write the policies that the profile's first search ended with, for another run to start from."""
    search = next((strand.search for strand in strands if strand.id == f"{profile}/0"), None)
    if isinstance(search, PolicySearch):
        (folder.path / "policy").mkdir(exist_ok=True)
        for stage, weights in search.policies().items():
            (folder.path / "policy" / f"{stage}.safetensors").write_bytes(weights)


@dataclass
class _Found:
    """What the phases leave."""

    searched: dict[str, list[tuple[Trial, Outcome]]] = field(default_factory=dict)
    chosen: list[Student] = field(default_factory=list)
    finals: list[Finalist] = field(default_factory=list)
    lottery: dict[str, list[tuple[Trial, Outcome]]] = field(default_factory=dict)
