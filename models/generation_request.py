"""What is asked of generation and what it answers: plain values, and what can run. Must not know how it is run."""

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ..errors import SpecError
from .chat import Reason, Sampling
from .decoder import LayeredDecoder
from .generation_choice import Variants


@dataclass(frozen=True)
class GenerationRequest:
    """What is wanted after a prompt.

    Attributes:
        tokens: The prompt, one token or more.
        sampling: How the answer is drawn.
        labels: Per label, the token sequences that say it; where given, their log-probabilities are wanted and
            no text.
        path: Layers to run; None for the whole model in order.
    """

    tokens: tuple[int, ...]
    sampling: Sampling = field(default_factory=Sampling)
    labels: dict[str, Variants] | None = None
    path: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Generated:
    """An answer's `text` and `tokens` (the end-of-text token left out), why it ended, and its cached prompt tokens."""

    text: str
    tokens: tuple[int, ...]
    finish: Literal["stop", "length"]
    cached: int = field(compare=False)


@dataclass(frozen=True)
class Labelled:
    """Labels' log-probabilities in nats, the probability of all together, and the prompt tokens that were cached."""

    logprobs: dict[str, float]
    inside: float
    cached: int = field(compare=False)


@dataclass(frozen=True)
class Unanswered:
    """Why a request that ran has no answer: a `CallFailed`'s reason and detail."""

    reason: Reason
    detail: str


Answer: TypeAlias = Generated | Labelled | Unanswered


def check_request(request: GenerationRequest, decoder: LayeredDecoder) -> None:
    """Refuse a request that cannot run; see `Batcher.add`."""
    if request.path is not None:
        decoder.check(request.path)
    sampling, tokens = request.sampling, request.tokens
    if not tokens:
        raise SpecError("prompt", "no token", "one token or more")
    if min(tokens) < 0 or max(tokens) >= decoder.vocabulary:
        raise SpecError("prompt", [min(tokens), max(tokens)], f"token ids 0 to {decoder.vocabulary - 1}")
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise SpecError("temperature", sampling.temperature, "0 or more")
    if not 0 < sampling.top_p <= 1:
        raise SpecError("top_p", sampling.top_p, "above 0, at most 1")
    if sampling.max_tokens < 1:
        raise SpecError("max_tokens", sampling.max_tokens, "1 or more")
    if not all(sampling.stop):
        raise SpecError("stop", list(sampling.stop), "texts of a character or more")
    if request.labels is not None and not (request.labels and all(map(_says_something, request.labels.values()))):
        raise SpecError("labels", request.labels, "a label or more, each of a token or more")
    answer = answer_rows(request)
    if len(tokens) + answer > decoder.context_length:
        got = f"{len(tokens)} + {answer} tokens of prompt and answer"
        raise SpecError("prompt", got, f"at most {decoder.context_length}, the context")


def _says_something(variants: Variants) -> bool:
    return bool(variants) and all(variants)


def answer_rows(request: GenerationRequest) -> int:
    """Return the tokens that a request may need beyond its prompt."""
    if request.labels is None:
        return request.sampling.max_tokens
    return max(len(variant) for variants in request.labels.values() for variant in variants)


__all__ = ["Answer", "Generated", "GenerationRequest", "Labelled", "Unanswered", "answer_rows", "check_request"]
