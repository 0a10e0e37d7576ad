"""The interface of the package `mcts`: its states run in ours, and where it is blind to players ours is not."""

import random
from dataclasses import dataclass

import pytest
from mcts import mcts as PackageMcts
from plait import MCTS, PlaitError


@dataclass(frozen=True)
class Ladder:
    """One player climbs four rungs, left or right; the reward is the share of right turns."""

    turns: tuple[int, ...] = ()

    def getCurrentPlayer(self):
        return 1

    def getPossibleActions(self):
        return [0, 1, 2]

    def takeAction(self, action):
        return Ladder((*self.turns, action))

    def isTerminal(self):
        return len(self.turns) == 4

    def getReward(self):
        return sum(turn == 1 for turn in self.turns) / 4


@dataclass(frozen=True)
class Nim:
    """Take one to three stones; who takes the last one loses. From 15, taking 2 wins."""

    stones: int = 15
    player: int = 1

    def getCurrentPlayer(self):
        return self.player

    def getPossibleActions(self):
        return list(range(1, min(3, self.stones) + 1))

    def takeAction(self, action):
        return Nim(self.stones - action, -self.player)

    def isTerminal(self):
        return self.stones == 0

    def getReward(self):
        return float(self.player)


def test_one_player_game_both_solve_it():
    for seed in range(5):
        random.seed(seed)
        assert MCTS(iterationLimit=400, seed=seed).search(Ladder()) == 1
        assert PackageMcts(iterationLimit=400).search(Ladder()) == 1


def test_two_player_game_ours_wins_it():
    ours = [MCTS(iterationLimit=4000, seed=seed).search(Nim()) for seed in range(5)]
    assert ours == [2] * 5


def test_second_player_wants_low_rewards():
    assert MCTS(iterationLimit=4000, seed=1).search(Nim(15, -1)) == 2


def test_same_seed_same_tree():
    searches = [MCTS(iterationLimit=200, seed=4) for _ in range(2)]
    for search in searches:
        search.search(Ladder())
    assert [c.visits for c in searches[0].root.children] == [c.visits for c in searches[1].root.children]


def test_every_round_is_one_visit_of_the_root():
    search = MCTS(iterationLimit=123)
    search.search(Ladder())
    assert search.root.visits == 123


def test_time_limit_and_own_policy():
    assert MCTS(timeLimit=50, rolloutPolicy=lambda state: float(state.turns[:1] == (2,))).search(Ladder()) == 2


def test_two_processes_solve_it_and_repeat_themselves():
    for game, player in ((Nim(), 1), (Nim(15, -1), -1)):
        moves = [MCTS(iterationLimit=6000, seed=3, workers=2).search(game) for _ in range(2)]
        assert moves == [2, 2], player
    assert MCTS(iterationLimit=100, workers=2).search(Nim(0)) is None


def test_limits_are_checked():
    wrong = {"iterationLimit": 10, "workers": 0}
    for arguments in ({}, {"timeLimit": 1, "iterationLimit": 1}, {"iterationLimit": 0}, wrong):
        with pytest.raises(PlaitError):
            MCTS(**arguments)
