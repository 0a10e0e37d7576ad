"""Items: what is one, what it is known by, what a file of them may hold, and how a bad row is refused."""

import json
from collections import Counter
from dataclasses import dataclass

import pytest
from conftest import ROOT, SHARED
from plait.agents.teams.items import TaskItem, task_item
from plait.errors import DataError, SpecError
from plait.orchestrator.recipes.team_data import DEMO, SHIPPED, items_digest, load_items
from plait.orchestrator.recipes.team_sets import set_item

TEXTS = SHARED / "text"
needs_sets = pytest.mark.skipif(not TEXTS.is_dir(), reason=f"needs the public sets in {TEXTS}")


def written(folder, *rows, name="items.jsonl"):
    file = folder / name
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return file


def test_an_item_is_known_by_its_content():
    one, same, other = (task_item("How many?", "number", gold) for gold in (3, 3, 4))
    assert one == same
    assert one.id != other.id
    assert len(one.id) == 16
    assert int(one.id, 16) >= 0


def test_an_item_survives_json():
    item = task_item("Which?", "option", "B", options=("x", "y"))
    assert TaskItem.model_validate_json(item.model_dump_json()) == item
    assert item.labels == ("A", "B")
    assert item.asked.options == ("A", "B")
    assert task_item("q", "values", {"a": "1", "b": True}).asked.fields == ("a", "b")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"question": "", "kind": "number", "gold": 1}, "at least 1 character"),
        ({"question": "q", "kind": "numbers", "gold": 1}, "'number'"),
        ({"question": "q", "kind": "number", "gold": "1"}, "a finite number"),
        ({"question": "q", "kind": "number", "gold": True}, "a finite number"),
        ({"question": "q", "kind": "number", "gold": float("nan")}, "a finite number"),
        ({"question": "q", "kind": "option", "gold": "A"}, "options exactly where"),
        ({"question": "q", "kind": "option", "gold": "A", "options": ["x"]}, "2 to 26 options"),
        ({"question": "q", "kind": "option", "gold": "C", "options": ["x", "y"]}, "label of an option"),
        ({"question": "q", "kind": "boolean", "gold": "yes"}, "true or false"),
        ({"question": "q", "kind": "word", "gold": " "}, "a text that is not empty"),
        ({"question": "q", "kind": "values", "gold": {}}, "a mapping of names"),
        ({"question": "q", "kind": "code"}, "tests and entry_point exactly where"),
        ({"question": "q", "kind": "number", "gold": 1, "tests": ["x"]}, "tests and entry_point exactly where"),
        ({"question": "q", "kind": "number", "gold": 1, "visible": ["x"]}, "only where kind is code"),
        ({"question": "q", "kind": "text", "gold": {"answer": "x"}}, "a rubric"),
        ({"question": "q", "kind": "number", "gold": 1, "files": [{"name": "../x", "text": ""}]}, "pattern"),
        ({"question": "q", "kind": "number", "gold": 1, "files": 2 * [{"name": "x", "text": ""}]}, "different names"),
    ],
)  # fmt: skip
def test_what_is_no_item_is_refused_in_one_line(given, expected, tmp_path):
    with pytest.raises(SpecError, match=expected) as refused:
        task_item(**given)
    assert "\n" not in str(refused.value)
    if given["gold"] == given["gold"] if "gold" in given else True:  # NaN is no JSON
        with pytest.raises(DataError, match=expected) as refused:
            load_items(written(tmp_path, {"question": "fine", "kind": "number", "gold": 1}, given))
        assert f"{tmp_path / 'items.jsonl'}:2: item" in str(refused.value)


def test_a_file_of_our_own_format_is_read(tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    rows = [
        {"id": "one", "question": "How many?", "kind": "number", "gold": 3},
        {"question": "Which?", "kind": "option", "gold": "B", "options": ["x", "y"]},
        {"question": "Mean?", "kind": "values", "gold": {"mean": "1.5"}, "files": ["table.csv"]},
        {"question": "Write it.", "kind": "text"},
        {"question": "How many?", "kind": "number", "gold": 3},
    ]
    items = load_items(written(tmp_path, *rows[:2], "", *rows[2:]))
    assert [item.kind for item in items] == ["number", "option", "values", "text"]
    assert items[1].question == "Which?\nOptions:\n(A) x\n(B) y"
    assert items[2].files[0].text == "a,b\n1,2\n"


@pytest.mark.parametrize(
    ("row", "where", "expected"),
    [
        ("{", ":1", "a JSON object"),
        ("[1]", ":1", "a JSON object"),
        ({"prompt": "x"}, ":1", "an item (question, kind, gold"),
        ({"question": "q", "kind": "number", "gold": 1, "golden": 2}, ":1: golden", "a field among question, kind"),
        ({"question": "q", "kind": "values", "gold": {"a": 1}, "files": ["no.csv"]}, ":1: file", "a file in"),
        ({"question": "q", "choices": ["x", "y"], "answer": 2}, ":1: answer", "an index from 0 to 1"),
        ({"question": "q", "answer": "three"}, ":1: item", "a finite number"),
        ({"question": 7, "answer": 3}, ":1: question", "a text"),
        (
            {"prompt": "p", "entry_point": "f", "test": "assert f(", "canonical_solution": ""}, ":1: test", "Python",
        ),
        (
            {"prompt": "p", "entry_point": "f", "test": "assert f()", "canonical_solution": ""}, ":1: test",
            "two or more asserts",
        ),
    ],
)  # fmt: skip
def test_a_bad_row_is_told_by_file_and_line(row, where, expected, tmp_path):
    file = written(tmp_path, row)
    with pytest.raises(DataError) as refused:
        load_items(file)
    assert refused.value.where == f"{file}{where}"
    assert expected in refused.value.expected
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_or_holds_nothing_is_refused(tmp_path):
    with pytest.raises(DataError, match="a readable UTF-8 file"):
        load_items(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="no item"):
        load_items(written(tmp_path, ""))
    with pytest.raises(DataError, match="plait:code, plait:numbers"):
        load_items("plait:nothing")
    with pytest.raises(SpecError, match="1 or more"):
        load_items("plait:code", limit=0)


def test_a_limit_draws_by_the_seed_and_a_larger_one_keeps_what_a_smaller_one_drew():
    whole = load_items("plait:numbers")
    few, more, other = (load_items("plait:numbers", n, seed) for n, seed in ((4, 1), (8, 1), (4, 2)))
    assert few == load_items("plait:numbers", 4, 1)
    assert {item.id for item in few} < {item.id for item in more}
    assert {item.id for item in few} != {item.id for item in other}
    assert few == [item for item in whole if item in few]
    assert load_items("plait:numbers", 99) == whole


def test_the_digest_is_of_content_and_order():
    items = load_items("plait:words")
    assert items_digest(items) == items_digest(load_items("plait:words"))
    assert items_digest(items) != items_digest(items[::-1])
    assert items_digest(items) != items_digest(items[:-1])


def test_a_dozen_items_of_each_kind_ship():
    kinds = {name: {item.kind for item in load_items(f"plait:{name}")} for name in SHIPPED}
    assert kinds == {
        "code": {"code"}, "numbers": {"number"}, "options": {"option"}, "words": {"word"}, "booleans": {"boolean"},
        "values": {"values"}, "writing": {"text"},
    }  # fmt: skip
    assert all(len(load_items(f"plait:{name}")) == 12 for name in SHIPPED)
    assert {file.stem for file in (ROOT / "data" / "team").glob("*.jsonl")} == {*SHIPPED, DEMO}


def test_the_booleans_that_ship_are_not_all_the_same():
    answers = Counter(item.gold for item in load_items("plait:booleans"))
    assert min(answers.values()) >= 4


HUMAN = {
    "prompt": 'from typing import List\n\n\ndef half(x):\n    return x / 2\n\n\ndef add(a, b):\n    """Add.\n'
    '    >>> add(1, 2)\n    3\n    >>> add(half(4), 1)\n    3.0\n    """\n',
    "entry_point": "add", "canonical_solution": "    return a + b\n",
    "test": "METADATA = {}\n\n\ndef check(candidate):\n    assert candidate(1, 1) == 2, 'm'\n    assert True\n"
    "    assert candidate(candidate(1, 1), 1) == 3\n",
}  # fmt: skip


def test_a_docstring_shows_its_examples_and_check_is_hidden_assert_by_assert():
    item = set_item(HUMAN, str)
    assert item.visible == ("assert add(1, 2) == 3",)  # the other calls more than the function
    assert item.tests == ("assert add(1, 1) == 2, 'm'", "assert add(add(1, 1), 1) == 3")
    assert item.setup == "from typing import List\n\n\ndef half(x):\n    return x / 2"
    assert item.gold.endswith("return a + b\n")


def test_a_check_that_is_more_than_asserts_is_one_test():
    loop = "def check(candidate):\n    for n in range(3):\n        assert candidate(n, n) == 2 * n\n"
    item = set_item({**HUMAN, "test": loop}, str)
    assert item.tests == (f"{loop.strip()}\n\ncheck(add)",)


@pytest.mark.parametrize(
    "line",
    [
        "add(1, 2) == 3", "add(1, 2) => 3", "add(1, 2) ==> 3", "* add(1, 2) -> 3", "for add(1, 2) == 3",
        "add(1, 2) ➞ 3", "add(1, 2) should return 3.", ">>> add(1, 2) == 3", "add(1, 2) = 3", "add(1, 2) # => 3",
    ],
)  # fmt: skip
def test_examples_are_read_in_the_ways_docstrings_write_them(line):
    prompt = f'def add(a, b):\n    """Add.\n    {line}\n    add(x, y) == 3\n    other(1) == 2\n    """\n'
    assert set_item({**HUMAN, "prompt": prompt}, str).visible == ("assert add(1, 2) == 3",)


def test_an_assert_task_shows_the_first_and_hides_the_rest():
    row = {
        "prompt": "Add.", "entry_point": "add", "canonical_solution": "def add(a, b): return a + b",
        "test": "import math\nassert add(1, 2) == 3\nassert add(0, 0) == 0\nassert math.isclose(add(1, 1), 2)",
    }  # fmt: skip
    item = set_item(row, str)
    assert (item.setup, item.visible) == ("import math", ("assert add(1, 2) == 3",))
    assert item.tests == ("assert add(0, 0) == 0", "assert math.isclose(add(1, 1), 2)")
    assert "`add`" in item.question


@dataclass(frozen=True)
class Known:
    count: int
    kinds: frozenset


SETS = {
    "gsm8k_train": Known(7473, frozenset({"number"})), "gsm8k_test": Known(1319, frozenset({"number"})),
    "multiarith": Known(580, frozenset({"number"})),  # 20 come twice
    "addsub": Known(395, frozenset({"number"})), "aqua": Known(254, frozenset({"option"})),
    "mbpp_sanitized": Known(427, frozenset({"code"})), "humaneval": Known(164, frozenset({"code"})),
    "bbh": Known(1894, frozenset({"boolean", "option", "number", "word"})),  # 2 come twice
    "creative_writing": Known(100, frozenset({"text"})), "dabench": Known(125, frozenset({"values"})),
}  # fmt: skip
TASKS = {
    "boolean_expressions": "boolean", "date_understanding": "option", "navigate": "boolean",
    "object_counting": "number", "penguins_in_a_table": "option", "sports_understanding": "boolean",
    "web_of_lies": "boolean", "word_sorting": "word",
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
@needs_sets
def test_every_public_set_is_read_by_its_own_field_names(name):
    items = load_items(TEXTS / f"{name}.jsonl")
    assert Known(len(items), frozenset(item.kind for item in items)) == SETS[name]


@pytest.mark.parametrize("task", TASKS)
@needs_sets
def test_a_task_of_a_set_is_named_after_its_file(task):
    items = load_items(f"{TEXTS / 'bbh.jsonl'}#{task}")
    assert {item.kind for item in items} == {TASKS[task]}
    assert len(items) in {146, 248, 250}


@needs_sets
def test_a_task_that_a_set_does_not_have_is_refused():
    with pytest.raises(DataError, match="a task or split among prompt, test, train, validation"):
        load_items(f"{TEXTS / 'mbpp_sanitized.jsonl'}#tests")
    assert len(load_items(f"{TEXTS / 'mbpp_sanitized.jsonl'}#validation")) == 43


@needs_sets
def test_no_agent_is_shown_a_hidden_test():
    for item in load_items(TEXTS / "mbpp_sanitized.jsonl"):
        assert not [test for test in item.tests if test in item.question or test in item.visible]


@needs_sets
def test_most_docstrings_of_the_function_set_show_examples():
    items = load_items(TEXTS / "humaneval.jsonl")
    assert sum(bool(item.visible) for item in items) == 137
