"""Optimisers that are of no help: whatever they answer, a training run ends, and says that nothing was learned."""

import json
from html import unescape

import pytest
from plait.orchestrator.recipes.team_result import KINDS
from plait.tests.fault_server import answer, completion, empty_choices, filtered, refusal, status, text, wrong_json
from plait.tests.scripted_team import world
from plait.tests.team_training import patch, rows, serving, trainer

KNOWN = world(3, q=0.9, structure=False)
SIZES = {"validation": 18, "confirm": 20, "train": 8, "steps": 5}
DEEP = '{"edits": ' + "[" * 5000
UNKNOWN = {"op": "set_role", "agent": "nobody-of-that-name", "text": "a helper"}
LONG = {"op": "set_instructions", "agent": "solver", "text": "Think about it again. " * 2000}
CASES = {
    "prose": (text("I would ask the team to think harder about each question."), {"no-patch"}),
    "refusal": (refusal(), set()),
    "refusal in words": (text("I'm sorry, but I can't help with that."), {"no-patch"}),
    "filtered": (filtered(), set()),
    "no text": (answer(completion("")), set()),
    "null": (answer(completion(None)), set()),
    "spaces": (text("  \n "), {"no-patch"}),
    "no choices": (empty_choices(), set()),
    "no JSON body": (wrong_json(), set()),
    "bad request": (status(400, "too long"), set()),
    "errors": (status(500), set()),
    "missing agent": (patch(UNKNOWN), {"unknown-agent"}),
    "no edits": (text('{"edits": [], "rationale": "all is well"}'), None),
    "too many edits": (patch(*[UNKNOWN] * 50), None),
    "too long": (patch(LONG), {"oversize"}),
    "unknown op": (patch({"op": "delete_everything"}), None),
    "empty object": (text("{}"), None),
    "a list": (text("[1, 2, 3]"), None),
    "depth": (text(DEEP), None),
    "half a character": (text('{"edits": [{"op": "set_role", "agent": "solver", "text": "\\ud800"}]}'), None),
    "no change": (patch({"op": "set_instructions", "agent": "solver", "text": "Work it out."}), {"duplicate"}),
    "last agent away": (patch({"op": "remove_agent", "agent": "solver"}), None),
}  # fmt: skip
QUICK = ("prose", "refusal", "no text", "errors", "missing agent", "depth")


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def check(result, codes):
    """Check that a run ended plainly."""
    assert result.status == "SUCCEEDED"
    assert not result.summary["changed"]
    assert result.summary["answer"] == "start"
    assert result.verdict.startswith("Not confirmed: no edit passed the gate, so the start team is the answer. ")
    assert result.team == result.candidate == KNOWN.start()
    assert rows(result)["start"]["confirm"]["n"] == 20
    assert rows(result)["start"]["confirm_missing"] == 0
    (search,) = result.summary["searches"]
    assert search["stop"] == "patience"
    if codes is not None:
        assert set(search["refusals"]) == codes
    said = [(name, facts) for name, facts in search["asked"].items() if facts["useless"]]
    assert said, "why nothing came of it is said"
    for name, facts in said:
        assert facts["useless"] == facts["asked"]
        reason = next(iter(facts["reasons"])).rstrip(".")
        assert f"{facts['useless']} of {facts['asked']} {KINDS[name][0]} " in result.verdict
        assert reason in result.verdict
    page = (result.folder / "report.html").read_text()
    assert result.verdict in unescape(page).replace("\u00a0", " ")
    for name in ("team.yaml", "candidate.yaml", "result.json", "report.html", "timing.json"):
        assert (result.folder / name).stat().st_size
    assert json.loads((result.folder / "result.json").read_text())["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_whatever_repairs_answer_a_run_ends_plainly(case, tmp_path):
    said, codes = CASES[case]
    with serving(KNOWN, optimiser=lambda kind, body: said if kind == "repair" else None) as server:
        check(trainer(KNOWN, server.url, **SIZES, run={"retries": 0}).run(tmp_path / "run"), codes)


@pytest.mark.parametrize(
    "case", [case if case in ("refusal", "errors") else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_whatever_all_of_an_optimiser_answers_a_run_ends_plainly(case, tmp_path):
    with serving(KNOWN, optimiser=lambda kind, body: CASES[case][0]) as server:
        check(trainer(KNOWN, server.url, **SIZES, run={"retries": 0}).run(tmp_path / "run"), None)
