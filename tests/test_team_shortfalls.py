"""What a training run fell short of, on its page and in the terminal: items without a score, critiques and repairs of
no use, no headroom, a team that stayed as it was; and teams are called alike wherever they are shown.
"""

import json
from dataclasses import replace
from html import escape
from io import StringIO

import pytest
from plait.orchestrator.recipes.team_ending import missing_facts, same_answer
from plait.orchestrator.recipes.team_headroom import headroom
from plait.orchestrator.recipes.team_headroom_result import headroom_line, power_line, unreadable_line
from plait.orchestrator.recipes.team_result import TeamResult, statement
from plait.orchestrator.recipes.team_rows import named_rows
from plait.orchestrator.report.team_page import render
from plait.records import Failed, Scored
from plait.tests.scripted_team import world
from plait.tests.scripted_team_play import Player
from plait.tests.team_runs import KNOWN, TIMING, Play, section, text_of
from rich.console import Console


@pytest.fixture(scope="module")
def result():
    """A run with every control, in which some calls failed."""
    controls = ("single", "best-of-n", "random", "static", "oracle", "gepa")
    return Play(spec={"controls": controls, "steps": 2}, failing=0.03).result()


@pytest.fixture(scope="module")
def page(result):
    return render(result, TIMING)


@pytest.fixture(scope="module")
def short():
    """A short run without controls."""
    known = world(seed=7)
    return Play(known, known.start(), {"steps": 1, "controls": (), "test": 0}).result()


def test_teams_are_called_alike_on_the_page_and_in_the_terminal(result, page, tmp_path):
    console = Console(record=True, width=200, file=StringIO())
    TeamResult(tmp_path, result, TIMING).show(console)
    said = console.export_text()
    labels = [row["label"] for row in named_rows(result["summary"])]
    assert len(set(labels)) == len(labels) == 8
    assert {"start team", "final team (plait)", "gepa's final team", "random edits, same gate"} <= set(labels)
    for name in labels:
        assert any(line.startswith(name) for line in said.splitlines()), name
        assert f"<td>{escape(name)}" in page.replace("&#39;", "&#x27;"), name


def test_items_without_a_score_are_named_with_their_reason(result, page):
    shown = text_of(section(page, "Every team beside the start team").partition("Items without a score, by id")[2])
    spec = result["spec"]
    known = {item.id for item in KNOWN.items(spec["train"] + spec["validation"] + spec["confirm"] + spec["test"])}
    lacking = 0
    for row in named_rows(result["summary"]):
        for split in ("confirm", "test"):
            found, count = row[f"{split}_missing_items"], row[f"{split}_missing"]
            assert sum(found["reasons"].values()) == len(found["ids"]) == count
            assert set(found["ids"]) <= known
            if count:
                lacking += 1
                ids = ", ".join(found["ids"])
                assert f"{row['label']}, {split} {count} (Timeout {count}): {ids}" in shown
    assert lacking > 8


def test_of_many_items_without_a_score_the_first_are_named(result):
    many = missing_facts({f"item{at}": "Timeout" if at else "ServerError" for at in range(35)})
    assert many == {"ids": [f"item{at}" for at in range(20)], "reasons": {"Timeout": 34, "ServerError": 1}}
    row = {**result["summary"]["rows"][0], "confirm_missing": 35, "confirm_missing_items": many}
    changed = {**result, "summary": {**result["summary"], "rows": [row, *result["summary"]["rows"][1:]]}}
    assert "35 (Timeout 34, ServerError 1): item0, item1," in render(changed, TIMING)
    assert "item19 and 15 more<" in render(changed, TIMING)


def test_a_team_that_stayed_as_it_was_has_its_choices_shown_once():
    known = world(seed=7)
    found = Play(known, known.start(), {"steps": 1, "controls": ()}, poison="harsh").result()
    chosen = section(render(found, {}), "Which blocks were chosen")
    assert text_of(chosen).count("items share accuracy") == 1
    assert "the final team is the start team" in chosen


def headroom_of(prompt, mumbled=0):
    """What headroom finds where the second prompt is `prompt`, whose first `mumbled` answers cannot be read."""
    known = world(seed=7)
    items = known.items(60)
    player = Player(known, items)

    def study(phase, strands):
        trials = {strand.id: strand.search.ask(1000) for strand in strands}
        told = {name: [(trial, player.evaluate(trial.candidate)) for trial in asked] for name, asked in trials.items()}
        for at in range(mumbled):
            trial, outcome = told["2"][at]
            told["2"][at] = trial, replace(outcome, values={**outcome.values, "answer": None, "score": 0.0})
        return told

    return headroom(study, known.start(), ["Nothing in particular.", prompt], [item.id for item in items], 0.05)


def test_headroom_counts_the_answers_that_could_not_be_read():
    found = headroom_of("Be brief.", mumbled=3)
    assert found["plain_unreadable"] == 0
    assert [row["unreadable"] for row in found["rows"]] == [0, 3]
    assert unreadable_line(found) == "3 of 180 answers could not be read, and score 0"
    assert unreadable_line(headroom_of("Be brief.")) == ""


@pytest.mark.parametrize("helps", [True, False])
def test_what_plain_prompts_showed_before_is_told(short, page, helps):
    known = world(seed=7)
    useful = " ".join(known.phrases[index] for index in known.useful)
    found = headroom_of(useful if helps else "Be brief.")
    assert found["learnable"] is helps
    changed = {**short, "summary": {**short["summary"], "headroom": found}}
    said = text_of(section(render(changed, TIMING), "What plain prompts showed before"))
    assert headroom_line(found) in said
    best = found["rows"][found["best"] - 1]
    for value in (found["plain"], best["accuracy"]):
        assert f"{100 * value['mean']:.1f} % [{100 * value['low']:.1f}, {100 * value['high']:.1f}]" in said
    assert f"the best of 2, number {best['number']} " in said
    assert "p, corrected for 2 " in said
    assert f"{best['wins']} {best['losses']} {best['p']:.3g} " in said
    assert f"“{best['prompt']}” {power_line(found)}. That no" in said
    assert "What plain prompts showed" not in page, "none were tried"


def test_critiques_and_repairs_of_no_use_are_counted_with_their_reasons(short):
    made = json.loads(json.dumps(short))
    own = made["summary"]["searches"][0]
    own["asked"] = {"critique": {"asked": 12, "useless": 12, "reasons": {"no JSON object": 9, "it was empty": 3}},
                    "repair": {"asked": 0, "useless": 0, "reasons": {}}}  # fmt: skip
    own["steps"] = [{**step, "edits": []} for step in own["steps"]]
    made["summary"] |= {"confirmed": None, "changed": False, "answer": "start"}
    assert statement(made["summary"]) == (
        "Not confirmed: no edit passed the gate, so the start team is the answer. 12 of 12 critiques gave nothing that "
        "can be used (9 of them: no JSON object)."
    )
    became = text_of(section(render(made, TIMING), "What became of the edits"))
    assert "critiques of no use 12 of 12 proposals failed or refused 0 of 0" in became
    assert "why 12 of 12 critiques were of no use 9 times: no JSON object 3 times: it was empty" in became
    own["asked"]["critique"] |= {"useless": 0, "reasons": {}}
    own["steps"] = [{**step, "note": "no failure in the training batches"} for step in own["steps"]]
    steps = len(own["steps"])
    assert statement(made["summary"]).endswith(
        f"Nothing was proposed in {steps} of {steps} steps: no failure in the training batches."
    )


def test_a_team_of_one_answer_to_everything_is_told_so():
    def told(answers, score=0.5):
        values = [{"answer": answer, "score": score} for answer in answers]
        return [(None, Scored(one)) for one in values] + [(None, Failed("Timeout", ""))]

    (note,) = same_answer(told(["false"] * 20), "final team")
    assert note == "the final team gives one answer, false, to all 20 confirm items"
    assert same_answer(told(["false"] * 19), "final team") == ()
    assert same_answer(told(["false"] * 20 + ["true"]), "final team") == ()
    assert same_answer(told([None] * 20), "final team") == ()  # nothing could be read: `unparsed` says so
    assert same_answer(told(["false"] * 20, score=1.0), "final team") == ()
