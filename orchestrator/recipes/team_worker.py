"""Trials of a search over teams as graphs of calls: the worker of a study whose every call is in the ledger too.

A trial is one pass of a team over an item, one critique or one repair. Those that a study sends at once are run as
one set of graphs, so that all their calls share the limits of their endpoints; what an unchanged layer was asked
before is found by content and costs nothing. Knows no search.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from ...agents.teams.forward import TeamGraphs
from ...agents.teams.gradient_given import CritiqueGiven, Finding, RepairGiven, Sample, statistic_lines
from ...agents.teams.gradients import Critique, Repair, critique_node, repair_node, steps_of
from ...agents.teams.items import TaskItem
from ...agents.teams.losses import SCORE, score_node
from ...agents.teams.trace import layer_stats, path_calls, trace_of
from ...agents.teams.wording import Wording
from ...graphs import Graph
from ...records import JSON, EventSink, Failed, Outcome, Request, Scored
from ...search import textual_trials as trials
from ...teams import TeamSpec
from ..budget import Budget
from ..calls import CallWorker
from ..counts import Counts
from ..driver import summed
from ..graph_run import GraphRun
from ..ledger import Ledger
from ..paying import Policy

STOPPED = "Stopped"
"""Reason of a trial that a stop or the budget ended: it is no failure, and a resumed run makes it."""
ANSWER = "answer"
"""Node of a critique's or a repair's graph."""


@dataclass(frozen=True)
class TeamSetup:
    """What trials are run with.

    Attributes:
        items: By id.
        train: Ids of those whose answers a critique may hold.
        models: Chat models' names, by what teams call them; "" is the agents' own.
        optimiser: Name of the model that criticises and repairs.
        judge: Name of the model that scores free text; "" for the agents' own.
        wording: What agents are told.
        critique: How critics are asked.
        repair: How repairs are asked.
        seed: Of the run.
        identities: Of all chat models, by name.
    """

    items: Mapping[str, TaskItem]
    train: frozenset[str]
    models: Mapping[str, str]
    optimiser: str
    judge: str = ""
    wording: Wording = field(default_factory=Wording)
    critique: Critique = field(default_factory=Critique)
    repair: Repair = field(default_factory=Repair)
    seed: int = 0
    identities: Mapping[str, JSON] = field(default_factory=dict)

    name: ClassVar[str] = "team"
    version: ClassVar[int] = 1

    @property
    def spec(self) -> JSON:
        """What a trial's values depend on beside the trial: models, prompts, sampling, seed."""
        return {
            "models": dict(self.models), "optimiser": self.optimiser, "judge": self.judge,
            "identities": dict(self.identities), "prompts": self.wording.hash,
            "critique": self.critique.spec, "repair": self.repair.spec, "seed": self.seed,
        }  # fmt: skip

    def forward(self, trial: trials.Forward) -> Graph:
        """Return the graph of a pass, its answer scored."""
        item = self.items[trial.item]
        loss = partial(score_node, judge_model=self.judge or self.models[""])
        made = TeamGraphs(trial.team, self.models, self.wording, self.seed, loss)
        return Graph(item.id, made.nodes(item, trial.sample, trial.resample, trial.donor, trial.donor_sample))

    def criticised(self, trial: trials.Critique, shown: Sequence[Graph]) -> Graph:
        """Return the graph of a critique of these passes, which are done."""
        samples = [self._sample(graph, trial.team) for graph in shown if graph.failed is None]
        lines = statistic_lines(trial.stats)
        given = CritiqueGiven(team=trial.team, scope=trial.scope, statistics=lines, shown=tuple(samples))
        node = critique_node(ANSWER, self.optimiser, given, task=self.critique, seed=self.seed)
        return Graph(f"critique of {trial.scope or 'the team'}", [node])

    def repaired(self, trial: trials.Repair, shown: Sequence[Graph] = ()) -> Graph:
        """Return the graph of a repair that is shown these passes, which are done."""
        aim = trial.finding
        samples = tuple(self._sample(graph, trial.team) for graph in shown if graph.failed is None)
        given = RepairGiven(
            team=trial.team, finding=Finding(layer=aim.layer, agent=aim.agent, kind=aim.kind, text=aim.text),
            critiques=dict(trial.critiques), weights=dict(trial.weights), memory=trial.memory, refused=trial.refused,
            shown=samples, edits=trial.edits,
        )  # fmt: skip
        node = repair_node(ANSWER, self.optimiser, given, trial.index, task=self.repair, seed=self.seed)
        return Graph(f"repair {trial.index}", [node])

    def _sample(self, graph: Graph, team: TeamSpec) -> Sample:
        assert graph.item in self.train, "a critic was to be shown an item that is not for training"
        score = graph.output(SCORE)
        question, told = self.items[graph.item].question, score.feedback
        return Sample(item=graph.item, question=question, score=score.score, feedback=told, trace=steps_of(graph, team))


@dataclass
class TeamWorker:
    """Runs the trials of a study.

    Attributes:
        setup: What they are run with.
        workers: The chat models and the sandbox.
        ledger: Of calls; an object of its own, the study's is in use meanwhile.
        budget: Of calls, tokens, money and seconds.
        stopped: Told why, where a budget ends the calls: the study is to end too.
        batch: Requests at once: all there are.
        slots: Batches at once: calls of one batch share the limits of their endpoints.
    """

    setup: TeamSetup
    workers: Sequence[CallWorker]
    ledger: Ledger
    budget: Budget
    events: EventSink
    policy: Policy
    run_id: str
    stopped: Callable[[str], None] = lambda reason: None
    name: str = "teams"
    batch: int = 1_000_000
    slots: int = 1
    counts: Counts = field(default_factory=Counts)
    cost: dict[str, float] = field(default_factory=dict)
    _current: GraphRun | None = None
    _reason: str = ""
    _ended: int = 0

    async def run(self, requests: Sequence[Request]) -> list[Outcome]:
        """Return one outcome a trial, in order; one whose calls could not be ended is `Failed`."""
        asked = [trials.parse(request.candidate) for request in requests]
        passes = {trial.key: trial for trial in asked if isinstance(trial, trials.Forward)}
        read = {trial.key: _shown(trial) for trial in asked if not isinstance(trial, trials.Forward)}
        passes |= {one.key: one for shown in read.values() for one in shown}
        done = await self._graphs({key: self.setup.forward(trial) for key, trial in passes.items()})
        calls = {}
        for trial in asked:
            shown = [done[one.key] for one in read.get(trial.key, ())]
            if isinstance(trial, trials.Critique):
                calls[trial.key] = self.setup.criticised(trial, shown)
            elif isinstance(trial, trials.Repair):
                calls[trial.key] = self.setup.repaired(trial, shown)
        done |= await self._graphs(calls)
        return [self._outcome(trial, done[trial.key]) for trial in asked]

    async def revive(self) -> None:
        """Do nothing: it lives in this process."""

    def begin(self, stopped: Callable[[str], None]) -> None:
        """Begin the trials of another study, which is told where a budget ends the calls."""
        self.stopped, self._reason, self._ended = stopped, "", 0

    def request_stop(self, reason: str) -> None:
        """Start no further call, and let those in flight come home."""
        self._reason = self._reason or reason
        if self._current is not None:
            self._current.request_stop(reason)

    async def close(self) -> None:
        """Close the models' connections, which belong to the running loop."""
        for worker in self.workers:
            await worker.model.close()

    async def _graphs(self, graphs: dict[str, Graph]) -> dict[str, Graph]:
        """Run graphs to their ends, or as far as the budget goes."""
        if not graphs:
            return {}
        run = self._current = GraphRun(
            list(graphs.values()), self.workers, self.ledger, self.budget, None, self._tell, self.policy, self.run_id
        )
        if self._reason:
            run.request_stop(self._reason)
        result = await run.run_async()
        self._current = None
        self.counts.add(result.counts)
        self.cost = summed([self.cost, result.cost])
        self._ended += len(graphs)
        if result.stop_reason:
            self._reason = self._reason or result.stop_reason
            self.stopped(self._reason)
        return graphs

    def _tell(self, kind: str, fields: Mapping[str, JSON]) -> None:
        """Pass an event on; progress counts all graphs of the phase, whose number only the search knows."""
        if kind == "progress":
            counts = {name: value + fields[name] for name, value in vars(self.counts).items()}
            cost = {name: self.cost.get(name, 0.0) + fields[name] for name in ("calls", "tokens", "usd")}
            fields = {**fields, **counts, **cost, "told": self._ended + fields["told"], "total": None}
        self.events(kind, fields)

    def _outcome(self, trial: trials.TextualTrial, graph: Graph) -> Outcome:
        if not graph.done:
            return Failed(STOPPED, self._reason)
        failed = graph.failed
        if failed is not None:
            return Failed(failed.reason, failed.detail)
        if isinstance(trial, trials.Forward):
            return Scored(_pass_values(graph, trial.team))
        said = graph.output(ANSWER)
        if isinstance(trial, trials.Critique) and said.error:
            return Failed("Unparsable", said.error)
        values = said.model_dump(mode="json", exclude={"asked", "unknown"})
        return Scored({**values, "tokens": int(graph.states[ANSWER].cost.get("tokens", 0.0))})


def _shown(trial: trials.Critique | trials.Repair) -> list[trials.Forward]:
    """Return the passes that a critique or a repair reads; the ledger has their calls."""
    return [trials.Forward(trial.team, item, sample) for item, sample in trial.shown]


def _pass_values(graph: Graph, team: TeamSpec) -> dict[str, JSON]:
    rows, layers = trace_of(graph, team), layer_stats(graph, team)
    out = graph.output(f"{team.layers[-1].name}/out")
    return {
        "score": graph.output(SCORE).score,
        "calls": sum(int(graph.states[row.node].cost.get("calls", 1.0)) for row in rows),
        "tokens": int(sum(row.tokens for row in rows)),
        "path": path_calls(graph),
        "unparsed": sum(int(stats.get("unparsed", 0)) for stats in layers.values()),
        "answer": out.value,
        "layers": layers,
    }
