"""Every switch that a family is admitted with, against the stock model, bit for bit; and what is admitted of each."""

import pytest
import torch
from plait import LayeredDecoder, PathExecutor
from plait.errors import SourceError
from plait.models.executor import score_alone
from plait.models.families import ACTIVATIONS, FAMILIES, ROTARIES, check_family, switches
from plait.models.packing import pack
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
OWN = {
    "qwen3": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 5, "sliding_window_pattern": 2},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
}
WINDOWS = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 5, "use_sliding_window": True}
ROPES = {
    "default": {}, "linear": {"factor": 2.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 32, "attention_factor": 1.2, "beta_fast": 16.0},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16},
}  # fmt: skip
BIASES = [("attention_bias", {"attention_bias": True}), ("wide heads", {"head_dim": 16})]
OF_ALL = [
    *((f"hidden_act {act}", {"hidden_act": act, "hidden_activation": act}) for act in ACTIVATIONS),
    *((f"rope {kind}", {"rope_scaling": {"rope_type": kind, **ROPES[kind]}}) for kind in ROTARIES),
    ("rope_theta", {"rope_theta": 300.0}),
    ("tied", {"tie_word_embeddings": True}),
    ("as many key heads", {"num_key_value_heads": 4}),
    ("eps", {"rms_norm_eps": 0.1}),
    ("pretraining_tp", {"pretraining_tp": 2}),
]
OF_ONE = {
    "llama": [*BIASES, ("mlp_bias", {"mlp_bias": True}), ("unused window", {"sliding_window": 5,
                                                                           "use_sliding_window": False})],
    "qwen2": [("windows", WINDOWS), ("a window of one", {**WINDOWS, "sliding_window": 1}),
              ("first layers", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2})],
    "qwen3": [*BIASES, ("windows", WINDOWS)],
    "gemma3_text": [*BIASES, ("cap", {"final_logit_softcapping": 2.0}), ("scale", {"query_pre_attn_scalar": 3}),
                    ("all full", {"layer_types": ["full_attention"] * 4}), ("a window of one", {"sliding_window": 1})],
    "olmoe": [BIASES[0], ("clip_qkv", {"clip_qkv": 0.1}), ("norm_topk_prob", {"norm_topk_prob": True}),
              ("one expert", {"num_experts": 1, "num_experts_per_tok": 1})],
}  # fmt: skip
CASES = [(family, name, values) for family in FAMILIES for name, values in [*OF_ALL, *OF_ONE[family]]]
TOKENS = [1, 5, 9, 33, 72, 4, 18, 66, 31, 7, 80, 12, 40, 41, 42, 3, 8, 90]


def entries(family: str, values: dict) -> dict:
    return {**SIZES, **OWN.get(family, {}), **values, "model_type": family}


def model(family: str, values: dict):
    torch.manual_seed(0)
    config = check_family(entries(family, values), "a model")
    made = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # norms start at one and biases at zero: make every part matter
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


@pytest.mark.parametrize(
    ("family", "name", "values"), CASES, ids=lambda value: "" if isinstance(value, dict) else value
)
def test_an_admitted_switch_is_the_stock_model(family, name, values):
    stock = model(family, values)
    stock.config._attn_implementation = "sdpa"
    with torch.inference_mode():
        expected = [stock(torch.tensor([part]), use_cache=False).logits[0] for part in (TOKENS, TOKENS[:3])]
    decoder = LayeredDecoder(stock, min_rows=1)
    for part, logits in zip((TOKENS, TOKENS[:3]), expected, strict=True):
        assert torch.equal(decoder.logits(part, range(4)), logits)


@pytest.mark.parametrize(
    ("family", "name", "values"), CASES, ids=lambda value: "" if isinstance(value, dict) else value
)
def test_an_admitted_switch_does_not_hear_batch_mates(family, name, values):
    decoder = LayeredDecoder(model(family, values))
    long, short = ("long", pack(TOKENS, [[5, 6, 7], [8]], [3, 1])), ("short", pack(TOKENS[:3], [[5, 6], [8]], [2, 1]))
    requests = [(*item, path) for item in (long, short) for path in ((0, 1, 2, 3), (0, 1, 1, 3))]
    for request, score in zip(requests, PathExecutor(decoder).score(requests), strict=True):
        assert score.sums == pytest.approx(score_alone(decoder, request[1], request[2]).sums, abs=1e-4)
    decoder.stop_tokens = frozenset()
    made, slow = decoder.generate(TOKENS, (0, 1, 1, 3), 5), list[int]()
    for _ in range(5):
        slow.append(int(decoder.logits(TOKENS + slow, (0, 1, 1, 3))[-1].argmax()))
    assert made == slow


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_family_does_by_itself_is_admitted(family):
    config = CONFIG_MAPPING[family].from_dict(entries(family, {}))
    assert list(switches(config)) == []
    assert list(switches(CONFIG_MAPPING[family]())) == [], "the family's own defaults"


REAL = [
    {"model_type": "llama", "is_llama_config": True, "rope_interleaved": False, "pretraining_tp": 1,
     "rope_scaling": None, "_attn_implementation_autoset": True, "transformers.js_config": {"dtype": "q4"},
     "mlp_bias": False},
    {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 21,
     "use_mrope": False},
    {"model_type": "qwen3", "use_sliding_window": False, "sliding_window": None, "head_dim": 128,
     "rope_theta": 1000000},
    {"model_type": "gemma3_text", "hidden_activation": "gelu_pytorch_tanh", "attn_logit_softcapping": None,
     "final_logit_softcapping": None, "cache_implementation": "hybrid", "rope_local_base_freq": 10000,
     "sliding_window": 512, "sliding_window_pattern": 6, "query_pre_attn_scalar": 256, "head_dim": 256},
    {"model_type": "olmoe", "clip_qkv": None, "num_experts": 64, "num_experts_per_tok": 8, "norm_topk_prob": False},
]  # fmt: skip


@pytest.mark.parametrize("config", REAL, ids=lambda config: config["model_type"])
def test_configs_as_they_are_published_are_admitted(config):
    check_family(config, "a model")


@pytest.mark.parametrize("values", [
    {"rope_scaling": {"type": "su", "factor": 2.0}}, {"rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}},
    {"rope_scaling": 7}, {"rope_theta": 0}, {"rope_theta": "much"}, {"num_hidden_layers": "4"}, {"head_dim": 7},
    {"num_key_value_heads": 3}, {"vocab_size": None}, {"num_attention_heads": 0}, {"hidden_act": "no_such"},
    {"rope_scaling": {"rope_type": "linear", "factor": -1.0}}, {"rope_scaling": {"rope_type": "linear"}},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("family", FAMILIES)
def test_a_config_that_cannot_be_is_one_line(family, values):
    with pytest.raises(SourceError) as refusal:
        check_family(entries(family, values), "a model")
    assert "\n" not in str(refusal.value)
