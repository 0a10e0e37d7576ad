"""Judges end to end: pairs of answers in, verdicts, abstentions and an honest report out.

    spec -> chat models (hosts on Ray, endpoints) -> a graph an item, baselines beside -> verdicts
         -> figures -> verdicts.jsonl, result.json, report.html

Knows the parts and wires them; how a graph runs or a panel is weighed is none of its business.
"""

import asyncio
import json
import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Self

from ...errors import SpecError
from ...graphs import Graph
from ...records import JSON, EventSink, generator
from ..budget import Budget
from ..calls import CallWorker
from ..cluster import cluster
from ..driver import budget_of
from ..graph_run import GraphResult, GraphRun
from ..graph_shards import SHARD_CPUS, ShardedRun, ShardPlan
from ..ledger import Ledger
from ..loops import run_blocking
from ..paying import Policy
from ..runfolder import RunFolder, write_text
from ..spec import validated
from .base import MethodRun, opened_ledger, rows_digest
from .judge_comparing import Comparing
from .judge_data import Pair, given_pairs, load_pairs
from .judge_graphs import Asked, GraphMaker, wording
from .judge_models import (
    Named,
    Ready,
    capabilities_of,
    check_endpoints,
    named,
    open_models,
    options_of,
    probing_cost,
    refusals_of,
)
from .judge_plan import plan_of
from .judge_records import ItemVerdict, Outcome, outcome_of, outcome_when, row
from .judge_result import JudgeResult
from .judge_spec import JudgeSpec
from .judge_stats import summarise

SCHEMA = 1
"""Version of result.json."""

LEAST_SLICE = 20
"""Labelled items that weights can be fitted on."""


class Judge(MethodRun):
    """A network of LLM judges over pairs of answers.

    >>> Judge(model="smollm2-135m").compare("2 + 2?", "4", "5").verdict  # doctest: +SKIP
    'model1'

    Args:
        model: A model source, openai:NAME@https://host/v1, or several of them for a panel.
        data: A file of JSON lines, or the pairs themselves; none where only `compare` is called.
        settings: Any other field of `JudgeSpec`.

    Raises:
        SpecError: a setting cannot run.
        DataError: a pair cannot be used.
    """

    method: ClassVar[str] = "judge"
    spec_type: ClassVar[type[JudgeSpec]] = JudgeSpec
    result_type: ClassVar[type[JudgeResult]] = JudgeResult

    def __init__(
        self,
        model: str | Sequence[str] = "smollm2-135m",
        data: str | Path | Sequence[Pair | dict[str, JSON]] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        given: dict[str, Any] = {"model": model if isinstance(model, str) else tuple(model), **settings}
        if isinstance(data, str | Path):
            given["data"] = str(data)
        elif data is not None:
            given["data"] = "inline"
        self.spec: JudgeSpec = validated(JudgeSpec, given, "judge")
        self.wording = wording(self.spec.prompts)
        for network in (self.spec.judges, *self.spec.beside.values()):
            self.wording.family(network.family)
        self._given = None if data is None or isinstance(data, str | Path) else data
        self._pairs: list[Pair] | None = None
        self._notes: list[str] = []
        self._live: Comparing | None = None
        self._opening = Lock()

    @property
    def pairs(self) -> list[Pair]:
        """The items, read and checked when first asked for."""
        if self._pairs is None:
            if self._given is None:
                self._pairs = load_pairs(self.spec.data, self.spec.limit, self.spec.labels, self._notes)
            else:
                self._pairs = given_pairs(self._given, self.spec.limit, self.spec.labels, self._notes)
        return self._pairs

    @classmethod
    def from_spec(cls, values: dict[str, JSON]) -> Self:
        """Return the run of a spec file's mapping; its data are read at once, so that bad input is said first."""
        made = super().from_spec(values)
        _ = made.pairs
        return made

    def plan(self) -> dict[str, JSON]:
        """Return what the run would ask for at most, without asking: an estimate."""
        return plan_of(self.spec, self.wording, self.pairs)

    def run(self, out: str | Path | None = None, *, address: str | None = None) -> JudgeResult:
        """Run, or continue, and return the result; the run folder holds all of it.

        Args:
            out: The run folder; by default a new one under `runs/`. An existing run of the same spec is continued.
            address: Of an existing Ray cluster, where a judge is a host of ours; RAY_ADDRESS counts too.

        Raises:
            PlaitError: any of `errors.py`; what was paid for is in the ledger.
        """
        pairs, models = self.pairs, self._named()
        resolved, ready = self._resolved(models), self._ready(models)
        with self._opened(out, address, resolved=resolved, rows=pairs, cpus=self._cpus(models)) as folder:
            for note in self._notes:
                self._events("note", {"note": note})
            ledger = opened_ledger(self.spec.run.ledger, folder)
            try:
                rows, told, budget = self._judge(folder, ledger, models, pairs, ready)
            finally:
                ledger.close()
            for line in refusals_of(chat for chats in ready.values() for chat in chats):
                self._events("note", {"note": line})
            return self._finish(folder, resolved, rows, told, budget)

    def _judge(
        self, folder: RunFolder, ledger: Ledger, models: Sequence[Named], pairs: Sequence[Pair], ready: Ready
    ) -> tuple[list[ItemVerdict], GraphResult, Any]:
        """Run the network and its baselines over all items at once."""
        asked: list[Asked] = [
            (pair, name)
            for pair in pairs
            for name in ("", *self.spec.beside)
            if pair.response1.strip() and pair.response2.strip()
        ]
        budget = budget_of(self.spec.run.limits, ledger, folder.id)
        run = self._made(models, ledger, asked, ready, budget=budget, events=self._events, run_id=folder.id)
        if self._stop:
            run.request_stop(self._stop)
        self._current = run
        self._events("phase", {"phase": "judge", "strands": len(pairs), "total": len(asked)})
        told = run.run()
        if self.spec.run.shards > 1:  # each shard kept its own account
            budget.count(told.cost, whole=False)
        self._stop = self._stop or told.stop_reason
        graphs = {(pair.id, name): graph for (pair, name), graph in zip(asked, told.graphs, strict=True)}
        sliced = self._slice(pairs)
        rows = []
        for pair in pairs:
            found = {name: outcome_when(graphs.get((pair.id, name)), self._stop) for name in ("", *self.spec.beside)}
            rows.append(row(pair, found.pop(""), found, sliced=pair.id in sliced))
        return rows, told, budget

    def _made(
        self, models: Sequence[Named], ledger: Ledger, asked: Sequence[Asked], ready: Ready | None = None, *,
        budget: Budget, events: EventSink, run_id: str,
    ) -> GraphRun | ShardedRun:  # fmt: skip
        """Return the run of these items over these models; what a network needs of them is asked first.

        Raises:
            SpecError: a network reads letters, and a model gives no log-probabilities.
        """
        options, policy = self.spec.run, Policy(retries=self.spec.run.retries)
        workers = open_models(models, options, self.spec.prices, ready)
        make = self._maker(workers)
        for model in {id(worker.model): worker.model for worker in workers}.values():
            budget.count(probing_cost(model), whole=False)
        if options.shards == 1:
            graphs, items = [make(one) for one in asked], options.item_limits
            return GraphRun(graphs, workers, ledger, budget, items, events, policy, run_id)
        opened = partial(open_models, models, options.share(options.shards), self.spec.prices, ready)
        limits = options.limits.less(budget.spent)
        plan = ShardPlan(make, opened, ledger.url, limits, options.item_limits, policy, run_id)
        return ShardedRun(asked, plan, options.shards, events)

    def _maker(self, workers: Sequence[CallWorker]) -> GraphMaker:
        """Return what makes the graphs; what a network needs of the models is asked first."""
        networks, prefilled = {"": self.spec.judges, **self.spec.beside}, self._checked(workers)
        names = tuple(dict.fromkeys(worker.pool for worker in workers))
        return GraphMaker(networks, names, self.wording, self.spec.seed, prefilled)

    def _ready(self, models: Sequence[Named]) -> Ready:
        """Open the models that need no cluster and ask what they can do, before anything is written.

        Raises:
            SpecError: a price is missing, or log-probabilities are.
            CallFailed: an endpoint that must be asked does not answer.
        """
        near = [model for model in models if model.kind != "host"]
        opened = {model.text: open_models([model], self.spec.run, self.spec.prices) for model in near}
        self._checked([worker for workers in opened.values() for worker in workers])
        return {text: [worker.model for worker in workers] for text, workers in opened.items()}

    def _named(self) -> list[Named]:
        """Return the models of the spec, fetched where they run here."""
        dtype, device = self.spec.dtype, self.spec.device
        check_endpoints(self.spec, self.spec.model, "judge")
        return [
            named(text, self._pulling, dtype=dtype, device=device, options=options_of(self.spec, text))
            for text in self.spec.model
        ]

    def _checked(self, workers: Sequence[CallWorker]) -> frozenset[str]:
        """Return the models that go on with an answer begun for them; refuse those without log-probabilities.

        Where no network reads letters nobody is asked.
        """
        goes_on = set()
        letters = any(network.scoring == "letters" for network in (self.spec.judges, *self.spec.beside.values()))
        for worker in workers if letters else ():
            capabilities = run_blocking(partial(capabilities_of, worker.model))
            if not capabilities.label_logprobs:
                expected = f"one that scores in text: {worker.pool} gives no log-probabilities"
                raise SpecError("judge.network", self.spec.network, expected)
            if capabilities.continues:
                goes_on.add(worker.pool)
        return frozenset(goes_on)

    def _slice(self, pairs: Sequence[Pair]) -> set[str]:
        """Return the ids that anything may be fitted on, drawn by seed among those with a label."""
        known = [pair.id for pair in pairs if pair.human is not None]
        size = self.spec.slice
        if size is None:
            size = max(LEAST_SLICE, len(known) // 10) if len(known) >= 3 * LEAST_SLICE else 0
        order = sorted(known, key=lambda id_: generator(self.spec.seed, "slice", id_).random())
        return set(order[: min(size, len(known))])

    def _finish(
        self, folder: RunFolder, resolved: JSON, rows: Sequence[ItemVerdict], told: GraphResult, budget: Any
    ) -> JudgeResult:
        """Write verdicts, result, timing and report."""
        from ..report.judge_page import render

        plain = [item.model_dump(mode="json") for item in rows]
        write_text(
            folder.path / "verdicts.jsonl",
            "".join(json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n" for item in plain),
        )
        result = self._result(SCHEMA, resolved, summary=summarise(rows, self.spec.judges), items=plain)
        timing = self._timing(budget, told.counts, told.cost, kinds=kinds_of(told.graphs))
        self._write(folder, result, timing, render)
        return JudgeResult(folder.path, result, timing)

    def compare(self, question: str, a: str, b: str, *, address: str | None = None) -> Outcome:
        """Return what the network holds of two answers; `model1` is `a`.

        Models stay up until `close`, and the limits of the spec are for all comparisons until then together.
        """
        return run_blocking(lambda: self.compare_async(question, a, b, address=address))

    async def compare_async(self, question: str, a: str, b: str, *, address: str | None = None) -> Outcome:
        """Return what the network holds of two answers, inside a running event loop."""
        if not a.strip() or not b.strip():
            return outcome_of(None, "EmptyAnswer")
        live = await asyncio.to_thread(self._compared, address)
        return await live.outcome(Pair(id="pair", query=question, response1=a, response2=b))

    def _compared(self, address: str | None) -> Comparing:
        """Return what `compare` works with, opened on first use; what a failed opening had opened is given up."""
        with self._opening:
            if self._live is None:
                with ExitStack() as stack:
                    models = self._named()
                    if cpus := self._cpus(models):
                        stack.enter_context(cluster(address, cpus=cpus))
                    place = stack.enter_context(tempfile.TemporaryDirectory())
                    ledger = Ledger(self.spec.run.ledger or Path(place) / "ledger.db")
                    stack.callback(ledger.close)
                    workers = open_models(models, self.spec.run, self.spec.prices)
                    make = self._maker(workers)
                    self._live = Comparing(stack.pop_all(), self.spec.run, ledger, workers, make)
            return self._live

    def close(self) -> None:
        """Give up what `compare` opened."""
        if self._live is not None:
            self._live.stack.close()
            self._live = None

    def __enter__(self) -> "Judge":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cpus(self, models: Sequence[Named]) -> int:
        """Return the cores that hosts and shards need; 0 where every judge is an endpoint, and Ray is not needed."""
        shards = math.ceil(SHARD_CPUS * self.spec.run.shards) if self.spec.run.shards > 1 else 0
        return self.spec.run.actors * sum(model.kind == "host" for model in models) + shards

    def _resolved(self, models: Sequence[Named]) -> dict[str, JSON]:
        """Return what the spec's names stood for."""
        return {
            "models": [model.resolved for model in models],
            "network": self.spec.judges.model_dump(mode="json"),
            "prompts": self.wording.hash,
            "items": len(self.pairs),
            "data_sha256": rows_digest(self.pairs),
        }


def kinds_of(graphs: Sequence[Graph]) -> dict[str, dict[str, float]]:
    """Return what each kind of call took, found ones at what they took when they were paid."""
    kinds: dict[str, dict[str, float]] = {}
    for graph in graphs:
        for id_, state in graph.states.items():
            if state.cost:
                kind = kinds.setdefault(graph.nodes[id_].task.name, {})
                for name, part in state.cost.items():
                    kind[name] = kind.get(name, 0.0) + part
    return kinds
