"""A prompt and its options as one packed sequence: the prompt once, the options side by side as a token tree.

Prompt and option are tokenised apart and joined, so that every option continues the same tokens whatever it
starts with (tokenised together, a merge across the seam could change the prompt). Options that begin alike share
rows. An option's last token is predicted and never read, so it has no row. Must not know layers or paths.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..errors import SpecError

Bos = Literal["auto", "always", "never"]


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that packing needs."""

    bos_token_id: int | None

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the token ids of `text`."""
        ...


@dataclass(frozen=True)
class Packed:
    """A prompt with its options, ready for a decoder.

    Attributes:
        tokens: [rows], token ids: the prompt, then the tree of the options.
        positions: [rows], position of each row's token in its own sequence.
        tree: [rows, rows] of bool, which row sees which; None where the rows are one plain sequence.
        sources: Per option, per token: the row whose output predicts it.
        targets: Per option, its token ids.
        sizes: Per option, its length in UTF-8 bytes, leading space included.
    """

    tokens: Tensor
    positions: Tensor
    tree: Tensor | None
    sources: tuple[tuple[int, ...], ...]
    targets: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows of the packed sequence."""
        return self.tokens.shape[0]


def pack(prompt: Sequence[int], options: Sequence[Sequence[int]], sizes: Sequence[int]) -> Packed:
    """Return `options` side by side after one `prompt`, all as token ids."""
    tokens, parents, depths = list(prompt), list(range(-1, len(prompt) - 1)), list(range(len(prompt)))
    rows: dict[tuple[int, int], int] = {}  # (parent row, token) -> row, so that equal beginnings share rows
    sources = []
    for option in options:
        row, path = len(prompt) - 1, []
        for token in option:
            path.append(row)
            row = rows.setdefault((row, token), len(tokens)) if len(path) < len(option) else row
            if row == len(tokens):
                tokens.append(token)
                parents.append(path[-1])
                depths.append(depths[path[-1]] + 1)
        sources.append(tuple(path))
    tree = None
    if depths != list(range(len(tokens))):
        tree = torch.eye(len(tokens), dtype=torch.bool)
        for row, parent in enumerate(parents):
            if parent >= 0:
                tree[row] |= tree[parent]
    return Packed(
        torch.tensor(tokens), torch.tensor(depths), tree, tuple(sources), tuple(map(tuple, options)), tuple(sizes)
    )


class Packer:
    """Tokenises and packs questions for one model."""

    def __init__(self, tokenizer: Tokenizer, context_length: int, bos: Bos = "auto") -> None:
        if bos == "always" and tokenizer.bos_token_id is None:
            raise SpecError("bos", bos, "auto or never: this tokenizer has no beginning-of-sequence token")
        self._tokenizer, self._context_length, self._bos = tokenizer, context_length, bos

    def prompt(self, text: str) -> list[int]:
        """Return the prompt's tokens; `auto` adds what the tokenizer adds by itself."""
        tokens = list(self._tokenizer.encode(text, add_special_tokens=self._bos == "auto"))
        bos = self._tokenizer.bos_token_id
        if self._bos == "always" and bos is not None and tokens[:1] != [bos]:
            tokens.insert(0, bos)
        return tokens

    def pack(self, prompt: str, options: Sequence[str], where: str = "item") -> Packed:
        """Return `prompt` and `options` packed.

        Raises:
            SpecError: an option or the prompt has no token, there is no option, or a sequence is longer than the
                model's context.
        """
        head = self.prompt(prompt)
        if not head:
            raise SpecError(f"{where}: prompt", prompt, "a text of at least one token")
        if not options:
            raise SpecError(f"{where}: options", list(options), "one option or more")
        tails = [list(self._tokenizer.encode(option, add_special_tokens=False)) for option in options]
        for index, (option, tail) in enumerate(zip(options, tails, strict=True)):
            if not tail or not option.strip():
                raise SpecError(f"{where}: option {index}", option, "a text of at least one token")
            if len(head) + len(tail) > self._context_length:
                got = f"{len(head)} + {len(tail)} tokens of prompt and option"
                raise SpecError(f"{where}: option {index}", got, f"at most {self._context_length}, the context")
        return pack(head, tails, [len(option.encode()) for option in options])
