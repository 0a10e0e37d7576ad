"""The forward pass of a team over one item, as nodes of a graph: per layer a choice, a block's agents, one output.

Layers come one after another by `expand`, since what a block is depends on the choice before it. Knows nodes and
tasks; must not know ledgers, endpoints or searches.

Source: ANN, arXiv 2506.09046, section 2.1 of specs/ann; how blocks are chosen and shown is ours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...errors import SpecError
from ...graphs import Node
from ...teams import LayerSpec, TeamSpec
from .blocks import Place, block_nodes, out_id
from .items import TaskItem
from .selection import KeepSelected, SelectBlock, Selected, asks, block_of, offer, selected_freely
from .wording import Wording

Loss = Callable[[TaskItem, str], Sequence[Node]]
"""Returns the nodes that score an item's answer, given the id of the node whose output it is."""


@dataclass(frozen=True)
class TeamGraphs:
    """Builds the graph of any item for one team.

    >>> from plait.agents.teams.items import task_item
    >>> from plait.teams import AgentSpec, Block, LayerSpec, Schema, TeamSpec
    >>> agent = AgentSpec(name="solver", output=Schema(kind="number"))
    >>> layer = LayerSpec(name="solve", task="Answer.", blocks=(Block(name="one", agents=(agent,)),))
    >>> team = TeamSpec(layers=(layer,), answer=Schema(kind="number"))
    >>> [node.id for node in TeamGraphs(team, {"": "local"}).nodes(task_item("2 + 3?", "number", 5))]
    ['solve/select']

    Attributes:
        team: The team.
        models: Names of chat models by what agents and aggregators call them; "" is the default.
        wording: The prompts.
        seed: Of the run; draws follow from it, the item and the sample.
        loss: Adds the nodes that score the answer; None for none.

    Raises:
        SpecError: an agent or aggregator names a model that is not in `models`.
    """

    team: TeamSpec
    models: Mapping[str, str]
    wording: Wording = field(default_factory=Wording)
    seed: int = 0
    loss: Loss | None = None

    def __post_init__(self) -> None:
        wanted = {agent.model for agent in self.team.agents()} | {""}
        wanted |= {block.aggregate.model for layer in self.team.layers for block in layer.blocks}
        known = ", ".join(sorted(name for name in self.models if name)) or "none"
        for name in sorted(wanted - set(self.models)):
            raise SpecError("team: model", name, f"a model of this run: {known}" if name else "a default model")

    @property
    def answer_id(self) -> str:
        """Id of the node whose output is the answer."""
        return out_id(self.team.layers[-1].name)

    def nodes(self, item: TaskItem, sample: int = 0, resample: str = "") -> list[Node]:
        """Return the nodes to begin with: the choice of the first layer, below which all others come.

        Args:
            item: What is asked.
            sample: Index of the sample: another one draws everything again.
            resample: A layer whose calls, its choice apart, take the next sample; what follows is paid again only
                where what it reads has changed.

        Raises:
            SpecError: `resample` is no layer.
        """
        if resample and self.team.layer(resample) is None:
            known = ", ".join(layer.name for layer in self.team.layers)
            raise SpecError("team: resample", resample, f"a layer of the team: {known}")
        return self._layer(item, sample, resample, 0)

    def _layer(self, item: TaskItem, sample: int, resample: str, at: int) -> list[Node]:
        """Return the choice of a layer, which expands to its block, whose output expands to the next layer."""
        layer = self.team.layers[at]
        reads = self.team.read_by(layer)
        read = tuple(map(out_id, reads))
        id_ = f"{layer.name}/select"
        place = Place(
            item, layer, reads, (id_, *read), self.wording, self.models, self.seed, sample + (resample == layer.name)
        )

        def next_layer(_: object) -> Sequence[Node]:
            if at + 1 < len(self.team.layers):
                return self._layer(item, sample, resample, at + 1)
            return self.loss(item, place.out) if self.loss is not None else []

        def chosen(selected: Selected) -> list[Node]:
            *nodes, out = block_nodes(place, block_of(layer, selected))
            return [*nodes, replace(out, expand=next_layer)]

        return [replace(self._selection(place, layer, sample), expand=chosen)]

    def _selection(self, place: Place, layer: LayerSpec, sample: int) -> Node:
        """Return the node of a layer's choice: a call where a model chooses among several, else free."""
        id_, read, seed, item = place.above[0], place.above[1:], self.seed, place.item
        if asks(layer):
            return Node(
                id_, SelectBlock(self.wording),
                lambda outputs: offer(self.wording, layer, item, place.work(outputs), seed), read, self.models[""],
                sample=sample, prefix=f"{item.id}/{layer.name}", label=f"{layer.name}?",
            )  # fmt: skip
        selected = selected_freely(layer, item, seed, sample)
        return Node(id_, KeepSelected(), lambda _: selected, read, label=f"{layer.name}?")


__all__ = ["Loss", "TeamGraphs"]
