"""The client against a server that others wrote: `transformers serve FOLDER`, on loopback and without a network.

It answers chat completions, gives no log-probabilities, keeps stop texts in its answers, ignores temperatures above
0 and refuses fields that it does not know: what the client and the probe must cope with. Its dependencies are the
extra `transformers[serving]`.
"""

import asyncio
import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from queue import Queue

import pytest

pytest.register_assert_rewrite("plait.tests.chat_contract")

from plait import Judge, Ledger  # noqa: E402
from plait.models.chat import CallFailed, Capabilities, Sampling  # noqa: E402
from plait.models.endpoint import EndpointChat  # noqa: E402
from plait.orchestrator.recipes.judge_data import SHIPPED  # noqa: E402
from plait.tests.chat_contract import CAPITAL, LONG, ChatContract, numbered  # noqa: E402
from plait.tests.openai_server import OpenAIServer  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.weights,
    pytest.mark.skipif(find_spec("uvicorn") is None, reason="needs transformers[serving]"),
]

READY = "Uvicorn running on "


@pytest.fixture(scope="module")
def server(smollm2, tmp_path_factory):
    """The URL of the running server; its port is its own choice, read from what it prints."""
    place = tmp_path_factory.mktemp("serve")
    (place / "hub").mkdir()
    # The script beside this interpreter, so that the server is of the same environment.
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(smollm2.folder)]
    command += ["--host", "127.0.0.1", "--port", "0", "--device", "cpu", "--dtype", "float32"]
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(place / "hub"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env={**os.environ, **quiet}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    address: Queue[str] = Queue()
    printed: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:  # to the end: a full pipe would stop the server
            printed.append(line)
            if READY in line:
                address.put(line.partition(READY)[2].split()[0])
        address.put("")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        url = address.get(timeout=200)
        assert url, "".join(printed)[-2000:]
        yield f"{url}/v1"
    finally:
        process.terminate()
        process.wait(30)
        reader.join(10)


@pytest.fixture(scope="module")
def endpoint(server, smollm2):
    return EndpointChat(str(smollm2.folder), server)


class TestTransformersServe(ChatContract):
    logprobs = False
    continues = False

    @pytest.fixture(autouse=True)
    def _endpoint(self, endpoint):
        self.model = endpoint

    def make(self):
        return self.model

    def test_the_probe_finds_what_it_can_do(self):
        """It samples only where its own generation config says so: equal seeds and others draw the same."""
        expected = Capabilities(label_logprobs=False, top_logprobs=0, seed=False, structured=False)
        assert self.run(lambda model: model.capabilities()) == expected

    def test_told_to_sample_it_honours_seeds(self, server, smollm2):
        sampled = EndpointChat(str(smollm2.folder), server, extra={"generation_config": '{"do_sample": true}'})
        assert self.run(lambda model: model.capabilities(), sampled).seed

    def test_an_unknown_field_is_a_bad_request_in_one_line(self, server, smollm2):
        odd = EndpointChat(str(smollm2.folder), server, extra={"no_such_field": 1})
        with pytest.raises(CallFailed) as caught:
            self.run(lambda model: model.generate(LONG), odd)
        assert caught.value.reason == "BadRequest"
        assert "no_such_field" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_both_servers_give_the_same_answers_for_the_same_weights(endpoint, smollm2, one_thread):
    questions = [CAPITAL, LONG, *map(numbered, range(4))]

    async def answers(model: EndpointChat) -> list[str]:
        replies = [await model.generate(question, Sampling(max_tokens=16)) for question in questions]
        await model.close()
        return [reply.text for reply in replies]

    with OpenAIServer(smollm2.folder) as ours:
        assert asyncio.run(answers(EndpointChat("smollm2", ours.url))) == asyncio.run(answers(endpoint))


PROMPTS = {
    "system": "You are a grader. You reply with two numbers.",
    "judge": "Grade both answers for {{ angles | join(', ') }}, 1 to 10.",
    "repair": "Write the two grades as two numbers, for example: 6 4",
}
"""Short, for a model this small; it gives grades for a few pairs, and for the others it shows what it says instead."""


@pytest.mark.ray
def test_the_host_judges_as_the_other_server_does(server, smollm2, ray_cluster, no_ray_left, tmp_path):
    """20 pairs in both orders, greedy: equal texts, so equal scores, failures and verdicts: nothing is left to explain.

    What was said where no grade could be read stands in the ledger, beside the reason.
    """
    (tmp_path / "prompts").mkdir()
    for name, text in PROMPTS.items():
        (tmp_path / "prompts" / f"{name}.txt").write_text(text)
    shape = {"roles": "given", "angles": ("correctness",), "depth": 1, "scoring": "text", "max_tokens": 12}
    settings = {"network": "single", "shape": shape, "prompts": str(tmp_path / "prompts"), "limit": 20, "baselines": ()}

    def judged(model: str, out: str):
        result = Judge(model, SHIPPED, **settings, run={"actors": 1, "concurrency": 8}).run(tmp_path / out)
        ledger = Ledger(tmp_path / out / "ledger.db", read_only=True)
        said = sorted((failed.reason, failed.detail) for failed in ledger.failures())
        ledger.close()
        return [item.network.model_dump(exclude={"ballots": {"__all__": {"model"}}}) for item in result.items], said

    ours, theirs = judged("smollm2-135m", "host"), judged(f"openai:{smollm2.folder}@{server}", "served")
    assert ours == theirs
    verdicts = [one["verdict"] for one in ours[0]]
    assert len(verdicts) - verdicts.count("abstain") >= 2
    assert len(ours[1]) >= 2
