"""Graphs go on while their outcomes reach the disk: in order, complete below, never said before they are there."""

import asyncio
import threading

import pytest
from plait import Ledger
from plait.errors import StoreError
from plait.graphs import Graph, Node
from plait.orchestrator.calls import CallWorker
from plait.orchestrator.graph_run import GraphRun
from plait.orchestrator.ledger import Entry
from plait.orchestrator.limiter import Limiter
from plait.orchestrator.write_behind import WriteBehind
from plait.records import Scored
from scripted_chat import ScriptedChat
from test_graph import Say, echo, graphs, rejoined, run, text, told

STEPS = 6


def chain(item: str) -> Graph:
    """Return calls of which each is made of the answer before."""
    nodes = [Node("0", Say(), text(f"begin {item}"), model="scripted")]
    nodes += [Node(str(i), Say(), rejoined, (str(i - 1),), "scripted") for i in range(1, STEPS)]
    return Graph(item, nodes)


class Slow(Ledger):
    """Writes nothing until it may."""

    def __init__(self, path):
        super().__init__(path)
        self.may, self.asked = threading.Event(), threading.Event()

    def record(self, entries, owner=""):
        self.asked.set()
        assert self.may.wait(30), "nobody let it write"
        super().record(entries, owner)


class Breaking(Ledger):
    """Its disk has room for `rows` outcomes."""

    def __init__(self, path, rows):
        super().__init__(path)
        self.rows = rows

    def record(self, entries, owner=""):
        self.rows -= len(entries)
        if self.rows < 0:
            raise StoreError(self.name, "database or disk is full")
        super().record(entries, owner)


def test_the_next_call_goes_out_before_the_last_is_written_and_an_item_ends_after(tmp_path):
    told_of: list[str] = []

    async def scenario() -> None:
        model, ledger = ScriptedChat(echo), Slow(tmp_path / "ledger.db")
        graph = Graph("x", [*chain("x").nodes.values()][:2])
        going = GraphRun([graph], [CallWorker(model)], ledger, events=lambda kind, _: told_of.append(kind))
        task = asyncio.create_task(going.run_async())
        async with asyncio.timeout(20):
            while len(model.prompts) < 2 or not graph.done:
                await asyncio.sleep(0.001)
            while not ledger.asked.is_set():
                await asyncio.sleep(0.001)
        assert ledger.counts()["outcomes"] == 0
        assert not task.done()
        assert "item" not in told_of
        ledger.may.set()
        result = await task
        assert result.status == "SUCCEEDED"
        assert ledger.counts() == {"outcomes": 2, "failures": 0, "claims": 0}
        ledger.close()

    asyncio.run(scenario())
    assert told_of.count("item") == 1


@pytest.mark.parametrize("rows", [0, 1, 5, 9, 11])
def test_a_disk_that_fills_up_leaves_a_ledger_complete_below_and_resuming_pays_nothing_twice(
    tmp_path, rows, monkeypatch
):
    monkeypatch.setattr("plait.orchestrator.write_behind.LINGER", 0.0)  # so that there are many writes
    (tmp_path / "calm").mkdir()
    calm = told(run(tmp_path / "calm", ScriptedChat(echo), [chain("a"), chain("b")]))
    path, model = tmp_path / "ledger.db", ScriptedChat(echo)
    ledger = Breaking(path, rows)
    broken = GraphRun([chain("a"), chain("b")], [CallWorker(model, Limiter(window=1))], ledger)
    with pytest.raises(StoreError, match="disk is full"):
        broken.run()
    kept = ledger.counts()
    ledger.close()
    assert kept["claims"] == 0
    assert kept["outcomes"] <= rows
    before = dict(model.calls)
    result = run(tmp_path, model, [chain("a"), chain("b")])
    assert told(result) == calm
    assert result.counts.found == kept["outcomes"]
    assert sum(model.calls.values()) - sum(before.values()) == 2 * STEPS - kept["outcomes"]
    for graph in result.graphs:  # what was recorded is a beginning of each chain, without a gap
        paid = [graph.states[str(i)].paid for i in range(STEPS)]
        assert paid == sorted(paid)


def test_nothing_is_written_after_a_write_that_failed():
    async def scenario() -> list[str]:
        written: list[str] = []

        async def write(entries) -> None:
            if entries[0].key == "b":
                raise StoreError("ledger", "database or disk is full")
            written.extend(entry.key for entry in entries)

        behind = WriteBehind(write, lambda: None)
        behind.after(lambda: written.append("nothing was queued"))
        for key in "abc":
            behind.add([Entry(key, "say", Scored({}))])
            if key != "c":
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(behind, "due", 0.0)
                    if key == "a":
                        await behind.flush()
        behind.after(lambda: written.append("c is durable"))
        with pytest.raises(StoreError):
            await behind.flush()
        with pytest.raises(StoreError):
            behind.step()
        return written

    assert asyncio.run(scenario()) == ["nothing was queued", "a"]


def test_a_graph_that_is_stopped_keeps_what_was_answered(tmp_path):
    async def scenario() -> int:
        model, ledger = ScriptedChat(echo), Slow(tmp_path / "ledger.db")
        ledger.may.set()
        going = GraphRun(graphs(3), [CallWorker(model)], ledger)
        task = asyncio.create_task(going.run_async())
        while not model.prompts or model.in_flight:
            await asyncio.sleep(0)
        model.gate = asyncio.Event()
        while model.in_flight < 3:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        counts = ledger.counts()
        ledger.close()
        return counts["outcomes"]

    assert asyncio.run(scenario()) == 3
