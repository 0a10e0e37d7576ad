"""Nothing of a held-out item reaches a critic or a repair, in a whole run; splits do not overlap and are met once.

Every item carries words and numbers of its own, so that whatever is given away is seen in the prompts that the
endpoint receives. Source: specs/ann, section 12, check 10.
"""

import pytest
from plait.agents.teams.items import task_item
from plait.errors import SpecError
from plait.orchestrator.recipes.team import TeamTrainer
from plait.tests.scripted_team import Quest, World
from plait.tests.team_training import patch, serving, trainer

TEST = {"test": 10, "controls": ("single", "best-of-n", "random", "ann-paper", "textgrad", "gepa")}


class Marked(World):
    """A world whose questions and answers, right and wrong, are each other than everything else in a run."""

    def quest(self, index: int) -> Quest:
        known = super().quest(index)
        return Quest(known.index, known.family, 100_003 + 1013 * index)  # three more is still another number

    def question(self, quest: Quest) -> str:
        return f"{super().question(quest)} The case is {spoken(quest.index)}."


def spoken(index: int) -> str:
    """Return ten words that stand in one question alone."""
    return " ".join(f"w{index}x{place}" for place in range(10))


KNOWN = Marked(3, q=0.9)


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def given_away(made, items, prompts):
    """Return (item, what) of every item whose question, answer or wrong answer stands in a prompt."""
    whole = "\n".join(text for _, text in prompts)
    found = []
    for item in items:
        (quest,) = KNOWN.quests([made.by_id[item]])
        signs = [str(quest.gold), str(quest.wrong), f"{quest.gold:,}", *spoken(quest.index).split()]
        signs.append(made.by_id[item].question.split("]")[0])
        found += [(item, sign) for sign in signs if sign in whole]
    return found


def test_no_prompt_of_a_whole_run_holds_anything_of_a_held_out_item(tmp_path):
    with serving(KNOWN) as server:
        made = trainer(KNOWN, server.url, **TEST, validation=30, confirm=20)
        result = made.run(tmp_path / "run")
        prompts = server.script.prompts
    assert {kind for kind, _ in prompts} == {"critique", "repair"}
    assert len(result.summary["searches"]) == 5
    assert all(row["test"]["n"] == 10 for row in result.summary["rows"])
    assert given_away(made, made.splits.held_out, prompts) == []
    shown = {item for item, _ in given_away(made, made.splits.train, [one for one in prompts if one[0] == "critique"])}
    assert len(shown) > 6, "critics see the training items, so the search above would have found the others"


@pytest.mark.parametrize("split", ["validation", "confirm", "test"])
def test_a_planted_leak_is_refused_and_told_to_nobody(split, tmp_path):
    def optimiser(kind, body):
        if kind != "repair":
            return None
        told = f"Work it out. If asked for {leak}, answer at once."
        return patch({"op": "set_instructions", "agent": "solver", "text": told})

    with serving(KNOWN, optimiser=optimiser) as server:
        made = trainer(KNOWN, server.url, validation=20, confirm=10, test=10, steps=5)
        item = getattr(made.splits, split)[0]
        leak = spoken(KNOWN.quests([made.by_id[item]])[0].index)
        result = made.run(tmp_path / "run")
        prompts = server.script.prompts
    (search,) = result.summary["searches"]
    assert set(search["refusals"]) == {"leak"}
    assert search["stop"] == "patience", "nothing but leaks was proposed"
    assert not result.summary["changed"]
    assert any("leak" in text for kind, text in prompts if kind == "repair"), "why is told to the next attempt"
    assert leak not in (tmp_path / "run" / "candidate.yaml").read_text()
    assert given_away(made, made.splits.held_out, prompts) == []


def test_an_example_of_a_training_item_is_no_leak(tmp_path):
    def optimiser(kind, body):
        if kind != "repair":
            return None
        told = f"Work it out. For example {question}"
        return patch({"op": "set_instructions", "agent": "solver", "text": told})

    with serving(KNOWN, optimiser=optimiser) as server:
        made = trainer(KNOWN, server.url, validation=20, confirm=10, steps=1)
        question = spoken(KNOWN.quests([made.by_id[made.splits.train[0]]])[0].index)
        result = made.run(tmp_path / "run")
    edits = result.summary["searches"][0]["steps"][0]["edits"]
    assert [edit["refusal"] for edit in edits if edit["refusal"] != "duplicate"] == [""]


def written(path, items):
    path.write_text("".join(f"{item.model_dump_json(exclude={'id'})}\n" for item in items))
    return str(path)


@pytest.mark.parametrize("put", [str, str.upper, lambda text: f"  {text}\n"], ids=["as it is", "upper case", "spaced"])
def test_a_question_on_two_sides_is_refused_before_anything_is_asked(put, tmp_path):
    (other,) = KNOWN.items(1, first=5)
    items = [task_item(put(other.question), "number", 1), *KNOWN.items(3, first=900)]
    with serving(KNOWN) as server:
        made = trainer(KNOWN, server.url, test_data=written(tmp_path / "test.jsonl", items))
        with pytest.raises(SpecError, match=r"splits: got .* in test.*, expected each question in one split"):
            made.run(tmp_path / "run")
        assert server.script.calls == 0
    assert trainer(KNOWN, server.url, test_data=written(tmp_path / "other.jsonl", items[1:])).splits.test


def idle(kind, body):
    """Propose what changes nothing that counts: the start stays."""
    if kind != "repair":
        return None
    return patch({"op": "remove_agent", "agent": "nobody"})


def adopts(kind, body):
    """Propose all that helps."""
    if kind != "repair":
        return None
    told = "Work it out. " + " ".join(KNOWN.sentence(phrase) for phrase in KNOWN.useful)
    return patch({"op": "set_instructions", "agent": "solver", "text": told})


def test_the_confirm_split_is_met_once_unless_it_is_said_otherwise(tmp_path):
    ledger = {"ledger": str(tmp_path / "ledger.db")}
    with serving(KNOWN, optimiser=idle) as server:
        settings = {"steps": 1, "test": 10, "run": ledger}
        first = trainer(KNOWN, server.url, **settings).run(tmp_path / "first")
        assert (first.summary["changed"], first.summary["stamp"]) == (False, "")
        same = trainer(KNOWN, server.url, **settings, memory=False).run(tmp_path / "same")
        assert same.summary["stamp"] == "", "the same teams are no second pass"

        server.script.optimiser = adopts
        settings["profile"] = "ann-paper"
        with pytest.raises(SpecError, match=r"confirm: got 'a second pass'.* these 40 items .*again=true"):
            trainer(KNOWN, server.url, **settings).run(tmp_path / "second")
        assert not (tmp_path / "second" / "result.json").exists()
        again = trainer(KNOWN, server.url, **settings, again=True).run(tmp_path / "again")
    assert again.summary["changed"]
    assert again.summary["stamp"] == "confirm: a second pass; test: a second pass"
    assert "a second pass" in (tmp_path / "again" / "report.html").read_text()


def test_a_second_pass_stays_refused_when_the_run_is_resumed(tmp_path):
    ledger = {"ledger": str(tmp_path / "ledger.db")}
    with serving(KNOWN, optimiser=idle) as server:
        trainer(KNOWN, server.url, steps=1, run=ledger).run(tmp_path / "first")
        server.script.optimiser = adopts
        second = {"steps": 1, "run": ledger, "profile": "ann-paper"}
        with pytest.raises(SpecError, match="a second pass"):
            trainer(KNOWN, server.url, **second).run(tmp_path / "second")
        with pytest.raises(SpecError, match="a second pass"):
            TeamTrainer.resume(tmp_path / "second").run(tmp_path / "second")
