"""Weights into the form that hosts map: safetensors of the wanted number format, made once."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .cache import LocalModel

Dtype = Literal["float32", "bfloat16"]


def gguf_to_safetensors(file: Path, folder: Path, name: str) -> None:
    """Dequantise a GGUF file into config.json, model.safetensors and tokenizer files, in float32.

    transformers refuses to save a model that it loaded from GGUF, so a fresh model is built from its config and
    given its weights.

    Raises:
        SourceError: the file is damaged, not whole, of no supported architecture, or transformers cannot read it.
    """
    from ..loading import load_gguf
    from .gguf_check import check_gguf

    check_gguf(file, name)
    read, tokenizer = load_gguf(file, name)
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh = type(read)(config)
    fresh.load_state_dict(read.state_dict())
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for made in folder.glob("*.safetensors"):
        made.chmod(0o644)  # written for its owner alone, but hosts of other users may map it


def weights_folder(model: "LocalModel", dtype: Dtype) -> Path:
    """Return a folder of the model whose weights are `dtype` on disk, converting them on first use.

    A host that converted while loading would hold a private copy; mapped from a file, all hosts share one.

    Raises:
        SourceError: the disk is full.
    """
    from .cache import building, home, locked, one_line, text_hash

    if model.dtype == dtype:
        return model.folder
    slug = f"{model.model_hash[:16]}-{text_hash(model.folder)[:8]}-{dtype}"  # its tokenizer's files are copied too
    final = home() / "derived" / slug
    with one_line(model.name), locked(slug):
        if not final.exists():
            with building(slug, final) as draft:
                _convert(model.folder, draft, dtype)
    return final


def _convert(source: Path, target: Path, dtype: Dtype) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    for file in source.iterdir():
        if file.suffix in (".json", ".jinja", ".model", ".txt"):
            shutil.copy(file, target)
    for file in source.glob("*.safetensors"):
        wanted = getattr(torch, dtype)
        tensors = {
            name: tensor.to(wanted) if tensor.is_floating_point() else tensor
            for name, tensor in load_file(file).items()
        }
        save_file(tensors, target / file.name, metadata={"format": "pt"})
