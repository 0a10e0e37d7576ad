"""Separates a reply from the model's thinking that some servers leave in it. Pure; knows no judge and no team.

Reasoning models think between tags before they answer, and a server without a reasoning parser passes both on as one
text. A draft within a thought is not an answer, so every reader of replies reads `spoken(reply).text` alone.
"""

import re
from dataclasses import dataclass

# Spellings in published chat templates: DeepSeek and Qwen (think), Anthropic-style prompts (thinking), Magistral
# ([THINK]), Kimi (the triangles), Seed-OSS (seed:think), Cohere (START_THINKING), OpenThoughts (begin_of_thought).
_WORD = r"think|thinking|thought|thoughts|reason|reasoning|reflection|analysis|scratchpad|cot|chain[_-]of[_-]thought"
_PLAIN = rf"<\s*(?P<close>/?)\s*(?:\w+:)?(?P<word>{_WORD})(?:\s[^<>]*)?>"
_BRACKETS = r"\[\s*(?P<bclose>/?)\s*(?P<bword>think|thinking)\s*\]"
_TRIANGLES = r"\u25c1\s*(?P<tclose>/?)\s*(?P<tword>think)\s*\u25b7"
_SPECIAL = r"<\|(?P<mark>begin_of_|end_of_|start_of_|start_|end_)(?P<sword>thought|thinking|think|cot|reasoning)\|>"
# gpt-oss speaks on channels: `final` is the answer, every other channel is not.
_CHANNEL = r"<\|channel\|>\s*(?P<channel>\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
_TAG = re.compile("|".join((_PLAIN, _BRACKETS, _TRIANGLES, _SPECIAL, _CHANNEL)), re.IGNORECASE)
_HARMONY_MARKS = re.compile(r"<\|(?:start\|>\s*assistant|end\|>|return\|>|call\|>)")
_HARMONY = "channel"


@dataclass(frozen=True)
class Spoken:
    """What a reply says outside its thoughts."""

    text: str
    """The reply without thoughts, stripped; the reply itself, stripped, where it holds no thinking tag."""
    cut: bool
    """A thought was opened and never closed: the reply ended before its answer."""


def spoken(reply: str) -> Spoken:
    """Return what `reply` says outside thinking tags.

    A closing tag that nothing opened ends a thought that began in the prompt (DeepSeek-R1's template opens it there),
    so all before it is thought. Within a thought that is never closed, everything to the end is.
    """
    kept: list[str] = []
    opened: list[str] = []
    position = 0
    for tag in _TAG.finditer(reply):
        if not opened:
            kept.append(reply[position : tag.start()])
        position = tag.end()
        name, closes = _tag_of(tag)
        if not closes:
            if name != _HARMONY or name not in opened:
                opened.append(name)
        elif name in opened:
            innermost = len(opened) - 1 - opened[::-1].index(name)
            del opened[innermost:]
        elif not opened:
            kept.clear()
    if not opened:
        kept.append(reply[position:])
    return Spoken(_HARMONY_MARKS.sub("", "".join(kept)).strip(), bool(opened))


def _tag_of(tag: re.Match[str]) -> tuple[str, bool]:
    """Return the name of a thinking tag and whether it closes a thought."""
    if channel := tag["channel"]:
        return _HARMONY, channel.lower() == "final"
    if mark := tag["mark"]:
        return tag["sword"].lower(), mark.lower().startswith("end")
    name = tag["word"] or tag["bword"] or tag["tword"]
    return name.lower(), bool(tag["close"] or tag["bclose"] or tag["tclose"])
