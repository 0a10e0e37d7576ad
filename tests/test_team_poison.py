"""A repair that does nothing but harm, or nothing at all, seldom gets past the gate, and not past the confirmation.

Scripted agents, no graphs. The acceptance checks are the slow ones. Source: specs/ann, sections 9.8 and 12.
"""

import pytest
from plait.search.gate import confirm
from plait.search.textual import TextualSearch
from plait.search.textual_profiles import textual_profile
from plait.search.textual_trials import Forward
from plait.tests.scripted_team import world
from plait.tests.scripted_team_play import Player

TRAIN, VALIDATION, CONFIRM = 100, 300, 400


def poisoned(seed, harm, patches):
    """Return the player, its search after that many poisoned patches, and the ids of the items to confirm on."""
    known = world(seed, base=0.5, structure=False)
    items = known.items(TRAIN + VALIDATION + CONFIRM)
    ids = [item.id for item in items]
    player = Player(known, items, poison=harm)
    search = TextualSearch(
        known.start(), ids[:TRAIN], ids[TRAIN : TRAIN + VALIDATION], textual_profile("plait"), seed=seed,
        steps=patches // 4,
    )  # fmt: skip
    return player, player.run(search), ids[TRAIN + VALIDATION :]


def kept(search):
    """Return how many proposals passed the gate, adopted or not, and how many there were."""
    edits = [edit for step in search.steps for edit in step.edits if edit.index >= 0 and not edit.again]
    return sum(edit.verdict in ("adopted", "passed") for edit in edits), len(edits)


def confirmed(player, start, final, ids):
    """Return whether the final team is found better than the start on items that decided nothing."""
    answers = [{item: player.evaluate(Forward(team, item)).values["score"] for item in ids} for team in (start, final)]
    return confirm(*answers).passed


@pytest.mark.parametrize(("harm", "share"), [("neutral", 0.03), ("harsh", 0.015)])
def test_of_two_hundred_poisoned_patches_hardly_any_is_kept(harm, share):
    player, search, _ = poisoned(0, harm, 200)
    passed, proposals = kept(search)
    assert proposals == 200
    assert passed / proposals <= share
    if harm == "harsh":
        assert player.world.expected(search.incumbent) > 0.44


@pytest.mark.slow
@pytest.mark.parametrize(("harm", "share"), [("neutral", 0.03), ("mild", 0.03), ("harsh", 0.015)])
def test_few_poisoned_patches_are_kept_whatever_the_seed(harm, share):
    shares = []
    for seed in range(10):
        passed, proposals = kept(poisoned(seed, harm, 200)[1])
        shares.append(passed / proposals)
    assert sum(one <= share for one in shares) >= 9, shares


@pytest.mark.slow
def test_the_start_is_returned_after_most_poisoned_runs():
    returned = 0
    for seed in range(20):
        player, search, ids = poisoned(seed, "mixed", 20)
        returned += not confirmed(player, player.world.start(), search.incumbent, ids)
    assert returned >= 17
