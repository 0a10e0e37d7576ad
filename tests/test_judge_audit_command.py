"""`plait judge audit` from the command line: exit codes as of other runs, bad values in one line."""

import json
import os
import signal

import pytest
from fault_server import FaultServer, status
from judge_server import scripted

FLAGS = ["--network", "single", "--set", "shape.scoring=text", "--set", "baselines=[]", "--quiet", "--out", "runs"]


@pytest.fixture
def audit(plait, tmp_path):
    """Audit a folder of one small set by the judge at an address."""
    (tmp_path / "sets").mkdir()
    rows = [{"id": str(i), "query": f"q{i}", "response1": "x", "response2": "yy", "human": "model1"} for i in range(3)]
    (tmp_path / "sets" / "faireval.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def run(url, *more):
        return plait("judge", "audit", "sets", "--model", f"openai:m@{url}", *FLAGS, *more)

    return run


def test_an_audit_that_goes_well_ends_with_0(audit):
    with FaultServer(scripted()) as server:
        assert audit(server.url)[0] == 0


def test_failed_calls_end_an_audit_with_1(audit):
    with FaultServer([status(400)]) as server:
        code, _, err = audit(server.url)
        assert code == 1
        assert "100.0 % of the evaluations failed" in err
        assert audit(server.url, "--set", "run.max_failures=1")[0] == 0


def test_a_budget_ends_an_audit_with_3(audit):
    with FaultServer(scripted()) as server:
        assert audit(server.url, "--set", "run.budget_calls=1")[0] == 3


def test_a_part_may_be_good_enough(audit):
    with FaultServer(scripted()) as server:
        assert audit(server.url, "--set", "run.budget_calls=1", "--partial-ok")[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_the_set_at_hand_and_begins_no_other(audit, tmp_path, number):
    rows = (tmp_path / "sets" / "faireval.jsonl").read_text()
    (tmp_path / "sets" / "testdata_pairwise.jsonl").write_text(rows)  # known by its name, and the first of the two
    answer = scripted()

    def interrupted(index, body):
        if index == 0:
            os.kill(os.getpid(), number)
        return answer(index, body)

    with FaultServer(interrupted) as server:
        code, _, err = audit(server.url)
    assert code == 128 + number
    assert "stopping; what is in flight is recorded" in err
    assert [run.name for run in (tmp_path / "runs").iterdir()] == ["autoj"]
    assert json.loads((tmp_path / "runs" / "autoj" / "result.json").read_text())["status"] == "STOPPED"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--set", "data=x.jsonl"], "judge.data: got 'x.jsonl'"),
        (["--set", "labels=x.jsonl"], "judge.labels: got 'x.jsonl'"),
        (["--set", "seed=abc"], "judge.seed: got 'abc'"),
        (["--limit", "-1"], "--limit: got -1"),
        (["--limit", "0"], "--limit: got 0"),
    ],
)
def test_bad_values_are_one_line_and_nothing_is_written(flags, expected, audit, tmp_path):
    code, out, err = audit("http://127.0.0.1:9/v1", *flags)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith(f"plait: {expected}")
    assert not (tmp_path / "runs").exists()
