"""Choosing a block by the question is worth what the world says; choosing at random is worth nothing.

Two families of questions, each with a block that suits it. What teams score is computed, not assumed; what they are
measured at comes from whole runs. Source: specs/ann, section 12, check 9.
"""

from math import sqrt

import numpy as np
import pytest
from plait.orchestrator.recipes.team_phases import fixed
from plait.tests.scripted_team import world
from plait.tests.scripted_team_odds import chance
from plait.tests.team_training import rows, serving, trainer

KNOWN = world(5, families=True)
CONFIRM = 240
SETTINGS = {"train": 8, "validation": 20, "confirm": CONFIRM, "steps": 1, "profile": "ann-paper"}
"""Nothing is to be learned here: the teams that are begun with are compared."""
BLOCKS = ("for-figures", "for-letters")


def begun(selector, block=BLOCKS[0]):
    """Return the team of two blocks; `block` is what its `static` control runs."""
    team = KNOWN.two_blocks(selector)
    layer = team.layers[0].model_copy(update={"default": block})
    return team.model_copy(update={"layers": (layer,)})


def alone(block):
    team = begun("static", block)
    return fixed(team, [team.layers[0].fallback])


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(confirm items, rows by selector): two runs, the other block being the static team of the second."""
    ledger = tmp_path_factory.mktemp("dynamic") / "ledger.db"
    found = {}
    with serving(KNOWN) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "none")
        for selector, block in zip(("llm", "random"), BLOCKS, strict=True):
            made = trainer(
                KNOWN, server.url, begun(selector, block), **SETTINGS, controls=("static", "oracle"),
                run={"ledger": str(ledger)},
            )  # fmt: skip
            found[selector] = rows(made.run(ledger.parent / selector))
        items = [made.by_id[item] for item in made.splits.confirm]
    return items, found


def scored(row):
    assert row["confirm_missing"] == 0
    return row["confirm"]["mean"]


def expected(team, items):
    """Return what a team should score on items, and three standard errors of what it is measured at."""
    odds = np.array([chance(KNOWN, team, quest.family, KNOWN.luck(quest)) for quest in KNOWN.quests(items)])
    return float(odds.mean()), 3 * sqrt(float((odds * (1 - odds)).sum())) / len(items)


def test_every_team_scores_what_the_world_says(measured):
    items, found = measured
    teams = {
        ("llm", "start"): begun("llm"), ("random", "start"): begun("random"),
        ("llm", "static"): alone(BLOCKS[0]), ("random", "static"): alone(BLOCKS[1]),
    }  # fmt: skip
    for (selector, name), team in teams.items():
        score, error = expected(team, items)
        assert scored(found[selector][name]) == pytest.approx(score, abs=error), (selector, name)


def test_a_model_that_chooses_beats_the_best_static_block_by_the_computed_margin(measured):
    items, found = measured
    static = max(scored(found[selector]["static"]) for selector in found)
    (own, error), (best, other) = expected(begun("llm"), items), max(expected(alone(block), items) for block in BLOCKS)
    assert own - best > 0.1, "there is something to be had by choosing"
    margin = scored(found["llm"]["start"]) - static
    assert margin == pytest.approx(own - best, abs=error + other)
    assert found["llm"]["static"]["confirm_minus_start"]["high"] < 0
    assert found["random"]["static"]["confirm_minus_start"]["low"] < 0.05


def test_random_choice_does_not(measured):
    items, found = measured
    (own, _), best = expected(begun("random"), items), max(expected(alone(block), items)[0] for block in BLOCKS)
    assert own <= best, "by computation"
    static = max(scored(found[selector]["static"]) for selector in found)
    assert scored(found["random"]["start"]) - static < (expected(begun("llm"), items)[0] - best) / 2
    assert scored(found["random"]["start"]) < scored(found["llm"]["start"])


def test_the_choice_by_the_key_is_labelled_and_no_worse_than_any(measured):
    _, found = measured
    for selector in found:
        row = found[selector]["oracle selection"]
        assert row["oracle"]
        assert scored(row) >= max(scored(found[name]["static"]) for name in found)
        assert scored(row) >= scored(found[selector]["start"])
        assert not any(one["oracle"] for name, one in found[selector].items() if name != "oracle selection")
