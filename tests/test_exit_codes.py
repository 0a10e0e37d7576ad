"""Exit codes of runs in which evaluations fail: 1 above the threshold, with the result written all the same."""

import json

import pytest
from plait.orchestrator.commands_run import failed_share

pytestmark = [pytest.mark.ray, pytest.mark.weights, pytest.mark.usefixtures("ray_cluster")]

FLAGS = [
    "--simulations",
    "4",
    "--set",
    "menu=0",
    "--set",
    "verify=false",
    "--set",
    "random_baseline=false",
    "--actors",
    "1",
    "--quiet",
]


@pytest.fixture
def data(tmp_path):
    """Three questions that fit the tiny model's 512 tokens, and one that does not: a quarter of all fails."""
    rows = [
        {"id": str(n), "question": f"What is {n} plus one?", "choices": [str(n + 1), str(n + 2)], "answer": 0}
        for n in range(3)
    ]
    rows.append({"id": "long", "question": "Why? " * 600, "choices": ["yes", "no"], "answer": 0})
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "data.jsonl"


def test_failures_above_the_threshold_end_with_1_and_a_result(plait, data, tiny_folder, tmp_path):
    start = ["cola", "--model", tiny_folder, "--data", data, *FLAGS]
    code, _, err = plait(*start, "--out", "run")
    assert code == 1
    (line,) = [line for line in err.splitlines() if line.startswith("plait: ")]
    assert "25.0 % of the evaluations failed, above --max-failures 0.1" in line
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "SUCCEEDED"

    code, out, err = plait("resume", "run", "--json")
    end = json.loads(out.splitlines()[-1])
    assert (code, end["exit_code"], end["failed_share"]) == (1, 1, 0.25), "a resumed run has the same share"

    assert plait("resume", "run", "--quiet", "--partial-ok")[0] == 0
    assert plait("resume", "run", "--quiet", "--max-failures", "0.25")[0] == 0
    assert plait(*start, "--out", "run", "--max-failures", "0.24")[0] == 1


def test_the_threshold_changes_no_byte_of_a_result(plait, data, tiny_folder, tmp_path):
    for out, share in (("one", "0.1"), ("two", "1")):
        plait("cola", "--model", tiny_folder, "--data", data, *FLAGS, "--out", out, "--max-failures", share)
    assert (tmp_path / "one/result.json").read_bytes() == (tmp_path / "two/result.json").read_bytes()


def test_a_run_without_any_score_ends_with_1(plait, data, tiny_folder, tmp_path):
    row = data.read_text().splitlines()[-1]
    data.write_text(row)
    code, _, err = plait("cola", "--model", tiny_folder, "--data", data, *FLAGS, "--out", "run")
    assert code == 1, err
    assert "Traceback" not in err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["summary"]["items"] == 0


def test_a_budget_ends_with_3_and_partial_ok_makes_it_0(plait, tiny_folder, tmp_path):
    start = ["cola", "--model", tiny_folder, "--limit", "3", *FLAGS, "--budget-evaluations", "5"]
    assert plait(*start, "--out", "one")[0] == 3
    assert plait(*start, "--out", "two", "--partial-ok")[0] == 0


@pytest.mark.parametrize("share", ["-0.1", "1.5"])
def test_a_share_is_between_0_and_1(plait, share, tmp_path):
    code, _, err = plait("cola", "--limit", "2", "--max-failures", share, "--out", "run")
    assert code == 2
    assert "max_failures" in err
    assert not (tmp_path / "run").exists()


def test_nothing_needed_is_nothing_failed():
    assert failed_share({"paid": 0, "found": 0, "failed": 0}) == 0.0
    assert failed_share({"paid": 6, "found": 2, "failed": 2}) == 0.2
