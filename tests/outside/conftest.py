"""Cases from outside: each test carries the row of the list of faults that it keeps closed.

These tests use only what the first state of the project had (commands, the public Python names), so that
`tests/outside_before.sh` can run them there too and print what each row was before.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import HELD


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "row(name): the row of the list of faults that a test keeps closed; HELD: none")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """Append (row, test, outcome, first line of the error) to the file that PLAIT_OUTSIDE_ROWS names."""
    report = yield
    row, place = item.get_closest_marker("row"), os.environ.get("PLAIT_OUTSIDE_ROWS")
    decided = report.when == "call" or report.outcome != "passed"
    if place and row is not None and row.args[0] != HELD and decided:
        error = call.excinfo
        why = f"{error.typename}: {error.value}".splitlines()[0][:200] if error is not None else ""
        line = {"row": row.args[0], "test": item.nodeid, "when": report.when, "outcome": report.outcome, "why": why}
        if error is not None:  # where it was raised tells a traceback of ours from a name that a test lacks
            line |= {"where": str(error.traceback[-1].path), "text": str(error.value)[:4000]}
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return report
