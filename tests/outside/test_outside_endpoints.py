"""Endpoints that differ from OpenAI's first form of a request: reasoning models, gateways, llama.cpp, nobody there."""

import asyncio
import json
import socket
import threading

import pytest
from plait.errors import PlaitError
from plait.models.chat import CallFailed, Sampling
from plait.models.endpoint import EndpointChat
from plait.tests import fault_server as fault
from plait.tests.fault_server import FaultServer

ASK = [{"role": "user", "content": "What is 2 + 2?"}]


def asked(script, sampling=Sampling(), calls=1):  # noqa: B008
    """Return the answers of one scripted endpoint, one after another, and the server; a failure is raised."""

    async def main(url):
        model = EndpointChat("any", url)
        try:
            return [await model.generate(ASK, sampling) for _ in range(calls)]
        finally:
            await model.close()

    with FaultServer(script) as server:
        return asyncio.run(main(server.url)), server


def refusing(field, words, code=400):
    """A server that refuses a request with this field, in these words."""

    def script(index, request):
        return fault.status(code, words) if field in request else fault.text("4")

    return script


REFUSALS = {
    "temperature, OpenAI's words": (
        "temperature", "Unsupported value: 'temperature' does not support 0 with this model.", 400
    ),
    "temperature, a gateway's words": ("temperature", "temperature: Extra inputs are not permitted", 422),
    "max_tokens": (
        "max_tokens", "Unsupported parameter: 'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead.", 400
    ),
    "stop": ("stop", "Unsupported parameter: 'stop' is not supported with this model.", 400),
    "seed": ("seed", "Unrecognized request argument supplied: seed", 400),
    "a schema": ("response_format", "This model does not support response_format json_schema.", 400),
}  # fmt: skip
OTHER_WORDS = {
    "a capital letter": ("temperature", "Temperature is not supported by this deployment.", 400),
    "a list of pydantic's": (
        "temperature", '[{"type":"extra_forbidden","loc":["body","temperature"],"msg":"Extra inputs"}]', 422
    ),
    "LiteLLM's": ("temperature", "litellm.UnsupportedParamsError: gpt-5 models don't support temperature=0.0", 400),
    "a schema by its kind": ("response_format", "Invalid value: 'json_schema'. Supported: 'text'.", 400),
    "stop sequences": ("stop", "stop sequences cannot be used with this model", 400),
    "a limit in words": ("max_tokens", "Max tokens is not a known argument, use max completion tokens", 400),
}  # fmt: skip
REFUSALS |= OTHER_WORDS
ALL = Sampling(max_tokens=16, seed=7, stop=("END",), schema=json.dumps({"type": "object"}))


@pytest.mark.row("B: endpoint refuses temperature or wants max_completion_tokens")
@pytest.mark.parametrize("name", REFUSALS)
def test_a_field_of_ours_that_is_refused_is_left_out(name):
    field, words, code = REFUSALS[name]
    replies, server = asked(refusing(field, words, code), ALL, calls=3)
    assert [reply.text for reply in replies] == ["4"] * 3
    assert server.calls == 4  # what was refused once is not sent again
    assert field not in server.requests[-1]
    assert {"max_tokens", "max_completion_tokens"} & set(server.requests[-1])


@pytest.mark.row("B: endpoint refuses temperature or wants max_completion_tokens")
def test_a_reasoning_model_that_refuses_all_of_them_answers():
    def script(index, request):
        for field in ("max_tokens", "temperature", "stop", "seed"):
            if field in request:
                return fault.status(400, f"Unsupported parameter: '{field}' is not supported with this model.")
        return fault.text("4")

    replies, server = asked(script, Sampling(max_tokens=16, seed=7, stop=("END",)), calls=2)
    assert [reply.text for reply in replies] == ["4", "4"]
    assert server.requests[-1]["max_completion_tokens"] == 16


@pytest.mark.row("B: endpoint refuses temperature or wants max_completion_tokens")
def test_a_parameter_named_beside_the_words_is_seen():
    body = {"error": {"message": "Unsupported value.", "type": "invalid_request_error", "param": "temperature"}}

    def script(index, request):
        return fault.answer(body, status=400) if "temperature" in request else fault.text("4")

    assert asked(script)[0][0].text == "4"


@pytest.mark.parametrize("words", ["max_tokens is too large: 9999", "no such thing", "the prompt speaks of a seed"])
def test_a_refusal_of_something_else_stands_in_its_own_words(words):
    with pytest.raises(CallFailed) as caught:
        asked([fault.status(400, words)], Sampling(max_tokens=9999, seed=1))
    assert caught.value.reason == "BadRequest"
    assert words in str(caught.value)


@pytest.mark.row("B: nothing listens")
def test_nobody_there_is_a_refused_connection(plait, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "pairs.jsonl").write_text(
        json.dumps({"id": "a", "query": "What is ice?", "response1": "Water.", "response2": "Steam."})
    )
    code, _, err = plait(
        "judge", "run", "pairs.jsonl", "--model", f"openai:any@http://127.0.0.1:{port}/v1", "--out", "run", "--quiet"
    )
    assert code != 0
    assert f"127.0.0.1:{port}: connection refused" in err
    assert "event loop" not in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.row("B: nothing listens")
def test_a_host_that_nobody_knows_is_said():
    async def main():
        await EndpointChat("any", "http://no-such-host.invalid/v1").generate(ASK)

    with pytest.raises(CallFailed) as caught:
        asyncio.run(main())
    assert "the host's name is not known" in str(caught.value)


@pytest.mark.row("B: --model gpt-4o-mini")
@pytest.mark.parametrize("name", ["gpt-4o-mini", "claude-sonnet", "meta-llama/Llama-3.1-8B-Instruct"])
def test_a_bare_name_is_told_how_endpoints_are_named(plait, tmp_path, name):
    (tmp_path / "pairs.jsonl").write_text(
        json.dumps({"id": "a", "query": "What is ice?", "response1": "Water.", "response2": "Steam."})
    )
    code, _, err = plait("judge", "run", "pairs.jsonl", "--model", name, "--out", "run", "--quiet")
    assert code == 2
    assert f"openai:{name}" in err


THOUGHTS = {
    "cut off": ("<think>First I add two and", "length"),
    "whole, and no room left": ("<think>Four it is.</think>\n", "length"),
    "without its first tag": ("First I add two and two.</think>", "length"),
}


@pytest.mark.row("B: reply cut inside a thought")
@pytest.mark.parametrize("name", THOUGHTS)
def test_a_reply_that_is_all_thought_is_truncated(name):
    content, finish = THOUGHTS[name]
    with pytest.raises(CallFailed) as caught:
        asked([fault.answer(fault.completion(content, finish))])
    assert caught.value.reason == "Truncated"
    assert caught.value.usage.completion == 2  # billed all the same


def test_an_answer_after_a_thought_is_whole():
    replies, _ = asked([fault.answer(fault.completion("<think>Hm.</think>4", "length"))])
    assert replies[0].text == "<think>Hm.</think>4"


BEGUN = "The capital of France is Par"


def continuing(repeats, answers_to):
    """A server that continues a turn, with or without its beginning, where `answers_to` holds of the request."""

    def script(index, request):
        last = request["messages"][-1]
        if last["role"] != "assistant":
            return fault.text("4")
        if not answers_to(request, last):
            return fault.text("Sure! How can I help?")
        rest = "is." if last["content"].endswith("Par") else " B"
        whole = fault.completion((last["content"] if repeats else "") + rest, "length")
        listed = [{"token": rest, "logprob": -0.1, "top_logprobs": [{"token": rest, "logprob": -0.1}]}]
        whole["choices"][0]["logprobs"] = {"content": listed}
        return fault.answer(whole)

    return script


CONTINUES = {
    "llama.cpp": continuing(True, lambda request, last: True),
    "plain": continuing(False, lambda request, last: "continue_final_message" not in request),
    "Mistral and DeepSeek": continuing(False, lambda request, last: last.get("prefix") is True),
}


@pytest.mark.row("B: llama.cpp's server")
@pytest.mark.parametrize("name", CONTINUES)
def test_each_form_of_continuing_a_turn_is_found_and_used(name):
    async def main(url):
        model = EndpointChat("any", url)
        begun = [*ASK, {"role": "assistant", "content": "Answer:"}]
        try:
            known = await model.capabilities()
            return known.continues, (await model.generate(begun)).text
        finally:
            await model.close()

    with FaultServer(CONTINUES[name]) as server:
        assert asyncio.run(main(server.url)) == (True, " B")


@pytest.mark.row("B: llama.cpp's server")
def test_a_list_of_one_model_is_taken_whatever_its_name():
    def script(index, request):
        listed = {"data": [{"id": "/models/some-file.gguf", "meta": {"n_ctx": 2048}}]}
        return fault.answer({**fault.completion("4"), **listed})

    async def main(url):
        model = EndpointChat("any", url)
        try:
            return (await model.capabilities()).context
        finally:
            await model.close()

    with FaultServer(script) as server:
        assert asyncio.run(main(server.url)) == 2048


def answering(*parts):
    """A server of bytes: it reads a request, sends `parts` and closes; None in their place resets the connection."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 16)
                for part in parts:
                    connection.sendall(part)

    threading.Thread(target=serve, daemon=True).start()
    return listening


def failure_at(url):
    """Return the line of the failure of one call."""

    async def main():
        model = EndpointChat("any", url, timeout=20)
        try:
            await model.generate(ASK)
        finally:
            await model.close()

    with pytest.raises(PlaitError) as caught:
        asyncio.run(main())
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


BROKEN = {
    "no answer": ((), "http", "the connection was closed before an answer"),
    "half an answer": (
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",),
        "http", "the connection was closed before a whole answer",
    ),
    "another protocol": ((b"SSH-2.0-OpenSSH_9.2\r\n",), "http", "does not speak HTTP"),
    "HTTP where TLS is asked for": (
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",), "https", "is it an http:// address?"
    ),
    "moved": (
        (b"HTTP/1.1 301 Moved\r\nLocation: https://new.example/v1?key=no\r\nContent-Length: 0\r\n\r\n",),
        "http", "it has moved to https://new.example/v1; name that address",
    ),
    "no such page": (
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot Found",), "http", "most addresses end with /v1"
    ),
}  # fmt: skip


@pytest.mark.row("B: nothing listens")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_connection_is_said_plainly(name):
    parts, scheme, words = BROKEN[name]
    with answering(*parts) as server:
        line = failure_at(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/v1")
    assert words in line
    assert "key=no" not in line


@pytest.mark.row("B: nothing listens")
@pytest.mark.parametrize("host", ["a" * 70 + ".com", "a..b"])
def test_a_name_that_no_host_can_have_is_refused(host):
    assert "an address such as" in failure_at(f"http://{host}/v1")


@pytest.mark.row("B: reply cut inside a thought")
def test_a_limit_that_thinking_used_up_is_truncated():
    words = "Could not finish the message because max_tokens or model output limit was reached."
    with pytest.raises(CallFailed) as caught:
        asked([fault.status(400, words)])
    assert caught.value.reason == "Truncated"


@pytest.mark.row("B: --model gpt-4o-mini")
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("llama3.1:8b", "openai:llama3.1:8b"),
        ("OpenAI:gpt-4o", "openai:gpt-4o"),
        ("ollama:llama3", "openai:llama3@https://host/v1"),
        ("gpt-4o@https://host/v1", "openai:gpt-4o@https://host/v1"),
        ("http://localhost:8080/v1", "openai:NAME@http://localhost:8080/v1"),
    ],
)
def test_other_tools_names_are_told_how_endpoints_are_named(plait, tmp_path, name, meant):
    (tmp_path / "pairs.jsonl").write_text(
        json.dumps({"id": "a", "query": "What is ice?", "response1": "Water.", "response2": "Steam."})
    )
    code, _, err = plait("judge", "run", "pairs.jsonl", "--model", name, "--out", "run", "--quiet")
    assert code == 2
    assert meant in err


def listing(*names):
    """A server that lists these models and takes any name."""

    def script(index, request):
        return fault.answer({**fault.completion("[[A]] 8 4"), "data": [{"id": name} for name in names]})

    return script


@pytest.mark.row("B: llama.cpp's server")
@pytest.mark.parametrize(
    ("names", "words"), [(("/models/some-file.gguf",), ""), (("one", "two"), "one, two"), ((), "empty")]
)
def test_a_server_of_one_model_needs_no_name(plait, tmp_path, names, words):
    (tmp_path / "pairs.jsonl").write_text(
        json.dumps({"id": "a", "query": "What is ice?", "response1": "Water.", "response2": "Steam."})
    )
    with FaultServer(listing(*names)) as server:
        code, _, err = plait(
            "judge", "run", "pairs.jsonl", "--model", f"openai:@{server.url}", "--network", "faireval", "--quiet",
            "--partial-ok", "--out", "run",
        )  # fmt: skip
    if words:
        assert (code, words in err) == (2, True)
    else:
        assert code == 0
        assert {request["model"] for request in server.requests if "messages" in request} == {names[0]}
