"""Kill -9 of driver, host and evaluator at random points: the run ends with the bytes of an undisturbed one."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from plait import CoLa, Ledger, RandomSearch, Strand, Study
from plait.errors import PlaitError
from plait.orchestrator.events import read_events
from plait.orchestrator.workers import start_ray_workers
from plait.records import Scored, digest
from plait.search.path_space import EditSets

pytestmark = [pytest.mark.ray, pytest.mark.weights]
SPEC = {"limit": 6, "simulations": 16, "menu": 2}


def arguments(model: Path, out: Path) -> list[str]:
    flags = ["--model", str(model), "--limit", "6", "--simulations", "16", "--set", "menu=2", "--out", str(out)]
    return [sys.executable, "-m", "plait.orchestrator.cli", "cola", *flags, "--quiet"]


@pytest.fixture(scope="module")
def calm(ray_cluster, tiny_folder, tmp_path_factory) -> bytes:
    """The bytes of an undisturbed run."""
    result = CoLa(str(tiny_folder), **SPEC).run(tmp_path_factory.mktemp("calm") / "run")
    return (result.folder / "result.json").read_bytes()


def outcomes_in(folder: Path) -> int:
    files = list(folder.glob("ledger*"))
    if not files:
        return 0
    try:
        with closing(sqlite3.connect(f"file:{min(files)}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM outcomes").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def wait_for(condition, seconds=120.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def driver(command, address, cwd):
    environment = {**os.environ, "RAY_ADDRESS": address}
    return subprocess.Popen(command, env=environment, cwd=cwd, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("seed", [1, 2])
def test_driver_killed_and_resumed(seed, ray_cluster, tiny_folder, calm, tmp_path):
    point = random.Random(seed).randrange(5, 150)
    process = driver(arguments(tiny_folder, tmp_path / "run"), ray_cluster, tmp_path)
    wait_for(lambda: outcomes_in(tmp_path / "run") >= point or process.poll() is not None)
    process.kill()
    process.wait()
    known = outcomes_in(tmp_path / "run")
    assert known >= point
    result = CoLa.resume(tmp_path / "run").run(tmp_path / "run")
    assert result.status == "SUCCEEDED"
    assert (result.folder / "result.json").read_bytes() == calm


@pytest.mark.parametrize("seed", [1, 2])
def test_host_killed_and_replaced(seed, ray_cluster, tiny_folder, calm, tmp_path):
    import ray
    from ray.util import list_named_actors

    rng, done = random.Random(seed), threading.Event()
    killed = []

    def killer():
        while not done.wait(rng.uniform(0.4, 1.2)) and len(killed) < 2:
            names = [actor for actor in list_named_actors(all_namespaces=True) if actor["name"].startswith("host-")]
            if not names or not outcomes_in(tmp_path / "run"):
                continue
            actor = rng.choice(sorted(names, key=lambda one: one["name"]))
            try:
                handle = ray.get_actor(actor["name"], namespace=actor["namespace"])
                os.kill(ray.get(handle.describe.remote(), timeout=5)["pid"], signal.SIGKILL)
                killed.append(actor["name"])
            except (ValueError, ProcessLookupError, ray.exceptions.RayError):
                continue  # it was just restarting; another round

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        result = CoLa(str(tiny_folder), **SPEC).run(tmp_path / "run")
    finally:
        done.set()
        thread.join()
    assert (result.folder / "result.json").read_bytes() == calm


class Logged:
    """Writes each evaluated candidate to a file, so that nothing paid is forgotten by a kill."""

    name, version, spec = "logged", 1, None

    def __init__(self, folder: str):
        self._file = Path(folder) / f"{os.getpid()}.log"

    def evaluate(self, requests):
        with self._file.open("a") as file:
            for request in requests:
                file.write(f"{request.candidate}\n")
        time.sleep(0.002 * len(requests))
        return [Scored({"reward": int(digest(request.candidate)[:6], 16) % 2}) for request in requests]


def paid(folder: Path) -> Counter:
    return Counter(line for file in folder.glob("*.log") for line in file.read_text().splitlines())


def test_evaluator_killed(ray_cluster, no_ray_left, tmp_path):
    """Workers die in mid-batch; what they had in hand is repeated, nothing else is."""
    (tmp_path / "logs").mkdir()
    folder = str(tmp_path / "logs")
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test's module
    workers = start_ray_workers(lambda: Logged(folder), 2)
    strands = [Strand(f"s{i}", RandomSearch(EditSets(20, (1, 2), (0, 2), 1, 40), 60, i), 0) for i in range(8)]
    pids = lambda: [int(file.stem) for file in (tmp_path / "logs").glob("*.log")]  # noqa: E731
    kills = []

    def killer():
        for _ in range(2):
            before = sum(paid(tmp_path / "logs").values())
            wait_for(lambda before=before: sum(paid(tmp_path / "logs").values()) > before + 60)
            pid = next(one for one in pids() if one not in kills)
            os.kill(pid, signal.SIGKILL)
            kills.append(pid)

    thread = threading.Thread(target=killer)
    thread.start()
    ledger = Ledger(tmp_path / "ledger.db")
    result = Study(strands, Logged(folder), workers, ledger).run()
    thread.join()
    for worker in workers:
        worker.kill()
    assert result.status == "SUCCEEDED"
    counts = paid(tmp_path / "logs")
    assert ledger.counts()["outcomes"] == len(counts)
    ledger.close()
    twice = sum(n - 1 for n in counts.values())
    assert twice <= len(kills) * 2 * 64, "more repeated than what was in flight"
    assert len(kills) == 2


def test_interrupt_once_gives_a_partial_result_and_resume_completes_it(ray_cluster, tiny_folder, calm, tmp_path):
    process = driver(arguments(tiny_folder, tmp_path / "run"), ray_cluster, tmp_path)
    wait_for(lambda: outcomes_in(tmp_path / "run") >= 20)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err.decode()
    partial = json.loads((tmp_path / "run" / "result.json").read_text())
    assert partial["status"] == "STOPPED"
    result = CoLa.resume(tmp_path / "run").run(tmp_path / "run")
    assert (result.folder / "result.json").read_bytes() == calm


def test_interrupt_twice_ends_at_once_and_resume_completes_it(ray_cluster, tiny_folder, calm, tmp_path):
    process = driver(arguments(tiny_folder, tmp_path / "run"), ray_cluster, tmp_path)
    wait_for(lambda: outcomes_in(tmp_path / "run") >= 20)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    assert process.returncode in {130, 143}
    process.stderr.close()
    result = CoLa.resume(tmp_path / "run").run(tmp_path / "run")
    assert (result.folder / "result.json").read_bytes() == calm


def test_budget_stops_and_resume_goes_on(ray_cluster, tiny_folder, calm, tmp_path):
    first = CoLa(str(tiny_folder), **SPEC, run={"budget_evaluations": 30}).run(tmp_path / "run")
    assert first.status == "STOPPED"
    second = CoLa.resume(tmp_path / "run", run={"budget_evaluations": None}).run(tmp_path / "run")
    assert (second.folder / "result.json").read_bytes() == calm


def test_a_ledger_that_refuses_to_write_is_a_clean_stop(ray_cluster, tiny_folder, calm, tmp_path):
    """A trigger refuses in mid-run with SQLite's words for a full disk: works where nothing can be mounted."""
    path = tmp_path / "ledger.db"
    Ledger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON outcomes WHEN (SELECT count(*) FROM outcomes) > 40 "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    with pytest.raises(PlaitError, match="disk is full: free some space and resume"):
        CoLa(str(tiny_folder), **SPEC, run={"ledger": str(path)}).run(tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER full")
    result = CoLa.resume(tmp_path / "run").run(tmp_path / "run")
    assert (result.folder / "result.json").read_bytes() == calm


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a file system on a folder, and says so where this machine lets nobody mount."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*arguments: object) -> Path:
        try:
            subprocess.run(["mount", *map(str, arguments), folder], capture_output=True, text=True, check=True)
        except FileNotFoundError:
            pytest.skip("no mount command here")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"nothing can be mounted here: {error.stderr.strip()}")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", folder], check=True)


def resumed(folder: Path, address: str) -> bytes:
    """Continue a run on the command line and return the bytes of its result."""
    command = [sys.executable, "-m", "plait.orchestrator.cli", "resume", str(folder), "--quiet"]
    process = driver(command, address, folder.parent)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    return (folder / "result.json").read_bytes()


def the_one_line(process) -> str:
    """Wait for a run that a disk ends; return what it says of that."""
    _, err = process.communicate(timeout=120)
    text = err.decode()
    assert process.returncode == 4, text
    assert "Traceback" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("plait: ")]
    return line


@pytest.mark.parametrize(
    ("size", "full", "ledger_elsewhere"),
    [("240k", "ledger.db", False), ("12k", "events.jsonl", True), ("48k", "result.json", True)],
)
def test_a_full_disk_is_a_clean_stop(size, full, ledger_elsewhere, ray_cluster, tiny_folder, calm, tmp_path, disk):
    """The run folder lies on a disk too small for it; enlarged, the run goes on to a calm run's bytes."""
    folder = disk("-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    ledger = ["--set", f"run.ledger={tmp_path / 'ledger.db'}"] if ledger_elsewhere else []
    line = the_one_line(driver([*arguments(tiny_folder, folder / "run"), *ledger], ray_cluster, tmp_path))
    assert full in line
    assert line.endswith("disk is full: free some space and resume")
    assert not (folder / "run" / "result.json").exists()
    disk("-o", "remount,size=64m")
    assert resumed(folder / "run", ray_cluster) == calm
    numbers = [event["n"] for event in read_events(folder / "run" / "events.jsonl")]
    assert numbers == list(range(1, len(numbers) + 1)), "no event is torn or lost between the two starts"


def test_a_disk_that_turns_read_only_is_a_clean_stop(ray_cluster, tiny_folder, calm, tmp_path, disk):
    """The kernel remounts a disk read-only in mid-run, as it does on an error; repaired, the run goes on."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    if shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/sbin:/usr/sbin") is None:
        pytest.skip("no mkfs.ext4 here")
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    folder = disk("-t", "ext4", "-o", "loop,errors=remount-ro", image)
    process = driver(arguments(tiny_folder, folder / "run"), ray_cluster, tmp_path)
    wait_for(lambda: outcomes_in(folder / "run") >= 20 or process.poll() is not None)
    assert process.poll() is None, process.stderr.read().decode()
    disk("-o", "remount,abort")  # ext4's own way to try this out
    line = the_one_line(process)
    assert str(folder / "run") in line
    subprocess.run(["umount", folder], check=True)
    assert subprocess.run(["fsck.ext4", "-p", image], capture_output=True, check=False).returncode in {0, 1}
    disk("-t", "ext4", "-o", "loop", image)
    assert outcomes_in(folder / "run") >= 20, "what was recorded is there"
    assert resumed(folder / "run", ray_cluster) == calm
