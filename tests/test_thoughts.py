"""A draft within a thought is never part of what a reply says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.models.thoughts import spoken

PAIRS = [
    ("<think>", "</think>"),
    ("<THINK>", "</THINK>"),
    ("<thinking>", "</thinking>"),
    ("< think >", "</ think >"),
    ('<think budget="9">', "</think>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]


@pytest.mark.parametrize(("opens", "closes"), PAIRS)
def test_every_spelling_is_removed_closed_or_cut(opens, closes):
    closed = spoken(f"{opens}Perhaps 6.{closes}\n5")
    assert (closed.text, closed.cut) == ("5", False)
    cut = spoken(f"{opens}Perhaps 6. Answer: 6")
    assert (cut.text, cut.cut) == ("", True)
    from_prompt = spoken(f"Perhaps 6. Answer: 6{closes} 5")
    assert (from_prompt.text, from_prompt.cut) == ("5", False)


def test_a_thought_within_a_thought_stays_one():
    assert spoken("<think>a <think>b</think> 6</think> 5").text == "5"
    assert spoken("<think>a <think>b</think> Answer: 6").cut
    assert spoken("<think>so <reasoning>no end</think> 5").text == "5"


def test_text_on_both_sides_of_a_thought_is_kept():
    assert spoken("Well: <think>6?</think> 5").text == "Well:  5"


def test_commentary_of_harmony_is_not_an_answer():
    reply = "<|channel|>analysis<|message|>6?<|end|><|start|>assistant<|channel|>commentary<|message|>6<|end|>"
    assert spoken(reply).cut
    assert spoken(reply + "<|start|>assistant<|channel|>final<|message|>5<|return|>").text == "5"


@pytest.mark.parametrize("reply", ["5", "x < think of 3", "if a<b and c>d", "[1, 2]", "List[int]", "<p>5</p>", ""])
def test_a_reply_without_tags_is_itself(reply):
    assert (spoken(reply).text, spoken(reply).cut) == (reply, False)


@given(thought=st.text(alphabet="ab 6\n.", max_size=20), answer=st.text(alphabet="xy5", min_size=1, max_size=5))
def test_no_letter_of_a_thought_remains(thought, answer):
    assert spoken(f"<think>{thought}</think>{answer}").text == answer
