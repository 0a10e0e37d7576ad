"""Edits of teams: parsed, applied, printed. Pure; must not know who proposes them or how an edited team fares.

An edit names its target by name, never by position, and agents' names survive edits, so that histories line up.
Source: specs/ann, sections 9.1 and 9.6.
"""

from collections.abc import Callable, Container, Iterable
from itertools import chain
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, ValidationError

from .errors import nearest
from .records import JSON
from .team_changes import leaked, lost, strange
from .team_problems import Problem, first_problem, one_line
from .teams import INPUT, KEYS, AgentSpec, Aggregator, Block, Frozen, LayerSpec, TeamSpec, problems, repeated

CODES = (
    "invalid", "unknown-layer", "unknown-block", "unknown-agent", "duplicate-name", "empty", "oversize", "cycle",
    "missing-producer", "unknown-placeholder", "lost-placeholder", "unknown-model", "leak", "duplicate",
)  # fmt: skip
"""Why patches are refused; `apply` says when."""

Layers: TypeAlias = tuple[LayerSpec, ...]


class Refusal(Problem):
    """Why a patch was refused: `code` as `apply` lists them, `where` the edit (`edit 2, set_role`) or the place in the
    team that it would have led to, and `why`, fit to be shown to whoever proposed the patch.
    """

    __slots__ = ()


class _Refused(Exception):
    """An edit's target is not there: a code, and why. Raised and caught in this file."""


def _required_op(schema: dict[str, Any]) -> None:
    schema["required"] = ["op", *schema["required"]]  # a model has to say which edit it means


class _Edit(Frozen):
    model_config = ConfigDict(json_schema_extra=_required_op)

    def _on(self, layers: Layers) -> Layers:
        """Return the layers with this edit made; what came of it is checked once, after the whole patch."""
        raise NotImplementedError

    def __str__(self) -> str:
        raise NotImplementedError


class SetInstructions(_Edit):
    """Tell an agent something else."""

    op: Literal["set_instructions"] = "set_instructions"
    agent: str
    text: str
    """The whole new instructions; every placeholder of the old ones must be in them."""

    def _on(self, layers: Layers) -> Layers:
        return _with_agent(layers, self.agent, instructions=_given(self.text))

    def __str__(self) -> str:
        return f'instructions of {self.agent}: "{self.text}"'


class SetRole(_Edit):
    """Make an agent someone else."""

    op: Literal["set_role"] = "set_role"
    agent: str
    text: str
    """As it is told: `You are ...`."""

    def _on(self, layers: Layers) -> Layers:
        return _with_agent(layers, self.agent, role=_given(self.text))

    def __str__(self) -> str:
        return f'role of {self.agent}: "{self.text}"'


class AddAgent(_Edit):
    """Add an agent at the end of a block."""

    op: Literal["add_agent"] = "add_agent"
    layer: str
    block: str
    agent: AgentSpec

    def _on(self, layers: Layers) -> Layers:
        agents = (*_block(layers, self.layer, self.block).agents, self.agent)
        return _with_block(layers, self.layer, self.block, agents=agents)

    def __str__(self) -> str:
        return f'add agent {self.agent.name} to {self.layer}/{self.block}: "{self.agent.role}"'


class RemoveAgent(_Edit):
    """Take an agent out of its block."""

    op: Literal["remove_agent"] = "remove_agent"
    agent: str

    def _on(self, layers: Layers) -> Layers:
        layer, block = _home(layers, self.agent)
        agents = tuple(agent for agent in block.agents if agent.name != self.agent)
        return _with_block(layers, layer.name, block.name, agents=agents)

    def __str__(self) -> str:
        return f"remove agent {self.agent}"


class SetAggregate(_Edit):
    """Combine the outputs of a block in another way."""

    op: Literal["set_aggregate"] = "set_aggregate"
    layer: str
    block: str
    aggregate: Aggregator

    def _on(self, layers: Layers) -> Layers:
        return _with_block(layers, self.layer, self.block, aggregate=self.aggregate)

    def __str__(self) -> str:
        return f"combine {self.layer}/{self.block} by {self.aggregate.kind}"


class AddBlock(_Edit):
    """Offer one more block in a layer."""

    op: Literal["add_block"] = "add_block"
    layer: str
    block: Block

    def _on(self, layers: Layers) -> Layers:
        return _with_layer(layers, self.layer, blocks=(*_layer(layers, self.layer).blocks, self.block))

    def __str__(self) -> str:
        return f"add block {self.layer}/{_summary(self.block)}"


class RemoveBlock(_Edit):
    """Offer a block no more; where it was the default, the first of the others becomes it."""

    op: Literal["remove_block"] = "remove_block"
    layer: str
    block: str

    def _on(self, layers: Layers) -> Layers:
        _block(layers, self.layer, self.block)
        layer = _layer(layers, self.layer)
        blocks = tuple(block for block in layer.blocks if block.name != self.block)
        default = layer.default if layer.default not in ("", self.block, *(block.name for block in blocks[:1])) else ""
        return _with_layer(layers, self.layer, blocks=blocks, default=default)

    def __str__(self) -> str:
        return f"remove block {self.layer}/{self.block}"


class SetDefault(_Edit):
    """Make another block the one that runs where nothing is selected."""

    op: Literal["set_default"] = "set_default"
    layer: str
    block: str

    def _on(self, layers: Layers) -> Layers:
        _block(layers, self.layer, self.block)
        first = _layer(layers, self.layer).blocks[0].name
        return _with_layer(layers, self.layer, default="" if self.block == first else self.block)  # one team, one hash

    def __str__(self) -> str:
        return f"default of {self.layer}: {self.block}"


class SetWhen(_Edit):
    """Tell the selector when to choose a block."""

    op: Literal["set_when"] = "set_when"
    layer: str
    block: str
    text: str
    """One line."""

    def _on(self, layers: Layers) -> Layers:
        return _with_block(layers, self.layer, self.block, when=_given(self.text))

    def __str__(self) -> str:
        return f'when of {self.layer}/{self.block}: "{self.text}"'


class AddLayer(_Edit):
    """Insert a layer."""

    op: Literal["add_layer"] = "add_layer"
    after: str
    """Name of the layer that it follows, or `input` for the front."""
    layer: LayerSpec

    def _on(self, layers: Layers) -> Layers:
        at = 0 if self.after == INPUT else layers.index(_layer(layers, self.after, INPUT)) + 1
        return (*layers[:at], self.layer, *layers[at:])

    def __str__(self) -> str:
        blocks = "; ".join(_summary(block) for block in self.layer.blocks)
        return f"add layer {self.layer.name} after {self.after}: {blocks}"


class RemoveLayer(_Edit):
    """Take a layer out; those that name it in `reads` need other ones, in the same patch."""

    op: Literal["remove_layer"] = "remove_layer"
    layer: str

    def _on(self, layers: Layers) -> Layers:
        gone = _layer(layers, self.layer)
        return tuple(layer for layer in layers if layer is not gone)

    def __str__(self) -> str:
        return f"remove layer {self.layer}"


class SetReads(_Edit):
    """Change what a layer is shown."""

    op: Literal["set_reads"] = "set_reads"
    layer: str
    reads: tuple[str, ...]
    """Names of earlier layers, `input` for none, nothing for the layer before."""

    def _on(self, layers: Layers) -> Layers:
        names = [layer.name for layer in layers]
        at = names.index(_layer(layers, self.layer).name)
        known = [name for name in names if name in self.reads]
        reads = (*known, *(name for name in dict.fromkeys(self.reads) if name not in (*known, INPUT)))
        implied = (names[at - 1],) if at else ()
        if reads == implied or not self.reads:  # what goes without saying is not said: one team, one hash
            return _with_layer(layers, self.layer, reads=())
        return _with_layer(layers, self.layer, reads=reads or (INPUT,))

    def __str__(self) -> str:
        return f"{self.layer} reads {', '.join(self.reads) or 'the layer before'}"


Edit: TypeAlias = Annotated[
    SetInstructions | SetRole | AddAgent | RemoveAgent | SetAggregate | AddBlock | RemoveBlock | SetDefault | SetWhen
    | AddLayer | RemoveLayer | SetReads,
    Field(discriminator="op"),
]  # fmt: skip


class Patch(Frozen):
    """One to three edits made together: one, unless a change of structure needs more to fit."""

    edits: Annotated[tuple[Edit, ...], Field(min_length=1, max_length=3)]
    """In the order they are made."""
    rationale: str = ""
    """What they should mend, for the log."""

    def __str__(self) -> str:
        return "; ".join(edit_line(edit) for edit in self.edits)


def parse_patch(values: JSON) -> Patch | Refusal:
    """Return the patch of a mapping, or why there is none; never raises."""
    try:
        return Patch.model_validate(values)
    except ValidationError as error:
        return _refusal(first_problem(error, _KEYS))


def apply(
    team: TeamSpec,
    patch: Patch | JSON,
    *,
    judged: Container[str] = (),
    leaks: Callable[[str], bool] | None = None,
    models: Iterable[str] = (),
) -> TeamSpec | Refusal:
    """Return the edited team, or why there is none; never raises.

    Names are looked up edit by edit (`unknown-...`, `duplicate-name`); the rest is checked once all edits are made, so
    that they may need each other. `invalid` is what is no patch, and values that do not hold together; `empty` a text,
    block, layer or team with nothing in it; `missing-producer` a layer that reads a name that is no layer, an
    aggregator over outputs that it cannot combine, a last layer that does not yield the team's answer.

    Args:
        team: What to edit.
        patch: A patch, or its mapping as a model wrote it.
        judged: Hashes of teams that need no second look; `team` itself always counts as one.
        leaks: Whether a text holds part of a question it must not hold; asked of every text that the patch brings in.
        models: Names of chat models that the patch may bring in, beside "" and those that the team names already.
    """
    known = patch if isinstance(patch, Patch) else parse_patch(patch)
    if isinstance(known, Refusal):
        return known
    layers = team.layers
    for number, edit in enumerate(known.edits, 1):
        try:
            layers = edit._on(layers)
        except _Refused as error:
            code, why = error.args
            return Refusal(code, f"edit {number}, {edit.op}", why)
        for problem in repeated(_drafted(team, layers)):  # at once: the next edit would not know which one is meant
            return _refusal(problem)
    edited = _drafted(team, layers)
    whole, changed = problems(edited), chain(lost(team, edited), strange(team, edited, models))
    for problem in chain(whole, changed, leaked(team, edited, leaks)):
        return _refusal(problem)
    if edited.hash == team.hash or edited.hash in judged:
        found = "a team that is the one before" if edited.hash == team.hash else "a team that was judged before"
        return Refusal("duplicate", "team", f"{found}, expected a change that was not tried")
    return edited


def edit_line(edit: Edit) -> str:
    """Return an edit in one line, for people and for the memory of a search; long texts are cut with a mark."""
    return one_line(str(edit), 160)


def patch_schema() -> dict[str, Any]:
    """Return the JSON schema of a patch, for models that answer under one."""
    return Patch.model_json_schema()


_KEYS = [*KEYS, *Patch.model_fields, *(key for edit in _Edit.__subclasses__() for key in edit.model_fields)]


def _drafted(team: TeamSpec, layers: Layers) -> TeamSpec:
    """Return a team that nobody checked yet."""
    return TeamSpec.model_construct(layers=layers, answer=team.answer, limits=team.limits)


def _refusal(problem: Problem) -> Refusal:
    return Refusal(problem.code, problem.where or "patch", one_line(problem.why, 400))


def _summary(block: Block) -> str:
    return f"{block.name} ({', '.join(agent.name for agent in block.agents)}; {block.aggregate.kind})"


def _unknown(what: str, name: str, known: Iterable[str]) -> _Refused:
    return _Refused(f"unknown-{what}", f"no {what} {one_line(name)!r}, expected {nearest(one_line(name), known)}")


def _given(text: str) -> str:
    if not text.strip():
        raise _Refused("empty", "no text, expected some")
    return text


def _layer(layers: Layers, name: str, *others: str) -> LayerSpec:
    for layer in layers:
        if layer.name == name:
            return layer
    raise _unknown("layer", name, [*(layer.name for layer in layers), *others])


def _block(layers: Layers, layer: str, name: str) -> Block:
    blocks = _layer(layers, layer).blocks
    for block in blocks:
        if block.name == name:
            return block
    raise _unknown("block", name, [block.name for block in blocks])


def _home(layers: Layers, agent: str) -> tuple[LayerSpec, Block]:
    for layer in layers:
        for block in layer.blocks:
            if any(one.name == agent for one in block.agents):
                return layer, block
    raise _unknown("agent", agent, [one.name for layer in layers for block in layer.blocks for one in block.agents])


def _with_layer(layers: Layers, name: str, **update: Any) -> Layers:
    changed = _layer(layers, name)
    return tuple(layer.model_copy(update=update) if layer is changed else layer for layer in layers)


def _with_block(layers: Layers, layer: str, name: str, **update: Any) -> Layers:
    changed = _block(layers, layer, name)
    blocks = _layer(layers, layer).blocks
    return _with_layer(
        layers, layer, blocks=tuple(block.model_copy(update=update) if block is changed else block for block in blocks)
    )


def _with_agent(layers: Layers, name: str, **update: Any) -> Layers:
    layer, block = _home(layers, name)
    agents = tuple(agent.model_copy(update=update) if agent.name == name else agent for agent in block.agents)
    return _with_block(layers, layer.name, block.name, agents=agents)
