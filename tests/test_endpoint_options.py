"""What a user sets of an endpoint reaches its requests, its identity and the specs; secrets stand nowhere."""

import asyncio
import json

import httpx2
import pytest
from plait.errors import SpecError
from plait.models.chat import CallFailed, Sampling
from plait.models.endpoint import EndpointChat
from plait.models.endpoint_options import EndpointOptions
from plait.orchestrator.recipes.judge_models import check_endpoints, named, options_of
from plait.orchestrator.recipes.judge_spec import JudgeSpec
from plait.orchestrator.recipes.team_spec import TeamTrainSpec
from plait.orchestrator.spec import assignments, validated
from plait.tests import fault_server as fault
from plait.tests.fault_server import FaultServer

ASK = [{"role": "user", "content": "What is 2 + 2?"}]


def sent(sampling=Sampling(), script=(fault.text("4"),), **options):  # noqa: B008
    """Return the last request of one call with these options."""

    async def main(url):
        model = EndpointChat("any", url, EndpointOptions(**options))
        try:
            await model.generate(ASK, sampling)
        finally:
            await model.close()

    with FaultServer(script) as server:
        asyncio.run(main(server.url))
    return server.requests[-1]


class TestRequests:
    def test_a_temperature_that_is_off_is_not_sent(self):
        assert "temperature" in sent()
        assert "temperature" not in sent(temperature="off")
        assert "temperature" not in sent(Sampling(temperature=0.7), temperature="off")

    def test_a_temperature_of_the_users_takes_the_place_of_the_methods(self):
        assert sent(Sampling(temperature=0.7), temperature=1.0)["temperature"] == 1.0

    def test_a_temperature_of_the_users_that_is_refused_is_not_dropped(self):
        script = [fault.status(400, "Unsupported value: 'temperature'"), fault.text("4")]
        with pytest.raises(CallFailed) as caught:
            sent(script=script, temperature=0.5)
        assert caught.value.reason == "BadRequest"

    @pytest.mark.parametrize("name", ["seed", "top_p", "response_format", "reasoning_effort"])
    def test_a_field_of_the_users_that_is_refused_is_not_dropped(self, name):
        script = [fault.status(400, f"Unsupported parameter: '{name}'"), fault.text("4")]
        with pytest.raises(CallFailed, match=name) as caught:
            sent(Sampling(seed=1), script=script, extra={name: "low"})
        assert caught.value.reason == "BadRequest"

    def test_a_field_of_the_users_is_named_also_where_one_of_ours_was_refused_first(self):
        def script(index, request):
            name = "temperature" if "temperature" in request else "reasoning_effort"
            return fault.status(400, f"Unsupported parameter: '{name}'")

        with pytest.raises(CallFailed, match="reasoning_effort"):
            sent(script=script, extra={"reasoning_effort": "low"})

    def test_the_limit_has_the_name_that_was_chosen_and_keeps_it(self):
        request = sent(Sampling(max_tokens=9), token_field="max_completion_tokens")
        assert request["max_completion_tokens"] == 9
        assert "max_tokens" not in request
        script = [fault.status(400, "Unsupported parameter: 'max_tokens'"), fault.text("4")]
        with pytest.raises(CallFailed):
            sent(script=script, token_field="max_tokens")

    def test_azure_and_openai_get_the_newer_limit(self):
        for host in ("https://mine.openai.azure.com/openai/v1", None, "https://api.openai.com/v1"):
            assert EndpointChat("any", host or "https://api.openai.com/v1").token_field == "max_completion_tokens"
        assert EndpointChat("any", "https://openrouter.ai/api/v1").token_field == "max_tokens"

    def test_fields_headers_and_version_are_sent(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "sk-openais-own-0123456789")
        monkeypatch.setenv("GATEWAY_KEY", "quite secret 42")
        request = sent(
            extra={"chat_template_kwargs": {"enable_thinking": False}},
            headers={"api-key": "$GATEWAY_KEY", "X-Team": "plait"}, api_version="2024-10-21",
        )  # fmt: skip
        assert request["chat_template_kwargs"] == {"enable_thinking": False}
        headers = {name.lower(): value for name, value in request["headers"].items()}
        assert (headers["api-key"], headers["x-team"]) == ("quite secret 42", "plait")
        assert "authorization" not in headers  # another host's key is not sent beside its own

    def test_the_version_is_in_the_address(self, monkeypatch):
        addresses = []

        async def post(url, **_):
            addresses.append(url)
            raise httpx2.ConnectError("nobody")

        async def main():
            model = EndpointChat("any", "http://127.0.0.1:1/v1", api_version="2024-10-21")
            monkeypatch.setattr(model._here().client, "post", post)
            with pytest.raises(CallFailed):
                await model.generate(ASK)
            await model.close()

        asyncio.run(main())
        assert addresses == ["http://127.0.0.1:1/v1/chat/completions?api-version=2024-10-21"]

    def test_a_header_without_its_variable_is_said_before_anything_is_sent(self, monkeypatch):
        monkeypatch.delenv("GATEWAY_KEY", raising=False)
        with FaultServer([fault.text("4")]) as server:
            model = EndpointChat("any", server.url, headers={"api-key": "$GATEWAY_KEY"})
            with pytest.raises(CallFailed, match="GATEWAY_KEY is not set") as caught:
                asyncio.run(model.generate(ASK))
        assert caught.value.reason == "Unauthorized"
        assert server.calls == 0


class TestValues:
    @pytest.mark.parametrize("value", ["off", False])
    def test_off_is_read_as_yaml_reads_it(self, value):
        assert EndpointOptions(temperature=value).temperature == "off"
        assert validated(JudgeSpec, assignments(["endpoint.temperature=off"]), "judge").endpoint.temperature == "off"

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"temperature": True}, "off, or a number"),
            ({"temperature": 3}, "less than or equal to 2"),
            ({"extra": {"stream": True}}, "whole answers are read"),
            ({"extra": {"temperature": 1}}, "endpoint.temperature"),
            ({"extra": {"max_tokens": 1}}, "endpoint.token_field"),
            ({"extra": {"top_k": float("nan")}}, "values that JSON has"),
            ({"headers": {"a header": "x"}}, "the name of a header"),
            ({"headers": {"X-Team": "zwölf"}}, "printable ASCII"),
            ({"key_variable": "sk-0123456789"}, "environment variable, not a key"),
            ({"api_version": "a&b=c"}, "a version such as"),
            ({"colour": "red"}, "Extra inputs"),
            ({"extra": {"account": {"id": "sk-0123456789abcdef"}}}, "a key by its looks"),
        ],
    )
    def test_what_cannot_be_is_refused_in_a_line(self, options, words):
        with pytest.raises(SpecError, match=words) as caught:
            EndpointChat("any", "http://h:1/v1", **options)
        assert len(str(caught.value).splitlines()) == 1

    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": "planted-secret"}, {"x-api-key": "planted-secret"}, {"X-Note": "Bearer planted-secret"},
            {"X-Note": "sk-planted-secret"}, {"X-Note": "planted0123456789abcdef0123456789"},
        ],
    )  # fmt: skip
    def test_a_secret_that_is_written_down_is_refused_and_not_shown(self, headers):
        with pytest.raises(SpecError) as caught:
            validated(JudgeSpec, {"endpoint": {"headers": headers}}, "judge")
        assert "planted" not in str(caught.value)
        with pytest.raises(SpecError) as caught:
            EndpointChat("any", "http://h:1/v1", headers=headers)
        assert "planted" not in str(caught.value)
        with pytest.raises(SpecError) as caught:
            validated(JudgeSpec, {"endpoint": {"key_variable": "planted-secret"}}, "judge")
        assert "planted" not in str(caught.value)

    def test_a_published_value_is_no_secret(self):
        assert EndpointOptions(headers={"anthropic-beta": "interleaved-thinking-2025-05-14"}).headers


class TestNames:
    @pytest.mark.parametrize(
        ("text", "name", "url"),
        [
            ("openai:o3", "o3", None),
            ("openai: o3", "o3", None),
            ("openai:o3@https://a/v1", "o3", "https://a/v1"),
            ("openai:@cf/meta/llama@https://a/v1", "@cf/meta/llama", "https://a/v1"),
            ("openai:claude@20250219", "claude@20250219", None),
            ("openai:gemini@latest", "gemini@latest", None),
            ("openai:@cf/meta/llama", "@cf/meta/llama", None),
        ],
    )
    def test_a_name_may_hold_an_at(self, text, name, url):
        model = named(text)
        assert (model.place, model.base_url) == (name, url)

    @pytest.mark.parametrize(
        "text", ["", " ", "openai:", "openai:x@127.0.0.1:80/v1", "openai:x@localhost", "openai:x@gateway"]
    )
    def test_an_address_without_its_scheme_is_refused(self, text):
        with pytest.raises(SpecError):
            named(text)


class TestIdentity:
    PLAIN = EndpointChat("any", "http://h:1/v1")

    @pytest.mark.parametrize(
        "options",
        [{"temperature": "off"}, {"temperature": 1.0}, {"extra": {"a": 1}}, {"headers": {"X-Team": "a"}},
         {"api_version": "1"}],
    )  # fmt: skip
    def test_what_an_answer_depends_on_is_in_identity_and_name(self, options):
        other = EndpointChat("any", "http://h:1/v1", **options)
        assert other.identity != self.PLAIN.identity
        assert other.name != self.PLAIN.name

    @pytest.mark.parametrize("options", [{"token_field": "max_tokens"}, {"key_variable": "MY_KEY"}])
    def test_what_it_does_not_depend_on_is_in_neither(self, options):
        other = EndpointChat("any", "http://h:1/v1", **options)
        assert (other.identity, other.name) == (self.PLAIN.identity, self.PLAIN.name)

    def test_a_secret_is_in_neither(self, monkeypatch):
        monkeypatch.setenv("GATEWAY_KEY", "planted-secret-77")
        model = EndpointChat("any", "http://h:1/v1", headers={"api-key": "${GATEWAY_KEY}"})
        assert "planted" not in json.dumps(model.identity) + model.name + repr(model)


class TestSpecs:
    @pytest.mark.parametrize("spec", [JudgeSpec, TeamTrainSpec])
    def test_one_models_options_go_before_all_endpoints(self, spec):
        one, other = "openai:o3@https://a/v1", "openai:b@https://b/v1"
        values = {
            "endpoint": {"token_field": "max_tokens", "temperature": 0.5},
            "endpoints": {one: {"temperature": "off"}},
        }
        values |= {} if spec is JudgeSpec else {"team": "team.yaml"}
        made = validated(spec, values, "spec")
        assert (options_of(made, one).temperature, options_of(made, one).token_field) == ("off", "max_tokens")
        assert options_of(made, other).temperature == 0.5

    def test_options_for_a_model_that_takes_no_part_are_refused(self):
        spec = validated(JudgeSpec, {"endpoints": {"openai:o4": {"temperature": "off"}}}, "judge")
        with pytest.raises(SpecError, match="openai:o3"):
            check_endpoints(spec, ["openai:o3", "smollm2-135m"], "judge")
        with pytest.raises(SpecError, match="there is none"):
            check_endpoints(spec, ["smollm2-135m"], "judge")
