"""Rows of public sets, by their own field names, as items that teams answer. Pure but for the tables of one set.

Sets are read as they are published: GSM8K, MultiArith, AddSub, AQuA, MBPP, HumanEval, BIG-Bench Hard, DABench. A row is
known by its fields, never by its file's name. What a set shows with a task (the examples of a docstring, the first
assert) is a visible test; the rest is hidden.
"""

import ast
import doctest
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...agents.teams.items import LABELS, InputFile, TaskItem, task_item
from ...agents.teams.matching import boolean, number
from ...errors import SpecError
from ...records import JSON
from .team_mbpp import mbpp_item

Row = Mapping[str, Any]
Table = Callable[[str], str]
"""Returns the text of a table by its file name."""

LABELS_OF_DABENCH = "da-dev-labels.jsonl"
"""The file of its answers, beside that of its questions."""

_LINE = re.compile(
    r"^[\s>*]*(?:for\s+)?(\w+\(.*\))\s*#?\s*"
    r"(?:={1,3}>?|-+>|\u279e|\u27a1|\u2192|(?:should\s+)?returns?)\s*(.+?)[\s.]*$",
    re.IGNORECASE,
)
_JSON_WORDS = {"true": "True", "false": "False"}
_MISPRINTS = frozenset(
    {
        "assert median([-10, 4, 6, 1000, 10, 20]) == 15.0",
        "assert bf('Earth', 'Mercury') == 'Venus'",
        "assert sort_array([1, 5, 2, 3, 4]) == [1, 2, 3, 4, 5]",
        "assert sort_array([-2, -3, -4, -5, -6]) == [-6, -5, -4, -3, -2]",
        "assert tri(1) == 3",
        "assert tri(4) == 3",
    }
)
"""Examples of HumanEval docstrings that its own solutions do not pass."""


def set_item(row: Row, table: Table) -> TaskItem | None:
    """Return the item of a row of a public set; None where its fields are of none that is known.

    Args:
        row: As the set has it.
        table: Reads a table that the row names.

    Raises:
        SpecError: the row is of a known set, and cannot be used.
    """
    fields = set(row)
    for needed, read in _SETS:
        if needed <= fields:
            return read(row, table)
    return None


def mbpp_split(row: Row) -> str:
    """Return the official split of a row of MBPP, by its task number; "" for a row of any other set."""
    number = row.get("task_id")
    if type(number) is not int or not {"test_list", "code"} <= set(row):
        return ""
    ends = {"prompt": 10, "test": 510, "validation": 600, "train": 974}
    return next((name for name, last in ends.items() if 0 < number <= last), "")


def with_options(question: str, options: tuple[str, ...]) -> str:
    """Return a question followed by its labelled options, unless it lists them itself."""
    if not options or all(f"({label})" in question for label, _ in zip(LABELS, options, strict=False)):
        return question
    listed = "\n".join(f"({label}) {option}" for label, option in zip(LABELS, options, strict=False))
    return f"{question}\nOptions:\n{listed}"


def _program(row: Row, table: Table) -> TaskItem:
    test, entry = _text(row, "test"), _text(row, "entry_point")
    return _humaneval(row, entry, test) if "def check(" in test else _mbpp(row, entry, test)


def _humaneval(row: Row, entry: str, test: str) -> TaskItem:
    """Return an item of HumanEval (arXiv 2107.03374): docstring examples visible, the `check` function hidden."""
    prompt = _text(row, "prompt")
    found = _function(prompt, entry)
    return task_item(
        f"Write the whole Python function `{entry}` that is begun here:\n\n{prompt.strip()}", "code",
        prompt + _text(row, "canonical_solution"), entry_point=entry,
        setup="\n".join(prompt.splitlines()[: found.lineno - 1]).strip(),
        visible=_examples(ast.get_docstring(found) or "", entry), tests=_split(test, entry),
    )  # fmt: skip


def _mbpp(row: Row, entry: str, test: str) -> TaskItem:
    """Return an item of MBPP (arXiv 2108.07732): its first assert visible, the others hidden."""
    parsed = _parsed(test, "test")
    imports = [node for node in parsed.body if isinstance(node, ast.Import | ast.ImportFrom)]
    asserts = [ast.get_source_segment(test, node) or "" for node in parsed.body if isinstance(node, ast.Assert)]
    if len(imports) + len(asserts) < len(parsed.body) or len(asserts) < 2:
        raise SpecError("test", test[:60], "imports and two or more asserts")
    question = f"{_text(row, 'prompt').strip()}\nThe function is called `{entry}`."
    return task_item(
        question, "code", _text(row, "canonical_solution"), entry_point=entry,
        setup="\n".join(map(ast.unparse, imports)), visible=asserts[:1], tests=asserts[1:],
    )  # fmt: skip


def _function(prompt: str, entry: str) -> ast.FunctionDef:
    for node in _parsed(prompt, "prompt").body:
        if isinstance(node, ast.FunctionDef) and node.name == entry:
            return node
    raise SpecError("prompt", prompt[:60], f"a function {entry}")


def _examples(docstring: str, entry: str) -> tuple[str, ...]:
    """Return the examples of a docstring as asserts: of its sessions, or of lines such as `f(1) == 2`."""
    try:
        session = doctest.DocTestParser().get_examples(docstring)
    except ValueError:  # what looks like a session and is none: HumanEval has such docstrings
        session = []
    told = [(example.source, example.want) for example in session]
    lines = [(match[1], match[2]) for line in docstring.splitlines() if (match := _LINE.match(line))]
    return _asserts(told, entry) or _asserts(lines, entry)


def _asserts(pairs: Iterable[tuple[str, str]], entry: str) -> tuple[str, ...]:
    found = (_assertion(call, wanted.strip(), entry) for call, wanted in pairs)
    return tuple(dict.fromkeys(one for one in found if one and one not in _MISPRINTS))


def _assertion(call: str, wanted: str, entry: str) -> str:
    """Return the assert of one example; "" unless it is a call of the function with values, and a value."""
    try:
        called = ast.parse(call.strip(), mode="eval").body
        value = ast.literal_eval(_JSON_WORDS.get(wanted, wanted))
    except (ValueError, SyntaxError):
        return ""
    names = {node.id for node in ast.walk(called) if isinstance(node, ast.Name)}
    if not isinstance(called, ast.Call) or names != {entry}:
        return ""
    return f"assert {ast.unparse(called)} == {value!r}"


def _split(test: str, entry: str) -> tuple[str, ...]:
    """Return the asserts of a `check` function one by one; the whole of it where it is more than asserts."""
    whole = (f"{test.strip()}\n\ncheck({entry})",)
    body = [node for node in _parsed(test, "test").body if not _is_metadata(node)]
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef) or len(body[0].args.args) != 1:
        return whole
    candidate, tests = body[0].args.args[0].arg, []
    for node in body[0].body:
        if not isinstance(node, ast.Assert):
            return whole
        named = _Named(candidate, entry)
        told = ast.unparse(named.visit(node))
        tests += [told] if named.met else []  # one that calls nothing (`assert True`) tests nothing
    return tuple(tests) or whole


def _is_metadata(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["METADATA"]


class _Named(ast.NodeTransformer):
    """Calls the function by its own name where a test calls it by an argument's."""

    def __init__(self, candidate: str, entry: str) -> None:
        self._candidate, self._entry, self.met = candidate, entry, False

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """Return the name, exchanged where it is the argument's."""
        if node.id != self._candidate:
            return node
        self.met = True
        return ast.copy_location(ast.Name(self._entry, node.ctx), node)


def _parsed(code: str, where: str) -> ast.Module:
    try:
        return ast.parse(code)
    except SyntaxError as error:
        raise SpecError(where, code[:60], f"Python ({error.msg} in line {error.lineno})") from error


def _choices(row: Row, table: Table) -> TaskItem:
    """Return an item of AQuA, or of any set of question, choices and the index of the right one."""
    choices, answer = tuple(map(str, row["choices"])), row["answer"]
    if type(answer) is not int or not 0 <= answer < min(len(choices), len(LABELS)):
        raise SpecError("answer", answer, f"an index from 0 to {len(choices) - 1}")
    return task_item(with_options(_text(row, "question"), choices), "option", LABELS[answer], options=choices)


def _lettered(row: Row, table: Table) -> TaskItem:
    """Return an item of AQuA (arXiv 1705.04146) as published: options that begin with their letters."""
    answer, given = _text(row, "correct").strip(), row["options"]
    if not isinstance(given, list) or not all(isinstance(option, str) for option in given):
        raise SpecError("options", given, "a list of texts")
    parts = [re.match(r"\s*\(?([A-Z])\)\s*(.*)", option, re.DOTALL) for option in given]
    if [part and part[1] for part in parts] != list(LABELS[: len(parts)]):
        raise SpecError("options", given, 'texts that begin with their letters, such as "A)21"')
    choices = tuple(part[2].strip() for part in parts if part)
    if answer not in LABELS[: len(choices)]:
        raise SpecError("correct", answer, f"a letter from A to {LABELS[len(choices) - 1]}")
    return task_item(with_options(_text(row, "question"), choices), "option", answer, options=choices)


def _example(row: Row, table: Table) -> TaskItem:
    """Return an item of BIG-Bench Hard as published: its input lists the options, where it has some."""
    asked, target = _text(row, "input"), _text(row, "target").strip()
    _, listed, rest = asked.partition("\nOptions:\n")
    parts = [re.fullmatch(r"\(([A-Z])\)\s?(.*)", line.strip()) for line in rest.splitlines() if line.strip()]
    if listed and parts and [part and part[1] for part in parts] == list(LABELS[: len(parts)]):
        choices = tuple(part[2] for part in parts if part)
        return task_item(asked, "option", target.strip("()"), options=choices)
    return _exact(asked, target)


def _hard(row: Row, table: Table) -> TaskItem:
    """Return an item of BIG-Bench Hard (arXiv 2210.09261): an option, a yes or no, a number or words."""
    question, answer = _text(row, "question"), _text(row, "answer")
    if row.get("choices"):
        choices = tuple(map(str, row["choices"]))
        return task_item(with_options(question, choices), "option", answer.strip("()"), options=choices)
    return _exact(question, answer)


def _exact(question: str, answer: str) -> TaskItem:
    said, counted = boolean(answer), number(answer)
    if said is not None:
        return task_item(question, "boolean", said)
    if counted is not None:
        return task_item(question, "number", _plain(counted))
    return task_item(question, "word", answer)


def _table(row: Row, table: Table) -> TaskItem:
    """Return an item of DABench (arXiv 2401.05507): named values of a CSV table."""
    name = _text(row, "file" if "file" in row else "file_name")
    answer = _labelled(row, table)
    if not isinstance(answer, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in answer):
        raise SpecError("answer", answer, "a list of [name, value]")
    parts = [
        _text(row, "question"),
        _text(row, "constraints"),
        f"The table is in the file {name}.",
        _text(row, "format"),
    ]
    file = InputFile(name=name, text=table(name))
    return task_item("\n".join(parts), "values", {str(key): value for key, value in answer}, files=(file,))


def _labelled(row: Row, table: Table) -> JSON:
    """Return the answer of a row of DABench, which is published with labels in a file of their own."""
    for field in ("answer", "common_answers"):
        if field in row:
            return row[field]
    for line in table(LABELS_OF_DABENCH).splitlines():
        label = json.loads(line) if line.strip() else {}
        if isinstance(label, dict) and label.get("id") == row.get("id") and "common_answers" in label:
            answer: JSON = label["common_answers"]
            return answer
    raise SpecError("id", row.get("id"), f"an id of {LABELS_OF_DABENCH}")


def _endings(row: Row, table: Table) -> TaskItem:
    """Return a creative writing item (arXiv 2305.10601): paragraphs that end in given sentences."""
    listed = "\n".join(f"{at}. {sentence}" for at, sentence in enumerate(row["end_sentences"], start=1))
    count = len(row["end_sentences"])
    question = (
        f"Write a coherent passage of {count} short paragraphs. Each ends with one of these sentences, in this order "
        f"and word for word:\n{listed}"
    )
    rubric = (
        f"It has {count} paragraphs; each ends, word for word, with its given sentence, in the order given; the "
        "paragraphs read as one coherent passage with a thread from the first to the last."
    )
    return task_item(question, "text", rubric)


def _number(row: Row, table: Table) -> TaskItem:
    """Return a word problem: GSM8K (arXiv 2110.14168), whose answers end in "#### 18", MultiArith, AddSub."""
    answer = row["answer"]
    if isinstance(answer, str):
        value = number(answer.rpartition("####")[2])
        answer = answer if value is None else _plain(value)  # a text is no number, which the item says
    return task_item(_text(row, "question"), "number", answer)


def _final(row: Row, table: Table) -> TaskItem:
    """Return a word problem of MultiArith, whose answer is a number in a text."""
    value = number(str(row["final_ans"]))
    if value is None:
        raise SpecError("final_ans", row["final_ans"], "a number")
    return task_item(_text(row, "question").strip(), "number", _plain(value))


def _solved(row: Row, table: Table) -> TaskItem:
    """Return a word problem of MultiArith or AddSub in their first form: a question and its solutions."""
    solutions = row["lSolutions"]
    if not isinstance(solutions, list) or len(solutions) != 1 or type(solutions[0]) not in (int, float):
        raise SpecError("lSolutions", solutions, "a list of one number")
    return task_item(_text(row, "sQuestion").strip(), "number", _plain(solutions[0]))


def _plain(value: float) -> float:
    return int(value) if float(value).is_integer() else value


def _text(row: Row, field: str) -> str:
    if not isinstance(row[field], str):
        raise SpecError(field, row[field], "a text")
    return str(row[field])


_SETS: tuple[tuple[set[str], Callable[[Row, Table], TaskItem]], ...] = (
    ({"prompt", "entry_point", "test", "canonical_solution"}, _program),
    ({"test_list", "code"}, mbpp_item),
    ({"end_sentences"}, _endings),
    ({"question", "constraints", "format", "file", "answer"}, _table),
    ({"question", "constraints", "format", "file_name"}, _table),
    ({"question", "options", "correct"}, _lettered),
    ({"input", "target"}, _example),
    ({"sQuestion", "lSolutions"}, _solved),
    ({"question", "final_ans"}, _final),
    ({"task", "question", "answer"}, _hard),
    ({"question", "choices", "answer"}, _choices),
    ({"question", "answer"}, _number),
)
"""Fields that tell a set, most telling first, and who reads it."""

__all__ = ["mbpp_split", "set_item", "with_options"]
