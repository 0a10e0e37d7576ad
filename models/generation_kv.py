"""Keys and values of sequences that are being generated, and of prompt blocks that later requests share.

A prompt is computed in blocks of a fixed number of tokens, aligned to multiples of it. A block's keys and values are
a function of its tokens and of the blocks before it, bit for bit, whoever computes it and when; so a cached block
may stand in for a computed one. Must not know requests, sampling or layers' weights.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .decoder import LayeredDecoder


class SequenceKV:
    """Keys and values of one sequence, one slot per path position, in a buffer that grows by doubling.

    Doubling copies each row a constant number of times on average; joining at every token would copy all rows at
    every token.
    """

    shared = False

    def __init__(self, decoder: LayeredDecoder, positions: int, rows: int) -> None:
        self.slot = 0
        """The slot that the layer now running extends; set before each layer."""
        self._shape = (positions, 2, decoder.kv_heads, decoder.head_dim)
        self._dtype, self._device = decoder.dtype, decoder.device
        self._held = [0] * positions
        self._room(rows)

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append [1, heads, rows, head_dim] to the current slot; return views of all it holds."""
        before, rows = self._held[self.slot], key.shape[2]
        after = before + rows
        if after > self._rows:
            self._grow(after)
        self._held[self.slot] = after
        keys, values = self._slots[self.slot]
        keys.narrow(2, before, rows).copy_(key)
        values.narrow(2, before, rows).copy_(value)
        return keys.narrow(2, 0, after), values.narrow(2, 0, after)

    def copy_rows(self, start: int, stop: int) -> Tensor:
        """Return a copy of rows `start:stop` of all slots, [positions, 2, heads, rows, head_dim]."""
        return self._buffer[:, :, :, start:stop].clone()

    def load_rows(self, block: Tensor) -> None:
        """Append a copy that `copy_rows` made to all slots."""
        before = self._held[0]
        after = before + block.shape[3]
        if after > self._rows:
            self._grow(after)
        self._buffer[:, :, :, before:after] = block
        self._held = [after] * len(self._held)

    def _room(self, rows: int) -> None:
        positions, two, heads, width = self._shape
        # Not filled: the system gives memory to pages that are written, so unused room costs none.
        self._buffer = torch.empty(positions, two, heads, rows, width, dtype=self._dtype, device=self._device)
        self._rows = rows
        self._slots = [(slot[:1], slot[1:]) for slot in self._buffer.unbind(0)]

    def _grow(self, rows: int) -> None:
        old, held = self._buffer, max(self._held)
        self._room(max(2 * self._rows, rows))
        self._buffer[:, :, :, :held] = old[:, :, :, :held]


class BlockCache:
    """Whole prompt blocks by the hash of all tokens up to their end, the least recently used evicted."""

    def __init__(self, budget: int) -> None:
        self.budget, self.bytes, self.evicted = budget, 0, 0
        self._blocks: OrderedDict[bytes, Tensor] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        return key in self._blocks

    def get(self, key: bytes) -> Tensor | None:
        """Return the block, or None where it is not held."""
        return self._blocks.get(key)

    def put(self, key: bytes, block: Tensor) -> None:
        """Keep a block; one beyond the whole budget is not kept."""
        if block.nbytes > self.budget or key in self._blocks:
            return
        self._blocks[key] = block
        self.bytes += block.nbytes
        while self.bytes > self.budget:
            _, old = self._blocks.popitem(last=False)
            self.bytes -= old.nbytes
            self.evicted += 1

    def touch(self, chain: Sequence[bytes]) -> None:
        """Mark a prompt's blocks as used: the first last, since without it those behind it are of no use."""
        for key in reversed(chain):
            if key in self._blocks:
                self._blocks.move_to_end(key)


def block_chain(path: Iterable[int], tokens: Sequence[int], block: int) -> list[bytes]:
    """Return a key for each whole block of `tokens`; equal keys mean equal path and equal tokens up to its end."""
    key, chain = array("q", path).tobytes(), []
    for stop in range(block, len(tokens) + 1, block):
        key = hashlib.sha256(key + array("q", tokens[stop - block : stop]).tobytes()).digest()
        chain.append(key)
    return chain


__all__ = ["BlockCache", "SequenceKV", "block_chain"]
