"""Edits of teams: applied whole or refused with a code and a reason, whatever is handed in."""

import json

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from plait.team_edits import CODES, Edit, Patch, Refusal, apply, edit_line, parse_patch, patch_schema
from plait.team_files import load_team, save_team, text_of
from plait.team_pictures import diff
from plait.teams import TeamSpec, problems
from random_teams import FIELDS, anything, careers, patches, plain

NUMBER = {"kind": "number"}
TEAM = plain()
MANY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def agent(name="new", **fields):
    return {"name": name, **fields}


def block(name="new_block", *agents, **fields):
    return {"name": name, "agents": [*(agents or (agent(),))], **fields}


def layer(name="third", *blocks, **fields):
    return {"name": name, "task": "Look again.", "blocks": [*(blocks or (block(),))], **fields}


def edit(op, **fields):
    return {"op": op, **fields}


def tried(*edits, team=TEAM, **settings):
    return apply(team, {"edits": [*edits]}, **settings)


def names(team):
    return [agent.name for agent in team.agents()]


# -- whatever is handed in


@MANY
@given(anything)
def test_apply_never_raises_and_says_why_on_one_line(values):
    got = apply(TEAM, values)
    if isinstance(got, Refusal):
        assert got.code in CODES
        assert got.where
        assert ", expected " in got.why
        assert len(got.why.splitlines()) == 1
        json.dumps([got.where, got.why], ensure_ascii=False).encode()  # it goes into a prompt, and into the ledger
    event(got.code if isinstance(got, Refusal) else "accepted")


def steps(career):
    """Yield (team, patch, edited team) of every patch that is accepted, one upon the other."""
    team = TEAM
    for values in career:
        got = apply(team, values)
        if isinstance(got, TeamSpec):
            yield team, parse_patch(values), got
            team = got


@MANY
@given(careers)
def test_a_team_that_comes_out_is_a_team_and_round_trips(career):
    made = list(steps(career))
    for before, patch, got in made:
        assert not list(problems(got))
        again = TeamSpec.parse(json.loads(got.key))
        assert again == got
        assert again.hash == got.hash != before.hash
        assert diff(before, got)
        assert not diff(got, again)
        assert apply(before, patch, judged={got.hash}).code == "duplicate"
        for ending, read in ((".yaml", yaml.safe_load), (".json", json.loads)):
            assert TeamSpec.parse(read(text_of(got, ending))).key == got.key
    event(f"{len(made)} of {len(career)} accepted")


@MANY
@given(careers)
def test_names_of_agents_survive_all_edits_but_those_that_take_them_out(career):
    for before, patch, got in steps(career):
        if not any("remove" in made.op for made in patch.edits):
            was = {one.name: one for one in before.agents()}
            assert {*was} <= {*names(got)}
            told = {made.agent for made in patch.edits if made.op in ("set_role", "set_instructions")}
            assert all(one == was[one.name] for one in got.agents() if one.name in was and one.name not in told)


@MANY
@given(patches)
def test_a_patch_round_trips_and_every_edit_has_one_line(values):
    patch = parse_patch(values)
    if isinstance(patch, Patch):
        assert Patch.model_validate_json(patch.model_dump_json()) == patch
        for made in patch.edits:
            line = edit_line(made)
            assert len(line.splitlines()) == 1
            assert len(line) <= 160


def test_the_random_patches_know_every_edit():
    known = {kind.model_fields["op"].default for kind in Edit.__origin__.__args__}
    assert known == {*FIELDS}


# -- what is refused

REFUSED = [
    ("invalid", "prose", "no mapping"),
    ("invalid", None, "no mapping"),
    ("invalid", {1: 2}, "expected"),
    ("invalid", {"edits": []}, "at least 1"),
    ("invalid", {"edits": [edit("remove_agent", agent="first")] * 4}, "at most 3"),
    ("invalid", [edit("set_rol", agent="first", text="x")], "expected set_role?"),
    ("invalid", [edit("set_role", agent="first", txt="x")], "nothing, expected a value"),
    ("invalid", [edit("set_role", agent="first", text="x", txet="x")], "txet, expected a known key: text?"),
    ("invalid", [edit("set_aggregate", layer="draft", block="trio", aggregate={"kind": "majorty"})], "majority?"),
    ("invalid", [edit("set_aggregate", layer="draft", block="trio", aggregate={"kind": "single"})], "2 agents"),
    ("invalid", [edit("set_aggregate", layer="draft", block="trio", aggregate={"kind": "chain"})], "n above 1"),
    ("invalid", [edit("set_aggregate", layer="draft", block="trio", aggregate={"kind": "debate", "rounds": 3})], "2"),
    ("invalid", [edit("add_agent", layer="draft", block="trio", agent=agent("a/b"))], "a name of 1 to 40 letters"),
    ("invalid", [edit("add_agent", layer="draft", block="trio", agent=agent(n=3))], "temperature"),
    ("invalid", [edit("set_role", agent="first", text="\ud83d")], "surrogate"),
    ("invalid", [edit("set_when", layer="draft", block="one", text="a\nb")], "one line"),
    ("invalid", [edit("add_agent", layer="draft", block="trio", agent=agent(n=10**5000))], "a long int, expected"),
    (
        "invalid",
        [edit("add_agent", layer="draft", block="trio", agent=agent(temperature=float("nan")))],
        "nan, expected",
    ),
    ("oversize", [edit("add_agent", layer="draft", block="trio", agent=agent(max_tokens=20_000))], "20000 tokens"),
    ("unknown-layer", [edit("remove_layer", layer="drft")], "no layer 'drft', expected draft?"),
    ("unknown-layer", [edit("add_layer", after="inptu", layer=layer())], "expected input?"),
    ("unknown-layer", [edit("set_reads", layer="zzz", reads=[])], "expected one of draft, check"),
    ("unknown-block", [edit("remove_block", layer="draft", block="tri")], "expected trio?"),
    ("unknown-block", [edit("set_default", layer="draft", block="pair")], "expected one of one, trio"),
    ("unknown-block", [edit("add_layer", after="draft", layer=layer(default="x"))], "expected one of new_block"),
    ("unknown-agent", [edit("set_role", agent="draughter", text="x")], "expected drafter?"),
    ("unknown-agent", [edit("remove_agent", agent="first")] * 2, "no agent 'first'"),
    ("duplicate-name", [edit("add_agent", layer="draft", block="trio", agent=agent("checker"))], "agent 'checker'"),
    ("duplicate-name", [edit("add_block", layer="draft", block=block("one"))], "block 'one'"),
    ("duplicate-name", [edit("add_layer", after="draft", layer=layer("draft"))], "layer 'draft'"),
    ("duplicate-name", [edit("add_layer", after="input", layer=layer("input"))], "layer 'input'"),
    ("empty", [edit("set_instructions", agent="first", text=" ")], "no text"),
    ("empty", [edit("remove_agent", agent="drafter")], "no agent"),
    ("empty", [edit("remove_block", layer="check", block="pair")], "no block"),
    ("empty", [edit("remove_layer", layer="draft"), edit("remove_layer", layer="check")], "no layer"),
    ("empty", [edit("add_layer", after="draft", layer=layer(task=""))], "no task"),
    ("empty", [edit("add_agent", layer="draft", block="trio", agent=agent(role=""))], "no role"),
    ("oversize", [edit("set_role", agent="first", text="x" * 4001)], "4001 characters"),
    ("oversize", [edit("set_when", layer="draft", block="one", text="x" * 4001)], "4001 characters"),
    ("oversize", [edit("add_layer", after="draft", layer=layer(task="x" * 4001))], "4001 characters"),
    ("oversize", [edit("add_agent", layer="draft", block="trio", agent=agent(n=33, temperature=1))], "33 samples"),
    ("oversize", [edit("add_agent", layer="draft", block="trio", agent=agent(f"a{i}")) for i in range(3)], "8 agents"),
    (
        "oversize",
        [edit("add_layer", after="draft", layer=layer(f"l{i}", block("b", agent(f"a{i}")))) for i in range(2)],
        "4 layers",
    ),
    ("cycle", [edit("set_reads", layer="draft", reads=["check"])], "a later layer"),
    ("cycle", [edit("set_reads", layer="draft", reads=["draft"])], "itself"),
    ("cycle", [edit("add_layer", after="draft", layer=layer(reads=["check"]))], "a later layer"),
    ("missing-producer", [edit("set_reads", layer="check", reads=["draught"])], "expected draft?"),
    ("missing-producer", [edit("remove_layer", layer="check")], "yields text, expected the team's answer, number"),
    ("missing-producer", [edit("add_layer", after="check", layer=layer())], "expected the team's answer"),
    ("missing-producer", [edit("add_block", layer="check", block=block())], "expected the team's answer"),
    (
        "missing-producer",
        [edit("set_aggregate", layer="draft", block="trio", aggregate={"kind": "majority"})],
        "majority over outputs of kind text",
    ),
    (
        "missing-producer",
        [edit("set_aggregate", layer="draft", block="trio", aggregate={"kind": "code_filter"})],
        "expected code",
    ),
    (
        "missing-producer",
        [edit("set_aggregate", layer="check", block="pair", aggregate={"kind": "best_of"})],
        "expected one schema",
    ),
    ("unknown-placeholder", [edit("set_instructions", agent="first", text="{answer}")], "{answer}"),
    ("unknown-placeholder", [edit("set_instructions", agent="first", text="{input!r}")], "{input!r}"),
    ("unknown-placeholder", [edit("set_instructions", agent="first", text="a } b")], "a lone brace"),
    ("lost-placeholder", [edit("set_instructions", agent="drafter", text="Think.")], "{question}"),
    ("unknown-model", [edit("add_agent", layer="draft", block="trio", agent=agent(model="large"))], "'large'"),
    (
        "unknown-model",
        [edit("set_aggregate", layer="draft", block="trio", aggregate={"kind": "best_of", "model": "large"})],
        "'large'",
    ),
    ("leak", [edit("set_instructions", agent="first", text="How many marbles has Ann?")], "question"),
    ("leak", [edit("set_role", agent="first", text="someone who has marbles")], "question"),
    ("leak", [edit("set_when", layer="draft", block="one", text="marbles")], "question"),
    ("leak", [edit("add_layer", after="draft", layer=layer(task="Count marbles."))], "question"),
    (
        "leak",
        [
            edit(
                "add_agent", layer="draft", block="trio", agent=agent(output={"kind": "option", "options": ["marbles"]})
            )
        ],
        "question",
    ),
    ("duplicate", [edit("set_default", layer="draft", block="one")], "the one before"),
    ("duplicate", [edit("set_reads", layer="check", reads=["draft"])], "the one before"),
    ("duplicate", [edit("set_reads", layer="draft", reads=["input"])], "the one before"),
    ("duplicate", [edit("set_role", agent="second", text="a judge")], "judged before"),
]


@pytest.mark.parametrize(("code", "values", "why"), REFUSED)
def test_each_refusal_has_its_code_and_says_what_was_expected(code, values, why):
    judged = {tried(edit("set_role", agent="second", text="a judge")).hash}
    patch = {"edits": values} if isinstance(values, list) else values
    got = apply(TEAM, patch, judged=judged, leaks=lambda text: "marbles" in text)
    assert isinstance(got, Refusal)
    assert got.code == code
    assert why in got.why


def test_no_code_goes_untested():
    assert {code for code, _, _ in REFUSED} == {*CODES}


def test_a_swapped_agent_loses_no_placeholder_either():
    got = tried(
        edit("add_agent", layer="draft", block="one", agent=agent("stand_in")),
        edit("remove_agent", agent="drafter"),
        edit("add_agent", layer="draft", block="trio", agent=agent("drafter", instructions="Think.")),
    )
    assert got.code == "lost-placeholder"


def test_only_texts_that_a_patch_brings_in_are_searched_for_questions():
    seen = []
    got = tried(edit("set_role", agent="first", text="a judge"), leaks=lambda text: bool(seen.append(text)))
    assert isinstance(got, TeamSpec)
    assert seen == ["a judge"]


# -- what is made


def test_an_edit_changes_what_it_names_and_nothing_else():
    got = tried(edit("set_instructions", agent="drafter", text="Read {question} once."))
    assert [one.instructions for one in got.agents()] == ["Read {question} once.", *(
        one.instructions for one in TEAM.agents()[1:])]  # fmt: skip
    assert diff(TEAM, got) == (
        "  layer draft: block one: agent drafter\n    instructions:\n      - Read {question} twice.\n"
        "      + Read {question} once.\n      - Then think.\n"
    )


def test_edits_of_a_patch_may_need_each_other():
    third = layer("third", block("b", agent("last", output=NUMBER)))
    got = tried(edit("remove_layer", layer="check"), edit("add_layer", after="draft", layer=third))
    assert [one.name for one in got.layers] == ["draft", "third"]
    reading = tried(edit("add_layer", after="draft", layer=layer()), edit("set_reads", layer="check", reads=["draft"]))
    assert reading.read_by(reading.layer("check")) == ("draft",)
    assert tried(edit("remove_layer", layer="draft"), team=reading).code == "missing-producer"
    mended = tried(edit("remove_layer", layer="draft"), edit("set_reads", layer="check", reads=["third"]), team=reading)
    assert [one.name for one in mended.layers] == ["third", "check"]


def test_a_removed_default_passes_on_to_the_first_block_left():
    chosen = tried(edit("set_default", layer="draft", block="trio"))
    assert chosen.layer("draft").fallback.name == "trio"
    got = tried(edit("remove_block", layer="draft", block="trio"), team=chosen)
    assert got.layer("draft").fallback.name == "one"
    assert got.layer("draft").default == ""
    first = tried(edit("remove_block", layer="draft", block="one"), team=chosen)
    assert first.hash == tried(edit("remove_block", layer="draft", block="one")).hash  # one team, one hash


def test_layers_go_in_where_they_are_asked_for():
    front = tried(edit("add_layer", after="input", layer=layer()))
    assert [one.name for one in front.layers] == ["third", "draft", "check"]
    assert front.read_by(front.layer("draft")) == ("third",)
    between = tried(edit("add_layer", after="draft", layer=layer()))
    assert [one.name for one in between.layers] == ["draft", "third", "check"]


def test_reads_are_written_in_one_way():
    base = tried(edit("add_layer", after="draft", layer=layer()))
    ways = (["third", "draft"], ["draft", "third"], ["input", "draft", "third", "third"])
    teams = [tried(edit("set_reads", layer="check", reads=reads), team=base) for reads in ways]
    assert len({team.hash for team in teams}) == 1
    assert teams[0].read_by(teams[0].layer("check")) == ("draft", "third")


def test_models_that_the_run_names_may_be_brought_in():
    wish = edit("add_agent", layer="draft", block="trio", agent=agent(model="large"))
    got = tried(wish, models=("large",))
    assert got.agents()[3].model == "large"
    assert isinstance(tried(edit("add_agent", layer="draft", block="trio", agent=agent("other", model="large")),
                            team=got), TeamSpec)  # fmt: skip


def test_the_team_that_was_edited_is_left_as_it_was():
    before = TEAM.key
    tried(edit("remove_block", layer="draft", block="trio"))
    assert TEAM.key == before == plain().key


def test_a_patch_can_be_typed_or_a_mapping():
    values = {"edits": [edit("set_role", agent="first", text="a judge")], "rationale": "why not"}
    assert apply(TEAM, Patch.model_validate(values)) == apply(TEAM, values)


def test_the_schema_takes_what_the_parser_takes_and_refuses_prose():
    check = jsonschema.Draft202012Validator(patch_schema())
    json.dumps(patch_schema())
    assert check.is_valid({"edits": [edit("set_role", agent="first", text="x")]})
    assert not check.is_valid("Rewrite the prompt.")
    assert not check.is_valid({"edits": [{"agent": "first", "text": "x"}]})
    assert not check.is_valid({"edits": []})
    assert not check.is_valid({"edits": [edit("set_role", agent="first")]})
    assert not check.is_valid({"edits": [edit("add_agent", layer="draft", block="trio", agent=agent("a/b"))]})


LINES = {
    'instructions of first: "Think. Then write."': edit("set_instructions", agent="first", text="Think.\nThen write."),
    'role of first: "a judge"': edit("set_role", agent="first", text="a judge"),
    'add agent new to draft/trio: "a judge"': edit(
        "add_agent", layer="draft", block="trio", agent=agent(role="a judge")
    ),
    "remove agent first": edit("remove_agent", agent="first"),
    "combine draft/trio by best_of": edit("set_aggregate", layer="draft", block="trio", aggregate={"kind": "best_of"}),
    "add block draft/new_block (new; single)": edit("add_block", layer="draft", block=block()),
    "remove block draft/trio": edit("remove_block", layer="draft", block="trio"),
    "default of draft: trio": edit("set_default", layer="draft", block="trio"),
    'when of draft/one: "It is easy."': edit("set_when", layer="draft", block="one", text="It is easy."),
    "add layer third after draft: new_block (new; single)": edit("add_layer", after="draft", layer=layer()),
    "remove layer draft": edit("remove_layer", layer="draft"),
    "check reads input": edit("set_reads", layer="check", reads=["input"]),
}


@pytest.mark.parametrize(("line", "made"), LINES.items())
def test_every_edit_can_be_made_kept_in_a_file_and_told_in_a_line(line, made, tmp_path):
    assert edit_line(parse_patch({"edits": [made]}).edits[0]) == line
    got = tried(made)
    assert isinstance(got, TeamSpec), got
    for ending in ("yaml", "json"):
        save_team(got, tmp_path / f"team.{ending}")
        assert load_team(tmp_path / f"team.{ending}") == got
