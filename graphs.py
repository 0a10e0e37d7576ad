"""Graphs of calls as plain values: nodes, the tasks they run, how one feeds the next. Nothing is run here.

A graph belongs to one data item and is a DAG (networkx). A node names a task, the nodes whose outputs it takes and
the model it calls; a node without a model is free and computed where the graph runs. A node may add nodes below
itself once its output is known (roles become neurons, an undecided vote becomes another pair of judges): the new
nodes may take any node that is there already, so a graph never grows a cycle. Imports no folder.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel

from .errors import SpecError
from .records import JSON, Failed, digest

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Upper:
    """The most that one run of a task may take: calls, and tokens in and out."""

    calls: int = 1
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Task(Protocol):
    """What a node does: typed, stateless, the same answer for the same input as far as its model allows.

    `name`, `version` and `spec` are part of the ledger key: whatever changes an output must change one of them.
    """

    @property
    def name(self) -> str:
        """A short name, such as `judge`."""
        ...

    @property
    def version(self) -> int:
        """Raised whenever a change of the code may change an output."""
        ...

    @property
    def spec(self) -> JSON:
        """All else an output depends on beside input and model: prompt hash, sampling, labels."""
        ...

    @property
    def output(self) -> type[BaseModel]:
        """The type of the output."""
        ...

    async def run(self, given: Any, model: Any, seed: int) -> BaseModel:
        """Return the output for `given`.

        Args:
            given: The task's input, a pydantic model.
            model: The `ChatModel` of the node; None where the node names none.
            seed: Of every draw, a function of run, node and sample.

        Raises:
            CallFailed: there is no output; the reason is typed.
        """
        ...

    async def upper(self, given: Any, model: Any) -> Upper:
        """Return the most that `run` may take; what a budget reserves."""
        ...


class Free:
    """What tasks share that call no language model."""

    async def upper(self, given: Any, model: Any) -> Upper:
        """Return nothing: there is no call to pay."""
        return Upper(0)


@dataclass(frozen=True)
class Keep(Free):
    """A task whose output is its input: what is known already, as a node that others read.

    Attributes:
        name: A short name.
        output: The type of both.
    """

    name: str
    output: type[BaseModel]
    version: ClassVar[int] = 1
    spec: ClassVar[JSON] = None

    async def run(self, given: BaseModel, model: object, seed: int) -> BaseModel:
        """Return what is given."""
        return given


@dataclass(frozen=True)
class Node:
    """A call in the graph of one item.

    Attributes:
        id: Unique within the graph.
        task: What is done.
        feed: Makes the task's input of the outputs of `parents`, by id; parents that failed are absent.
        parents: Nodes whose outputs it takes.
        model: Name of the chat model it calls; "" for a free node that is computed in place.
        seed: Of its draws.
        sample: Index of the sample, where one input is drawn several times.
        prefix: Calls of one prefix are sent together, so that a server finds the shared part of their prompts warm.
        required: Whether its failure fails the item, and what is below it never runs; else that runs without it.
        expand: Nodes to add below, given its output.
        label: What a picture calls it; the id if empty.
    """

    id: str
    task: Task
    feed: Callable[[Mapping[str, Any]], BaseModel]
    parents: tuple[str, ...] = ()
    model: str = ""
    seed: int = 0
    sample: int = 0
    prefix: str = ""
    required: bool = True
    expand: Callable[[Any], Sequence["Node"]] | None = None
    label: str = ""

    @property
    def task_key(self) -> str:
        """What the ledger knows the task by, its model left out."""
        return digest([self.task.name, self.task.version, self.task.spec])


@dataclass
class NodeState:
    """What became of a node.

    Attributes:
        output: Its output, once there is one.
        failed: Why there is none.
        paid: False where the output was in the ledger, or cost nothing.
        cost: What it took: `seconds`, `calls`, `tokens`, `usd`.
    """

    output: BaseModel | None = None
    failed: Failed | None = None
    paid: bool = False
    cost: Mapping[str, float] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.output is not None or self.failed is not None


class Graph:
    """The calls of one item, growing as they are answered.

    >>> import networkx as nx
    >>> nx.is_directed_acyclic_graph(Graph("item", []).dag)
    True

    Args:
        item: The item's id.
        nodes: Those to begin with, parents before children.

    Raises:
        SpecError: an id comes twice, or a parent is not there.
    """

    def __init__(self, item: str, nodes: Sequence[Node]) -> None:
        import networkx as nx

        self.item = item
        self.dag: Any = nx.DiGraph()
        self.nodes: dict[str, Node] = {}
        self.states: dict[str, NodeState] = {}
        self._missing: dict[str, int] = {}
        self._ready: list[Node] = []
        self._open = 0
        for node in nodes:
            self.add(node)

    def add(self, node: Node) -> None:
        """Add a node below those that are there."""
        if node.id in self.nodes:
            raise SpecError(f"graph of {self.item}", node.id, "a node id not used before")
        for parent in node.parents:
            if parent not in self.nodes:
                known = ", ".join(list(self.nodes)[:8])
                raise SpecError(f"graph of {self.item}: {node.id}", parent, f"a parent among {known}")
        self.nodes[node.id], self.states[node.id] = node, NodeState()
        self._open += 1
        self.dag.add_node(node.id)
        self.dag.add_edges_from((parent, node.id) for parent in node.parents)
        self._missing[node.id] = sum(not self.states[parent].done for parent in set(node.parents))
        if not self._missing[node.id]:
            self._ready.append(node)

    def take_ready(self) -> list[Node]:
        """Return the nodes whose parents have all ended, each once."""
        ready, self._ready = self._ready, []
        return ready

    def blocked(self, node: Node) -> Failed | None:
        """Say why a node that is ready cannot run: a parent that its item needs has failed."""
        for parent in node.parents:
            if self.nodes[parent].required and self.states[parent].failed is not None:
                return Failed("Upstream", parent)
        return None

    def given(self, node: Node) -> BaseModel:
        """Return the input of a node that is ready."""
        outputs = {parent: self.states[parent].output for parent in node.parents}
        return node.feed({parent: output for parent, output in outputs.items() if output is not None})

    def finish(self, node: Node, state: NodeState) -> None:
        """Take what became of a node; add what it expands to."""
        self.states[node.id] = state
        self._open -= 1
        for child in self.dag.successors(node.id):
            self._missing[child] -= 1
            if not self._missing[child]:
                self._ready.append(self.nodes[child])
        if state.output is not None and node.expand is not None:
            for new in node.expand(state.output):
                self.add(new)
                if not new.parents:  # it takes no output, but it is there because of this one
                    self.dag.add_edge(node.id, new.id)

    @property
    def failed(self) -> Failed | None:
        """Why the item failed: the first required node that did, in the order they were added."""
        for id_, node in self.nodes.items():
            if node.required and (failed := self.states[id_].failed):
                return failed
        return None

    @property
    def done(self) -> bool:
        """Whether every node has ended."""
        return not self._open

    def output(self, id_: str) -> Any:
        """Return a node's output; None where it has none or does not exist."""
        state = self.states.get(id_)
        return state.output if state else None

    def layers(self) -> Iterator[list[str]]:
        """Yield the node ids of each generation: those without parents, those below them, and so on."""
        import networkx as nx

        yield from nx.topological_generations(self.dag)

    def mermaid(self) -> str:
        """Return the graph as Mermaid text; after a run each node carries its time, tokens and price."""
        from .graph_pictures import mermaid

        return mermaid(self)

    def plot(self) -> "Figure":
        """Return a matplotlib figure of the graph; after a run each node carries its time, tokens and price."""
        from .graph_pictures import plot

        return plot(self)


__all__ = ["Free", "Graph", "Keep", "Node", "NodeState", "Task", "Upper"]
