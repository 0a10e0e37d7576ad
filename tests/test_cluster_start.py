"""The start commands of ray_cluster.yaml start a head and a node that `plait cola --address` runs on."""

import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.two_node, pytest.mark.weights]

FILE = Path(__file__).resolve().parent.parent / "ray_cluster.yaml"
MARK = "PLAIT_TEST_CLUSTER"
"""A variable that every process of this cluster inherits: how they are told from any other Ray of the machine."""


def free_ports(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def marked(mark: str) -> list[int]:
    """Return the processes that were started with our mark, this one not among them."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or is another user's
    return found


def end(mark: str) -> None:
    """Kill what carries the mark until nothing does: a raylet may have started a worker meanwhile."""
    while pids := marked(mark):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
            except (ProcessLookupError, ChildProcessError):
                continue  # gone, or not a child of ours


@pytest.fixture
def nodes(tmp_path):
    """Head and node as the file starts them; (address, environment of their processes)."""
    config, mark = yaml.safe_load(FILE.read_text()), secrets.token_hex(8)
    port, dashboard = free_ports(2)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "ray_bootstrap_config.yaml").write_text(FILE.read_text())
    # Not in tmp_path: the paths of Ray's sockets must be short.
    with tempfile.TemporaryDirectory(prefix="plait-", dir="/tmp", ignore_cleanup_errors=True) as place:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path / "home"), "PLAIT_HOME": str(tmp_path / "plait"), "RAY_TMPDIR": place, MARK: mark,
            "RAY_HEAD_IP": "127.0.0.1", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }  # fmt: skip
        here = " --node-ip-address=127.0.0.1 --num-cpus=1 --object-store-memory=100000000"
        here += " --min-worker-port=0 --max-worker-port=0 --disable-usage-stats"
        own = {"head": f" --dashboard-port={dashboard}", "worker": ""}
        try:
            for kind, flags in own.items():
                for command in config[f"{kind}_start_ray_commands"]:
                    if shlex.split(command)[:2] == ["ray", "stop"]:
                        continue  # it would end every Ray of this machine
                    command = command.replace("6379", port).replace("0.0.0.0", "127.0.0.1")
                    done = subprocess.run(
                        ["bash", "-c", command + here + flags],
                        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
                    )  # fmt: skip
                    assert done.returncode == 0, done.stdout + done.stderr
            yield f"127.0.0.1:{port}", environment
        finally:
            end(mark)


def test_a_run_on_what_the_file_starts(nodes, tiny_folder, tmp_path):
    address, environment = nodes
    flags = ["--model", str(tiny_folder), "--limit", "2", "--simulations", "4", "--set", "menu=0", "--actors", "2"]
    command = [sys.executable, "-m", "plait.orchestrator.cli", "cola", *flags, "--address", address, "--out", "run"]
    done = subprocess.run(
        [*command, "--json"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["status"] == "SUCCEEDED"
    (started,) = [event for event in events if event.get("kind") == "run"]
    assert started["cluster"].endswith(address.removeprefix("127.0.0.1"))  # Ray may name the machine otherwise
    timing = json.loads((tmp_path / "run" / "timing.json").read_text())
    assert timing["actors"] == 2  # one core a node: both nodes ran a host
