"""`plait team ...` from the command line: what it prints and writes, and one clear line for what cannot run."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from fault_server import FaultServer, Step, text
from plait import Team, TeamTrainer
from plait.agents.teams.items import task_item
from plait.orchestrator.events import read_events
from plait.tests.scripted_team import world
from plait.tests.scripted_team_chat import served

WORLD = world(3, q=0.9)
ITEMS = WORLD.items(60)
SPLITS = {"train": 12, "validation": 18, "confirm": 24, "steps": 2}


@dataclass
class Script:
    """The world behind HTTP; short questions find out what an endpoint can do and are not counted."""

    script: Any
    asked: int = 0

    def __call__(self, index: int, body: dict[str, Any]) -> Step:
        if len(body.get("messages", [{"content": ""}])[-1]["content"]) < 200:
            return text("yes")
        self.asked += 1
        return self.script(index, body)


@pytest.fixture(scope="module")
def server():
    with FaultServer(Script(served(WORLD)), keep=False) as running:
        yield running


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")


@pytest.fixture
def spec(tmp_path, server):
    """Write a spec file of a training run, with changes; return its name."""

    def write(team: Any = None, items=ITEMS, **changes: Any) -> str:
        (tmp_path / "items.jsonl").write_text("".join(f"{plain(item)}\n" for item in items))
        values = {
            "method": "team", "team": team or WORLD.start().model_dump(mode="json", exclude_defaults=True),
            "model": f"openai:scripted@{server.url}", "data": "items.jsonl", **SPLITS, "controls": ["single"],
            **changes,
        }  # fmt: skip
        (tmp_path / "spec.yaml").write_text(yaml.safe_dump(values))
        return "spec.yaml"

    return write


def plain(item) -> str:
    return json.dumps({"question": item.question, "kind": item.kind, "gold": item.gold})


def team_file(tmp_path, values=None, name="team.yaml"):
    values = values or WORLD.start().model_dump(mode="json", exclude_defaults=True)
    (tmp_path / name).write_text(yaml.safe_dump(values))
    return name


# -- train


def test_train_runs_shows_edits_and_is_shown_again(plait, spec, server, tmp_path):
    code, out, err = plait("team", "train", spec(), "--out", "run")
    assert code == 0, err
    assert "onfirmed" in out
    assert "start team" in out
    edits = [event for event in read_events(tmp_path / "run" / "events.jsonl") if event["kind"] == "edit"]
    assert edits
    for edit in edits:
        shown = f"{edit['profile']} step {edit['step'] + 1}: {edit['verdict']}"
        assert shown in err
        if edit["items"]:
            assert f"({edit['wins']} won, {edit['losses']} lost), p" in err
    assert "keeps" in err, "what the items are too few for is said"
    for name in ("result.json", "report.html", "team.yaml", "candidate.yaml", "items.jsonl"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    asked = server.script.asked
    assert plait("resume", "run", "--quiet")[0] == 0
    assert server.script.asked == asked, "what is in the ledger is not asked again"
    assert "start team" in plait("show", "run")[1]
    assert plait("report", "run")[0] == 0
    assert json.loads(plait("list", ".", "--json")[1])["method"] == "team"


def test_a_dry_run_asks_nothing(plait, spec, server, tmp_path):
    asked = server.script.asked
    code, out, _ = plait("team", "train", spec(), "--dry-run", "--json")
    assert code == 0
    plan = json.loads(out)
    assert plan["later_calls"] < plan["floor"] <= plan["calls_at_most"]
    assert plan["splits"] == {"train": 12, "validation": 18, "confirm": 24, "test": 0}
    assert any("gate three_looks wants 300" in note for note in plan["notes"])
    assert server.script.asked == asked
    assert not (tmp_path / "runs").exists()


def test_flags_are_laid_upon_the_spec(plait, spec):
    flags = ("--steps", "1", "--controls", "none", "--set", "confirm=20", "--seed", "4")
    plan = json.loads(plait("team", "train", spec(), *flags, "--dry-run", "--json")[1])
    assert plan["splits"]["confirm"] == 20
    assert plan["later_calls"] == 2 * 20, "the start and the final team, and no control"


def test_a_run_that_its_budget_ends_with_a_verdict_is_done(plait, spec):
    floor = json.loads(plait("team", "train", spec(steps=9), "--dry-run", "--json")[1])["floor"]
    code, out, err = plait("team", "train", spec(steps=9), "--budget-calls", str(floor), "--out", "run")
    assert code == 0, err
    assert f"note: the budget of {floor} calls ended the search plait after" in " ".join(out.split())


def test_json_has_events_and_nothing_else(plait, spec):
    code, out, err = plait("team", "train", spec(), "--out", "run", "--json", "--controls", "none")
    assert (code, err) == (0, "")
    kinds = [json.loads(line).get("kind") or json.loads(line).get("event") for line in out.splitlines()]
    assert "edit" in kinds
    assert kinds[-1] == "done"


# -- what cannot run: one line


def broken(**changes: Any) -> dict[str, Any]:
    """Return the start team with its layer changed."""
    values = WORLD.start().model_dump(mode="json", exclude_defaults=True)
    values["layers"][0] |= changes
    return values


def block(**changes: Any) -> dict[str, Any]:
    values = WORLD.start().model_dump(mode="json", exclude_defaults=True)
    values["layers"][0]["blocks"][0] |= changes
    return values


LAYER = WORLD.start().layers[0].name
BAD_TEAMS = [
    ({"layers": [], "answer": {"kind": "number"}}, "no layer, expected one or more"),
    (broken(reads=[LAYER]), "reads itself"),
    (block(aggregate={"kind": "majorty"}), "majority?"),
    ({**broken(), "answer": {"kind": "word"}}, "the last layer yields number"),
]


@pytest.mark.parametrize(("team", "said"), BAD_TEAMS, ids=["empty", "cyclic", "aggregator", "schema"])
def test_a_team_that_cannot_run_is_refused_in_one_line(plait, spec, server, tmp_path, team, said):
    asked = server.script.asked
    for command in (["train", spec(team)], ["run", team_file(tmp_path, team)], ["show", "team.yaml"]):
        code, out, err = plait("team", *command)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1, err
        assert said in err.replace("'", "")
    assert server.script.asked == asked


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"validation": 200}, "got 60, expected 236 or more (train 12, validation 200, confirm 24), or smaller splits"),
        ({"validation": 5}, "got 5, expected 9 or more for gate three_looks, which wants 300; with 9 it would keep"),
        ({"run": {"budget_calls": 8}}, "team.run.budget_calls: got 8, expected "),
        ({"controls": ["bestof"]}, "best-of-n?"),
        ({"profil": "plait"}, "profile?"),
        ({"model": "openai:"}, "team.model: got 'openai:', expected openai:NAME"),
        ({"optimiser": "openai:"}, "team.optimiser: got 'openai:', expected openai:NAME"),
        ({"data": "plait:numbes"}, "plait:numbers"),
    ],
)
def test_a_spec_that_cannot_run_is_refused_in_one_line(plait, spec, server, tmp_path, changes, said):
    asked = server.script.asked
    code, out, err = plait("team", "train", spec(**changes), "--out", "run")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1, err
    assert said in err
    assert server.script.asked == asked
    assert not (tmp_path / "run").exists(), "nothing was begun"


def test_too_few_items_are_told_with_the_power_that_is_left(plait, spec):
    err = plait("team", "train", spec(validation=200))[2]
    assert "validation 22, confirm 31" in err
    assert "% of changes of +5 points" in err


def test_a_question_in_two_splits_is_named(plait, spec, tmp_path):
    twice = ITEMS[0]
    (tmp_path / "test.jsonl").write_text(plain(twice) + "\n")
    code, _, err = plait("team", "train", spec(test_data="test.jsonl", train=30, validation=15, confirm=15))
    assert code == 2
    assert f"{twice.id} in test" in err
    assert err.count("\n") == 1


def test_a_second_confirm_pass_is_refused_and_stamped_where_it_is_allowed(plait, spec):
    shared = {"run": {"ledger": "all.db"}, "controls": []}
    assert plait("team", "train", spec(**shared, profile="random"), "--out", "one", "--quiet")[0] == 0
    other = ("train", spec(**{**shared, "steps": 6}, profile="ann-paper"), "--quiet")
    code, _, err = plait("team", *other, "--out", "two")
    assert code == 2, "the mean of few items keeps some edit, and random edits of so few steps none"
    assert "a second pass" in err
    assert "again=true" in err
    assert plait("team", *other, "--out", "three", "--again")[0] == 0
    assert "second pass" in json.loads(plait("show", "three", "--json")[1])["summary"]["stamp"]


# -- headroom


def test_headroom_says_plainly_that_there_is_nothing_to_learn(plait, spec, tmp_path):
    code, out, err = plait("team", "headroom", spec(), "--out", "head")
    assert code == 0, err
    assert "Nothing to learn that 12 plain prompts show" in out
    assert "corrected for 12" in " ".join(out.split())
    summary = json.loads(plait("show", "head", "--json")[1])["summary"]
    assert summary["learnable"] is False
    assert len(summary["rows"]) == 12
    assert "Headroom" in (tmp_path / "head" / "report.html").read_text()


def test_headroom_finds_a_prompt_that_helps(plait, spec, tmp_path):
    useful = " ".join(WORLD.phrases[index] for index in WORLD.useful)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "team_headroom.txt").write_text(f"# mine\nNothing in particular.\n{useful}\n")
    wide = {"train": 40, "validation": 9, "confirm": 9, "prompts": "prompts"}
    code, out, err = plait("team", "headroom", spec(**wide), "--out", "head")
    assert code == 0, err
    assert "There is something to learn: prompt 2" in out


def test_training_where_nothing_is_to_learn_asks_for_anyway(plait, spec):
    code, _, err = plait("team", "train", spec(headroom="check"), "--out", "run", "--quiet")
    assert code == 2
    assert "Nothing to learn" in err
    assert "--anyway" in err
    assert plait("team", "train", spec(headroom="check"), "--out", "run", "--quiet", "--anyway")[0] == 0
    assert json.loads(plait("show", "run", "--json")[1])["summary"]["headroom"]["learnable"] is False


# -- run and show


def test_run_writes_answers_and_says_accuracy(plait, server, spec, tmp_path):
    spec()
    flags = ("--data", "items.jsonl", "--model", f"openai:scripted@{server.url}", "--limit", "20", "--out", "answers")
    code, out, err = plait("team", "run", team_file(tmp_path), *flags)
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "answers" / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    right = sum(row["score"] for row in rows)
    assert f"{100 * right / 20:.1f} %" in out
    assert "right on 20 items" in out
    assert all(row["answer"] == str(row["gold"]) for row in rows if row["score"] == 1)
    assert plait("resume", "answers", "--quiet")[0] == 0


def test_a_budget_leaves_the_answers_that_were_paid_for(plait, server, spec, tmp_path):
    spec()
    flags = ("--data", "items.jsonl", "--model", f"openai:scripted@{server.url}", "--limit", "20", "--out", "part")
    code, out, err = plait("team", "run", team_file(tmp_path), *flags, "--budget-calls", "9")
    assert code == 3, err
    assert "not run" in out
    assert err.count("Stopped") == 0, "a stop is no failure of each item"
    summary = json.loads(plait("show", "part", "--json")[1])["summary"]
    assert 0 < summary["scored"] < 20
    assert summary["failed"] == 0
    assert plait("resume", "part", "--quiet", "--set", "run.budget_calls=1000")[0] == 0
    assert json.loads(plait("show", "part", "--json")[1])["summary"]["scored"] == 20


def test_failures_are_no_wrong_answers(plait, spec, tmp_path):
    spec()
    with FaultServer(lambda index, body: Step(status=400) if index % 2 else text("Answer: 1"), keep=False) as broken:
        flags = ("--data", "items.jsonl", "--model", f"openai:m@{broken.url}", "--limit", "8", "--out", "answers")
        code, _, err = plait("team", "run", team_file(tmp_path), *flags, "--set", "run.concurrency=1")
    assert code == 1, err
    rows = [json.loads(line) for line in (tmp_path / "answers" / "answers.jsonl").read_text().splitlines()]
    failed = [row for row in rows if row["failed"]]
    assert failed
    assert all(row["score"] is None for row in failed)
    summary = json.loads(plait("show", "answers", "--json")[1])["summary"]
    assert summary["accuracy"]["n"] == 8 - len(failed)


def test_show_prints_outline_chart_picture_and_difference(plait, tmp_path):
    team_file(tmp_path)
    other = WORLD.trio().model_dump(mode="json", exclude_defaults=True)
    team_file(tmp_path, other, "other.yaml")
    code, out, _ = plait("team", "show", "other.yaml")
    assert code == 0
    for agent in WORLD.trio().agents():
        assert f"agent {agent.name}:" in out
    assert "majority" in out
    assert plait("team", "show", "team.yaml", "--mermaid")[1].startswith("flowchart TD")
    assert "majority" in plait("team", "show", "team.yaml", "--diff", "other.yaml")[1]
    assert plait("team", "show", "team.yaml", "--diff", "team.yaml")[1] == "the two teams are the same\n"
    assert plait("team", "show", "team.yaml", "--plot", "team.svg")[0] == 0
    assert "<svg" in (tmp_path / "team.svg").read_text()
    assert "ends in .svg" in plait("team", "show", "team.yaml", "--plot", "team.gif")[2]
    assert json.loads(plait("team", "show", "team.yaml", "--json")[1])["hash"] == WORLD.start().hash


def test_the_demo_and_the_schemas_are_there(plait):
    from plait.orchestrator.cli import DEMOS

    demo = TeamTrainer.from_spec(DEMOS["team"])
    assert len(demo.items) == 180
    assert demo.plan()["calls_an_item"] == 1
    assert "judge" in json.loads(plait("schema", "team")[1])["properties"]


# -- Python


def test_a_team_answers_an_item_and_a_bare_question(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Team.load(team_file(tmp_path), model=f"openai:scripted@{server.url}") as team:
        item = ITEMS[0]
        scored, bare = team.run(item), team.run(item.question)
        assert bare.value == scored.value
        assert bare.score is None
        assert scored.score == float(scored.value == str(item.gold))
        over = team.over(ITEMS[:5], "five")
        assert over.summary["scored"] == 5
        assert over.answers[0]["score"] == scored.score
        assert [row.agent for row in scored.trace] == [agent.name for agent in team.team.agents()]


async def _both(team: Team) -> list[Any]:
    import asyncio

    return list(await asyncio.gather(*(team.run_async(item) for item in ITEMS[:4])))


def test_questions_are_answered_side_by_side(server):
    import asyncio

    with Team(WORLD.start(), model=f"openai:scripted@{server.url}") as team:
        together = asyncio.run(_both(team))
        assert [answer.value for answer in together] == [team.run(item).value for item in ITEMS[:4]]


def test_free_text_is_scored_by_the_judge_and_not_by_the_agents():
    team = {
        "layers": [{"name": "write", "task": "Write.", "blocks": [{"name": "one", "agents": [{"name": "poet"}]}]}],
        "answer": {"kind": "text"},
    }  # fmt: skip
    item = task_item("Write a line about rain.", "text", "It is about rain.")
    with FaultServer([text("Rain falls.")], keep=False) as poet, FaultServer([text("Score: 8")], keep=False) as judge:
        settings = {"model": f"openai:poet@{poet.url}", "judge": f"openai:judge@{judge.url}"}
        with Team(team, **settings) as made:
            answer = made.run(item)
        assert poet.calls == 1
        assert judge.calls == 1
    assert answer.text == "Rain falls."
