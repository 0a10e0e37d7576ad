"""Judges behind servers that others wrote, llama.cpp's and vLLM's, beside the host on the same weights.

`tests/real_servers.sh FOLDER` makes the servers; PLAIT_REAL_SERVERS names the folder. llama.cpp computes in the file's
four bits and rounds what flows between layers, the host in float32 with the same weights; vLLM computes in float32.
"""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

import pytest
from plait import Judge
from plait.agents.judges.tasks import INSIDE
from plait.models.chat import Capabilities
from plait.models.endpoint import EndpointChat
from plait.orchestrator.loops import run_blocking
from plait.orchestrator.recipes.judge_data import SHIPPED

PLACE = Path(os.environ.get("PLAIT_REAL_SERVERS", "/nowhere"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.weights,
    pytest.mark.ray,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not (PLACE / "llama").is_dir(),
        reason="PLAIT_REAL_SERVERS names no folder that tests/real_servers.sh made",
    ),
]
PAIRS = 20
CLOSE = 0.05
"""How far a server's probability of a letter may be from the host's."""
REASONS = {"Unparsable", "Truncated", "OutsideLabels", "Empty", "Refused", "TooLong"}
"""Why a pair may be left without a verdict: the model's own doing, not the connection's."""
PROMPTS = {
    "system": "You are a grader. You reply with two numbers.",
    "judge": "Grade both answers for {{ angles | join(', ') }}, 1 to 10.",
    "repair": "Write the two grades as two numbers, for example: 6 4",
}
LETTERS = {"network": "single"}
TEXTS = {
    "network": "single",
    "shape": {"roles": "given", "angles": ("correctness",), "depth": 1, "scoring": "text", "max_tokens": 24},
}


@contextmanager
def running(command, environment, ready):
    """Run a server; yield what follows `ready` in the line in which it says that it is there."""
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    found: Queue[str] = Queue()
    printed: list[str] = []

    def read() -> None:
        for line in process.stdout:  # to the end: a full pipe would stop the server
            printed.append(line)
            if ready in line:
                found.put((line.partition(ready)[2].split() or [""])[0])

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        deadline = time.monotonic() + 600
        while True:
            try:
                yield_value = found.get(timeout=1)
                break
            except Empty:
                assert process.poll() is None, "".join(printed)[-3000:]
                assert time.monotonic() < deadline, "".join(printed)[-3000:]
        yield yield_value
    finally:
        process.terminate()
        process.wait(60)
        reader.join(10)


def wait_until_healthy(address):
    """Wait until a server that says it has started also listens."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return urllib.request.urlopen(address, timeout=60).close()
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens at {address}"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def llama():
    script = Path(__file__).with_name("llama_server.py")
    with running([PLACE / "llama/bin/python", script, PLACE / "smollm2.gguf"], {}, "listening on ") as address:
        yield f"{address}/v1"


@pytest.fixture(scope="module")
def vllm(smollm2):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PLACE / "vllm/bin/python", "-m", "vllm.entrypoints.openai.api_server", "--model", smollm2.folder]
    command += ["--served-model-name", "smollm2", "--dtype", "float32", "--enforce-eager", "--max-model-len", "2048"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
    }  # fmt: skip
    with running([*map(str, command)], environment, "Application startup complete"):
        wait_until_healthy(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}/v1"


SERVERS = pytest.mark.parametrize("server", ["llama", "vllm"])


def judged(model, out, **settings):
    """Return the outcomes of the first pairs."""
    made = Judge(model, SHIPPED, **settings, limit=PAIRS, baselines=(), run={"actors": 1, "concurrency": 4})
    return [item.network for item in made.run(out).items]


@pytest.fixture(scope="module")
def host_letters(ray_cluster, tmp_path_factory):
    return judged("smollm2-135m", tmp_path_factory.mktemp("host") / "run", **LETTERS)


@SERVERS
def test_the_probe_finds_what_a_server_can_do(server, request):
    async def known():
        model = EndpointChat("smollm2", request.getfixturevalue(server))
        try:
            return await model.capabilities(), model.adapted
        finally:
            await model.close()

    capabilities, adapted = run_blocking(known)
    expected = Capabilities(label_logprobs=True, top_logprobs=20, seed=True, structured=True, continues=True)
    assert capabilities == Capabilities(**{**vars_of(expected), "context": capabilities.context})
    assert capabilities.context in {2048, 4096, 8192}
    assert adapted == ()


def vars_of(capabilities):
    return {name: getattr(capabilities, name) for name in Capabilities.__slots__}


def label_probabilities(ballot):
    """Return the probabilities of the three letters, as the model has them: ballots hold shares of the three."""
    return [share * ballot.inside for share in (ballot.first, ballot.second, ballot.tie)]


@SERVERS
def test_letters_are_read_as_the_host_reads_them(server, request, host_letters, tmp_path):
    address = request.getfixturevalue(server)
    served = judged(f"openai:smollm2@{address}", tmp_path / "run", **LETTERS)
    far, outside = [], 0
    for mine, other in zip(host_letters, served, strict=True):
        ballots = {ballot.order: ballot for ballot in other.ballots}
        for ballot in mine.ballots:
            if ballot.order in ballots:
                pairs = zip(label_probabilities(ballot), label_probabilities(ballots[ballot.order]), strict=True)
                far.append(max(abs(one - two) for one, two in pairs))
            else:  # letters with less than half of the probability are no vote: the host's must be near that as well
                assert other.failures == {"OutsideLabels": 1}
                assert ballot.inside < INSIDE + CLOSE
                outside += 1
    print(f"{server}: {len(far)} votes, largest difference {max(far):.4f}; {outside} outside", file=sys.stderr)
    assert len(far) + outside == 2 * PAIRS
    assert max(far) <= CLOSE
    assert outside <= 2


@SERVERS
def test_texts_end_in_verdicts_or_typed_abstentions(server, request, tmp_path):
    address = request.getfixturevalue(server)
    (tmp_path / "prompts").mkdir()
    for name, text in PROMPTS.items():
        (tmp_path / "prompts" / f"{name}.txt").write_text(text)
    served = judged(f"openai:smollm2@{address}", tmp_path / "run", **TEXTS, prompts=str(tmp_path / "prompts"))
    assert len(served) == PAIRS
    for item in served:
        assert item.verdict in {"model1", "model2", "tie"} or (item.verdict == "abstain" and item.reason in REASONS)
        assert set(item.failures) <= REASONS
    verdicts = sum(item.verdict != "abstain" for item in served)
    print(f"{server}: {verdicts} verdicts, {PAIRS - verdicts} abstentions", file=sys.stderr)
    assert verdicts >= 1
