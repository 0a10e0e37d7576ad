"""How a block's outputs become one: votes, choices, filters, chains, programs that are run; and what each may call."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait import Ledger
from plait.agents.sandbox import Sandbox, SandboxModel, offered
from plait.agents.teams.agent import Said
from plait.agents.teams.aggregate import Outputs, calls_per_item, combined, majority, planned_calls
from plait.agents.teams.forward import TeamGraphs
from plait.agents.teams.items import InputFile, task_item
from plait.agents.teams.losses import score_node
from plait.agents.teams.trace import layer_stats, trace_of
from plait.graphs import Graph
from plait.models.chat import CallFailed
from plait.orchestrator.calls import CallWorker
from plait.orchestrator.graph_run import GraphRun
from plait.orchestrator.limiter import Limiter
from plait.records import generator
from plait.teams import AgentSpec, Aggregator, Block, LayerSpec, Schema, TeamSpec
from scripted_chat import ScriptedChat

NUMBER, CODE, VALUES = Schema(kind="number"), Schema(kind="code"), Schema(kind="values", fields=("total",))
SUM = task_item("What is 1 + 2?", "number", 3)
needs_namespaces = pytest.mark.skipif(
    not offered()["namespaces"], reason=f"no namespaces on this host: {offered()['problem']}"
)


def agents(names="abc", output=NUMBER, **options):
    return tuple(AgentSpec(name=name, role=f"agent {name}", output=output, **options) for name in names)


def team_of(*members, kind, **options):
    block = Block(name="block", agents=members, aggregate=Aggregator(kind=kind, **options))
    layer = LayerSpec(name="solve", task="Do it.", blocks=(block,))
    answers = options.get("output") or members[-1].output
    return TeamSpec(layers=(layer,), answer=answers)


def by_name(**said):
    """Answer as the agent that the prompt names (`You are agent a.`), whether it is asked first or again."""

    def answer(messages):
        prompt = next(message["content"] for message in messages if message["role"] == "user")
        found = re.search(r"You are agent (\w)\.", prompt)
        text = said[found[1]] if found else said["other"]
        return text(prompt) if callable(text) else text

    return answer


def run(folder, answer, team, item=SUM, *, loss=None, workers=()):
    model = ScriptedChat(answer)
    graph = Graph(item.id, TeamGraphs(team, {"": "scripted"}, loss=loss).nodes(item))
    ledger = Ledger(folder / "ledger.db")
    try:
        GraphRun([graph], [CallWorker(model, Limiter(window=16)), *workers], ledger).run()
    finally:
        ledger.close()
    return graph, model


def said(*values):
    return tuple(Said(text=f"text {value}", value=value) for value in values)


# votes


@pytest.mark.parametrize(("voters", "expected"), [(3, 0.784), (5, 0.837)])
def test_majorities_of_agents_that_are_right_at_seventy_percent(voters, expected):
    count, right = 5000, 0
    for item in range(count):
        rng = generator(7, "majority", voters, item)
        values = tuple("right" if rng.random() < 0.7 else "wrong" for _ in range(voters))
        right += combined("majority", Outputs(said=said(*values))).value == "right"
    exact = sum(math.comb(voters, k) * 0.7**k * 0.3 ** (voters - k) for k in range(voters // 2 + 1, voters + 1))
    assert exact == pytest.approx(expected, abs=5e-4)
    assert abs(right / count - exact) < 3 * math.sqrt(exact * (1 - exact) / count)


def test_ties_go_to_the_earliest_agent_and_are_flagged():
    out = combined("majority", Outputs(said=said("8", "7", "7", "8")))
    assert (out.value, out.text, out.votes, out.tie, out.distinct) == ("8", "text 8", {"8": 2, "7": 2}, True, False)


def test_all_distinct_is_flagged_and_one_voice_is_not():
    three = combined("majority", Outputs(said=said("1", "2", "3")))
    alone = combined("majority", Outputs(said=said("1", None, None)))
    assert (three.value, three.tie, three.distinct) == ("1", True, True)
    assert (alone.value, alone.tie, alone.distinct, alone.unparsed, alone.agents) == ("1", False, False, 2, 3)


def test_what_could_not_be_read_votes_for_nothing():
    out = combined("majority", Outputs(said=said(None, "4", None, None)))
    assert (out.value, out.votes, out.unparsed) == ("4", {"4": 1}, 3)
    nobody = combined("majority", Outputs(said=said(None, None)))
    assert (nobody.value, nobody.votes, nobody.text, nobody.unparsed) == (None, {}, "text None", 2)


@given(st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=9))
def test_a_vote_counts_every_value_once_and_its_winner_has_most(values):
    vote = majority(values)
    assert sum(vote.votes.values()) == sum(value is not None for value in values)
    if vote.first is None:
        assert not vote.votes
        return
    winner = values[vote.first]
    assert vote.first == values.index(winner)
    assert vote.votes[winner] == max(vote.votes.values())
    equals = [value for value, count in vote.votes.items() if count == vote.votes[winner]]
    assert vote.tie == (len(equals) > 1)
    assert all(values.index(other) >= vote.first for other in equals)


# calls


def test_a_majority_takes_one_call_an_agent(tmp_path):
    graph, model = run(tmp_path, by_name(a="Answer: 4", b="3", c="so 3"), team_of(*agents(), kind="majority"))
    out = graph.output("solve/out")
    assert (out.value, out.votes) == ("3", {"4": 1, "3": 2})
    assert len(model.prompts) == 3


def test_best_of_takes_what_the_judge_names_and_shows_each_answer_once(tmp_path):
    def judge(prompt):
        shown = re.findall(r'<answer number="(\d)">\n(.*?)\n</answer>', prompt)
        assert sorted(text for _, text in shown) == ["Answer: 3", "Answer: 4"]
        return f'{{"reason": "it adds up", "answer": {next(number for number, text in shown if "3" in text)}}}'

    answer = by_name(a="Answer: 4", b="Answer: 4", c="Answer: 3", other=judge)
    graph, model = run(tmp_path, answer, team_of(*agents(), kind="best_of"))
    assert graph.output("solve/out").value == "3"
    assert graph.output("solve/block/choice").reason == "it adds up"
    assert len(model.prompts) == 4


def test_best_of_asks_nobody_where_all_agree_and_takes_the_earliest_after_a_bad_answer(tmp_path):
    graph, model = run(tmp_path, by_name(a="no", b="3", c="3"), team_of(*agents(), kind="best_of"))
    assert (graph.output("solve/out").value, graph.output("solve/block/choice").place) == ("3", 1)
    assert len(model.prompts) == 4  # a is asked twice, the judge not at all
    (tmp_path / "odd").mkdir()
    answer = by_name(a="4", b="3", c="3", other="the ninth: 9")
    graph, _ = run(tmp_path / "odd", answer, team_of(*agents(), kind="best_of"))
    assert graph.output("solve/out").value == "4"
    assert graph.output("solve/block/choice").bad


def test_a_synthesis_is_written_over_all_outputs_under_its_own_schema(tmp_path):
    team = team_of(*agents("ab", Schema()), kind="synthesize", output=NUMBER)

    def write(prompt):
        assert "one plus two" in prompt
        assert "three, I think" in prompt
        return "Answer: 3"

    graph, model = run(tmp_path, by_name(a="one plus two", b="three, I think", other=write), team)
    out = graph.output("solve/out")
    assert (out.value, out.agents, out.votes) == ("3", 2, {})
    assert len(model.prompts) == 3


def test_in_a_debate_each_sees_all_answers_and_the_last_round_counts(tmp_path):
    def second(prompt):
        if "colleagues" not in prompt:
            return "Answer: 4"
        own = re.search(r"Answer (\d) is your own", prompt)[1]
        assert own == "2"
        assert len(re.findall("<answer number=", prompt)) == 3
        return "Answer: 3"

    team = team_of(*agents(), kind="debate", rounds=2)
    graph, model = run(tmp_path, by_name(a="Answer: 3", b=second, c="Answer: 5"), team)
    out = graph.output("solve/out")
    assert (out.value, out.votes, out.agents) == ("3", {"3": 2, "5": 1}, 3)
    assert len(model.prompts) == 9


def test_a_chain_passes_on_and_its_last_output_counts_even_where_it_cannot_be_read(tmp_path):
    def last(prompt):
        assert "3, or so" in prompt
        return "I would rather not."

    draft, final = agents("a", Schema())[0], agents("b")[0]
    graph, model = run(tmp_path, by_name(a="3, or so", b=last), team_of(draft, final, kind="chain"))
    out = graph.output("solve/out")
    assert (out.value, out.text, out.unparsed) == (None, "I would rather not.", 1)
    assert len(model.prompts) == 3


def test_a_single_free_text_is_passed_on_as_it_is(tmp_path):
    graph, _ = run(tmp_path, lambda messages: "A poem.", team_of(*agents("a", Schema()), kind="single"))
    out = graph.output("solve/out")
    assert (out.text, out.value, out.votes) == ("A poem.", "A poem.", {})


@pytest.mark.parametrize(
    ("kind", "options", "good", "bad"),
    [
        ("single", {}, 1, 2), ("majority", {}, 3, 6), ("best_of", {}, 3, 7), ("synthesize", {}, 4, 8),
        ("debate", {"rounds": 1}, 6, 12), ("debate", {"rounds": 2}, 6, 18), ("chain", {}, 3, 6),
    ],
)  # fmt: skip
def test_every_aggregator_states_what_it_takes(tmp_path, kind, options, good, bad):
    team = team_of(*agents("a" if kind == "single" else "abc"), kind=kind, **options)
    (block,) = team.layers[0].blocks
    assert calls_per_item(block) == planned_calls(team) == (good, bad)
    _, model = run(tmp_path, lambda messages: "Answer: 3", team)
    assert len(model.prompts) == good
    (tmp_path / "odd").mkdir()
    _, model = run(tmp_path / "odd", lambda messages: "hm", team)
    assert good <= len(model.prompts) <= bad


def test_a_plan_counts_the_selector_and_the_dearest_block():
    one = Block(name="one", agents=agents("a"))
    trio = Block(name="trio", agents=agents("bcd"), aggregate=Aggregator(kind="majority"))

    def plan(selector):
        layer = LayerSpec(name="solve", task="Do it.", blocks=(one, trio), selector=selector)
        return planned_calls(TeamSpec(layers=(layer,), answer=NUMBER))

    assert [plan(selector) for selector in ("static", "random", "rule", "llm")] == [(1, 2), (1, 6), (1, 6), (2, 7)]


# programs


def sandboxed():
    return [CallWorker(SandboxModel(Sandbox()), Limiter(window=2))]


DOUBLE = task_item(
    "Write double(x).", "code", None, entry_point="double", visible=("assert double(1) == 2",),
    tests=("assert double(7) == 14", "assert double(0) == 0"),
)  # fmt: skip


def fenced(program):
    return f"```python\n{program}\n```"


@needs_namespaces
def test_a_filter_keeps_what_passes_the_visible_examples_and_never_runs_a_hidden_test(tmp_path):
    seen = []

    class Watched(Sandbox):
        async def check(self, program, tests, setup="", **options):
            seen.append(tuple(tests))
            return await super().check(program, tests, setup, **options)

    programs = {
        "a": "def double(x):\n    return x + 3", "b": "def double(x):\n    return x + 3  # surely",
        "c": "def double(x):\n    return 2 * x",
    }  # fmt: skip
    team = team_of(*agents("abc", CODE), kind="code_filter")
    answer = by_name(**{name: fenced(program) for name, program in programs.items()})
    workers = [CallWorker(SandboxModel(Watched()), Limiter(window=2))]
    graph, model = run(tmp_path, answer, team, DOUBLE, workers=workers)
    out = graph.output("solve/out")
    assert out.value == programs["c"]  # although two of three agree on the other
    assert seen == [DOUBLE.visible] * 3
    assert not any(test in prompt for prompt in model.prompts for test in DOUBLE.tests)
    assert all(DOUBLE.visible[0] in prompt for prompt in model.prompts)
    rows = [row for row in trace_of(graph, team) if row.node.endswith("/examples")]
    assert [row.agent for row in rows] == ["a", "b", "c"]
    assert not any(test in row.input for row in rows for test in DOUBLE.tests)
    assert calls_per_item(team.layers[0].blocks[0]) == (3, 6)


@needs_namespaces
def test_where_no_program_passes_the_commonest_is_taken(tmp_path):
    wrong = "def double(x):\n    return 5"
    team = team_of(*agents("abc", CODE), kind="code_filter")
    answer = by_name(a="prose", b=fenced(f"{wrong}  # five"), c=fenced(wrong))
    graph, _ = run(tmp_path, answer, team, DOUBLE, workers=sandboxed(), loss=score_node)
    out = graph.output("solve/out")
    assert (out.value, out.unparsed, list(out.votes.values())) == (f"{wrong}  # five", 1, [2])
    assert graph.output("score").score == 0.0


@needs_namespaces
def test_a_filter_without_examples_is_a_vote_over_programs(tmp_path):
    item = task_item("Write double(x).", "code", None, entry_point="double", tests=("assert double(7) == 14",))
    team = team_of(*agents("abc", CODE), kind="code_filter")
    right = "def double(x):\n    return 2 * x"
    answer = by_name(a=fenced("def double(x): return 0"), b=fenced(right), c=fenced(right))
    graph, _ = run(tmp_path, answer, team, item, workers=sandboxed(), loss=score_node)
    assert graph.output("solve/out").value == right
    assert graph.output("score").score == 1.0


@needs_namespaces
def test_an_agent_with_python_answers_by_what_its_program_prints(tmp_path):
    table = InputFile(name="table.csv", text="x\n1\n2\n")
    item = task_item("What is the total of x?", "values", {"total": 3}, files=(table,))
    program = "rows = open('table.csv').read().split()[1:]\nprint(f'@total[{sum(map(int, rows))}]')"
    team = team_of(*agents("a", VALUES, tools=("python",)), kind="single")
    graph, model = run(tmp_path, by_name(a=fenced(program)), team, item, workers=sandboxed(), loss=score_node)
    assert graph.output("solve/block/a#0/program").value == program
    assert graph.output("solve/out").value == '{"total":"3"}'
    assert graph.output("score").score == 1.0
    assert "table.csv" in model.prompts[0]


@needs_namespaces
@pytest.mark.parametrize(
    ("said", "error"),
    [
        (fenced("print(1 / 0)"), "division by zero"),
        (fenced("print('none')"), "it holds no number"),
        ("I compute it in my head: 3", "no Python program"),
    ],
)
def test_a_program_that_prints_no_answer_is_an_outcome_and_no_failure(tmp_path, said, error):
    team = team_of(*agents("a", tools=("python",)), kind="single")
    graph, _ = run(tmp_path, by_name(a=said), team, workers=sandboxed())
    assert graph.failed is None
    assert graph.output("solve/out").value is None
    assert error in graph.output("solve/block/a#0").error
    assert layer_stats(graph, team)["solve"]["unparsed"] == 1


def test_a_sandbox_that_cannot_run_a_program_fails_the_item(tmp_path):
    class Down(Sandbox):
        async def run(self, program, files=None, stdin=""):
            raise CallFailed("BadRequest", "no process")

    team = team_of(*agents("a", tools=("python",)), kind="single")
    workers = [CallWorker(SandboxModel(Down(allow_network=True)), Limiter(window=2))]
    graph, _ = run(tmp_path, by_name(a=fenced("print(3)")), team, workers=workers)
    assert graph.failed is not None
    assert graph.failed.reason == "BadRequest"
