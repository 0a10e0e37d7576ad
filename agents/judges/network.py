"""A network of judges over one pair of answers, as nodes of a graph.

A neuron is an angle and a model; it judges the pair in both orders, two calls that know nothing of each other. A
layer above sees the reviews of the one below. WideDeep (arXiv 2308.01862) connects whole layers; its released code
connects neighbours alone (`topology="window"`). Adaptive networks ask neurons one after another until the vote is
decided. Knows tasks and graphs; must not know ledgers, endpoints or reports.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from ...candidates import JudgeNetwork
from ...graphs import Free, Node
from ...models.chat import CallFailed
from ...records import JSON, seed_of
from .decision import Ballot, Ballots, Decision, decide, undecided
from .parsing import exchanged, without_scores
from .tasks import NameAngles, Opinion, Pair, PickLetter, Question, WriteReview
from .wording import Wording

Order = Literal["12", "21"]
ORDERS: tuple[Order, Order] = ("12", "21")
VERDICT = "verdict"

_ROUNDING = 1e-9
"""What a product of floats may be above the whole number that is meant."""


@dataclass(frozen=True)
class Item:
    """A query with two answers."""

    id: str
    query: str
    response1: str
    response2: str

    def shown(self, order: Order) -> Pair:
        """Return the pair as it is shown in `order`."""
        first, second = (self.response1, self.response2) if order == "12" else (self.response2, self.response1)
        return Pair(query=self.query, first=first, second=second)


@dataclass(frozen=True)
class Neuron:
    """One judge of a layer: what it looks at, the model it is, and which of several draws."""

    index: int
    angle: str
    model: str
    sample: int = 0


@dataclass(frozen=True)
class Judges:
    """Builds the graph of any item for one network.

    Attributes:
        network: Its shape.
        models: Names of the chat models; every angle is judged by each of them.
        wording: The prompts.
        prefilled: Those of the models that go on with an answer begun for them.
        seed: Of the run; draws follow from it, the item and the neuron.
    """

    network: JudgeNetwork
    models: tuple[str, ...]
    wording: Wording
    seed: int = 0
    prefilled: frozenset[str] = frozenset()

    def nodes(self, item: Item) -> list[Node]:
        """Return the nodes to begin with: the whole network, or the call that names its angles."""
        given = self.network.angles or tuple(self.wording.family(self.network.family)["angles"])
        if self.network.roles != "generated":
            return self._first(item, given)
        task = NameAngles(self.wording, self.network.family, self.network.role_limit)
        # The angles are asked in the order given alone, as published; a cache or standard angles avoid it.
        return [
            Node(
                "angles", task, lambda _: item.shown("12"), model=self.models[0], label="angles",
                expand=lambda found: self._first(item, found.names, ("angles",)),
            )
        ]  # fmt: skip

    def _first(self, item: Item, angles: Sequence[str], above: tuple[str, ...] = ()) -> list[Node]:
        neurons = [
            Neuron(index, *kind) for index, kind in enumerate(product(angles, self.models, range(self.network.samples)))
        ][: self.network.width]
        if self.network.stop != "none":
            return self._next_pair(item, neurons, 0)
        layer = [self._call(item, neuron, order, 1, neurons, ()) for neuron in neurons for order in ORDERS]
        if self.network.deepen == "undecided" and self.network.depth > 1:
            return [*layer, self._gate(item, neurons, layer)]
        return [*layer, *self._deeper(item, neurons, layer)]

    def _deeper(self, item: Item, neurons: Sequence[Neuron], below: Sequence[Node]) -> list[Node]:
        """Return the layers above the first, and the verdict."""
        layers, made = [list(below)], []
        for depth in range(2, self.network.depth + 1):
            layer = [self._call(item, n, order, depth, neurons, layers[-1]) for n in neurons for order in ORDERS]
            layers.append(layer)
            made += layer
        used = layers if self.network.layers == "all" else layers[-1:]
        return [*made, self._verdict([node for layer in used for node in layer], neurons, len(used))]

    def _gate(self, item: Item, neurons: Sequence[Neuron], layer: Sequence[Node]) -> Node:
        """Return a free node that adds the layers above only where the first one is undecided."""

        def grow(decision: Decision) -> list[Node]:
            if undecided(decision, self.network):
                return self._deeper(item, neurons, layer)
            return [self._verdict(layer, neurons, 1)]

        names = tuple(node.id for node in layer)
        feed = _ballots(self.network, neurons, 1)
        return Node("gate", Decide(self.network, final=False), feed, names, expand=grow, label="decided?")

    def _next_pair(self, item: Item, neurons: Sequence[Neuron], asked: int, done: tuple[Node, ...] = ()) -> list[Node]:
        """Return both orders of the next neuron, and a free node that goes on or ends."""
        neuron = neurons[asked]
        calls = [self._call(item, neuron, order, 1, neurons, ()) for order in ORDERS]
        asked_now = (*done, *calls)

        def grow(decision: Decision) -> list[Node]:
            left = len(neurons) - asked - 1
            if left and undecided(decision, self.network, left):
                return self._next_pair(item, neurons, asked + 1, asked_now)
            return [self._verdict(asked_now, neurons[: asked + 1], 1)]

        names = tuple(node.id for node in asked_now)
        feed = _ballots(self.network, neurons[: asked + 1], 1)
        gate = Node(
            f"decided-{asked + 1}", Decide(self.network, final=False), feed, names, expand=grow, label="decided?"
        )
        return [*calls, gate]

    def _verdict(self, nodes: Sequence[Node], neurons: Sequence[Neuron], layers: int) -> Node:
        names = tuple(node.id for node in nodes)
        return Node(VERDICT, Decide(self.network), _ballots(self.network, neurons, layers), names)

    def _call(
        self, item: Item, neuron: Neuron, order: Order, layer: int, neurons: Sequence[Neuron], below: Sequence[Node]
    ) -> Node:
        """Return one neuron's call in one order."""
        network = self.network
        last = layer == network.depth
        # A review is written where a layer above will read it, or where scores are what is asked for.
        if network.scoring == "letters" and last:
            task: Any = PickLetter(self.wording, network.family, network.hygiene, neuron.model in self.prefilled)
        else:
            task = WriteReview(self.wording, network.family, network.hygiene, network.temperature, network.max_tokens)
        # A draw belongs to what is asked; which item of which file it was plays no part in it.
        drawn = (neuron.angle, neuron.model, neuron.sample, order, layer, item.query, item.response1, item.response2)
        seed = seed_of(self.seed, "judge", *drawn) % 2**31 if network.temperature else 0
        connected = _connected(network, neuron, neurons)
        parents = tuple(f"{layer - 1}/{n.index}/{o}" for n in connected for o in ORDERS) if below else ()
        return Node(
            f"{layer}/{neuron.index}/{order}", task, _Feed(network, item, neuron, order, connected, layer), parents,
            neuron.model, seed, neuron.sample, f"{item.id}/{order}", required=False, label=f"{neuron.angle} {order}",
        )  # fmt: skip


@dataclass(frozen=True)
class _Feed:
    """Makes a neuron's question of the reviews below it, told in the order in which it will see the answers."""

    network: JudgeNetwork
    item: Item
    neuron: Neuron
    order: Order
    connected: Sequence[Neuron]
    layer: int

    def __call__(self, outputs: Mapping[str, Opinion]) -> Question:
        reviews, own = [], []
        for neuron in self.connected if self.layer > 1 else ():
            for order in ORDERS:
                opinion = outputs.get(f"{self.layer - 1}/{neuron.index}/{order}")
                if opinion is None or not opinion.text.strip():
                    continue
                text = opinion.text if order == self.order else exchanged(opinion.text)
                reviews.append(("", without_scores(text)) if self.network.hygiene else (neuron.angle, text))
                if neuron.index == self.neuron.index and not self.network.hygiene:
                    own.append(len(reviews))
        # In the released code a layer's angle is the union over its window; in the paper each keeps its own.
        union = self.network.topology == "window" and self.layer > 1
        angles = tuple(dict.fromkeys(n.angle for n in self.connected)) if union else (self.neuron.angle,)
        return Question(pair=self.item.shown(self.order), angles=angles, reviews=tuple(reviews), own=tuple(own))


@dataclass(frozen=True)
class Decide(Free):
    """Makes a decision of the ballots; free. Only the final one minds how many neurons answered."""

    network: JudgeNetwork
    final: bool = True
    name: ClassVar[str] = "judge-decision"
    version: ClassVar[int] = 2
    output: ClassVar[type[BaseModel]] = Decision

    @property
    def spec(self) -> JSON:
        """The network."""
        return self.network.key

    async def run(self, given: Ballots, model: object, seed: int) -> Decision:
        """Return the decision.

        Raises:
            CallFailed: too few neurons answered in both orders.
        """
        expected, heard = given.expected // 2, len(given.heard)
        needed = max(1, math.ceil(self.network.quorum * expected - _ROUNDING))
        if self.final and heard < needed:
            raise CallFailed("Empty", f"{heard} of {expected} neurons answered in both orders, {needed} needed")
        return decide(given, self.network)


def _connected(network: JudgeNetwork, neuron: Neuron, neurons: Sequence[Neuron]) -> list[Neuron]:
    """Return the neurons of the layer below whose reviews `neuron` sees, itself among them."""
    if network.topology == "full":
        return list(neurons)
    return [other for other in neurons if abs(other.index - neuron.index) < network.window]


def _ballots(network: JudgeNetwork, neurons: Sequence[Neuron], layers: int) -> Any:
    """Return the feed of a verdict: opinions by node id to ballots in the item's own order."""
    by_index = {neuron.index: neuron for neuron in neurons}
    expected = 2 * len(neurons) * layers

    def feed(outputs: Mapping[str, Opinion]) -> Ballots:
        cast = []
        for id_, opinion in outputs.items():
            layer, index, order = id_.split("/")
            neuron = by_index[int(index)]
            cast.append(Ballot.of(opinion, int(layer), neuron.index, neuron.angle, neuron.model, order))
        return Ballots(cast=tuple(cast), expected=expected)

    return feed


__all__ = ["ORDERS", "VERDICT", "Item", "Judges", "Neuron"]
