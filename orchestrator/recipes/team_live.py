"""A team in the hand: questions answered one by one, or side by side, over models that stay open."""

import asyncio
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Self

from ...agents.teams.forward import TeamGraphs
from ...agents.teams.items import TaskItem, task_item
from ...agents.teams.losses import SCORE, score_node
from ...agents.teams.trace import TraceRow, trace_of
from ...agents.teams.wording import Wording
from ...graphs import Graph
from ...records import JSON
from ...teams import Schema, TeamSpec
from ..budget import Budget
from ..cluster import cluster
from ..graph_run import GraphRun
from ..ledger import Ledger
from ..loops import run_blocking
from ..paying import Policy
from ..spec import validated
from .team_answers import TeamAnswers, TeamAnswersResult
from .team_base import GivenTeam, check_kind, given_team
from .team_models import OpenModels, team_models
from .team_spec import TeamRunSpec


@dataclass(frozen=True)
class TeamAnswer:
    """What a team says.

    Attributes:
        value: The answer as it was read: a plain number, a label, `true`, a program, JSON of named values; None where
            none could be read.
        text: What the last layer said.
        score: Against the item's right answer, 0 to 1; None for a bare question, and where nothing was scored.
        failed: Why there is no answer: a call that failed, or a budget; "" where there is one.
        trace: Every call, in order.
    """

    value: str | None
    text: str
    score: float | None
    failed: str
    trace: tuple[TraceRow, ...]

    @property
    def tokens(self) -> int:
        """Tokens in and out of the agents and selectors; what the ledger had counts as when it was paid."""
        return int(sum(row.tokens for row in self.trace))


class Team:
    """A team that answers questions.

    >>> Team.load("team.yaml", model="smollm2-135m").run("What is 2 + 3?").value  # doctest: +SKIP
    '5'

    Args:
        team: The team, or a file of one.
        settings: Fields of `TeamRunSpec`: model, judge, prompts, prices, seed, run, ...

    Raises:
        SpecError: a setting cannot run, or the team is not well formed.
    """

    def __init__(self, team: GivenTeam, **settings: Any) -> None:
        self.team: TeamSpec = given_team(team)
        self._settings = settings
        plain = self.team.model_dump(mode="json", exclude_defaults=True)
        self.spec = validated(TeamRunSpec, {"team": plain, **settings}, "team")
        self.wording = Wording(None if self.spec.prompts is None else Path(self.spec.prompts))
        self._live: _Live | None = None
        self._opening = Lock()

    @classmethod
    def load(cls, path: str | Path, **settings: Any) -> Self:
        """Return the team in a file, or the answer of the training run in a folder."""
        place = Path(path)
        return cls(place / "team.yaml" if place.is_dir() else place, **settings)

    def run(self, asked: TaskItem | str, *, sample: int = 0, address: str | None = None) -> TeamAnswer:
        """Return the answer to an item, which is scored, or to a bare question, which is not.

        Models stay up until `close`, and the limits of the spec are for all questions until then together.

        Args:
            asked: The question.
            sample: Another index draws anew, where agents have a temperature.
            address: Of an existing Ray cluster, where a model is a host of ours.
        """
        return run_blocking(partial(self.run_async, asked, sample=sample, address=address))

    async def run_async(self, asked: TaskItem | str, *, sample: int = 0, address: str | None = None) -> TeamAnswer:
        """Return the answer to an item or a bare question, inside a running event loop."""
        scored = isinstance(asked, TaskItem)
        item = asked if isinstance(asked, TaskItem) else bare_item(asked, self.team.answer)
        check_kind(self.team, item, "item")
        live = await asyncio.to_thread(self._opened, address)
        loss = partial(score_node, judge_model=live.models.pool("judge")) if scored else None
        made = TeamGraphs(self.team, live.models.agents, self.wording, self.spec.seed, loss)
        graph = Graph(item.id, made.nodes(item, sample))
        stopped = await live.carry_out(graph)
        return _answer(graph, self.team, made.answer_id, stopped)

    def over(self, data: Any, out: str | Path | None = None, *, address: str | None = None) -> TeamAnswersResult:
        """Answer a source of items, or items, into a run folder: accuracy, failures, answers as JSON lines."""
        return TeamAnswers(self.team, data, **self._settings).run(out, address=address)

    def close(self) -> None:
        """Give up what was opened."""
        if self._live is not None:
            self._live.stack.close()
            self._live = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened(self, address: str | None) -> "_Live":
        """Return what questions are answered with, opened on first use; a failed opening leaves nothing open."""
        with self._opening:
            if self._live is None:
                with ExitStack() as stack:
                    parts: Mapping[str, str | None] = {"judge": self.spec.judge} if self.spec.judge else {}
                    models = team_models(self.spec, self.team, parts, lambda stage, done, total: None)
                    if models.hosts:
                        stack.enter_context(cluster(address, cpus=self.spec.run.actors * models.hosts))
                    place = stack.enter_context(tempfile.TemporaryDirectory())
                    ledger = Ledger(self.spec.run.ledger or Path(place) / "ledger.db")
                    stack.callback(ledger.close)
                    live = _Live(stack, ledger, models.opened(self.spec), self.spec)
                    live.stack = stack.pop_all()
                    self._live = live
            return self._live


class _Live:
    """Open models, one ledger, one budget for all questions."""

    def __init__(self, stack: ExitStack, ledger: Ledger, models: OpenModels, spec: TeamRunSpec) -> None:
        self.stack, self.models = stack, models
        self._ledger, self._spec, self._budget, self._running = ledger, spec, Budget(spec.run.limits), 0

    async def carry_out(self, graph: Graph) -> str:
        """Run a graph to its end; return why it was stopped before, "" where it was not."""
        options, owner = self._spec.run, secrets.token_hex(8)  # each its own, for its claims
        run = GraphRun(
            [graph], self.models.workers, self._ledger, self._budget, options.item_limits,
            policy=Policy(retries=options.retries), run_id=owner,
        )  # fmt: skip
        self._running += 1
        try:
            return (await run.run_async()).stop_reason
        finally:
            self._running -= 1
            if not self._running:  # the connections belong to the running loop; others may be using them
                await run.close()


def bare_item(question: str, asked: Schema) -> TaskItem:
    """Return an item of a bare question, for a team alone: what stands for its right answer is never looked at.

    Raises:
        SpecError: the question is empty.
    """
    gold: dict[str, JSON] = {
        "number": 0, "word": "-", "boolean": False, "option": "A", "values": dict.fromkeys(asked.fields, "-"),
    }  # fmt: skip
    more: dict[str, Any] = {"options": asked.options} if asked.kind == "option" else {}
    if asked.kind == "code":
        more = {"entry_point": "-", "tests": ("pass",)}
    return task_item(question, asked.kind, gold.get(asked.kind), **more)


def _answer(graph: Graph, team: TeamSpec, answer_id: str, stopped: str) -> TeamAnswer:
    trace = tuple(trace_of(graph, team))
    failed = graph.failed
    if failed is not None or not graph.done:
        return TeamAnswer(None, "", None, failed.reason if failed is not None else stopped, trace)
    out = graph.output(answer_id)
    score = graph.output(SCORE).score if SCORE in graph.nodes else None
    return TeamAnswer(out.value, out.text, score, "", trace)
