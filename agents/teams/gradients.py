"""The backward pass of a team as nodes: a critique reads what went wrong, a repair proposes a patch. Each a `Task`.

What is asked is written out when a node is made, so a node's input, and with it its ledger key, holds the rendered
prompt. An answer that cannot be read is asked for once more, with the reason; after that the output says why there is
none. Knows chat models; must not know ledgers or searches. Source: ANN, arXiv 2506.09046; specs/ann, 2.2 and 9.4.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from ...graphs import Graph, Node, Upper
from ...models.chat import ChatModel, Message, Sampling
from ...records import JSON, seed_of
from ...teams import TeamSpec
from .aggregate import Combined
from .blocks import out_id
from .fitting import cut
from .gradient_given import BOUNDS, Bounds, CritiqueGiven, Finding, RepairGiven, Step
from .gradient_parsing import read_critique, read_patch
from .gradient_schemas import aimed_ops, critique_schema, held_edits, schema_text
from .gradient_wording import GradientWording
from .trace import trace_of

SAID = 600
"""Estimated tokens of an unreadable answer that are shown again."""
ERROR = 300
"""Characters of a reason that are shown and kept."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Sent(_Frozen):
    """What a critic or repair is sent, and what its answer is read by."""

    messages: tuple[tuple[str, str], ...]
    """Roles and texts, as they are sent."""
    schema_text: str = ""
    """JSON schema of the answer."""
    layers: dict[str, tuple[str, ...]] = {}
    """Agents by layer: what findings may name."""
    scope: str = ""
    """The layer that was asked about."""
    ops: tuple[str, ...] = ()
    """Edits that may be made; () for all."""


class Findings(_Frozen):
    """What a critic said."""

    findings: tuple[Finding, ...] = ()
    """Up to three; none where there is nothing at fault, or where `error` says why none could be read."""
    text: str = ""
    """The critique in its own words; the whole answer where nothing else could be read."""
    unknown: int = 0
    """Findings that name no layer of the team; they are kept, with layer ""."""
    asked: int = 1
    """Answers given: two where the first could not be read."""
    error: str = ""
    """Why no findings could be read."""


class Proposal(_Frozen):
    """What a repair proposed."""

    patch: dict[str, JSON] | None = None
    """A `Patch` as JSON; whether it fits the team is for `apply` to say."""
    text: str = ""
    """The answer."""
    asked: int = 1
    """Answers given: two where the first could not be read."""
    error: str = ""
    """Why there is no patch."""


@dataclass(frozen=True)
class Asking:
    """How critic and repair are asked.

    Attributes:
        wording: What they are told.
        bounds: How long their prompts may be.
        temperature: Of the draw; proposals that should differ need one above 0.
        max_tokens: Of one answer.
        structured: Hold the answer to its JSON schema: for models whose `Capabilities.structured` says that they keep
            to one.
        reasks: Times that an unreadable answer is asked for again.
    """

    wording: GradientWording = field(default_factory=GradientWording)
    bounds: Bounds = BOUNDS
    temperature: float = 0.0
    max_tokens: int = 1024
    structured: bool = False
    reasks: int = 1

    @property
    def spec(self) -> JSON:
        """Sampling, form, prompt hash; bounds show in the prompt."""
        return {
            "temperature": self.temperature, "max_tokens": self.max_tokens, "structured": self.structured,
            "reasks": self.reasks, "prompts": self.wording.hash,
        }  # fmt: skip

    async def upper(self, given: Sent, model: ChatModel) -> Upper:
        """Return the price of all answers that may be asked for."""
        again: Message = {"role": "user", "content": self.wording.reask("x" * ERROR)}
        prompt = await model.count_tokens([*_messages(given), again])
        calls = 1 + self.reasks
        return Upper(calls, calls * prompt + self.reasks * self.max_tokens, calls * self.max_tokens)

    async def _ask(self, given: Sent, model: ChatModel, seed: int, read: Any) -> Any:
        """Return what `read` makes of an answer; of the last one where none could be read."""
        messages, said, error = _messages(given), "", ""
        for asked in range(1, 2 + self.reasks):
            if asked > 1:
                messages = _again(_messages(given), said, self.wording.reask(error))
            reply = await model.generate(messages, self._sampling(given, seed))
            said = _whole(reply.text)
            output = read(said, asked)
            if not output.error:
                break
            error = output.error
            if reply.finish == "length":
                error = f"the answer was cut off after {self.max_tokens} tokens ({error})"
                output = output.model_copy(update={"error": error})
        return output

    def _sampling(self, given: Sent, seed: int) -> Sampling:
        drawn = seed if self.temperature else None
        schema = given.schema_text if self.structured else ""
        return Sampling(self.temperature, max_tokens=self.max_tokens, seed=drawn, schema=schema)


@dataclass(frozen=True)
class Critique(Asking):
    """Asks what went wrong, in the whole team or in one layer."""

    name: ClassVar[str] = "critique"
    version: ClassVar[int] = 2
    output: ClassVar[type[BaseModel]] = Findings

    def sent(self, given: CritiqueGiven) -> Sent:
        """Return what is sent."""
        layers = {
            layer.name: tuple(agent.name for block in layer.blocks for agent in block.agents)
            for layer in given.team.layers
        }
        messages = _pairs(self.wording.critique(given, self.bounds, held=self.structured))
        schema = schema_text(critique_schema(given.team, self.max_tokens)) if self.structured else ""
        return Sent(messages=messages, schema_text=schema, layers=layers, scope=given.scope)

    async def run(self, given: Sent, model: ChatModel, seed: int) -> Findings:
        """Return the findings.

        Raises:
            CallFailed: the model gives no answer.
        """
        findings: Findings = await self._ask(given, model, seed, partial(_findings, given))
        return findings


@dataclass(frozen=True)
class Repair(Asking):
    """Asks for a patch that mends one finding."""

    temperature: float = 0.7
    name: ClassVar[str] = "repair"
    version: ClassVar[int] = 2
    output: ClassVar[type[BaseModel]] = Proposal

    def sent(self, given: RepairGiven) -> Sent:
        """Return what is sent; a model that is held to a schema is offered the edits that fit the finding alone."""
        if not self.structured:
            return Sent(messages=_pairs(self.wording.repair(given, self.bounds, schema=True)), ops=given.edits)
        ops = given.edits or aimed_ops(given.team, given.finding.kind)
        messages = _pairs(self.wording.repair(given, self.bounds, ops, schema=False))
        only = given.finding.agent if given.edits else None
        schema = schema_text(held_edits(given.team, ops, self.max_tokens, only))
        return Sent(messages=messages, schema_text=schema, ops=given.edits)  # another edit, where one comes, may do too

    async def run(self, given: Sent, model: ChatModel, seed: int) -> Proposal:
        """Return the proposal.

        Raises:
            CallFailed: the model gives no answer.
        """
        proposal: Proposal = await self._ask(given, model, seed, partial(_proposal, given))
        return proposal


def critique_node(
    id_: str, model: str, given: CritiqueGiven, *, task: Critique | None = None, seed: int = 0, index: int = 0
) -> Node:
    """Return the node of one critique.

    Args:
        id_: Of the node.
        model: Name of the chat model.
        given: What is shown.
        task: How it is asked; None for the usual way.
        seed: Of the run.
        index: Of the sample.

    Raises:
        SpecError: the bound on the whole prompt leaves no room, or a template cannot be rendered.
    """
    task = task or Critique()
    return _node(id_, model, task, task.sent(given), seed, index)


def repair_node(
    id_: str, model: str, given: RepairGiven, index: int = 0, *, task: Repair | None = None, seed: int = 0
) -> Node:
    """Return the node of one proposal; `index` tells draws of one prompt apart. See `critique_node`."""
    task = task or Repair()
    return _node(id_, model, task, task.sent(given), seed, index)


def rendered(given: CritiqueGiven | RepairGiven, task: Critique | Repair | None = None) -> str:
    """Return the exact prompt that `given` becomes, all its messages: what a leak would have to be in."""
    if isinstance(given, CritiqueGiven):
        sent = (task if isinstance(task, Critique) else Critique()).sent(given)
    else:
        sent = (task if isinstance(task, Repair) else Repair()).sent(given)
    return "\n".join(text for _, text in sent.messages)


def steps_of(graph: Graph, team: TeamSpec) -> tuple[Step, ...]:
    """Return what a critic is shown of a pass: its calls, and what each layer came to, layer by layer."""
    rows, steps = trace_of(graph, team), []
    for layer in team.layers:
        steps += [
            Step(
                layer=row.layer,
                block=row.block,
                agent=row.agent,
                output=row.output,
                value=row.value,
                failure=row.failure,
                unread=row.unread,
            )
            for row in rows
            if row.layer == layer.name
        ]
        out = graph.output(out_id(layer.name))
        if isinstance(out, Combined):
            steps.append(Step(layer=layer.name, output=out.text, value=out.value))
    return tuple(steps)


def _node(id_: str, model: str, task: Critique | Repair, sent: Sent, seed: int, index: int) -> Node:
    # A task is told its seed and not its sample: both differ from draw to draw. A greedy one draws nothing.
    drawn = seed_of(seed, task.name, index) if task.temperature else 0
    return Node(id_, task, partial(_fixed, sent), model=model, seed=drawn, sample=index)


def _fixed(sent: Sent, outputs: Mapping[str, Any]) -> Sent:
    return sent


def _findings(given: Sent, text: str, asked: int) -> Findings:
    read = read_critique(text, given.layers, given.scope)
    return Findings(findings=read.findings, text=read.text, unknown=read.unknown, asked=asked, error=read.error[:ERROR])


def _proposal(given: Sent, text: str, asked: int) -> Proposal:
    read = read_patch(text, given.ops)
    return Proposal(patch=read.patch, text=text, asked=asked, error=read.error[:ERROR])


def _messages(given: Sent) -> list[Message]:
    return [{"role": "system" if role == "system" else "user", "content": text} for role, text in given.messages]


def _pairs(messages: list[Message]) -> tuple[tuple[str, str], ...]:
    return tuple((message["role"], message["content"]) for message in messages)


def _again(messages: list[Message], said: str, reask: str) -> list[Message]:
    """Return the call that asks again: after what was said, or, where that was nothing, at the end of the question."""
    if said:
        return [*messages, {"role": "assistant", "content": cut(said, SAID)}, {"role": "user", "content": reask}]
    last: Message = {"role": "user", "content": f"{messages[-1]['content']}\n\n{reask}"}
    return [*messages[:-1], last]


def _whole(text: str) -> str:
    """Return a text that can be written: halves of characters become question marks."""
    return text.encode("utf-8", "replace").decode().strip()


__all__ = [
    "Asking",
    "Critique",
    "Findings",
    "Proposal",
    "Repair",
    "Sent",
    "critique_node",
    "rendered",
    "repair_node",
    "steps_of",
]
