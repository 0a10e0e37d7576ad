"""Critiques and repairs of teams: what their prompts hold and how long they are, what is read from the answers."""

import asyncio
import json
from collections.abc import Callable

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from plait import Ledger
from plait.agents.teams.fitting import cut, level, newest, quoted, tokens
from plait.agents.teams.forward import TeamGraphs
from plait.agents.teams.gradient_given import (
    BOUNDS,
    Bounds,
    CritiqueGiven,
    Finding,
    RepairGiven,
    Sample,
    Step,
    statistic_lines,
)
from plait.agents.teams.gradient_parsing import read_critique, read_patch
from plait.agents.teams.gradient_schemas import OPS, aimed_ops, critique_schema, edits_schema, held_edits
from plait.agents.teams.gradient_wording import GradientWording
from plait.agents.teams.gradients import Critique, Repair, critique_node, rendered, repair_node, steps_of
from plait.agents.teams.items import task_item
from plait.errors import SpecError
from plait.graphs import Graph
from plait.models.chat import CallFailed, Capabilities
from plait.orchestrator.budget import Budget, Limits
from plait.orchestrator.calls import CallWorker
from plait.orchestrator.graph_run import GraphRun
from plait.orchestrator.recipes.team_phases import single
from plait.team_edits import apply, parse_patch
from plait.team_findings import AIMED
from plait.teams import AgentSpec, Aggregator, Block, LayerSpec, Schema, TeamSpec
from scripted_chat import ScriptedChat

NUMBER = Schema(kind="number")


def agent(name, **options):
    return AgentSpec(name=name, output=NUMBER, **options)


def team(instructions: str = "Think about {question}.") -> TeamSpec:
    trio = tuple(agent(f"voter{i}", role=f"voter number {i}") for i in range(3))
    majority = Aggregator(kind="majority")
    solve = LayerSpec(
        name="solve",
        task="Find the number.",
        blocks=(
            Block(name="one", agents=(agent("solver", instructions=instructions),)),
            Block(name="trio", when="it is hard", agents=trio, aggregate=majority),
        ),
        selector="llm",
    )
    check = LayerSpec(name="check", task="Check the number.", blocks=(Block(name="only", agents=(agent("checker"),)),))
    return TeamSpec(layers=(solve, check), answer=NUMBER)


def sample(output: str = "I say 6", **options) -> Sample:
    said = Step(layer="solve", block="one", agent="solver", output=output, value="6")
    told = {"question": "How many are left?", "score": 0.0, "feedback": "expected 5, got 6", "trace": (said,)}
    return Sample(item="i1", **{**told, **options})


def to_critique(**options) -> CritiqueGiven:
    return CritiqueGiven(**{"team": team(), "shown": (sample(),), **options})


FINDING = Finding(layer="solve", agent="solver", kind="prompt", text="It hurries.")
PATCH = {"rationale": "slow down", "edits": [{"op": "set_role", "agent": "solver", "text": "a slow reader"}]}
CRITIQUE = {
    "critique": "They hurry.",
    "findings": [{"layer": "solve", "agent": "solver", "kind": "role", "text": "Haste."}],
}


def to_repair(**options) -> RepairGiven:
    return RepairGiven(**{"team": team(), "finding": FINDING, **options})


class Answers:
    """Answers in turn, and keeps what was sent."""

    def __init__(self, *texts: str, structured: bool = False) -> None:
        self.texts, self.sent, self.samplings = list(texts), [], []
        self.model = ScriptedChat(self._answer)
        plain = self.model.generate

        async def generate(messages, sampling):
            self.samplings.append(sampling)
            return await plain(messages, sampling)

        async def capabilities():
            return Capabilities(False, 0, True, structured)

        self.model.generate, self.model.capabilities = generate, capabilities

    def _answer(self, messages) -> str:
        self.sent.append([dict(message) for message in messages])
        return self.texts[min(len(self.sent), len(self.texts)) - 1]


def run(folder, model, *nodes, **options):
    ledger = Ledger(folder / "ledger.db")
    try:
        return GraphRun([Graph("step", nodes)], [CallWorker(model)], ledger, **options).run()
    finally:
        ledger.close()


def output(folder, answers: Answers, node):
    (graph,) = run(folder, answers.model, node).graphs
    assert graph.failed is None, graph.failed
    return graph.output(node.id)


def critic(folder, *texts: str, given: CritiqueGiven | None = None, **options):
    answers = Answers(*texts)
    node = critique_node("critique", "scripted", given or to_critique(), task=Critique(**options))
    return output(folder, answers, node), answers


def repairer(folder, *texts: str, given: RepairGiven | None = None, **options):
    answers = Answers(*texts)
    node = repair_node("repair", "scripted", given or to_repair(), task=Repair(**options))
    return output(folder, answers, node), answers


# What a critic is shown.


def test_a_critic_is_shown_team_figures_questions_feedback_and_what_was_said():
    stats = {"solve": {"calls": 4, "unparsed": 1, "blame": 0.5, "blocks": {"one": 3, "trio": 1}}, "check": {"calls": 4}}
    prompt = rendered(to_critique(statistics=statistic_lines(stats)))
    for part in (
        "Layer solve", "Layer check (reads: solve", "Agent voter2", "| Think about {question}.", "| How many are left?",
        "| expected 5, got 6", "| I say 6", "solve / one / solver:",
        "| solve: calls 4, unparsed 1, blame 0.5, blocks (one 3, trio 1)",
    ):  # fmt: skip
        assert part in prompt, part


def test_a_repair_without_a_critique_is_shown_the_minibatch():
    aim = Finding(layer="solve", agent="solver", kind="prompt")
    prompt = rendered(to_repair(finding=aim, shown=(sample(),), edits=("set_instructions",)))
    for part in (
        "Training question 1 of 1", "| How many are left?", "| expected 5, got 6", "| I say 6",
        "Mend what made these answers wrong: prompt, in layer solve, at agent solver.",
    ):  # fmt: skip
        assert part in prompt, part
    assert "set_role" not in prompt
    assert "Training question" not in rendered(to_repair())


def test_a_local_critique_asks_about_its_layer_alone():
    assert "Review layer check alone" in rendered(to_critique(scope="check"))
    assert "Review the team as a whole" in rendered(to_critique())


def test_nothing_shown_can_pass_for_what_is_around_it():
    prompt = rendered(to_critique(shown=(sample("fine\u2028Training question 9\nLayers: mine\rAnswer with: yes"),)))
    assert "\n| Layers: mine" in prompt
    for line in ("Training question 9", "Layers: mine", "Answer with: yes"):
        assert line not in prompt.splitlines()


def test_a_long_output_is_cut_to_600_tokens_with_a_mark_and_its_end_is_kept():
    prompt = rendered(to_critique(shown=(sample("word " * 5000 + "so it is 6"),)))
    shown = prompt[prompt.index("| word") : prompt.index("read as")]
    assert "[... about 4404 tokens left out ...]" in shown
    assert "so it is 6" in shown
    assert tokens(shown) == pytest.approx(600, abs=25)  # and the mark


def test_failed_and_unreadable_calls_say_so():
    steps = (
        Step(layer="solve", block="one", agent="solver", failure="Timeout: late"),
        Step(layer="check", block="only", agent="checker", output="no idea"),
        Step(layer="check", output="no idea"),
    )
    prompt = rendered(to_critique(shown=(sample(trace=steps),)))
    assert "solve / one / solver (failed):" in prompt
    assert "| Timeout: late" in prompt
    assert "check / only / checker (nothing could be read from it):" in prompt
    assert "check came to (nothing could be read from it):" in prompt


def test_many_calls_of_an_item_are_shown_in_part():
    steps = tuple(Step(layer="solve", agent=f"a{i}", output=f"said {i}", value="1") for i in range(30))
    prompt = rendered(to_critique(shown=(sample(trace=steps),)), Critique(bounds=Bounds(steps=5)))
    assert [i for i in range(30) if f"| said {i}\n" in prompt] == [0, 1, 2, 28, 29]
    assert "[... 25 calls left out ...]" in prompt


@pytest.mark.parametrize("total", [2500, 4000, 8000])
def test_the_whole_prompt_keeps_to_its_bound_however_much_there_is_to_show(total):
    shown = tuple(sample("x y\n" * 3000, question="q " * 3000, feedback="f\n" * 3000) for _ in range(8))
    prompt = rendered(to_critique(team=team("i " * 1900), shown=shown), Critique(bounds=Bounds(total=total)))
    assert total * 0.9 < tokens(prompt) <= total
    assert "| expected" not in prompt
    assert prompt.count("left out ...]") >= 8 * 3


def test_a_bound_that_leaves_no_room_is_refused_with_what_is_needed():
    with pytest.raises(SpecError, match=r"prompt of the critic: got 100, expected a bound of \d+ tokens"):
        rendered(to_critique(), Critique(bounds=Bounds(total=100)))


def test_bounds_follow_a_models_context():
    assert BOUNDS.within(None, 512) == BOUNDS
    assert BOUNDS.within(4096, 512).total == 4096 - 2 * 512 - 200
    assert BOUNDS.within(10**6, 512).total == BOUNDS.total


def test_what_is_not_given_is_not_shown():
    """The guard against leaks: the prompt is a function of what is given, so a search of it is a proof."""
    assert "expected 5" in rendered(to_critique())
    hidden = to_critique(shown=(sample(feedback="", trace=()),))
    assert "expected 5" not in rendered(hidden)
    assert "I say 6" not in rendered(hidden)


def test_a_pass_becomes_steps_layer_by_layer(tmp_path):
    model = ScriptedChat(lambda messages: "no idea" if "Check the number" in str(messages) else "Answer: 6")
    known = team()
    one = known.model_copy(
        update={"layers": tuple(part.model_copy(update={"selector": "static"}) for part in known.layers)}
    )
    graph = Graph("i1", TeamGraphs(one, {"": "scripted"}).nodes(task_item("How many are left?", "number", 5)))
    ledger = Ledger(tmp_path / "ledger.db")
    GraphRun([graph], [CallWorker(model)], ledger).run()
    ledger.close()
    steps = steps_of(graph, one)
    assert [(step.layer, step.block, step.agent, step.value) for step in steps] == [
        ("solve", "one", "solver", "6"), ("solve", "", "", "6"),
        ("check", "only", "checker", None), ("check", "", "", None),
    ]  # fmt: skip
    prompt = rendered(to_critique(shown=(sample(trace=steps),)))
    assert "solve / one / solver:\n| Answer: 6\nread as:\n| 6" in prompt
    assert "check / only / checker (nothing could be read from it):\n| no idea\nwhy:\n| it holds no number" in prompt


# What a repair is shown.

CRITIQUES = {"global": "The whole is hasty.", "local": "This layer is hasty.", "previous": "It was slow."}


def test_the_papers_prompts_hold_the_critiques_with_their_weights():
    prompt = rendered(to_repair(critiques=CRITIQUES, weights={"alpha": 0.7, "beta": 0.5}))
    parts = (
        "Weight 0.7: the review of this step", "weight 0.5: of the whole team\n| The whole is hasty.",
        "weight 0.5: of layer solve\n| This layer is hasty.",
        "Weight 0.3: the review of layer solve of the step before\n| It was slow.",
    )  # fmt: skip
    places = [prompt.index(part) for part in parts]
    assert places == sorted(places)


def test_other_weights_are_told_as_they_are():
    prompt = rendered(to_repair(critiques=CRITIQUES, weights={"alpha": 0.9, "beta": 0.6}))
    for part in ("Weight 0.9", "weight 0.6: of the whole", "weight 0.4: of layer", "Weight 0.1"):
        assert part in prompt


def test_without_a_step_before_there_is_nothing_to_weigh_it_against():
    prompt = rendered(to_repair(critiques={"global": "G", "local": "L"}, weights={"alpha": 0.7, "beta": 0.5}))
    assert "0.7" not in prompt
    assert "0.3" not in prompt
    assert "weight 0.5: of the whole team\n| G" in prompt


def test_one_repair_of_the_whole_team_reads_the_critiques_of_all_layers():
    long = {**CRITIQUES, "local": "hasty " * 500}
    whole = to_repair(critiques=long, weights={"alpha": 0.7, "beta": 0.5}, finding=Finding(text="Hasty."))
    assert "weight 0.5: of each layer" in rendered(whole)
    one = to_repair(critiques=long, weights={"alpha": 0.7, "beta": 0.5})
    assert rendered(one).count("hasty hasty") < rendered(whole).count("hasty hasty")


def test_without_weights_critiques_are_shown_without():
    prompt = rendered(to_repair(critiques={"global": "The whole is hasty.", "local": "This layer is hasty."}))
    assert "The review of the whole team:\n| The whole is hasty." in prompt
    assert "The review of this layer:\n| This layer is hasty." in prompt
    assert "eight 0." not in prompt


LINES = tuple(f"finding {i} => edit {i} => rejected -{i} of 32" for i in range(1, 101))


def test_memory_is_shown_bounded_and_makes_a_difference():
    shown = rendered(to_repair(memory=LINES))
    without = rendered(to_repair())
    assert [i for i in range(1, 101) if f"| finding {i} =>" in shown] == list(range(95, 101))
    assert "Edits tried before" not in without
    assert tokens(shown) - tokens(without) <= 400
    assert shown != without


def test_memory_of_long_lines_stays_within_400_tokens():
    lines = tuple(f"finding {i} " + "long\n" * 300 for i in range(100))
    shown, without = rendered(to_repair(memory=lines)), rendered(to_repair())
    heading = 40
    assert tokens(shown) - tokens(without) <= 400 + heading
    assert "| finding 99" in shown


def test_the_node_of_a_repair_is_another_one_without_its_memory(tmp_path):
    answers = Answers(json.dumps(PATCH))
    run(
        tmp_path, answers.model, repair_node("with", "scripted", to_repair(memory=LINES[:2])),
        repair_node("without", "scripted", to_repair()),
    )  # fmt: skip
    prompts = {sent[-1]["content"] for sent in answers.sent}
    assert len(prompts) == 2
    assert sorted("finding 1 =>" in prompt for prompt in prompts) == [False, True]


def test_the_reason_of_a_refusal_reaches_the_next_prompt():
    reason = str(apply(team(), {"edits": [{"op": "set_role", "agent": "nobody", "text": "x"}]}))
    assert reason.startswith("unknown-agent")
    assert f"| {reason}" in rendered(to_repair(refused=reason))
    assert "refused" not in rendered(to_repair()).replace("rejected or refused", "")


def test_the_part_that_is_aimed_at_is_shown_as_json():
    def shown(finding: Finding) -> str:
        return rendered(to_repair(finding=finding))

    assert "Agent solver as JSON" in shown(FINDING)
    assert '| {"name": "solver", "instructions": "Think about {question}."' in shown(FINDING)
    assert "Layer solve as JSON" in shown(Finding(layer="solve", kind="structure", text="x"))
    assert "The layers as JSON" in shown(Finding(text="x"))


def test_a_finding_without_text_asks_for_any_change_of_its_kind():
    prompt = rendered(to_repair(finding=Finding(layer="solve", agent="solver", kind="role")))
    assert "Change something of this sort: role, in layer solve, at agent solver." in prompt
    assert "Mend this" not in prompt


def test_every_edit_is_described_and_each_form_is_one_that_is_read():
    prompt = rendered(to_repair())
    forms = [line for line in prompt.splitlines() if line.startswith('{"op"')]
    assert [
        json.JSONDecoder().raw_decode(
            form.replace("[AGENT, ...]", "[]").replace("[BLOCK, ...]", "[]").replace(", ...", "")
        )[0]["op"]
        for form in forms
    ] == [*OPS_IN_ORDER]
    assert set(OPS_IN_ORDER) == set(OPS)


OPS_IN_ORDER = (
    "set_instructions", "set_role", "add_agent", "remove_agent", "set_aggregate", "add_block", "remove_block",
    "set_default", "set_when", "add_layer", "remove_layer", "set_reads",
)  # fmt: skip


def test_only_the_edits_that_may_be_made_are_described(tmp_path):
    given = to_repair(edits=("set_instructions",))
    prompt = rendered(given)
    assert "set_instructions" in prompt
    assert not [op for op in OPS if op != "set_instructions" and op in prompt]
    assert "Only agent solver may be changed." in prompt
    proposal, answers = repairer(tmp_path, json.dumps(PATCH), given=given)
    assert proposal.patch is None
    assert "set_role is no edit that may be made here, expected set_instructions" in answers.sent[1][-1]["content"]


def test_repair_keeps_to_its_bound_too():
    critiques = dict.fromkeys(CRITIQUES, "blah\n" * 4000)
    given = to_repair(
        team=team("i " * 1900), critiques=critiques, weights={"alpha": 0.7, "beta": 0.5}, memory=LINES,
        refused="r " * 4000, finding=Finding(text="t " * 4000),
    )  # fmt: skip
    for total in (2500, 5000, 9000):
        assert tokens(rendered(given, Repair(bounds=Bounds(total=total)))) <= total


def test_the_schema_gives_way_where_it_would_take_half_of_the_prompt():
    assert "The JSON schema" in rendered(to_repair())
    assert "The JSON schema" not in rendered(to_repair(), Repair(bounds=Bounds(total=4000)))


# What is read.


def test_a_critique_is_read_and_its_names_are_the_teams(tmp_path):
    rows = [
        {"layer": "Solve", "agent": "`solver`", "kind": "Role", "text": "a"},
        {"layer": "layer check", "agent": "nobody", "kind": "colour", "text": "b"},
        {"agent": "checker", "kind": "structure", "text": "c"},
        {"layer": "solve", "text": "a fourth"},
    ]
    found, answers = critic(tmp_path, json.dumps({"critique": "Haste.", "findings": rows}))
    assert [(one.layer, one.agent, one.kind, one.text) for one in found.findings] == [
        ("solve", "solver", "role", "a"), ("check", None, "prompt", "b"), ("check", "checker", "structure", "c"),
    ]  # fmt: skip
    assert (found.text, found.unknown, found.asked, found.error) == ("Haste.", 0, 1, "")
    assert len(answers.sent) == 1


def test_findings_of_no_known_layer_are_kept_and_counted(tmp_path):
    rows = [{"layer": "finish", "text": "a"}, {"layer": None, "text": "b"}, {"layer": "solve", "text": "c"}]
    found, _ = critic(tmp_path, json.dumps({"findings": rows}))
    assert [one.layer for one in found.findings] == ["", "", "solve"]
    assert found.unknown == 2
    assert found.text == "a\nb\nc"


def test_a_finding_without_a_layer_is_about_the_layer_that_was_asked_about(tmp_path):
    rows = [{"text": "a"}, {"layer": "finish", "text": "b"}]
    found, _ = critic(tmp_path, json.dumps({"findings": rows}), given=to_critique(scope="check"))
    assert [one.layer for one in found.findings] == ["check", ""]
    assert found.unknown == 1


def test_nothing_at_fault_is_an_answer(tmp_path):
    found, answers = critic(tmp_path, '{"critique": "All is well.", "findings": []}')
    assert (found.findings, found.error, len(answers.sent)) == ((), "", 1)


PLAIN = json.dumps(PATCH)
READABLE = {
    "plain": PLAIN,
    "fenced": f"```json\n{PLAIN}\n```",
    "in prose": f"I keep {{question}} as it is. Here it is:\n{PLAIN}\nI hope it helps.",
    "draft first": f'{{"rationale": "no", "edits": [{{"op": "remove_agent", "agent": "x"}}]}}\nBetter:\n{PLAIN}',
    "thought first": f'<think>{{"edits": []}} or so</think>{PLAIN}',
    "trailing commas": PLAIN.replace("}]", "},]"),
    "one edit": PLAIN.replace("[", "").replace("]", ""),
    "bare edit": json.dumps(PATCH["edits"][0]),
    "bare list": json.dumps(PATCH["edits"]),
    "more keys": json.dumps({**PATCH, "confidence": 0.9}),
    "op in another spelling": PLAIN.replace("set_role", "SetRole"),
}


@pytest.mark.parametrize("form", READABLE)
def test_patches_are_read_in_many_forms(form):
    patch, error = read_patch(READABLE[form])
    assert error == ""
    assert patch is not None
    assert patch["edits"] == PATCH["edits"]
    assert apply(team(), patch).agents()[0].role == "a slow reader"


UNREADABLE = {
    "empty": ("", "empty"),
    "blank": (" \n", "empty"),
    "prose": ("I would tell the solver to slow down.", 'no JSON object with "edits"'),
    "bad JSON": ('{"edits": [{"op": "set_role" "agent": "solver"}]}', "broken or cut off"),
    "cut off": (PLAIN[:-4], "broken or cut off"),
    "no edit": ('{"edits": []}', "invalid at edits"),
    "four edits": (json.dumps({"edits": PATCH["edits"] * 4}), "invalid at edits"),
    "unknown edit": (PLAIN.replace("set_role", "fly"), "invalid at edits.0"),
    "missing name": ('{"edits": [{"op": "set_role", "text": "x"}]}', "agent"),
    "half a character": (PLAIN.replace("slow reader", "slow \\ud800 reader"), "cannot be written"),
    "infinite": ('{"edits": [{"op": "set_role", "agent": "a", "text": Infinity}]}', "broken or cut off"),
    "a whole edit in a broken patch": (PLAIN[:-2], "broken or cut off"),
    "deep": ('{"edits": ' + "[" * 100_000, "broken or cut off"),
}


@pytest.mark.parametrize("form", UNREADABLE)
def test_what_is_no_patch_says_why(form):
    text, why = UNREADABLE[form]
    patch, error = read_patch(text)
    assert patch is None
    assert why in error


@drawn(st.text(max_size=80) | st.text(alphabet='{}[]",:ab \\u\n', max_size=80))
def test_reading_never_fails(text):
    for broken in (text, PLAIN[: len(text)] + text, text + PLAIN):
        read = read_patch(broken)
        assert (read.patch is None) == bool(read.error)
        critique = read_critique(broken, {"solve": ("solver",)}, "solve")
        assert not critique.error or critique.text == broken.strip()


@pytest.mark.parametrize("first", ["I would slow down.", PLAIN[:-4], "", '{"edits": []}'])
def test_an_unreadable_proposal_is_asked_for_once_more_with_the_reason(first, tmp_path):
    proposal, answers = repairer(tmp_path, first, PLAIN)
    assert (proposal.patch, proposal.asked, proposal.error) == (PATCH, 2, "")
    again = answers.sent[1]
    assert read_patch(first).error in again[-1]["content"]
    roles = [message["role"] for message in again]
    assert roles == (["system", "user", "assistant", "user"] if first else ["system", "user"])


@pytest.mark.parametrize("second", ["Still prose.", ""])
def test_what_stays_unreadable_is_no_patch_and_says_why(second, tmp_path):
    proposal, answers = repairer(tmp_path, "Prose.", second, PLAIN)
    assert (proposal.patch, proposal.text, proposal.asked) == (None, second, 2)
    assert proposal.error == read_patch(second).error
    assert len(answers.sent) == 2


def test_without_reasks_one_answer_is_all(tmp_path):
    proposal, answers = repairer(tmp_path, "Prose.", PLAIN, reasks=0)
    assert (proposal.patch, len(answers.sent)) == (None, 1)


def test_an_answer_that_was_cut_off_says_so(tmp_path):
    long = json.dumps({"rationale": "word " * 50, "edits": PATCH["edits"]})
    proposal, answers = repairer(tmp_path, long, long, max_tokens=20)
    assert proposal.error.startswith("the answer was cut off after 20 tokens")
    assert "cut off after 20 tokens" in answers.sent[1][-1]["content"]


def test_a_critique_in_prose_keeps_its_words(tmp_path):
    found, _ = critic(tmp_path, "They hurry.", "They really hurry.")
    assert (found.findings, found.text, found.asked) == ((), "They really hurry.", 2)
    assert 'no JSON object with "findings"' in found.error


def test_a_long_unreadable_answer_is_not_sent_back_whole(tmp_path):
    _, answers = repairer(tmp_path, "prose " * 900, PLAIN)
    assert tokens(answers.sent[1][2]["content"]) < 650


# Form under a schema.


@pytest.mark.parametrize("structured", [True, False])
def test_a_schema_is_sent_to_models_that_keep_to_one_and_shown_to_others(structured, tmp_path):
    answers = Answers(PLAIN, structured=structured)
    able = asyncio.run(answers.model.capabilities())
    task = Repair(structured=able.structured)
    proposal = output(tmp_path, answers, repair_node("repair", "scripted", to_repair(), task=task))
    assert proposal.patch == PATCH
    prompt, sent = answers.sent[0][-1]["content"], answers.samplings[0].schema
    assert ("The JSON schema" in prompt) != structured
    held = held_edits(team(), aimed_ops(team(), to_repair().finding.kind), task.max_tokens)
    assert (json.loads(sent) if sent else None) == (held if structured else None)


def test_a_critics_schema_names_layers_and_agents_of_the_team(tmp_path):
    answers = Answers(json.dumps(CRITIQUE))
    node = critique_node("critique", "scripted", to_critique(), task=Critique(structured=True))
    assert output(tmp_path, answers, node).findings[0].layer == "solve"
    schema = json.loads(answers.samplings[0].schema)
    assert schema == critique_schema(team(), Critique().max_tokens)
    finding = schema["properties"]["findings"]["items"]["properties"]
    assert finding["layer"]["enum"] == ["solve", "check", ""]
    assert "voter1" in finding["agent"]["enum"]


def test_a_schema_of_some_edits_holds_what_they_need_and_no_more():
    whole, one = edits_schema(), edits_schema(("set_role",))
    assert set(one["$defs"]) == {"SetRole"}
    assert set(edits_schema(("add_agent",))["$defs"]) == {"AddAgent", "AgentSpec", "Schema"}
    assert {"op", "agent", "text"} == set(one["$defs"]["SetRole"]["required"])
    assert "default" in whole["$defs"]["LayerSpec"]["properties"]
    assert len(whole["properties"]["edits"]["items"]["anyOf"]) == len(OPS)


def test_an_answer_is_held_to_the_names_that_there_are_and_to_lengths_that_fit():
    held = held_edits(team(), (), 256)
    assert set(held["$defs"]) == set(edits_schema()["$defs"])
    remove, rewrite = (held["$defs"][name]["properties"] for name in ("RemoveBlock", "SetInstructions"))
    assert remove["layer"] == {"enum": ["solve", "check"]}
    assert "one" not in remove["layer"]["enum"]
    assert remove["block"]["enum"] == [*dict.fromkeys(b.name for layer in team().layers for b in layer.blocks)]
    assert "voter1" in rewrite["agent"]["enum"]
    assert rewrite["text"]["maxLength"] == 512
    assert held["$defs"]["AddLayer"]["properties"]["after"]["enum"][0] == "input"
    assert held["$defs"]["SetReads"]["properties"]["reads"]["items"] == {"enum": ["solve", "check"]}
    assert all(bounded(one) for one in [*held["properties"].values(), *held["$defs"].values()])
    assert edits_schema()["$defs"]["SetInstructions"]["properties"]["text"] == {"type": "string"}


def test_what_is_held_is_offered_the_edits_that_fit_the_finding_and_could_be_made():
    assert set().union(*AIMED.values()) == set(OPS)
    lone = single(team())
    assert aimed_ops(lone, "prompt") == ("set_instructions",)
    assert aimed_ops(lone, "structure") == ("add_agent", "set_aggregate", "add_block", "add_layer")
    assert aimed_ops(lone, "selection") == ("add_block",)
    assert {"remove_layer", "set_reads"} <= set(aimed_ops(team(), "structure"))
    given = to_repair().model_copy(update={"finding": Finding(layer="solve", agent="voter1", kind="role", text="x")})
    sent = Repair(structured=True).sent(given)
    assert set(json.loads(sent.schema_text)["$defs"]) == {"SetRole", "SetInstructions"}
    assert "set_reads" not in sent.messages[-1][1]
    assert "NEW" not in sent.messages[-1][1]  # a weak model would write just that
    assert json.loads(sent.schema_text)["properties"]["edits"]["maxItems"] == 1
    assert "set_reads" in Repair().sent(given).messages[-1][1]


def test_where_one_agent_may_be_changed_no_other_can_be_named():
    given = to_repair().model_copy(
        update={"finding": Finding(layer="solve", agent="voter1", text="x"), "edits": ("set_instructions",)}
    )
    schema = json.loads(Repair(structured=True).sent(given).schema_text)
    assert schema["$defs"]["SetInstructions"]["properties"]["agent"] == {"enum": ["voter1"]}


def bounded(schema):
    """Whether every text in a schema has an end."""
    if schema.get("type") == "string":
        return "maxLength" in schema or "const" in schema or "enum" in schema
    if schema.get("type") == "array":
        return "maxItems" in schema and bounded(schema["items"])
    return all(map(bounded, schema.get("properties", {}).values()))


# Nodes.


def test_equal_prompts_are_paid_once_and_samples_are_told_apart(tmp_path):
    answers = Answers(PLAIN)
    nodes = [repair_node(f"r{i}", "scripted", to_repair(), index) for i, index in enumerate([0, 0, 1])]
    run(tmp_path, answers.model, *nodes)
    assert len(answers.sent) == 2
    assert len({sampling.seed for sampling in answers.samplings}) == 2
    run(tmp_path, answers.model, *nodes)
    assert len(answers.sent) == 2


@pytest.mark.parametrize(
    "other",
    [
        lambda: repair_node("r", "scripted", to_repair(refused="why")),
        lambda: repair_node("r", "scripted", to_repair(), task=Repair(temperature=0.2)),
        lambda: repair_node("r", "scripted", to_repair(), task=Repair(max_tokens=99)),
        lambda: repair_node("r", "scripted", to_repair(), task=Repair(structured=True)),
        lambda: repair_node("r", "scripted", to_repair(), task=Repair(bounds=Bounds(total=4000))),
        lambda: repair_node("r", "scripted", to_repair(), seed=1),
    ],
    ids=["refusal", "temperature", "max_tokens", "structured", "bounds", "seed"],
)
def test_whatever_changes_an_answer_changes_the_key(other: Callable, tmp_path):
    answers = Answers(PLAIN)
    run(tmp_path, answers.model, repair_node("r", "scripted", to_repair()))
    run(tmp_path, answers.model, other())
    assert len(answers.sent) == 2


def test_a_greedy_critique_is_one_whatever_the_seed(tmp_path):
    answers = Answers(json.dumps(CRITIQUE))
    run(tmp_path, answers.model, *[critique_node(f"c{i}", "scripted", to_critique(), seed=i) for i in range(3)])
    assert len(answers.sent) == 1
    assert answers.samplings[0].seed is None


def test_the_prompt_that_is_sent_is_the_rendered_one(tmp_path):
    for given, node in (
        (to_critique(), critique_node("n", "scripted", to_critique())),
        (to_repair(), repair_node("n", "scripted", to_repair())),
    ):
        answers = Answers("prose")
        run(tmp_path, answers.model, node)
        assert "\n".join(message["content"] for message in answers.sent[0]) == rendered(given)


def test_words_of_another_folder_are_another_task(tmp_path):
    (tmp_path / "team_critic.txt").write_text("Be brief.")
    own = Critique(wording=GradientWording(tmp_path))
    assert rendered(to_critique(), own).startswith("Be brief.\n")
    assert own.spec != Critique().spec
    assert {**own.spec, "prompts": ""} == {**Critique().spec, "prompts": ""}


def test_a_budget_reserves_both_answers(tmp_path):
    answers = Answers("prose")
    node = repair_node("repair", "scripted", to_repair())
    short = run(tmp_path, answers.model, node, budget=Budget(Limits(calls=1)))
    assert (short.counts.paid, answers.sent) == (0, [])
    again = repair_node("repair", "scripted", to_repair())
    whole = run(tmp_path, answers.model, again, budget=Budget(Limits(calls=2)))
    assert (whole.counts.paid, len(answers.sent)) == (1, 2)


def test_a_call_that_fails_is_a_failure_and_no_empty_answer(tmp_path):
    model = ScriptedChat(lambda messages: PLAIN, lambda key, attempt: CallFailed("TooLong", "9000 tokens"))
    (graph,) = run(tmp_path, model, repair_node("repair", "scripted", to_repair())).graphs
    assert graph.failed.reason == "TooLong"
    assert graph.output("repair") is None


def test_a_proposal_becomes_a_team_and_back(tmp_path):
    proposal, _ = repairer(tmp_path, PLAIN)
    patch = parse_patch(json.loads(proposal.model_dump_json())["patch"])
    assert apply(team(), patch).agents()[0].role == "a slow reader"


# Texts.


@pytest.mark.parametrize("most", [0, 1, 2, 7, 30])
def test_a_cut_text_has_what_was_asked_for_and_a_mark(most):
    text = "alpha beta\n" * 40
    head, mark, tail = cut(text, most).partition("[... about ")
    left_out, _, tail = tail.partition(" tokens left out ...]")
    assert mark
    assert int(left_out) == tokens(text) - most
    assert tokens(head.strip()) + tokens(tail.strip()) <= most
    assert cut(text, tokens(text)) == text.strip()


@drawn(st.lists(st.integers(0, 900), max_size=30), st.integers(0, 5000))
def test_the_level_spends_the_room_and_no_more(lengths, room):
    reached = level(lengths, room)
    spent = sum(min(length, reached) for length in lengths)
    assert spent <= room
    assert spent == sum(lengths) or room - spent < len(lengths)


def test_quoting_leaves_no_line_bare():
    assert quoted("a\n\nb\x0bc\x85d") == "| a\n| \n| b\n| c\n| d"
    assert quoted("") == "| (empty)"


def test_the_newest_lines_are_kept_in_their_order():
    assert newest(["one", "two", "three"], 2, 100) == ["two", "three"]
    assert newest(["a a a", "b b b", "c c"], 9, 5) == ["b b b", "c c"]
    assert newest(["one"], 0, 100) == []
    assert "left out" in newest(["word " * 50], 3, 10)[0]
