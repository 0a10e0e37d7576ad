"""Answers held to a schema: whatever a model would rather say, it is JSON of the schema, and equal in a batch."""

import asyncio
import json
import shutil

import jsonschema
import pytest
import torch
from plait import LayeredDecoder
from plait.errors import SpecError
from plait.models.chat import CallFailed, Sampling
from plait.models.evaluator import ScorerSpec
from plait.models.generation import Batcher
from plait.models.generation_request import GenerationRequest
from plait.models.guided import Guides
from plait.models.host import Host, HostSpec
from plait.models.host_chat import HostChat
from plait.models.sources import ensure

pytestmark = pytest.mark.weights
FRUIT = {
    "type": "object", "required": ["name", "kind", "count", "of"], "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "maxLength": 12}, "kind": {"enum": ["apple", "quince"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "of": {"type": "array", "maxItems": 2, "items": {"anyOf": [{"const": "tree"}, {"const": None}]}},
    },
}  # fmt: skip
SCHEMA = json.dumps(FRUIT)


@pytest.fixture(scope="module")
def tokenizer(smollm2):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2.folder, local_files_only=True)


@pytest.fixture(scope="module")
def tiny(tiny_folder, one_thread):
    """A decoder of random weights: it would never write JSON."""
    return LayeredDecoder.load(tiny_folder)


@pytest.fixture(scope="module")
def guides(tiny, tokenizer):
    return Guides.of(tokenizer, tiny.vocabulary, tiny.stop_tokens)


@pytest.fixture
def batcher(tiny, tokenizer, guides):
    def make(**options):
        return Batcher(tiny, lambda tokens: tokenizer.decode(list(tokens)), **{"guides": guides, **options})

    return make


def asked(seed, tokens=(5, 6, 7), most=120, schema=SCHEMA, **options):
    return GenerationRequest(tuple(tokens), Sampling(1.5, max_tokens=most, seed=seed, schema=schema, **options))


def test_random_weights_write_json_of_the_schema(batcher):
    answers = batcher().run([asked(seed) for seed in range(12)])
    for answer in answers:
        assert answer.finish == "stop"
        jsonschema.validate(json.loads(answer.text), FRUIT)
    assert len({answer.text for answer in answers}) > 6
    assert "\n" not in "".join(answer.text for answer in answers)


def test_without_guides_a_schema_is_passed_over(batcher):
    free = batcher(guides=None).run([asked(1)])[0]
    assert free == batcher(guides=None).run([asked(1, schema="")])[0]
    with pytest.raises(json.JSONDecodeError):
        json.loads(free.text)


def test_what_must_follow_is_run_with_what_it_follows(batcher):
    running = batcher()
    answer = running.run([asked(3)])[0]
    assert running.counters.steps < len(answer.tokens)  # the names of the fields are drawn by nobody
    # Rows of the last draw and of what it forced are needed by nobody.
    assert running.counters.decoded < len(answer.tokens)


def test_batch_mates_cache_and_order_change_no_bit(batcher):
    prompt = list(range(3, 80))
    requests = [asked(seed, prompt[: 30 + 9 * (seed % 4)]) for seed in range(6)]
    requests += [asked(seed, prompt, most=9, schema="") for seed in range(3)]
    expected = [batcher(cache_bytes=0).run([one])[0] for one in requests]
    assert batcher().run(requests) == expected
    assert batcher(active=2, prefill_rows=32).run(requests[::-1])[::-1] == expected


@pytest.mark.parametrize("most", [1, 2, 9, 15])
def test_an_answer_that_its_length_cuts_off_says_so(batcher, most):
    answer = batcher().run([asked(1, most=most)])[0]
    assert (answer.finish, len(answer.tokens)) == ("length", most)
    whole = batcher().run([asked(1)])[0]
    assert whole.text.startswith(answer.text)


def test_an_answer_that_ends_at_its_last_token_is_whole(batcher):
    whole = batcher().run([asked(1)])[0]
    assert batcher().run([asked(1, most=len(whole.tokens))])[0] == whole


def test_a_stop_text_ends_a_held_answer_too(batcher):
    answer = batcher().run([asked(1, stop=('"kind"',))])[0]
    assert answer.finish == "stop"
    assert answer.text.startswith('{"name":"')
    assert "kind" not in answer.text


def test_masked_logits_leave_what_may_come_next_as_it_was(guides, tiny):
    guide = guides(json.dumps({"enum": ["red", "green"]}))
    logits = torch.randn(tiny.vocabulary)
    masked = guide.masked(logits)
    allowed = masked > float("-inf")
    assert 0 < allowed.sum() < 50
    assert torch.equal(masked[allowed], logits[allowed])


@pytest.mark.parametrize("schema", ["{", '{"type": "colour"}', '{"$ref": "https://elsewhere/schema"}'])
def test_a_schema_that_nothing_can_be_held_to_is_one_clear_line(guides, schema):
    with pytest.raises(SpecError, match="schema: got"):
        guides(schema)


def test_a_host_says_that_it_keeps_to_schemas_and_a_bad_one_fails_its_own_call_alone(tiny_folder, smollm2, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    shutil.copy(smollm2.folder / "chat_template.jinja", folder)
    model = HostChat.over(Host(HostSpec(str(folder), ScorerSpec(ensure(str(folder)).model_hash))))

    async def scenario():
        able = await model.capabilities()
        calls = [
            model.generate([{"role": "user", "content": "A fruit?"}], Sampling(1.0, max_tokens=120, schema=schema))
            for schema in (SCHEMA, '{"type": "colour"}')
        ]
        return able, await asyncio.gather(*calls, return_exceptions=True)

    able, (reply, failure) = asyncio.run(scenario())
    assert able.structured
    jsonschema.validate(json.loads(reply.text), FRUIT)
    assert isinstance(failure, CallFailed)
    assert failure.reason == "BadRequest"
    assert "schema" in failure.detail


def test_a_tokenizer_that_cannot_be_followed_leaves_answers_free():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"yes": 0, "no": 1, "[UNK]": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    assert Guides.of(PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]"), 3, [1]) is None
