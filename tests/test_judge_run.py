"""Judge runs with real parts: the command line, budgets, resuming, `compare`, a model of ours on a Ray host."""

import asyncio
import json
import math
import pickle

import pytest
from fault_server import FaultServer, answer, completion, status
from judge_server import opinion, scripted, text
from plait import Judge
from plait.agents.judges.wording import Wording
from plait.candidates import JudgeNetwork
from plait.errors import DataError, SpecError
from plait.orchestrator.recipes.judge_data import Pair
from plait.orchestrator.recipes.judge_graphs import GraphMaker

PAIRS = [
    {"id": f"p{i}", "query": f"What is {i} plus one?", "response1": str(i + 1), "response2": f"{i + 2}, surely.",
     "human": ("model1", "model1", "model2")[i % 3]}
    for i in range(6)
]  # fmt: skip
KEY = "plait-test-key-8161"
FLAGS = ["--network", "paper", "--quiet"]


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def pairs(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return file


@pytest.fixture
def server():
    with FaultServer(scripted()) as running:
        yield running


def at(server: FaultServer) -> list[str]:
    return ["--model", f"openai:judge@{server.url}"]


def rows(folder):
    return [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]


def one_line(err: str) -> str:
    """Return the one line of an error."""
    assert "Traceback" not in err
    (line,) = err.splitlines()
    assert line.startswith("plait: ")
    return line


LINES = [json.dumps(pair) for pair in PAIRS[:2]]
BAD_DATA = {
    "not UTF-8": (b"\xff\xfe\n", "UTF-8"),
    "empty": (b"\n\n", "no pair"),
    "malformed line": (f"{LINES[0]}\n{{oops\n".encode(), ":2"),
    "not an object": (f"{LINES[0]}\n\n[1]\n".encode(), ":3"),
    "duplicate id": (f"{LINES[0]}\n{LINES[0]}\n".encode(), "line 1"),
    "no second answer": (json.dumps({"id": "a", "query": "q", "response1": "x"}).encode(), "response2"),
    "a label that is a list": (json.dumps({"response1": "x", "response2": "y", "label": [1]}).encode(), "model1"),
    "a label that is a truth": (json.dumps({"response1": "x", "response2": "y", "label": True}).encode(), "model1"),
    "nested too deep": (b"[" * 100_000, ":1"),
    "a number of 5,000 digits": (b'{"id": %s}' % (b"1" * 5000), ":1"),
    "half a surrogate pair": (json.dumps({**PAIRS[0], "response1": "\ud800"}).encode(), "surrogate"),
    "an id with a separator": (json.dumps({**PAIRS[0], "id": "p\x1fsingle"}).encode(), "separator"),
    "label of another kind": (json.dumps({**PAIRS[0], "human": "A"}).encode(), "model1"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_pairs_are_one_line_and_nothing_is_written(case, plait, tmp_path, server):
    raw, expected = BAD_DATA[case]
    (tmp_path / "bad.jsonl").write_bytes(raw)
    code, out, err = plait("judge", "bad.jsonl", *at(server), "--out", "run")
    assert (code, out) == (2, "")
    line = one_line(err)
    assert expected in line
    assert "bad.jsonl" in line
    assert [file.name for file in tmp_path.iterdir()] == ["bad.jsonl"]
    assert server.calls == 0


BAD_LABELS = {
    "labels of another set": ([{"id": "stranger", "human": "tie"}], "stranger"),
    "two labels for one": ([{"id": "p0", "human": "tie"}, {"id": "p0", "human": "tie"}], ":2"),
    "no label": ([{"id": "p0", "human": "both"}], "model1"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels_are_one_line_and_nothing_is_written(case, plait, pairs, tmp_path, server):
    labels, expected = BAD_LABELS[case]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, labels)))
    code, out, err = plait("judge", pairs, *at(server), "--labels", "labels.jsonl", "--out", "run")
    assert (code, out) == (2, "")
    line = one_line(err)
    assert expected in line
    assert "labels.jsonl" in line
    assert not (tmp_path / "run").exists()


BAD_FLAGS = {
    "missing file": (["nowhere.jsonl"], "nowhere.jsonl"),
    "unknown network": (["pairs.jsonl", "--network", "papre"], "paper?"),
    "unknown baseline": (["pairs.jsonl", "--set", "baselines=[singel]"], "single?"),
    "unknown family": (["pairs.jsonl", "--set", "shape.family=sumary"], "summary?"),
    "unknown shape": (["pairs.jsonl", "--set", "shape.dept=2"], "depth?"),
    "unknown key": (["pairs.jsonl", "--set", "netwrok=paper"], "network?"),
    "unknown run key": (["pairs.jsonl", "--set", "run.budget_token=3"], "budget_tokens?"),
    "no angles": (["pairs.jsonl", "--roles", ","], "--roles"),
    "angles missing": (["pairs.jsonl", "--set", "shape.roles=given"], "angles"),
    "unknown model": (["pairs.jsonl", "--model", "smollm2-135"], "smollm2-135m"),
    "no model name": (["pairs.jsonl", "--model", "openai:"], "openai:NAME"),
    "no address": (["pairs.jsonl", "--model", "openai:x@nowhere"], "http"),
    "missing recording": (["pairs.jsonl", "--model", "replay:nowhere.jsonl"], "nowhere.jsonl"),
    "missing prompts": (["pairs.jsonl", "--prompts", "nowhere"], "nowhere"),
    "missing prices": (["pairs.jsonl", "--model", "openai:x@http://127.0.0.1:9/v1", "--prices", "no.yaml"], "no.yaml"),
    "negative budget": (["pairs.jsonl", "--budget-tokens", "-1"], "budget_tokens"),
    "no pairs asked for": (["pairs.jsonl", "--limit", "0"], "limit"),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_bad_flags_are_one_line_and_nothing_is_written(case, plait, pairs, tmp_path):
    arguments, expected = BAD_FLAGS[case]
    code, out, err = plait("judge", *arguments, "--out", "run")
    assert (code, out) == (2, ""), err
    assert expected in one_line(err)
    assert [file.name for file in tmp_path.iterdir()] == [pairs.name]


def test_money_without_a_price_is_refused_before_anything_is_asked(plait, pairs, tmp_path, server):
    (tmp_path / "prices.yaml").write_text("another: {prompt: 1, completion: 2}\n")
    for extra in ([], ["--prices", "prices.yaml"]):
        code, out, err = plait("judge", pairs, *at(server), *FLAGS, *extra, "--budget-usd", "1", "--out", "run")
        assert (code, out) == (2, "")
        assert "judge" in one_line(err)
        assert "price" in err
    assert server.calls == 0
    assert not (tmp_path / "run").exists()


def test_letters_of_a_model_without_log_probabilities_are_refused(plait, pairs, tmp_path, server):
    code, out, err = plait("judge", pairs, *at(server), "--network", "wide", "--out", "run")
    assert (code, out) == (2, "")
    assert "log-probabilities" in one_line(err)
    assert not (tmp_path / "run").exists()


def no_key_in(folder) -> bool:
    return not any(KEY.encode() in file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_a_wrong_key_is_asked_once_a_node_and_ends_with_1(plait, pairs, tmp_path):
    with FaultServer([status(401, f"bad key {KEY}")]) as server:
        flags = ["--network", "single", "--set", "shape.scoring=text", "--set", "baselines=[]", "--quiet"]
        code, _, err = plait("judge", pairs, *at(server), *flags, "--out", "run")
        assert code == 1
        assert "100.0 % of the evaluations failed" in one_line(err)
        assert server.calls == 2 * len(PAIRS)
        assert {(row["network"]["verdict"], row["network"]["reason"]) for row in rows(tmp_path / "run")} == {
            ("abstain", "Unauthorized")
        }
        assert no_key_in(tmp_path)
        code, _, err = plait("judge", pairs, *at(server), "--network", "single", "--out", "letters")
        assert code == 1
        assert "OPENAI_API_KEY was refused" in one_line(err)
        assert server.calls == 2 * len(PAIRS) + 1, "letters ask what the model can do, and hear of the key at once"
        assert not (tmp_path / "letters").exists()


def test_a_run_writes_a_row_an_item_in_order_and_paid_calls_are_never_paid_again(plait, pairs, tmp_path, server):
    code, out, err = plait("judge", pairs, *at(server), "--network", "paper", "--out", "run", "--json")
    assert (code, err) == (0, ""), err
    events = [json.loads(line) for line in out.splitlines()]
    assert events[0] == {"event": "launch"}
    assert (events[-1]["event"], events[-1]["status"]) == ("done", "SUCCEEDED")
    found = rows(tmp_path / "run")
    assert [row["id"] for row in found] == [pair["id"] for pair in PAIRS]
    for row in found:
        assert len(row["network"]["ballots"]) == row["network"]["expected"] == 2 * 3 * 2
        assert set(row["baselines"]) == {"single", "faireval"}
    paid, before = server.calls, (tmp_path / "run" / "result.json").read_bytes()
    assert paid == 6 * (1 + 12 + 2 + 6)
    assert plait("resume", "run", "--quiet")[0] == 0
    assert plait("judge", pairs, *at(server), *FLAGS, "--out", "run")[0] == 0
    assert server.calls == paid
    assert (tmp_path / "run" / "result.json").read_bytes() == before
    assert json.loads((tmp_path / "run" / "timing.json").read_text())["counts"]["paid"] == 0
    assert "<html" in (tmp_path / "run" / "report.html").read_text()


def test_empty_and_overlong_answers_abstain_and_the_others_go_on(plait, tmp_path):
    def script(index, body):
        if "endless" in body["messages"][-1]["content"]:
            return status(400, "This model's maximum context length is 4096 tokens", error="context_length_exceeded")
        return text(opinion(body["messages"]))

    odd = [{**PAIRS[0], "response2": " \n"}, PAIRS[1], {**PAIRS[2], "response1": "endless " * 5000}, PAIRS[3]]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, odd)))
    with FaultServer(script) as server:
        code, _, err = plait(
            "judge", "pairs.jsonl", *at(server), *FLAGS, "--out", "run", "--roles", "truth,form", "--max-failures", "1"
        )
    assert code == 0, err
    networks = [row["network"] for row in rows(tmp_path / "run")]
    assert [one["verdict"] == "abstain" for one in networks] == [True, False, True, False]
    assert [one["reason"] for one in networks] == ["EmptyAnswer", "", "TooLong", ""]
    assert networks[2]["failures"] == {"TooLong": 8}
    assert networks[0]["ballots"] == networks[2]["ballots"] == []


@pytest.mark.parametrize("limit", [1, 1500, 2200])
def test_a_token_budget_is_never_passed_and_resuming_completes_it(limit, plait, pairs, tmp_path, server):
    assert plait("judge", pairs, *at(server), *FLAGS, "--out", "calm")[0] == 0
    calm, whole = (tmp_path / "calm" / "result.json").read_bytes(), server.calls
    code, _, err = plait("judge", pairs, *at(server), *FLAGS, "--budget-tokens", limit, "--out", "run")
    assert code == 3, err
    partial = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (partial["status"], partial["stop_reason"]) == ("STOPPED", "budget: tokens")
    assert {row["network"]["reason"] for row in rows(tmp_path / "run")} <= {"", "BudgetReached"}
    assert json.loads((tmp_path / "run" / "timing.json").read_text())["spent"]["tokens"] <= limit
    assert 9 * (server.calls - whole) <= limit, "the server counts 9 tokens a call"
    assert plait("resume", "run", "--quiet", "--partial-ok")[0] == 0, "under the same limit it stops again"
    assert 9 * (server.calls - whole) <= limit
    assert plait("resume", "run", "--quiet", "--set", "run.budget_tokens=null")[0] == 0
    assert (tmp_path / "run" / "result.json").read_bytes() == calm
    assert server.calls == 2 * whole


def test_compare_answers_at_once_and_inside_a_loop(server):
    with Judge(f"openai:judge@{server.url}", network="paper") as judge:
        one = judge.compare("Why?", "Because.", "No idea.")
        paid = server.calls
        again = asyncio.run(judge.compare_async("Why?", "Because.", "No idea."))
        assert one == again
        assert (paid, server.calls) == (13, 13), "the same question is paid once"
        assert one.verdict in {"model1", "model2", "tie"}
        assert judge.compare("Why?", " ", "No idea.").reason == "EmptyAnswer"
        assert server.calls == 13


def letters(index, body):
    """Answer with letters and their log-probabilities, the word that a probe wants repeated too."""
    said = body["messages"][-1]["content"]
    if not body.get("logprobs"):
        return text("hello")
    shares = {"A": 0.6, "B": 0.3, "C": 0.05}
    if "Repeat this word" in said:
        shares = {said.split('"')[1]: 0.9, "other": 0.05}
    tops = [{"token": token, "logprob": math.log(share)} for token, share in shares.items()]
    reply = completion("x")
    reply["choices"][0]["logprobs"] = {"content": [{**tops[0], "top_logprobs": tops}]}
    return answer(reply)


def test_comparisons_share_what_was_asked_of_a_model_and_one_budget():
    with FaultServer(letters) as server:
        model, run = f"openai:judge@{server.url}", {"budget_calls": 4}
        with Judge(model, network="single", baselines=(), run=run) as judge:
            assert judge.compare("q0", "a", "b").verdict == "tie"
            probed = server.calls - 2
            assert probed > 0
            assert judge.compare("q1", "a", "b").verdict == "tie"
            assert server.calls == probed + 4, "the model was asked once what it can do"
            last = judge.compare("q2", "a", "b")
            assert (last.verdict, last.reason) == ("abstain", "BudgetReached")
            assert server.calls == probed + 4


def test_comparisons_side_by_side_pay_the_same_question_once():
    with FaultServer(scripted(latency=0.05)) as server:

        async def three(judge):
            return await asyncio.gather(*(judge.compare_async("Why?", "Because.", "No idea.") for _ in range(3)))

        flags = {"network": "single", "shape": {"scoring": "text"}}
        with Judge(f"openai:judge@{server.url}", **flags) as judge:
            found = asyncio.run(three(judge))
    assert len({one.model_dump_json() for one in found}) == 1
    assert server.calls == 2


def test_a_comparison_whose_opening_failed_can_be_tried_again(tmp_path, server):
    prices = tmp_path / "prices.yaml"
    with Judge(f"openai:judge@{server.url}", network="paper", prices=str(prices)) as judge:
        with pytest.raises(SpecError, match=r"prices\.yaml"):
            judge.compare("Why?", "Because.", "No idea.")
        prices.write_text("judge: {prompt: 1, completion: 2}\n")
        assert judge.compare("Why?", "Because.", "No idea.").verdict in {"model1", "model2", "tie"}


def test_pairs_in_memory_are_checked_as_those_of_a_file_and_take_labels(tmp_path):
    with pytest.raises(DataError, match=r"judge.data: row 3: id: got 'p0', expected an id not used before \(row 1\)"):
        _ = Judge(data=[*PAIRS[:2], PAIRS[0]]).pairs
    with pytest.raises(DataError, match=r"judge\.data: row 2: response2"):
        _ = Judge(data=[PAIRS[0], {"id": "a", "response1": "x"}]).pairs
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"id": "p1", "human": "tie"}\n')
    assert [pair.human for pair in Judge(data=PAIRS[:3], labels=str(labels)).pairs] == ["model1", "tie", "model2"]
    labels.write_text('{"id": "stranger", "human": "tie"}\n')
    with pytest.raises(DataError, match="stranger"):
        _ = Judge(data=PAIRS[:3], labels=str(labels)).pairs


def test_a_resumed_run_of_the_environments_endpoint_is_refused_at_another(plait, pairs, tmp_path, server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert plait("judge", pairs, "--model", "openai:judge", *FLAGS, "--limit", "1", "--out", "run")[0] == 0
    (found,) = json.loads((tmp_path / "run" / "spec.json").read_text())["resolved"]["models"]
    assert found == {"name": "openai:judge", "base_url": server.url}
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    code, _, err = plait("resume", "run", "--quiet")
    assert code == 2
    assert "127.0.0.1:9" in one_line(err)


def test_a_dry_run_counts_repairs_and_is_called_an_estimate(plait, pairs):
    def mute(index, body):
        return text("7 3" if "two scores alone" in body["messages"][-1]["content"] else "They are alike.")

    flags = ["--network", "paper", "--roles", "truth,form", "--set", "baselines=[]", "--limit", "1", "--quiet"]
    with FaultServer(mute) as server:
        code, out, _ = plait("judge", pairs, *at(server), *flags, "--dry-run", "--json")
        assert (code, server.calls) == (0, 0)
        assert plait("judge", pairs, *at(server), *flags, "--out", "run")[0] == 0
    plan = json.loads(out)
    assert plan["calls"] == server.calls == 2 * 2 * 2 * 2
    assert plan["kind"].startswith("estimate")
    letters = Judge(data=PAIRS[:1], network="single", baselines=()).plan()
    assert letters["calls"] == 2
    assert plan["tokens"] > 10 * letters["tokens"]


def test_graphs_have_names_of_their_own_and_carry_their_prompts(tmp_path):
    (tmp_path / "judge.txt").write_text("Own words about {{ angles | join(', ') }}.")
    network = JudgeNetwork(roles="given", angles=("tone",), depth=1)
    networks = {"": network, "single": network}
    made = pickle.dumps(GraphMaker(networks, ("m",), Wording(tmp_path), 0, frozenset()))
    (tmp_path / "judge.txt").unlink()
    make = pickle.loads(made)
    pairs = [Pair(id=id_, response1="a", response2="b") for id_ in ("x", "x/single")]
    graphs = [make((pair, name)) for pair in pairs for name in networks]
    assert len({graph.item for graph in graphs}) == 4
    (node, *_) = graphs[0].nodes.values()
    assert node.task.wording.review("qa", "q", "a", "b", ["tone"])[1]["content"].endswith("Own words about tone.")


@pytest.mark.ray
@pytest.mark.weights
def test_a_model_of_ours_judges_on_a_host_and_compare_agrees(ray_cluster, no_ray_left, plait, pairs, smollm2, tmp_path):
    flags = ["--network", "single", "--actors", "1", "--limit", "2", "--quiet", "--out", "run"]
    code, _, err = plait("judge", pairs, *flags)
    assert code == 0, err
    before, found = (tmp_path / "run" / "result.json").read_bytes(), rows(tmp_path / "run")
    assert plait("resume", "run", "--quiet")[0] == 0
    assert (tmp_path / "run" / "result.json").read_bytes() == before
    timing = json.loads((tmp_path / "run" / "timing.json").read_text())
    assert (timing["counts"]["paid"], timing["counts"]["found"]) == (0, 4)
    pair = PAIRS[0]
    with Judge(network="single", run={"actors": 1}) as judge:
        told = asyncio.run(judge.compare_async(pair["query"], pair["response1"], pair["response2"]))
        assert judge.compare(pair["query"], pair["response2"], pair["response1"]).margin == pytest.approx(-told.margin)
    assert json.loads(told.model_dump_json()) == found[0]["network"]


def test_a_judge_that_was_stopped_can_run_again(server, tmp_path):
    judge = Judge(data=PAIRS[:2], model=f"openai:judge@{server.url}", network="paper")
    judge.request_stop("before it began")
    assert judge.run(tmp_path / "run").status == "STOPPED"
    assert judge.status == "STOPPED"
    assert judge.run(tmp_path / "run").status == "SUCCEEDED"
