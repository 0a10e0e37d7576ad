"""A pretrained decoder as addressable layers: embedding, any layer in any order, head.

The layers are the stock transformers modules, called one by one with what they need (rotary tables, the spans of
the sequences). Nothing is re-implemented and nothing is copied: a layer that a path runs twice is one module run
twice. Must not know items, searches, tries or Ray.

Source: CoLa, arXiv 2507.07996, section 3 (paths); DESIGN.md is silent on families: a family is supported when its
tests of exactness pass (tests/models/test_families.py).
"""

import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from ..errors import NotFinite, SpecError
from .attention import NAME, KVStore, Span
from .families import FAMILIES, switches

Dtype = Literal["float32", "bfloat16"]
KVMode = Literal["slot", "shared"]

MIN_ROWS = 16
"""Rows in every matrix product: below 16 a row's bits depend on how many there are (torch on CPU, one thread)."""

VECTOR = 32
"""Floats that an elementwise CPU kernel takes at once (two AVX-512 registers, or four of AVX2)."""


class LayeredDecoder:
    """A frozen decoder whose layers run in any order, any number of times.

    Rows of many sequences travel together as one matrix [rows, hidden]; `Span`s say which rows are whose.
    """

    def __init__(self, model: Any, *, min_rows: int = MIN_ROWS) -> None:
        config = model.config
        if config.model_type not in FAMILIES:
            raise SpecError("model family", config.model_type, f"one of {', '.join(FAMILIES)}")
        for problem in switches(config):
            raise SpecError(f"{config.model_type} config: {problem.name}", problem.got, problem.expected)
        model.eval().requires_grad_(False)
        config._attn_implementation = NAME  # the layers look the function up here, at each call
        self._model, self._min_rows = model, min_rows
        self._row_multiple = _row_multiple(config) if min_rows > 1 else 1
        self._kinds = _rotary_kinds(model)
        self.depth: int = config.num_hidden_layers
        self.hidden_size: int = config.hidden_size
        self.vocabulary: int = config.vocab_size
        self.kv_heads: int = config.num_key_value_heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.context_length: int = config.max_position_embeddings
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.stop_tokens = _stop_tokens(model)

    @classmethod
    def load(
        cls, folder: Path | str, dtype: Dtype = "float32", device: str = "cpu", *, min_rows: int = MIN_ROWS
    ) -> Self:
        """Load a folder of config.json and safetensors; on CPU the weights stay mapped from the file.

        Raises:
            SourceError: the folder holds no model that transformers can load, its family or a switch of its config
                is not supported, or config and weights do not fit together.
        """
        from .loading import load_causal

        return cls(torch.nn.Module.to(load_causal(folder, dtype), device), min_rows=min_rows)

    @property
    def row_independent(self) -> bool:
        """Whether all but attention works row by row; experts gather rows, so a batch may change their bits."""
        return not getattr(self._model.config, "num_experts", None)

    @property
    def batch_invariant(self) -> bool:
        """Whether equal inputs promise equal bits in any batch on this device with these settings."""
        return self.device.type == "cpu" and torch.get_num_threads() == 1 and self._min_rows >= MIN_ROWS

    def check(self, path: Sequence[int]) -> None:
        """Refuse a path that is empty or names a layer that is not there."""
        if not path:
            raise SpecError("path", "no layer", "one layer or more")
        for layer in path:
            if not 0 <= layer < self.depth:
                raise SpecError("path", layer, f"layers 0 to {self.depth - 1} of this model")

    def embed(self, tokens: Tensor) -> Tensor:
        """Return [rows, hidden] for token ids [rows]."""
        return self._model.model.embed_tokens(tokens.to(self.device)[None])[0]

    def rotary(self, positions: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Return per kind of layer the cosines and sines, each [rows, head_dim], for positions [rows]."""
        module, where = self._model.model.rotary_emb, positions.to(self.device)[None]
        like = torch.empty(1, dtype=self.dtype, device=self.device)
        tables = {kind: module(like, where, *([kind] if kind else [])) for kind in set(self._kinds)}
        return {kind: (cos[0], sin[0]) for kind, (cos, sin) in tables.items()}

    def kind(self, layer: int) -> str:
        """Return which rotary table `layer` takes: "" where all layers share one."""
        return self._kinds[layer]

    def run_layer(self, layer: int, hidden: Tensor, rotary: tuple[Tensor, Tensor], spans: Sequence[Span]) -> Tensor:
        """Run one layer over the rows of `spans`.

        Args:
            layer: Index of the layer's weights.
            hidden: [rows, hidden].
            rotary: Cosines and sines of this layer's kind, each [rows, head_dim].
            spans: The sequences among the rows.

        Returns:
            [rows, hidden].
        """
        rows = hidden.shape[0]
        hidden, cos, sin = (self._pad(part) for part in (hidden, *rotary))
        out = self._model.model.layers[layer](hidden[None], position_embeddings=(cos[None], sin[None]), spans=spans)
        return out[0, :rows]

    def head(self, hidden: Tensor) -> Tensor:
        """Return logits [rows, vocabulary] of final hidden states [rows, hidden]: norm, head, soft cap."""
        rows = hidden.shape[0]
        logits = self._model.lm_head(self._model.model.norm(self._pad(hidden)[None]))[0, :rows]
        cap = getattr(self._model.config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def _pad(self, rows: Tensor) -> Tensor:
        """Append rows of zeros up to the least count, and to a multiple that activations compute alike."""
        count = max(rows.shape[0], self._min_rows)
        count += -count % self._row_multiple
        return torch.nn.functional.pad(rows, (0, 0, 0, count - rows.shape[0])) if count > rows.shape[0] else rows

    @torch.inference_mode()
    def forward(self, tokens: Tensor, path: Sequence[int], *, start: int = 0, kv: KVStore | None = None) -> Tensor:
        """Run one plain sequence along `path`, the reference that everything faster is tested against.

        Args:
            tokens: [rows], token ids.
            path: Layer indices, repeats allowed.
            start: Position of the first token, where `kv` holds earlier ones.
            kv: Keys and values to extend.

        Returns:
            Final hidden states [rows, hidden], before norm and head.
        """
        self.check(path)
        positions = torch.arange(start, start + tokens.shape[0], device=self.device)
        rotary = self.rotary(positions)
        span = Span(0, tokens.shape[0], positions, kv=kv)
        hidden = self.embed(tokens)
        for position, layer in enumerate(path):
            if kv is not None:
                kv.slot = layer if kv.shared else position
            hidden = self.run_layer(layer, hidden, rotary[self.kind(layer)], [span])
        return hidden

    @torch.inference_mode()
    def logits(self, tokens: Sequence[int], path: Sequence[int], *, kv: KVMode = "slot") -> Tensor:
        """Return logits [tokens, vocabulary] of one plain sequence along `path`."""
        store = KVStore(shared=True) if kv == "shared" else None
        return self.head(self.forward(torch.tensor(list(tokens)), path, kv=store))

    @torch.inference_mode()
    def generate(
        self, tokens: Sequence[int], path: Sequence[int], max_new_tokens: int, *, kv: KVMode = "slot"
    ) -> list[int]:
        """Continue `tokens` greedily along `path`, one KV slot per path position.

        Returns:
            The new token ids, up to and without the first stop token.

        Raises:
            NotFinite: the logits are NaN or infinite.
        """
        store, new = KVStore(shared=kv == "shared"), list(tokens)
        made: list[int] = []
        seen = 0
        while len(made) < max_new_tokens:
            hidden = self.forward(torch.tensor(new), path, start=seen, kv=store)
            seen += len(new)
            logits = self.head(hidden[-1:])
            if not torch.isfinite(logits.amax()):
                raise NotFinite(f"the logits of token {len(made)} of the answer")
            token = int(logits.argmax())
            if token in self.stop_tokens:
                break
            made.append(token)
            new = [token]
        return made


def _row_multiple(config: Any) -> int:
    """Return the multiple of rows at which an activation's tensor fills whole vectors.

    SiLU and GELU take a last, unfilled vector through another code path with other last bits. The widths of real
    models are multiples of `VECTOR`, so that nothing is padded; odd widths need this.
    """
    names = ("intermediate_size", "moe_intermediate_size")
    widths = [int(width) for name in names if (width := getattr(config, name, None))]
    return max(VECTOR // math.gcd(VECTOR, width) for width in widths)


def _rotary_kinds(model: Any) -> list[str]:
    """Return per layer the rotary table that it takes: families like Gemma 3 keep one per kind of attention."""
    config = model.config
    if "layer_type" in inspect.signature(model.model.rotary_emb.forward).parameters:
        return list(config.layer_types)
    return [""] * int(config.num_hidden_layers)


def _stop_tokens(model: Any) -> frozenset[int]:
    """Return the token ids that end a generation, one or several as the config says."""
    ids = model.generation_config.eos_token_id
    return frozenset([] if ids is None else [ids] if isinstance(ids, int) else ids)
