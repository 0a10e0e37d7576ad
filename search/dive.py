"""The released CoLa search: an epsilon-greedy dive over whole paths, kept as its authors run it.

Descend by the largest stored bound, or with probability epsilon to a random open child; at a leaf attach every
edit not met before and move to a random one. A child never asked has the bound minus infinity, so all breadth
comes from the random moves. Source: CoLa, arXiv 2507.07996, section 3 and appendix B; the released run_mcts.py
where the paper is silent. Must not know models or actors.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from ..candidates import LayerPath
from ..records import Outcome, Scored, Trial, generator
from .path_space import Layers, Splices


@dataclass(frozen=True, slots=True)
class DiveSettings:
    """How the dive chooses.

    Attributes:
        exploration: c of the bound; the released code takes sqrt(2).
        length_weight: lambda, on executed layers / depth.
        epsilon: Chance of a random open child instead of the best.
        stored: Compare bounds as they were when last walked through (released code), not as they are now (paper).
    """

    exploration: float = math.sqrt(2)
    length_weight: float = 5.0
    epsilon: float = 0.1
    stored: bool = True


@dataclass(slots=True, eq=False)
class _Node:
    layers: Layers
    visits: int = 0
    total: float = 0.0
    bound: float = -math.inf
    children: list["_Node"] = field(default_factory=list)
    unasked: list[Layers] | None = None
    """Edits attached and not asked yet; None before the first descent to here."""
    explored: bool = False
    fresh: bool = True
    """Made just now and not asked yet."""


class EpsilonDive:
    """The released search behind ask/tell; told in the order of asking, one ask at a time equals the original.

    Differs where asks overlap: a path asked and not yet told has no bound, so the dive passes it by.

    Args:
        space: Legal edits.
        simulations: Paths asked beside the identity.
        seed: Every draw is a function of (seed, index of the trial). The released code seeds every input alike,
            which makes common paths look common; here the seed is per input.
        settings: How to choose.
        stop: Told each reward, its path's length and the identity's reward; True ends the search early.
    """

    def __init__(
        self,
        space: Splices,
        simulations: int,
        seed: int,
        settings: DiveSettings = DiveSettings(),
        stop: Callable[[float, int, float], bool] | None = None,
    ) -> None:
        self._space, self._settings, self._stop = space, settings, stop
        self._quota, self._seed, self._asked = simulations + 1, seed, 0
        self._root = _Node(space.identity)
        self._met = {space.identity}
        self._open: dict[int, list[_Node]] = {}
        self._first: float | None = None
        self._stopped = False

    @property
    def done(self) -> bool:
        """Whether the quota is asked, nothing is left to ask, or an early stop was reached."""
        return self._asked >= self._quota or self._stopped or self._root.explored

    def ask(self, n: int) -> list[Trial]:
        """Return up to `n` paths never asked before, the identity first."""
        trials: list[Trial] = []
        while len(trials) < n and not self.done:
            chain = [self._root]
            if self._asked:
                found = self._dive(generator(self._seed, "dive", self._asked))
                if found is None:
                    break
                chain = found
            self._open[self._asked] = chain
            trials.append(Trial(self._asked, LayerPath(chain[-1].layers)))
            self._asked += 1
        return trials

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Back the reward up and renew the bounds of the walked chain; a failure changes nothing."""
        chain = self._open.pop(trial.index)
        if not isinstance(outcome, Scored):
            return
        reward = float(outcome.values["reward"])
        for node in chain:
            node.visits += 1
            node.total += reward
        for node in chain:
            node.bound = self._bound(node)
        if trial.index == 0:
            self._first = reward
        elif self._stop is not None and self._first is not None:
            self._stopped = self._stopped or self._stop(reward, len(chain[-1].layers), self._first)

    def _dive(self, draws: random.Random) -> list[_Node] | None:
        """Return the chain to a path not asked yet; None when all that is legal has been asked."""
        chain = [self._root]
        while not self._root.explored:
            node = chain[-1]
            if node.unasked is None:
                node.unasked = self._attach(node.layers)
                child = self._take(node, draws) if node.unasked else None
            else:
                child = self._choose(node, draws)
            if child is None:
                node.explored = True
                chain = [self._root]
                continue
            chain.append(child)
            if child.fresh:
                child.fresh = False
                return chain
        return None

    def _choose(self, node: _Node, draws: random.Random) -> _Node | None:
        """Return a child asked before, or a new one; None where none is open."""
        open_children = [child for child in node.children if not child.explored]
        unasked = len(node.unasked or ())
        if draws.random() < self._settings.epsilon and open_children:
            at = draws.randrange(len(open_children) + unasked)
            return open_children[at] if at < len(open_children) else self._take(node, draws)
        told = [child for child in open_children if child.visits]
        if told:
            return max(told, key=lambda child: child.bound if self._settings.stored else self._bound(child))
        return self._take(node, draws) if unasked else next(iter(open_children), None)

    def _attach(self, layers: Layers) -> list[Layers]:
        """Return the edits not met anywhere before, and mark them met: each path hangs under its first parent."""
        fresh = [path for path in dict.fromkeys(self._space.edits(layers)) if path not in self._met]
        self._met.update(fresh)
        return fresh

    def _take(self, node: _Node, draws: random.Random) -> _Node:
        """Make a child of a random edit that was not asked yet."""
        assert node.unasked
        at = draws.randrange(len(node.unasked))
        node.unasked[at], node.unasked[-1] = node.unasked[-1], node.unasked[at]
        child = _Node(node.unasked.pop())
        node.children.append(child)
        return child

    def _bound(self, node: _Node) -> float:
        """Return Q/v + c sqrt(ln(V + 1) / v) - lambda |P| / D, V the root's visits."""
        spread = self._settings.exploration * math.sqrt(math.log(self._root.visits + 1) / node.visits)
        length = self._settings.length_weight * len(node.layers) / self._space.depth
        return node.total / node.visits + spread - length
