"""Teams of agents as layered networks: frozen values, parsed, checked and printed, nothing run. Imports no folder.

A layer is a subtask; it offers one or more blocks (agents and the way their outputs are combined), of which one is
chosen for each input. Layers are in order, and each reads what earlier ones came to. Source: ANN, arXiv 2506.09046;
the objects are ours (specs/ann, section 9.1).
"""

import re
import string
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from .errors import SpecError, nearest
from .records import JSON, canonical, digest
from .team_problems import Problem, first_problem, one_line

INPUT = "input"
"""What a layer names to read the item's question and nothing of the layers before it."""
PLACEHOLDERS = ("question", "input", "task")
"""What instructions may hold in braces: the item's question, what the layer reads, the layer's task."""

Kind = Literal["text", "word", "number", "option", "boolean", "code", "values"]
Selector = Literal["static", "random", "llm", "rule"]

_NAME = r"^\w[\w.-]{0,39}$"


def _named(text: str) -> str:
    if not re.fullmatch(_NAME[1:-1], text):
        raise ValueError("a name of 1 to 40 letters, digits, _, - or .")
    return text


Name = Annotated[str, AfterValidator(_named), WithJsonSchema({"type": "string", "pattern": _NAME})]
"""A name, as it stands in node ids (`LAYER/BLOCK/AGENT#0`) and pictures."""


class Frozen(BaseModel):
    """A value that never changes, takes no unknown keys, and has a canonical text."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*")
    @classmethod
    def _has_a_hash(cls, value: object) -> object:
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and any("\ud800" <= sign <= "\udfff" for sign in text):
                raise ValueError("text of whole characters, no lone surrogate")
        return value


class Schema(Frozen):
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

    def __str__(self) -> str:
        names = ", ".join(self.options or self.fields)
        return f"{self.kind} ({names})" if names else self.kind


class AgentSpec(Frozen):
    """One agent: a role, what it is told, and what it must answer with."""

    name: Name
    """Unique in the team; it survives edits, so that histories line up."""
    role: str = "a careful problem solver"
    """Who it is, as it is told: `You are ...`."""
    instructions: str = ""
    """What it is told beside question, task and answer format; may hold {question}, {input} and {task}."""
    model: str = ""
    """Name of the chat model; "" for the run's own."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Of its sampling."""
    max_tokens: int = Field(default=512, ge=1, le=1_000_000)
    """Of one answer."""
    n: int = Field(default=1, ge=1, le=1_000)
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


class Aggregator(Frozen):
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

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if self.rounds > 1 and self.kind != "debate":
            raise ValueError("rounds above 1 only where kind is debate")
        if self.model and self.kind not in ("best_of", "synthesize"):
            raise ValueError("a model only where kind is best_of or synthesize: the others call none")
        if self.output is not None and self.kind != "synthesize":
            raise ValueError("an output only where kind is synthesize: the others pass on what agents answer with")
        return self


class Block(Frozen):
    """Agents and the way their outputs are combined: one candidate of a layer."""

    name: Name
    """Unique in the layer."""
    when: str = ""
    """When to choose it, one line for the selector."""
    agents: tuple[AgentSpec, ...]
    """In order; a chain runs them so."""
    aggregate: Aggregator = Aggregator()
    """How their outputs become one."""


class LayerSpec(Frozen):
    """One subtask, and the blocks that may do it."""

    name: Name
    """Unique in the team."""
    task: str
    """The subtask, as agents and selector are told."""
    blocks: tuple[Block, ...]
    """Candidates, one or more."""
    default: str = ""
    """Block where nothing is selected, or the selector's answer is no block; "" for the first."""
    selector: Selector = "static"
    """Who chooses the block: nobody (the default), a draw, a model, or the first block whose `when` is a word of the
    question."""
    reads: tuple[str, ...] = ()
    """Earlier layers whose outputs it is shown, or `input` for none; () for the layer before."""

    @property
    def fallback(self) -> Block:
        """The default block."""
        return next((block for block in self.blocks if block.name == self.default), self.blocks[0])


class Limits(Frozen):
    """How large a team may grow."""

    max_agents: PositiveInt = 12
    """In all blocks of all layers."""
    max_samples: PositiveInt = 32
    """`n` of one agent."""
    max_tokens: PositiveInt = 16_384
    """Of one answer of one agent."""
    max_layers: PositiveInt = 6
    """In the team."""
    max_prompt_chars: PositiveInt = 4000
    """Of the role and instructions of an agent together, of a layer's task, and of a block's `when`."""


class TeamSpec(Frozen):
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
            raise ValueError(problem)
        return self

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied.__dict__.pop("hash", None)  # `model_copy` may go on to change fields
        return copied

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
            problem = first_problem(error, KEYS)
            found, _, expected = problem.why.partition(", expected ")
            raise SpecError(": ".join(filter(None, (where, problem.where))), found, expected) from error

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
        return tuple(other.name for other in self.layers if other.name in layer.reads)


def placeholders(text: str) -> frozenset[str]:
    """Return the names in braces, with a conversion or format that follows one (`question!r`).

    A brace that opens or closes nothing counts as the name `{`; a doubled brace is text.
    """
    try:
        parts = [part for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError:
        return frozenset("{")
    return frozenset(f"{name}{'!' * bool(kind)}{kind or ''}{':' * bool(form)}{form}" for _, name, form, kind in parts)


def yields(block: Block) -> Schema:
    """Return the schema of what a block comes to."""
    return block.aggregate.output or block.agents[-1].output


KEYS = [key for model in Frozen.__subclasses__() for key in model.model_fields]
"""Every field of a team, for those who meant one of them."""


def problems(team: TeamSpec) -> Iterator[Problem]:
    """Yield what is wrong with a team, the most basic first; nothing where it is well formed."""
    for check in (_empty, repeated, _oversize, _misread, _uncombined, _misworded, _unanswered):
        yield from check(team)


def repeated(team: TeamSpec) -> Iterator[Problem]:
    """Yield a problem for each name that two things share, so that an edit of it could mean either."""
    scopes: list[tuple[str, str, list[str]]] = [("team", "layer", [INPUT, *(layer.name for layer in team.layers)])]
    scopes += [(f"layer {layer.name}", "block", [block.name for block in layer.blocks]) for layer in team.layers]
    scopes += [("team", "agent", [agent.name for agent in team.agents()])]
    for where, what, names in scopes:
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            yield Problem("duplicate-name", where, f"{what} {name!r} twice, expected a name that is not taken")


def _at(layer: LayerSpec, block: Block | None = None, agent: AgentSpec | None = None) -> str:
    named = (("layer", layer), ("block", block), ("agent", agent))
    return ": ".join(f"{what} {one.name}" for what, one in named if one is not None)


def _empty(team: TeamSpec) -> Iterator[Problem]:
    if not team.layers:
        yield Problem("empty", "team", "no layer, expected one or more")
    for layer in team.layers:
        if not layer.task.strip():
            yield Problem("empty", _at(layer), "no task, expected a sentence")
        if not layer.blocks:
            yield Problem("empty", _at(layer), "no block, expected one or more")
        for block in layer.blocks:
            if not block.agents:
                yield Problem("empty", _at(layer, block), "no agent, expected one or more")
    for layer, block, agent in team.places():
        if not agent.role.strip():
            yield Problem("empty", _at(layer, block, agent), "no role, expected who the agent is")


def _oversize(team: TeamSpec) -> Iterator[Problem]:
    most, agents = team.limits, len(team.agents())
    sizes = [("team", len(team.layers), "layers", most.max_layers), ("team", agents, "agents", most.max_agents)]
    for layer in team.layers:
        sizes.append((_at(layer), len(layer.task), "characters of task", most.max_prompt_chars))
        sizes += [(_at(layer, block), len(block.when), "characters of when", most.max_prompt_chars)
                  for block in layer.blocks]  # fmt: skip
    for layer, block, agent in team.places():
        where, told = _at(layer, block, agent), len(agent.role) + len(agent.instructions)
        sizes.append((where, told, "characters of role and instructions", most.max_prompt_chars))
        sizes += [(where, agent.n, "samples", most.max_samples), (where, agent.max_tokens, "tokens", most.max_tokens)]
    for where, size, what, limit in sizes:
        if size > limit:
            yield Problem("oversize", where, f"{size} {what}, expected {limit} at most")


def _misread(team: TeamSpec) -> Iterator[Problem]:
    earlier: list[str] = []
    later = [layer.name for layer in team.layers]
    for layer in team.layers:
        for name in layer.reads:
            if name in later:
                which = "itself" if name == layer.name else f"{name!r}, a later layer"
                yield Problem("cycle", _at(layer), f"reads {which}, expected earlier layers")
            elif name != INPUT and name not in earlier:
                found = f"reads {one_line(name)!r}, which is no layer"
                yield Problem("missing-producer", _at(layer), f"{found}, expected {nearest(name, [*earlier, INPUT])}")
        blocks = [block.name for block in layer.blocks]
        if layer.default not in ("", *blocks):
            found = f"default {one_line(layer.default)!r}"
            yield Problem("unknown-block", _at(layer), f"{found}, expected {nearest(layer.default, blocks)}")
        earlier.append(later.pop(0))


def _uncombined(team: TeamSpec) -> Iterator[Problem]:
    """Yield blocks whose agents do not answer with what their aggregator combines."""
    for layer in team.layers:
        for block in filter(lambda block: block.agents, layer.blocks):
            kind, kinds = block.aggregate.kind, {agent.output.kind for agent in block.agents}
            agents, where = block.agents, _at(layer, block)
            if kind == "single" and len(agents) > 1:
                yield Problem("invalid", where, f"{len(agents)} agents under single, expected one, or another kind")
            if kind in ("single", "chain") and any(agent.n > 1 for agent in agents):
                yield Problem("invalid", where, f"n above 1 under {kind}, expected 1: it uses one output an agent")
            if kind in ("majority", "debate") and "text" in kinds:
                found = f"{kind} over outputs of kind text"
                yield Problem("missing-producer", where, f"{found}, expected a kind that can be compared")
            if kind == "code_filter" and kinds != {"code"}:
                found = f"code_filter over outputs of kind {', '.join(sorted(kinds))}"
                yield Problem("missing-producer", where, f"{found}, expected code")
            if kind in ("majority", "debate", "best_of") and any(a.output != agents[0].output for a in agents):
                yield Problem("missing-producer", where, f"agents under {kind} differ in output, expected one schema")


def _misworded(team: TeamSpec) -> Iterator[Problem]:
    for layer in team.layers:
        for block in layer.blocks:
            if len(block.when.splitlines()) > 1:
                yield Problem("invalid", _at(layer, block), "lines in when, expected one line")
    for layer, block, agent in team.places():
        for name in sorted(placeholders(agent.instructions) - {*PLACEHOLDERS}):
            found = "a lone brace" if name == "{" else f"{{{name}}}"
            why = f"{found} in instructions, expected {{question}}, {{input}}, {{task}}, and doubled braces for braces"
            yield Problem("unknown-placeholder", _at(layer, block, agent), why)


def _unanswered(team: TeamSpec) -> Iterator[Problem]:
    for layer in team.layers[-1:]:
        for block in filter(lambda block: block.agents, layer.blocks):
            got = yields(block)
            if got != team.answer:
                why = f"the last layer yields {got}, expected the team's answer, {team.answer}"
                yield Problem("missing-producer", _at(layer, block), why)
