"""Scores are right or refused: broken weights, broken lines, options given twice, runs that were killed."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys

import pytest
from plait.orchestrator.runfolder import RunFolder

from . import HELD
from .many_tokenizers import folder_of

PLAIN = "byte-level BPE"
CHATTING = "{% for message in messages %}{{ '<s>' + message['content'] + '</s>' }}{% endfor %}{{ '<s>' }}"


def question(at, **changes):
    row = {"id": f"q{at}", "question": f"What is {at} + 1?", "choices": [str(at), "Paris", "A, B or C"], "answer": 1}
    return {**row, **changes}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return folder_of(PLAIN, tmp_path_factory.mktemp("sound") / "model", template=CHATTING)


@pytest.fixture
def data(tmp_path):
    def write(*rows):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / "data.jsonl").write_text("\n".join(lines))
        return "data.jsonl"

    return write


@pytest.fixture
def scored(plait, tmp_path, sound):
    def run(file, *arguments, model=sound):
        code, out, err = plait("score", "--model", model, "--data", file, "--out", "scores.jsonl", *arguments)
        assert "Traceback" not in err
        place = tmp_path / "scores.jsonl"
        return code, [json.loads(line) for line in place.read_text().splitlines()] if place.exists() else [], out, err

    return run


class TestNotFinite:
    """One broken weight is a failure of every path through it, and of nothing else."""

    pytestmark = pytest.mark.row("A: one NaN weight")

    @pytest.fixture(scope="class", params=[math.nan, math.inf, -math.inf, 3e38])
    def broken(self, request, tmp_path_factory):
        place = tmp_path_factory.mktemp("broken") / "model"
        return folder_of(PLAIN, place, layers=3, template=CHATTING, broken=(1, request.param))

    def test_score_predicts_nothing_and_says_why(self, broken, scored, data):
        code, rows, _, err = scored(data(*map(question, range(3))), model=broken)
        assert (code, rows) == (1, [])
        assert "data.jsonl:1" in err
        assert "nan" in err.lower()

    @pytest.mark.row(HELD)
    def test_a_path_around_it_is_scored(self, broken, scored, data):
        code, rows, _, err = scored(data(*map(question, range(3))), "--path", "0,2", model=broken)
        assert code == 0, err
        assert all(math.isfinite(total) for row in rows for total in row["sums"])

    def test_hosts_answer_with_a_failure(self, broken):
        from plait.models.chat import CallFailed, Sampling
        from plait.models.evaluator import ScorerSpec
        from plait.models.host import Host, HostSpec
        from plait.models.host_chat import HostChat
        from plait.models.sources import ensure

        model = HostChat.over(Host(HostSpec(str(broken), ScorerSpec(ensure(str(broken)).model_hash))))
        messages = [{"role": "user", "content": "Which one, A or B?"}]

        async def reasons():
            got = []
            for call in (model.generate(messages, Sampling(max_tokens=3)), model.label_logprobs(messages, ("A", "B"))):
                try:
                    got.append(await call)
                except CallFailed as failure:
                    got.append(failure.reason)
            return got

        assert asyncio.run(reasons()) == ["NotFinite", "NotFinite"]

    @pytest.mark.ray
    def test_cola_leaves_the_questions_out(self, broken, ray_cluster, no_ray_left, tmp_path):
        from plait import CoLa

        settings = {"simulations": 3, "menu": 1, "random_baseline": False, "run": {"actors": 1}}
        result = CoLa(model=str(broken), data=[question(0), question(1)], **settings).run(tmp_path / "run")
        assert [row["id"] for row in result.data["excluded"]] == ["q0", "q1"]
        assert all("NotFinite" in row["reason"] for row in result.data["excluded"])


@pytest.mark.row("A: one NaN weight")
def test_an_evaluator_that_answers_nan_fails_the_item_and_not_the_driver(tmp_path):
    from plait.candidates import LayerPath
    from plait.orchestrator.ledger import Ledger
    from plait.orchestrator.study import Strand, Study
    from plait.orchestrator.workers import InlineWorker
    from plait.records import Failed, Scored
    from plait.search.fixed import FixedSearch

    class Half:
        name, version, spec = "half", 1, {}

        def evaluate(self, requests):
            bad = {"0": math.nan, "1": [1.0, -math.inf]}
            return [Scored({"value": bad.get(request.candidate, 2.0)}, {"seconds": 0.1}) for request in requests]

    paths = [LayerPath((layer,)) for layer in range(3)]
    ledger = Ledger(tmp_path / "ledger.db")
    result = Study([Strand("one", FixedSearch(paths), {"x": 1})], Half(), [InlineWorker(Half())], ledger).run()
    outcomes = [outcome for _, outcome in result.outcomes["one"]]
    assert [isinstance(outcome, Failed) for outcome in outcomes] == [True, True, False]
    assert outcomes[0].reason == "NotFinite"


BAD = {
    "not JSON": "{nonsense",
    "no object": "[1, 2]",
    "one choice": question(99, choices=["x"]),
    "no choices": question(99, choices=[]),
    "answer out of range": question(99, answer=3),
    "answer below 0": question(99, answer=-1),
    "answer is true": question(99, answer=True),
    "answer is a fraction": question(99, answer=1.5),
    "an id used before": question(0),
    "same choices": question(99, choices=["Paris", "Rome", "Paris"]),
    "choices that differ in spaces": question(99, choices=["Paris", " Paris", "Rome"]),
    "a blank choice": question(99, choices=["Paris", " ", "Rome"]),
    "half a surrogate pair": question(99, question="What \ud800?"),
    "longer than the context": question(99, question="word " * 600),
    "no question": {"id": "q99", "choices": ["a", "b"], "answer": 0},
    "no text": question(99, question=None),
}
"""Lines that are no question of a model with 512 tokens of context."""


class TestLines:
    """A line that cannot be scored is left out and named; the others are scored as they would be alone."""

    pytestmark = pytest.mark.row("E: one bad row loses all")

    @pytest.mark.parametrize("case", BAD)
    def test_a_bad_line_among_good_ones(self, case, scored, data):
        good = [question(at) for at in range(10)]
        alone = scored(data(*good))[1]
        where = 11 if case == "an id used before" else 5
        code, rows, out, err = scored(data(*good[: where - 1], BAD[case], *good[where - 1 :]), "--json")
        assert code == 0, err
        assert rows == alone
        assert f"data.jsonl:{where}" in err
        assert sum("plait: " in line for line in err.splitlines()) == 1
        assert json.loads(out)["excluded"][0]["line"] == where

    def test_more_than_may_fail_is_exit_code_1_with_the_rest_written(self, scored, data):
        file = data(question(0), "nonsense", question(1))
        code, rows, _, err = scored(file)
        assert code == 1
        assert [row["id"] for row in rows] == ["q0", "q1"]
        assert "--max-failures" in err

    @pytest.mark.parametrize(
        "case", [case for case in BAD if case not in ("an id used before", "longer than the context")]
    )
    def test_a_file_of_bad_lines_alone_is_refused_in_one(self, case, scored, data):
        code, rows, out, err = scored(data(BAD[case]))
        assert (code, rows, out) == (2, [], "")
        assert err.count("\n") == 1
        assert ":1" in err


@pytest.mark.row("E: duplicate choices refused")
@pytest.mark.parametrize("command", ["score", "cola"])
def test_choices_that_are_the_same_are_refused(command, plait, data, sound):
    file = data(question(0, choices=["Paris", "Rome", "Paris"], answer=2))
    code, out, err = plait(command, "--model", sound, "--data", file, *(["--dry-run"] if command == "cola" else []))
    assert code == 2, out
    assert "0 and 2" in err


@pytest.mark.row(HELD)
@pytest.mark.parametrize(
    "row",
    [
        {"id": "A", "question": "Which?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "A"},
        {"question": "Which?", "subject": "law", "choices": ["x", "y", "z", "u"], "answer": 2},
        {"ind": 4, "ctx": "She", "endings": ["runs", "sits"], "label": "1"},
        {"id": "7-980", "question_stem": "Sun", "choices": {"text": ["x"], "label": ["A"]}, "answerKey": "A"},
    ],
)
def test_rows_as_published_are_refused_in_one_short_line(row, scored, data):
    code, _, _, err = scored(data(row))
    assert code == 2
    assert err.count("\n") == 1
    assert len(err) < 400
    for field in ("id", "question", "choices", "answer"):
        assert field in err


@pytest.mark.row("E: last --path wins silently")
@pytest.mark.parametrize(
    "arguments", [["--path", "0", "--path", "1"], ["--path=0", "--path=1"], ["--limit", "1", "--limit", "2"]]
)
def test_an_option_given_twice_is_refused(arguments, scored, data):
    code, rows, _, err = scored(data(question(0)), *arguments)
    assert (code, rows) == (2, [])
    assert arguments[0].partition("=")[0] in err
    assert err.count("\n") == 1


@pytest.mark.row("E: inputs that cannot run, one line each")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--path", ""], ["--path", "0-"], ["--path", "1-0"], ["--path", "2"], ["--path", "-1"], ["--path", "0,,1"],
        ["--path", "0x0"], ["--limit", "0"], ["--limit", "-1"], ["--out", "nowhere/scores.jsonl"], ["--out", "."],
    ],
)  # fmt: skip
def test_a_bad_argument_is_refused_before_anything_is_scored(arguments, scored, data):
    code, rows, out, err = scored(data(question(0)), *arguments)
    assert (code, rows, out) == (2, [], "")
    assert err.strip()


@pytest.mark.row(HELD)
@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_refused(text, scored, data):
    code, rows, _, err = scored(data(text))
    assert (code, rows) == (2, [])
    assert err.count("\n") == 1


@pytest.mark.row("E: inputs that cannot run, one line each")
def test_questions_handed_over_in_python_are_checked_like_a_files():
    from plait import CoLa
    from plait.errors import DataError

    for rows in ([question(0, answer=7)], [question(0), question(0)], [question(0, choices=["a", "a"])], [], ["x"]):
        with pytest.raises(DataError):
            CoLa(data=rows)


def killed_run(folder):
    """Leave a run as a process that was killed leaves it: it drives the run, has begun, and is gone."""
    script = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from plait.orchestrator.runfolder import RunFolder\n"
        "run = RunFolder.create(Path(sys.argv[1]), 'cola')\n"
        "with run.driving():\n"
        "    run.settle_spec({'seed': 1})\n"
        "    Path(sys.argv[1], 'events.jsonl').write_text("
        '\'{"seq": 0, "time": "", "kind": "phase", "phase": "search", "total": 4}\\n\')\n'
        "    print('up', flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.row("E: a killed run says RUNNING for ever")
class TestKilled:
    def test_list_and_show_say_killed_and_how_to_go_on(self, plait, tmp_path):
        process = killed_run(tmp_path / "runs" / "one")
        try:
            assert "RUNNING" in plait("list")[1]
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        code, out, _ = plait("list")
        assert code == 0
        assert "RUNNING" not in out
        assert "killed, resume with: plait resume runs/one" in out
        row = json.loads(plait("list", "--json")[1])
        assert (row["status"], row["next"]) == ("KILLED", "plait resume runs/one")
        assert "plait resume runs/one" in plait("show", "runs/one")[1]
        assert json.loads(plait("show", "runs/one", "--json")[1])["status"] == "KILLED"

    def test_following_a_killed_run_ends(self, plait, tmp_path):
        process = killed_run(tmp_path / "runs" / "one")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        arguments = [sys.executable, "-m", "plait.orchestrator.cli", "show", "--follow", str(tmp_path / "runs" / "one")]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
        assert "killed" in done.stdout

    def test_looking_at_a_run_keeps_nobody_from_driving_it(self, plait, tmp_path):
        run = RunFolder.create(tmp_path / "runs" / "one", "cola")
        for _ in range(3):
            assert plait("list")[0] == 0
            with run.driving():
                assert "RUNNING" in plait("list")[1]


@pytest.mark.row("E: phases that only measure show 0/N right")
def test_a_phase_without_rewards_counts_nobody_right(tmp_path, capsys, monkeypatch):
    from plait.candidates import LayerPath
    from plait.orchestrator import progress
    from plait.orchestrator.events import Event
    from plait.orchestrator.ledger import Ledger
    from plait.orchestrator.study import Strand, Study
    from plait.orchestrator.workers import InlineWorker
    from plait.records import Scored
    from plait.search.fixed import FixedSearch

    class Ones:
        name, version, spec = "ones", 1, {}

        def evaluate(self, requests):
            return [Scored({"sums": [1.0]}) for _ in requests]

    def rewarded(trial, outcome):
        return Scored({"reward": 1.0})

    monkeypatch.setattr(progress, "QUIET_SECONDS", -1.0)
    lines = []
    for objective in ({}, {"objective": rewarded}):
        shown = progress.Progress()
        shown(Event(0, "", "phase", {"phase": "menu", "strands": 1, "total": 2}))
        events = lambda kind, fields, shown=shown: shown(Event(0, "", kind, fields))  # noqa: E731
        strand = Strand("one", FixedSearch([LayerPath((0,)), LayerPath((1,))]), {"x": len(lines)}, **objective)
        ledger = Ledger(tmp_path / f"ledger{len(lines)}.db")
        Study([strand], Ones(), [InlineWorker(Ones())], ledger, events=events, total=2).run()
        lines.append(capsys.readouterr().err)
    assert "right" not in lines[0]
    assert "1/1 right" in lines[1]


@pytest.mark.row("E: no chat template in score")
def test_without_a_chat_template_the_prompt_is_the_text_and_with_one_it_is_the_turn(scored, data):
    file = data(*map(question, range(3)))
    plain, chat = scored(file)[1], scored(file, "--chat-template")[1]
    assert len(plain) == len(chat) == 3
    assert [row["sums"] for row in plain] != [row["sums"] for row in chat]


@pytest.mark.row("E: every spec field has a flag or is named")
def test_an_unknown_option_names_how_the_field_is_set(plait):
    code, _, err = plait("cola", "--window", "4")
    named = "--set run.window=" in err  # apart: what typer says of an unknown option is none of this test's names
    assert (code, named) == (2, True)
