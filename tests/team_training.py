"""Whole training runs of scripted teams, for tests: the recipe itself, an endpoint over HTTP, a ledger on disk.

    with serving(known) as server:
        result = trainer(known, server.url, steps=2).run(folder)
    server.script.asked                              # how often each call was asked

As a program it makes runs in processes that tests may kill.
"""

import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from plait.orchestrator.recipes.team import TeamTrainer
from plait.records import canonical, digest
from plait.teams import TeamSpec
from plait.tests.fault_server import FaultServer, Step, text
from plait.tests.scripted_team import World, world
from plait.tests.scripted_team_chat import served
from plait.tests.scripted_team_reading import Kind, kind_of

SMALL = {"train": 12, "validation": 60, "confirm": 40, "steps": 2, "seed": 1, "controls": ()}
"""A run of a few hundred calls."""
PROBE = 200
"""Characters below which a call only wants to know what the endpoint can do."""

Answers = Callable[[int, dict[str, Any]], Step]


@dataclass
class Endpoint:
    """A script that keeps what it is asked.

    Attributes:
        answers: What is said.
        optimiser: What is said to critiques and repairs instead, where it is given; None from it leaves the answer.
        before: Told of each call, with how many different ones there were so far.
        asked: Times that each call was asked, by content.
        prompts: Every critique's and repair's whole conversation, as text, with its kind.
    """

    answers: Answers
    optimiser: Callable[[Kind, dict[str, Any]], Step | None] = lambda kind, body: None
    before: Callable[[int], None] = lambda different: None
    asked: Counter[str] = field(default_factory=Counter)
    prompts: list[tuple[Kind, str]] = field(default_factory=list)

    def __call__(self, index: int, body: dict[str, Any]) -> Step:
        """Answer one call; those that ask what the endpoint can do are answered alike and not counted."""
        messages = body.get("messages", [])
        if not messages or len(messages[-1]["content"]) < PROBE > len(messages[0]["content"]):
            return text("yes")
        self.asked[digest([canonical(messages), body.get("temperature"), body.get("seed")])] += 1
        self.before(len(self.asked))
        kind = kind_of(messages)
        if kind in ("critique", "repair"):
            self.prompts.append((kind, "\n".join(message["content"] for message in messages)))
            if (step := self.optimiser(kind, body)) is not None:
                return step
        return self.answers(index, body)

    @property
    def calls(self) -> int:
        """All that was asked."""
        return self.asked.total()


@contextmanager
def serving(known: World, answers: Answers | None = None, **options: Any) -> Iterator[FaultServer]:
    """Serve a world from a thread; `script` is its `Endpoint`, of which `options` are fields."""
    with FaultServer(Endpoint(answers or served(known), **options), keep=False) as server:
        yield server


def trainer(known: World, url: str, team: TeamSpec | None = None, **changes: Any) -> TeamTrainer:
    """Return a small training run; `changes` are fields of its spec."""
    settings = {**SMALL, **changes}
    count = sum(settings.get(name, 0) for name in ("train", "validation", "confirm", "test"))
    return TeamTrainer(team or known.start(), known.items(count), model=f"openai:scripted@{url}", **settings)


def patch(*edits: dict[str, Any]) -> Step:
    """Return the answer of a repair."""
    return text(json.dumps({"edits": edits, "rationale": "so that answers lack nothing"}))


def rows(result: Any) -> dict[str, dict[str, Any]]:
    """Return a result's rows by name."""
    return {row["name"]: row for row in result.summary["rows"]}


def run(seed: int, url: str, folder: Path) -> None:
    """Make the run that is killed in tests, in this process."""
    small = {"validation": 40, "confirm": 30, "run": {"concurrency": 8}}
    trainer(world(seed, q=0.9), url, **small).run(folder)


def main() -> None:
    """Make runs, each in a process of its own that may be killed, and all of them without importing anything twice.

    A run is a line of JSON on standard input: seed, url, folder. Printed are the process's id, and how it ended.
    """
    for line in sys.stdin:
        seed, url, folder = json.loads(line)
        driver = os.fork()
        if not driver:
            _drive(seed, url, Path(folder))
        print(driver, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(driver, 0)[1]), flush=True)


def _drive(seed: int, url: str, folder: Path) -> NoReturn:
    code = 1
    try:
        run(seed, url, folder)
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


if __name__ == "__main__":
    main()
