"""Conversations as tokens, by the chat template that came with a model.

What a message says stays text: a message that spells the model's control tokens (`<|im_end|>`) does not end its turn
or begin another one's. Must not know decoders, hosts or sampling.
"""

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from ..records import JSON, digest
from .chat import CallFailed, Message

_FENCE = "\ue000"
"""Stands around a number in a rendered conversation: a character for private use, of no meaning to any model."""

TODAY = datetime(2024, 7, 26)
"""What templates that write a date are told it is: with the real one, equal conversations would differ by the day."""

_DATES = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")


class ChatTemplate:
    """Renders and tokenises conversations.

    Args:
        tokenizer: A Hugging Face tokenizer with its `chat_template`, None where the model has none.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._dated = _dated(tokenizer.chat_template)
        self.digest = None if tokenizer.chat_template is None else digest(self._dated)

    def tokens(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the tokens of a conversation up to where the answer begins.

        A last turn of the assistant's is continued; one of no text counts as not begun.

        Raises:
            CallFailed: `Unsupported`, the model has no chat template; `BadRequest`, the template refuses the
                conversation.
        """
        if self.digest is None:
            raise CallFailed("Unsupported", "this model has no chat template")
        turns = [{"role": message["role"], "content": message["content"]} for message in messages]
        if turns and turns[-1]["role"] == "assistant" and not turns[-1]["content"]:
            turns.pop()
        if not turns:
            raise CallFailed("BadRequest", "messages: got none, expected one or more")
        if any(self._controls.search(turn["content"]) or _FENCE in turn["content"] for turn in turns):
            return self._fenced(turns)
        return tuple(self._apply(turns, tokenize=True, return_dict=False))

    def _apply(self, turns: list[dict[str, str]], **options: Any) -> Any:
        continued = turns[-1]["role"] == "assistant"
        try:
            return self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=not continued, continue_final_message=continued,
                chat_template=self._dated if isinstance(self._dated, str) else None, **options,
            )  # fmt: skip
        except Exception as error:  # templates are programs of the model's makers and raise what they like
            line = (str(error).strip().splitlines() or [""])[0]
            raise CallFailed("BadRequest", f"chat template: {type(error).__name__}: {line}") from error

    def _fenced(self, turns: list[dict[str, str]]) -> tuple[int, ...]:
        """Tokenise a conversation whose messages spell control tokens.

        The spellings are taken out before the template runs; what it renders then holds its own control tokens
        alone. The text between those is tokenised with the spellings put back, control tokens not looked for.
        """
        spelled: list[str] = []

        def take_out(found: re.Match[str]) -> str:
            spelled.append(found.group())
            return f"{_FENCE}{len(spelled) - 1}{_FENCE}"

        taken = re.compile(f"{self._controls.pattern}|{_FENCE}")
        turns = [{**turn, "content": taken.sub(take_out, turn["content"])} for turn in turns]
        rendered = str(self._apply(turns, tokenize=False))
        tokens: list[int] = []
        for part in re.split(f"({self._controls.pattern})", rendered):
            if self._controls.fullmatch(part):
                tokens.append(self._tokenizer.convert_tokens_to_ids(part))
            elif part:
                text = re.sub(f"{_FENCE}(\\d+){_FENCE}", lambda found: spelled[int(found.group(1))], part)
                tokens += self._encode_as_text(text)
        return tuple(tokens)

    @cached_property
    def _controls(self) -> re.Pattern[str]:
        """Matches any control token's text, the longest first; nothing where there are none."""
        special = {token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special}
        return re.compile("|".join(map(re.escape, sorted(special, key=lambda text: (-len(text), text)))) or r"(?!)")

    @cached_property
    def _encode_as_text(self) -> Callable[[str], list[int]]:
        """Tokenises text in which nothing is a control token."""
        from tokenizers import Tokenizer

        # A copy: the setting belongs to a tokenizer, and this one's other users want it as it was.
        plain = Tokenizer.from_str(self._tokenizer.backend_tokenizer.to_str())
        plain.encode_special_tokens = True
        return lambda text: list(plain.encode(text, add_special_tokens=False).ids)


def _dated(template: JSON) -> JSON:
    """Return a template that writes `TODAY` where it asked for the date; formats that it computes stay as they are.

    In the text: the tokenizer takes no function of ours for the template engine's.
    """
    if not isinstance(template, str):
        return template
    return _DATES.sub(lambda found: json.dumps(TODAY.strftime(found.group(2))), template)


__all__ = ["TODAY", "ChatTemplate"]
