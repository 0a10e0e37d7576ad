"""GGUF files read by their header alone, and refused where dequantising them would give another model.

transformers takes from a GGUF what it knows, leaves the rest, and fills with random numbers what is not there. So the
architecture, its switches and the names of all tensors are compared here first, both ways.

Source: the GGUF specification's keys and tensor names (github.com/ggml-org/ggml, docs/gguf.md).
"""

from pathlib import Path
from typing import Any

from ...errors import SourceError

ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3": "gemma3_text"}
"""`general.architecture` -> family."""

_BLOCK = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
_MORE = {
    "llama": (),
    "qwen2": ("attn_q.bias", "attn_k.bias", "attn_v.bias"),
    "qwen3": ("attn_q_norm.weight", "attn_k_norm.weight"),
    "gemma3": (
        "attn_q_norm.weight", "attn_k_norm.weight", "post_attention_norm.weight", "post_ffw_norm.weight",
    ),
}  # fmt: skip
_ALWAYS = ("token_embd.weight", "output_norm.weight")

_NEEDED = ("block_count", "embedding_length", "feed_forward_length", "attention.head_count", "context_length",
           "attention.layer_norm_rms_epsilon")  # fmt: skip
_READ = {*_NEEDED, "attention.head_count_kv", "rope.freq_base", "vocab_size", "attention.key_length"}
"""Keys that reach the config, without the architecture's name before them."""


def check_gguf(file: Path, name: str) -> None:
    """Refuse a GGUF file that is damaged, of no supported architecture, or not whole.

    Raises:
        SourceError: what is wrong with it, in one line.
    """
    fields, tensors = _header(file, name)
    family = fields.get("general.architecture")
    if family not in ARCHITECTURES:
        supported = ", ".join(ARCHITECTURES)
        raise SourceError(name, f"{file.name}: architecture is {family!r}; supported in GGUF: {supported}")
    if int(fields.get("split.count") or 1) > 1:
        raise SourceError(name, f"{file.name} is one of {fields['split.count']} parts; merge them into one file first")
    own = {key.removeprefix(f"{family}."): value for key, value in fields.items() if key.startswith(f"{family}.")}
    for key in _NEEDED:
        if key not in own:
            raise SourceError(name, f"{file.name} is no language model: it does not say its {key}")
    if "tokenizer.ggml.tokens" not in fields:
        raise SourceError(name, f"{file.name} holds no tokenizer (tokenizer.ggml.tokens)")
    _check_keys(own, family, f"{file.name}", name)
    _check_tensors(set(tensors), family, int(own["block_count"]), file.name, name)
    _check_sizes(own, tensors, len(fields["tokenizer.ggml.tokens"]), file.name, name)
    factors = tensors.get("rope_freqs.weight")
    if factors is not None and not bool((factors == 1).all()):
        raise SourceError(name, f"{file.name}: rope_freqs.weight scales the rotary table, which is not read from GGUF; "
                                "use the model's safetensors")  # fmt: skip


def _header(file: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the key-value pairs, and the tensors' data by name, mapped and unread."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(str(file))
        fields = {key: field.contents() for key, field in reader.fields.items()}
        return fields, {tensor.name: tensor.data if tensor.name == "rope_freqs.weight" else tensor.shape.tolist()
                        for tensor in reader.tensors}  # fmt: skip
    except Exception as error:  # whatever its parser met: the bytes are not what a GGUF file has
        reason = " ".join(str(error).split())[:80]
        raise SourceError(name, f"{file.name} is damaged or cut short ({reason}); pull again") from error


def _check_keys(own: dict[str, Any], family: str, file: str, name: str) -> None:
    """Refuse settings of the architecture that dequantising would drop."""
    heads, width = own["attention.head_count"], own["embedding_length"]
    if not all(isinstance(own[key], int | float) for key in _NEEDED):
        raise SourceError(name, f"{file}: sizes differ by layer, which is not supported")
    head = own.get("attention.key_length") or width // heads
    neutral: dict[str, tuple[object, ...]] = {
        "rope.dimension_count": (head,), "attention.value_length": (head,), "attention.key_length": (head,),
        "rope.scaling.type": ("none",), "rope.scaling.factor": (1.0, 0.0), "rope.scaling.finetuned": (True, False),
        "rope.scale_linear": (1.0,), "expert_count": (0,), "expert_used_count": (0,), "attention.causal": (True,),
        "attention.sliding_window": (0,), "pooling_type": (0,), "tensor_data_layout": ("Meta AI original pth",),
    }  # fmt: skip
    if family == "gemma3":
        neutral.pop("attention.sliding_window")
        neutral["rope.freq_base_swa"] = (10000.0,)
        known = _READ | {"attention.sliding_window"}
    else:
        known = _READ
    if family == "llama":  # its head_dim is read from rope.dimension_count alone
        neutral["attention.key_length"] = (own.get("rope.dimension_count", width // heads),)
        known = known - {"attention.key_length"}
    for key, value in sorted(own.items()):
        if key not in known and value not in neutral.get(key, ()):
            shown = str(value)[:60]
            problem = f"{family}.{key} is {shown}, which is not read from GGUF"
            raise SourceError(name, f"{file}: {problem}; use the model's safetensors")


def _check_tensors(found: set[str], family: str, blocks: int, file: str, name: str) -> None:
    """Compare names of tensors with those of the architecture, both ways."""
    parts = (*(f"{part}.weight" for part in _BLOCK), *_MORE[family])
    expected = {*_ALWAYS, *(f"blk.{block}.{part}" for block in range(blocks) for part in parts)}
    held = {int(key.split(".")[1]) for key in found if key.startswith("blk.") and key.split(".")[1].isdecimal()}
    if held != set(range(blocks)):
        raise SourceError(name, f"{file} says {blocks} blocks, its tensors are of {len(held)}"
                                f"{_which(held, blocks)}")  # fmt: skip
    missing = sorted(expected - found)
    unexpected = sorted(found - expected - {"output.weight", "rope_freqs.weight"})
    if missing or unexpected:
        sides = [f"{kind} {', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"
                 for kind, keys in (("missing", missing), ("unexpected", unexpected)) if keys]  # fmt: skip
        raise SourceError(name, f"{file}: its tensors are not those of {family}: {'; '.join(sides)}")


def _which(held: set[int], blocks: int) -> str:
    lacking = sorted(set(range(blocks)) - held)
    return f" (lacking {', '.join(map(str, lacking[:3]))})" if lacking else f" (up to {max(held)})"


def _check_sizes(own: dict[str, Any], tensors: dict[str, Any], tokens: int, file: str, name: str) -> None:
    """Compare the embedding with the tokenizer and the model's width."""
    rows = tensors["token_embd.weight"][-1]
    width = tensors["token_embd.weight"][0]
    if width != own["embedding_length"]:
        raise SourceError(name, f"{file}: token_embd.weight is {width} wide, expected {own['embedding_length']}")
    said = own.get("vocab_size", tokens)
    if rows != said:
        raise SourceError(name, f"{file}: token_embd.weight has {rows} rows, expected {said}, as the file's vocabulary")
    if tokens > rows:
        raise SourceError(name, f"{file}: the tokenizer has {tokens} tokens, the embedding {rows} rows")
