"""A text and what continues it, tokenised together and then cut: the one place that decides where a text ends.

Tokenised apart, a continuation may open with a token that the whole text never has: tokenizers that put a space
before every text (a Prepend normaliser, Metaspace) make "A" the tokens of " A", and merges may cross the seam. What
a tokenizer appends by itself (an end-of-sequence token) would stand between a text and what continues it. So whole
texts are tokenised, what is appended is left away, and a continuation's tokens are those beyond what it shares with
the text alone. Must not know models, layers or paths.

Source: the language-model evaluation harness tokenises context and continuation together and cuts at the length of
the context (`_encode_pair`); decision 0024 says where we differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ..errors import SpecError

Bos = Literal["auto", "always", "never"]

_PROBES = ("a", "1", "the", ".", "\n", "\u4e00")
"""Texts that show what a tokenizer puts before and behind any text; the first that it knows is used."""

_ANCHORS = ("\n", ":", ".", "|", "a")
"""Texts that a continuation is tokenised behind, where the real text's last token would swallow its beginning."""


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is needed here."""

    bos_token_id: int | None

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the token ids of `text`."""
        ...


@dataclass(frozen=True)
class Split:
    """A text's tokens and its continuations'.

    Attributes:
        head: Tokens that the text shares with the text and any of its continuations.
        tails: Per continuation, the tokens of the joint text beyond `head`.
        added: Per continuation, whether it adds a token to the text alone.
    """

    head: tuple[int, ...]
    tails: tuple[tuple[int, ...], ...]
    added: tuple[bool, ...]


class JointTokens:
    """Tokenises whole texts for one model.

    Args:
        tokenizer: The model's.
        bos: What opens a text: `auto`, the special tokens that the tokenizer puts there by itself (`opening`);
            `always`, its beginning-of-sequence token; `never`, nothing.

    Raises:
        SpecError: there is no beginning-of-sequence token to put there always, or the special tokens that the
            tokenizer adds cannot be told from a text's own.
    """

    def __init__(self, tokenizer: Tokenizer, bos: Bos = "auto") -> None:
        if bos == "always" and tokenizer.bos_token_id is None:
            raise SpecError("bos", bos, "auto or never: this tokenizer has no beginning-of-sequence token")
        self._tokenizer, self._bos = tokenizer, bos
        self.opening = opening_of(tokenizer) if bos == "auto" else ()

    def whole(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text that may go on: what opens it, its own, and nothing behind."""
        own = tuple(self._tokenizer.encode(text, add_special_tokens=False))
        bos = self._tokenizer.bos_token_id
        if self._bos == "always" and bos is not None:
            return own if own[:1] == (bos,) else (bos, *own)
        return (*self.opening, *own)

    def split(self, text: str, continuations: Sequence[str]) -> Split:
        """Return the tokens of `text` and of each of `continuations` behind it.

        Where a merge crosses the seam of some continuation, the shared part ends before it for all of them, so that
        what is compared between continuations is what the model says of the same stretch of text.
        """
        alone = self.whole(text)
        joints = [self.whole(text + continuation) for continuation in continuations]
        shared = min((_common(alone, joint) for joint in joints), default=len(alone))
        added = tuple(_common(alone, joint) < len(joint) for joint in joints)
        return Split(alone[:shared], tuple(joint[shared:] for joint in joints), added)

    def continuation(self, text: str, what: str) -> tuple[int, ...]:
        """Return the tokens in which a model that has read all of `text` says `what`.

        Those of the joint text beyond the text's own, where the text's tokens stay what they are; else, since a
        model that has read them cannot take them back, those of `what` in the middle of another text.
        """
        alone, joint = self.whole(text), self.whole(text + what)
        if joint[: len(alone)] == alone and len(joint) > len(alone):
            return joint[len(alone) :]
        for anchor in _ANCHORS:
            before, both = self.whole(anchor), self.whole(anchor + what)
            if before and both[: len(before)] == before and len(both) > len(before):
                return both[len(before) :]
        return tuple(self._tokenizer.encode(what, add_special_tokens=False))


def opening_of(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the special tokens that a tokenizer puts before any text by itself; those behind it are left away."""
    for probe in _PROBES:
        own = list(tokenizer.encode(probe, add_special_tokens=False))
        full = list(tokenizer.encode(probe, add_special_tokens=True))
        places = [at for at in range(len(full) - len(own) + 1) if full[at : at + len(own)] == own]
        if own and len(places) == 1:
            return tuple(full[: places[0]])
    got = "special tokens that cannot be told from a text's own"
    raise SpecError("tokenizer", got, "special tokens before or behind a text; set bos to never or always")


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens both begin with."""
    length = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        length += 1
    return length


__all__ = ["Bos", "JointTokens", "Split", "Tokenizer", "opening_of"]
