"""The forward pass of a team over one item, as nodes of a graph: per layer a choice, a block's agents, one output.

Layers come one after another by `expand`, since what a block is depends on the choice before it. Knows nodes and
tasks; must not know ledgers, endpoints or searches.

Source: ANN, arXiv 2506.09046, section 2.1 of specs/ann; how blocks are chosen and shown is ours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pydantic import BaseModel

from ...errors import SpecError
from ...graphs import Keep, Node
from ...teams import LayerSpec, TeamSpec
from .aggregate import Combined
from .blocks import DONOR, Place, block_nodes, donor_id, out_id
from .items import TaskItem
from .selection import SelectBlock, Selected, asks, block_of, offer, selected_freely
from .wording import Wording

Loss = Callable[[TaskItem, str], Sequence[Node]]
"""Returns the nodes that score an item's answer, given the id of the node whose output it is."""

DONATED = Keep("team-donated", Combined)
"""Takes over what another team's layer came to."""
SETTLED = Keep("team-selected", Selected)
"""Records a choice that took no call."""


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

    def nodes(
        self, item: TaskItem, sample: int = 0, resample: str = "", donor: TeamSpec | None = None, donor_sample: int = 0
    ) -> list[Node]:
        """Return the nodes to begin with: the choice of the first layer, below which all others come.

        Args:
            item: What is asked.
            sample: Index of the sample: another one draws everything again.
            resample: A layer whose calls, its choice apart, take the next sample; what follows is paid again only
                where what it reads has changed.
            donor: Another team, which runs up to its layer `resample` first, under ids of its own. Its output stands
                in for that of the team's layer, which does not run.
            donor_sample: Index of the donor's sample.

        Raises:
            SpecError: `resample` is no layer; with a donor, it is the last one or the donor has none so called.
        """
        if resample and self.team.layer(resample) is None:
            known = ", ".join(layer.name for layer in self.team.layers)
            raise SpecError("team: resample", resample, f"a layer of the team: {known}")
        if donor is None:
            return self._layer(item, sample, resample, 0)
        shared = [layer.name for layer in self.team.layers[:-1] if donor.layer(layer.name)]
        if resample not in shared:
            known = ", ".join(shared) or "there is none"
            raise SpecError("team: donor: layer", resample, f"a layer of both, not the team's last: {known}")
        first = replace(self, team=donor).nodes(item, donor_sample)
        own = partial(self._layer, item, sample, resample, 0, donated=True)
        return [_donated(node, resample, own) for node in first]

    def _layer(self, item: TaskItem, sample: int, resample: str, at: int, *, donated: bool = False) -> list[Node]:
        """Return the choice of a layer, which expands to its block, whose output expands to the next layer.

        Of the layer `resample`, where it is `donated`, there is the donor's output alone.
        """
        layer = self.team.layers[at]

        def next_layer(_: object) -> Sequence[Node]:
            if at + 1 < len(self.team.layers):
                return self._layer(item, sample, resample, at + 1, donated=donated)
            return self.loss(item, self.answer_id) if self.loss is not None else []

        if donated and layer.name == resample:
            id_, theirs = out_id(layer.name), donor_id(out_id(layer.name))
            return [Node(id_, DONATED, lambda outputs: outputs[theirs], (theirs,), expand=next_layer)]
        reads = self.team.read_by(layer)
        drawn = sample + (resample == layer.name)
        above = (f"{layer.name}/select", *map(out_id, reads))
        place = Place(item, layer, reads, above, self.wording, self.models, self.seed, drawn)

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
        return Node(id_, SETTLED, lambda _: selected, read, label=f"{layer.name}?")


def _donated(node: Node, last: str, then: Callable[[], Sequence[Node]]) -> Node:
    """Return a donor's node under another id; below the output of its layer `last` comes what `then` returns."""

    def feed(outputs: Mapping[str, Any]) -> BaseModel:
        return node.feed({id_.removeprefix(DONOR): output for id_, output in outputs.items()})

    def expand(output: Any) -> Sequence[Node]:
        if node.id == out_id(last):
            return then()
        return [_donated(new, last, then) for new in node.expand(output)] if node.expand else []

    parents = tuple(map(donor_id, node.parents))
    return replace(node, id=donor_id(node.id), parents=parents, feed=feed, expand=expand, label=f"donor's {node.label}")


__all__ = ["Loss", "TeamGraphs"]
