"""Spaces of layer paths: which edits of which path are legal, and how a random path is drawn.

Two ways to edit, as in the published codes. `Splices` edit the current path, copies included (CoLa, PoLar,
DR.LLM). `EditSets` edit the identity in its own index space, in any order, without overlap (RE-PoLar and ours):
one set of edits is one path, however it was reached.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..candidates import LayerPath

Layers = tuple[int, ...]

MOST_EDITS = 4
"""Edits of a randomly drawn path at most; searches of 100 simulations reach 4 to 5 on average."""


@dataclass(frozen=True)
class Splices:
    """Skip k entries of the current path, or repeat a block of k entries r more times.

    Attributes:
        depth: Layers of the unmodified decoder.
        root_skips: Block lengths that may be skipped in the identity.
        root_repeats: Block lengths that may be repeated in it.
        skips: Block lengths that may be skipped in any other path.
        repeats: Block lengths that may be repeated in it.
        copies: Extra copies that one repeat may add, 1 to this many.
        multiplicity: Executions of one layer at most, where single layers are repeated; None for any.
        shortest: Layers of a path at least.
        longest: Layers of a path at most.
    """

    depth: int
    root_skips: tuple[int, ...]
    root_repeats: tuple[int, ...]
    skips: tuple[int, ...]
    repeats: tuple[int, ...]
    copies: int
    multiplicity: int | None
    shortest: int
    longest: int

    @property
    def size(self) -> float:
        """Not counted."""
        return math.inf

    @property
    def identity(self) -> Layers:
        """The unmodified decoder."""
        return tuple(range(self.depth))

    def edits(self, layers: Layers) -> Iterator[Layers]:
        """Yield the paths that one edit of `layers` gives, skips first; the same path may come twice."""
        at_root = layers == self.identity
        for length in self.root_skips if at_root else self.skips:
            if len(layers) - length >= self.shortest:
                for at in range(len(layers) - length + 1):
                    yield layers[:at] + layers[at + length :]
        for length in self.root_repeats if at_root else self.repeats:
            for copies in range(1, self.copies + 1):
                if len(layers) + length * copies > self.longest:
                    break
                for at in range(len(layers) - length + 1):
                    stop = at + length
                    if self._may_repeat(layers, at, length, copies):
                        yield layers[:stop] + layers[at:stop] * copies + layers[stop:]

    def draw(self, rng: random.Random) -> LayerPath:
        """Return the path after 1 to `MOST_EDITS` legal edits, each drawn evenly among those there are."""
        layers = self.identity
        for _ in range(1 + rng.randrange(MOST_EDITS)):
            options = list(self.edits(layers))
            if options:
                layers = options[rng.randrange(len(options))]
        return LayerPath(layers)

    def _may_repeat(self, layers: Layers, at: int, length: int, copies: int) -> bool:
        if self.multiplicity is None or length > 1:
            return True
        return layers.count(layers[at]) + copies <= self.multiplicity


@dataclass(frozen=True, slots=True)
class Edit:
    """Run layers `start` to `start + length - 1` `times` times: 0 skips them."""

    start: int
    length: int
    times: int


State = tuple[Edit, ...]


@dataclass(frozen=True)
class EditSets:
    """Sets of edits that do not overlap, over the identity's own indices; sorted, so that order does not count.

    Attributes:
        depth: Layers of the unmodified decoder.
        lengths: Block lengths that an edit may take.
        times: Executions that an edit may give its block; 0 skips.
        shortest: Layers of a path at least.
        longest: Layers of a path at most.
        most: Edits of one path at most; None for any.
    """

    depth: int
    lengths: tuple[int, ...]
    times: tuple[int, ...]
    shortest: int
    longest: int
    most: int | None = None

    @property
    def size(self) -> float:
        """Not counted."""
        return math.inf

    def root(self) -> State:
        """Return the empty set of edits: the identity."""
        return ()

    def actions(self, state: State) -> list[Edit]:
        """Return the edits that may join `state`."""
        if self.most is not None and len(state) >= self.most:
            return []
        used = sum(((1 << edit.length) - 1) << edit.start for edit in state)
        room, spare = self.longest - self._length(state), self._length(state) - self.shortest
        return [edit for edit, mask, grows in self._table if not mask & used and -spare <= grows <= room]

    def step(self, state: State, action: Edit) -> State:
        """Return `state` with one more edit."""
        return tuple(sorted((*state, action), key=lambda edit: edit.start))

    def key(self, state: State) -> Layers:
        """Return the path itself: two sets that spell one path are one node."""
        layers: list[int] = []
        at = 0
        for edit in state:
            layers += range(at, edit.start)
            layers += list(range(edit.start, edit.start + edit.length)) * edit.times
            at = edit.start + edit.length
        return (*layers, *range(at, self.depth))

    def candidate(self, state: State) -> LayerPath:
        """Return the path of a set of edits."""
        return LayerPath(self.key(state))

    def cost(self, state: State) -> float:
        """Return executed layers / depth."""
        return self._length(state) / self.depth

    def sign(self, state: State) -> int:
        """Return 1: every edit seeks a high reward."""
        return 1

    def draw(self, rng: random.Random) -> LayerPath:
        """Return the path of 1 to `MOST_EDITS` edits, each drawn evenly among those that may join."""
        state = self.root()
        for _ in range(1 + rng.randrange(min(MOST_EDITS, self.most or MOST_EDITS))):
            options = self.actions(state)
            if options:
                state = self.step(state, options[rng.randrange(len(options))])
        return self.candidate(state)

    @cached_property
    def _table(self) -> Sequence[tuple[Edit, int, int]]:
        """Every edit with the bits of its layers and by how much it lengthens a path."""
        edits = [
            Edit(start, length, times)
            for length in self.lengths
            for times in self.times
            for start in range(self.depth - length + 1)
        ]
        return [(edit, ((1 << edit.length) - 1) << edit.start, edit.length * (edit.times - 1)) for edit in edits]

    def _length(self, state: State) -> int:
        return self.depth + sum(edit.length * (edit.times - 1) for edit in state)


def length_window(depth: int) -> tuple[int, int]:
    """Return the fewest and most layers of a path, from the released code's table, else in its proportions.

    Source: PoLar's run_mcts.py lists depths 24, 28, 36 and 48; their windows run from 0.57 to 0.75 and from 1.13
    to 1.22 of the depth. Other depths take two thirds and seven sixths.
    """
    table = {24: (16, 28), 28: (16, 32), 36: (24, 44), 48: (36, 54)}
    return table.get(depth, (max(1, math.ceil(2 * depth / 3)), max(depth + 1, 7 * depth // 6)))
