"""Exactness on real weights (SmolLM2-135M): the stock model is the reference."""

import copy
import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plait import LayerPath, PathExecutor, PlaitError
from plait.models.executor import score_alone
from plait.models.packing import Packer

pytestmark = pytest.mark.weights
DEPTH = 30
PATHS = {
    "identity": "0-29",
    "skip": "0-11,13-20,22-29",
    "loop": "0-12,12x2,13-29",
    "nested": "0-9,((10)x2,11)x2,12-29",
}
TEXT = "The Sun is a star, and the planets move around it because"


@pytest.fixture(scope="module")
def stock(smollm2):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(smollm2.folder, dtype=torch.float32, attn_implementation="sdpa")


@pytest.fixture(scope="module")
def tokens(real_packer):
    return real_packer.prompt(TEXT)


def rebuilt_logits(stock, path, tokens):
    twin = copy.copy(stock)
    twin._modules = dict(stock._modules)
    twin._modules["model"] = body = copy.copy(stock.model)
    body._modules = dict(stock.model._modules)
    layers = []
    for index, layer in enumerate(path):  # weights shared, numbers anew: what a physical copy computes
        double = copy.copy(stock.model.layers[layer])
        double._modules = dict(double._modules)
        double._modules["self_attn"] = copy.copy(double.self_attn)
        double.self_attn.layer_idx = index
        layers.append(double)
    body._modules["layers"] = torch.nn.ModuleList(layers)
    config = copy.deepcopy(stock.config)
    config.num_hidden_layers = len(path)
    body.config = twin.config = config
    with torch.inference_mode():
        return twin(torch.tensor([tokens]), use_cache=False).logits[0]


@pytest.mark.parametrize("name", PATHS)
def test_path_is_the_rebuilt_stock_model_bit_for_bit(name, stock, smollm2, tokens):
    from plait import LayeredDecoder

    path = LayerPath.parse(PATHS[name]).layers
    expected = rebuilt_logits(stock, path, tokens)
    decoder = LayeredDecoder.load(smollm2.folder, min_rows=1)
    assert torch.equal(decoder.logits(tokens, path), expected)


@pytest.mark.parametrize("count", [3, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PATHS)
def test_packed_options_choose_as_separate_rows_do(name, count, real_decoder, real_packer, questions):
    path = LayerPath.parse(PATHS[name]).layers
    items = [question.item() for question in questions[:count]]
    packed = [real_packer.pack(item["prompt"], item["options"]) for item in items]
    together = PathExecutor(real_decoder).score([(str(i), one, path) for i, one in enumerate(packed)])
    for one, score in zip(packed, together, strict=True):
        alone = score_alone(real_decoder, one, path)
        assert score.sums == pytest.approx(alone.sums, abs=1e-4)
        assert score.sums.index(max(score.sums)) == alone.sums.index(max(alone.sums))


@pytest.mark.parametrize("name", PATHS)
def test_cached_decoding_is_recomputation(name, real_decoder, tokens):
    path = LayerPath.parse(PATHS[name]).layers
    made = real_decoder.generate(tokens, path, 6)
    slow: list[int] = []
    while len(slow) < 6:
        token = int(real_decoder.logits(tokens + slow, path)[-1].argmax())
        if token in real_decoder.stop_tokens:
            break
        slow.append(token)
    assert made == slow


paths = st.lists(st.integers(0, DEPTH - 1), min_size=1, max_size=6).map(tuple)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 5), paths), min_size=1, max_size=8), st.integers(0, 10**6))
def test_batch_invariance(real_decoder, real_packer, questions, asked, seed):
    """Any batch-mates, any order, any lever, any split into calls: the same bits."""
    made = [(question := questions[item].item()) and real_packer.pack(question["prompt"], question["options"])
            for item in range(6)]  # fmt: skip
    requests = [(str(item), made[item], path) for item, path in asked]
    reference = [PathExecutor(real_decoder, trie=False, layer_major=False).score([one])[0] for one in requests]
    order = list(range(len(requests)))
    random.Random(seed).shuffle(order)
    executor = PathExecutor(real_decoder, cache_bytes=1 << 20)
    cut = seed % (len(order) + 1)
    shuffled = executor.score([requests[i] for i in order[:cut]]) + executor.score([requests[i] for i in order[cut:]])
    assert [shuffled[order.index(i)] for i in range(len(order))] == reference


def test_the_released_codes_shared_slots_change_a_loop_and_nothing_else(real_decoder, real_packer, questions):
    item = questions[0].item()
    packed = real_packer.pack(item["prompt"], item["options"])
    for name, same in (("identity", True), ("skip", True), ("loop", False)):
        path = LayerPath.parse(PATHS[name]).layers
        shared, own = (score_alone(real_decoder, packed, path, kv).sums for kv in ("shared", "slot"))
        assert (shared == pytest.approx(own, abs=1e-5)) is same


def test_long_prompt_and_options_of_differing_length(real_decoder, real_packer):
    prompt = "One fact after another. " * 120 + "\nAnswer:"
    packed = real_packer.pack(prompt, [" no", " a rather longer option of quite a few words", " yes"])
    path = tuple(range(0, DEPTH, 3))
    assert PathExecutor(real_decoder).score([("long", packed, path)])[0].sums == pytest.approx(
        score_alone(real_decoder, packed, path).sums, abs=1e-4
    )


class TestPacker:
    def test_prompt_and_option_are_tokenised_apart(self, real_packer):
        packed = real_packer.pack("Answer:", [" yes"])
        assert packed.tokens.tolist()[: len(real_packer.prompt("Answer:"))] == real_packer.prompt("Answer:")
        assert packed.sizes == (4,)

    @pytest.mark.parametrize("options", [[], [""], ["  "], [" yes", ""]])
    def test_empty_option_is_refused(self, real_packer, options):
        with pytest.raises(PlaitError, match="option"):
            real_packer.pack("Answer:", options)

    def test_context_is_refused_with_numbers(self, smollm2):
        from transformers import AutoTokenizer

        packer = Packer(AutoTokenizer.from_pretrained(smollm2.folder), 8)
        with pytest.raises(PlaitError, match=r"\d+ \+ 1 tokens.*at most 8"):
            packer.pack("one two three four five six seven eight nine", [" yes"])

    def test_bos(self, smollm2):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(smollm2.folder)
        never, always = (Packer(tokenizer, 100, bos).prompt("Answer:") for bos in ("never", "always"))
        assert always == [tokenizer.bos_token_id, *never]
