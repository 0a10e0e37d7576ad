"""Print row, before and after of the cases from outside: outside_table.py BEFORE.jsonl AFTER.jsonl."""

import json
import re
import sys
from pathlib import Path

NAMES = {"AttributeError", "ImportError", "ModuleNotFoundError", "NameError", "FixtureLookupError"}
TEXTS = ("unexpected keyword argument", "No such option", "No such command", "fixture '")


def read(path: str) -> dict[tuple[str, str], list[dict[str, str]]]:
    """Return the outcomes by row and test function: a test with parameters has several."""
    cases: dict[tuple[str, str], list[dict[str, str]]] = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        test = re.sub(r"\[.*\]$", "", case["test"].rpartition("tests/")[2])
        cases.setdefault((case["row"], test), []).append(case)
    return cases


def missing_name(case: dict[str, str]) -> bool:
    """Return whether a case failed since it uses a name that is not there, which says nothing of what was wrong."""
    kind = case["why"].partition(":")[0]
    in_the_test = "/tests/" in case.get("where", "/tests/")
    return (kind in NAMES and in_the_test) or any(text in case.get("text", case["why"]) for text in TEXTS)


def before_of(cases: list[dict[str, str]]) -> tuple[bool, str]:
    """Return whether a test failed as it should, and how: one case that did is enough, others may be controls."""
    failed = [case for case in cases if case["outcome"] == "failed"]
    wrong = [case for case in failed if not missing_name(case)]
    if wrong:
        return True, f"failed ({len(wrong)} of {len(cases)}): {wrong[0]['why']}"
    if failed:
        return False, f"INVALID, a missing name: {failed[0]['why']}"
    return False, "NOT COLLECTED" if not cases else f"{cases[0]['outcome'].upper()} BEFORE"


def after_of(cases: list[dict[str, str]]) -> tuple[bool, str]:
    """Return whether a test passes now, and else what fails: some cases may be skipped, not all."""
    bad = [case for case in cases if case["outcome"] == "failed"] or [
        case for case in cases if not any(other["outcome"] == "passed" for other in cases)
    ]
    if bad:
        return False, f"{bad[0]['outcome'].upper()} ({len(bad)} of {len(cases)}): {bad[0]['why']}"
    return bool(cases), "passed" if cases else "NOT COLLECTED"


def main(before_path: str, after_path: str) -> int:
    """Print the table; return 1 unless every test failed before and passes now."""
    before, after = read(before_path), read(after_path)
    wrong = 0
    for row, test in sorted({*before, *after}):
        failed, how = before_of(before.get((row, test), []))
        passes, now = after_of(after.get((row, test), []))
        wrong += not (failed and passes)
        print(f"{row} | {test} | {how[:160]} | {now[:160]}")
    total = len({*before, *after})
    print(f"{total - wrong} of {total} tests failed before and pass now; {wrong} did not")
    return 1 if wrong or not total else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
