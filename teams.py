"""Teams of agents as layered networks: frozen values, parsed, checked and printed, nothing run. Imports no folder.

A layer is a subtask; it offers one or more blocks (agents and the way their outputs are combined), of which one is
chosen for each input. Layers are in order, and each reads what earlier ones came to. Source: ANN, arXiv 2506.09046;
the objects are ours (specs/ann, section 9.1).
"""

import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from .errors import SpecError
from .records import JSON, canonical, digest

INPUT = "input"
"""What a layer names to read the item's question and nothing of the layers before it."""
PLACEHOLDERS = ("question", "input", "task")
"""What instructions may hold in braces: the item's question, what the layer reads, the layer's task."""
TOOLS = ("python",)

Kind = Literal["text", "word", "number", "option", "boolean", "code", "values"]
Selector = Literal["static", "random", "llm", "rule"]
Name = str


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Schema(_Frozen):
    """What an output must be, so that outputs can be compared, voted on and checked."""

    kind: Kind = "text"
    """`text` is compared by nothing and cannot be voted on; `values` are named values."""
    options: tuple[str, ...] = ()
    """Labels, where `kind` is `option`."""
    fields: tuple[str, ...] = ()
    """Names, where `kind` is `values`."""

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if (self.kind == "option") != bool(self.options):
            raise ValueError("options exactly where kind is option")
        if (self.kind == "values") != bool(self.fields):
            raise ValueError("fields exactly where kind is values")
        return self


class AgentSpec(_Frozen):
    """One agent: a role, what it is told, and what it must answer with."""

    name: Name
    """Unique in the team; it survives edits, so that histories line up."""
    role: str = "a careful problem solver"
    """Who it is, as it is told: `You are ...`."""
    instructions: str = ""
    """What it is told beside question, task and answer format; may hold {question}, {input} and {task}."""
    model: str = ""
    """Name of the chat model; "" for the run's own."""
    temperature: float = Field(default=0.0, ge=0)
    """Of its sampling."""
    max_tokens: PositiveInt = 512
    """Of one answer."""
    n: PositiveInt = 1
    """Samples of it that take part, each a call of its own; more than one needs a temperature."""
    output: Schema = Schema()
    """What it must answer with."""
    tools: tuple[Literal["python"], ...] = ()
    """`python`: it writes a program, which is run, and what that prints is its output."""

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if self.n > 1 and not self.temperature:
            raise ValueError("a temperature above 0 where n is above 1: equal draws would be one vote twice")
        return self


Combine = Literal["single", "majority", "best_of", "synthesize", "debate", "code_filter", "chain"]


class Aggregator(_Frozen):
    """How a block's outputs become one."""

    kind: Combine = "single"
    """`single`: one agent. `majority`: the commonest value. `best_of`: a judge call chooses. `synthesize`: one call
    over all outputs. `debate`: each sees the others, then majority. `code_filter`: programs that pass the visible
    examples, then majority of their outputs. `chain`: agents in sequence, the last one's output."""
    rounds: int = Field(default=1, ge=1, le=2)
    """Of a debate."""
    model: str = ""
    """Name of the chat model of `best_of` and `synthesize`; "" for the run's own."""
    output: Schema | None = None
    """What `synthesize` must answer with; None for what the last agent answers with."""


class Block(_Frozen):
    """Agents and the way their outputs are combined: one candidate of a layer."""

    name: Name
    """Unique in the layer."""
    when: str = ""
    """When to choose it, one line for the selector."""
    agents: tuple[AgentSpec, ...]
    """In order; a chain runs them so."""
    aggregate: Aggregator = Aggregator()
    """How their outputs become one."""


class LayerSpec(_Frozen):
    """One subtask, and the blocks that may do it."""

    name: Name
    """Unique in the team."""
    task: str
    """The subtask, as agents and selector are told."""
    blocks: tuple[Block, ...]
    """Candidates, one or more."""
    default: Name = ""
    """Block where nothing is selected, or the selector's answer is no block; "" for the first."""
    selector: Selector = "static"
    """Who chooses the block: nobody (the default), a draw, a model, or the first block whose `when` is a word of the
    question."""
    reads: tuple[Name, ...] = ()
    """Earlier layers whose outputs it is shown, or `input` for none; () for the layer before."""

    @property
    def fallback(self) -> Block:
        """The default block."""
        return next((block for block in self.blocks if block.name == self.default), self.blocks[0])


class Limits(_Frozen):
    """How large a team may grow."""

    max_agents: PositiveInt = 12
    """In all blocks of all layers."""
    max_layers: PositiveInt = 6
    """In the team."""
    max_prompt_chars: PositiveInt = 4000
    """Of the role and instructions of an agent, and of a layer's task."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a team.

    Attributes:
        code: A short type: `cycle`, `unknown-agent`, `oversize`, ...
        where: The place, by names: `layer solve: block trio: agent b`.
        why: What was found, and what was expected.
    """

    code: str
    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.code} at {self.where}: {self.why}"


class TeamSpec(_Frozen):
    """A layered team of agents that answers one kind of question.

    >>> solver = AgentSpec(name="solver", output=Schema(kind="number"))
    >>> layer = LayerSpec(name="solve", task="Answer the question.", blocks=(Block(name="one", agents=(solver,)),))
    >>> TeamSpec(layers=(layer,), answer=Schema(kind="number")).agents()[0].name
    'solver'
    """

    layers: tuple[LayerSpec, ...]
    """In the order they run."""
    answer: Schema
    """What the last layer must yield."""
    limits: Limits = Limits()
    """How large edits may let it grow."""

    @model_validator(mode="after")
    def _well_formed(self) -> Self:
        for problem in problems(self):
            raise ValueError(str(problem))
        return self

    @property
    def key(self) -> str:
        """The canonical text."""
        return canonical(self.model_dump(mode="json", exclude_defaults=True))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical text."""
        return digest(self.model_dump(mode="json", exclude_defaults=True))

    @classmethod
    def parse(cls, values: JSON, where: str = "team") -> Self:
        """Return the team of a mapping.

        Raises:
            SpecError: it is no team; the error names the place and what was expected there.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise SpecError(f"{where}: {place}" if place else where, first.get("type"), message) from None

    def agents(self) -> tuple[AgentSpec, ...]:
        """Return all agents of all blocks, layer by layer."""
        return tuple(agent for _, _, agent in self.places())

    def places(self) -> Iterator[tuple[LayerSpec, Block, AgentSpec]]:
        """Yield every agent with its layer and block."""
        for layer in self.layers:
            for block in layer.blocks:
                for agent in block.agents:
                    yield layer, block, agent

    def layer(self, name: str) -> LayerSpec | None:
        """Return the layer called `name`, if there is one."""
        return next((layer for layer in self.layers if layer.name == name), None)

    def read_by(self, layer: LayerSpec) -> tuple[str, ...]:
        """Return the names of the layers whose outputs `layer` is shown, in the order of the team."""
        if not layer.reads:
            at = self.layers.index(layer)
            return (self.layers[at - 1].name,) if at else ()
        return tuple(name for name in layer.reads if name != INPUT)


def placeholders(text: str) -> frozenset[str]:
    """Return the names in braces; a brace that opens nothing counts as the name `{`."""
    try:
        return frozenset(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)
    except ValueError:
        return frozenset("{")


def yields(block: Block) -> Schema:
    """Return the schema of what a block comes to."""
    return block.aggregate.output or block.agents[-1].output


def problems(team: TeamSpec) -> Iterator[Problem]:
    """Yield what is wrong with a team, the most basic first; nothing where it is well formed."""
    if not team.layers:
        yield Problem("empty", "team", "no layer, expected one or more")
