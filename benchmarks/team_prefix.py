"""Three agents of one block through one model host, with the beginning of their prompts shared against computed anew.

    python benchmarks/team_prefix.py [--items 4] [--rounds 3] [--tokens 4]

smollm2-135m on Ray. The question is a worksheet of sixteen shipped ones, of which one is to be answered; three agents
with instructions of their own vote. System message, worksheet and task come first and are the same for all three, role,
instructions and form come last. Both sides run the same graphs, one host with a cache of prompt blocks and one without;
every round has items that neither has seen, so that rounds share nothing but the system message. Answers are cut after
a few tokens, so that reading prompts is nearly all of the work: with long answers the ratio falls towards 1. Both sides
must say the same, and the prompts must share what they should, template and all.

`ratio` is prompt tokens sent a second with the cache over without. `least` counts each token once that some call shares
with an earlier one: what a cache without blocks would compute. `asked_again` counts second tries, whose prompts go on
from the first ones. Last line: JSON.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import ray
from plait import Ledger, ensure
from plait.agents.teams.forward import TeamGraphs
from plait.agents.teams.items import TaskItem, task_item
from plait.graphs import Graph
from plait.models.chat import GREEDY, AroundChat, ChatModel, Message, Reply, Sampling
from plait.models.chat_template import ChatTemplate
from plait.models.evaluator import ScorerSpec
from plait.models.host import HostSpec, model_host
from plait.models.host_chat import HostChat
from plait.orchestrator.calls import CallWorker
from plait.orchestrator.graph_run import GraphRun
from plait.orchestrator.limiter import Limiter
from plait.orchestrator.recipes.judge_models import HOST_CALLS
from plait.orchestrator.recipes.team_data import load_items
from plait.records import generator
from plait.teams import AgentSpec, Aggregator, Block, LayerSpec, Schema, TeamSpec
from transformers import AutoTokenizer

MODEL, QUESTIONS, TASK = "smollm2-135m", 16, "Answer the question that is asked of the worksheet."
TOLD = {
    "a patient teacher": "Read the question twice. Say what is asked before you answer, and name the rule you use.",
    "a quick solver": "Trust the first idea that fits the whole question, and answer in as few words as you can.",
    "a careful checker": "Think of the mistake that others would make here, and make sure that your answer is not it.",
}
"""Roles of the agents and what each is told."""

Prompt = tuple[int, ...]
"""Tokens of a call, the chat template among them."""


class Took(NamedTuple):
    """What a pass over items took: seconds, tokens sent and computed, calls, and what the agents said."""

    seconds: float
    sent: int
    computed: int
    calls: int
    said: list[str]


@dataclass
class Noting(AroundChat):
    """A chat model that remembers what it was asked."""

    model: ChatModel
    asked: list[list[Message]] = field(default_factory=list)

    async def generate(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Reply:
        """Pass the call on."""
        self.asked.append(list(messages))
        return await self.model.generate(messages, sampling)


@dataclass
class HostSide:
    """One side: a host, and the graphs that go through it."""

    host: Any
    chat: Noting
    graphs: TeamGraphs

    @classmethod
    def of(cls, spec: HostSpec, team: TeamSpec) -> "HostSide":
        """Start the host."""
        chat = Noting(HostChat.on_ray(spec))
        return cls(model_host(spec), chat, TeamGraphs(team, {"": chat.name}))

    def run(self, items: Sequence[TaskItem]) -> Took:
        """Return what a pass over `items` took, its ledger new."""
        self.chat.asked.clear()
        before = self._counted()
        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(Path(folder) / "ledger.db")
            started = time.perf_counter()
            made = [Graph(item.id, self.graphs.nodes(item)) for item in items]
            GraphRun(made, [CallWorker(self.chat, Limiter(most=HOST_CALLS))], ledger).run()
            seconds = time.perf_counter() - started
            ledger.close()
        assert not any(graph.failed for graph in made)
        sent, computed = (after - at for at, after in zip(before, self._counted(), strict=True))
        said = [graph.output(f"solve/trio/agent-{place}#0").text for graph in made for place in range(len(TOLD))]
        return Took(seconds, sent, computed, len(self.chat.asked), said)

    def _counted(self) -> tuple[int, int]:
        """Return the prompt tokens that the host was sent and computed so far."""
        counters = ray.get(self.host.chat_facts.remote())["counters"]
        return counters["sent"], counters["computed"]


def team(tokens: int) -> TeamSpec:
    """Return the team: one layer of three agents that vote, answers cut after `tokens`."""
    word = Schema(kind="word")
    agents = tuple(
        AgentSpec(name=f"agent-{place}", role=role, instructions=told, output=word, max_tokens=tokens)
        for place, (role, told) in enumerate(TOLD.items())
    )
    block = Block(name="trio", agents=agents, aggregate=Aggregator(kind="majority"))
    return TeamSpec(layers=(LayerSpec(name="solve", task=TASK, blocks=(block,)),), answer=word)


def worksheet(index: int) -> TaskItem:
    """Return an item of a long question; its number comes first, so that two items part after a few words."""
    draw = generator(0, "team-prefix", index)
    asked = draw.choice(load_items("plait:words"))
    every = [item for name in ("words", "booleans", "numbers") for item in load_items(f"plait:{name}")]
    shown = [asked, *draw.sample([item for item in every if item != asked], QUESTIONS - 1)]
    draw.shuffle(shown)
    lines = [f"{number}. {item.question}" for number, item in enumerate(shown, 1)]
    wanted = f"Answer question {shown.index(asked) + 1} of the worksheet, and no other."
    return task_item("\n".join([f"Worksheet {index}", *lines, "", wanted]), "word", asked.gold)


def shared_tokens(prompts: Sequence[Prompt]) -> int:
    """Return with how many equal tokens all `prompts` begin."""
    equal = (len(set(column)) == 1 for column in zip(*prompts, strict=False))
    return sum(1 for _ in takewhile(bool, equal))


def least_tokens(prompts: Iterable[Prompt], known: dict[tuple[int, int], int]) -> int:
    """Return the tokens of `prompts` that begin none before, and add all to `known`: (beginning, token) to longer."""
    before = len(known)
    for prompt in prompts:
        at = 0
        for token in prompt:
            at = known.setdefault((at, token), len(known) + 1)
    return len(known) - before


def prompts_of(side: HostSide, items: Sequence[TaskItem], template: ChatTemplate, tokenizer: Any) -> list[Prompt]:
    """Return the first questions just asked; all that agents of an item have in common must come first."""
    firsts = [messages for messages in side.chat.asked if len(messages) == 2]
    prompts: list[Prompt] = []
    for item in items:
        material = side.graphs.wording.material(item, [], TASK)
        mine = [template.tokens(one) for one in firsts if material in one[-1]["content"]]
        assert len(mine) == len(TOLD)
        assert material in tokenizer.decode(mine[0][: shared_tokens(mine)]), "agents' prompts differ before the task"
        prompts += mine
    return prompts


def main() -> None:
    """Measure both sides in turn and print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=4)
    given = parser.parse_args()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, namespace="plait")
    local = ensure(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(local.folder)
    template, spec, asked = ChatTemplate(tokenizer), HostSpec(MODEL, ScorerSpec(local.model_hash)), team(given.tokens)
    # Both specs would have one name, and so be one host, were they the same replica.
    reuse, anew = (HostSide.of(one, asked) for one in (spec, replace(spec, replica=1, prefix_bytes=0)))
    warm = [worksheet(0)]
    assert reuse.run(warm).said == anew.run(warm).said
    rounds, prompts = list[tuple[Took, Took]](), [prompts_of(reuse, warm, template, tokenizer)]
    for index in range(given.rounds):
        items = [worksheet(1 + index * given.items + place) for place in range(given.items)]
        took = {id(side): side.run(items) for side in ((reuse, anew) if index % 2 else (anew, reuse))}
        rounds.append((took[id(reuse)], took[id(anew)]))
        assert rounds[-1][0].said == rounds[-1][1].said, "a shared block changed an answer"
        prompts.append(prompts_of(reuse, items, template, tokenizer))
    ray.shutdown()
    print(json.dumps(summary(rounds, prompts, given.tokens)))


def summary(rounds: Sequence[tuple[Took, Took]], prompts: Sequence[list[Prompt]], tokens: int) -> dict[str, Any]:
    """Return the line; the first of `prompts` are those that warmed both sides up."""
    rates = [(mine.sent / mine.seconds, other.sent / other.seconds) for mine, other in rounds]
    ratios = sorted(mine / other for mine, other in rates)
    sent, computed, calls = (sum(getattr(mine, name) for mine, _ in rounds) for name in ("sent", "computed", "calls"))
    firsts = [prompt for part in prompts[1:] for prompt in part]
    shared = [shared_tokens(firsts[at : at + len(TOLD)]) for at in range(0, len(firsts), len(TOLD))]
    known: dict[tuple[int, int], int] = {}
    least_tokens(prompts[0], known)
    return {
        "name": "team_prefix",
        "ratio": round(statistics.median(ratios), 2),  # above 1: sharing is faster
        "cores": len(os.sched_getaffinity(0)),
        "range": [round(ratios[0], 2), round(ratios[-1], 2)],
        "tokens_per_second": [round(statistics.median(side)) for side in zip(*rates, strict=True)],
        "calls": calls,
        "asked_again": calls - len(firsts),
        "answer_tokens": tokens,
        "prompt": round(statistics.mean(map(len, firsts))),
        "shared": round(statistics.mean(shared)),
        "sent": sent,
        "computed": computed,
        "computed_without_reuse": sum(other.computed for _, other in rounds),
        "least": least_tokens(firsts, known),
        "sent_over_computed": round(sent / computed, 2),
        "target": 1.5,
    }


if __name__ == "__main__":
    main()
