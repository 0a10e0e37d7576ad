"""A language model made smaller, end to end: text in, a cut and distilled decoder and an honest report out.

    spec -> calibration on the text -> actors -> study of searches over cuts, untrained -> finalists and controls,
         distilled -> figures -> result.json, report.html, the chosen student as a folder

Knows the parts and wires them; how a search, a cut or a ledger works is none of its business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch

from ...decoder_cuts import DecoderCut
from ...errors import SpecError
from ...models.cut_scorer import QUESTIONS, CutData, CutScorer, CutScorerIdentity, load_scorer
from ...models.decoder_cut import calibrate, load_model, save_cut, sizes_of
from ...models.sources import LocalModel, ensure, weights_folder
from ...records import JSON, Outcome, Scored, Trial, generator, seed_of
from ...search.base import Search
from ...search.cut_policy import CutPolicy
from ...search.cut_space import CutSpace
from ...search.fixed import FixedSearch
from ...search.random_search import RandomSearch
from ..budget import Budget, Limits
from ..cluster import check_address
from ..counts import Counts
from ..data import load_questions
from ..driver import budget_of, summed
from ..ledger import Ledger
from ..runfolder import RunFolder
from ..spec import validated
from ..study import BatchPlan, Strand, Study, StudyResult
from ..workers import RayWorker, start_ray_workers
from .base import MethodRun, opened_ledger, rows_digest
from .compress_decoder_data import load_passages, resolved_text, tokens_of
from .compress_decoder_result import CompressDecoderResult, Found, reward, summarise
from .compress_decoder_spec import CompressDecoderSpec

SCHEMA = 1
"""Version of result.json."""

BATCH = 8
"""Cuts that the policy draws between two of its updates."""


class OneAtATime(RayWorker):
    """A worker that is given one student at a time: each is long work, and the others would wait for it."""

    batch = 1


class CompressDecoder(MethodRun):
    """Search which blocks of a pretrained decoder to drop and which feed-forward layers to narrow, and by how much.

    >>> CompressDecoder(data="stories.txt", target="params=0.8x").run().summary["chosen"]  # doctest: +SKIP

    Args:
        teacher: A model source.
        data: Files of text.
        settings: Any other field of `CompressDecoderSpec`.

    Raises:
        SpecError: a setting cannot run.
        DataError: a text or a question cannot be used.
    """

    method: ClassVar[str] = "compress-decoder"
    spec_type: ClassVar[type[CompressDecoderSpec]] = CompressDecoderSpec
    result_type: ClassVar[type[CompressDecoderResult]] = CompressDecoderResult

    def __init__(self, teacher: str = "smollm2-135m", data: str | Sequence[str] = (), **settings: Any) -> None:
        super().__init__()
        given = {"teacher": teacher, "data": data, **settings}
        self.spec: CompressDecoderSpec = validated(CompressDecoderSpec, given, self.method)
        self.questions = load_questions(self.spec.questions, self.spec.limit)
        passages = load_passages(self.spec.data, "data")
        if all(passage.kind == "data" for passage in passages):  # a run folder's copy holds both
            passages += load_passages(self.spec.other, "other")
        asked = {question.question.strip() for question in self.questions}
        self.passages = [passage for passage in passages if passage.text not in asked]

    def plan(self) -> dict[str, JSON]:
        """Return what the run would ask for at most, without running anything."""
        finalists = 4 + self.spec.random_blocks
        screened, told = 3 * self.spec.evaluations, 2 * finalists + 1
        tokens = finalists * self.spec.steps * self.spec.batch * self.spec.length
        return {"screened": screened, "distilled": finalists, "evaluations": screened + told, "tokens_trained": tokens}

    def run(self, out: str | Path | None = None, *, address: str | None = None) -> CompressDecoderResult:
        """Run, or continue, and return the result; the run folder holds all of it.

        Args:
            out: The run folder; by default a new one under `runs/`. An existing run of the same spec is continued.
            address: Of an existing Ray cluster; RAY_ADDRESS counts too.

        Raises:
            PlaitError: any of `errors.py`; what was paid for is in the ledger.
        """
        check_address(address)
        local = ensure(self.spec.teacher, progress=self._pulling)
        teacher = _Teacher.prepared(self, local)
        resolved = {
            "model_hash": local.model_hash,
            "params": teacher.space.sizes.params(teacher.space.sizes.full),
            "limit": teacher.space.params,
            "passages": resolved_text(self.passages),
            "questions_sha256": rows_digest(self.questions),
            "data_sha256": rows_digest(self.passages),
        }
        with self._opened(out, address, resolved=resolved, rows=self.passages, cpus=self.spec.run.actors) as folder:
            return self._run(folder, teacher, resolved)

    def _run(self, folder: RunFolder, teacher: "_Teacher", resolved: dict[str, JSON]) -> CompressDecoderResult:
        ledger = opened_ledger(self.spec.run.ledger, folder)
        try:
            limits = Limits(evaluations=self.spec.run.budget_evaluations, seconds=self.spec.run.budget_seconds)
            budget = budget_of(limits, ledger, folder.id)
            workers, held = _workers(teacher, self.spec.run.actors)
            try:
                found, counts, cost = self._phases(_Session(teacher, workers, ledger, budget, folder.id))
            finally:
                for worker in workers:
                    worker.kill()
                del held
        finally:
            ledger.close()
        summary = summarise(self.spec, teacher.space, teacher.data.calibration.influence, self.questions, found)
        student = self._exported(folder, teacher, summary, found) if self.spec.export and not self._stop else None
        result = self._result(SCHEMA, resolved, summary=summary, student=student)
        timing = self._timing(budget, counts, cost, actors=self.spec.run.actors)
        self._write(folder, result, timing, lambda *parts: CompressDecoderResult(folder.path, *parts).page())
        return CompressDecoderResult(folder.path, result, timing)

    def _phases(self, session: "_Session") -> tuple[Found, Counts, dict[str, float]]:
        """Run both studies, the second on what the first found."""
        screened = self._study(session, "screening", self._searches(session.teacher))
        results, cuts = [screened], {}
        if not self._stop:
            cuts = self._finalists(session.teacher, screened)
            results.append(self._study(session, "distillation", self._measured(session.teacher, cuts)))
        counts = Counts()
        for result in results:
            counts.add(result.counts)
        told = [outcome for result in results for pairs in result.outcomes.values() for _, outcome in pairs]
        once = {id(outcome): outcome.cost for outcome in told if isinstance(outcome, Scored)}
        outcomes = {name: pairs for result in results for name, pairs in result.outcomes.items()}
        return Found(cuts, outcomes), counts, summed(list(once.values()))

    def _study(self, session: "_Session", phase: str, strands: list[Strand]) -> StudyResult:
        total = 3 * self.spec.evaluations if phase == "screening" else len(strands)
        study = self._current = Study(
            strands, session.identity, session.workers, session.ledger, plan=BatchPlan(BATCH, BATCH, len(strands)),
            budget=session.budget, events=self._events, run_id=session.run, total=total,
        )  # fmt: skip
        if self._stop:
            study.request_stop(self._stop)
        self._events("phase", {"phase": phase, "strands": len(strands), "total": total})
        result = study.run()
        self._stop = self._stop or result.stop_reason
        return result

    def _searches(self, teacher: "_Teacher") -> list[Strand]:
        """Return the policy, its own prior that learns nothing, and random search: untrained cuts, one budget."""
        item, seed, quota = self._item(0, "validation"), self.spec.seed, self.spec.evaluations
        policy = partial(
            CutPolicy, teacher.space, quota, seed_of(seed, "policy"), teacher.data.calibration.influence, BATCH
        )
        random = RandomSearch(teacher.space, quota, seed_of(seed, "random"))
        searches: dict[str, Search] = {"policy": policy(), "prior": policy(rate=0.0), "random": random}
        return [Strand(name, search, item, reward) for name, search in searches.items()]

    def _finalists(self, teacher: "_Teacher", screened: StudyResult) -> dict[str, DecoderCut]:
        """Return what is distilled, by name: the best of both searches, the families without search, the controls."""
        space, influence = teacher.space, teacher.data.calibration.influence
        found = {name: _best(screened.outcomes[name]) for name in ("policy", "random")}
        cuts = {name: best for name, best in found.items() if best is not None}
        cuts["block influence"] = space.dropped(sorted(range(len(influence)), key=lambda index: influence[index]))
        cuts["uniform width"] = space.uniform()
        for index in range(self.spec.random_blocks):
            cuts[f"random blocks {index + 1}"] = space.random_blocks(generator(self.spec.seed, "random-blocks", index))
        return cuts

    def _measured(self, teacher: "_Teacher", cuts: Mapping[str, DecoderCut]) -> list[Strand]:
        """Return what is measured of the finalists before and after distillation, and of the full model."""
        texts = tuple(sorted(teacher.data.texts))
        before, after = self._item(0, *texts), self._item(self.spec.steps, *texts, QUESTIONS)
        full = FixedSearch([teacher.space.sizes.full])
        strands = [Strand("full", full, self._item(0, *texts, QUESTIONS))]
        for name, cut in cuts.items():
            strands.append(Strand(f"after/{name}", FixedSearch([cut]), after))
            strands.append(Strand(f"before/{name}", FixedSearch([cut]), before))
        return strands

    def _item(self, steps: int, *splits: str) -> dict[str, JSON]:
        return {"steps": steps, "seed": seed_of(self.spec.seed, "distillation"), "splits": sorted(splits)}

    def _exported(
        self, folder: RunFolder, teacher: "_Teacher", summary: Mapping[str, JSON], found: Found
    ) -> dict[str, JSON] | None:
        """Make the chosen student again, which gives the same bits, and save it; say how it loads."""
        if summary["chosen"] is None:
            return None
        cut, place = found.cuts[summary["chosen"]], folder.path / "student"
        self._events("phase", {"phase": "export", "strands": 1, "total": 1})
        if not (place / "config.json").exists():
            scorer = load_scorer(*teacher.scorer)
            model, _ = scorer.student(cut, self.spec.steps, self._item(0)["seed"])
            save_cut(model, cut, place, tokenizer=teacher.folder)
        loads = "transformers' from_pretrained" if cut.uniform else "plait.models.decoder_cut.load_cut"
        return {"folder": "student", "cut": cut.key, "loads_with": loads}


@dataclass(frozen=True)
class _Teacher:
    """The full model as the run needs it: where it is, what of it may be cut, what students are measured on."""

    folder: Path
    hash: str
    space: CutSpace
    data: CutData
    identity: CutScorerIdentity

    @classmethod
    def prepared(cls, run: CompressDecoder, local: LocalModel) -> "_Teacher":
        """Load the model, refuse a target out of reach, and calibrate on the text.

        Raises:
            SpecError: the target cannot be reached, or the model cannot be cut.
            DataError: there is too little text.
        """
        from ...models.loading import load_tokenizer

        spec = run.spec
        torch.set_num_threads(1)  # which channels stay must not depend on how many cores there are
        folder = weights_folder(local, "float32")
        model = load_model(folder)
        tokenizer = load_tokenizer(folder, model.config.vocab_size)
        sizes = sizes_of(model)
        limit = spec.most_params(sizes.params(sizes.full))
        if limit >= sizes.params(sizes.full):
            raise SpecError("target", spec.target, f"less than the teacher's {sizes.params(sizes.full)} parameters")
        space = CutSpace(sizes, limit, factors=(1.0,)) if spec.uniform else CutSpace(sizes, limit)
        tokens = tokens_of(run.passages, tokenizer, spec)
        fit = tokens.pop("fit")
        calibration = calibrate(model, fit[: spec.calibration])
        data = CutData(fit, tokens, [question.item() for question in run.questions], calibration)
        identity = CutScorerIdentity(local.model_hash, data, spec.distillation)
        return cls(folder, local.model_hash, space, data, identity)

    @property
    def scorer(self) -> tuple[Any, ...]:
        """What `load_scorer` takes."""
        return self.folder, self.hash, self.data, self.identity.how


@dataclass(frozen=True)
class _Session:
    """What the studies of one start share."""

    teacher: _Teacher
    workers: Sequence[OneAtATime]
    ledger: Ledger
    budget: Budget
    run: str

    @property
    def identity(self) -> CutScorerIdentity:
        return self.teacher.identity


def _workers(teacher: _Teacher, count: int) -> tuple[list[OneAtATime], Any]:
    """Return actors that hold the full model, and what they read: to be held for as long as one may be restarted.

    Each needs memory for the full model, a student and its training.
    """
    import ray

    held = ray.put(teacher.scorer)  # as a plain argument Ray would drop it, and no actor could start again
    workers = start_ray_workers(partial(_scorer, [held]), count)
    return [OneAtATime(worker.name, worker._handle) for worker in workers], held


def _scorer(held: Sequence[Any]) -> CutScorer:
    import ray

    return load_scorer(*ray.get(held[0]))


def _best(pairs: Sequence[tuple[Trial, Outcome]]) -> DecoderCut | None:
    """Return the cut of the highest reward, the first among equals."""
    scored = [
        (reward(trial, outcome).values["reward"], trial) for trial, outcome in pairs if isinstance(outcome, Scored)
    ]
    if not scored:
        return None
    best = max(scored, key=lambda one: one[0])[1].candidate
    assert isinstance(best, DecoderCut), "a trial of another search"
    return best
