"""Rounds of our MCTS against the package `mcts`, one thread, the same game; the ratio of their medians.

Both also solve the game: the share of seeds whose first move is a winning one is printed beside the speed.
"""

import json
import os
import random
import statistics
import time
from dataclasses import dataclass

from mcts import mcts as PackageMcts  # noqa: N812
from plait.search.mcts import MCTS


@dataclass(frozen=True)
class Nim:
    """One heap; take 1 to `most` stones; who takes the last one has lost. Reward 1 where the first player wins."""

    stones: int
    most: int
    player: int = 1

    def getCurrentPlayer(self) -> int:  # noqa: N802
        """Return 1 for the first player, -1 for the second."""
        return self.player

    def getPossibleActions(self) -> list[int]:  # noqa: N802
        """Return how many may be taken."""
        return list(range(1, min(self.most, self.stones) + 1))

    def takeAction(self, action: int) -> "Nim":  # noqa: N802
        """Return the heap after the move."""
        return Nim(self.stones - action, self.most, -self.player)

    def isTerminal(self) -> bool:  # noqa: N802
        """Return whether the heap is empty."""
        return self.stones == 0

    def getReward(self) -> float:  # noqa: N802
        """Return 1 where the first player has won, -1 where the second has."""
        return float(self.player)


GAMES = (Nim(15, 3), Nim(40, 9), Nim(60, 29))
"""Few, some and many actions; of each the first player can win."""


def measure(game: Nim, rounds: int, repeats: int) -> dict[str, object]:
    """Return the ratio of median times, and how often each found a winning first move."""
    times: dict[str, list[float]] = {"ours": [], "package": []}
    wins = {"ours": 0, "package": 0}
    for repeat in range(repeats):
        for name in ("ours", "package") if repeat % 2 else ("package", "ours"):
            random.seed(repeat)
            search = MCTS(iterationLimit=rounds, seed=repeat) if name == "ours" else PackageMcts(iterationLimit=rounds)
            start = time.perf_counter()
            move = search.search(game)
            times[name].append(time.perf_counter() - start)
            wins[name] += (game.stones - move) % (game.most + 1) == 1
    ours, package = (statistics.median(times[name]) for name in ("ours", "package"))
    return {
        "actions": game.most,
        "ratio": round(package / ours, 3),
        "rounds_per_second": {"ours": round(rounds / ours), "package": round(rounds / package)},
        "winning_first_moves": {name: f"{count}/{repeats}" for name, count in wins.items()},
    }


def parallel(game: Nim, rounds: int, repeats: int, workers: int) -> dict[str, object]:
    """Return how much faster so many processes are than one over the same rounds, starting them included."""
    times: dict[int, list[float]] = {1: [], workers: []}
    wins = 0
    for repeat in range(repeats):
        for count in (1, workers) if repeat % 2 else (workers, 1):
            start = time.perf_counter()
            move = MCTS(iterationLimit=rounds, seed=repeat, workers=count).search(game)
            times[count].append(time.perf_counter() - start)
            wins += count > 1 and (game.stones - move) % (game.most + 1) == 1
    one, many = (statistics.median(times[count]) for count in (1, workers))
    return {"workers": workers, "ratio": round(one / many, 3), "winning_first_moves": f"{wins}/{repeats}"}


def main() -> None:
    """Time both in turn on each game and print one JSON line; the ratio is the middle game's."""
    games = [measure(game, 4000, 9) for game in GAMES]
    both = parallel(GAMES[1], 200000, 3, 2)
    result = {"name": "tree_search", "ratio": games[1]["ratio"], "cores": os.cpu_count(), "games": games}
    print(json.dumps({**result, "parallel": both}))


if __name__ == "__main__":
    main()
