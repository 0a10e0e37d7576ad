"""The calls of one item share their prompts: two beginnings a layer, and little is computed twice."""

import pytest
from plait import Ledger
from plait.agents.judges.network import Item, Judges
from plait.agents.judges.wording import Wording
from plait.candidates import JudgeNetwork
from plait.graphs import Graph
from plait.models.chat_template import ChatTemplate
from plait.models.generation import BLOCK
from plait.orchestrator.calls import CallWorker
from plait.orchestrator.graph_run import GraphRun
from plait.orchestrator.limiter import Limiter
from scripted_chat import ScriptedChat

pytestmark = pytest.mark.weights
ANGLES = ("accuracy", "relevance", "completeness", "clarity", "depth", "tone")
WORDS = "the sun is a star and the planets move around it because of what weight does to space "
REVIEW = WORDS * 6 + "\nScore of Assistant 1: 7\nScore of Assistant 2: 4"


@pytest.fixture(scope="module")
def prompts(smollm2, tmp_path_factory):
    """Every prompt of a full network of 6 angles and 2 layers, as tokens, in the order in which they were sent."""
    from transformers import AutoTokenizer

    sent = []

    class Keeping(ScriptedChat):
        async def generate(self, messages, sampling):
            sent.append(list(messages))
            return await super().generate(messages, sampling)

    item = Item("i", WORDS * 4, WORDS * 7, WORDS[::-1] * 3)
    network = JudgeNetwork(roles="given", angles=ANGLES, max_tokens=400)
    graph = Graph("i", Judges(network, ("scripted",), Wording()).nodes(item))
    ledger = Ledger(tmp_path_factory.mktemp("prefix") / "ledger.db")
    GraphRun([graph], [CallWorker(Keeping(lambda messages: REVIEW), Limiter(window=1, most=1))], ledger).run()
    ledger.close()
    template = ChatTemplate(AutoTokenizer.from_pretrained(smollm2.folder))
    return [template.tokens(messages) for messages in sent]


def replayed(prompts):
    """Return per call (tokens, tokens found in whole blocks of earlier calls)."""
    known, calls = set(), []
    for tokens in prompts:
        blocks = [tuple(tokens[: end + BLOCK]) for end in range(0, len(tokens) - BLOCK, BLOCK)]
        found = next((at for at, block in enumerate(blocks) if block not in known), len(blocks))
        known.update(blocks)
        calls.append((len(tokens), found * BLOCK))
    return calls


def test_a_layer_has_two_beginnings(prompts):
    assert len(prompts) == 24
    calls = replayed(prompts)
    for layer in (calls[:12], calls[12:]):
        cold = [number for number, (sent, found) in enumerate(layer) if found < 0.6 * sent]
        assert len(cold) == 2, cold


def test_nearly_nothing_is_computed_twice(prompts):
    computed = sum(sent - found for sent, found in replayed(prompts))
    known, least = set(), 0
    for tokens in prompts:
        for end in range(1, len(tokens) + 1):
            beginning = hash(tuple(tokens[:end]))
            least += beginning not in known
            known.add(beginning)
    assert computed <= 1.1 * least + 24 * BLOCK
    assert sum(map(len, prompts)) >= 2.5 * computed
