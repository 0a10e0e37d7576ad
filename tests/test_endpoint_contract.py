"""The contract of chat models, kept by an endpoint in front of a real model, by its recording and by the replay."""

import asyncio

import pytest

pytest.register_assert_rewrite("plait.tests.chat_contract")

from plait.models.cassette import RecordingChat, ReplayChat  # noqa: E402
from plait.models.endpoint import EndpointChat  # noqa: E402
from plait.tests.chat_contract import ChatContract, rehearse  # noqa: E402
from plait.tests.fault_server import FaultServer, text  # noqa: E402
from plait.tests.openai_server import OpenAIServer  # noqa: E402

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def server(smollm2, one_thread):
    with OpenAIServer(smollm2.folder) as running:
        yield running


@pytest.fixture(scope="module")
def endpoint(server):
    """One model for all tests: what it found out about the server is asked once."""
    return EndpointChat("smollm2", server.url)


@pytest.fixture(scope="module")
def recording(endpoint, tmp_path_factory):
    """A file with the answers to every call of the contract."""
    file = tmp_path_factory.mktemp("cassette") / "smollm2.jsonl"

    async def record() -> None:
        model = RecordingChat(endpoint, file)
        await rehearse(model)
        await model.close()

    asyncio.run(record())
    return file


class TestEndpoint(ChatContract):
    @pytest.fixture(autouse=True)
    def _endpoint(self, endpoint):
        self.model = endpoint

    def make(self):
        return self.model

    def make_without_logprobs(self):
        self.bare = FaultServer([text("apple")])
        return EndpointChat("bare", self.bare.__enter__().url)

    def teardown_method(self):
        if hasattr(self, "bare"):
            self.bare.__exit__(None, None, None)

    def test_the_probe_finds_what_this_server_has(self):
        capabilities = self.run(lambda model: model.capabilities())
        assert capabilities.top_logprobs == 20
        assert capabilities.seed
        assert not capabilities.structured
        assert capabilities.context == 8192
        assert capabilities.continues


class TestRecording(ChatContract):
    @pytest.fixture(autouse=True)
    def _recording(self, endpoint, recording):
        self.endpoint, self.file = endpoint, recording

    def make(self):
        return RecordingChat(self.endpoint, self.file)


class TestReplay(ChatContract):
    @pytest.fixture(autouse=True)
    def _recording(self, recording):
        self.file = recording

    def make(self):
        return ReplayChat(self.file)

    def test_its_identity_is_the_recorded_models(self, endpoint):
        assert self.make().identity == endpoint.identity
