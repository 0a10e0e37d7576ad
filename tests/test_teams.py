"""Teams: what is no team is said in one line; one team has one text, one hash, and the same file back."""

import copy
import itertools
import pickle

import networkx as nx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from plait.errors import SpecError, StoreError
from plait.records import digest
from plait.team_files import load_team, save_team, text_of
from plait.team_pictures import dag, diff, mermaid, plot
from plait.teams import AgentSpec, Aggregator, Block, LayerSpec, Schema, TeamSpec, placeholders, problems, yields
from random_teams import PLAIN, plain

NUMBER, TEXT = Schema(kind="number"), Schema()


def agents(*kinds, **fields):
    return tuple(AgentSpec(name=f"a{i}", output=Schema(kind=kind), **fields) for i, kind in enumerate(kinds))


def one(*kinds, combine="single", answer="number", **fields):
    """Return a team of one block that nobody checked."""
    block = Block(name="b", agents=agents(*kinds, **fields), aggregate=Aggregator(kind=combine))
    layer = LayerSpec(name="solve", task="Answer.", blocks=(block,))
    return TeamSpec.model_construct(layers=(layer,), answer=Schema(kind=answer))


# -- what is no team


def test_a_whole_team_has_no_problems():
    assert not list(problems(plain()))


WRONG = [
    ("layers", [], "team", "no layer", "one or more"),
    ("layers.0.blocks", [], "layer draft", "no block", "one or more"),
    ("layers.0.blocks.0.agents", [], "layer draft: block one", "no agent", "one or more"),
    ("layers.0.task", " ", "layer draft", "no task", "a sentence"),
    ("layers.1.name", "draft", "team", "layer 'draft' twice", "not taken"),
    ("layers.1.name", "input", "team", "layer 'input' twice", "not taken"),
    ("layers.0.blocks.1.name", "one", "layer draft", "block 'one' twice", "not taken"),
    ("layers.1.blocks.0.agents.0.name", "first", "team", "agent 'first' twice", "not taken"),
    ("layers.0.reads", ["check"], "layer draft", "reads 'check', a later layer", "earlier layers"),
    ("layers.1.reads", ["drft"], "layer check", "reads 'drft', which is no layer", "draft?"),
    ("layers.0.default", "tri", "layer draft", "default 'tri'", "trio?"),
    ("limits.max_layers", 1, "team", "2 layers", "1 at most"),
    ("limits.max_agents", 4, "team", "5 agents", "4 at most"),
    ("limits.max_prompt_chars", 40, "agent drafter", "characters of role and instructions", "40 at most"),
    ("limits.max_samples", 1, "agent second", "2 samples", "1 at most"),
    ("answer.kind", "word", "layer check: block pair", "yields number", "answer, word"),
    ("answer.kind", "nmber", "answer.kind", "nmber", "number?"),
    ("layers.0.blocks.1.aggregate.kind", "sinthesize", "layers.0.blocks.1.aggregate.kind", "sinthesize", "synthesize?"),
    ("layers.0.selector", "dynamic", "layers.0.selector", "dynamic", "one of static, random, llm, rule"),
    ("layers.0.blocks.0.agents.0.instruction", "x", "agents.0.instruction", "instruction", "instructions?"),
    ("layers.0.blocks.0.agents.0.instructions", "{qestion}", "agent drafter", "{qestion}", "{question}, {input}"),
    ("layers.0.blocks.0.name", "a b", "blocks.0.name", "a b", "1 to 40 letters"),
    ("layers.0.blocks.0.agents.0.n", 2, "agents.0", "dict", "a temperature above 0"),
    ("layers.1.blocks.0.agents.1.output", {"kind": "option"}, "output", "dict", "options exactly where"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "where", "found", "expected"), WRONG)
def test_what_is_wrong_is_said_with_its_place_on_one_line(key, value, where, found, expected):
    values = yaml.safe_load(PLAIN)
    *parents, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    place = values
    for part in parents:
        place = place[part]
    place[last] = value
    with pytest.raises(SpecError) as caught:
        TeamSpec.parse(values, "team.yaml")
    error = caught.value
    assert error.where.startswith("team.yaml: ")
    assert error.where.endswith(where)
    assert found in error.got
    assert expected in error.expected
    assert len(str(error).splitlines()) == 1
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_what_is_no_mapping_is_refused():
    for values in ("prose", None, [], 3):
        with pytest.raises(SpecError, match="no mapping"):
            TeamSpec.parse(values)


VOTED = [
    ("single", ["number"], True),
    ("single", ["number", "number"], False),
    ("majority", ["number", "number", "number"], True),
    ("majority", ["text", "text"], False),
    ("majority", ["word", "number"], False),
    ("debate", ["number", "number"], True),
    ("debate", ["text", "text"], False),
    ("best_of", ["text", "text"], True),
    ("best_of", ["text", "number"], False),
    ("synthesize", ["text", "word", "number"], True),
    ("code_filter", ["code", "code"], True),
    ("code_filter", ["number", "number"], False),
    ("chain", ["text", "number"], True),
]


@pytest.mark.parametrize(("combine", "kinds", "fits"), VOTED)
def test_an_aggregator_gets_what_it_can_combine(combine, kinds, fits):
    team = one(*kinds, combine=combine, answer=kinds[-1])
    found = [problem.code for problem in problems(team)]
    assert bool(found) != fits
    assert {*found} <= {"invalid", "missing-producer"}


@pytest.mark.parametrize("combine", ["single", "chain"])
def test_samples_of_an_agent_need_an_aggregator_that_uses_them(combine):
    assert [p.code for p in problems(one("number", combine=combine, n=2, temperature=1))] == ["invalid"]
    assert not list(problems(one("number", combine="majority", n=2, temperature=1)))


@pytest.mark.parametrize(
    "fields", [{"rounds": 2}, {"model": "large"}, {"output": NUMBER}], ids=["rounds", "model", "output"]
)
def test_an_aggregator_takes_no_settings_that_it_does_not_read(fields):
    Aggregator(kind={"rounds": "debate"}.get(next(iter(fields)), "synthesize"), **fields)
    with pytest.raises(ValueError, match="only where kind is"):
        Aggregator(kind="majority", **fields)


def test_every_block_of_the_last_layer_must_answer():
    spare = Block(name="spare", agents=(AgentSpec(name="writer"),))
    layer = one("number").layers[0]
    team = TeamSpec.model_construct(
        layers=(layer.model_copy(update={"blocks": (*layer.blocks, spare)}),), answer=NUMBER
    )
    assert [(p.code, p.where) for p in problems(team)] == [("missing-producer", "layer solve: block spare")]


def test_a_block_yields_what_its_last_agent_or_its_synthesis_answers_with():
    assert yields(Block(name="b", agents=agents("text", "number"), aggregate=Aggregator(kind="chain"))) == NUMBER
    combined = Aggregator(kind="synthesize", output=NUMBER)
    assert yields(Block(name="b", agents=agents("text", "text"), aggregate=combined)) == NUMBER


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Read {question} and {{this}}.", {"question"}),
        ("{input} {task} {input}", {"input", "task"}),
        ("{question!r} {task:>9} {input.x}", {"question!r", "task:>9", "input.x"}),
        ('{"answer": 3}', {'"answer": 3'}),
        ("{} {0}", {"", "0"}),
        ("a { b", {"{"}),
        ("a } b", {"{"}),
        ("plain", set()),
    ],
)  # fmt: skip
def test_placeholders_are_found_as_they_stand(text, names):
    assert placeholders(text) == names


@given(st.lists(st.sampled_from(["{", "}", "{question}", "task", "input", "!", ":", "r", "[", "]", "."])).map("".join))
def test_instructions_that_are_accepted_can_be_filled_in(text):
    team = one("number", instructions=text)
    if not list(problems(team)):
        text.format(question="q", input="i", task="t")


# -- one team, one text


def test_a_team_is_its_canonical_text():
    team = plain()
    assert TeamSpec.parse(yaml.safe_load(team.model_dump_json())) == team
    assert team.hash == plain().hash == digest(yaml.safe_load(team.key))
    assert hash(team) == hash(plain())
    assert pickle.loads(pickle.dumps(team)) == team


def test_a_copy_with_other_fields_has_another_hash():
    team = plain()
    before = team.hash
    changed = team.model_copy(update={"answer": Schema(kind="word")})
    assert changed.hash != before
    assert copy.copy(team).hash == before


def test_layers_read_the_one_before_unless_told_otherwise():
    block = {"name": "b", "agents": [{"name": "x"}]}
    layers = [
        {"name": name, "task": "t", "blocks": [block | {"agents": [{"name": name}]}], "reads": reads}
        for name, reads in (("one", []), ("two", []), ("three", ["input"]), ("four", ["two", "one"]))
    ]
    team = TeamSpec.parse({"layers": layers, "answer": {}})
    assert [team.read_by(layer) for layer in team.layers] == [(), ("one",), (), ("one", "two")]


# -- files


@given(st.text(), st.text(), st.sampled_from(["team.yaml", "team.json"]))
def test_any_text_comes_back_from_a_file_as_it_was(tmp_path_factory, role, task, name):
    values = yaml.safe_load(PLAIN)
    values["layers"][0]["task"] = f"t{task}"
    values["layers"][0]["blocks"][0]["agents"][0]["role"] = f"r{role}"
    team = TeamSpec.parse(values)
    path = tmp_path_factory.getbasetemp() / name
    save_team(team, path)
    assert load_team(path) == team


@pytest.mark.parametrize("ending", ["yaml", "yml", "json"])
def test_a_team_s_file_is_read_back(ending, tmp_path):
    path = tmp_path / f"team.{ending}"
    save_team(plain(), path)
    assert load_team(path) == load_team(str(path)) == plain()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("text", ["Think.{}", "{}Think.", "Think.{} Write.", "Think.\nWrite.{}", " {}\n"])
def test_every_end_of_line_comes_back_as_it_was(text, line_end, tmp_path):
    team = one("number", role="who " + text.format(line_end))
    save_team(team, tmp_path / "team.yaml")
    assert load_team(tmp_path / "team.yaml").agents() == team.agents()


def test_texts_of_several_lines_stay_readable_in_a_file():
    assert "instructions: |-\n        Read {question} twice.\n        Then think.\n" in text_of(plain())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("team.yaml", b"layers: [", "expected a YAML or JSON file"),
        ("team.yaml", b"\xff\xfe\x00", "text in UTF-16"),
        ("team.json", b"layers: []", "expected a YAML or JSON file"),
        ("team.yaml", b"!!python/object/apply:os.getcwd []", "expected a YAML or JSON file"),
        ("team.yaml", b"[" * 5000, "expected a YAML or JSON file"),
        ("team.yaml", b"", "no mapping"),
        ("team.txt", b"", "ends in .yaml, .yml or .json"),
        ("team.yaml", None, "expected a readable team file"),
    ],
)  # fmt: skip
def test_a_file_without_a_team_is_named(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_team(tmp_path / name)
    assert message in str(caught.value)
    assert name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_team_that_cannot_be_written_says_where(tmp_path):
    with pytest.raises(StoreError, match=r"missing/team\.yaml: cannot be written"):
        save_team(plain(), tmp_path / "missing" / "team.yaml")


# -- pictures


def test_the_graph_of_a_team_runs_from_question_to_answer():
    graph = dag(plain())
    assert nx.is_directed_acyclic_graph(graph)
    assert [id_ for id_ in graph if not graph.pred[id_]] == ["input"]
    assert [id_ for id_ in graph if not graph.succ[id_]] == ["answer"]
    assert nx.dag_longest_path(graph) == [
        "input", "draft/select", "draft/one/drafter", "draft/one/+", "draft/out",
        "check/pair/checker", "check/pair/writer", "check/pair/+", "check/out", "answer",
    ]  # fmt: skip


def test_a_layer_that_reads_others_hangs_below_them():
    values = yaml.safe_load(PLAIN)
    values["layers"][1]["reads"] = ["input"]
    graph = dag(TeamSpec.parse(values))
    assert [*graph.pred["check/pair/checker"]] == ["input"]
    assert not graph.succ["draft/out"]


def test_names_like_those_of_steps_do_not_fall_together():
    values = yaml.safe_load(PLAIN.replace("name: one", "name: out").replace("name: trio", "name: select"))
    graph = dag(TeamSpec.parse(values))
    assert len(graph) == len(dag(plain()))
    assert nx.is_directed_acyclic_graph(graph)


def test_blocks_that_a_static_layer_never_chooses_are_shown_as_spare():
    graph = dag(TeamSpec.parse(yaml.safe_load(PLAIN.replace("selector: llm", "selector: static"))))
    spare = [id_ for id_, data in graph.nodes.items() if data["kind"] == "spare"]
    assert spare == ["draft/trio/first", "draft/trio/second", "draft/trio/+"]


def test_the_chart_has_every_step_and_arrow_and_no_markup_of_its_own():
    values = yaml.safe_load(PLAIN)
    values["layers"][0]["task"] = 'End "it"; <b>[now]</b>'
    team = TeamSpec.parse(values)
    chart, graph = mermaid(team), dag(team)
    assert chart.startswith("flowchart TD\n")
    assert chart.count(" --> ") == len(graph.edges)
    assert chart.count("subgraph ") == chart.count("\n  end\n") == len(team.layers)
    assert "class end" not in chart  # a word of Mermaid's own
    assert '"it"' not in chart
    assert ";" not in chart.replace("#34;", "").replace("#59;", "").replace("#91;", "").replace("#93;", "")


def test_the_picture_has_every_step():
    labels = [text.get_text() for text in plot(plain()).axes[0].texts]
    assert len(labels) == len(dag(plain()))
    assert "second x2" in labels


def test_a_picture_shows_dollars_as_they_are():
    figure = plot(TeamSpec.parse(yaml.safe_load(PLAIN)))
    assert not any(text.get_parse_math() for text in figure.axes[0].texts)


def test_a_difference_names_places_and_shows_what_changed():
    values = yaml.safe_load(PLAIN)
    first, second = values["layers"]
    first["blocks"][1]["aggregate"] = {"kind": "best_of"}
    first["default"] = "trio"
    first["blocks"][0]["agents"] = [{"name": "solver", "temperature": 0.5}]
    second["task"] = "Check it."
    assert diff(plain(), TeamSpec.parse(values)) == (
        "  layer draft\n    default: (none) -> trio\n"
        "- layer draft: block one: agent drafter\n"
        "+ layer draft: block one: agent solver\n    temperature: 0.5\n"
        "  layer draft: block trio\n    aggregate: synthesize -> best_of\n"
        "  layer check\n    task: Check the draft and answer. -> Check it.\n"
    )
    assert diff(plain(), plain()) == ""


def test_a_difference_read_backwards_swaps_gone_and_new():
    values = yaml.safe_load(PLAIN)
    del values["layers"][0]["blocks"][1]
    smaller = TeamSpec.parse(values)
    gone = [line for line in diff(plain(), smaller).splitlines() if line.startswith("- ")]
    new = [line for line in diff(smaller, plain()).splitlines() if line.startswith("+ ")]
    assert [line[2:] for line in gone] == [line[2:] for line in new]
    assert len(gone) == 3


def test_every_field_of_a_team_shows_in_a_difference():
    """Each part's fields one by one: a field that `diff` forgot would hide an edit from the report."""
    other = {
        "answer": Schema(kind="word"), "limits": plain().limits.model_copy(update={"max_agents": 9}),
        "task": "x", "default": "trio", "selector": "random", "reads": ("input",),
        "when": "x", "aggregate": Aggregator(kind="debate", rounds=2), "role": "x", "instructions": "x",
        "model": "x", "temperature": 1.5, "max_tokens": 9, "n": 3, "output": Schema(kind="code"), "tools": ("python",),
    }  # fmt: skip
    team = plain()
    layer = team.layers[0]
    block = layer.blocks[0]
    agent = block.agents[0]
    for part, rebuilt in (
        (team, lambda changed: changed),
        (layer, lambda changed: _with(team, layers=(changed, team.layers[1]))),
        (block, lambda changed: _with(team, layers=(_with(layer, blocks=(changed,)), team.layers[1]))),
        (agent, lambda changed: _with(team, layers=(_with(layer, blocks=(_with(block, agents=(changed,)),)),))),
    ):
        same = rebuilt(part)
        for name in itertools.filterfalse({"name", "layers", "blocks", "agents"}.__contains__, type(part).model_fields):
            assert f"    {name}:" in diff(same, rebuilt(_with(part, **{name: other[name]}))), name


def _with(part, **update):
    return part.model_copy(update=update)
