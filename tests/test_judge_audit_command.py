"""`plait judge audit` from the command line: exit codes as of other runs, bad values in one line."""

import json

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
