"""What a training run says it will ask for, against what it asks; budgets below the floor, and budgets that end a run.

Source: specs/ann, section 12, check 15.
"""

import pytest
from plait.errors import SpecError
from plait.orchestrator.recipes.team import TeamTrainer
from plait.orchestrator.recipes.team_phases import profile_of, settled_splits
from plait.orchestrator.recipes.team_plan import search_calls
from plait.orchestrator.recipes.team_spec import PROFILES, TeamTrainSpec
from plait.search.textual import TextualSearch
from plait.tests.fault_server import text
from plait.tests.scripted_team import World, world
from plait.tests.scripted_team_chat import served
from plait.tests.scripted_team_play import Player
from plait.tests.scripted_team_reading import asked, kind_of, said
from plait.tests.team_training import patch, rows, serving, trainer

KNOWN = world(3, q=0.9, structure=False)


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
        assert whole.summary["changed"], "the budget paid for something that was kept"

        cut = trainer(KNOWN, server.url, steps=6, run=budget)
        cut.subscribe(lambda event: _ends_confirm(cut, event))
        stopped = cut.run(tmp_path / "cut")
        assert stopped.status == "STOPPED"
        assert stopped.summary["answer"] == "start", "nothing is confirmed by a part of the items"
        assert stopped.summary["confirmed"] != whole.summary["confirmed"]
        resumed = TeamTrainer.resume(tmp_path / "cut", {"budget_calls": None}).run(tmp_path / "cut")
        assert resumed.summary["final"] == whole.summary["final"]
        assert resumed.summary["confirmed"] == whole.summary["confirmed"]
        assert resumed.summary["rows"] == whole.summary["rows"]


def _ends_confirm(run, event):
    if event.kind == "phase" and event.fields["phase"] == "confirm":
        run.request_stop("asked to")
