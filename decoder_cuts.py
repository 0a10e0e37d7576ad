"""Cuts of a pretrained decoder: which blocks stay and how wide their feed-forward layers are. Imports no folder.

A cut is to a language model what an architecture is to an image network: frozen, printed and parsed, nothing run.
Attention is kept whole or goes with its block, so that the weights of what stays fit as they are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Self

from .errors import SpecError

_PART = re.compile(r"(\d+)(?:-(\d+))?:(\d+)")


@dataclass(frozen=True, slots=True)
class DecoderCut:
    """The blocks that stay, in their order, each with the width of its feed-forward layer.

    The canonical text lists runs of neighbouring blocks of one width:

    >>> DecoderCut(((0, 1536), (1, 1536), (4, 768))).key
    '0-1:1536,4:768'
    >>> DecoderCut.parse("0-1:1536,4:768").blocks
    ((0, 1536), (1, 1536), (4, 768))

    Attributes:
        blocks: (index of the block in the full model, width), indices rising.
    """

    blocks: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        indices = [index for index, _ in self.blocks]
        if not indices or indices != sorted(set(indices)) or any(width < 1 for _, width in self.blocks):
            raise SpecError("decoder cut", self.blocks, "one block or more, indices rising, widths of 1 or more")

    @property
    def key(self) -> str:
        """The canonical text."""
        runs = groupby(enumerate(self.blocks), lambda at: (at[1][0] - at[0], at[1][1]))
        parts = []
        for (_, width), run in runs:
            indices = [index for _, (index, _) in run]
            parts.append(f"{indices[0]}{f'-{indices[-1]}' if len(indices) > 1 else ''}:{width}")
        return ",".join(parts)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cut that `text` names, canonical or not.

        Raises:
            SpecError: the text is no cut.
        """
        blocks: list[tuple[int, int]] = []
        for part in text.split(","):
            match = _PART.fullmatch(part.strip())
            if match is None or int(match[2] or match[1]) - int(match[1]) > 10_000:
                raise SpecError(f"decoder cut {text[:60]!r}", part, "parts such as 0-11:1536")
            blocks += [(index, int(match[3])) for index in range(int(match[1]), int(match[2] or match[1]) + 1)]
        return cls(tuple(blocks))

    @property
    def kept(self) -> tuple[int, ...]:
        """The indices of the blocks that stay."""
        return tuple(index for index, _ in self.blocks)

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths, one a kept block."""
        return tuple(width for _, width in self.blocks)

    @property
    def uniform(self) -> bool:
        """Whether all blocks have one width: what a plain Hugging Face folder can say."""
        return len(set(self.widths)) == 1


@dataclass(frozen=True, slots=True)
class DecoderSizes:
    """What a decoder's parameters are made of.

    Attributes:
        blocks: Blocks of the full model.
        width: Channels of a full feed-forward layer.
        channel: Parameters of one such channel (gate, up and down).
        block: Parameters of a block without its feed-forward channels.
        base: Parameters outside the blocks: embeddings, last norm, and the head where it is not the embeddings.
    """

    blocks: int
    width: int
    channel: int
    block: int
    base: int

    @property
    def full(self) -> DecoderCut:
        """The cut that cuts nothing."""
        return self.cut(range(self.blocks))

    def cut(self, kept: Sequence[int]) -> DecoderCut:
        """Return the cut that keeps these blocks at full width."""
        return DecoderCut(tuple((index, self.width) for index in sorted(kept)))

    def params(self, cut: DecoderCut) -> int:
        """Return the parameters of a cut model."""
        return self.base + len(cut.blocks) * self.block + sum(cut.widths) * self.channel

    def check(self, cut: DecoderCut) -> None:
        """Refuse a block or a width that the full model does not have."""
        if cut.kept[-1] >= self.blocks or max(cut.widths) > self.width:
            expected = f"blocks 0 to {self.blocks - 1} of at most {self.width} channels"
            raise SpecError("decoder cut", cut.key, expected)
