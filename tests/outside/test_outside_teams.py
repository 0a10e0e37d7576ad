"""Agents' replies as models write them, public sets as they are published, and what a user of teams meets first."""

import asyncio
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml
from plait.agents import sandbox_process
from plait.agents.sandbox import Sandbox
from plait.agents.teams.losses import Compared, matched
from plait.agents.teams.parsing import read
from plait.orchestrator.recipes.team_data import load_items
from plait.search.splits import split_items
from plait.teams import Schema
from plait.tests.fault_server import FaultServer, answer, completion, text

ROOT = Path(__file__).resolve().parents[2]
ISOLATED = sandbox_process.host().namespaces
needs_namespaces = pytest.mark.skipif(not ISOLATED, reason="this host offers no user, network and pid namespaces")
CITIES = ["Oslo", "Rome", "Bern"]


@pytest.fixture
def asked(plait, tmp_path, monkeypatch):
    """Ask one agent a question for each reply, over HTTP; return its answers, the summary and the calls it took."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")

    def run(kind, cases, **fields):
        """`cases`: (reply, gold) each; `fields` are those of every item."""
        count: Counter[int] = Counter()

        def reply(index, body):
            found = re.search(r"Case (\d+)", json.dumps(body))
            if found is None:
                return text("yes")
            count[int(found[1])] += 1
            return text(cases[int(found[1])][0])

        schema = {"kind": kind}
        if kind == "option":
            schema["options"] = ["A", "B", "C"]
        if kind == "values":
            schema["fields"] = sorted(cases[0][1])
        agent = {"name": "solver", "output": schema}
        layer = {"name": "solve", "task": "Answer.", "blocks": [{"name": "one", "agents": [agent]}]}
        (tmp_path / "team.yaml").write_text(yaml.safe_dump({"layers": [layer], "answer": schema}))
        rows = [
            {"question": f"Case {at}: what is asked?", "kind": kind, "gold": gold, **fields}
            for at, (_, gold) in enumerate(cases)
        ]
        (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        with FaultServer(reply, keep=False) as server:
            code, _, err = plait(
                "team",
                "run",
                "team.yaml",
                "--data",
                "items.jsonl",
                "--model",
                f"openai:m@{server.url}",
                "--out",
                "run",
                "--json",
                "--quiet",
            )
        assert code == 0, err
        out = plait("show", "run", "--json")[1]
        lines = (tmp_path / "run" / "answers.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines], out, count

    return run


def scores(answers):
    return [row["score"] for row in answers]


# -- programs

PROGRAM = "```python\ndef f(x):\n    return x + 1\n```"
HELPED = "```python\ndef inc(x):\n    return x + 1\n```\nand then\n```python\ndef f(x):\n    return inc(x)\n```"


@needs_namespaces
@pytest.mark.row("C: program, then a block that uses it")
def test_the_block_that_defines_the_function_is_the_program(asked):
    replies = [
        f"{PROGRAM}\nUse it:\n```python\nprint(f(1))\n```",
        f"{PROGRAM}\nTests:\n```python\nassert f(1) == 2\n```",
        f'{PROGRAM}\nIt gives\n```json\n{{"f": 2}}\n```',
        HELPED,
        f"{HELPED}\n```\n>>> f(1)\n2\n```",
        "~~~python\ndef f(x):\n    return x + 1\n~~~\n~~~\nf(1)\n~~~",
        "1. So:\n   ```python\n   f = lambda x: x + 1\n   ```\n2. Try it:\n   ```python\n   print(f(2))\n   ```",
    ]
    answers, _, _ = asked("code", [(reply, None) for reply in replies], entry_point="f", tests=["assert f(1) == 2"])
    assert scores(answers) == [1.0] * len(replies)


@needs_namespaces
@pytest.mark.row("C: program, then a block that uses it")
def test_a_reply_without_the_function_is_unreadable_and_no_other_block_is_taken(asked):
    answers, _, count = asked("code", [("```python\nprint(1)\n```", None)], entry_point="f", tests=["assert f(1) == 2"])
    assert (answers[0]["answer"], answers[0]["score"], count[0]) == (None, 0.0, 2)


# -- thoughts


@pytest.mark.row("C: thoughts")
def test_a_thought_is_no_answer_and_a_thought_cut_off_leaves_none(asked):
    answers, _, count = asked(
        "number",
        [
            ("<think>Perhaps 6. Answer: 6? No, wait.</think>\n5", 5),
            ("<thinking>6</thinking> It is 5.", 5),
            ("It must be 7, I think.</think>The answer is 5.", 5),
            ("<think>Perhaps 6. Answer: 6", 6),
            ("<think>6 ... then 5", 5),
        ],
    )
    assert scores(answers) == [1, 1, 1, 0, 0]
    assert [row["answer"] for row in answers[3:]] == [None, None]
    assert [count[at] for at in range(5)] == [1, 1, 1, 2, 2], "what could not be read is asked for once more"


@pytest.mark.row("C: thoughts")
def test_a_reply_cut_off_at_its_limit_is_read_only_where_its_answer_is_whole(plait, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    replies = {"Case 0": "12 plus 7 is 19. Then 5", "Case 1": "Answer: 5\nI checked th", "Case 2": "The answer is 5"}

    def cut(index, body):
        said = next((reply for case, reply in replies.items() if case in json.dumps(body)), None)
        return text("yes") if said is None else answer(completion(said, finish="length"))

    rows = [{"question": f"{case}: what?", "kind": "number", "gold": 5} for case in replies]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "team.yaml").write_text(yaml.safe_dump(TEAM))
    with FaultServer(cut, keep=False) as server:
        model = f"openai:m@{server.url}"
        plait("team", "run", "team.yaml", "--data", "items.jsonl", "--model", model, "--out", "run", "--quiet")
    rows = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()]
    assert [row["answer"] for row in rows] == [None, "5", None], "5 may be the first digit of 57"


# -- numbers

READ = [
    ("\\boxed{\\frac{3}{4}}", 0.75),
    ("The answer is $\\boxed{\\text{12 cm}}$.", 12),
    ("3 x 10^8", 3e8),
    ("3 \u00d7 10\u2078", 3e8),
    ("It is 3*10**8 m/s.", 3e8),
    ("$3 \\times 10^{8}$", 3e8),
    ("1.5 million", 1.5e6),
    ("2 billion dollars", 2e9),
    ("Answer: 12 (twelve) items, 3 of them red", 12),
    ("The answer is 42, since 6*7=42 and not 6+7=13", 42),
    ("Answer: 1 1/2", 1.5),
    ("2\\frac{1}{2}", 2.5),
    ("-\\dfrac{1}{2}", -0.5),
    ("\u22125", -5),
    ("1\u202f234\u202f567", 1234567),
    ("1 234.5", 1234.5),
    ("Answer: 3/4 of it", 0.75),
    ("It is 45%.", 45),
    ("It is 45 %.", 0.45),
    ("2.5e-3", 0.0025),
    ('{"answer": 42, "confidence": 0.9}', 42),
    ("Answer: $1,234.50", 1234.5),
    ("5\\text{ km}", 5),
    ("\\boxed{\\boxed{7}}", 7),
    ("negative 5", -5),
    ("Answer:\n\n**42**", 42),
    ("#### 18", 18),
    ("The area is 20 m^2.", 20),
    ("1\u00bd", 1.5),
]
UNREAD = [
    "1.234,56",
    "Answer: 3-5",
    "Answer: 5 or 6",
    "It is not 5.",
    "The answer is not 5.",
    "Answer: 5k",
    "2024-05-05",
    "Answer: 5 dozen",
    "It is at 3:05",
    "Answer: 5?",
    "Wrong answer: 5",
    "If the answer is 5, fine.",
    "at least 5",
    "Answer: 3, 4, 5",
    "1,5",
    "Answer: 2 feet 5 inches",
    "Answer: 10 - 5",
    "It is 5 hundredths",
    "Answer: 6. Wait, no: 5",
    "\\boxed{3}, \\boxed{5}",
    "Answer: cannot be told from 5",
    "x5",
    "the 5th",
    "Answer: 3 to 5",
    "\\sqrt{5}",
]


@pytest.mark.row("C: numbers")
def test_numbers_are_read_by_the_grammar(asked):
    answers, _, _ = asked("number", READ)
    missed = [(case, row["answer"]) for case, row in zip(READ, answers, strict=True) if row["score"] != 1]
    assert missed == []


@pytest.mark.row("C: numbers")
def test_half_a_number_has_no_value(asked):
    answers, _, _ = asked("number", [(reply, 5) for reply in UNREAD])
    assert [
        (reply, row["answer"]) for reply, row in zip(UNREAD, answers, strict=True) if row["answer"] is not None
    ] == []


# -- negations, options


@pytest.mark.row("C: negation")
def test_a_negated_truth_value_is_never_taken_for_the_other(asked):
    cases = [
        ("It is not true.", False),
        ("True. It would be false only if no rain fell.", True),
        ("That isn't true.", False),
        ("No, it is not.", False),
        ("Yes, and nothing about it is false.", None),
        ("It is not false.", None),
        ("I am not sure whether it is true.", None),
        ("No rain fell.", None),
        ("True or false?", None),
        ("The claim would be true if it rained.", None),
        ("Answer: not true", False),
        ("\\boxed{\\text{True}}", True),
    ]
    answers, _, _ = asked("boolean", [(reply, bool(gold)) for reply, gold in cases])
    got = {reply: row["answer"] for (reply, _), row in zip(cases, answers, strict=True)}
    wanted = {reply: None if gold is None else str(gold).lower() for reply, gold in cases}
    wrong = {reply: value for reply, value in got.items() if value not in (None, wanted[reply])}
    assert wrong == {}
    assert got["It is not true."] == "false"
    assert got["True. It would be false only if no rain fell."] == "true"


@pytest.mark.row("C: negation")
def test_a_denied_option_is_not_chosen(asked):
    cases = [
        ("Not A. It is C.", "C"),
        ("It is not A or B, so it is C.", "C"),
        ("A is wrong, so is B. The answer is C.", "C"),
        ("Not Oslo but Bern.", "C"),
        ("Neither A nor C", None),
        ("A or C", None),
        ("Answer: A, C", None),
        ("A and C", None),
        ("It could be A or C.", None),
        ("Answer: not C", None),
        ("C. Oslo", None),
        ("Not C", None),
    ]
    answers, _, _ = asked("option", [(reply, gold or "C") for reply, gold in cases], options=CITIES)
    got = [(reply, row["answer"]) for (reply, _), row in zip(cases, answers, strict=True)]
    assert [
        (reply, value) for (reply, value), (_, gold) in zip(got, cases, strict=True) if value not in (None, gold)
    ] == []
    assert dict(got)["Not A. It is C."] == "C"


@pytest.mark.row("C: options by text")
def test_options_are_read_by_text_json_and_box(asked):
    replies = [
        "Rome",
        "Answer: Rome",
        '{"answer": "B"}',
        "\\boxed{\\text{B}}",
        "rome.",
        "**Rome**",
        "The capital is Rome.",
        "{'answer': 'Rome',}",
        "Option B",
        "(b)",
        "Answer: B. Rome",
        "Rome, not Oslo.",
    ]
    answers, _, _ = asked("option", [(reply, "B") for reply in replies], options=CITIES)
    assert [reply for reply, row in zip(replies, answers, strict=True) if row["answer"] != "B"] == []


# -- values, and what is unreadable


@pytest.mark.row("C: values, the share that is right")
def test_values_count_for_the_share_that_is_right(asked):
    gold = {"mean": 2.5, "sd": 1}
    replies = ['{"mean": 2.5}', '{"mean": 2.5, "sd": 1,}', "{'mean': 2.5, 'sd': 1}", '{"mean": 3, "sd": 1}', "none"]
    answers, _, _ = asked("values", [(reply, gold) for reply in replies])
    assert scores(answers) == [0.5, 1, 1, 0.5, 0]


@pytest.mark.row("C: unreadable is counted apart")
def test_what_cannot_be_read_is_asked_once_more_and_counted_apart(asked):
    answers, out, count = asked("number", [("Answer: 5", 5), ("Answer: 6", 5), ("Answer: 3-5", 5)])
    assert scores(answers) == [1, 0, 0]
    assert [count[at] for at in range(3)] == [1, 1, 2]
    shown = json.loads(out)
    summary = shown.get("summary", shown)
    assert summary["accuracy"]["mean"] == pytest.approx(1 / 3, abs=1e-6)
    assert summary.get("unreadable") == 1


@pytest.mark.row("C: unreadable is counted apart")
def test_a_critic_is_told_that_an_answer_could_not_be_read():
    reply = "Answer: 3-5"
    value = read(reply, Schema(kind="number")).value
    told = matched(Compared(kind="number", gold=4, value=value, text=reply)).feedback
    assert "could be read" in told
    assert "got" not in told


# -- what a user meets first


@needs_namespaces
@pytest.mark.row("C: tests' own helper class")
def test_a_helper_class_of_the_tests_compares():
    near = (
        "class Near:\n    def __init__(self, x): self.x = x\n"
        "    def __eq__(self, other): return abs(self.x - other) < 1"
    )
    tests = (f"{near}\nassert f() == Near(0.5)", "assert Near(0.3) == f()", "assert [f()] == [Near(0.3)]")
    sandbox = Sandbox(allow_network=not ISOLATED)
    assert asyncio.run(sandbox.check("def f():\n    return 0.3\n", tests, entry_point="f")).passed == 3
    cheat = (
        "class Any:\n    def __eq__(self, other): return True\nAny.__module__ = 'tests'\ndef f():\n    return Any()\n"
    )
    assert asyncio.run(sandbox.check(cheat, tests, entry_point="f")).passed == 0


SETS = {
    "gsm8k.jsonl": ({"question": "How many clips?", "answer": "48/2 = <<48/2=24>>24 in May.\n#### 1,072"}, 1072),
    "multiarith.jsonl": ({"question": " How many books?", "final_ans": "15"}, 15),
    "MultiArith.json": ([{"iIndex": 1, "sQuestion": "How many?", "lEquations": ["X=8-3"], "lSolutions": [5.0]}], 5),
    "aqua.jsonl": (
        {
            "question": "How far?",
            "options": ["A)21", "B)21.5", "C)22", "D)22.5", "E)23"],
            "rationale": "x",
            "correct": "E",
        },
        "E",
    ),
    "sports.json": ({"canary": "c", "examples": [{"input": "Is it plausible?", "target": "no"}]}, False),
    "dates.json": ({"examples": [{"input": "Which?\nOptions:\n(A) 01/02\n(B) 02/02", "target": "(B)"}]}, "B"),
    "counting.jsonl": ({"input": "How many do I have?", "target": "8"}, 8),
}


@pytest.mark.row("C: public sets as published")
@pytest.mark.parametrize("name", SETS)
def test_a_public_set_is_read_as_it_is_published(name, tmp_path):
    row, gold = SETS[name]
    (tmp_path / name).write_text(json.dumps(row) + "\n")
    (item,) = load_items(tmp_path / name)
    assert item.gold == gold
    assert item.gold is not True
    assert not item.options or item.options[-1] in ("23", "02/02")


@pytest.mark.row("C: public sets as published")
def test_mbpp_and_dabench_are_read_as_they_are_published(tmp_path):
    tests = [
        "assert shared((3, 4), (4, 5)) == (4,)",
        "assert shared((1,), (1,)) == (1,)",
        "assert shared((), ()) == ()",
    ]
    full = {
        "text": "Find the shared elements.",
        "code": "def shared(a, b):\r\n  return tuple(set(a) & set(b))",
        "task_id": 2,
        "test_setup_code": "",
        "test_list": tests,
        "challenge_test_list": [],
    }
    clean = {
        "source_file": "x",
        "task_id": 602,
        "prompt": "Do it.",
        "code": full["code"],
        "test_imports": ["import math"],
        "test_list": tests,
    }
    (tmp_path / "mbpp.jsonl").write_text(f"{json.dumps(full)}\n")
    (tmp_path / "sanitized-mbpp.json").write_text(json.dumps([clean]))
    for name in ("mbpp.jsonl#prompt", "sanitized-mbpp.json#train"):
        (item,) = load_items(tmp_path / name)
        assert (item.entry_point, item.visible, item.tests) == ("shared", tuple(tests[:1]), tuple(tests[1:]))
    question = {
        "id": 7,
        "question": "Mean fare?",
        "concepts": [],
        "constraints": "Two decimals.",
        "format": "@mean[x]",
        "file_name": "fares.csv",
        "level": "easy",
    }
    (tmp_path / "da-dev-questions.jsonl").write_text(json.dumps(question))
    (tmp_path / "da-dev-labels.jsonl").write_text(json.dumps({"id": 7, "common_answers": [["mean", "34.65"]]}))
    (tmp_path / "da-dev-tables").mkdir()
    (tmp_path / "da-dev-tables" / "fares.csv").write_text("fare\n34.65\n")
    (item,) = load_items(tmp_path / "da-dev-questions.jsonl")
    assert (item.gold, item.files[0].text) == ({"mean": "34.65"}, "fare\n34.65\n")


AGENT = {"name": "solver", "output": {"kind": "number"}}
TEAM = {
    "layers": [{"name": "solve", "task": "Answer.", "blocks": [{"name": "one", "agents": [AGENT]}]}],
    "answer": {"kind": "number"},
}
ROWS = [{"question": f"What is {n} plus {n + 1}?", "kind": "number", "gold": 2 * n + 1} for n in range(60)]
NOBODY = "openai:m@http://127.0.0.1:9/v1"


def written(folder, rows, team=TEAM, **more):
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {
        "method": "team",
        "team": team,
        "data": "items.jsonl",
        "model": NOBODY,
        "train": 12,
        "validation": 20,
        "confirm": 20,
        "controls": [],
        **more,
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    return "spec.yaml"


@pytest.mark.row("C: lists of mappings")
def test_mappings_are_items(tmp_path, monkeypatch):
    from plait import Team, TeamTrainer

    monkeypatch.setenv("OPENAI_API_KEY", "none")
    made = TeamTrainer(TEAM, ROWS, model=NOBODY, train=12, validation=20, confirm=20)
    assert made.plan()["splits"]["confirm"] == 20
    with FaultServer(lambda index, body: text("Answer: 1"), keep=False) as server:
        answers = Team(TEAM, model=f"openai:m@{server.url}").over(ROWS[:2], tmp_path / "run")
    assert [row["score"] for row in answers.answers] == [1, 0]


@pytest.mark.row("C: data of another kind")
def test_data_of_another_kind_than_the_teams_is_refused(plait, tmp_path):
    rows = [{"question": f"Is {n} even?", "kind": "boolean", "gold": n % 2 == 0} for n in range(60)]
    code, _, err = plait("team", "train", written(tmp_path, rows), "--dry-run")
    assert code == 2
    assert "boolean" in err
    assert "number" in err
    (tmp_path / "team.yaml").write_text(yaml.safe_dump(TEAM))
    assert plait("team", "run", "team.yaml", "--data", "items.jsonl", "--model", NOBODY, "--dry-run")[0] == 2


@pytest.mark.row("C: one question, two answers")
@pytest.mark.parametrize("again", ["What is 3 plus 4?", "what is 3 plus 4", " What  is 3 plus 4? "])
def test_a_question_with_two_answers_is_refused(again, plait, tmp_path):
    rows = [*ROWS, {"question": again, "kind": "number", "gold": 8}]
    code, _, err = plait("team", "train", written(tmp_path, rows), "--dry-run")
    assert code == 2
    assert "items.jsonl:61" in err
    assert "items.jsonl:4" in err


@pytest.mark.row("C: twins by punctuation")
def test_twins_that_differ_in_punctuation_stay_in_one_split():
    ends = ["?", ".", "", " ?", "!", "..."]
    questions = {f"{n}{end}": f"How many, of {n} plums, are left{end}" for n in range(40) for end in ends}
    questions |= {f"{n} plain": f"how many of {n} plums are left" for n in range(40)}
    sizes = {"train": 140, "validation": 70, "confirm": 70}
    for seed in range(3):
        splits = split_items(questions, sizes, seed)
        homes: dict[str, set[str]] = {}
        for item in questions:
            homes.setdefault(re.match(r"\d+", item)[0], set()).add(splits.split_of(item))
        assert [n for n, home in homes.items() if len(home) > 1] == []
    apart = split_items({"a": "What is 1.5 + 2?", "b": "What is 15 + 2?", "c": "What is 15 - 2?"}, {"train": 3}, 0)
    assert len(apart.train) == 3


@pytest.mark.row("C: budget that the whole run fits in")
def test_a_budget_that_the_whole_run_fits_in_is_taken(plait, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")

    def right(index, body):
        found = re.findall(r"What is (\d+) plus (\d+)", json.dumps(body))
        return text(f"Answer: {int(found[-1][0]) + int(found[-1][1])}" if found else "yes")

    with FaultServer(right, keep=False) as server:
        spec = written(tmp_path, ROWS, model=f"openai:m@{server.url}", steps=3)
        assert plait("team", "train", spec, "--out", "free", "--quiet")[0] == 0
        timing = json.loads((tmp_path / "free" / "timing.json").read_text())
        took = int(timing["cost"]["calls"])
        code, _, err = plait("team", "train", spec, "--out", "paid", "--quiet", "--budget-calls", str(took))
    assert (code, err) == (0, err), f"the whole run took {took} calls"


@pytest.mark.row("C: a split met from another folder")
def test_a_split_that_a_run_in_another_folder_has_met_is_noticed(tmp_path, monkeypatch):
    from plait.tests.scripted_team import world
    from plait.tests.team_training import serving, trainer

    monkeypatch.setenv("OPENAI_API_KEY", "none")
    known = world(3, q=0.9)
    with serving(known) as server:
        first = trainer(known, server.url, steps=4).run(tmp_path / "first")
        second = trainer(known, server.url, steps=1, profile="random", controls=()).run(tmp_path / "second")
    assert first.summary["final"]["hash"] != second.summary["final"]["hash"]
    assert first.summary["stamp"] == ""
    assert "confirm: a second pass" in second.summary["stamp"]


def commands(page):
    """Return the commands of a page that train or run a team."""
    return re.findall(r"^ {0,4}(plait team (?:train|headroom) examples/.*)$", page, re.MULTILINE)


@pytest.mark.row("C: examples run from a checkout")
def test_the_examples_and_the_command_of_the_results_need_nothing_but_a_checkout(plait, tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    page = (ROOT / "docs" / "results" / "ann.md").read_text()
    header = "\n".join(line.lstrip("# ") for line in (ROOT / "examples" / "team_bbh.yaml").read_text().splitlines())
    found = [*commands(page), *commands(header)]
    assert found
    for command in found:
        code, _, err = plait(*command.split()[1:], "--dry-run")
        assert code == 0, (command, err)


@pytest.mark.row("C: docs hold a team spec and Python")
def test_the_page_on_teams_holds_a_spec_and_python_that_run(plait, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "teams.md").read_text()
    specs = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert (len(specs), len(programs)) >= (1, 1), "a spec and a program"
    (tmp_path / "spec.yaml").write_text(specs[0])
    code, _, err = plait("team", "train", "spec.yaml", "--dry-run")
    assert code == 0, err
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with FaultServer(lambda index, body: text("Answer: 5"), keep=False) as server:
        exec(compile(programs[0], "teams.md", "exec"), {"MODEL": f"openai:m@{server.url}"})
    assert (tmp_path / "runs" / "few" / "answers.jsonl").exists()
