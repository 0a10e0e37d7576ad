"""What a training run says it will ask for, against what it asks; budgets below the floor, and budgets that end a run.

Source: specs/ann, section 12, check 15.
"""

import json

import pytest
from plait.errors import SpecError
from plait.orchestrator.commands_run import exit_code
from plait.orchestrator.recipes.team import TeamTrainer
from plait.orchestrator.recipes.team_phases import profile_of, settled_splits, validation_for
from plait.orchestrator.recipes.team_plan import search_calls
from plait.orchestrator.recipes.team_spec import PROFILES, TeamTrainSpec
from plait.search.textual import TextualSearch
from plait.tests.fault_server import text
from plait.tests.scripted_team import World, world
from plait.tests.scripted_team_chat import served
from plait.tests.scripted_team_play import Player
from plait.tests.scripted_team_reading import asked, kind_of, said
from plait.tests.team_training import SMALL, patch, rows, serving, trainer

KNOWN = world(3, q=0.9, structure=False)
TOKENS = 15_000
"""Less than a first step takes, and more than the confirm split does."""


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def test_the_real_run_asks_no_more_than_planned(tmp_path):
    controls = ("single", "static", "best-of-n")
    with serving(KNOWN) as server:
        made = trainer(KNOWN, server.url, controls=controls)
        plan = made.plan()
        assert server.script.calls == 0, "a plan asks nothing"
        result = made.run(tmp_path / "run")
        assert server.script.calls <= plan["calls_at_most"]
        assert result.timing["spent"]["calls"] == server.script.calls
        assert plan["later_calls"] <= server.script.calls


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("q", "base"), [(1.0, 0.4), (0.0, 0.4), (1.0, 0.9)])
def test_no_search_asks_more_than_planned(profile, q, base):
    """Teams of one agent, so a pass is a call: what is kept, judged again or merged is in the plan too."""
    for seed in range(2, 5):
        known = world(seed, q=q, base=base, structure=False)
        items = known.items(180)
        spec = TeamTrainSpec(
            team=known.start().model_dump(mode="json"), train=20, validation=100, confirm=60, profile=profile, steps=6,
            controls=(),
        )  # fmt: skip
        splits, settings = settled_splits(spec, items, ()), profile_of(spec, profile)
        search = TextualSearch(known.start(), splits.train, splits.validation, settings, seed, spec.steps)
        Player(known, items).run(search, at_once=1000)
        assert search._told <= search_calls(settings, spec, known.start(), splits, most=True), seed


class Even(World):
    """Nobody is right, but who is told anything more is right on one item: no look decides before the last."""

    lucky = ""

    def answer(self, prompt: str) -> str:
        quest = self.read(prompt)
        assert quest is not None
        phrases = sorted({phrase for phrase, _ in self.found(prompt)})
        right = bool(phrases) and self.lucky in prompt
        return said(self, right, quest.gold, quest.wrong, phrases, self.useful[0])


def test_where_every_challenger_goes_to_the_last_look_the_plan_is_near(tmp_path):
    known = Even(3, structure=False)
    script = served(known)

    def answers(index, body):
        messages = body["messages"]
        if kind_of(messages) == "agent":
            return text(known.answer(asked(messages)))
        if kind_of(messages) == "repair":  # a phrase that no other patch holds
            told = f"Work it out. {known.sentence(len(server.script.prompts))}"
            return patch({"op": "set_instructions", "agent": "solver", "text": told})
        return script(index, body)

    with serving(known, answers) as server:
        made = trainer(known, server.url, validation=90, confirm=20)
        settings = profile_of(made.spec, "plait")
        search = TextualSearch(made.team, made.splits.train, made.splits.validation, settings, made.spec.seed)
        object.__setattr__(known, "lucky", made.by_id[search.items[0]].question)
        result = made.run(tmp_path / "run")
        plan = made.plan()
    edits = [edit for step in result.summary["searches"][0]["steps"] for edit in step["edits"]]
    assert {(edit["look"], edit["verdict"]) for edit in edits} == {(2, "rejected")}
    searched = server.script.calls - rows(result)["start"]["confirm"]["n"]
    assert 0.9 * plan["search_calls"] <= searched <= 1.1 * plan["search_calls"]


@pytest.mark.parametrize(
    ("calls", "room", "items"),
    [
        (None, 900, 300),
        (0, 900, 100),
        (1500, 900, 100),
        (3000, 900, 200),
        (9000, 900, 300),
        (3000, 140, 140),
        (1, 7, 100),
    ],
)
def test_a_budget_decides_how_many_validation_items_there_are_where_the_spec_does_not(calls, room, items):
    assert validation_for(calls, room) == items


def unsaid(count, url="http://127.0.0.1:9", **run):
    """Return a run whose spec does not say how many validation items there are: 12 and 40 are for other splits."""
    given = {name: value for name, value in SMALL.items() if name != "validation"}
    return TeamTrainer(KNOWN.start(), KNOWN.items(count), model=f"openai:scripted@{url}", run=run, **given)


@pytest.mark.parametrize(
    ("count", "run", "items"),
    [
        (400, {}, 300),
        (400, {"budget_calls": 40 * 2 + 15 * 110}, 110),  # start and final team meet 40 items after the search
        (400, {"budget_calls": 90}, 100),
        (160, {}, 108),  # all that the others leave
    ],
)
def test_validation_follows_the_budget_within_what_items_there_are(count, run, items):
    made = unsaid(count, **run)
    assert len(made.splits.validation) == made.spec.validation == items


def test_too_few_items_for_the_least_validation_are_refused():
    with pytest.raises(SpecError, match=r"got 140, expected 152 or more \(train 12, validation 100, confirm 40\)"):
        unsaid(140).plan()


def test_a_run_keeps_its_validation_items_whatever_budget_it_is_resumed_with(tmp_path):
    with serving(KNOWN) as server:
        made = unsaid(400, server.url, budget_calls=40 * 2 + 15 * 104)
        assert made.plan()["splits"]["validation"] == 104
        made.run(tmp_path / "run")
        again = TeamTrainer.resume(tmp_path / "run", {"budget_calls": None})
        assert again.splits == made.splits
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert written["spec"]["validation"] == written["resolved"]["splits"]["validation"] == 104


def test_a_budget_below_the_floor_is_refused_with_the_floor(tmp_path):
    with serving(KNOWN) as server:
        made = trainer(KNOWN, server.url, run={"budget_calls": 8})
        floor = trainer(KNOWN, server.url).plan()["floor"]
        for refused in (made.plan, lambda: made.run(tmp_path / "run")):
            with pytest.raises(SpecError, match=rf"budget_calls: got 8, expected {floor} or more"):
                refused()
        assert server.script.calls == 0
        assert not (tmp_path / "run").exists()
        trainer(KNOWN, server.url, run={"budget_calls": floor}).plan()


def test_a_run_that_its_budget_ends_confirms_the_same_teams_when_resumed(tmp_path):
    with serving(KNOWN) as server:
        budget = {"budget_calls": 530}
        made = trainer(KNOWN, server.url, steps=6, run=budget)
        assert made.plan()["floor"] <= 530 < made.plan()["calls_at_most"]
        whole = made.run(tmp_path / "whole")
        assert server.script.calls <= 530
        assert whole.summary["searches"][0]["stop"] == "budget"
        assert (whole.status, exit_code(whole, 0.0)) == ("SUCCEEDED", 0), "it ended as its budget foresaw"
        made = len(whole.summary["searches"][0]["steps"])
        assert 0 < made < 6
        assert whole.summary["cut_short"] == [f"the budget of 530 calls ended the search plait after {made} of 6 steps"]
        assert whole.summary["changed"], "the budget paid for something that was kept"

        cut = trainer(KNOWN, server.url, steps=6, run=budget)
        cut.subscribe(lambda event: _ends_confirm(cut, event))
        stopped = cut.run(tmp_path / "cut")
        assert (stopped.status, exit_code(stopped, 0.0)) == ("STOPPED", 3)
        assert stopped.summary["answer"] == "start", "nothing is confirmed by a part of the items"
        assert stopped.summary["confirmed"] != whole.summary["confirmed"]
        resumed = TeamTrainer.resume(tmp_path / "cut", {"budget_calls": None}).run(tmp_path / "cut")
        assert resumed.summary["final"] == whole.summary["final"]
        assert resumed.summary["confirmed"] == whole.summary["confirmed"]
        assert resumed.summary["rows"] == whole.summary["rows"]
        assert resumed.summary["cut_short"] == whole.summary["cut_short"], "the budget that ended the search is told"


def _ends_confirm(run, event):
    if event.kind == "phase" and event.fields["phase"] == "confirm":
        run.request_stop("asked to")


def test_a_budget_that_ends_what_comes_after_the_verdict_leaves_a_whole_run(tmp_path):
    phases = []
    with serving(KNOWN) as server:
        made = trainer(KNOWN, server.url, controls=("single", "best-of-n"), test=10)

        def ends_controls(event):
            phases.extend([event.fields["phase"]] if event.kind == "phase" else [])
            if event.kind == "phase" and phases.count("confirm") == 2:  # start and final team have met it
                made.request_stop("budget: seconds")

        made.subscribe(ends_controls)
        result = made.run(tmp_path / "run")
        assert result.summary["confirmed"] is not None
        assert (result.status, exit_code(result, 0.0)) == ("SUCCEEDED", 0)
        everyone = "start team; final team (plait); one agent, plain prompt; best-of-n"
        assert result.summary["cut_short"] == [
            "the budget ended the run: the confirm split was still to be met by: one agent, plain prompt; best-of-n",
            f"the budget ended the run: the test split was still to be met by: {everyone}",
        ]
        page = (tmp_path / "run" / "report.html").read_text()
        assert all(line in page for line in result.summary["cut_short"])
        assert "This run was stopped" not in page
        whole = TeamTrainer.resume(tmp_path / "run").run(tmp_path / "run")
        assert whole.summary["cut_short"] == []
        assert rows(whole)["best-of-n"]["test"]["n"] == 10


def test_a_stop_in_the_search_keeps_a_resumed_run_from_nothing(tmp_path):
    with serving(KNOWN) as server:
        whole = trainer(KNOWN, server.url).run(tmp_path / "whole")
        made, edits = trainer(KNOWN, server.url), []

        def ends_search(event):
            edits.extend([event] if event.kind == "edit" else [])
            if edits:
                made.request_stop("asked to")

        made.subscribe(ends_search)
        stopped = made.run(tmp_path / "cut")
        assert stopped.status == "STOPPED"
        assert stopped.summary["cut_short"][0] == "a stop (asked to) ended the search plait after 1 of 2 steps"
        resumed = TeamTrainer.resume(tmp_path / "cut").run(tmp_path / "cut")
    assert (resumed.summary, resumed.status) == (whole.summary, "SUCCEEDED")


def test_a_budget_that_ends_the_search_before_a_step_is_whole_is_told_in_the_verdict(tmp_path):
    with serving(KNOWN) as server:
        result = trainer(KNOWN, server.url, steps=6, run={"budget_tokens": TOKENS}).run(tmp_path / "run")
    assert result.summary["searches"][0]["steps"] == []
    assert result.verdict == (
        f"Not confirmed: the budget of {TOKENS:,} tokens ended the search before its first step was whole, so the "
        "start team is the answer."
    )
    assert "the confirm split was still to be met by" not in " ".join(result.summary["cut_short"])


@pytest.mark.parametrize(("profile", "grows"), [("plait", True), ("random", True), ("gepa", False)])
def test_a_plan_says_where_a_team_may_grow_beyond_it(profile, grows):
    notes = trainer(KNOWN, "http://127.0.0.1:9/v1", profile=profile).plan()["notes"]
    said = [note for note in notes if "run.budget_calls bounds that" in note]
    assert bool(said) is grows
    assert all("the start team (2 calls an item)" in note and "to 12 agents at most" in note for note in said)
