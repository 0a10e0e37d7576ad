"""The command line: bad input is one line, exit code 2, nothing half-written; machines get JSON."""

import json
import subprocess
import sys

import pytest

ROW = {"id": "a", "question": "What is wet?", "choices": ["water", "sand"], "answer": 0}


@pytest.fixture
def data(tmp_path):
    def write(*rows):
        file = tmp_path / "data.jsonl"
        file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
        return file

    return write


BAD_DATA = {
    "malformed": (["{not json"], ":1"),
    "second line": ([ROW, "[]"], ":2"),
    "answer index": ([{**ROW, "answer": 2}], "0 to 1"),
    "answer is text": ([{**ROW, "answer": "A"}], "answer"),
    "duplicate id": ([ROW, ROW], "line 1"),
    "one choice": ([{**ROW, "choices": ["x"]}], "choices"),
    "no question": ([{"id": "a", "choices": ["x", "y"], "answer": 0}], "question"),
    "empty": ([], "no question"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data(case, plait, data, tmp_path):
    rows, expected = BAD_DATA[case]
    code, out, err = plait("cola", "--data", data(*rows), "--out", tmp_path / "run")
    assert code == 2
    assert out == ""
    assert expected in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


BAD_FLAGS = {
    "missing data": (["cola", "--data", "nowhere.jsonl"], "nowhere.jsonl"),
    "unknown model": (["cola", "--model", "smollm2-135"], "smollm2-135m"),
    "missing model folder": (["cola", "--model", "/no/such/folder"], "/no/such/folder"),
    "unknown profile": (["cola", "--profile", "plaid"], "plait"),
    "unknown key": (["cola", "--set", "simulatoins=4"], "simulations"),
    "negative budget": (["cola", "--budget-evaluations", "-1"], "budget"),
    "no simulations": (["cola", "--simulations", "0"], "simulations"),
    "half a setting": (["cola", "--set", "seed"], "seed"),
    "a setting in broken YAML": (["cola", "--set", "seed=["], "--set: got 'seed=['"),
    "a setting below a value": (["cola", "--set", "seed=1", "--set", "seed.a=2"], "--set: got 'seed.a=2'"),
    "missing spec": (["run", "nowhere.yaml"], "nowhere.yaml"),
    "resume nothing": (["resume", "nowhere"], "nowhere"),
    "show nothing": (["show", "nowhere"], "nowhere"),
    "report nothing": (["report", "nowhere"], "nowhere"),
    "path out of range": (["score", "--data", "plait:questions", "--path", "0-30", "--limit", "1"], "29"),
    "path unreadable": (["score", "--data", "plait:questions", "--path", "0-", "--limit", "1"], "path"),
    "unknown method": (["run", "method.yaml"], "cola"),
    "unknown command": (["colla"], "colla"),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_bad_flags(case, plait, tmp_path):
    (tmp_path / "method.yaml").write_text("method: kola\n")
    before = sorted(tmp_path.iterdir())
    arguments, expected = BAD_FLAGS[case]
    code, out, err = plait(*arguments)
    assert code == 2, err
    assert expected in err
    assert "Traceback" not in err
    assert out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_a_run_of_another_version(plait, tmp_path):
    from plait.orchestrator.runfolder import RunFolder

    folder = RunFolder.create(tmp_path / "run", "cola")
    info = json.loads((folder.path / "run.json").read_text())
    (folder.path / "run.json").write_text(json.dumps({**info, "format": 99}))
    code, _, err = plait("resume", folder.path)
    assert code == 2
    assert "99" in err


def test_wrong_hash(plait, tmp_path, monkeypatch):
    from plait.models.sources import source

    gguf = tmp_path / "x.gguf"
    gguf.write_bytes(b"GGUF" + b"0" * 100)
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(source.ALIASES, "mine", source.Source("mine", "gguf", str(gguf), "", "0" * 64))
    code, _, err = plait("models", "pull", "mine")
    assert code == 2
    assert "SHA-256" in err


@pytest.mark.weights
def test_an_unreachable_cluster(tmp_path):

    command = [sys.executable, "-m", "plait.orchestrator.cli", "cola", "--limit", "2", "--address", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("plait: ")
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_that_of_the_package(plait):
    from importlib.metadata import version

    assert plait("--version")[:2] == (0, f"plait {version('plait')}\n")


def test_help_names_every_command(plait):
    code, out, _ = plait("--help")
    assert code == 0
    for command in ("demo", "cola", "run", "resume", "list", "show", "report", "score", "models", "doctor", "schema"):
        assert command in out


def test_dry_run_says_what_it_would_ask(plait, tmp_path):
    code, out, _ = plait("cola", "--limit", "4", "--simulations", "10", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["search"] == 4 * 2 * 11
    assert list(tmp_path.iterdir()) == []


@pytest.mark.weights
def test_score_writes_one_row_an_item(plait, tmp_path):
    code, out, err = plait("score", "--data", "plait:questions", "--limit", "3", "--out", "s.jsonl", "--json")
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["plait-00", "plait-01", "plait-02"]
    for row in rows:
        assert len(row["sums"]) == len(row["tokens"]) == len(row["bytes"]) == 4
        assert row["by_sum"] == row["sums"].index(max(row["sums"]))
        rates = [s / t for s, t in zip(row["sums"], row["tokens"], strict=True)]
        assert row["by_token"] == rates.index(max(rates))
    assert json.loads(out)["items"] == 3


@pytest.mark.weights
def test_models_list_and_show(plait, smollm2):
    code, out, _ = plait("models", "list", "--json")
    assert code == 0
    assert any(smollm2.model_hash in line for line in out.splitlines())
