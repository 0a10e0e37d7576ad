"""kill -9 of a training run at any point: it ends with the same bytes, and asks nothing again that it had kept.

Source: specs/ann, section 12, check 11. The driver is a process of its own; calls are counted here, at the endpoint.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from plait.tests.scripted_team import world
from plait.tests.team_training import run, serving

SEED = 3
KILLS = 3


def driver(server, folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, Path(__file__).with_name("team_training.py"), str(SEED), server.url, folder]
    environment = {**os.environ, "OPENAI_API_KEY": "none"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def ended(process) -> None:
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err


def kept(folder: Path) -> int:
    """Return how many calls the ledger of a run holds."""
    if not (folder / "ledger.db").exists():
        return 0
    with closing(sqlite3.connect(folder / "ledger.db")) as connection:
        return connection.execute("SELECT count(*) FROM outcomes WHERE run LIKE '%-calls'").fetchone()[0]


def killed_at(server, folder: Path, point: int) -> int:
    """Run until so many different calls have come in, kill the driver, and return how many it had not kept."""
    process: list[subprocess.Popen[str]] = []

    def kill(different: int) -> None:
        if different >= point and process:
            os.kill(process[0].pid, signal.SIGKILL)

    server.script.before = kill
    process.append(driver(server, folder))
    process[0].communicate(timeout=200)
    server.script.before = lambda different: None
    assert process[0].returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert not (folder / "result.json").exists()
    return len(server.script.asked) - kept(folder)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """(server, bytes of the result, calls) of a run that nothing disturbs."""
    with serving(world(SEED, q=0.9)) as server:
        folder = tmp_path_factory.mktemp("calm") / "run"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OPENAI_API_KEY", "none")
            run(SEED, server.url, folder)
        calls = server.script.calls
        assert calls == len(server.script.asked) == kept(folder), "no call is paid twice, and every one is kept"
        yield server, (folder / "result.json").read_bytes(), calls


def check(calm, folder: Path, points: list[int]) -> None:
    """Kill a run at each of the points and let it end."""
    server, expected, calls = calm
    server.script.asked.clear()
    lost = [killed_at(server, folder, point) for point in points]
    ended(driver(server, folder))
    assert (folder / "result.json").read_bytes() == expected
    assert len(server.script.asked) == calls, "no call of another content"
    assert server.script.calls - calls <= sum(lost), "what was kept is not paid again"
    assert kept(folder) == calls
    assert max(lost) <= MOST_LOST, lost


MOST_LOST = 60
"""Calls in flight or on their way to the disk when a driver is killed: eight may be in flight, and answers wait for
others to be written with them."""


def points_of(calm, seed: int, count: int) -> list[int]:
    """Return points of a run, in their order."""
    return sorted(random.Random(seed).sample(range(1, calm[2]), count))


def test_killed_again_and_again(calm, tmp_path):
    check(calm, tmp_path / "run", points_of(calm, 1, KILLS))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_any_point(seed, calm, tmp_path):
    check(calm, tmp_path / "run", points_of(calm, 10 + seed, 1))
