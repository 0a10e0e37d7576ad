"""The scripted world does what it says: measured accuracies are the computed ones, and so are all its rates."""

import math

import pytest
from plait.tests.scripted_team import world
from plait.tests.scripted_team_play import play

KNOWN = world(seed=7)
TWO = world(seed=7, families=True)
ITEMS = 2000


def measured(known, team, count=ITEMS):
    return sum(play(known, team, known.quest(at)).right for at in range(count)) / count


def within(known, team, count=ITEMS):
    """Whether the measured accuracy on the first items is within 3 standard errors of what is expected of them."""
    expected = known.expected(team, known.items(count))
    return abs(measured(known, team, count) - expected) <= 3 * math.sqrt(expected * (1 - expected) / count)


TEAMS = {
    "start": (KNOWN, KNOWN.start()),
    "two useful": (KNOWN, KNOWN.start(KNOWN.useful[:2])),
    "all useful": (KNOWN, KNOWN.start(KNOWN.useful)),
    "poison": (KNOWN, KNOWN.start(KNOWN.poisons("harsh")[:2])),
    "draws": (KNOWN, KNOWN.draws(KNOWN.useful[:1])),
    "trio": (KNOWN, KNOWN.trio(KNOWN.useful[:1])),
    "checked": (KNOWN, KNOWN.checked(KNOWN.useful[:1])),
    "two layers": (KNOWN, KNOWN.two_layers(KNOWN.useful[:3])),
    "llm": (TWO, TWO.two_blocks("llm")),
    "static": (TWO, TWO.two_blocks("static")),
    "random": (TWO, TWO.two_blocks("random")),
    "rule": (TWO, TWO.two_blocks("rule")),
}


@pytest.mark.parametrize("name", TEAMS)
def test_a_team_scores_what_is_expected_of_it(name):
    assert within(*TEAMS[name])


def test_phrases_are_worth_what_the_world_says():
    for count in range(6):
        assert KNOWN.expected(KNOWN.start(KNOWN.useful[:count])) == pytest.approx(0.40 + 0.10 * count, abs=1e-3)
    assert sum(points < 0 for points in KNOWN.worth[:200]) == 97
    assert sum(points > 0 for points in KNOWN.worth) == 5
