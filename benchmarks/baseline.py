"""The rival of path_scoring.py: one path of one item at a time, stock layers, a padded row an option.

This is how one would score options over layer paths with transformers alone, with care: rows padded on the right
(causal attention needs no mask then), no KV cache, the head only where an option's token is predicted.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

Item = tuple[list[int], list[list[int]]]
"""Prompt tokens and each option's tokens."""


class StockScorer:
    """Scores (item, path) one after another."""

    def __init__(self, folder: Path | str) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)

    @torch.inference_mode()
    def score(self, item: Item, path: Sequence[int]) -> list[float]:
        """Return per option the sum of its tokens' log-probabilities, in nats."""
        prompt, options = item
        width = len(prompt) + max(map(len, options)) - 1
        rows = torch.zeros(len(options), width, dtype=torch.long)
        for row, option in zip(rows, options, strict=True):
            text = prompt + option[:-1]
            row[: len(text)] = torch.tensor(text)
        hidden = self._run(rows, path)
        sums = []
        for row, option in zip(hidden, options, strict=True):
            predicting = row[len(prompt) - 1 : len(prompt) - 1 + len(option)]
            logits = self.model.lm_head(self.model.model.norm(predicting)).log_softmax(-1)
            sums.append(float(logits[torch.arange(len(option)), torch.tensor(option)].double().sum()))
        return sums

    def _run(self, rows: Tensor, path: Sequence[int]) -> Tensor:
        """Return final hidden states [options, width, hidden]."""
        hidden = self.model.model.embed_tokens(rows)
        rotary = self.model.model.rotary_emb(hidden, torch.arange(rows.shape[1])[None])
        for layer in path:
            hidden = self.model.model.layers[layer](hidden, position_embeddings=rotary, attention_mask=None)
        return hidden
