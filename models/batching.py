"""How many rows a layer should take at once: a small model of what a layer call costs, fitted on this machine.

A call costs a fixed part (its weights are read once, its kernels are started) and a part a row; below the fewest
rows that a matrix product may have, rows are padded and cost alike. Splitting is then a matter of arithmetic: as
few batches as the memory allows, all about alike, since a small rest pays the fixed part for little. Which batches
are cut changes no bit of an answer (decoder.py, `batch_invariant`), so a measured time may decide. Must not know
items, paths or tries.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch

from .attention import Span

if TYPE_CHECKING:
    from .decoder import LayeredDecoder

OVERHEAD = 0.05
"""Share of a batch's cost that its fixed part may take; larger batches gain less than this."""

MOST_ROWS = 1024
"""Rows of a batch at most: beyond, activations leave the cache and nothing is gained on any CPU measured."""

SEQUENCE = 32
"""Rows of a sequence in the measurement, about a question with its options."""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """Seconds of a layer call: `fixed + per_row * max(rows, least)`.

    Attributes:
        fixed: Seconds of any call.
        per_row: Seconds a row.
        least: Rows that a smaller batch is padded to.
    """

    fixed: float
    per_row: float
    least: int

    def seconds(self, rows: int) -> float:
        """Return the predicted time of one call."""
        return self.fixed + self.per_row * max(rows, self.least)

    @property
    def best_rows(self) -> int:
        """The fewest rows whose fixed part is no more than `OVERHEAD` of the cost."""
        rows = self.fixed / self.per_row * (1 - OVERHEAD) / OVERHEAD if self.per_row > 0 else MOST_ROWS
        return int(min(MOST_ROWS, max(self.least, rows)))

    def cut(self, sizes: Sequence[int]) -> list[slice]:
        """Cut sequences of so many rows each, in order, into batches of at most about `best_rows`, alike in size."""
        total = sum(sizes)
        batches = max(1, round(total / self.best_rows))
        share = total / batches
        cuts: list[slice] = []
        start = filled = 0
        for index, size in enumerate(sizes):
            filled += size
            full = len(cuts) < batches - 1 and filled >= share * (len(cuts) + 1) - size / 2
            if full or index == len(sizes) - 1:
                cuts.append(slice(start, index + 1))
                start = index + 1
        return cuts

    @classmethod
    def of_rows(cls, rows: int) -> Self:
        """Return a cost whose `best_rows` is `rows`."""
        return cls(OVERHEAD / (1 - OVERHEAD) * rows, 1.0, 1)

    @classmethod
    def measure(cls, decoder: "LayeredDecoder", *, sizes: Sequence[int] = (16, 96, 256), repeats: int = 5) -> Self:
        """Fit the model on `decoder`'s middle layer: a few dozen calls, a tenth of a second on a small model."""
        layer = decoder.depth // 2
        median = {rows: _median_seconds(decoder, layer, rows, repeats) for rows in sizes}
        few, many = min(sizes), max(sizes)
        per_row = max((median[many] - median[few]) / (many - few), 1e-9)
        fixed = max(median[few] - per_row * few, 0.0)
        return cls(fixed, per_row, few)


@torch.inference_mode()
def _median_seconds(decoder: "LayeredDecoder", layer: int, rows: int, repeats: int) -> float:
    positions = torch.arange(rows, device=decoder.device) % SEQUENCE
    rotary = decoder.rotary(positions)[decoder.kind(layer)]
    hidden = torch.zeros(rows, decoder.hidden_size, dtype=decoder.dtype, device=decoder.device)
    bounds = range(0, rows, SEQUENCE)
    spans = [Span(at, min(rows, at + SEQUENCE), positions[at : at + SEQUENCE]) for at in bounds]
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        decoder.run_layer(layer, hidden, rotary, spans)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:] or taken)
