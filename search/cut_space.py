"""Cuts of a decoder within a number of parameters: drawn, fitted, and the families that need no search.

Every cut made here is within the limit, by construction: whatever widths are asked for are scaled by one common
factor until they fit. The first and the last block are pinned, as in all layer removal here. Pure.
"""

import random
from collections.abc import Sequence

from ..decoder_cuts import DecoderCut, DecoderSizes
from ..errors import SpecError

FACTORS = (0.5, 0.75, 1.0)
"""Widths that a block may ask for, in parts of the full one; the common factor comes on top."""


class CutSpace:
    """What may be drawn: any inner blocks dropped, any widths, `params` at most.

    Args:
        sizes: Of the full model.
        params: Parameters at most.
        step: Widths are multiples of it; 32 keeps matrix kernels and last bits regular.
        factors: Relative widths that a block may ask for; `(1.0,)` gives all blocks of a cut one width.

    Raises:
        SpecError: not even the smallest cut is within the limit; the error says how small that is.
    """

    def __init__(self, sizes: DecoderSizes, params: int, *, step: int = 32, factors: Sequence[float] = FACTORS) -> None:
        self.sizes, self.params, self.factors = sizes, params, tuple(factors)
        self.step = min(step, sizes.width)
        self.inner = tuple(range(1, sizes.blocks - 1))
        smallest = sizes.params(self.smallest())
        if smallest > params:
            share = smallest / sizes.params(sizes.full)
            raise SpecError("target", f"{params} parameters", f"{smallest} ({share:.3f}x) or more: the smallest cut")
        counts = range(len(self.inner) + 1)
        self.least = next(count for count in counts if self._bound(count, self.step) <= params)
        """Blocks that must go: with fewer gone, the thinnest blocks are too many."""
        self.most = next((count for count in counts if self._bound(count, sizes.width) <= params), len(self.inner))
        """Blocks that may go: with so many gone, the rest fits at full width."""

    @property
    def size(self) -> float:
        """Not counted."""
        return float("inf")

    def smallest(self) -> DecoderCut:
        """Return the pinned blocks alone, at the least width."""
        return DecoderCut(tuple((index, self.step) for index in sorted({0, self.sizes.blocks - 1})))

    def draw(self, rng: random.Random) -> DecoderCut:
        """Return a cut: a uniform number of dropped blocks, which ones uniform, relative widths uniform."""
        dropped = rng.sample(self.inner, rng.randint(self.least, self.most))
        return self.fitted(dropped, [rng.choice(self.factors) for _ in range(self.sizes.blocks)])

    def dropped(self, order: Sequence[int]) -> DecoderCut:
        """Return the full-width cut that drops blocks in this order until it fits: inner blocks only."""
        inner = [index for index in order if index in self.inner]
        return self.fitted(inner[: self.most], [1.0] * self.sizes.blocks)

    def random_blocks(self, rng: random.Random) -> DecoderCut:
        """Return the control of `dropped`: as many inner blocks, drawn by lot."""
        return self.dropped(rng.sample(self.inner, len(self.inner)))

    def uniform(self) -> DecoderCut:
        """Return the widest cut of one width that drops no block it need not (then the last inner ones)."""
        return self.fitted(self.inner[len(self.inner) - self.least :], [1.0] * self.sizes.blocks)

    def fitted(self, dropped: Sequence[int], factors: Sequence[float]) -> DecoderCut:
        """Return the cut without `dropped` whose widths are as `factors`, times the largest number that fits.

        Args:
            dropped: Between `least` and the number of inner blocks, none of them pinned.
            factors: [blocks] relative widths; those of dropped blocks are not read.
        """
        gone = set(dropped)
        kept = [index for index in range(self.sizes.blocks) if index not in gone]
        low, high = 0.0, 1.0 / min(factors[index] for index in kept)
        widest = self._scaled(kept, factors, high)
        if self.sizes.params(widest) <= self.params:
            return widest
        for _ in range(40):
            middle = (low + high) / 2
            if self.sizes.params(self._scaled(kept, factors, middle)) <= self.params:
                low = middle
            else:
                high = middle
        return self._scaled(kept, factors, low)

    def _scaled(self, kept: Sequence[int], factors: Sequence[float], scale: float) -> DecoderCut:
        return DecoderCut(tuple((index, self._width(scale * factors[index])) for index in kept))

    def _width(self, share: float) -> int:
        """Return the full width for a share of 1 or more, else the multiple of the step below it, one at least."""
        if share >= 1:
            return self.sizes.width
        return max(int(share * self.sizes.width) // self.step, 1) * self.step

    def _bound(self, dropped: int, width: int) -> int:
        return self.sizes.base + (self.sizes.blocks - dropped) * (self.sizes.block + width * self.sizes.channel)
