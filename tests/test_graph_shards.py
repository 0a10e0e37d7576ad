"""Graphs over several actors: any number of shards, and shards that die, give the same outcomes."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from plait import Ledger
from plait.errors import ClusterError, SpecError
from plait.graphs import Graph, Node
from plait.orchestrator.budget import Limits
from plait.orchestrator.calls import CallWorker
from plait.orchestrator.graph_shards import ShardedRun, ShardPlan, share_of
from plait.orchestrator.limiter import Limiter
from scripted_chat import ScriptedChat
from test_graph import Say, echo, graphs, run, text, told

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def _by_value(ray_cluster):
    """Workers cannot import a test's modules."""
    import ray.cloudpickle
    import scripted_chat
    import test_graph

    for module in (scripted_chat, test_graph, sys.modules[__name__]):
        ray.cloudpickle.register_pickle_by_value(module)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    return told(run(tmp_path_factory.mktemp("calm"), ScriptedChat(echo), graphs(7)))


def build(item: int) -> Graph:
    return graphs(7)[item]


def sharded(folder: Path, shards: int, **options) -> ShardedRun:
    return ShardedRun(
        range(7),
        ShardPlan(build, lambda: [CallWorker(ScriptedChat(echo))], str(folder / "ledger.db"), **options),
        shards,
    )


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_any_number_of_shards_gives_the_same(shards, calm, tmp_path):
    result = sharded(tmp_path, shards).run()
    assert told(result) == calm
    assert [graph.item for graph in result.graphs] == [f"item-{i}" for i in range(7)]
    assert result.counts.paid == sum(len(states) - 1 for states in calm.values())
    again = sharded(tmp_path, 4 - shards).run()
    assert told(again) == calm
    assert again.counts.paid == 0


def test_limits_are_shared_out_and_their_sum_holds(tmp_path):
    result = sharded(tmp_path, 2, limits=Limits(calls=10)).run()
    assert result.status == "STOPPED"
    assert result.cost["calls"] <= 10
    ledger = Ledger(tmp_path / "ledger.db")
    assert ledger.counts()["outcomes"] == result.counts.paid
    ledger.close()


@pytest.mark.parametrize(("limit", "shards"), [(7, 8), (10, 3), (0, 2), (9, 1)])
def test_shares_add_up_to_the_whole(limit, shards):
    shares = [share_of(Limits(calls=limit, tokens=2 * limit, usd=1.5, seconds=9.0), shards, n) for n in range(shards)]
    assert sum(share.calls for share in shares) == limit
    assert sum(share.tokens for share in shares) == 2 * limit
    assert sum(share.usd for share in shares) == pytest.approx(1.5)
    assert {share.seconds for share in shares} == {9.0}


def test_shards_without_a_place_are_one_line(tmp_path, monkeypatch):
    import plait.orchestrator.graph_shards as shards

    monkeypatch.setattr(shards, "PLACING", 1.0)
    monkeypatch.setattr(shards, "SHARD_CPUS", 1000.0)
    with pytest.raises(ClusterError, match=r"not placed within 1 s"):
        sharded(tmp_path, 2).run()


def test_an_error_of_a_shard_is_its_own(tmp_path):
    plan = ShardPlan(build, lambda: [CallWorker(ScriptedChat(echo, name="other"))], str(tmp_path / "ledger.db"))
    with pytest.raises(SpecError, match="a chat model of this run") as error:
        ShardedRun(range(2), plan, 2).run()
    assert "\n" not in str(error.value)


class Slow(ScriptedChat):
    """Writes each prompt and the process to a file; waits until told to go on."""

    def __init__(self, folder: str) -> None:
        super().__init__(echo)
        self._folder = Path(folder)

    async def _turn(self, messages, kind):
        import asyncio

        with (self._folder / f"{os.getpid()}.log").open("a") as file:
            file.write(messages[-1]["content"] + "\n")
        while not (self._folder / "go").exists():
            await asyncio.sleep(0.01)
        return await super()._turn(messages, kind)


def test_a_shard_that_is_killed_is_started_again(tmp_path):
    folder, ledger = str(tmp_path), str(tmp_path / "ledger.db")

    def one(item: int) -> Graph:
        return Graph(f"item-{item}", [Node("only", Say(), text(f"item {item}"), model="scripted")])

    plan = ShardPlan(one, lambda: [CallWorker(Slow(folder), Limiter())], ledger)
    events = []
    sharded = ShardedRun(range(6), plan, 2, lambda kind, fields: events.append((kind, dict(fields))))

    def logs(count: int) -> list[Path]:
        """Wait for so many processes to have written, or for the end of the test."""
        while len(found := list(tmp_path.glob("*.log"))) < count and not done.wait(0.02):
            pass
        return found

    def kill():
        os.kill(int(logs(2)[0].stem), signal.SIGKILL)
        logs(3)
        (tmp_path / "go").touch()

    done = threading.Event()
    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        result = sharded.run()
    finally:
        done.set()
        thread.join()
    assert all(graph.output("only") for graph in result.graphs)
    assert [fields["state"] for kind, fields in events if kind == "worker"] == ["lost"]
