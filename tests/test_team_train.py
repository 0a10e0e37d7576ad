"""Training of a team end to end: the command's own recipe, a scripted endpoint over HTTP, a real ledger."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from fault_server import FaultServer, Step, text
from plait.orchestrator.recipes.team import TeamTrainer
from plait.orchestrator.recipes.team_result import TeamResult
from plait.tests.scripted_team import world
from plait.tests.scripted_team_chat import served

WORLD = world(3, q=0.9)
ITEMS = WORLD.items(420)
SETTINGS = {
    "train": 20, "validation": 150, "confirm": 220, "steps": 6, "seed": 1,
    "controls": ("single", "best-of-n", "random"),
}  # fmt: skip


@dataclass
class Script:
    """The world behind HTTP; what an endpoint is asked to find out what it can do is answered and not counted."""

    script: Callable[[int, dict[str, Any]], Step]
    asked: int = 0

    def __call__(self, index: int, body: dict[str, Any]) -> Step:
        if len(body.get("messages", [{"content": ""}])[-1]["content"]) < 200:
            return text("yes")
        self.asked += 1
        return self.script(index, body)


@pytest.fixture(scope="module")
def server():
    with FaultServer(Script(served(WORLD)), keep=False) as running:
        yield running


def trainer(server, **changes) -> TeamTrainer:
    return TeamTrainer(WORLD.start(), ITEMS, model=f"openai:scripted@{server.url}", **{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def result(server, tmp_path_factory, monkeypatch_module) -> TeamResult:
    return trainer(server).run(tmp_path_factory.mktemp("team") / "run")


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "none")
        yield patch


def test_it_learns_and_is_confirmed(result):
    assert result.summary["confirmed"]["passed"], result.verdict
    assert result.summary["answer"] == "final"
    assert WORLD.expected(result.team) > WORLD.expected(WORLD.start()) + 0.1


def test_running_again_asks_nothing(result, server):
    before, written = server.script.asked, (result.folder / "result.json").read_bytes()
    again = trainer(server).run(result.folder)
    assert server.script.asked == before
    assert (again.folder / "result.json").read_bytes() == written
