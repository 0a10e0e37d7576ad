"""Judges: the letter that is likeliest decides, thoughts are no verdicts, numbers are no labels."""

import asyncio
import json
import math

import pytest
from plait.agents.judges.decision import Ballot, Ballots, decide
from plait.agents.judges.tasks import NameAngles, Pair, Question, WriteReview
from plait.agents.judges.wording import Wording
from plait.candidates import JudgeNetwork
from plait.errors import DataError
from plait.models.chat import CallFailed, Reply
from plait.orchestrator.recipes.judge import Judge
from plait.orchestrator.recipes.judge_data import load_pairs
from plait.orchestrator.recipes.judge_stats import summarise

PAIR = {"id": "a", "query": "What is ice?", "response1": "Frozen water.", "response2": "Steam."}


def letters(first, second, tie, neurons=3):
    """The ballots of `neurons` that all give these probabilities to model1, model2 and neither."""
    cast = []
    for neuron in range(neurons):
        for order, shown in (("12", (first, second)), ("21", (second, first))):
            cast.append(
                Ballot(layer=1, neuron=neuron, angle="Accuracy", model="m", order=order, first=shown[0],
                       second=shown[1], tie=tie, inside=1.0, via="letters")
            )  # fmt: skip
    return Ballots(cast=tuple(cast), expected=2 * neurons)


@pytest.mark.row("B: neither is likeliest")
@pytest.mark.parametrize("chances", [(0.011, 0.009, 0.98), (0.3, 0.2, 0.5), (0.34, 0.31, 0.35)])
@pytest.mark.parametrize("pool", ["mean", "vote"])
def test_neither_is_the_verdict_where_it_is_likeliest(chances, pool):
    network = JudgeNetwork(scoring="letters", pool=pool)
    assert decide(letters(*chances), network).label == "tie"
    flipped = decide(letters(chances[1], chances[0], chances[2]), network)
    assert flipped.label == "tie"


def test_the_margin_decides_where_neither_is_not_likeliest():
    network = JudgeNetwork(scoring="letters")
    assert decide(letters(0.5, 0.2, 0.3), network).label == "model1"
    assert decide(letters(0.2, 0.5, 0.3), network).label == "model2"
    assert decide(letters(0.42, 0.4, 0.18), JudgeNetwork(scoring="letters", tie_band=0.05)).label == "tie"


class Says:
    """A chat model that says one thing, then another."""

    def __init__(self, *texts, finish="stop"):
        self.texts, self.finish = list(texts), finish

    async def generate(self, messages, sampling):
        return Reply(self.texts.pop(0), self.finish)


SCORED = "Score of Assistant 1: {}\nScore of Assistant 2: {}\n"


def reviewed(*texts, finish="stop"):
    asked = Question(pair=Pair(query="q", first="a", second="b"), angles=("Accuracy",))
    return asyncio.run(WriteReview(Wording(), "general").run(asked, Says(*texts, finish=finish), 0))


@pytest.mark.row("B: draft scores within a thought that is cut off")
@pytest.mark.parametrize(
    ("opens", "closes"), [("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]")]
)
def test_scores_of_a_thought_that_is_cut_off_are_no_verdict(opens, closes):
    with pytest.raises(CallFailed) as failed:
        reviewed(f"{opens}First a draft.\n{SCORED.format(2, 8)}But wait", "2 8", finish="length")
    assert failed.value.reason == "Truncated"


@pytest.mark.row("B: thoughts are passed on")
@pytest.mark.parametrize(
    ("opens", "closes"), [("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]")]
)
def test_a_thought_is_neither_read_nor_passed_on(opens, closes):
    opinion = reviewed(f"{opens}A draft.\n{SCORED.format(2, 8)}{closes}\nThe first is right.\n{SCORED.format(9, 3)}")
    assert (opinion.first, opinion.second) == (9, 3)
    assert "draft" not in opinion.text


@pytest.mark.row("B: draft scores within a thought that is cut off")
def test_scores_before_a_closing_tag_alone_are_a_thought():
    opinion = reviewed(f"{SCORED.format(2, 8)}</think>The review.\n{SCORED.format(9, 3)}")
    assert (opinion.first, opinion.second, "8" in opinion.text) == (9, 3, False)
    with pytest.raises(CallFailed):
        reviewed(f"{SCORED.format(2, 8)}</think>The rev", "none", finish="length")


@pytest.mark.row("B: a repair that denies its numbers")
@pytest.mark.parametrize("mended", ["not 8 but 2", "8 or 2", "I cannot give 8, 2", "<think>8 2"])
def test_a_repair_that_is_half_understood_is_unreadable(mended):
    with pytest.raises(CallFailed) as failed:
        reviewed("Both are fine.", mended)
    assert failed.value.reason == "Unparsable"


@pytest.mark.row("B: angles within a thought")
def test_angles_of_a_thought_are_not_asked_for():
    found = asyncio.run(NameAngles(Wording(), "general").run(
        Pair(query="q", first="a", second="b"), Says("<think>$Rudeness& or so</think>$Accuracy&\n$Depth&"), 0
    ))  # fmt: skip
    assert found.names == ("Accuracy", "Depth")


@pytest.mark.row("B: integer labels")
@pytest.mark.parametrize("labels", [(1, 2), (0, 1), (2, 2), (1.0, 2.0)])
def test_numbers_are_no_labels_of_an_unknown_set(labels, tmp_path):
    file = tmp_path / "pairs.jsonl"
    rows = [{**PAIR, "id": str(at), "label": label} for at, label in enumerate(labels)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as refused:
        load_pairs(file)
    assert "pairs.jsonl:1" in str(refused.value)


def test_autojs_own_rows_keep_their_numbers(tmp_path):
    file = tmp_path / "testdata_pairwise.jsonl"
    rows = [{"prompt": "q", "response 1": "a", "response 2": "b", "label": label} for label in (0, 1, 2)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [pair.human for pair in load_pairs(file)] == ["model1", "model2", "tie"]


@pytest.mark.row("B: NaN judged as a word")
@pytest.mark.parametrize("field", ["response1", "response2", "query", "id"])
def test_nan_in_memory_is_refused(field):
    with pytest.raises(DataError) as refused:
        _ = Judge(data=[{**PAIR, field: math.nan}]).pairs
    assert "row 1" in str(refused.value)


@pytest.mark.row("B: what was read is not said")
def test_labels_and_fields_that_are_not_read_are_said(plait, tmp_path):
    rows = [{**PAIR, "id": str(at), "human": "model1", "reference": "Ice."} for at in range(3)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, out, err = plait("judge", tmp_path / "pairs.jsonl", "--model", "openai:m@http://127.0.0.1:9/v1", "--network",
                        "paper", "--out", tmp_path / "run", "--set", "run.retries=0")  # fmt: skip
    whole = " ".join((out + err).split())
    assert "model1 3, model2 0, tie 0" in whole
    assert "reference (3)" in whole


def test_figures_of_neither_are_ties(tmp_path):
    from judge_rows import row

    rows = [row(str(at), "tie", [("tie", "tie")] * 2) for at in range(8)]
    assert summarise(rows)["verdicts"]["tie"] == 8
