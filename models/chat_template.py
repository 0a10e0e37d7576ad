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
from .joint_tokens import JointTokens

_FENCE = "\ue000"
"""Stands around a number in a rendered conversation: a character for private use, of no meaning to any model."""

_MARK = "\U0010fffd"
"""Stands around a control token's name in a text whose messages may spell it: the last character for private use."""

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
        self._said: dict[tuple[str, str], tuple[int, ...]] = {}
        self.digest = None if tokenizer.chat_template is None else digest(self._dated)

    def tokens(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the tokens of a conversation up to where the answer begins.

        A last turn of the assistant's is continued; one of no text counts as not begun.

        Raises:
            CallFailed: `Unsupported`, the model has no chat template; `BadRequest`, the template refuses the
                conversation.
        """
        turns = self._turns(messages)
        if any(self._controls.search(turn["content"]) or _FENCE in turn["content"] for turn in turns):
            return self._fenced(turns)
        return tuple(self._apply(turns, tokenize=True, return_dict=False))

    def continuations(self, messages: Sequence[Message], texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Return the tokens in which a model that has read the conversation says each of `texts` next.

        Raises:
            CallFailed: as `tokens`.
        """
        rendered = str(self._apply(self._turns(messages), tokenize=False))
        # What lies before the last control token has no part in it: tokenizers cut texts there.
        places = [found.start() for found in self._controls.finditer(rendered)]
        end = rendered[places[-1] :] if places else rendered
        return {text: self._said_after(end, text) for text in texts}

    def text(self, messages: Sequence[Message]) -> str:
        """Return a conversation as text up to where the answer begins, for a tokenizer that adds nothing to it.

        Raises:
            CallFailed: as `tokens`; `BadRequest` too where a message spells a control token.
        """
        turns = self._turns(messages)
        spelled = [found.group() for turn in turns if (found := self._controls.search(turn["content"]))]
        if spelled:
            raise CallFailed("BadRequest", f"the text spells the control token {spelled[0]}")
        return str(self._apply(turns, tokenize=False))

    def _turns(self, messages: Sequence[Message]) -> list[dict[str, str]]:
        if self.digest is None:
            raise CallFailed("Unsupported", "this model has no chat template")
        turns = [{"role": message["role"], "content": message["content"]} for message in messages]
        if turns and turns[-1]["role"] == "assistant" and not turns[-1]["content"]:
            turns.pop()
        if not turns:
            raise CallFailed("BadRequest", "messages: got none, expected one or more")
        return turns

    def _said_after(self, end: str, text: str) -> tuple[int, ...]:
        """Return `text` as the tokens that follow `end`; the same few are asked for in every call of a judge."""
        if (end, text) not in self._said:
            if len(self._said) > 4096:
                self._said.clear()
            self._said[end, text] = JointTokens(self._tokenizer, "never").continuation(end, text)
        return self._said[end, text]

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
        alone. They are swapped for marks that a copy of the tokenizer takes for control tokens, the spellings are put
        back, and the whole is tokenised as one text: part by part, a tokenizer that opens every text with a space
        would put one at the head of each.
        """
        spelled: list[str] = []

        def take_out(found: re.Match[str]) -> str:
            spelled.append(found.group())
            return f"{_FENCE}{len(spelled) - 1}{_FENCE}"

        taken = re.compile(f"{self._controls.pattern}|{_FENCE}")
        turns = [{**turn, "content": taken.sub(take_out, turn["content"])} for turn in turns]
        rendered = str(self._apply(turns, tokenize=False))
        if _MARK in rendered or any(_MARK in text for text in spelled):
            raise CallFailed("BadRequest", f"messages: got the character {_MARK!a}, expected none of it")
        marked = self._controls.sub(lambda found: _mark(found.group()), rendered)
        whole = re.sub(f"{_FENCE}(\\d+){_FENCE}", lambda found: spelled[int(found.group(1))], marked)
        return self._encode_marked(whole)

    @cached_property
    def _controls(self) -> re.Pattern[str]:
        """Matches any control token's text, the longest first; nothing where there are none."""
        special = {token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special}
        return re.compile("|".join(map(re.escape, sorted(special, key=lambda text: (-len(text), text)))) or r"(?!)")

    @cached_property
    def _encode_marked(self) -> Callable[[str], tuple[int, ...]]:
        """Tokenises text in which marks, and nothing else, are control tokens."""
        from tokenizers import Tokenizer

        # A copy: the control tokens of this one's other users are spelled as they were.
        values = json.loads(self._tokenizer.backend_tokenizer.to_str())
        ids, marks = {}, {}
        for added in values["added_tokens"]:
            spelling = _mark(added["content"]) if added["special"] else added["content"]
            if added["content"] != self._tokenizer.unk_token:
                marks[added["content"]] = spelling
            ids[spelling], added["content"] = added["id"], spelling
        if values["model"]["type"] == "Unigram":  # it would find a control token's spelling among its pieces
            values["model"]["vocab"] = [[marks.get(piece, piece), score] for piece, score in values["model"]["vocab"]]
        controls = {added["id"] for added in values["added_tokens"] if added["special"]}
        controls.discard(self._tokenizer.unk_token_id)  # stands for any character that has no other token
        copy = Tokenizer.from_str(json.dumps({**values, "post_processor": None, "truncation": None, "padding": None}))

        def encode(text: str) -> tuple[int, ...]:
            found = copy.encode(text, add_special_tokens=False)
            tokens = tuple(ids.get(token, number) for token, number in zip(found.tokens, found.ids, strict=True))
            if sum(token in controls for token in tokens) > text.count(_MARK) // 2:
                raise CallFailed("BadRequest", "messages: a control token is spelled, and no other tokens spell it")
            return tokens

        return encode


def _mark(control: str) -> str:
    """Return what stands for a control token where messages may spell it."""
    return f"{_MARK}{control.encode().hex()}{_MARK}"


def _dated(template: JSON) -> JSON:
    """Return a template that writes `TODAY` where it asked for the date; formats that it computes stay as they are.

    In the text: the tokenizer takes no function of ours for the template engine's.
    """
    if not isinstance(template, str):
        return template
    return _DATES.sub(lambda found: json.dumps(TODAY.strftime(found.group(2))), template)


__all__ = ["TODAY", "ChatTemplate"]
