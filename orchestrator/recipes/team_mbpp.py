"""MBPP (arXiv 2108.07732) as it is published: a task, its reference solution and a list of asserts. Pure.

The function's name is in neither of the two published forms: it is what all asserts call and the solution defines.
"""

import ast
from collections.abc import Mapping
from typing import Any

from ...agents.teams.items import TaskItem, task_item
from ...errors import SpecError


def mbpp_item(row: Mapping[str, Any], _: object = None) -> TaskItem:
    """Return an item of MBPP: its first assert visible, the others hidden.

    Args:
        row: With `text` (the full set) or `prompt` (the sanitized one), `code`, `test_list`, and `test_setup_code` or
            `test_imports`.

    Raises:
        SpecError: a field is missing or of another form.
    """
    question = row.get("text", row.get("prompt"))
    if not isinstance(question, str) or not question.strip():
        raise SpecError("text", question, "the task")
    code, tests = row["code"], row["test_list"]
    if not isinstance(code, str) or not isinstance(tests, list) or not all(isinstance(test, str) for test in tests):
        raise SpecError("test_list", tests, "a list of asserts, beside a text called code")
    if len(tests) < 2:
        raise SpecError("test_list", tests, "two or more asserts")
    entry = _entry_point(code, tests)
    setup = row.get("test_setup_code") or "\n".join(row.get("test_imports") or ())
    return task_item(
        f"{question.strip()}\nThe function is called `{entry}`.", "code", code.replace("\r\n", "\n"),
        entry_point=entry, setup=setup, visible=tests[:1], tests=tests[1:],
    )  # fmt: skip


def _entry_point(code: str, tests: list[str]) -> str:
    """Return the function that the solution defines last of those that every test calls."""
    try:
        defined = [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        called = [{node.id for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Name)} for test in tests]
    except SyntaxError as error:
        raise SpecError("code", code[:60], f"Python, as the tests are ({error.msg} in line {error.lineno})") from error
    shared = [name for name in defined if all(name in names for names in called)]
    if not shared:
        raise SpecError("test_list", tests[0][:60], f"asserts that call a function of code ({', '.join(defined)})")
    return shared[-1]


__all__ = ["mbpp_item"]
