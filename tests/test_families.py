"""Exactness on small random models of every family: skipping, looping, caching, packing, batching."""

import copy
import random

import pytest
import torch
from plait import LayeredDecoder, PathExecutor, PlaitError
from plait.models.executor import score_alone
from plait.models.packing import pack
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8)),
    # A window of 5 rows, so that sliding and global layers differ on the test's sequences.
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=5, sliding_window_pattern=3, final_logit_softcapping=30.0)
    ),
    "olmoe": lambda: OlmoeForCausalLM(OlmoeConfig(**SIZES, num_experts=4, num_experts_per_tok=2)),
}
PATHS = [
    tuple(range(6)),
    (0, 1, 3, 4, 5),
    (0, 1, 2, 2, 3, 4, 5),
    (0, 1, 2, 1, 2, 3, 4, 5),
    (0, 1, 1, 2, 1, 1, 2, 5),
    (4,),
]
TOKENS = [1, 5, 9, 33, 72, 4, 18, 66, 31, 7, 80, 12]


def make(family: str, seed: int = 0):
    torch.manual_seed(seed)
    model = FAMILIES[family]().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms start at one and biases at zero: make every part matter
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def rebuilt(model, path):
    """The stock model with its layers physically removed, duplicated and numbered anew."""
    twin = copy.deepcopy(model)
    layers = [copy.deepcopy(twin.model.layers[layer]) for layer in path]
    for index, layer in enumerate(layers):
        layer.self_attn.layer_idx = index
    twin.model.layers = torch.nn.ModuleList(layers)
    twin.config.num_hidden_layers = len(path)
    if getattr(twin.config, "layer_types", None):
        twin.config.layer_types = [model.config.layer_types[layer] for layer in path]
    return twin


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def stock_logits(model, tokens, use_cache=False):
    model.config._attn_implementation = "sdpa"
    with torch.inference_mode():
        return model(torch.tensor([tokens]), use_cache=use_cache).logits[0]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: "-".join(map(str, path)))
def test_any_path_is_the_rebuilt_stock_model_bit_for_bit(family, path):
    model = make(family)
    expected = stock_logits(rebuilt(model, path), TOKENS)
    decoder = LayeredDecoder(model, min_rows=1)
    assert torch.equal(decoder.logits(TOKENS, path), expected)


@pytest.mark.parametrize("path", PATHS[1:4], ids=lambda path: "-".join(map(str, path)))
def test_cached_decoding_is_recomputation(family, path):
    decoder = LayeredDecoder(make(family))
    decoder.stop_tokens = frozenset()
    made = decoder.generate(TOKENS, path, 8)
    slow = []
    for _ in range(8):
        slow.append(int(decoder.logits(TOKENS + slow, path)[-1].argmax()))
    assert made == slow


def items(count: int, seed: int = 0):
    rng = random.Random(seed)

    def tokens(low, high):
        return [rng.randrange(3, 97) for _ in range(rng.randint(low, high))]

    made = []
    for index in range(count):
        options = [tokens(1, 5) for _ in range(rng.randint(2, 5))]
        made.append((f"item-{index}", pack(tokens(1, 20), options, [len(option) for option in options])))
    return made


def test_packed_options_are_separate_rows(family):
    decoder = LayeredDecoder(make(family))
    executor = PathExecutor(decoder)
    requests = [(key, packed, path) for key, packed in items(4) for path in PATHS]
    for (_, packed, path), score in zip(requests, executor.score(requests), strict=True):
        alone = score_alone(decoder, packed, path)
        assert score.sums == pytest.approx(alone.sums, abs=1e-4)
        best = max(alone.sums)
        assert sorted(alone.sums)[-2] > best - 2e-4 or score.sums.index(max(score.sums)) == alone.sums.index(best)


def test_options_that_begin_alike_share_rows():
    packed = pack([1, 2], [[3, 4], [3, 5], [3]], [1, 1, 1])
    assert packed.rows == 2 + 1  # the prompt and 3: an option's last token predicts nothing
    decoder = LayeredDecoder(make("llama"))
    shared = PathExecutor(decoder).score([("a", packed, PATHS[0])])[0]
    assert shared.sums == pytest.approx(score_alone(decoder, packed, PATHS[0]).sums, abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma3"])
@pytest.mark.parametrize("seed", range(3))
def test_batch_mates_order_and_levers_never_change_a_bit(family, seed):
    decoder = LayeredDecoder(make(family))
    assert decoder.batch_invariant
    requests = [(key, packed, path) for key, packed in items(5, seed) for path in PATHS]
    random.Random(seed).shuffle(requests)
    reference = PathExecutor(decoder, trie=False, layer_major=False).score(requests)
    for options in ({}, {"trie": False}, {"layer_major": False}, {"cache_bytes": 4000}, {"batch_rows": 40}):
        assert PathExecutor(decoder, **options).score(requests) == reference, options
    halves = PathExecutor(decoder)
    assert halves.score(requests[:11]) + halves.score(requests[11:]) == reference


def test_experts_give_the_same_answers_alone_and_together():
    decoder = LayeredDecoder(make("olmoe"))
    requests = [(key, packed, path) for key, packed in items(3) for path in PATHS[:3]]
    together = PathExecutor(decoder).score(requests)
    for request, score in zip(requests, together, strict=True):
        assert PathExecutor(decoder).score([request])[0].sums == pytest.approx(score.sums, abs=1e-5)


def test_sharing_saves_layer_passes():
    executor = PathExecutor(LayeredDecoder(make("llama")))
    executor.score([("a", items(1)[0][1], path) for path in PATHS[:4]])
    counters = executor.counters
    assert counters.asked_passes == sum(map(len, PATHS[:4]))
    assert counters.passes < counters.asked_passes


def test_a_small_cache_evicts_and_recomputes():
    executor = PathExecutor(LayeredDecoder(make("llama")), cache_bytes=8000)
    for _ in range(2):
        executor.score([(key, packed, path) for key, packed in items(4) for path in PATHS])
    assert executor.counters.evicted > 0


def test_shared_slots_differ_from_own_slots_on_a_loop_only():
    decoder = LayeredDecoder(make("llama"))
    assert torch.equal(decoder.logits(TOKENS, PATHS[0], kv="shared"), decoder.logits(TOKENS, PATHS[0]))
    assert not torch.allclose(decoder.logits(TOKENS, PATHS[2], kv="shared"), decoder.logits(TOKENS, PATHS[2]))


@pytest.mark.parametrize("path", [(), (6,), (-1,)])
def test_a_path_that_is_not_there_is_refused(path):
    with pytest.raises(PlaitError):
        LayeredDecoder(make("llama")).logits(TOKENS, path)


def test_bfloat16_runs_close_to_the_reference():
    decoder = LayeredDecoder(make("llama"))
    halved = LayeredDecoder(make("llama").to(torch.bfloat16))
    got, want = halved.logits(TOKENS, PATHS[1]).float(), decoder.logits(TOKENS, PATHS[1])
    assert torch.nn.functional.cosine_similarity(got.flatten(), want.flatten(), dim=0) > 0.99


def test_an_unknown_family_is_refused():
    from transformers import GPT2Config, GPT2LMHeadModel

    with pytest.raises(PlaitError, match="gpt2"):
        LayeredDecoder(GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=11)))
