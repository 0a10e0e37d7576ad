"""The password of a ledger's URL is in no file of a run folder, however it is written."""

import json

import pytest
from plait.orchestrator.runfolder import RunFolder

WORD = "planted-pw-77"
URLS = {
    f"postgresql+psycopg://me:{WORD}@host:5432/db": "postgresql+psycopg://me@host:5432/db",
    f"postgresql+psycopg://me:a@{WORD}/b#c@host/db": "postgresql+psycopg://me@host/db",
    f"postgresql+psycopg://:{WORD}@host/db": "postgresql+psycopg://@host/db",
    f"postgresql+psycopg:///db?user=me&password={WORD}&host=h": "postgresql+psycopg:///db?user=me&host=h",
    "postgresql+psycopg://me@host/db": "postgresql+psycopg://me@host/db",
    "sqlite:///a:b@c.db": "sqlite:///a:b@c.db",
    "a:b@c.db": "a:b@c.db",
}


@pytest.mark.parametrize("url", URLS)
def test_a_spec_is_written_without_it(url, tmp_path):
    folder = RunFolder.create(tmp_path / "run", "judge")
    spec = {"seed": 1, "run": {"ledger": url, "actors": 2}}
    folder.settle_spec(spec)
    folder.settle_spec(spec)  # as a resumed run does
    assert folder.spec() == {"seed": 1, "run": {"ledger": URLS[url], "actors": 2}}
    assert spec["run"]["ledger"] == url, "the run itself goes on with the password"


def test_no_file_of_a_run_and_no_line_holds_it(plait, tmp_path):
    pair = {"id": "a", "query": "q", "response1": "x", "response2": "y"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair))
    flags = ["--network", "paper", "--model", "openai:m@http://127.0.0.1:9/v1", "--out", "run"]
    url = f"postgresql+psycopg://me:{WORD}@127.0.0.1:9/db"
    code, out, err = plait("judge", "pairs.jsonl", *flags, "--set", f"run.ledger={url}")
    assert code == 4, err
    assert (tmp_path / "run" / "spec.json").exists()
    files = [file.read_text() for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert not [text for text in (*files, out, err) if WORD in text]
