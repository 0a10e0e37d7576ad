"""Attention over rows of many sequences laid end to end, each attending to itself alone.

The linear layers of a decoder layer work row by row, so the rows of all sequences go through them as one matrix.
Attention does not: it runs here sequence by sequence, through the very function that the stock model uses, so
that a sequence's bits do not depend on its batch-mates. It is registered under the name `plait` through
transformers' own extension point; no layer module is patched. Must not know paths, items or searches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "plait"
"""The attention implementation's name in transformers' table."""


class Cache(Protocol):
    """Keys and values of one sequence's earlier rows."""

    @property
    def shared(self) -> bool:
        """Whether a slot belongs to a layer and not to a path position (`KVStore`)."""
        ...

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append [1, heads, rows, head_dim]; return all that the new rows may attend to, the new ones last."""
        ...


@dataclass
class KVStore:
    """Keys and values of one sequence, one slot per path position.

    With `shared=True` a slot belongs to a layer instead, and the second pass of a repeated layer sees what the
    released CoLa code makes it see: the first pass's keys while the prompt is read, the union of all passes
    afterwards (measured behaviour, kept for comparison only).
    """

    shared: bool = False
    slots: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    slot: int = 0
    """The slot that the layer now running reads and writes; set by the decoder before each layer."""

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append [1, heads, rows, head_dim] to the current slot; return what the new rows may attend to."""
        if self.slot in self.slots:
            before_key, before_value = self.slots[self.slot]
            key, value = torch.cat([before_key, key], dim=2), torch.cat([before_value, value], dim=2)
        self.slots[self.slot] = (key, value)
        return key, value


@dataclass(frozen=True, slots=True)
class Span:
    """Rows `start:stop` of the batch: one sequence.

    Attributes:
        start: First row.
        stop: One past the last row.
        positions: [rows], token positions, which a tree of options does not count through.
        tree: Which row may see which, of bool: [rows, rows], or [rows, keys] where `kv` holds earlier rows, which
            come first; None for plain causal order.
        kv: Keys and values of earlier rows, whose positions count from 0.
    """

    start: int
    stop: int
    positions: Tensor
    tree: Tensor | None = None
    kv: Cache | None = None


def _mask(span: Span, window: int | None) -> Tensor | None:
    """Return the mask of a prefill, [1, 1, rows, rows] of bool, or None where the causal flag says it all.

    The flag and the mask take different kernels; the stock model takes the flag wherever it can, and so do we.
    """
    rows = span.stop - span.start
    if span.tree is None and (window is None or rows < window):
        return None
    mask = span.tree
    if mask is None:
        mask = torch.ones(rows, rows, dtype=torch.bool, device=span.positions.device).tril()
    if window is not None:
        mask = mask & (span.positions[:, None] - span.positions[None, :] < window)
    return mask[None, None]


def _mask_over_earlier(span: Span, keys: int, window: int | None) -> Tensor | None:
    """Return the mask of rows that follow earlier ones, [rows, keys] of bool; None for one row that sees all keys."""
    rows = span.stop - span.start
    mask = span.tree
    if mask is None and rows > 1:
        mask = torch.ones(rows, keys, dtype=torch.bool, device=span.positions.device).tril(keys - rows)
    if window is None or keys <= window:
        return mask
    places = torch.cat([torch.arange(keys - rows, device=span.positions.device), span.positions])
    near = span.positions[:, None] - places[None, :] < window
    return near if mask is None else mask & near


def _attend_over_earlier(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None
) -> Tensor:
    """Return [1, rows, heads, head_dim] of rows that see earlier keys.

    The query heads that share a key head become rows of it, so that keys and values are read as they lie in the
    cache and not copied once a query head.
    """
    _, heads, rows, width = query.shape
    groups = heads // key.shape[1]
    packed = query.reshape(1, key.shape[1], groups * rows, width)
    if mask is not None:
        mask = mask.repeat(groups, 1)
    out = scaled_dot_product_attention(packed, key, value, attn_mask=mask, scale=scaling)
    return out.reshape(1, heads, rows, -1).transpose(1, 2)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    spans: Sequence[Span],
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attend within each span.

    Args:
        module: The stock attention module, for its head counts.
        query: [1, heads, rows, head_dim], rotated.
        key: [1, key-value heads, rows, head_dim], rotated.
        value: [1, key-value heads, rows, head_dim].
        attention_mask: Unused; each span brings its own.
        spans: The sequences; rows of no span are padding and give zeros.
        scaling: Of the dot products.
        sliding_window: Tokens that a row of this layer sees, itself included; None for all.

    Returns:
        [1, rows, heads, head_dim of value], and None for the weights.
    """
    out = query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3])
    for span in spans:
        rows = slice(span.start, span.stop)
        q, k, v = query[:, :, rows], key[:, :, rows], value[:, :, rows]
        if span.kv is not None:
            k, v = span.kv.extend(k, v)
            if k.shape[2] > q.shape[2] and not span.kv.shared:
                earlier = _mask_over_earlier(span, k.shape[2], sliding_window)
                out[:, rows] = _attend_over_earlier(q, k, v, earlier, scaling)
                continue
            if q.shape[2] == 1 and sliding_window is not None:
                k, v = k[:, :, -sliding_window:], v[:, :, -sliding_window:]
        mask = _mask(span, sliding_window)
        causal = mask is None and q.shape[2] > 1
        part, _weights = sdpa_attention_forward(module, q, k, v, mask, scaling=scaling, is_causal=causal)
        out[:, rows] = part
    return out, None


AttentionInterface.register(NAME, attend)
