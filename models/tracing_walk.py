"""A recorded run walked once: which calls count, which belong to gates, what layers they are and what those read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only

from ..architectures import Architecture, Layer
from .tracing_calls import Call, Settings, kind_of, settings_of, terms_of, with_means
from .tracing_layers import Reading, Unreadable, is_known, read
from .tracing_moves import CASTS, SPREADING, Unmoved, followed, indices, is_move, is_spread, keeps_order, moving
from .tracing_record import Event, Record, Value

NOTHING: Settings = {"op": "scale", "values": (1.0,)}
"""A layer that leaves all as it is, and always stays."""


@dataclass(frozen=True)
class Moved:
    """Where the numbers of a value lie: `index`, [batch, ...], among those of `base`."""

    base: Value
    index: Tensor


class Walk:
    """Layers of a run, in order.

    Attributes:
        layers: What was read so far.
        tensors: Their weights by (layer, tensor name).
        problems: What could not be read, one text a call.
    """

    def __init__(self, record: Record) -> None:
        """Walk what was recorded."""
        self.layers: list[Layer] = []
        self.tensors: dict[tuple[int, str], Tensor] = {}
        self.problems: list[str] = list(record.problems)
        self._record = record
        self._at: dict[Value, int] = {record.example: -1}
        self._moved: dict[Value, Moved] = {}
        self._standing: set[Value] = set()
        self._lost: set[Value] = set()
        self._gates: set[Event] = set()
        self._owner: dict[object, str] = {}
        self._taken: set[str] = set()
        self._batch, self.input = record.example.batch, record.example.shape
        self._run()

    def architecture(self) -> Architecture:
        """Return the layers as an architecture; only without problems."""
        return Architecture(input=self.input, layers=tuple(self.layers))

    def _run(self) -> None:
        output = self._record.output
        if not isinstance(output, Value):
            what = "it does not depend on the input" if isinstance(output, Tensor) else "not one tensor"
            self.problems.append(f"output ({type(output).__name__}: {what})")
            return
        events = with_means(self._needed(output))
        for event in events:
            if is_move(event):
                self._attempt(event, self._move)
        solid = [event for event in events if not is_move(event)]
        self._gates = _Gates(solid, self._link, output).events
        for event in solid:
            self._attempt(event, self._read)
        if not self.problems:
            self._finish(output)

    def _finish(self, output: Value) -> None:
        try:
            at = self._layer_of(output)
        except Unreadable as why:
            self.problems.append(f"output ({why})")
            return
        if len(output.shape) != 1 or output.batch != self._batch or not self.layers:
            self.problems.append(f"output (shape {output.shape}: not one value a class)")
        elif at != len(self.layers) - 1:
            self.problems.append("output (it is computed before other layers)")

    def _needed(self, output: Value) -> list[Event]:
        """Return the events that the output depends on, in order."""
        needed, todo = set[Event](), [output]
        while todo:
            event = todo.pop().event
            if event is not None and event not in needed:
                needed.add(event)
                todo += event.reads
        return [event for event in self._record.events if event in needed]

    def _attempt(self, event: Event, reader: Callable[[Event], None]) -> None:
        try:
            if event.stale:
                raise Unreadable(f"reads a tensor that {event.stale} under another name")
            reader(event)
        except Unreadable as why:
            line = f"{event.line}: " if event.line else ""
            self.problems.append(f"{line}{event.place} ({event.name}: {why})")
            self._lost.update(event.made)

    def _is_lost(self, value: Value) -> bool:
        moved = self._moved.get(value)
        return value in self._lost or (moved is not None and self._is_lost(moved.base))

    # -- calls that move numbers

    def _move(self, event: Event) -> None:
        """Follow the numbers through a call; where layers do what it did, its result counts as theirs."""
        if event.name in SPREADING and event.reads[0] in self._moved:
            self._standing.add(event.reads[0])  # sums and products repeat it by themselves
        given = [self._source(value) for value in event.reads]
        base = given[0].base
        if event.changes or any(moved.base is not base for moved in given[: followed(event)]):
            raise Unreadable("no layer of this kind")
        sources = dict(zip(event.reads, given, strict=True))
        try:
            found = moving_through(event, {value: moved.index for value, moved in sources.items()})
        except Unmoved as why:
            raise Unreadable(str(why)) from None
        for value, index in zip(event.made, found, strict=True):
            if not value.floating or (value.batch, *value.shape) != tuple(index.shape):
                raise Unreadable("makes a tensor that is not float32")
            self._moved[value] = Moved(base, index)
            if len(index.shape) - 1 == len(base.shape) and not keeps_order(base.shape, index):
                try:
                    moving(base.shape, index, self._batch)
                except Unmoved:
                    continue
                self._standing.add(value)

    def _source(self, value: Value) -> Moved:
        """Return where the numbers of a value lie among those of the last layers that made or arranged them."""
        if value in self._moved and value not in self._standing:
            return self._moved[value]
        return Moved(value, indices(value.batch, value.shape))

    def _link(self, value: Value) -> tuple[Value, Moved]:
        """Return the last call's value that `value` is made of, by way of which value, and how that lies in it."""
        if value not in self._moved:
            return value, Moved(value, indices(value.batch, value.shape))
        moved = self._moved[value]
        return self._link(moved.base) if moved.base in self._standing else (value, moved)

    def _layer_of(self, value: Value, *, spread: bool = False, gate: bool = False) -> int:
        """Return the layer that gives a value, after adding those that its moves take."""
        if value not in self._at:
            at = self._layer_of(self._moved[value].base)
            layers = self._moves_of(value, spread=spread, gate=gate)
            if not layers:
                return at
            assert value.event is not None
            self._at[value] = self._appended(layers, (at,), value.event.place)
        return self._at[value]

    def _moves_of(self, value: Value, *, spread: bool, gate: bool) -> list[Settings]:
        """Return the layers that a value's moves take; none where numbers need not move."""
        moved = self._moved.get(value)
        if moved is None:
            return []
        base = moved.base
        kept = keeps_order(base.shape, moved.index)
        if kept and base.event in self._gates and len(value.shape) > 1:
            return []
        try:
            repeated = spread and is_spread(base.shape, moved.index, self._batch)
            if repeated or (kept and gate and len(value.shape) == 1):
                return []
            return moving(base.shape, moved.index, self._batch)
        except Unmoved as why:
            assert value.event is not None
            line = f" at {value.event.line}" if value.event.line else ""
            raise Unreadable(f"reads what {value.event.name}{line} gives, which {why}") from None

    # -- calls that compute

    def _read(self, event: Event) -> None:
        kind = kind_of(event)
        made = event.made[-1] if event.made else None
        if not is_known(kind) or made is None or len(event.made) > 1:
            raise Unreadable("no layer of this kind")
        terms = terms_of(event, kind)
        inputs = tuple(term for term in terms if isinstance(term, Value))
        if len(inputs) < len(event.reads):
            raise Unreadable("its settings depend on the input")
        for value in (*inputs, made):
            if value.batch != self._batch or not value.shape:
                shape = (value.batch, *value.shape)
                raise Unreadable(f"a tensor of shape {shape}, where a batch of {self._batch} comes first")
            if not value.floating:
                raise Unreadable("not all is float32")
        gate = event in self._gates
        call = Call(
            kind, settings_of(kind, event), terms, tuple(value.shape for value in inputs), made.shape,
            len(self.input) - 1 if gate else 0, self._record.learned,
        )  # fmt: skip
        reading, place = read(call), self._named(event, call)
        for tensor in reading.tensors.values():
            self._own(tensor, place)
        spread = kind in ("add", "sub", "mul")
        if any(map(self._is_lost, inputs)):  # what it reads is a problem told already
            self._lost.add(made)
            for value in inputs:
                self._moves_of(value, spread=spread, gate=gate)
            return
        sources = [self._layer_of(value, spread=spread, gate=gate) for value in inputs]
        for number, layers in reading.before.items():
            sources[number] = self._appended(layers, (sources[number],), place)
        self._at[made] = self._joined(reading, tuple(sources), place)

    def _joined(self, reading: Reading, sources: tuple[int, ...], place: str) -> int:
        layers = list(reading.layers)
        if layers and layers[0]["op"] == "add":
            if len(set(sources)) == 1:  # two of one are its double
                layers[0] = {"op": "scale", "values": (float(len(sources)),)}
                sources = sources[:1]
            elif len(set(map(self._beneath, sources))) == 1:
                # A clean-up takes a branch of nothing but such layers for what is left of one that was removed.
                sources = (self._appended([NOTHING], sources[:1], f"{place}.scale"), *sources[1:])
        at = self._appended(layers, sources, place, reading.tensors)
        return self._appended([{"op": "mul"}], (*sources, at), f"{place}.mul") if reading.gates else at

    def _beneath(self, at: int) -> int:
        """Return the layer under `at` and those that may leave values as they are."""
        while at >= 0 and self.layers[at].op in ("act", "dropout", "max_pool"):
            at = (self.layers[at].inputs or (at - 1,))[0]
        return at

    def _appended(self, layers: Sequence[Settings], sources: tuple[int, ...], place: str, tensors: Any = None) -> int:
        first = 0
        if layers and layers[0]["op"] == "norm" and sources[0] >= 0 and self.layers[sources[0]].op == "norm":
            # A clean-up takes a norm right after a norm for what is left of something removed.
            layers, first = [NOTHING, *layers], 1
        for index, settings in enumerate(layers):
            at = len(self.layers)
            name = self._unique(place + ("" if index == first else f".{settings['op']}"))
            self.layers.append(Layer(name=name, inputs=() if sources == (at - 1,) else sources, **settings))
            if index == first:
                self.tensors |= {(at, key): tensor for key, tensor in (tensors or {}).items()}
            sources = (at,)
        return sources[0]

    def _own(self, tensor: Tensor, place: str) -> None:
        known = self._record.learned.get(id(tensor)) or self._record.names.get(id(tensor)) or id(tensor)
        owner = self._owner.setdefault(known, place)
        if owner != place:
            raise Unreadable(f"shares weights with {owner}")
        if place in self._taken:
            raise Unreadable("called a second time with the same weights")

    def _named(self, event: Event, call: Call) -> str:
        """Return the name of the event's layer: of its weight's module where it has one."""
        weight = call.settings.get("weight")
        name = self._record.names.get(id(weight)) if event.module is None else None
        return name.removesuffix(".weight") if name else event.place

    def _unique(self, name: str) -> str:
        count = next(n for n in range(1, len(self._taken) + 2) if _numbered(name, n) not in self._taken)
        self._taken.add(_numbered(name, count))
        return _numbered(name, count)


def moving_through(event: Event, sources: dict[Value, Tensor]) -> list[Tensor]:
    """Return the indices of each tensor that a moving call makes of those that it reads."""
    if event.function is not None and event.name in CASTS:
        return [sources[event.reads[0]]]
    args, kwargs = tree_map_only(Value, sources.__getitem__, (event.args, event.kwargs))
    call: Any = event.module or event.function
    try:
        made = call(*args, **kwargs)
    except RuntimeError:
        if event.name != "view":
            raise Unmoved("moves numbers in a way that depends on how they lie in memory") from None
        made = args[0].reshape(*args[1:])
    return [leaf for leaf in tree_flatten(made)[0] if isinstance(leaf, Tensor)]


class _Gates:
    """The calls between pooled maps and maps of one value made of them again: there, features stay maps.

    Of features that come from elsewhere, or go elsewhere too, no maps can be made; those are left out, and the call
    that reads maps of them is found unreadable.
    """

    def __init__(self, solid: Sequence[Event], link: Callable[[Value], tuple[Value, Moved]], output: Value) -> None:
        self.events: set[Event] = set()
        self._link, self._solid = link, set(solid)
        self._users: dict[Value, list[tuple[Event | None, Value]]] = {}
        for event in solid:
            for value in event.reads:
                self._users.setdefault(link(value)[1].base, []).append((event, value))
        self._users.setdefault(link(output)[1].base, []).append((None, output))
        for event in solid:
            for value in event.reads:
                if self._unflattens(value):
                    self.events |= self._inside(link(value)[1].base)

    def _unflattens(self, value: Value) -> bool:
        """Return whether a value is maps of one number each, of features."""
        via, moved = self._link(value)
        same = len(moved.base.shape) == 1 < len(via.shape) and via.shape[0] == moved.base.shape[0]
        return same and keeps_order(moved.base.shape, moved.index)

    def _flattens(self, value: Value) -> bool:
        """Return whether a value is features, of maps of one number each."""
        via, moved = self._link(value)
        same = len(via.shape) == 1 < len(moved.base.shape) and via.shape[0] == moved.base.shape[0]
        return same and keeps_order(moved.base.shape, moved.index)

    def _inside(self, last: Value) -> set[Event]:
        """Return the calls from where maps became features up to `last`; none if some come from, or go, elsewhere."""
        inside, todo = set[Event](), [last]
        while todo:
            event = todo.pop().event
            if event is None or event not in self._solid or any(len(made.shape) != 1 for made in event.made):
                return set()
            if event in inside:
                continue
            inside.add(event)
            pools = kind_of(event) in ("mean", "amax") and len(event.reads[0].shape) > 1
            onward = [] if pools else [value for value in event.reads if not self._flattens(value)]
            bases = [self._link(value)[1].base for value in onward]
            if any(len(value.shape) != 1 for value in (*onward, *bases)):
                return set()
            todo += bases
        for event in inside:
            for made in event.made:
                users = self._users.get(made, [])
                if any(user not in inside and not self._unflattens(value) for user, value in users):
                    return set()
        return inside


def _numbered(name: str, count: int) -> str:
    return name if count == 1 else f"{name}:{count}"
