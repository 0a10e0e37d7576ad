"""Patches fitted to a team that has changed since they were made: as they are, merged, or a conflict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.search.textual_rebase import merged, rebase
from plait.team_edits import Patch, Refusal, SetAggregate, SetInstructions, SetRole, SetWhen, apply
from plait.teams import AgentSpec, Aggregator, Block, LayerSpec, Schema, TeamSpec

NUMBER = Schema(kind="number")


def team(solve: str = "Think.", check: str = "Check.", when: str = "", kind: str = "majority") -> TeamSpec:
    agents = [AgentSpec(name=name, instructions=text, output=NUMBER) for name, text in (("a", solve), ("b", check))]
    block = Block(name="one", when=when, agents=tuple(agents), aggregate=Aggregator(kind=kind))
    return TeamSpec(layers=(LayerSpec(name="solve", task="Solve.", blocks=(block,)),), answer=NUMBER)


def test_a_place_that_is_as_it_was_takes_the_patch_as_it_is():
    patch = Patch(edits=(SetInstructions(agent="a", text="Anything else."),))
    assert rebase(patch, team(), team(check="Check twice.")) == patch


def test_words_that_were_added_are_added_there_too():
    patch = Patch(edits=(SetInstructions(agent="a", text="First read. Think. Mind the units."),))
    fitted = rebase(patch, team(), team("Think. Show each step."))
    assert isinstance(fitted, Patch)
    edited = apply(team("Think. Show each step."), fitted)
    assert edited == team("Think. Show each step. First read. Mind the units.")


@pytest.mark.parametrize(
    ("edit", "onto"),
    [
        (SetInstructions(agent="a", text="Do not think."), team("Think. Show each step.")),
        (SetInstructions(agent="a", text="Think. Show each step."), team("Think. Show each step.")),
        (SetWhen(layer="solve", block="one", text="sums"), team(when="products")),
        (SetAggregate(layer="solve", block="one", aggregate=Aggregator(kind="debate")), team(kind="chain")),
        (SetRole(agent="c", text="a judge"), team()),
    ],
    ids=["rewritten", "the same words", "when", "aggregate", "no such agent"],
)
def test_what_both_changed_is_a_conflict(edit, onto):
    fitted = rebase(Patch(edits=(edit,)), team(), onto)
    if isinstance(edit, SetRole):
        assert isinstance(apply(onto, fitted), Refusal)  # left to `apply`, which says what there is
    else:
        assert isinstance(fitted, Refusal)
        assert fitted.code == "conflict"


WORDS = st.lists(st.sampled_from("abcdefg"), max_size=6).map(" ".join)


@given(WORDS, WORDS, WORDS)
def test_a_merge_keeps_all_of_ours_and_adds_only_theirs(base, theirs, ours):
    text = merged(base, theirs, ours)
    if text is not None:
        assert text.startswith(ours)
        assert text != ours
        assert set(text.split()) <= set(ours.split()) | set(theirs.split())
