"""Tree search over any states that can be evaluated as they are, behind ask/tell.

Every state is a candidate: asking one evaluates the state itself, and its children are its edits. States reached
in two ways are one node (transpositions make the tree a DAG). Several asks may be open: a visit counts from the
moment it is asked (unobserved visits, as in WU-UCT, Liu et al., ICLR 2020), so that proposals made together
differ. Must not know layers, models or actors; path_space.py and mcts.py bring the states.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..records import Candidate, Outcome, Scored, Trial, generator


class Problem(Protocol):
    """What a tree search searches: states, their actions, and what they cost."""

    def root(self) -> Any:
        """Return the state that is evaluated first."""
        ...

    def actions(self, state: Any) -> Sequence[Any]:
        """Return the legal actions of `state`; empty where it has none."""
        ...

    def step(self, state: Any, action: Any) -> Any:
        """Return the state that `action` leads to."""
        ...

    def key(self, state: Any) -> Hashable:
        """Return what makes two states the same node."""
        ...

    def candidate(self, state: Any) -> Candidate:
        """Return what is to be evaluated."""
        ...

    def cost(self, state: Any) -> float:
        """Return the state's relative cost; 1 is the root's."""
        ...

    def sign(self, state: Any) -> int:
        """Return 1 where the one who moves in `state` seeks a high reward, -1 where a low one."""
        ...


@dataclass(frozen=True, slots=True)
class TreeSettings:
    """How a tree is searched.

    Attributes:
        exploration: Weight of the confidence term, c.
        widening: Children allowed after n visits are max(1, ceil(widening * sqrt(n))); None allows all.
        cost_weight: Subtracted per unit of relative cost in the bound (lambda of CoLa); 0 leaves cost out.
        tie_break: Added to a reward of 1 for a state of no cost, in proportion to what is saved and to the
            reward: cost then decides among right states and never between a right and a wrong one.
    """

    exploration: float = math.sqrt(2)
    widening: float | None = 2.0
    cost_weight: float = 0.0
    tie_break: float = 0.0


@dataclass(slots=True, eq=False)
class Node:
    """A state with its statistics.

    Attributes:
        state: What it stands for.
        cost: Its relative cost.
        sign: Whether its chooser seeks high rewards (1) or low ones (-1).
        visits: Outcomes told in its subtree.
        pending: Visits asked and not yet told.
        total: Sum of the rewards told.
        children: Its edits that have been asked or met.
        untried: Actions not taken yet, in random order; None before the first is taken.
        closed: Nothing below is left to ask.
    """

    state: Any
    cost: float
    sign: int = 1
    visits: int = 0
    pending: int = 0
    total: float = 0.0
    children: list["Node"] = field(default_factory=list)
    untried: list[Any] | None = None
    closed: bool = False


class TreeSearch:
    """Upper-confidence tree search with transpositions, progressive widening and unobserved visits.

    Sources: UCT (Kocsis and Szepesvari, ECML 2006); progressive widening (Couetoux et al., LION 2011). A child
    that was never told takes its parent's mean as first-play value, so that a wide node is not swept first.

    Args:
        problem: The states.
        simulations: States asked beside the root, which is asked first.
        seed: Every draw is a function of (seed, index of the trial).
        settings: How to choose.
        stop: Told each scored outcome's reward and the root's; True ends the search early.
    """

    def __init__(
        self,
        problem: Problem,
        simulations: int,
        seed: int,
        settings: TreeSettings = TreeSettings(),
        stop: Callable[[float, float], bool] | None = None,
    ) -> None:
        self._problem, self._settings, self._stop = problem, settings, stop
        self._quota, self._seed, self._asked = simulations + 1, seed, 0
        self.root = self._node(problem.root())
        self._nodes: dict[Hashable, Node] = {problem.key(self.root.state): self.root}
        self._open: dict[int, list[Node]] = {}
        self._root_reward: float | None = None
        self._stopped = False

    @property
    def done(self) -> bool:
        """Whether the quota is asked, nothing is left to ask, or an early stop was reached."""
        return self._asked >= self._quota or self._stopped or (self._asked > 0 and self.root.closed)

    def ask(self, n: int) -> list[Trial]:
        """Return up to `n` states never asked before; the root first, and alone."""
        trials: list[Trial] = []
        while len(trials) < n and not self.done:
            chain = self._chain()
            if chain is None:
                break
            for node in chain:
                node.pending += 1
            self._open[self._asked] = chain
            trials.append(Trial(self._asked, self._problem.candidate(chain[-1].state)))
            self._asked += 1
        return trials

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Back the reward up the chain that led to the trial; a failure takes the visit back."""
        chain = self._open.pop(trial.index)
        for node in chain:
            node.pending -= 1
        if not isinstance(outcome, Scored):
            return
        reward = float(outcome.values["reward"])
        self.backup(chain, reward + self._settings.tie_break * reward * (1.0 - chain[-1].cost))
        if trial.index == 0:
            self._root_reward = reward
        elif self._stop is not None and self._root_reward is not None:
            self._stopped = self._stopped or self._stop(reward, self._root_reward)

    def _chain(self) -> list[Node] | None:
        """Return the way to the state that is asked next."""
        if not self._asked:
            return [self.root]
        return self.select(generator(self._seed, "tree", self._asked).randrange)

    @staticmethod
    def backup(chain: Sequence[Node], reward: float) -> None:
        """Count one visit of `reward` in every node of `chain`."""
        for node in chain:
            node.visits += 1
            node.total += reward

    def select(self, randrange: Callable[[int], int]) -> list[Node] | None:
        """Return the chain from the root to a node made just now; None when nothing is left to ask."""
        chain = [self.root]
        while not self.root.closed:
            node = chain[-1]
            best = None if self._may_widen(node) else self.best(node)
            if best is not None:
                chain.append(best)
            elif node.untried is None or node.untried:
                child = self.expand(node, randrange)
                if child is not None:
                    return [*chain, child]
            else:
                node.closed = True
                chain = [self.root]
        return None

    def _may_widen(self, node: Node) -> bool:
        if node.untried is None:
            return True
        if not node.untried:
            return False
        widening = self._settings.widening
        if widening is None:
            return True
        return len(node.children) < max(1, math.ceil(widening * math.sqrt(node.visits + node.pending)))

    def expand(self, node: Node, randrange: Callable[[int], int]) -> Node | None:
        """Take one untried action; return its node if it is new, None if it was met before or none is left."""
        if node.untried is None:
            node.untried = list(self._problem.actions(node.state))
        if not node.untried:
            return None
        at = randrange(len(node.untried))
        node.untried[at], node.untried[-1] = node.untried[-1], node.untried[at]
        state = self._problem.step(node.state, node.untried.pop())
        key = self._problem.key(state)
        known = self._nodes.get(key)
        if known is None:
            known = self._nodes[key] = self._node(state)
            node.children.append(known)
            return known
        if known is not self.root and known not in node.children:
            node.children.append(known)
        return None

    def best(self, node: Node) -> Node | None:
        """Return the open child of the largest upper confidence bound, the first of equals; None if none is open."""
        cost_weight, sign = self._settings.cost_weight, node.sign
        mean = node.total / node.visits if node.visits else 0.0
        spread = self._settings.exploration * math.sqrt(math.log(node.visits + node.pending + 1))
        best, highest, sqrt = None, -math.inf, math.sqrt
        for child in node.children:
            if child.closed:
                continue
            visits = child.visits
            value = sign * (child.total / visits if visits else mean)
            # A count of 0 is a child whose evaluation failed: seen once, it must not draw every later descent.
            bound = value + spread / sqrt(visits + child.pending or 1)
            if cost_weight:
                bound -= cost_weight * child.cost
            if bound > highest:
                best, highest = child, bound
        return best

    def _node(self, state: Any) -> Node:
        return Node(state, self._problem.cost(state), self._problem.sign(state))
