"""Families of decoders whose layer paths are exact, and the switches of a config that each was proven with.

A family is its `model_type` and the switches that change its forward pass: a switch that no test compares with the
stock model is refused and not guessed at. Must not load weights; imports neither torch nor transformers at the top.

Source: `tests/test_families.py` and `tests/test_family_switches.py` compare every value admitted here, bit for bit.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ..errors import SourceError
from ..records import JSON

FAMILIES = ("llama", "qwen2", "qwen3", "gemma3_text", "olmoe")
"""Values of `model_type` whose layer paths are proven exact by tests."""

ACTIVATIONS = ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
"""Values of `hidden_act` that tests compare."""

ROTARIES = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary scaling whose tables follow from the position alone; `dynamic` and `longrope` follow from the
longest sequence seen too, so that batch-mates would change an answer."""


class Switch(NamedTuple):
    """An entry of a config that would change the forward pass: `name`, what it `got`, what is `expected`."""

    name: str
    got: object
    expected: str


def check_family(config: Mapping[str, JSON], name: str) -> Any:
    """Return the parsed config of transformers, from the entries of a config.json alone.

    Args:
        config: Entries of config.json.
        name: Of the model, for the message.

    Raises:
        SourceError: the family, a number format or a switch is not supported, or entries are no config.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES:
        supported = ", ".join(FAMILIES)
        raise SourceError(name, f"config.json: model_type is {kind!r}; supported families: {supported}")
    for entry in ("quantization_config", "compression_config"):
        if config.get(entry):
            how = config[entry].get("quant_method") if isinstance(config[entry], dict) else config[entry]
            advice = "expected weights of float32, bfloat16 or float16, or a GGUF file"
            raise SourceError(name, f"config.json: {entry} says {how!r}: quantised weights are not read; {advice}")
    if config.get("auto_map"):
        raise SourceError(name, "config.json: auto_map names code of the model's own, which Plait never runs")
    parsed = _parsed(config, name)
    for problem in switches(parsed):
        said = f"config.json: {problem.name} is {problem.got!r}, expected {problem.expected}"
        raise SourceError(name, f"{said}: {kind} is proven with no other value")
    return parsed


def _parsed(config: Mapping[str, JSON], name: str) -> Any:
    import logging

    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    told = logging.getLogger("transformers")
    before = told.level
    told.setLevel(logging.ERROR)  # what matters becomes one line of ours
    try:
        return CONFIG_MAPPING[str(config["model_type"])].from_dict(dict(config))
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(name, f"config.json is no config of {config['model_type']} ({reason})") from error
    finally:
        told.setLevel(before)


def switches(config: Any) -> Iterator[Switch]:
    """Yield the entries of a parsed config that its family was not proven with."""
    family = config.model_type
    for name, (expected, fits) in {**_NEUTRAL, **_PROVEN.get(family, {})}.items():
        value = getattr(config, name, None)
        if value is not None and not fits(value):
            yield Switch(name, value, expected)
    yield from _sizes(config)
    yield from _rotary(config)
    yield from _windows(config)


def _is(*values: object) -> tuple[str, Callable[[Any], bool]]:
    said = " or ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)
    return f"{said} or none", lambda value: any(value == one and type(value) is not str for one in values)


def _one_of(*values: str) -> tuple[str, Callable[[Any], bool]]:
    return f"one of {', '.join(values)}", lambda value: value in values


_ANY: tuple[str, Callable[[Any], bool]] = ("anything", lambda value: True)
_NOTHING: tuple[str, Callable[[Any], bool]] = ("none", lambda value: False)
_POSITIVE: tuple[str, Callable[[Any], bool]] = (
    "a number above 0",
    lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"),
)

_NEUTRAL: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("use_bidirectional_attention", "add_cross_attention", "is_encoder_decoder"), _is(False)),
    "is_causal": _is(True),
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping", "clip_qkv"), _NOTHING),
    **dict.fromkeys(("hidden_act", "hidden_activation"), _one_of(*ACTIVATIONS)),
    **dict.fromkeys(("partial_rotary_factor", "rotary_pct"), _is(1)),
    **dict.fromkeys(("rope_interleave", "rope_interleaved", "alibi", "parallel_attn"), _is(False)),
    **dict.fromkeys(("use_parallel_residual", "use_qk_norm", "qk_norm", "qk_layernorm", "mlp_bias"), _is(False)),
    **dict.fromkeys(("add_bias_logits", "attn_temperature_tuning", "use_mrope", "lm_head_bias"), _is(False)),
    "no_rope_layer_interval": _is(0),
    "no_rope_layers": ("none, or 1 for every layer", lambda value: isinstance(value, list) and all(value)),
    "position_embedding_type": _one_of("rope", "rotary"),
    **dict.fromkeys(("logit_scale", "logits_scaling", "residual_multiplier", "embedding_multiplier"), _is(1)),
    **dict.fromkeys(("scale_emb", "embedding_scale", "output_multiplier_scale", "lm_head_multiplier"), _is(1)),
    **dict.fromkeys(("attention_multiplier", "query_pre_attn_scalar", "scale_depth", "dim_model_base"), _NOTHING),
    **dict.fromkeys(("attention_chunk_size", "num_kv_shared_layers", "num_nextn_predict_layers"), _is(0)),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), _is(0, 1)),
}
"""Switches of any family of transformers -> what is expected, and whether a value is that; none always is.

The stock code of our families ignores most of them; a config that sets one describes another model than it would run.
"""

_PROVEN: dict[str, dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "llama": {"mlp_bias": _ANY},
    "qwen2": {},
    "qwen3": {"use_qk_norm": _ANY, "qk_norm": _ANY, "qk_layernorm": _ANY},
    "gemma3_text": {
        "final_logit_softcapping": _POSITIVE, "query_pre_attn_scalar": _POSITIVE,
        "use_qk_norm": _ANY, "qk_norm": _ANY, "qk_layernorm": _ANY,
    },
    "olmoe": {
        "clip_qkv": _POSITIVE, "num_experts": _POSITIVE, "num_local_experts": _POSITIVE,
        "use_qk_norm": _ANY, "qk_norm": _ANY, "qk_layernorm": _ANY,
    },
}  # fmt: skip
"""What a family was proven with beyond the neutral values."""

_COUNTS = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size", "num_attention_heads",
           "num_key_value_heads", "max_position_embeddings")  # fmt: skip


def _sizes(config: Any) -> Iterator[Switch]:
    for name in _COUNTS:
        value = getattr(config, name, None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            yield Switch(name, value, "an integer, 1 or more")
            return
    width, heads = config.hidden_size, config.num_attention_heads
    head = getattr(config, "head_dim", None)
    if head is not None and (not isinstance(head, int) or head < 2 or head % 2):
        yield Switch("head_dim", head, "an even integer, 2 or more")
    if config.num_attention_heads % config.num_key_value_heads:
        yield Switch("num_key_value_heads", config.num_key_value_heads, f"a divisor of the {heads} heads")
    if config.model_type == "olmoe":  # its norms of queries and keys take their width from the hidden size
        if head not in (None, width // heads):
            yield Switch("head_dim", head, str(width // heads))
        if config.num_experts_per_tok > config.num_experts or config.num_experts_per_tok < 1:
            yield Switch("num_experts_per_tok", config.num_experts_per_tok, f"1 to num_experts, {config.num_experts}")


def _rotary(config: Any) -> Iterator[Switch]:
    given = getattr(config, "rope_parameters", None) or {}
    tables = given.values() if given and all(isinstance(table, dict) for table in given.values()) else [given]
    for table in tables:
        kinds = {table[key] for key in ("rope_type", "type") if table.get(key) is not None} or {"default"}
        kind = next((one for one in sorted(map(str, kinds)) if one not in ROTARIES), None)
        if kind is not None or len(kinds) > 1:
            yield Switch("rope_scaling", kind or sorted(kinds), f"one of {', '.join(ROTARIES)}")
        if table.get("partial_rotary_factor", 1) not in (None, 1):
            yield Switch("partial_rotary_factor", table["partial_rotary_factor"], "1 or none")
        for name in ("rope_theta", "factor"):
            if table.get(name) is not None and not _POSITIVE[1](table[name]):
                yield Switch(name, table[name], _POSITIVE[0])


def _windows(config: Any) -> Iterator[Switch]:
    """Yield what is wrong with windows: kinds of layers, and how far a sliding one sees."""
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None) or []
    if config.model_type in ("llama", "olmoe"):  # every layer of theirs sees all that came before
        other = sorted({str(kind) for kind in kinds} - {"full_attention"})
        if other:
            yield Switch("layer_types", other[0], "full_attention")
        unused = config.model_type == "llama" and getattr(config, "use_sliding_window", None) is False
        if window is not None and not unused:
            yield Switch("sliding_window", window, "none")
        return
    if len(kinds) != config.num_hidden_layers:
        yield Switch("layer_types", f"{len(kinds)} kinds", f"{config.num_hidden_layers}, one a layer")
    other = sorted({str(kind) for kind in kinds} - {"full_attention", "sliding_attention"})
    if other:
        yield Switch("layer_types", other[0], "full_attention or sliding_attention")
    if "sliding_attention" in kinds and (not isinstance(window, int) or isinstance(window, bool) or window < 1):
        yield Switch("sliding_window", window, "1 or more, with layers of sliding_attention")
