"""docs/add-a-method.md is true: its blocks are a method that keeps the searches' contract and runs."""

import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from plait.orchestrator import commands_run
from plait.tests import test_search_contract as contract

PAGE = Path(__file__).resolve().parent.parent / "docs" / "add-a-method.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def method(tmp_path, monkeypatch):
    """The page's blocks as the module that they say they are, with its line in the table of recipes."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "greedy_drop.py").write_text("\n".join(BLOCKS))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.delitem(sys.modules, "greedy_drop", raising=False)
    module = importlib.import_module("greedy_drop")
    for name, place in module.RECIPE.items():
        monkeypatch.setitem(commands_run.RECIPES, name, place)
    yield module
    sys.modules.pop("greedy_drop")


PROMISES = [name for name, _ in inspect.getmembers(contract.TestContract, inspect.isfunction) if name[:5] == "test_"]


@pytest.mark.parametrize("promise", PROMISES)
def test_the_pages_search_keeps_the_contract(promise, method, monkeypatch):
    for name, make in method.CONTRACT.items():
        monkeypatch.setitem(contract.MAKERS, name, make)
        getattr(contract.TestContract(), promise)(name)


def test_the_pages_method_runs_from_the_command_line(method, plait, tmp_path):
    (tmp_path / "spec.yaml").write_text("method: greedy-drop\nitems: 6\n")
    code, out, err = plait("run", "spec.yaml", "--out", "runs/one")
    assert code == 0, err
    assert re.search(r"greedy +\d", out)
    for name in ("result.json", "timing.json", "report.html", "events.jsonl", "ledger.db"):
        assert (tmp_path / "runs" / "one" / name).stat().st_size > 0, name
    summary = json.loads(plait("show", "runs/one", "--json")[1])["summary"]
    for name in ("greedy", "random"):
        assert 0 < summary[name]["low"] <= summary[name]["mean"] <= summary[name]["high"] <= 1
    assert summary["greedy"]["mean"] > summary["chance"]["mean"], "the best layers are more than as many of any"
    assert plait("report", "runs/one")[0] == 0
    assert json.loads(plait("list", "--json")[1])["method"] == "greedy-drop"
    assert "shortest" in json.loads(plait("schema", "greedy-drop")[1])["properties"]
    assert "shortest" in plait("run", "spec.yaml", "--set", "shortst=3", "--out", "runs/bad")[2]


def test_the_pages_method_is_resumed_to_the_same_bytes(method, plait, tmp_path):
    (tmp_path / "spec.yaml").write_text("method: greedy-drop\nitems: 6\n")
    assert plait("run", "spec.yaml", "--out", "calm", "--quiet")[0] == 0
    code, _, err = plait("run", "spec.yaml", "--out", "cut", "--quiet", "--set", "run.budget_evaluations=40")
    assert code == 3, err
    assert plait("resume", "cut", "--quiet", "--set", "run.budget_evaluations=null")[0] == 0
    assert (tmp_path / "cut/result.json").read_bytes() == (tmp_path / "calm/result.json").read_bytes()


def test_the_page_is_linted_as_the_code_is(method, tmp_path):
    """The page is what people copy; only its imports stand in the middle, where they are first needed."""
    command = [sys.executable, "-m", "ruff", "check", "--config", PAGE.parent.parent / "pyproject.toml", "--no-cache"]
    done = subprocess.run(
        [*command, "--ignore", "E402", tmp_path / "modules" / "greedy_drop.py"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
