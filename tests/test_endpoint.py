"""An endpoint's faults, each as the failure that it is; keys, which appear nowhere; addresses, time-outs, the pool."""

import asyncio
import json
import logging
import math
import pickle
import socket
from email.utils import formatdate

import pytest
from plait.errors import SpecError
from plait.models.cassette import RecordingChat
from plait.models.chat import CallFailed, Capabilities, Sampling, Usage
from plait.models.completions import read_usage
from plait.models.endpoint import EndpointChat
from plait.records import canonical
from plait.tests import fault_server as fault
from plait.tests.fault_server import FaultServer

ASK = [{"role": "user", "content": "What is 2 + 2?"}]
KEY = "sk-planted-0123456789abcdefghij"


def ask(steps, messages=ASK, sampling=Sampling(), **options):  # noqa: B008
    """Return the first answer of a scripted server, or the failure, and the server."""

    async def main(url):
        model = EndpointChat("any", url, **options)
        try:
            return await model.generate(messages, sampling)
        except CallFailed as failure:
            return failure
        finally:
            await model.close()

    with FaultServer(steps) as server:
        return asyncio.run(main(server.url)), server


def completion(**changes):
    """A whole completion but for `changes` of its first choice."""
    whole = fault.completion("4")
    whole["choices"][0].update(changes)
    return fault.answer(whole)


FAULTS = {
    "a wrong key": (fault.status(401, "Incorrect API key"), "Unauthorized", False),
    "a forbidden model": (fault.status(403), "Unauthorized", False),
    "no money left": (fault.status(402), "BudgetReached", False),
    "no quota left": (fault.status(429, "check your plan", error="insufficient_quota"), "BudgetReached", False),
    "too many calls": (fault.status(429), "RateLimited", True),
    "no such model": (fault.status(404), "BadRequest", False),
    "a bad field": (fault.status(400, "top_k must be at most 2"), "BadRequest", False),
    "unprocessable": (fault.status(422), "BadRequest", False),
    "a long prompt, by code": (fault.status(400, "no", error="context_length_exceeded"), "TooLong", False),
    "a long prompt, by words": (fault.status(400, "This model's maximum context length is 8 tokens"), "TooLong", False),
    "a large body": (fault.status(413), "TooLong", False),
    "a filtered prompt": (fault.status(400, "flagged", error="content_filter"), "Refused", False),
    "logprobs refused": (fault.status(400, "logprobs is not supported"), "Unsupported", False),
    "a late request": (fault.status(408), "Timeout", True),
    "a conflict": (fault.status(409), "ServerError", True),
    "an inner error": (fault.status(500), "ServerError", True),
    "overload": (fault.status(503), "ServerError", True),
    "a redirect": (fault.answer({}, status=307, headers=(("location", "http://127.0.0.1:9/v1"),)), "BadRequest", False),
    "a body cut short": (fault.truncated(), "ServerError", True),
    "nothing at all": (fault.answer({}, cut=0), "ServerError", True),
    "no JSON": (fault.wrong_json(), "ServerError", True),
    "JSON that is no object": (fault.answer([1]), "ServerError", True),
    "JSON that is no completion": (fault.answer({"hello": 1}), "ServerError", True),
    "choices of a wrong type": (fault.answer({"choices": {"0": "4"}}), "ServerError", True),
    "a choice of a wrong type": (fault.answer({"choices": ["4"]}), "ServerError", True),
    "a choice without message": (completion(message=None), "ServerError", True),
    "an error inside a 200": (fault.answer({"error": {"code": 429, "message": "slow down"}}), "RateLimited", True),
    "an error without number": (fault.answer({"error": "broken"}), "ServerError", True),
    "a choice that ended in error": (completion(finish_reason="error"), "ServerError", True),
    "no choices": (fault.empty_choices(), "Empty", True),
    "no content": (completion(message={"content": None}), "Empty", True),
    "an empty text": (completion(message={"content": ""}), "Empty", True),
    "a refusal": (fault.refusal(), "Refused", False),
    "a filtered answer": (fault.filtered(), "Refused", False),
    "nothing but thinking": (completion(finish_reason="length", message={"content": ""}), "Truncated", False),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_the_failure_that_it_is(name):
    step, reason, retryable = FAULTS[name]
    failure, server = ask([step])
    assert isinstance(failure, CallFailed), failure
    assert (failure.reason, failure.retryable) == (reason, retryable), failure
    assert "any@127.0.0.1" in str(failure) or reason in {"Empty", "Refused", "Truncated", "ServerError"}
    assert len(str(failure).splitlines()) == 1
    assert server.calls == 1  # nobody repeats it but the paying path
    assert pickle.loads(pickle.dumps(failure)).reason == reason


@pytest.mark.parametrize(
    ("step", "options"),
    [(fault.hang(), {}), (fault.slow_drip(0.05), {}), (fault.text("4", latency=30.0), {})],
    ids=["hang", "slow drip", "late"],
)
def test_one_clock_runs_over_the_whole_call(step, options):
    failure, _ = ask([step], timeout=0.3, **options)
    assert failure.reason == "Timeout"
    assert "0.3 s" in str(failure)


def test_a_refused_connection_is_no_time_out():
    with socket.socket() as taken:  # bound and not listening: nobody answers there
        taken.bind(("127.0.0.1", 0))
        model = EndpointChat("any", f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        with pytest.raises(CallFailed) as caught:
            asyncio.run(model.generate(ASK))
    assert caught.value.reason == "ServerError"


def test_garbage_in_place_of_http_is_a_server_error():
    class Garbage(fault.Step):
        def head(self):
            return b"\x00\x01 not http at all\r\n\r\n"

    failure, _ = ask([Garbage()])
    assert failure.reason == "ServerError"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((("retry-after", "2"),), 2.0),
        ((("retry-after", "0.5"),), 0.5),
        ((("retry-after-ms", "250"), ("retry-after", "9")), 0.25),
        ((("date", formatdate(1000, usegmt=True)), ("retry-after", formatdate(1007, usegmt=True))), 7.0),
        ((("retry-after", formatdate(1000, usegmt=True)),), 0.0),
        ((("retry-after", "soon"),), None),
        ((("retry-after", "nan"),), None),
        ((), None),
    ],
)
@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_read_in_every_form(code, headers, seconds):
    failure, _ = ask([fault.answer({}, status=code, headers=headers)])
    assert failure.retry_after == seconds


def test_missing_usage_is_estimated_from_above_and_says_so():
    reply, _ = ask([fault.missing_usage("four")])
    assert not reply.usage.known
    assert reply.usage.prompt > 5
    assert reply.usage.completion >= 1


@pytest.mark.parametrize("name", ["a refusal", "a filtered answer", "an empty text", "nothing but thinking"])
def test_what_is_billed_without_an_answer_is_counted(name):
    failure, _ = ask([FAULTS[name][0]])
    assert failure.usage == Usage(7, 2)
    assert pickle.loads(pickle.dumps(failure)).usage == Usage(7, 2)
    assert ask([fault.status(500)])[0].usage is None


def test_cached_tokens_are_told_apart():
    body = fault.completion("4")
    body["usage"]["prompt_tokens_details"] = {"cached_tokens": 5}
    reply, _ = ask([fault.answer(body)])
    assert (reply.usage.prompt, reply.usage.cached, reply.usage.completion, reply.usage.known) == (7, 5, 2, True)


def test_the_model_that_answered_is_in_the_reply_and_not_in_the_identity():
    reply, _ = ask([fault.text("4")])
    assert reply.model == "scripted-1"
    assert EndpointChat("any", "http://LOCALHOST:1/v1/").identity["base_url"] == "http://localhost:1/v1"
    assert "scripted" not in canonical(EndpointChat("any", "http://localhost:1/v1").identity)


def test_the_body_holds_what_was_asked_and_nothing_that_was_not():
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=5, seed=2**40 + 3, stop=("\n",))
    _, server = ask([fault.text("4")], sampling=sampling, extra={"reasoning_effort": "low"})
    (request,) = server.requests
    headers = request.pop("headers")
    assert request == {
        "method": "POST", "path": "/v1/chat/completions", "model": "any", "messages": ASK, "temperature": 0.7,
        "top_p": 0.9, "max_tokens": 5, "seed": 3, "stop": ["\n"], "reasoning_effort": "low",
    }  # fmt: skip
    assert not [name for name in headers if name.startswith("x-stainless")]  # nothing of this machine
    _, server = ask([fault.text("4")])
    assert not {"top_p", "seed", "stop", "response_format"} & server.requests[0].keys()


def test_a_schema_is_sent_as_the_form_of_the_answer():
    _, server = ask([fault.text("4")], sampling=Sampling(schema='{"type": "object"}'))
    form = {"name": "answer", "schema": {"type": "object"}, "strict": False}
    assert server.requests[0]["response_format"] == {"type": "json_schema", "json_schema": form}


def test_openais_own_models_get_the_field_that_they_take():
    assert EndpointChat("o9").token_field == "max_completion_tokens"
    assert EndpointChat("o9", "http://localhost:1/v1").token_field == "max_tokens"


def test_stop_texts_are_cut_where_a_server_leaves_them_in():
    reply, _ = ask(
        [
            fault.text(
                "one STOP two",
            )
        ],
        sampling=Sampling(stop=("STOP",)),
    )
    assert (reply.text, reply.finish) == ("one ", "stop")


def test_text_that_is_no_unicode_is_a_bad_request():
    failure, server = ask([fault.text("4")], messages=[{"role": "user", "content": "\ud800"}])
    assert failure.reason == "BadRequest"
    assert server.calls == 0


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "ftp://localhost/v1", "http://", "http://user:secret@localhost/v1",
            "http://localhost/v1?key=secret", "http://localhost:99999/v1"],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_refused_in_a_line(url):
    with pytest.raises(SpecError) as caught:
        EndpointChat("any", url)
    assert "secret" not in str(caught.value)
    assert str(caught.value).startswith("endpoint base_url: got ")


def test_two_hundred_calls_fly_at_once():
    """No cap of 100 hides in the client: all are open before the first is answered."""

    async def main(url):
        model = EndpointChat("any", url)
        await asyncio.gather(*[model.generate(ASK) for _ in range(200)])
        await model.close()

    with FaultServer([fault.text("4", together=200)]) as server:
        asyncio.run(main(server.url))
        assert (server.calls, server.most_open) == (200, 200)


def test_a_model_is_used_in_one_loop_after_another_and_survives_pickling():
    with FaultServer([fault.text("4")]) as server:
        model = EndpointChat("any", server.url)
        assert asyncio.run(model.generate(ASK)).text == "4"
        assert asyncio.run(model.generate(ASK)).text == "4"
        copy = pickle.loads(pickle.dumps(model))
        assert asyncio.run(copy.generate(ASK)).text == "4"
        assert copy.identity == model.identity


class TestKeys:
    def test_the_key_is_read_at_each_call_and_sent(self, monkeypatch):
        async def main(url):
            model = EndpointChat("any", url, key_variable="PLAIT_TEST_KEY")
            await model.generate(ASK)
            monkeypatch.setenv("PLAIT_TEST_KEY", KEY + "2")
            await model.generate(ASK)
            monkeypatch.delenv("PLAIT_TEST_KEY")
            await model.generate(ASK)  # a local endpoint wants none
            await model.close()

        monkeypatch.setenv("PLAIT_TEST_KEY", KEY)
        with FaultServer([fault.text("4")]) as server:
            asyncio.run(main(server.url))
        sent = [request["headers"].get("authorization") for request in server.requests]
        assert sent == [f"Bearer {KEY}", f"Bearer {KEY}2", None]

    def test_a_key_that_no_header_may_carry_is_not_sent(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "sk-schl\u00fcssel-abcdef")
        failure, server = ask([fault.text("4")])
        assert failure.reason == "Unauthorized"
        assert "OPENAI_API_KEY" in str(failure)
        assert "sk-" not in str(failure)
        assert server.calls == 0

    def test_the_key_is_in_no_file_error_log_or_object(self, monkeypatch, tmp_path, caplog):
        """A server that quotes the key in every answer, whole and masked; every fault; every log line."""
        caplog.set_level(logging.DEBUG)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        quoting = f"Incorrect API key provided: {KEY} ({KEY[:8]}***{KEY[-4:]}), header Authorization: Bearer {KEY}"
        steps = [fault.status(code, quoting) for code in (400, 401, 403, 404, 429, 500)]
        steps += [fault.answer(quoting.encode()), fault.answer({"error": quoting}), fault.refusal(quoting)]
        steps += [fault.truncated(), fault.text(quoting)]
        texts, failures = [], []

        async def main(url):
            model = EndpointChat("any", url)
            recording = RecordingChat(model, tmp_path / "tape.jsonl")
            for index in range(len(steps)):
                try:
                    await recording.generate([{"role": "user", "content": str(index)}])
                except CallFailed as failure:
                    failures.append(failure)
            texts.extend([repr(model), repr(pickle.dumps(model)), repr(vars(model)), canonical(model.identity)])
            await model.close()

        with FaultServer(steps) as server:
            asyncio.run(main(server.url))
        assert server.calls == len(steps)
        assert KEY in server.requests[0]["headers"]["authorization"]  # or nothing was tested
        assert len(failures) == len(steps) - 1
        for failure in failures:
            assert failure.__cause__ is None
            assert failure.__context__ is None  # the client's errors hold the request
            texts += [str(failure), repr(failure), repr(pickle.dumps(failure))]
        texts += [file.read_text() for file in tmp_path.rglob("*") if file.is_file()] + [caplog.text]
        assert "***" in "".join(texts)
        assert [text for text in texts if KEY in text] == []
        assert [str(failure) for failure in failures if KEY[:8] in str(failure)] == []  # half masked is half told

    def test_a_key_of_any_name_and_shape_is_cut_from_what_a_server_says(self, monkeypatch):
        monkeypatch.setenv("PLAIT_TEST_VARIABLE", "correct horse")
        failure, _ = ask([fault.status(500, "who sent correct horse?")], key_variable="PLAIT_TEST_VARIABLE")
        assert "who sent ***?" in str(failure)

    @pytest.mark.parametrize("word", ["disabled", "false", "4"])
    def test_words_that_happen_to_be_settings_stay_in_the_text(self, monkeypatch, word):
        monkeypatch.setenv("SOME_TOKEN_MODE", word)
        failure, _ = ask([fault.status(500, f"it is {word} here")])
        assert f"it is {word} here" in str(failure)

    @pytest.mark.parametrize("step", [fault.status(500), fault.truncated(), fault.wrong_json(), fault.empty_choices()])
    def test_the_key_is_in_no_local_variable_of_a_failures_traceback(self, monkeypatch, step):
        """Terminals and error reporters print them."""
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        failure, server = ask([step])
        assert KEY in server.requests[0]["headers"]["authorization"]
        seen = []
        trace = failure.__traceback__
        while trace is not None:
            seen.append(repr(trace.tb_frame.f_locals))
            trace = trace.tb_next
        assert len(seen) >= 3
        assert [text for text in seen if KEY in text] == []


class TestLabels:
    @staticmethod
    def listing(*pairs, drawn=None):
        entries = [{"token": token, "logprob": math.log(mass) if mass else -9999.0} for token, mass in pairs]
        first = {**(drawn or entries[0]), "top_logprobs": entries}
        body = fault.completion("A")
        body["choices"][0]["logprobs"] = {"content": [first]}
        return fault.answer(body)

    @staticmethod
    def scores(step, labels=("A", "B"), **options):
        async def main(url):
            model = EndpointChat("any", url, **options)
            try:
                return await model.label_logprobs(ASK, labels)
            finally:
                await model.close()

        with FaultServer([step]) as server:
            return asyncio.run(main(server.url)), server

    def test_variants_are_summed_and_the_rest_is_outside(self):
        step = self.listing(("A", 0.4), (" A", 0.2), ("\u2581B", 0.1), ("a", 0.05), ("AB", 0.05))
        scores, server = self.scores(step)
        assert scores.logprobs == pytest.approx({"A": math.log(0.6), "B": math.log(0.1)})
        assert scores.inside == pytest.approx(0.7)
        (request,) = server.requests
        assert (request["max_tokens"], request["logprobs"], request["top_logprobs"]) == (1, True, 20)

    def test_an_absent_label_is_minus_infinity(self):
        scores, _ = self.scores(self.listing(("A", 0.5), ("B", 0)))
        assert scores.logprobs == {"A": math.log(0.5), "B": -math.inf}

    def test_the_drawn_token_counts_once_listed_or_not(self):
        listed, _ = self.scores(self.listing(("A", 0.5), ("B", 0.25)))
        beside, _ = self.scores(self.listing(("A", 0.5), drawn={"token": "B", "logprob": math.log(0.25)}))
        assert listed.logprobs == beside.logprobs

    @pytest.mark.parametrize(
        "logprobs", [None, {}, {"content": None}, {"content": []}, {"content": [{"token": "A", "logprob": -0.1}]}]
    )
    def test_an_answer_without_them_is_unsupported(self, logprobs):
        body = fault.completion("A")
        body["choices"][0]["logprobs"] = logprobs
        with pytest.raises(CallFailed, match=r"^Unsupported: ") as caught:
            self.scores(fault.answer(body))
        assert not caught.value.retryable


class TestProbe:
    @staticmethod
    def probe(script):
        async def main(url):
            model = EndpointChat("any", url)
            try:
                return await asyncio.gather(*[model.capabilities() for _ in range(8)])
            finally:
                await model.close()

        with FaultServer(script) as server:
            return asyncio.run(main(server.url)), server

    def test_it_is_asked_once_however_many_want_to_know(self):
        answers, server = self.probe([fault.text("4")])
        assert len(set(answers)) == 1
        assert server.calls < 20
        assert answers[0] == Capabilities(label_logprobs=False, top_logprobs=0, seed=False, structured=False)

    def test_logprobs_that_ignore_the_prompt_are_not_believed(self):
        """An endpoint that lists a fine distribution, the same for every prompt."""
        always = TestLabels.listing(("apple", 0.3), ("river", 0.3), ("seven", 0.1), ("green", 0.1), ("Yes", 0.1))
        (capabilities, *_), _ = self.probe([always])
        assert not capabilities.label_logprobs
        assert capabilities.top_logprobs == 0

    def test_a_smaller_list_is_found_out(self):
        """A provider that lists eight tokens at most, and is otherwise honest: it repeats the quoted word."""

        def script(index, request):
            if request.get("top_logprobs", 0) > 8:
                return fault.status(400, "top_logprobs must be at most 8")
            content = request["messages"][0]["content"] if "messages" in request else ""
            word = content.split('"')[1] if '"' in content else "?"
            return TestLabels.listing((word, 0.9), ("the", 0.05))

        (capabilities, *_), _ = self.probe(script)
        assert (capabilities.label_logprobs, capabilities.top_logprobs) == (True, 8)

    def test_schemas_and_context_are_found_where_they_are(self):
        def script(index, request):
            if request["path"].endswith("/models"):
                return fault.answer({"data": [{"id": "other"}, {"id": "any", "meta": {"n_ctx": 4096}}]})
            return fault.text(json.dumps({"mood": "glad"}) if "response_format" in request else "hello")

        (capabilities, *_), _ = self.probe(script)
        assert capabilities.structured
        assert capabilities.context == 4096

    def test_a_wrong_key_is_raised_and_not_taken_for_a_lack(self):
        with pytest.raises(CallFailed, match="Unauthorized"):
            self.probe([fault.status(401)])

    def test_what_it_took_is_counted_and_a_failure_that_may_pass_is_repeated(self):
        async def main(url):
            model = EndpointChat("any", url)
            await model.capabilities()
            await model.close()
            return model.probed

        busy = fault.status(429, retry_after="0")
        with FaultServer([fault.text("4")]) as server:
            calm, calls = asyncio.run(main(server.url)), server.calls
        with FaultServer([busy, busy, fault.text("4")]) as server:
            pressed = asyncio.run(main(server.url))
        once = read_usage(fault.completion("4"), ASK, "4")
        assert once.known
        assert calm.calls == calls - 1  # the list of models costs nothing
        assert calm.usage == Usage(calm.calls * once.prompt, calm.calls * once.completion)
        assert (pressed.calls, pressed.usage) == (calm.calls + 2, calm.usage)

    @pytest.mark.parametrize(("retry_after", "calls"), [("0", 4), ("31", 1)])
    def test_a_server_that_goes_on_failing_is_told_and_asked_again_the_next_time(self, retry_after, calls):
        async def main(url):
            model = EndpointChat("any", url)
            with pytest.raises(CallFailed, match="ServerError"):
                await model.capabilities()
            taken = model.probed.calls
            found = await model.capabilities()
            await model.close()
            return found, taken

        failing = [fault.status(500, retry_after=retry_after)] * calls
        with FaultServer([*failing, fault.text("4")]) as server:
            found, taken = asyncio.run(main(server.url))
        assert found.label_logprobs is False
        assert taken == calls


ADDRESSES = {
    "http://h:8000/v1": "any@h:8000",
    "http://h:8000": "any@h:8000/",
    "http://h:8000/a/v1": "any@h:8000/a/v1",
    "http://h:8000/b/v1": "any@h:8000/b/v1",
    "http://h:8000/a": "any@h:8000/a",
    "https://h:8000/v1": "any@https://h:8000",
    "https://h/v1": "any@h",
    "http://h/v1": "any@http://h",
    "https://h:443/v1": "any@https://h:443",
}


def test_endpoints_of_one_name_have_one_address_and_one_body():
    assert {url: EndpointChat("any", url).name for url in ADDRESSES} == ADDRESSES
    assert len(set(ADDRESSES.values())) == len(ADDRESSES)
    plain, low, high = (
        EndpointChat("any", "http://h:8000/v1", extra=extra).name
        for extra in ({}, {"reasoning_effort": "low"}, {"reasoning_effort": "high"})
    )
    assert plain != low != high != plain
