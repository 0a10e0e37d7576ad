"""Answers held to a JSON schema: which tokens may come next, and which must. The grammar is llguidance's work.

A guide changes logits and draws nothing, so an answer stays a function of its request alone. Must not know batches.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import SpecError

KEPT = 64
"""Schemas that are kept compiled."""
_COMPACT: Any = {"whitespace_flexible": False}
"""No space between the parts of an answer: weak models fill it with blank lines until their tokens are spent."""


class Guide:
    """Follows one answer through its schema."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary

    def masked(self, logits: Tensor) -> Tensor:
        """Return `logits` [vocabulary] with -inf where a token cannot come next; an end may where the JSON is whole."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(mask, count=self._vocabulary, bitorder="little").astype(bool)
        return logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), float("-inf"))

    def take(self, token: int) -> list[int]:
        """Follow a drawn token, and return those that must come after it, followed too."""
        self._follow([token])
        forced = [] if self.whole else [int(one) for one in self._matcher.compute_ff_tokens()]
        self._follow(forced)
        return forced

    @property
    def whole(self) -> bool:
        """Whether nothing can follow."""
        return bool(self._matcher.is_stopped())

    def _follow(self, tokens: list[int]) -> None:
        if not self._matcher.consume_tokens(tokens):
            raise SpecError("schema", self._matcher.get_error(), "a schema whose answers can be followed")


class Guides:
    """Makes guides for one model; see `of`."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        self._tokenizer, self._vocabulary = tokenizer, vocabulary
        # Requests of a search share a few schemas, and each is looked at before it is let in and again when it begins.
        self._matcher = lru_cache(maxsize=KEPT)(self._compiled)

    @classmethod
    def of(cls, tokenizer: Any, vocabulary: int, ends: Iterable[int]) -> "Guides | None":
        """Return the guides of a model; None where its tokenizer is of a kind that cannot be followed.

        Takes a third of a second.

        Args:
            tokenizer: Of transformers.
            vocabulary: Width of the model's logits, which may be more than the tokenizer's.
            ends: Tokens that end an answer.
        """
        import llguidance.hf

        try:
            read = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=sorted(ends) or None)
        except ValueError:  # no fast one, pieces that are no bytes, more tokens than logits
            return None
        return cls(read, vocabulary)

    def __call__(self, schema: str) -> Guide:
        """Return a guide to the JSON text of a JSON schema.

        Raises:
            SpecError: it is none, or holds what cannot be kept to.
        """
        return Guide(self._matcher(schema).deep_copy(), self._vocabulary)

    def _compiled(self, schema: str) -> Any:
        import llguidance

        try:
            grammar = llguidance.LLMatcher.grammar_from_json_schema(json.loads(schema), overrides=_COMPACT)
        except ValueError as error:
            raise SpecError("schema", schema[:80], f"a JSON schema: {error}") from error
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            said = matcher.get_error().strip().splitlines()[0]
            raise SpecError("schema", said, "a JSON schema that answers can be held to")
        return matcher


__all__ = ["Guide", "Guides"]
