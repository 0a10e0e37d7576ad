"""Reads the JSON of OpenAI-compatible servers: completions, log-probabilities, usage, error bodies. No I/O.

Servers differ in what they leave out, so nothing is taken for granted: what is missing is a typed failure, or
is marked as estimated. Must not know connections or keys.

Source: OpenAI's API reference, "Create chat completion"; differences of vLLM, llama.cpp and gateways as noted.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from .chat import CallFailed, LabelScores, Message, Reply, Usage
from .redaction import redact
from .thoughts import spoken

_OUTRIGHT_NONE = -9998.0
"""OpenAI writes -9999 for "not among the likeliest"; no log-probability comes near it."""

_SPACES = ("\u0120", "\u2581")
"""What byte-level and sentencepiece vocabularies show for a leading space, where a server does not decode tokens."""


def read_object(body: bytes) -> dict[str, Any]:
    """Return a body's JSON object.

    Raises:
        CallFailed: `ServerError`, it holds none.
    """
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise CallFailed("ServerError", f"the answer is no JSON object: {_snippet(body)}")
    return parsed


def read_reply(
    completion: Mapping[str, Any], messages: Sequence[Message], stop: Sequence[str], begun: str = ""
) -> Reply:
    """Return the first choice as a `Reply`.

    Stop texts are cut here too: some servers leave them in, some ignore them.

    Args:
        completion: The JSON of an answer.
        messages: What was sent.
        stop: Texts that end it.
        begun: A turn that was continued and that the server's text starts with; it is no part of the reply.

    Raises:
        CallFailed: `Refused`, `Truncated` (nothing but thinking fitted), `Empty` or `ServerError`.
    """
    choice = _first_choice(completion)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise CallFailed("ServerError", "the answer's first choice holds no message")
    finish, text = choice.get("finish_reason"), _text(message.get("content"))
    usage = read_usage(completion, messages, text)
    if message.get("refusal"):
        raise CallFailed("Refused", f"the model declined: {redact(str(message['refusal']))[:200]}", usage=usage)
    if finish == "content_filter":
        raise CallFailed("Refused", "a content filter ended the answer", usage=usage)
    if finish == "error":
        raise CallFailed("ServerError", "the server ended the answer with an error", usage=usage)
    text = text.removeprefix(begun)
    told = spoken(text)
    if not told.text and finish == "length":
        spent = f"all {usage.completion} tokens went by without a word of answer (thinking?)"
        raise CallFailed("Truncated", spent, usage=usage)
    if text and not told.text:
        raise CallFailed("Empty", f"nothing but thinking in the answer (finish_reason {finish!r})", usage=usage)
    if not text:
        raise CallFailed("Empty", f"no text in the answer (finish_reason {finish!r})", usage=usage)
    ends = [where for word in stop if (where := text.find(word)) >= 0]
    if ends:
        text, finish = text[: min(ends)], "stop"
    return Reply(text, "length" if finish == "length" else "stop", usage, str(completion.get("model") or ""))


def read_labels(
    completion: Mapping[str, Any], messages: Sequence[Message], labels: Sequence[str], begun: str = ""
) -> LabelScores:
    """Return the labels' log-probabilities at the answer's first token; `begun` as in `read_reply`.

    Raises:
        CallFailed: `Unsupported`, the server listed none.
    """
    sums = dict.fromkeys(labels, 0.0)
    for token, logprob in read_top(completion, begun).items():
        word = token[1:] if token.startswith((" ", *_SPACES)) else token
        if word in sums:
            sums[word] += math.exp(logprob)
    logprobs = {label: math.log(mass) if mass > 0 else -math.inf for label, mass in sums.items()}
    inside = min(1.0, math.fsum(sums.values()))
    usage = read_usage(completion, messages, "1")
    return LabelScores(logprobs, inside, usage, str(completion.get("model") or ""))


def read_top(completion: Mapping[str, Any], begun: str = "") -> dict[str, float]:
    """Return the likeliest first tokens with their log-probabilities, the drawn one among them.

    A server that repeats a begun turn may list that turn's tokens too: the first beyond it counts.

    Raises:
        CallFailed: `Unsupported`, the server listed none.
    """
    logprobs = _first_choice(completion).get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(content, list) or not content or not isinstance(content[0], Mapping):
        raise CallFailed("Unsupported", "the endpoint answers without log-probabilities")
    first = content[_beyond(content, begun)]
    listed = first.get("top_logprobs")
    if not isinstance(listed, list) or not listed:
        raise CallFailed("Unsupported", "the endpoint lists no likeliest tokens (top_logprobs)")
    found: dict[str, float] = {}
    for entry in [*listed, first]:  # vLLM lists the drawn token beside the likeliest, others within
        token, logprob = (entry.get("token"), entry.get("logprob")) if isinstance(entry, Mapping) else (None, None)
        if isinstance(token, str) and isinstance(logprob, int | float) and _OUTRIGHT_NONE < logprob <= 0:
            found.setdefault(token, float(logprob))
    return found


def _beyond(content: Sequence[Any], begun: str) -> int:
    """Return the place of the first listed token that is no part of `begun`: 0 where the tokens do not repeat it."""
    seen = ""
    for place, entry in enumerate(content):
        if begun and seen == begun:
            return place
        seen += str(entry.get("token", "")) if isinstance(entry, Mapping) else ""
        if not begun.startswith(seen):
            break
    return 0


def read_usage(completion: Mapping[str, Any], messages: Sequence[Message], text: str) -> Usage:
    """Return the tokens that the server counted, or an estimate from above that says so.

    Counts are believed where they are whole numbers of 0 or more and no more are cached than were sent.
    """
    usage = completion.get("usage")
    if isinstance(usage, Mapping):
        prompt, answered = usage.get("prompt_tokens"), usage.get("completion_tokens")
        details = usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
        cached = 0 if cached is None else cached
        if _is_count(prompt) and _is_count(answered) and _is_count(cached) and cached <= prompt:
            return Usage(prompt, answered, cached)
    return Usage(estimate_tokens(messages), _estimate(text), known=False)


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0  # not isinstance: true and false are ints of Python's


def estimate_tokens(messages: Sequence[Message]) -> int:
    """Return an estimate from above of the tokens of `messages`, template included.

    A token a byte, which byte-level vocabularies never exceed; one for each of the commonest English words, and for
    pairs of letters that any vocabulary with English in it has. English takes about two fifths of it.
    """
    return _TEMPLATE + sum(8 + _estimate(message["content"]) for message in messages)


_TEMPLATE = 40
"""Tokens of a template itself: some open with a system message of their own."""

_WHOLE = re.compile(
    " (?:the|of|and|to|in|is|that|for|it|as|was|with|be|by|on|not|he|his|but|at|are|this|have|from|which|one|you|had|"
    "her|all|she|there|would|their|we|him|been|has|when|who|will|no|more|if|out|so|up|said|what|its|about|than|into|"
    "them|can|only|other|time|new|some|could|these|two|may|first|then|do|any|like|my|now|over|such|our|man|me|even|"
    "most|made|after|also|did|many|they|your|an|or|how|because|each|where|should|people|between)(?![A-Za-z])"
    "| [A-Za-z]|th|he|in|er|an|re|on|at|en|nd|ti|es|or|te|of|ed|is|it|al|ar|st|to|nt|ng|se|ha|as|ou|io|le|ve|co|me|de"
    "|hi|ri|ro|ic|ne|ea|ra|ce|li|ch|ll|be|ma|si|om|ur"
)
"""What is one token, a leading space with it."""


def _estimate(text: str) -> int:
    whole = _WHOLE.findall(text)
    return len(text.encode("utf-8", "replace")) - sum(map(len, whole)) + len(whole)


def error_message(body: Any) -> str:
    """Return the message of an error body, in any of the shapes that servers give it, cut and without keys."""
    for name in ("error", "detail", "message"):
        if isinstance(body, Mapping) and body.get(name):
            body = body[name]
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, default=str)
    return redact(" ".join(text.split()))[:300]


def _first_choice(completion: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = completion.get("choices")
    if not isinstance(choices, list):
        raise CallFailed("ServerError", f"the answer is no completion: it holds {', '.join(completion) or 'nothing'}")
    if not choices:
        raise CallFailed("Empty", "the answer holds no choices")
    if not isinstance(choices[0], Mapping):
        raise CallFailed("ServerError", "the answer's first choice is no object")
    return choices[0]


def _text(content: Any) -> str:
    """Return a message's text; some servers send it in parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _snippet(body: bytes) -> str:
    return redact(repr(body[:80].decode("utf-8", "replace")))


__all__ = ["error_message", "estimate_tokens", "read_labels", "read_object", "read_reply", "read_top", "read_usage"]
