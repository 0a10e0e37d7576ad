"""Cut decoders: blocks left out, feed-forward channels kept by importance; built, saved, loaded.

What stays keeps its weights to the bit. Knows transformers; must not know searches, data files or Ray.

Sources: block influence, ShortGPT (arXiv 2403.03853), equation 1; channels ranked by activation, Minitron (arXiv
2407.14679), here the mean absolute activation times the L1 norm of the channel's column in the down projection.
"""

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..decoder_cuts import DecoderCut, DecoderSizes
from ..errors import SourceError, SpecError
from ..records import digest

CUT_FILE = "plait_cut.json"
"""Beside the weights of a cut whose blocks differ in width: which width each has."""


@dataclass(frozen=True)
class Calibration:
    """What a text says of a decoder's parts.

    Attributes:
        influence: One a block: 1 - cos(hidden state before, after), mean over tokens.
        channels: One a block: its feed-forward channels, the most important first.
    """

    influence: tuple[float, ...]
    channels: tuple[tuple[int, ...], ...]

    @property
    def hash(self) -> str:
        """Of the order of the channels, on which a cut's weights depend."""
        return digest(self.channels)


def load_model(folder: Path | str) -> Any:
    """Load a decoder in float32 from a folder, as transformers runs it.

    Raises:
        SourceError: the folder holds no model that transformers can load, or config and weights do not fit together.
        SpecError: its blocks have no gated feed-forward layer to narrow.
    """
    from .loading import load_causal

    model = load_causal(folder, "float32")
    sizes_of(model)
    return model.eval().requires_grad_(False)


def sizes_of(model: Any) -> DecoderSizes:
    """Return what the parameters of a full decoder are made of.

    Raises:
        SpecError: its blocks have no gated feed-forward layer to narrow.
    """
    block = model.model.layers[0]
    parts = [getattr(getattr(block, "mlp", None), name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if not all(isinstance(part, nn.Linear) for part in parts):
        expected = "a decoder whose blocks have mlp.gate_proj, up_proj and down_proj (llama, qwen2, qwen3, gemma3)"
        raise SpecError("model family", model.config.model_type, expected)
    gate, up, _ = parts
    assert gate is not None, "a linear layer, seen just above"
    assert up is not None, "a linear layer, seen just above"
    biases = sum(part.bias is not None for part in (gate, up))
    channel = 3 * gate.in_features + biases
    inside = _count(block) - gate.out_features * channel
    depth = len(model.model.layers)
    return DecoderSizes(depth, gate.out_features, channel, inside, _count(model) - depth * _count(block))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())  # tied weights are counted once


@torch.inference_mode()
def calibrate(model: Any, sequences: Tensor, batch: int = 4) -> Calibration:
    """Measure block influence and channel importance on token ids [sequences, length]."""
    layers = model.model.layers
    turned = [0.0] * len(layers)
    active = [torch.zeros(layer.mlp.down_proj.in_features) for layer in layers]

    def block_hook(index: int) -> Any:
        def hook(_: nn.Module, given: tuple[Tensor, ...], out: Any) -> None:
            after = out[0] if isinstance(out, tuple) else out
            turned[index] += float((1 - torch.cosine_similarity(given[0], after, dim=-1)).double().sum())

        return hook

    def channel_hook(index: int) -> Any:
        def hook(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            active[index] += given[0].abs().flatten(0, -2).sum(0)

        return hook

    hooks = [layer.register_forward_hook(block_hook(index)) for index, layer in enumerate(layers)]
    hooks += [layer.mlp.down_proj.register_forward_pre_hook(channel_hook(index)) for index, layer in enumerate(layers)]
    try:
        for part in sequences.split(batch):
            model.model(input_ids=part, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    tokens = sequences.numel()
    weights = [layer.mlp.down_proj.weight.abs().sum(0) for layer in layers]
    ranked = [
        tuple((one * weight).argsort(descending=True, stable=True).tolist())
        for one, weight in zip(active, weights, strict=True)
    ]
    return Calibration(tuple(max(total / tokens, 1e-9) for total in turned), tuple(ranked))


def cut_model(model: Any, cut: DecoderCut, channels: Sequence[Sequence[int]]) -> Any:
    """Return a cut copy of a full decoder; the full one is left as it was.

    Args:
        model: The full decoder.
        cut: Which blocks stay, and how wide.
        channels: One a block of the full model: its channels, those to be kept first.

    Raises:
        SpecError: the model does not have these blocks or widths.
    """
    sizes_of(model).check(cut)
    cut_copy = copy.deepcopy(model)
    layers = [cut_copy.model.layers[index] for index in cut.kept]
    for position, (layer, (index, width)) in enumerate(zip(layers, cut.blocks, strict=True)):
        layer.self_attn.layer_idx = position
        kept = torch.tensor(sorted(channels[index][:width]))
        for part, rows in ((layer.mlp.gate_proj, True), (layer.mlp.up_proj, True), (layer.mlp.down_proj, False)):
            _narrow(part, kept, rows=rows)
    cut_copy.model.layers = nn.ModuleList(layers)
    config = cut_copy.config
    config.num_hidden_layers, config.intermediate_size = len(layers), max(cut.widths)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[index] for index in cut.kept]
    return cut_copy


def _narrow(part: nn.Linear, kept: Tensor, *, rows: bool) -> None:
    """Keep some output channels (`rows`) or input channels of a linear layer."""
    weight = part.weight.detach()
    part.weight = nn.Parameter((weight[kept] if rows else weight[:, kept]).clone(), part.weight.requires_grad)
    if rows:
        part.out_features = len(kept)
        if part.bias is not None:
            part.bias = nn.Parameter(part.bias.detach()[kept].clone(), part.bias.requires_grad)
    else:
        part.in_features = len(kept)


def save_cut(model: Any, cut: DecoderCut, folder: Path, *, tokenizer: Path | None = None, padded: bool = False) -> None:
    """Write a cut decoder as config.json, safetensors and, from the folder `tokenizer`, the tokenizer's files.

    A cut of one width is a plain Hugging Face folder that `from_pretrained` loads. The config has one place for the
    width, so a cut of several widths is not: it is saved with `plait_cut.json` beside it, for `load_cut`; or
    `padded`, all blocks as wide as the widest, with zeros that change no output: loadable everywhere, but the
    narrower blocks then save neither bytes nor time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = cut.uniform or padded
    saved = _padded(model) if padded and not cut.uniform else model
    saved.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)  # written for its owner alone, but it is to be read elsewhere
    if not whole:
        (folder / CUT_FILE).write_text(json.dumps({"cut": cut.key, "widths": cut.widths}, indent=1) + "\n")
    for file in sorted(tokenizer.iterdir()) if tokenizer is not None else ():
        if file.name.startswith(("token", "vocab", "merges", "special", "chat_template", "generation_config")):
            shutil.copy(file, folder)


def load_cut(folder: Path) -> Any:
    """Load what `save_cut` wrote, of one width or of several.

    Raises:
        SourceError: config, widths and weights do not fit together.
    """
    if not (folder / CUT_FILE).exists():
        return load_model(folder)
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    from .families import check_family
    from .loading import json_object, read_config, stored_tensors, weight_files

    config = check_family(read_config(folder, str(folder)), str(folder))
    files = weight_files(folder, str(folder))
    stored_tensors(folder, str(folder))
    try:
        widths = json_object(folder / CUT_FILE, str(folder))["widths"]
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
        for layer, width in zip(model.model.layers, widths, strict=True):
            for part, rows in ((layer.mlp.gate_proj, True), (layer.mlp.up_proj, True), (layer.mlp.down_proj, False)):
                _narrow(part, torch.arange(width), rows=rows)
        weights: dict[str, Tensor] = {}
        for file in files:
            weights.update(load_file(file))
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(str(folder), f"not a cut decoder whose files fit together ({reason})") from error
    tied = set(getattr(model, "_tied_weights_keys", None) or ()) if model.config.tie_word_embeddings else set()
    if unexpected or set(missing) - tied:
        raise SourceError(str(folder), f"weights do not match the config: {sorted({*unexpected, *missing})[:3]}")
    model.tie_weights()
    return model.eval().requires_grad_(False)


def _padded(model: Any) -> Any:
    """Return a copy with all feed-forward layers as wide as the widest, the added channels zero."""
    wide = copy.deepcopy(model)
    width = max(layer.mlp.gate_proj.out_features for layer in wide.model.layers)
    for layer in wide.model.layers:
        mlp, missing = layer.mlp, width - layer.mlp.gate_proj.out_features
        for part in (mlp.gate_proj, mlp.up_proj):
            part.weight = nn.Parameter(nn.functional.pad(part.weight.detach(), (0, 0, 0, missing)))
            part.out_features = width
            if part.bias is not None:
                part.bias = nn.Parameter(nn.functional.pad(part.bias.detach(), (0, missing)))
        mlp.down_proj.weight = nn.Parameter(nn.functional.pad(mlp.down_proj.weight.detach(), (0, missing)))
        mlp.down_proj.in_features = width
    return wide
