"""Small parts: budget, events, run folder, spec, data, statistics."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.errors import DataError, PlaitError, RunFolderError, SpecError
from plait.intervals import excludes_zero, mean_interval, paired_interval
from plait.orchestrator.budget import Budget, Limits, Price
from plait.orchestrator.data import SHIPPED, load_questions
from plait.orchestrator.events import EventLog, Events, read_events
from plait.orchestrator.recipes.cola_spec import CoLaSpec
from plait.orchestrator.runfolder import RunFolder, write_text
from plait.orchestrator.spec import assignments, merged, read_spec, validated


class TestBudget:
    @given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=40), st.integers(0, 200))
    def test_reserved_plus_spent_never_passes_the_limit(self, calls, limit):
        budget = Budget(Limits(tokens=limit))
        for most, used in calls:
            price = Price(tokens=most)
            if budget.reserve(price) is None:
                budget.settle(price, {"tokens": min(most, used)})
        assert budget.spent["tokens"] <= limit

    def test_money_needs_a_known_price(self):
        with pytest.raises(SpecError, match="price"):
            Budget(Limits(usd=1.0)).check(Price(usd=None))

    def test_a_negative_limit_is_refused(self):
        with pytest.raises(SpecError, match="0 or more"):
            Limits(evaluations=-1)

    def test_time(self):
        now = [0.0]
        budget = Budget(Limits(seconds=5), clock=lambda: now[0])
        assert budget.reserve(Price()) is None
        now[0] = 5.0
        assert budget.reserve(Price()) == "seconds"


def test_events_go_on_counting_and_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    events = Events(log.last)
    events.subscribe(log)
    events("run", {"state": "RUNNING"})
    events("run", {"state": "DONE"})
    log.close()
    with path.open("a") as file:
        file.write('{"torn')
    again = EventLog(path)
    events = Events(again.last)
    events.subscribe(again)
    events("run", {"state": "RUNNING"})
    again.close()
    states = [event.get("state") for event in read_events(path)]
    assert states == ["RUNNING", "DONE", "RUNNING"]


class TestRunFolder:
    def test_other_spec_is_refused_with_both_values(self, tmp_path):
        folder = RunFolder.create(tmp_path / "run", "cola")
        folder.settle_spec({"seed": 1, "run": {"actors": 1}})
        folder.settle_spec({"seed": 1, "run": {"actors": 2}})
        with pytest.raises(RunFolderError, match="seed: 1 then, 2 now"):
            folder.settle_spec({"seed": 2})

    def test_a_folder_of_other_things_is_refused_and_kept(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("years")
        with pytest.raises(RunFolderError):
            RunFolder.create(tmp_path, "cola")
        assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]

    def test_another_format_is_refused(self, tmp_path):
        folder = RunFolder.create(tmp_path / "run", "cola")
        info = json.loads((folder.path / "run.json").read_text())
        (folder.path / "run.json").write_text(json.dumps({**info, "format": 99}))
        with pytest.raises(RunFolderError, match="99"):
            RunFolder.open(folder.path)

    def test_one_driver_at_a_time(self, tmp_path):
        folder = RunFolder.create(tmp_path / "run", "cola")
        with folder.driving(), pytest.raises(RunFolderError, match="another process"), folder.driving():
            pass

    def test_a_failed_write_leaves_the_old_file(self, tmp_path):
        write_text(tmp_path / "x", "old")
        with pytest.raises(UnicodeEncodeError):
            write_text(tmp_path / "x", "new \ud800")
        assert (tmp_path / "x").read_text() == "old"


class TestSpec:
    def test_unknown_key_names_the_nearest(self):
        with pytest.raises(SpecError, match="simulations"):
            validated(CoLaSpec, {"simulatoins": 3}, "spec")

    def test_nested_key(self):
        with pytest.raises(SpecError, match="actors"):
            validated(CoLaSpec, {"run": {"actor": 3}}, "spec")

    def test_yaml_and_assignments(self, tmp_path):
        file = tmp_path / "spec.yaml"
        file.write_text("method: cola\nseed: 1\nrun: {actors: 3}\n")
        values = merged(read_spec(file), assignments(["seed=2", "run.window=5"]))
        spec = validated(CoLaSpec, values, "spec")
        assert (spec.seed, spec.run.actors, spec.run.window) == (2, 3, 5)

    @pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "3"])
    def test_bad_yaml(self, tmp_path, text):
        file = tmp_path / "spec.yaml"
        file.write_text(text)
        with pytest.raises(PlaitError) as error:
            read_spec(file)
        assert "\n" not in str(error.value)


def test_shipped_questions_are_many_distinct_and_balanced():
    questions = load_questions(SHIPPED)
    assert len(questions) == 64
    assert len({question.question for question in questions}) == 64
    for question in questions:
        assert len(set(question.choices)) == len(question.choices) == 4
    answers = [question.answer for question in questions]
    assert all(answers.count(letter) == 16 for letter in range(4))


def test_blank_lines_are_skipped_and_numbers_stay_right(tmp_path):
    file = tmp_path / "data.jsonl"
    row = {"id": "a", "question": "?", "choices": ["x", "y"], "answer": 0}
    file.write_text(json.dumps(row) + "\n\n" + json.dumps({**row, "id": "b", "answer": 5}))
    with pytest.raises(DataError, match=r":3: answer: "):
        load_questions(file)


class TestStatistics:
    def test_coverage_is_near_its_name(self):
        import random

        rng, held = random.Random(3), 0
        for repeat in range(300):
            values = [float(rng.random() < 0.4) for _ in range(60)]
            interval = mean_interval(values, "coverage", str(repeat))
            held += interval["low"] <= 0.4 <= interval["high"]
        assert held / 300 > 0.9

    def test_paired_differences(self):
        ours, theirs = [1.0] * 30 + [0.0] * 10, [0.0] * 30 + [0.0] * 10
        interval = paired_interval(ours, theirs, "test")
        assert math.isclose(interval["mean"], 0.75)
        assert excludes_zero(interval)
        assert not excludes_zero(paired_interval(ours, ours, "test"))
