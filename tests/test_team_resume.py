"""kill -9 of a training run at any point: it ends with the same bytes, and asks nothing again that it had kept.

Source: specs/ann, section 12, check 11. The driver is a process of its own; calls are counted here, at the endpoint.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from plait.tests.scripted_team import world
from plait.tests.team_training import serving

SEED = 3
KILLS = 3
MOST_LOST = 100
"""Calls that are in flight, or answered and on their way to the disk, when a driver is killed: a few, but the disk of a
busy machine may be slow."""


class Drivers:
    """Makes runs in processes of their own."""

    def __init__(self, process: "subprocess.Popen[str]", server) -> None:
        self._process, self.server = process, server

    def start(self, folder: Path) -> int:
        """Begin a run, and return its process's id."""
        self._process.stdin.write(json.dumps([SEED, self.server.url, str(folder)]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def ended(self) -> int:
        """Return how the run ended: 0, or minus the signal."""
        return int(self._process.stdout.readline())


@contextmanager
def drivers(server):
    """Hold the process that makes them."""
    command = [sys.executable, Path(__file__).with_name("team_training.py")]
    environment = {**os.environ, "OPENAI_API_KEY": "none"}
    with subprocess.Popen(command, env=environment, stdin=-1, stdout=subprocess.PIPE, text=True) as process:
        yield Drivers(process, server)
        process.stdin.close()


def kept(folder: Path) -> int:
    """Return how many calls the ledger of a run holds."""
    if not (folder / "ledger.db").exists():
        return 0
    with closing(sqlite3.connect(folder / "ledger.db")) as connection:
        return connection.execute("SELECT count(*) FROM outcomes WHERE run LIKE '%-calls'").fetchone()[0]


def killed_at(make: Drivers, folder: Path, point: int) -> int:
    """Run until so many different calls have come in, kill the driver, and return how many it had not kept."""
    driver: list[int] = []

    def kill(different: int) -> None:
        if different >= point and driver:
            os.kill(driver[0], signal.SIGKILL)

    make.server.script.before = kill
    driver.append(make.start(folder))
    assert make.ended() == -signal.SIGKILL, "it ended before it could be killed"
    make.server.script.before = lambda different: None
    assert not (folder / "result.json").exists()
    return len(make.server.script.asked) - kept(folder)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """(maker of drivers, bytes of the result, calls) of a run that nothing disturbs."""
    with serving(world(SEED, q=0.9)) as server, drivers(server) as make:
        folder = tmp_path_factory.mktemp("calm") / "run"
        make.start(folder)
        assert make.ended() == 0
        calls = server.script.calls
        assert calls == len(server.script.asked) == kept(folder), "no call is paid twice, and every one is kept"
        yield make, (folder / "result.json").read_bytes(), calls


def check(calm, folder: Path, points: list[int]) -> None:
    """Kill a run at each of the points and let it end."""
    make, expected, calls = calm
    make.server.script.asked.clear()
    lost = [killed_at(make, folder, point) for point in points]
    for point, count in zip(points, lost, strict=True):
        assert count <= max(MOST_LOST, point // 2), "what is answered is kept soon"
    make.start(folder)
    assert make.ended() == 0
    assert (folder / "result.json").read_bytes() == expected
    assert len(make.server.script.asked) == calls, "no call of another content"
    assert make.server.script.calls - calls <= sum(lost), "what was kept is not paid again"
    assert kept(folder) == calls


def points_of(calm, seed: int, count: int) -> list[int]:
    """Return points of a run, in their order."""
    return sorted(random.Random(seed).sample(range(1, calm[2]), count))


def test_killed_again_and_again(calm, tmp_path):
    check(calm, tmp_path / "run", points_of(calm, 1, KILLS))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_any_point(seed, calm, tmp_path):
    check(calm, tmp_path / "run", points_of(calm, 10 + seed, 1))
