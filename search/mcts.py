"""The interface of the package `mcts` on our tree search: any of its states runs here, with the same call.

Source: github.com/pbsinclair42/MCTS, version 1.0.4 (the interface alone). Two things differ on purpose. Players:
where a state has `getCurrentPlayer`, its player picks the child that is best for himself, 1 for a high
`getReward` and -1 for a low one; the package maximises for both. Randomness: one seed, no global generator.
"""

import math
import random
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

from ..errors import SpecError
from ..records import Candidate, generator
from .tree import Node, TreeSearch, TreeSettings

CLOCK_EVERY = 16
"""Rounds between looks at the clock under a time limit."""


class State(Protocol):
    """What the package `mcts` searches. `getCurrentPlayer` is optional there, and so it is here."""

    def getPossibleActions(self) -> Sequence[Any]:  # noqa: N802  the package's name
        """Return the legal actions."""
        ...

    def takeAction(self, action: Any) -> "State":  # noqa: N802
        """Return the state that `action` leads to."""
        ...

    def isTerminal(self) -> bool:  # noqa: N802
        """Return whether the game is over."""
        ...

    def getReward(self) -> float:  # noqa: N802
        """Return the reward of a terminal state."""
        ...


class _Game:
    """States of the package as a tree search's problem: a tree of (action taken, state), no transpositions."""

    def __init__(self, initial: State) -> None:
        self._initial = initial
        self._players = hasattr(initial, "getCurrentPlayer")

    def root(self) -> tuple[Any, State]:
        return None, self._initial

    def actions(self, state: tuple[Any, State]) -> Sequence[Any]:
        return () if state[1].isTerminal() else list(state[1].getPossibleActions())

    def step(self, state: tuple[Any, State], action: Any) -> tuple[Any, State]:
        return action, state[1].takeAction(action)

    def key(self, state: tuple[Any, State]) -> Hashable:
        return id(state)  # its node keeps it alive, so the id stays its own

    def candidate(self, state: tuple[Any, State]) -> Candidate:
        raise NotImplementedError("a game is played out here, not evaluated by a study")

    def cost(self, state: tuple[Any, State]) -> float:
        return 1.0

    def sign(self, state: tuple[Any, State]) -> int:
        return int(state[1].getCurrentPlayer()) if self._players else 1  # type: ignore[attr-defined]


def random_policy(state: State, rng: random.Random) -> float:
    """Play random actions to the end and return the reward.

    Raises:
        SpecError: a state that is not terminal has no action.
    """
    while not state.isTerminal():
        actions = state.getPossibleActions()
        if not actions:
            raise SpecError("getPossibleActions()", "no action", f"one or more in a state not terminal: {state}")
        state = state.takeAction(actions[int(rng.random() * len(actions))])
    return state.getReward()


class MCTS:
    """Monte Carlo tree search over game states, called as the package `mcts` is.

    Args:
        timeLimit: Milliseconds a search may take; give this or `iterationLimit`.
        iterationLimit: Rounds of a search.
        explorationConstant: The package's: the weight of the confidence term is this times sqrt(2).
        rolloutPolicy: Takes a state, returns a reward; random play unless given.
        seed: Every draw follows from it.
        workers: Processes; each grows a tree of its own over its share of the rounds, and their roots are summed
            (root parallelization, Chaslot et al., CG 2008). States and policy must pickle. The answer depends on
            seed and workers.

    Raises:
        SpecError: both limits, or neither, are given, or `iterationLimit` or `workers` is below 1.
    """

    def __init__(
        self,
        timeLimit: float | None = None,  # noqa: N803  the package's names
        iterationLimit: int | None = None,  # noqa: N803
        explorationConstant: float = 1 / math.sqrt(2),  # noqa: N803
        rolloutPolicy: Callable[[Any], float] | None = None,  # noqa: N803
        seed: int = 0,
        workers: int = 1,
    ) -> None:
        if workers < 1:
            raise SpecError("MCTS.workers", workers, "1 or more")
        if (timeLimit is None) == (iterationLimit is None):
            raise SpecError("MCTS", f"timeLimit={timeLimit}, iterationLimit={iterationLimit}", "one of the two")
        if iterationLimit is not None and iterationLimit < 1:
            raise SpecError("MCTS.iterationLimit", iterationLimit, "1 or more")
        self._milliseconds, self._rounds, self._seed = timeLimit, iterationLimit, seed
        self._settings = TreeSettings(exploration=explorationConstant * math.sqrt(2), widening=None)
        self._policy, self._workers = rolloutPolicy, workers
        self.root: Node | None = None

    def search(self, initialState: Any) -> Any:  # noqa: N803
        """Return the action with the best mean reward for the player to move; None where there is none."""
        if self._workers > 1:
            return self._search_in_processes(initialState)
        self.root = root = self._grow(initialState, self._rounds, 0).root
        best = max(root.children, key=lambda child: root.sign * child.total / child.visits, default=None)
        return None if best is None else best.state[0]

    def _search_in_processes(self, state: Any) -> Any:
        """Return the best action by the sums of several trees' roots."""
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        shares: list[int | None] = [None] * self._workers
        if self._rounds is not None:
            shares = [(self._rounds + number) // self._workers for number in range(self._workers)]
        with ProcessPoolExecutor(self._workers, get_context("spawn")) as pool:  # a fork would copy others' locks
            roots = list(pool.map(self._root_sums, [state] * self._workers, shares, range(self._workers)))
        actions = () if state.isTerminal() else list(state.getPossibleActions())
        sums = [tuple(map(sum, zip(*(root[at] for root in roots), strict=True))) for at in range(len(actions))]
        sign = _Game(state).sign((None, state))
        seen = [at for at, (visits, _) in enumerate(sums) if visits]
        return actions[max(seen, key=lambda at: sign * sums[at][1] / sums[at][0])] if seen else None

    def _root_sums(self, state: Any, rounds: int | None, number: int) -> list[tuple[int, float]]:
        """Return (visits, total reward) of each action of the root, in the state's own order."""
        children = self._grow(state, rounds, number).root.children
        actions = () if state.isTerminal() else list(state.getPossibleActions())
        found = {actions.index(child.state[0]): child for child in children}
        return [(found[at].visits, found[at].total) if at in found else (0, 0.0) for at in range(len(actions))]

    def _grow(self, state: Any, limit: int | None, number: int) -> TreeSearch:
        """Return the tree of so many rounds, or of as many as the time allows."""
        rng = generator(self._seed, "mcts", *([number] if number else []))
        tree = TreeSearch(_Game(state), 0, self._seed, self._settings)
        uniform = rng.random

        def draw(n: int) -> int:
            return int(uniform() * n)

        until = math.inf if self._milliseconds is None else time.perf_counter() + self._milliseconds / 1000
        rounds = 0
        while limit is None or rounds < limit:
            if rounds % CLOCK_EVERY == 0 and time.perf_counter() >= until:
                break
            self._round(tree, rng, draw)
            rounds += 1
        return tree

    def _round(self, tree: TreeSearch, rng: random.Random, draw: Callable[[int], int]) -> None:
        """Go down to a new state or a terminal one, play it out, back its reward up."""
        chain = [tree.root]
        while (node := chain[-1]).untried is None or node.untried or node.children:
            if node.untried is None or node.untried:
                child = tree.expand(node, draw)
                if child is not None:
                    chain.append(child)
                break
            best = tree.best(node)
            assert best is not None, "no node of a game is closed"
            chain.append(best)
        state = chain[-1].state[1]
        tree.backup(chain, self._policy(state) if self._policy is not None else random_policy(state, rng))
