"""A prompt and its options as one packed sequence: the prompt once, the options side by side as a token tree.

Each option's tokens are those that its joint text, prompt and option together, has beyond what all joint texts of
the item share with the prompt (joint_tokens.py, decision 0024). Options that begin alike share rows. An option's last
token is predicted and never read, so it has no row. Must not know layers or paths.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SpecError
from .joint_tokens import Bos, JointTokens, Tokenizer


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
        self._joint, self._context_length = JointTokens(tokenizer, bos), context_length

    def prompt(self, text: str) -> list[int]:
        """Return the prompt's tokens; `auto` puts before it what the tokenizer puts there by itself."""
        return list(self._joint.whole(text))

    def pack(self, prompt: str, options: Sequence[str], where: str = "item") -> Packed:
        """Return `prompt` and `options` packed.

        Raises:
            SpecError: an option or the prompt has no token, there is no option, no token of the prompt stays what it
                is with every option behind it, or a sequence is longer than the model's context.
        """
        if not options:
            raise SpecError(f"{where}: options", list(options), "one option or more")
        for name, text in (("prompt", prompt), *((f"option {index}", text) for index, text in enumerate(options))):
            if not is_unicode(text):
                raise SpecError(f"{where}: {name}", text, "whole Unicode characters, without half a surrogate pair")
        if not self.prompt(prompt):
            raise SpecError(f"{where}: prompt", prompt, "a text of at least one token")
        split = self._joint.split(prompt, options)
        if not split.head:
            expected = "a prompt that keeps a token with each option behind it, or bos=always"
            raise SpecError(f"{where}: prompt", prompt, expected)
        head = len(split.head)
        for index, (option, tail, added) in enumerate(zip(options, split.tails, split.added, strict=True)):
            if not added or not option.strip():
                raise SpecError(f"{where}: option {index}", option, "a text of at least one token")
            if head + len(tail) > self._context_length:
                got = f"{head} + {len(tail)} tokens of prompt and option"
                raise SpecError(f"{where}: option {index}", got, f"at most {self._context_length}, the context")
        return pack(split.head, split.tails, [len(option.encode()) for option in options])


def is_unicode(text: str) -> bool:
    """Return whether a text can be encoded: half a surrogate pair, which JSON can spell, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


__all__ = ["Bos", "Packed", "Packer", "Tokenizer", "is_unicode", "pack"]
