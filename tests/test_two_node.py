"""A cluster of two Ray nodes on this machine; one is killed in mid-run, the result is the undisturbed one's."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.two_node, pytest.mark.weights]

DRIVE = """
import sys
from plait import CoLa
result = CoLa(sys.argv[1], limit=6, simulations=16, menu=2, run={"actors": 2}).run(sys.argv[2], address=sys.argv[3])
print(result.status)
"""


def drive(model: Path, out: Path, address: str, environment: dict[str, str]) -> str:
    command = [sys.executable, "-c", DRIVE, str(model), str(out), address]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture
def two_nodes(tmp_path):
    """A head without cores for hosts, and two nodes of one core each; (address, environment, the nodes)."""
    from ray.cluster_utils import Cluster

    environment = {**os.environ, "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token")}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    environment.pop("RAY_ADDRESS", None)
    yield cluster, nodes, environment
    cluster.shutdown()


def test_a_node_is_killed_in_mid_run(two_nodes, tiny_folder, tmp_path):
    cluster, nodes, environment = two_nodes
    assert drive(tiny_folder, tmp_path / "calm", cluster.address, environment) == "SUCCEEDED"

    def kill_one():
        out, until = tmp_path / "rough", time.monotonic() + 120
        while not list(out.glob("ledger*")) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(1.0)
        raylet = nodes[0].all_processes["raylet"][0].process
        os.kill(raylet.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_one)
    thread.start()
    assert drive(tiny_folder, tmp_path / "rough", cluster.address, environment) == "SUCCEEDED"
    thread.join()
    assert (tmp_path / "rough/result.json").read_bytes() == (tmp_path / "calm/result.json").read_bytes()
