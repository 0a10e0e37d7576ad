"""What others wrote is shown as it is: brackets in a judge's reply, a folder or a reason are no markup of ours."""

import io
import json
from pathlib import Path

import pytest
from fault_server import FaultServer, text
from plait.orchestrator import commands_show, progress
from plait.orchestrator.events import Event
from plait.orchestrator.recipes.cola_result import CoLaResult
from plait.orchestrator.recipes.judge_result import JudgeResult
from rich.console import Console

ODD = "[/x] [bold]:smile:"


@pytest.fixture
def shown(monkeypatch):
    """What is printed to any console that is made from now on."""
    written = io.StringIO()
    console = Console(file=written, width=200)
    for module in (progress, commands_show):
        monkeypatch.setattr(module, "Console", lambda **_: console)
    return written


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("failure", {"reason": "Unparsable", "detail": ODD}),
        ("run", {"id": "1", "folder": ODD}),
        ("worker", {"worker": ODD, "state": "gone"}),
        ("pull", {"stage": ODD, "done": 0, "total": 0}),
    ],
)
def test_an_event_is_shown_word_for_word(kind, fields, shown):
    with progress.Progress() as bars:
        bars(Event(0, "", kind, fields))
    assert ODD in shown.getvalue()


def test_results_are_shown_word_for_word(shown, monkeypatch):
    monkeypatch.setattr(JudgeResult, "statement", ODD)
    judged = {"status": "STOPPED", "stop_reason": ODD, "summary": {}, "items": []}
    console = Console(file=shown, width=200)
    JudgeResult(Path("[/a]"), judged, {}).show(console)
    assert shown.getvalue().count(ODD) == 2
    assert "[/a]/verdicts.jsonl" in shown.getvalue()
    monkeypatch.setattr(CoLaResult, "statement", ODD)
    share = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 3}
    names = ("search", "random", "search_chance", "random_chance", "search_minus_random")
    summary = {"rule": "r", "identity": {"r": share}, "oracle": dict.fromkeys(names, share), "label_free": None}
    CoLaResult(Path("[/a]"), {**judged, "summary": summary}, {}).show(console)
    assert shown.getvalue().count(ODD) == 4
    assert "[/a]/report.html" in shown.getvalue()


def test_a_list_of_runs_is_shown_word_for_word(shown, tmp_path):
    commands_show.list_runs(tmp_path / "[/none]", as_json=False)
    run = tmp_path / "[x]"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"format": 1, "id": "1", "method": "[/m]", "made": "[/n]"}))
    commands_show.list_runs(tmp_path, as_json=False)
    assert all(word in shown.getvalue() for word in ("[/none]", "[x]", "[/m]", "[/n]"))


def test_a_judge_that_writes_markup_ends_no_run(plait, tmp_path):
    pair = {"id": "a", "query": "q", "response1": "x", "response2": "y"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair))
    flags = ["--network", "single", "--set", "shape.scoring=text", "--set", "baselines=[]", "--max-failures", "1"]
    with FaultServer([text("As told. [/INST]")]) as server:
        code, _, err = plait("judge", "pairs.jsonl", "--model", f"openai:m@{server.url}", *flags, "--out", "run")
    assert code == 0, err
    assert "[/INST]" in err
    assert (tmp_path / "run" / "result.json").exists()
