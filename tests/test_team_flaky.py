"""A training run behind an endpoint that fails now and then: the same team, or a plain word of what is missing.

Faults go by content and by how often it was asked, so runs repeat. Source: specs/ann, section 12, check 12.
"""

import json
from collections import Counter

import pytest
from plait.tests.fault_server import answer, completion
from plait.tests.scripted_team import uniform, world
from plait.tests.scripted_team_chat import FLAKY, Faults, served
from plait.tests.scripted_team_reading import asked, kind_of
from plait.tests.team_training import rows, serving, trainer

KNOWN = world(3, q=0.9, structure=False)
TIMEOUT = 1.0
"""Seconds; what hangs is given up after them."""
STUCK = 0.1
"""Share of contents that never get an answer."""
EMPTY_BEFORE = "it was empty"
"""What an agent is told that is asked again for want of an answer."""
MUTE = 0.1
"""Share of questions that are always answered without text."""


def searched(result):
    """Return what a search did, without what its calls took."""
    (facts,) = result.summary["searches"]
    return {name: facts[name] for name in ("stop", "final", "steps", "refusals", "verdicts", "curve")}


@pytest.fixture(scope="module", autouse=True)
def _key():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "none")
        yield


def made(folder, answers=None, **run):
    """Return a run's result, and the times that each call was asked."""
    with serving(KNOWN, answers) as server:
        result = trainer(KNOWN, server.url, controls=("single",), steps=1, run=run).run(folder / "run")
        return result, server.script.asked


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    return made(tmp_path_factory.mktemp("calm"))


def test_faults_that_pass_change_nothing(calm, tmp_path):
    """5 % errors, 2 % answers without text, 1 % hangs, 3 % refusals that ask to wait: all are tried again."""
    sound, asked_then = calm
    met: Counter[str] = Counter()
    flaky, whole = served(KNOWN, FLAKY), served(KNOWN)

    def answers(index, body):
        step = flaky(index, body)
        fault = "hang" if step.hang else "" if step.status == 200 else str(step.status)
        if not fault and not json.loads(step.body)["choices"][0]["message"]["content"]:
            if EMPTY_BEFORE in body["messages"][-1]["content"]:  # twice would be an answer that cannot be read
                return whole(index, body)
            fault = "empty"
        met[fault] += 1
        return step

    result, asked_now = made(tmp_path, answers, timeout=TIMEOUT, retries=6)
    assert all(met[fault] for fault in ("500", "429", "hang", "empty")), met
    assert searched(result) == searched(sound)
    assert result.summary["final"] == sound.summary["final"]
    assert result.summary["confirmed"] == sound.summary["confirmed"]
    for name, row in rows(result).items():
        assert row["confirm_missing"] == 0
        assert row["confirm"] == rows(sound)[name]["confirm"]
    assert set(asked_then) <= set(asked_now), "the same questions, and some again in other words"


def test_what_stays_without_an_answer_is_missing_and_never_wrong(calm, tmp_path):
    sound, _ = calm
    result, _ = made(tmp_path, served(KNOWN, Faults(stuck=STUCK)), retries=1)
    assert result.summary["searches"][0]["failures"]["forward"] > 0
    for name, row in rows(result).items():
        left = row["confirm"]["n"]
        assert left + row["confirm_missing"] == 40, name
        assert row["confirm_missing"] > 0, name
    events = [json.loads(line) for line in (result.folder / "events.jsonl").read_text().splitlines()]
    failures = [event for event in events if event["kind"] == "failure"]
    assert {event["reason"] for event in failures} == {"ServerError"}
    start, whole = rows(result)["start"], rows(sound)["start"]
    right = round(start["confirm"]["mean"] * start["confirm"]["n"])
    lost = round(whole["confirm"]["mean"] * 40) - right
    assert 0 <= lost <= start["confirm_missing"], "only what is missing is not right any more"
    assert start["confirm"]["mean"] > right / 40, "and it is not counted as wrong"


def test_an_outage_decides_nothing(tmp_path):
    """With a third of all passes missing no edit is kept or dropped, and nothing is confirmed; critics are in reach."""
    failing, whole = served(KNOWN, Faults(stuck=0.35)), served(KNOWN)

    def answers(index, body):
        return (failing if kind_of(body["messages"]) == "agent" else whole)(index, body)

    result, _ = made(tmp_path, answers, retries=0)
    (search,) = result.summary["searches"]
    judged = [edit for step in search["steps"] for edit in step["edits"] if edit["look"] >= 0]
    assert {edit["verdict"] for edit in judged} == {"undecidable"}
    assert not result.summary["changed"]
    assert result.summary["answer"] == "start"


def test_answers_without_text_are_counted(calm, tmp_path):
    """An agent that says nothing twice is unparsed: its vote is for nothing, its item is scored 0 and counted."""
    script = served(KNOWN)

    def answers(index, body):
        if kind_of(body["messages"]) == "agent" and mute(asked(body["messages"])):
            return answer(completion(""))
        return script(index, body)

    result, asked_now = made(tmp_path, answers)
    for name, row in rows(result).items():
        assert row["confirm_missing"] == 0, name
        assert row["unparsed"] * 40 == pytest.approx(MUTED, abs=0.02), name
    start, whole = rows(result)["start"]["confirm"], rows(calm[0])["start"]["confirm"]
    assert 0 <= (whole["mean"] - start["mean"]) * 40 <= MUTED
    again = [key for key in asked_now if key not in calm[1]]
    assert len(again) >= MUTED, "each was asked once more, in other words"


def mute(prompt):
    quest = KNOWN.read(prompt)
    return quest is not None and uniform("mute", quest.index) < MUTE


def muted():
    """Return how many confirm items are never answered."""
    run = trainer(KNOWN, "http://127.0.0.1:9/v1", controls=("single",))
    return sum(mute(run.by_id[item].question) for item in run.splits.confirm)


MUTED = muted()
