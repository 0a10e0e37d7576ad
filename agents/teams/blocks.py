"""The nodes of one block on one item: its agents, what its aggregator asks beside them, and the layer's output.

Ids: `LAYER/BLOCK/AGENT#k` is what the k-th sample of an agent said; `.../program` the call that wrote the program it
ran, `.../rN` what it said in round N of a debate, `.../examples` the run of its program; `LAYER/BLOCK/choice` and
`LAYER/BLOCK/synthesis` are an aggregator's calls; `LAYER/out` is what the layer came to. `donor:` before an id is
another team's node. Neither the team's hash nor a layer's place is part of any task or input, so layers that an edit
left alone cost nothing again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ...graphs import Node
from ...records import generator, seed_of
from ...teams import AgentSpec, Block, LayerSpec, Schema
from .agent import AskAgent, Asked, RunProgram, Said, Written
from .aggregate import CombineOutputs, Outputs
from .combining import Candidates, ChooseBest, Example, TryExamples
from .items import TaskItem
from .parsing import NOTHING_MORE, Sought
from .wording import Wording, Work, fenced

SANDBOX = "sandbox"
"""Name of the model that runs programs."""

DONOR = "donor:"
"""Begins the ids of a donor's nodes; no layer's name holds a colon."""

Told = Mapping[str, Any]
"""Outputs of nodes, by id."""
Shown = Callable[[Told], str]
"""Makes what an agent is shown of its colleagues' answers."""


def nothing(outputs: Told) -> str:
    """Show no colleague's answer."""
    return ""


class Seat(NamedTuple):
    """One sample of one agent: `k` counts the agent's own samples, `draw` those of all equal agents of the block."""

    agent: AgentSpec
    k: int
    draw: int


@dataclass(frozen=True)
class Place:
    """Where the nodes of a block stand.

    Attributes:
        item: What is asked.
        layer: The layer.
        reads: Names of the layers whose outputs it is shown.
        above: Ids of the nodes that all calls of the layer take: the selection, the outputs it reads.
        wording: The prompts.
        models: Names of the chat models, by what agents call them.
        seed: Of the run.
        sample: Index of the sample.
    """

    item: TaskItem
    layer: LayerSpec
    reads: tuple[str, ...]
    above: tuple[str, ...]
    wording: Wording
    models: Mapping[str, str]
    seed: int
    sample: int

    @property
    def out(self) -> str:
        """Id of the layer's output."""
        return out_id(self.layer.name)

    def work(self, outputs: Told) -> list[Work]:
        """Return what the layers it reads came to."""
        return [Work(name, outputs[out_id(name)].text) for name in self.reads]

    def material(self, outputs: Told) -> str:
        """Return what all agents of the layer are shown first."""
        return self.wording.material(self.item, self.work(outputs), self.layer.task)

    def schema(self, schema: Schema) -> Schema:
        """Return a schema with the labels or names of the item where both are of that kind."""
        return self.item.asked if schema.kind == self.item.kind and schema.kind in ("option", "values") else schema

    def sought(self, schema: Schema) -> Sought:
        """Return what an answer of a schema is read for, where it is of the item's kind."""
        if schema.kind != self.item.kind or schema.kind not in ("option", "code"):
            return NOTHING_MORE
        return Sought(choices=self.item.options, entry_point=self.item.entry_point)


def out_id(layer: str) -> str:
    """Return the id of a layer's output."""
    return f"{layer}/out"


def donor_id(id_: str) -> str:
    """Return the id that a node of a donor has in another team's graph."""
    return f"{DONOR}{id_}"


def block_nodes(place: Place, block: Block) -> list[Node]:
    """Return the nodes of a block; the last is the layer's output."""
    kind = block.aggregate.kind
    if kind == "chain":
        made, ids = _chain(place, block)
    else:
        made, ids = _side_by_side(place, block)
    more, feed = _after(place, block, ids)
    made = [*made, *more]
    first = block.agents[0].output
    counted = first.kind != "text" and all(agent.output == first for agent in block.agents)
    parents = tuple(dict.fromkeys([*ids, *(node.id for node in more)]))
    return [*made, Node(place.out, CombineOutputs(kind, counted), feed, parents, label=f"{place.layer.name}: {kind}")]


def _side_by_side(place: Place, block: Block) -> tuple[list[Node], list[str]]:
    """Return agents that answer at once, in a debate also in its rounds; and the ids of the outputs that count."""
    seats = _seats(block)
    made: list[Node] = []
    for seat in seats:
        made += _call(place, block, seat)
    ids = [_id(place, block, seat) for seat in seats]
    for turn in range(1, block.aggregate.rounds + 1) if block.aggregate.kind == "debate" else ():
        for own, seat in enumerate(seats, 1):
            shown = _answers(place, ids, own)
            made += _call(place, block, seat, f"/r{turn}", "debate", tuple(ids), shown)
        ids = [f"{_id(place, block, seat)}/r{turn}" for seat in seats]
    return made, ids


def _chain(place: Place, block: Block) -> tuple[list[Node], list[str]]:
    """Return agents that answer one after another, each shown the answers before its own."""
    made: list[Node] = []
    ids: list[str] = []
    for seat in _seats(block):
        form, shown = ("chain", _answers(place, ids)) if ids else ("agent", nothing)
        made += _call(place, block, seat, "", form, tuple(ids), shown)
        ids = [*ids, _id(place, block, seat)]
    return made, ids


def _seats(block: Block) -> list[Seat]:
    """Return the samples that take part; agents that differ in nothing but their names draw one after another."""
    once = block.aggregate.kind in ("single", "chain")
    agents = block.agents[:1] if block.aggregate.kind == "single" else block.agents
    seen: dict[str, int] = {}
    seats = []
    for agent in agents:
        alike = agent.model_copy(update={"name": "", "n": 1}).model_dump_json()
        for k in range(1 if once else agent.n):
            seats.append(Seat(agent, k, seen.get(alike, 0)))
            seen[alike] = seats[-1].draw + 1
    return seats


def _id(place: Place, block: Block, seat: Seat) -> str:
    return f"{place.layer.name}/{block.name}/{seat.agent.name}#{seat.k}"


def _call(
    place: Place, block: Block, seat: Seat, turn: str = "", template: str = "agent", after: tuple[str, ...] = (),
    shown: Shown = nothing,
) -> list[Node]:  # fmt: skip
    """Return the node of one agent's answer, before it the call that writes its program if it answers by one."""
    agent, id_, label = seat.agent, _id(place, block, seat) + turn, f"{seat.agent.name}{turn}"
    schema, runs = place.schema(agent.output), "python" in agent.tools
    form = place.wording.form(schema, program=runs, files=[file.name for file in place.item.files])
    # A program that is run prints the answer: it need not define what the item asks for.
    written_as, sought = (Schema(kind="code"), NOTHING_MORE) if runs else (schema, place.sought(schema))
    task = AskAgent(place.wording, written_as, form, agent.temperature, agent.max_tokens, sought)
    drawn = seed_of(place.seed, "team", place.sample, seat.draw) % 2**31 if agent.temperature else seat.draw

    def feed(outputs: Told) -> Asked:
        ends = place.wording.render(template, role=agent.role, instructions=_told(place, agent, outputs), form=form)
        return Asked(prompt="\n".join(filter(None, (place.material(outputs), shown(outputs), ends))))

    call = Node(
        f"{id_}/program" if runs else id_, task, feed, (*place.above, *after), place.models[agent.model], drawn,
        place.sample, f"{place.item.id}/{place.layer.name}", label=f"{label} program" if runs else label,
    )  # fmt: skip
    if not runs:
        return [call]

    def written(outputs: Told) -> Written:
        said: Said = outputs[call.id]
        return Written(program=said.value, files=place.item.files, error=said.error)

    return [call, Node(id_, RunProgram(schema, place.sought(schema)), written, (call.id,), SANDBOX, label=label)]


def _told(place: Place, agent: AgentSpec, outputs: Told) -> str:
    """Return an agent's instructions with what they name in braces filled in."""
    work = "\n".join(one.text for one in place.work(outputs)) or place.item.question
    filled = {"question": fenced(place.item.question), "input": fenced(work), "task": place.layer.task}
    return agent.instructions.format_map(filled).strip()


def _answers(place: Place, ids: Sequence[str], own: int = 0) -> Shown:
    return lambda outputs: place.wording.shown([outputs[id_].text for id_ in ids], own)


def _after(place: Place, block: Block, ids: list[str]) -> tuple[list[Node], Callable[[Told], Outputs]]:
    """Return the aggregator's own nodes, and the feed of the layer's output."""

    def said(outputs: Told) -> tuple[Said, ...]:
        return tuple(outputs[id_] for id_ in ids)

    kind = block.aggregate.kind
    if kind == "best_of":
        choice = _choice(place, block, ids, said)
        return [choice], lambda outputs: Outputs(said=said(outputs), chosen=outputs[choice.id].place)
    if kind == "synthesize":
        synthesis = _synthesis(place, block, ids)
        return [synthesis], lambda outputs: Outputs(said=said(outputs), synthesis=outputs[synthesis.id])
    if kind == "code_filter" and place.item.visible:
        tries = [_try(place, id_) for id_ in ids]
        return tries, lambda outputs: Outputs(
            said=said(outputs), passed=tuple(outputs[one.id].passed for one in tries)
        )  # fmt: skip
    return [], lambda outputs: Outputs(said=said(outputs))


def _choice(place: Place, block: Block, ids: list[str], said: Callable[[Told], tuple[Said, ...]]) -> Node:
    """Return the call that chooses among the different outputs, shown in an order shuffled for each item."""

    def feed(outputs: Told) -> Candidates:
        first = {one.value: at for at, one in reversed([*enumerate(said(outputs))]) if one.value is not None}
        places = sorted(first.values())
        generator(place.seed, "team-choice", place.item.id, place.sample).shuffle(places)
        texts = place.wording.shown([said(outputs)[at].text for at in places])
        parts = (place.material(outputs), texts, place.wording.render("choose"))
        return Candidates(prompt="\n".join(parts), places=tuple(places))

    id_ = f"{place.layer.name}/{block.name}/choice"
    return _own(place, block, Node(id_, ChooseBest(place.wording), feed, (*place.above, *ids), label="choice"))


def _synthesis(place: Place, block: Block, ids: list[str]) -> Node:
    """Return the call that writes one answer over all outputs."""
    agent = block.agents[-1]
    schema = place.schema(block.aggregate.output or agent.output)
    form = place.wording.form(schema)
    task = AskAgent(place.wording, schema, form, 0.0, agent.max_tokens, place.sought(schema))

    def feed(outputs: Told) -> Asked:
        parts = (place.material(outputs), _answers(place, ids)(outputs), place.wording.render("synthesize", form=form))
        return Asked(prompt="\n".join(parts))

    id_ = f"{place.layer.name}/{block.name}/synthesis"
    return _own(place, block, Node(id_, task, feed, (*place.above, *ids), label="synthesis"))


def _own(place: Place, block: Block, node: Node) -> Node:
    """Return an aggregator's call with its model and sample."""
    prefix = f"{place.item.id}/{place.layer.name}"
    return replace(node, model=place.models[block.aggregate.model], sample=place.sample, prefix=prefix)


def _try(place: Place, id_: str) -> Node:
    """Return the run of an output's program on the visible examples."""
    item = place.item

    def feed(outputs: Told) -> Example:
        return Example(
            program=outputs[id_].value, setup=item.setup, examples=item.visible, entry_point=item.entry_point,
            files=item.files,
        )  # fmt: skip

    return Node(f"{id_}/examples", TryExamples(), feed, (id_,), SANDBOX, label="examples")


__all__ = ["DONOR", "SANDBOX", "Place", "block_nodes", "donor_id", "out_id"]
