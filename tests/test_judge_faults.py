"""A fifth of a judge's calls fail or return garbage: nothing is invented, caps hold, kill -9 changes no byte."""

import json
import random
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from fault_server import FaultServer
from judge_server import scripted
from plait import Judge
from plait.agents.judges.decision import Ballot, Ballots, decide
from plait.agents.judges.parsing import scores
from plait.candidates import NETWORKS
from plait.orchestrator.recipes.judge_records import ItemVerdict

PAIRS = [
    {"id": f"p{i}", "query": f"What is {i} plus one?", "response1": str(i + 1), "response2": f"{i + 2}, surely.",
     "human": ("model1", "model2", "tie")[i % 3]}
    for i in range(16)
]  # fmt: skip
SETTINGS = {"network": "paper", "run": {"retries": 2, "max_failures": 1.0}}
TYPED = {"Unparsable", "Refused", "ServerError", "BadRequest"}


@contextmanager
def serving(port: int = 0, latency: float = 0.02):
    """Serve faults from a process of its own; yields the port."""
    command = [sys.executable, Path(__file__).with_name("judge_server.py"), "--faults"]
    command += ["--port", str(port), "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def files(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("verdicts.jsonl", "result.json")]


def driver(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "plait.orchestrator.cli", *map(str, arguments), "--quiet"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def start(pairs: Path, port: int, out: Path) -> subprocess.Popen:
    flags = ["--model", f"openai:judge@http://127.0.0.1:{port}/v1", "--network", "paper", "--max-failures", 1]
    return driver("judge", pairs, *flags, "--set", "run.retries=2", "--out", out)


def ended(process: subprocess.Popen) -> None:
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """(pairs, port, folder) of an undisturbed run under faults."""
    place = tmp_path_factory.mktemp("calm")
    (place / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    with serving() as port:
        ended(start(place / "pairs.jsonl", port, place / "run"))
    return place / "pairs.jsonl", port, place / "run"


@pytest.fixture(scope="module")
def verdicts(calm) -> list[ItemVerdict]:
    return [ItemVerdict.model_validate_json(line) for line in files(calm[2])[0].decode().splitlines()]


def outcomes(verdicts):
    """Yield (network, outcome) of every row and baseline."""
    for row in verdicts:
        yield NETWORKS["paper"], row.network
        for name, outcome in row.baselines.items():
            yield NETWORKS[name].model_copy(update={"scoring": "text"}), outcome


def test_the_faults_are_met(verdicts):
    failures = sum((Counter(outcome.failures) for _, outcome in outcomes(verdicts)), Counter())
    assert set(failures) == TYPED
    asked = sum(len(outcome.ballots) for _, outcome in outcomes(verdicts)) + failures.total()
    assert 0.08 < failures.total() / asked < 0.25
    assert {outcome.verdict == "abstain" for _, outcome in outcomes(verdicts)} == {True, False}


def test_every_verdict_is_that_of_its_ballots_and_every_ballot_the_judges_own_words(verdicts):
    for network, outcome in outcomes(verdicts):
        cast = tuple(Ballot(**ballot.model_dump(exclude={"text"})) for ballot in outcome.ballots)
        if outcome.verdict == "abstain" and outcome.reason in TYPED:
            assert len(cast) < max(1, network.quorum * outcome.expected) or not outcome.expected
        elif outcome.verdict == "abstain":
            assert outcome.reason == "no neuron answered in both orders"
            assert set(Counter((ballot.layer, ballot.neuron) for ballot in cast).values()) == {1}
        else:
            assert decide(Ballots(cast=cast, expected=outcome.expected), network).label == outcome.verdict
            assert len(cast) + sum(outcome.failures.values()) == outcome.expected
        for ballot in outcome.ballots:
            read = scores(ballot.text, ())
            assert (read == (ballot.first, ballot.second)) if ballot.via == "text" else read is None


def test_first_layers_say_what_they_say_without_faults(verdicts, tmp_path):
    """What fails takes nothing else with it: every other ballot of the first layer is the undisturbed one."""
    with FaultServer(scripted()) as server:
        rows = Judge(f"openai:judge@{server.url}", PAIRS, **SETTINGS).run(tmp_path / "run").items
    kept = 0
    for faulty, sound in zip(verdicts, rows, strict=True):
        whole = {(b.layer, b.neuron, b.order): b for b in sound.network.ballots}
        for ballot in faulty.network.ballots:
            if ballot.layer == 1 and ballot.via == "text":
                assert ballot.model_dump(exclude={"model"}) == whole[1, ballot.neuron, ballot.order].model_dump(
                    exclude={"model"}
                )
                kept += 1
    assert kept > 40


def test_coverage_and_bounds_count_what_failed(calm, verdicts):
    (network, *_) = json.loads(files(calm[2])[1])["summary"]["judges"]
    judged = [row for row in verdicts if row.network.verdict != "abstain"]
    right = sum(row.network.verdict == row.human for row in judged)
    assert 0 < len(judged) < len(PAIRS)
    assert network["judged"] == len(judged)
    assert network["coverage"] == pytest.approx(len(judged) / len(PAIRS), abs=1e-6)
    assert network["reasons"] == Counter(row.network.reason for row in verdicts if row.network.verdict == "abstain")
    worst, best = right / len(PAIRS), (right + len(PAIRS) - len(judged)) / len(PAIRS)
    assert sorted(network["bounds"]["accuracy"].values()) == pytest.approx([worst, best], abs=1e-6)


@pytest.mark.parametrize("limits", [{"budget_calls": 60}, {"budget_tokens": 2500}, {"item_calls": 9}])
def test_caps_hold_under_faults_at_the_server_too(limits, tmp_path):
    with FaultServer(scripted(faults=True)) as server:
        settings = {**SETTINGS, "run": {**SETTINGS["run"], **limits}}
        result = Judge(f"openai:judge@{server.url}", PAIRS, **settings).run(tmp_path / "run")
        calls, spent = server.calls, result.timing["spent"]
        assert calls > 0
        if "item_calls" in limits:
            assert result.status == "SUCCEEDED"
            asked = Counter(re.search(r"What is (\d+) plus", str(body["messages"]))[1] for body in server.requests)
            assert max(asked.values()) <= 9 * 3, "an item is put to three networks"
            assert any("BudgetReached" in item.network.failures for item in result.items)
        else:
            assert (result.status, result.data["stop_reason"][:6]) == ("STOPPED", "budget")
            assert calls <= limits.get("budget_calls", calls)
            assert spent["tokens"] <= limits.get("budget_tokens", spent["tokens"])
        assert spent["calls"] == calls, "every call that the server saw is counted, those that failed too"


def recorded(folder: Path) -> int:
    file = folder / "ledger.db"
    if not file.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM outcomes").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_point_and_resumed_the_bytes_are_the_same(seed, calm, tmp_path):
    pairs, port, folder = calm
    rng = random.Random(seed)
    with serving(port):
        process, known = start(pairs, port, tmp_path / "run"), 0
        for _ in range(2):
            point = known + rng.randrange(1, 90)
            until = time.monotonic() + 60
            while recorded(tmp_path / "run") < point and process.poll() is None:
                assert time.monotonic() < until, "waited in vain"
                time.sleep(0.005)
            assert process.poll() is None, f"it ended before it could be killed: {process.stderr.read()}"
            process.kill()
            process.communicate()
            known = recorded(tmp_path / "run")
            assert known >= point
            assert not (tmp_path / "run" / "result.json").exists()
            process = driver("resume", tmp_path / "run")
        ended(process)
    assert files(tmp_path / "run") == files(folder)
    counts = json.loads((tmp_path / "run" / "timing.json").read_text())["counts"]
    assert counts["found"] >= known, "what was recorded is not paid again"
