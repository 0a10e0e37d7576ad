"""A traced graph walked once: which calls count, which belong to gates, what layers they are and what those read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx, nn

from ..architectures import Architecture, Layer, Shape
from .tracing_layers import (
    PARAMETERS,
    Call,
    Reading,
    Unreadable,
    is_flattening,
    is_unflattening,
    kind_of_module,
    kind_of_target,
    read,
    settings_of,
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A node that gives a tensor: the call it makes, and the nodes that it reads."""

    call: Call
    inputs: tuple[fx.Node, ...]
    inplace: bool


class Walk:
    """Layers of a graph, in order.

    Attributes:
        layers: What was read so far.
        tensors: Their weights by (layer, tensor name).
        problems: What could not be read, one text a call.
    """

    def __init__(self, module: nn.Module, graph: fx.Graph, values: Mapping[fx.Node, Any]) -> None:
        """Walk the graph of `module`; `values` are what its nodes give for some examples."""
        self.layers: list[Layer] = []
        self.tensors: dict[tuple[int, str], Tensor] = {}
        self.problems: list[str] = []
        self._module, self._values = module, values
        self._at: dict[fx.Node, int] = {}
        self._owner: dict[int, tuple[Tensor, str]] = {}
        self._taken: set[str] = set()
        first = next(node for node in graph.nodes if node.op == "placeholder")
        self._at[first] = -1
        self._batch, self.input = len(values[first]), tuple(values[first].shape[1:])
        self._output = next(node for node in graph.nodes if node.op == "output").args[0]
        self._run(graph)

    def architecture(self) -> Architecture:
        """Return the layers as an architecture; only without problems."""
        return Architecture(input=self.input, layers=tuple(self.layers))

    def _run(self, graph: fx.Graph) -> None:
        if not isinstance(self._output, fx.Node):
            self.problems.append(f"output ({type(self._output).__name__.removeprefix('immutable_')}: not one tensor)")
            return
        steps = self._steps(graph)
        gates = _gates(steps)
        for node, step in steps.items():
            call = replace(step.call, maps=len(self.input) - 1) if node in gates else step.call
            self._attempt(node, replace(step, call=call))
        made = self._values[self._output]
        if not self.problems and (made.dim() != 2 or not self.layers):
            self.problems.append(f"output (shape {tuple(made.shape[1:])}: not one value a class)")

    def _steps(self, graph: fx.Graph) -> dict[fx.Node, Step]:
        """Return the calls that the output depends on, in order; what cannot be one at all is a problem."""
        steps: dict[fx.Node, Step] = {}
        needed = _needed(graph, self._inplace)
        for node in graph.nodes:
            told = any(isinstance(self._values[source], (tuple, list)) for source in self._tensors_of(node))
            if node.op.startswith("call_") and node in needed and _has_tensor(self._values[node]) and not told:
                try:
                    steps[node] = self._step(node)
                except Unreadable as why:
                    self._problem(node, why)
        return steps

    def _tensors_of(self, node: fx.Node) -> list[fx.Node]:
        return [source for source in node.all_input_nodes if _has_tensor(self._values[source])]

    def _kind(self, node: fx.Node) -> tuple[str, nn.Module | None, bool]:
        if node.op != "call_module":
            kind, inplace = kind_of_target(node.target)
            return kind, None, inplace
        module = self._module.get_submodule(str(node.target))
        return kind_of_module(module), module, False

    def _inplace(self, node: fx.Node) -> bool:
        if not node.op.startswith("call_"):
            return False
        kind, module, inplace = self._kind(node)
        return inplace or settings_of(kind, node, module, self._values).get("inplace") is True

    def _step(self, node: fx.Node) -> Step:
        kind, module, _ = self._kind(node)
        value = self._values[node]
        if not kind or not isinstance(value, Tensor):
            raise Unreadable("no layer of this kind")
        terms = _terms(node, kind)
        read_here = tuple(term for term in terms if isinstance(term, fx.Node) and _has_tensor(self._values[term]))
        for source in read_here:
            if source.op == "get_attr":
                raise Unreadable(f"reads {source.target}, a tensor that no layer gives")
        settings = settings_of(kind, node, module, self._values)
        if kind in ("add", "mul") and len(read_here) == 1:
            constant = next(term for term in terms if term is not read_here[0])
            settings["other"] = fx.map_arg(constant, self._values.__getitem__)
        given = [self._values[source] for source in read_here]
        for tensor in (*given, value):
            if tensor.dim() < 2 or len(tensor) != self._batch:
                raise Unreadable(f"a tensor of shape {tuple(tensor.shape)}, where a batch of {self._batch} comes first")
        if kind == "expand" and not all(self._kind(user)[0] in ("add", "mul") for user in node.users):
            raise Unreadable("what it gives is neither added nor multiplied")
        call = Call(kind, settings, tuple(map(_shape, given)), _shape(value))
        return Step(call, read_here, self._inplace(node))

    def _attempt(self, node: fx.Node, step: Step) -> None:
        try:
            reading = read(step.call)
            for tensor in reading.tensors.values():
                self._own(tensor, self._place(node))
        except Unreadable as why:
            self._problem(node, why)
            return
        if all(source in self._at for source in step.inputs):  # else what it reads is a problem told already
            self._append(node, step, reading)

    def _append(self, node: fx.Node, step: Step, reading: Reading) -> None:
        sources = tuple(self._at[source] for source in step.inputs)
        for index, settings in enumerate(reading.layers):
            at = len(self.layers)
            name = self._unique(self._place(node) + (f".{settings['op']}" if index else ""))
            self.layers.append(Layer(name=name, inputs=() if sources == (at - 1,) else sources, **settings))
            self.tensors |= {(at, key): tensor for key, tensor in (reading.tensors.items() if not index else ())}
            sources = (at,)
        self._at[node] = sources[0]
        if step.inplace:  # whoever reads the same tensor later finds it changed
            old = self._at[step.inputs[0]]
            self._at |= {other: sources[0] for other, at in self._at.items() if at == old}

    def _own(self, tensor: Tensor, place: str) -> None:
        _, owner = self._owner.setdefault(id(tensor), (tensor, place))
        if owner != place:
            raise Unreadable(f"shares weights with {owner}")
        if place in self._taken:
            raise Unreadable("called a second time with the same weights")

    def _place(self, node: fx.Node) -> str:
        """Return the path of the module that a call is, or in which it stands and its own name."""
        if node.op == "call_module":
            return str(node.target)
        names = PARAMETERS.get(self._kind(node)[0], ())
        weight = {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}.get("weight")
        if isinstance(weight, fx.Node):
            return str(weight.target).removesuffix(".weight")
        stack = list(node.meta.get("nn_module_stack", {}).values())
        path = stack[-1][0] if stack else ""
        return f"{path}.{_called(node)}" if path else _called(node)

    def _unique(self, name: str) -> str:
        count = next(n for n in range(1, len(self._taken) + 2) if _numbered(name, n) not in self._taken)
        self._taken.add(_numbered(name, count))
        return _numbered(name, count)

    def _problem(self, node: fx.Node, why: Unreadable) -> None:
        module = self._kind(node)[1]
        what = type(module).__name__ if module is not None else _called(node)
        self.problems.append(f"{self._place(node)} ({what}: {why})")


def _terms(node: fx.Node, kind: str) -> tuple[Any, ...]:
    """Return the arguments that are what a call reads: weights and settings left out."""
    first = node.args[0] if node.args else node.kwargs.get("input", node.kwargs.get("tensors"))
    if kind in ("add", "mul"):
        return first, node.args[1] if len(node.args) > 1 else node.kwargs.get("other")
    return tuple(first) if kind == "cat" and isinstance(first, (list, tuple)) else (first,)


def _called(node: fx.Node) -> str:
    """Return the name by which the code calls a function or method."""
    return str(node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.name)).rstrip("_")


def _numbered(name: str, count: int) -> str:
    return name if count == 1 else f"{name}:{count}"


def _shape(value: Tensor) -> Shape:
    return tuple(value.shape[1:])


def _has_tensor(value: Any) -> bool:
    """Return whether a node gives a tensor, or several; sizes and such are no part of the network."""
    return isinstance(value, Tensor) or (isinstance(value, (tuple, list)) and any(map(_has_tensor, value)))


def _needed(graph: fx.Graph, inplace: Callable[[fx.Node], bool]) -> set[fx.Node]:
    """Return the nodes that the output depends on; a call that works in place counts where its tensor does."""
    needed: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        changed = node.all_input_nodes[:1] if inplace(node) else []
        if node.op == "output" or node in needed or any(source in needed for source in changed):
            needed |= {node, *node.all_input_nodes}
    return needed


def _gates(steps: Mapping[fx.Node, Step]) -> set[fx.Node]:
    """Return the calls between pooled maps and maps of one value made of them again: there, features stay maps.

    Of features that come from elsewhere, or go elsewhere too, no maps can be made; those are left out, and the call
    that makes maps of them is found unreadable.
    """
    gates: set[fx.Node] = set()
    for node, step in steps.items():
        if is_unflattening(step.call):
            inside = _gate(steps, step.inputs[0])
            leaks = any(
                user in steps and user not in inside and not is_unflattening(steps[user].call)
                for member in inside
                for user in member.users
            )
            gates |= set() if leaks else inside | {node}
    return gates


def _gate(steps: Mapping[fx.Node, Step], last: fx.Node) -> set[fx.Node]:
    """Return the calls from where maps of one value became features up to `last`; none if features come from else."""
    inside: set[fx.Node] = set()
    todo = [last]
    while todo:
        node = todo.pop()
        if node not in steps or (len(steps[node].call.given[0]) > 1 and not is_flattening(steps[node].call)):
            return set()
        if node not in inside:
            inside.add(node)
            todo += [] if is_flattening(steps[node].call) else steps[node].inputs
    return inside
