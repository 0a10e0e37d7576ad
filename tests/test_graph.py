"""The graph engine: what a graph comes to is a function of nodes and outcomes, whatever the order, faults, crashes."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait import Ledger
from plait.errors import SpecError
from plait.graphs import Graph, Node, Upper
from plait.models.chat import CallFailed, Sampling, TokenPrice
from plait.orchestrator.budget import Budget, Limits
from plait.orchestrator.calls import CallWorker
from plait.orchestrator.graph_run import GraphRun
from plait.orchestrator.limiter import Limiter
from plait.orchestrator.paying import Policy
from plait.records import Failed, digest
from pydantic import BaseModel
from scripted_chat import ScriptedChat


class Text(BaseModel):
    text: str


class Texts(BaseModel):
    texts: list[str]


@dataclass(frozen=True)
class Say:
    """Sends the input's text and returns the answer."""

    suffix: str = ""
    name: ClassVar[str] = "say"
    version: ClassVar[int] = 1
    output: ClassVar[type[BaseModel]] = Text

    @property
    def spec(self):
        return {"suffix": self.suffix}

    async def run(self, given, model, seed):
        reply = await model.generate([{"role": "user", "content": given.text + self.suffix}], Sampling(max_tokens=20))
        if "odd" in reply.text:
            raise CallFailed("Unparsable", "odd")
        return Text(text=reply.text)

    async def upper(self, given, model):
        return Upper(1, await model.count_tokens([{"role": "user", "content": given.text}]), 20)


class Join:
    """Joins texts; free."""

    name, version, spec, output = "join", 1, None, Text

    async def run(self, given, model, seed):
        return Text(text="+".join(given.texts))

    async def upper(self, given, model):
        return Upper(0)


def text(value: str):
    return lambda outputs: Text(text=value)


def joined(outputs: Mapping[str, Text]) -> Texts:
    return Texts(texts=[outputs[name].text for name in sorted(outputs)])


def rejoined(outputs: Mapping[str, Text]) -> Text:
    return Text(text="+".join(outputs[name].text for name in sorted(outputs)))


def graph_of(item: str, width: int = 3, last: str = "", required: bool = True) -> Graph:
    """roles -> `width` judges (added once the roles are known) -> review of all -> a free join."""

    def grow(output: Text):
        names = [f"judge-{i}" for i in range(width)]
        for i, name in enumerate(names):
            yield Node(name, Say(), text(f"{output.text} angle {i}"), ("roles",), "scripted", required=required)
        yield Node("review", Say(last), rejoined, tuple(names), "scripted")
        yield Node("join", Join(), joined, (*names, "review"))

    return Graph(
        item, [Node("roles", Say(), text(f"roles of {item}"), model="scripted", expand=lambda o: list(grow(o)))]
    )


def echo(messages) -> str:
    return "seen " + digest([dict(message) for message in messages])[:6]


def run(folder, model, graphs, **options):
    ledger = Ledger(folder / "ledger.db")
    worker = CallWorker(model, Limiter(window=options.pop("window_calls", 16)))
    try:
        return GraphRun(graphs, [worker], ledger, **options).run()
    finally:
        ledger.close()


def told(result):
    return {
        graph.item: {
            name: (state.output.model_dump() if state.output else None, state.failed and state.failed.reason)
            for name, state in graph.states.items()
        }
        for graph in result.graphs
    }


def graphs(n=5, **options):
    return [graph_of(f"item-{i}", 1 + i % 4, **options) for i in range(n)]


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    return told(run(tmp_path_factory.mktemp("calm"), ScriptedChat(echo), graphs()))


def test_outputs_pass_along_edges_and_roles_become_neurons(tmp_path):
    result = run(tmp_path, ScriptedChat(echo), [graph_of("x")])
    (graph,) = result.graphs
    assert result.status == "SUCCEEDED"
    assert [len(layer) for layer in graph.layers()] == [1, 3, 1, 1]
    judges = [graph.output(f"judge-{i}").text for i in range(3)]
    assert graph.output("join").text == "+".join([*judges, graph.output("review").text])
    assert result.counts.paid == 5
    assert result.cost["calls"] == 5


def test_all_ready_nodes_of_all_items_run_at_once(tmp_path):
    """The judges of four items wait at a gate together: none of them waits for another."""

    async def scenario():
        model = ScriptedChat(echo)
        made = [graph_of(f"item-{i}", 5) for i in range(4)]
        ledger = Ledger(tmp_path / "ledger.db")
        run = GraphRun(made, [CallWorker(model, Limiter(most=64, window=64))], ledger)
        task = asyncio.create_task(run.run_async())
        while len(model.prompts) < 4 or model.in_flight:  # the roles of all items
            await asyncio.sleep(0)
        model.gate = asyncio.Event()
        async with asyncio.timeout(20):
            while model.in_flight < 20:
                await asyncio.sleep(0.001)
        model.gate.set()
        await task
        ledger.close()
        return model.most_in_flight

    assert asyncio.run(scenario()) == 20


@given(st.integers(0, 10**6), st.integers(1, 30), st.floats(0, 0.4))
def test_order_delays_and_passing_faults_change_nothing(tmp_path_factory, calm, seed, window, faults):
    rng = random.Random(seed)

    def fault(key, attempt):
        if attempt < 3 and rng.random() < faults:
            return CallFailed(rng.choice(["Timeout", "RateLimited", "ServerError"]), "scripted", 0.001)
        return None

    model = ScriptedChat(echo, fault, delays=rng)
    policy = Policy(backoff=0.0005, retries=3)
    result = run(tmp_path_factory.mktemp("rough"), model, graphs(), window_calls=window, policy=policy)
    assert told(result) == calm


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 25), min_size=1, max_size=4))
def test_stopped_at_any_point_and_resumed_is_the_same_and_pays_nothing_twice(tmp_path_factory, calm, limits):
    folder, model = tmp_path_factory.mktemp("crash"), ScriptedChat(echo)
    for limit in limits:
        run(folder, model, graphs(), budget=Budget(Limits(evaluations=limit)))
    result = run(folder, model, graphs())
    assert told(result) == calm
    assert set(model.calls.values()) == {1}


def test_a_changed_suffix_repays_only_itself(tmp_path):
    model = ScriptedChat(echo)
    first = run(tmp_path, model, [graph_of("x")])
    again = run(tmp_path, model, [graph_of("x")])
    changed = run(tmp_path, model, [graph_of("x", last=" and more")])
    assert (first.counts.paid, again.counts.paid, changed.counts.paid) == (5, 0, 1)
    assert changed.graphs[0].states["judge-0"].paid is False
    assert changed.graphs[0].states["review"].paid is True


def odd_for(item: str):
    def answer(messages):
        return "odd" if f"roles of {item}" == messages[-1]["content"] else echo(messages)

    return answer


def test_a_failing_node_fails_its_item_typed_and_the_others_go_on(tmp_path, calm):
    result = run(tmp_path, ScriptedChat(odd_for("item-2")), graphs())
    failed = {graph.item: graph.failed for graph in result.graphs if graph.failed}
    assert failed == {"item-2": Failed("Unparsable", "odd", cost=failed["item-2"].cost)}
    assert {k: v for k, v in told(result).items() if k != "item-2"} == {k: v for k, v in calm.items() if k != "item-2"}


def test_a_failure_is_kept_apart_and_never_reused(tmp_path, calm):
    run(tmp_path, ScriptedChat(odd_for("item-2")), graphs())
    healed = ScriptedChat(echo)
    result = run(tmp_path, healed, graphs())
    assert told(result) == calm
    assert sum(healed.calls.values()) == len(calm["item-2"]) - 1, "only the failed item is paid again"
    ledger = Ledger(tmp_path / "ledger.db")
    assert [failure.reason for failure in ledger.failures()] == ["Unparsable"]
    ledger.close()


def broken_judge(messages):
    return "odd" if messages[-1]["content"].endswith("angle 1") else echo(messages)


def test_what_is_below_a_failed_node_does_not_run(tmp_path):
    (graph,) = run(tmp_path, ScriptedChat(broken_judge), [graph_of("x")]).graphs
    assert graph.failed.reason == "Unparsable"
    assert graph.states["review"].failed == Failed("Upstream", "judge-1")
    assert graph.output("judge-2") is not None


def test_a_node_that_is_not_required_is_gone_without(tmp_path):
    (graph,) = run(tmp_path, ScriptedChat(broken_judge), [graph_of("x", required=False)]).graphs
    assert graph.failed is None
    assert graph.output("join").text.count("+") == 2


def test_repeats_are_bounded(tmp_path):
    model = ScriptedChat(echo, lambda key, attempt: CallFailed("ServerError", "down"))
    result = run(tmp_path, model, [graph_of("x")], policy=Policy(backoff=0.001, retries=2))
    assert result.graphs[0].failed.reason == "ServerError"
    assert sum(model.calls.values()) == 3
    assert result.counts.repeated == 2


def test_a_wrong_key_is_asked_once(tmp_path):
    model = ScriptedChat(echo, lambda key, attempt: CallFailed("Unauthorized", "no"))
    result = run(tmp_path, model, graphs(3))
    assert {graph.failed.reason for graph in result.graphs} == {"Unauthorized"}
    assert sum(model.calls.values()) == 3


def test_a_retry_after_is_waited_for_and_patience_ends(tmp_path):
    policy = Policy(backoff=0.001, patience={"RateLimited": 5.0})
    assert policy.wait("key", Failed("RateLimited", retryable=True, after=2.5), 0) == 2.5
    model = ScriptedChat(echo, lambda key, attempt: CallFailed("RateLimited", "slow down", 6.0))
    result = run(tmp_path, model, [graph_of("x")], policy=policy)
    assert result.graphs[0].failed.reason == "RateLimited"
    assert sum(model.calls.values()) == 1


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 400))
def test_a_token_budget_is_never_passed_and_is_used_up(tmp_path_factory, seed, limit):
    rng = random.Random(seed)
    fault = lambda key, attempt: CallFailed("Timeout") if attempt < 2 and rng.random() < 0.2 else None  # noqa: E731
    budget = Budget(Limits(tokens=limit))
    folder = tmp_path_factory.mktemp("budget")
    model = ScriptedChat(echo, fault, delays=rng)
    result = run(folder, model, graphs(), budget=budget, policy=Policy(backoff=0.0005))
    assert budget.spent["tokens"] <= limit
    if result.status == "STOPPED":
        assert result.stop_reason == "budget: tokens"
        assert budget.spent["tokens"] > limit - 120, "stopped though a call could have been paid"


def test_an_item_has_its_own_limit(tmp_path):
    result = run(
        tmp_path, ScriptedChat(echo), [graph_of("wide", 6), graph_of("narrow", 1)], item_limits=Limits(calls=4)
    )
    wide, narrow = result.graphs
    assert wide.failed.reason == "BudgetReached"
    assert sum(state.output is not None for state in wide.states.values()) == 4
    assert narrow.failed is None
    assert result.status == "SUCCEEDED"


def test_an_endpoint_has_its_own_limit(tmp_path):
    one, two = ScriptedChat(echo, name="one"), ScriptedChat(echo, name="two")
    nodes = [Node(f"{name}-{i}", Say(), text(f"{name} {i}"), model=name) for i in range(4) for name in ("one", "two")]
    workers = [CallWorker(one, budget=Budget(Limits(calls=3))), CallWorker(two)]
    ledger = Ledger(tmp_path / "ledger.db")
    (graph,) = GraphRun([Graph("x", nodes)], workers, ledger).run().graphs
    ledger.close()
    assert sum(one.calls.values()) == 3
    assert sum(two.calls.values()) == 4
    reasons = [state.failed.reason for state in graph.states.values() if state.failed]
    assert reasons == ["BudgetReached"]


def test_an_account_that_is_empty_is_a_failure_like_another(tmp_path):
    """The provider's own "nothing left" is settled, recorded and told; it is not our budget's."""
    model = ScriptedChat(echo, lambda key, attempt: CallFailed("BudgetReached", "insufficient_quota"))
    budget = Budget(Limits(calls=2))
    result = run(tmp_path, model, graphs(3), budget=budget)
    assert sum(model.calls.values()) == 2
    assert {graph.failed.reason for graph in result.graphs if graph.failed} == {"BudgetReached"}
    assert not budget.waiting
    ledger = Ledger(tmp_path / "ledger.db")
    assert ledger.counts() == {"outcomes": 0, "failures": 2, "claims": 0}
    ledger.close()


def test_what_one_item_cannot_pay_another_may(tmp_path):
    def two(item, calls):
        nodes = [Node(f"own-{i}", Say(), text(f"{item} {i}"), model="scripted") for i in range(calls)]
        shared = Node("shared", Say(), text("asked by both"), tuple(node.id for node in nodes), "scripted")
        return Graph(item, [*nodes, shared])

    poor, rich = run(tmp_path, ScriptedChat(echo), [two("poor", 2), two("rich", 1)], item_limits=Limits(calls=2)).graphs
    assert poor.failed.reason == "BudgetReached"
    assert rich.failed is None
    assert rich.output("shared") is not None


def test_a_repeat_keeps_its_claim(tmp_path):
    claimed = []

    def fault(key, attempt):
        if attempt == 0:
            return CallFailed("ServerError", "once")
        reader = Ledger(tmp_path / "ledger.db", read_only=True)
        claimed.append(reader.counts()["claims"])
        reader.close()
        return None

    run(tmp_path, ScriptedChat(echo, fault), [graph_of("x", 1)], policy=Policy(backoff=0.01))
    assert claimed
    assert all(claimed)


def test_time_that_runs_out_ends_a_run_whose_model_is_silent(tmp_path, monkeypatch):
    import plait.orchestrator.driver as driver

    monkeypatch.setattr(driver, "GRACE", 0.2)

    class Silent(ScriptedChat):
        async def generate(self, messages, sampling=None):
            await asyncio.Event().wait()

    result = run(tmp_path, Silent(echo), graphs(2), budget=Budget(Limits(seconds=0.3)))
    assert (result.status, result.stop_reason) == ("STOPPED", "budget: seconds")
    ledger = Ledger(tmp_path / "ledger.db")
    assert ledger.counts()["claims"] == 0
    ledger.close()


def test_a_wait_of_a_day_is_a_refusal(tmp_path):
    model = ScriptedChat(echo, lambda key, attempt: CallFailed("ServerError", "down", 86400.0))
    result = run(tmp_path, model, [graph_of("x")])
    assert result.graphs[0].failed.reason == "ServerError"
    assert sum(model.calls.values()) == 1


def test_an_item_whose_tokens_cannot_be_counted_fails_alone(tmp_path):
    class Uncountable(ScriptedChat):
        async def count_tokens(self, messages):
            if "item-1" in messages[-1]["content"]:
                raise CallFailed("BadRequest", "the template refuses it")
            return await super().count_tokens(messages)

    result = run(tmp_path, Uncountable(echo), graphs(3), budget=Budget(Limits(tokens=10**6)))
    assert [graph.failed and graph.failed.reason for graph in result.graphs] == [None, "BadRequest", None]


def test_money_is_counted_and_an_unknown_price_is_refused(tmp_path):
    priced = ScriptedChat(echo, price=TokenPrice(10.0, 20.0))
    budget = Budget(Limits(usd=1.0))
    result = run(tmp_path, priced, [graph_of("x")], budget=budget)
    assert budget.spent["usd"] == pytest.approx(result.cost["usd"])
    tokens = result.cost["prompt_tokens"] * 10e-6 + result.cost["completion_tokens"] * 20e-6
    assert budget.spent["usd"] == pytest.approx(tokens)
    with pytest.raises(SpecError, match="price"):
        run(tmp_path, ScriptedChat(echo, name="scripted"), [graph_of("y")], budget=Budget(Limits(usd=1.0)))


def test_an_unknown_parent_a_second_id_and_an_unknown_model_are_refused(tmp_path):
    with pytest.raises(SpecError, match="a parent among"):
        Graph("x", [Node("a", Join(), joined, ("b",))])
    with pytest.raises(SpecError, match="not used before"):
        Graph("x", [Node("a", Join(), joined), Node("a", Join(), joined)])
    with pytest.raises(SpecError, match="scripted"):
        run(tmp_path, ScriptedChat(echo), [Graph("x", [Node("a", Say(), text("a"), model="other")])])


def test_calls_that_share_a_prefix_are_sent_together(tmp_path):
    """Nodes are added in turn for two prefixes; the endpoint sees one prefix after the other."""
    nodes = [Node(f"{i}-{p}", Say(), text(f"{p} {i}"), model="scripted", prefix=p) for i in range(6) for p in "ab"]
    model = ScriptedChat(echo)
    run(tmp_path, model, [Graph("x", nodes)], window_calls=1)
    assert "".join(prompt[0] for prompt in model.prompts) in {"aaaaaabbbbbb", "bbbbbbaaaaaa"}


def test_pictures_carry_time_tokens_and_failures(tmp_path):
    (graph,) = run(tmp_path, ScriptedChat(broken_judge), [graph_of('an "item"')]).graphs
    chart = graph.mermaid()
    assert chart.startswith("flowchart TD")
    assert chart.count("-->") == len(graph.dag.edges)
    assert "Unparsable" in chart
    assert "tok" in chart
    assert len(graph.plot().axes[0].texts) == len(graph.nodes)


def test_a_rate_limit_is_waited_for_without_spinning(tmp_path, monkeypatch):
    """A minute of two calls, the clock of the limiter hurried: the third waits its turn and looks seldom."""
    import plait.orchestrator.limiter as limiter

    monkeypatch.setattr(limiter, "MINUTE", 0.4)
    looks = []
    worker = CallWorker(ScriptedChat(echo), Limiter(requests_per_minute=2))
    ask = worker.ready_at
    worker.ready_at = lambda now, price: looks.append(now) or ask(now, price)
    ledger = Ledger(tmp_path / "ledger.db")
    result = GraphRun([graph_of("x", 3)], [worker], ledger).run()
    ledger.close()
    assert result.status == "SUCCEEDED"
    assert result.counts.paid == 5
    assert len(looks) < 60


class TestLimiter:
    def test_it_doubles_until_refused_then_halves_once_a_burst(self):
        limiter = Limiter(most=100, window=4)
        for _ in range(4):
            limiter.answered(0.1)
        assert limiter.slots == 8
        for now in (10.0, 10.1, 10.2):
            limiter.refused(now)
        assert limiter.slots == 4
        for _ in range(4):
            limiter.answered(0.1)
        assert limiter.slots == 4
        limiter.answered(0.1)
        assert limiter.slots == 5

    def test_it_stops_growing_when_answers_slow_down(self):
        limiter = Limiter(most=100, window=4)
        limiter.answered(0.1)
        for _ in range(50):
            limiter.answered(1.0)
        assert limiter.slots < 12

    @given(st.lists(st.sampled_from(["answer", "refuse"]), max_size=200))
    def test_it_stays_within_one_and_most(self, moves):
        limiter = Limiter(most=20, window=8)
        for number, move in enumerate(moves):
            limiter.answered(0.1) if move == "answer" else limiter.refused(float(number * 3))
            assert 1 <= limiter.slots <= 20

    @given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
    def test_no_minute_holds_more_than_the_rate(self, sizes):
        limiter = Limiter(requests_per_minute=5, tokens_per_minute=60)
        starts, now = [], 0.0
        for tokens in sizes:
            now = max(now, limiter.ready_at(now, tokens))
            now = max(now, limiter.ready_at(now, tokens))
            limiter.started(now, tokens)
            starts.append((now, tokens))
        for at, _ in starts:
            inside = [tokens for start, tokens in starts if at - 60 < start <= at]
            assert len(inside) <= 5
            assert sum(inside) <= 60
