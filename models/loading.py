"""Weights and tokenizers as transformers loads them, each checked before it is believed.

transformers fills what a file lacks with random numbers, drops what it does not know, and asks whether code that came
with a model may run. Every loader of Plait goes through here instead. Must not know paths, items, searches or Ray.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SourceError
from ..records import JSON
from .families import check_family, switches

FORMATS = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}
"""Number formats that weights may have on disk; integers and 8-bit floats need scales that no config told."""

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as the header of its file tells it: which `file`, its `shape` and `dtype`."""

    file: str
    shape: tuple[int, ...]
    dtype: str


def read_config(folder: Path, name: str) -> dict[str, JSON]:
    """Return the entries of config.json.

    Raises:
        SourceError: there is none, or it is no JSON object.
    """
    if (folder / "adapter_config.json").is_file():
        raise SourceError(name, f"{folder} holds an adapter (adapter_config.json): merge it into its model first")
    return json_object(folder / "config.json", name)


def json_object(file: Path, name: str) -> dict[str, JSON]:
    """Return the entries of a JSON file that belongs to a model.

    Raises:
        SourceError: there is none, or it is no JSON object.
    """
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(name, f"{file.parent} holds no readable {file.name} ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise SourceError(name, f"{file} is no JSON ({reason})") from error
    if not isinstance(entries, dict):
        raise SourceError(name, f"{file} holds a {type(entries).__name__}, expected a JSON object")
    return entries


def weight_files(folder: Path, name: str) -> list[Path]:
    """Return the safetensors files that transformers reads: model.safetensors, or the shards of its index.

    Raises:
        SourceError: there are none, only pickles, or a shard is missing.
    """
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if (folder / INDEX).is_file():
        placed = json_object(folder / INDEX, name).get("weight_map")
        shards = sorted(set(map(str, placed.values()))) if isinstance(placed, dict) else []
        if not shards:
            raise SourceError(name, f"{folder / INDEX} has no weight_map, expected a file for each tensor")
        missing = [shard for shard in shards if Path(shard).name != shard or not (folder / shard).is_file()]
        if missing:
            raise SourceError(name, f"{folder} lacks {_some(missing)}, which {INDEX} names; fetch it again")
        return [folder / shard for shard in shards]
    others = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
    strays = sorted(file.name for file in folder.glob("*.safetensors") if file.is_file())
    if strays:
        raise SourceError(name, f"{folder} holds {_some(strays)}, expected model.safetensors, or {INDEX} and shards")
    held = f"only pickle files ({', '.join(others[:3])}), which can run code" if others else "no weights"
    raise SourceError(name, f"{folder} holds {held}; expected *.safetensors or a GGUF file")


def stored_tensors(folder: Path, name: str, files: Iterable[Path] | None = None) -> dict[str, Stored]:
    """Return what the headers of a model's weight files say, by tensor; of `files`, where they are given.

    Raises:
        SourceError: a file is damaged, a tensor is stored twice or where the index does not say, or as a number
            format that is no weight's.
    """
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Stored] = {}
    for file in weight_files(folder, name) if files is None else files:
        try:
            with safe_open(file, "pt") as opened:
                for key in opened.keys():  # noqa: SIM118  not a mapping
                    part = opened.get_slice(key)
                    if key in tensors:
                        raise SourceError(name, f"{key} is stored twice, in {tensors[key].file} and {file.name}")
                    tensors[key] = Stored(file.name, tuple(part.get_shape()), part.get_dtype())
        except (SafetensorError, OSError) as error:
            reason = " ".join(str(error).split())[:120]
            raise SourceError(name, f"{file.name} is damaged or cut short ({reason}); fetch it again") from error
    if files is None and not (folder / "model.safetensors").is_file():
        placed = json_object(folder / INDEX, name)["weight_map"]
        wrong = [key for key in sorted(placed.keys() | tensors.keys())
                 if key not in tensors or placed.get(key) != tensors[key].file]  # fmt: skip
        if wrong:
            raise SourceError(name, f"{INDEX} and the shards disagree on {_some(wrong)}; fetch it again")
    odd = [f"{key} as {tensor.dtype}" for key, tensor in sorted(tensors.items()) if tensor.dtype not in FORMATS]
    if odd:
        expected = "expected float32, bfloat16 or float16"
        raise SourceError(name, f"weights hold {_some(odd)}: quantised weights are not read; {expected}")
    return tensors


def check_weights(folder: Path, name: str) -> tuple[Any, dict[str, Stored]]:
    """Compare config and weights both ways without reading the weights; return parsed config and stored tensors.

    Raises:
        SourceError: the family or a switch is not supported, or tensors are missing, unexpected or of another shape.
    """
    config, tensors = _compared(folder, name)
    _loaded(folder, name, "meta", None)
    return config, tensors


def load_causal(folder: Path | str, dtype: str) -> Any:
    """Load a decoder as transformers runs it, on CPU, its weights mapped where the file's format is `dtype`.

    Raises:
        SourceError: the folder is no model of a supported family, or tensors are missing, unexpected or of another
            shape.
    """
    folder, name = Path(folder), str(folder)
    _compared(folder, name)
    return _loaded(folder, name, None, dtype)


def _compared(folder: Path, name: str) -> tuple[Any, dict[str, Stored]]:
    """Return parsed config and stored tensors, compared as far as headers tell."""
    config = check_family(read_config(folder, name), name)
    tensors = stored_tensors(folder, name)
    _check_depth(config, tensors, name)
    _check_experts(config, tensors, name)
    _check_tied(config, folder, tensors, name)
    return config, tensors


def load_tokenizer(folder: Path | str, vocabulary: int | None = None, name: str | None = None) -> Any:
    """Load the tokenizer of a model, never with code that came with it.

    Args:
        folder: Of the model.
        vocabulary: Rows of its embedding, where they are to be compared with the tokenizer's ids.
        name: Of the model, for messages; the folder where it is not given.

    Raises:
        SourceError: there is no tokenizer, it needs code of its own, or it has ids beyond the embedding.
    """
    from transformers import AutoTokenizer

    folder, name = Path(folder), name or str(folder)
    check_tokenizer_settings(folder, name)
    if not any((folder / file).is_file() for file in _TOKENIZERS):
        raise SourceError(name, f"{folder} holds no tokenizer, expected one of {', '.join(_TOKENIZERS)}")
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            ids = tokenizer.get_vocab()
    except Exception as error:  # its libraries raise whatever their parsers do
        reason = " ".join(str(error).split())[:160]
        raise SourceError(name, f"the tokenizer cannot be read ({type(error).__name__}: {reason})") from error
    if not ids:
        raise SourceError(name, f"{folder} holds a tokenizer of no tokens")
    token, top = max(ids.items(), key=lambda entry: int(entry[1]))
    if vocabulary is not None and top >= vocabulary:
        problem = f"the tokenizer has id {top} ({token!r}), the embedding {vocabulary} rows, 0 to {vocabulary - 1}"
        raise SourceError(name, f"{problem}: they are not of one model")
    return tokenizer


def check_tokenizer_settings(folder: Path, name: str) -> None:
    """Refuse a tokenizer_config.json that is no JSON object or names code of its own."""
    settings = folder / "tokenizer_config.json"
    if settings.is_file() and json_object(settings, name).get("auto_map"):
        raise SourceError(name, f"{settings.name}: auto_map names code of the model's own, which Plait never runs")


def load_gguf(file: Path, name: str) -> tuple[Any, Any]:
    """Return model and tokenizer of a GGUF file, dequantised to float32.

    Raises:
        SourceError: transformers cannot read it, or tensors are missing, unexpected or of another shape.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    auto: Any = AutoModelForCausalLM
    place: dict[str, Any] = {
        "pretrained_model_name_or_path": str(file.parent),
        "gguf_file": file.name,
        "trust_remote_code": False,
    }
    try:
        with _quiet():
            model, about = auto.from_pretrained(
                **place, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
            )
            tokenizer = AutoTokenizer.from_pretrained(**place)
    except OSError:
        raise
    except Exception as error:  # a file that is not what it says may fail anywhere in there
        reason = " ".join(str(error).split())[:200]
        raise SourceError(name, f"transformers cannot read {file.name} ({reason})") from error
    if problems := list(_differences(about)):
        raise SourceError(name, f"{file.name}: its tensors do not fit its sizes: {'; '.join(problems)}")
    for problem in switches(model.config):
        raise SourceError(name, f"{file.name}: {problem.name} is {problem.got!r}, expected {problem.expected}")
    return model, tokenizer


_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


def _loaded(folder: Path, name: str, device: str | None, dtype: str | None) -> Any:
    """Return the model, or refuse it; `device` "meta" reads no weights."""
    import torch
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM  # typed as if it returned no loading info
    placed: dict[str, Any] = {"device_map": device} if device else {}
    try:
        with _quiet():
            model, about = auto.from_pretrained(
                folder, dtype=getattr(torch, dtype or "float32"), attn_implementation="sdpa", local_files_only=True,
                use_safetensors=True, trust_remote_code=False, output_loading_info=True,
                ignore_mismatched_sizes=True, **placed,
            )  # fmt: skip
    except Exception as error:  # a file that is not what it says may fail anywhere in there
        reason = " ".join(str(error).split())[:200]
        raise SourceError(name, f"not a model that transformers can load ({reason})") from error
    problems = [*_differences(about), *(f"error {problem}" for problem in about.get("error_msgs") or ())]
    if problems:
        raise SourceError(name, f"config.json and the weights do not fit: {'; '.join(problems)}")
    return model


def _differences(about: Mapping[str, Any]) -> Iterator[str]:
    """Yield in words what transformers says that it did not load."""
    for kind in ("missing", "unexpected"):
        if keys := sorted(about.get(f"{kind}_keys") or ()):
            yield f"{kind} {_some(keys)}"
    if wrong := sorted(about.get("mismatched_keys") or (), key=str):
        yield "misshapen " + _some([f"{key} {list(got)}, expected {list(want)}" for key, got, want in wrong])


def _check_experts(config: Any, tensors: Mapping[str, Stored], name: str) -> None:
    """Name the experts' tensors that are not stored: transformers stacks them and says only that it cannot."""
    if config.model_type != "olmoe" or any(key.endswith(".experts.down_proj") for key in tensors):
        return
    every = (
        f"model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight"
        for layer in range(config.num_hidden_layers)
        for expert in range(config.num_experts)
        for part in ("gate", "up", "down")
    )
    if lacking := [key for key in every if key not in tensors and key.removeprefix("model.") not in tensors]:
        raise SourceError(name, f"config.json and the weights do not fit: missing {_some(lacking)}")


def _check_depth(config: Any, tensors: Mapping[str, Stored], name: str) -> None:
    """Compare layers in config and file: a number says more than the names of forty tensors."""
    parts = (key.removeprefix("model.").split(".") for key in tensors)
    layers = {int(part[1]) for part in parts if part[0] == "layers" and len(part) > 2 and part[1].isdecimal()}
    depth = config.num_hidden_layers
    if layers and layers != set(range(depth)):
        lacking = sorted(set(range(depth)) - layers)
        which = f"lacking {_some([str(layer) for layer in lacking])}" if lacking else f"up to {max(layers)}"
        raise SourceError(name, f"config.json says {depth} layers, the weights hold {len(layers)} ({which})")


def _check_tied(config: Any, folder: Path, tensors: Mapping[str, Stored], name: str) -> None:
    """Refuse a head and an embedding that the config ties, where both are stored and differ."""
    head = tensors.get("lm_head.weight")
    table = next((key for key in ("model.embed_tokens.weight", "embed_tokens.weight") if key in tensors), None)
    if not config.tie_word_embeddings or head is None or table is None:
        return
    import torch
    from safetensors import safe_open

    with safe_open(folder / head.file, "pt") as left, safe_open(folder / tensors[table].file, "pt") as right:
        same = torch.equal(left.get_tensor("lm_head.weight"), right.get_tensor(table))
    if not same:
        problem = "tie_word_embeddings is true, but lm_head.weight and embed_tokens.weight differ"
        raise SourceError(name, f"config.json and the weights do not fit: {problem}")


def _some(names: list[str]) -> str:
    """Return up to three names and how many there are more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' tables and bars off the screen: what matters becomes one line of ours."""
    from transformers.utils import logging as theirs

    told = logging.getLogger("transformers")
    before = told.level
    theirs.disable_progress_bar()
    told.setLevel(logging.ERROR)
    try:
        yield
    finally:
        told.setLevel(before)
