"""What is read from the logits of a generation step: drawn tokens, ended texts, label log-probabilities.

Each is a function of one request's logits alone. Must not know batches, caches or layers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..records import generator
from .chat import Sampling

Variants = tuple[tuple[int, ...], ...]
Detokenise = Callable[[Sequence[int]], str]


def draw(logits: Tensor, sampling: Sampling, index: int) -> int:
    """Return the `index`-th token of an answer, drawn from `logits` [vocabulary].

    The draw depends on the logits, (seed, index) and the sampling alone. A seed of None is seed 0: answers that
    should differ need different seeds. The nucleus is the fewest likeliest tokens whose probability reaches
    `top_p`, and those as likely as the last of them (Holtzman et al., arXiv 1904.09751, section 3.1).
    """
    if sampling.temperature == 0:
        return int(logits.argmax())
    heated = (logits - logits.max()).double() / sampling.temperature  # the likeliest at 0: no temperature overflows
    chances = heated.softmax(dim=-1)
    if sampling.top_p < 1:
        chances = torch.where(chances >= _least_in_nucleus(chances, sampling.top_p), chances, 0.0)
    heights = chances.cumsum(dim=0)
    point = generator(sampling.seed or 0, "token", index).random() * float(heights[-1])
    # The first token whose height is above the point: one of no probability adds no height and is never taken. A
    # point that rounding put at the very top is the last token that adds height.
    return min(int(torch.searchsorted(heights, point, right=True)), int(torch.searchsorted(heights, heights[-1])))


def are_finite(logits: Tensor) -> bool:
    """Return whether logits give a distribution in every row: none is NaN or +inf, and one or more is finite.

    An argmax over NaN is a token too, and would be taken for the model's.
    """
    likeliest = logits.amax(dim=-1)  # NaN wherever one of the row is
    return bool(torch.isfinite(likeliest).all())


def _least_in_nucleus(chances: Tensor, top_p: float) -> float:
    """Return the probability of the nucleus's least likely token."""
    count = 64  # most nuclei are small, and sorting a vocabulary takes as long as a layer
    while True:
        count = min(count, chances.shape[0])
        likeliest = chances.topk(count).values
        reached = (likeliest.cumsum(dim=0) >= top_p).nonzero()
        if len(reached):
            return float(likeliest[reached[0, 0]])
        if count == chances.shape[0]:
            return 0.0  # rounding: all of them together stay a last bit below top_p
        count *= 16


class StopTexts:
    """Looks for texts that end an answer; a text may begin in one token and end in another."""

    def __init__(self, stops: Sequence[str], detokenise: Detokenise) -> None:
        self._stops, self._detokenise = stops, detokenise
        # A token is a byte or more, so a text that the last token ended lies in as many tokens as it has bytes.
        # Some more: a decoder may change what the first token looks like.
        self._reach = max((len(stop.encode()) for stop in stops), default=0) + 8

    def cut(self, tokens: Sequence[int]) -> str | None:
        """Return the text of `tokens` before the first stop text; None where there is none."""
        if not self._stops:
            return None
        tail = self._detokenise(tokens[-self._reach :])
        if not any(stop in tail for stop in self._stops):
            return None
        text = self._detokenise(tokens)
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        return text[: min(places)] if places else None


@dataclass(frozen=True)
class LabelTree:
    """The tokens of all labels as a tree behind the prompt: what must be computed beyond the prompt itself.

    Attributes:
        rows: Token sequences, each a beginning of some label's tokens but none the whole: the rows to compute.
        seen: [rows, rows] of bool, which row sees which.
    """

    rows: tuple[tuple[int, ...], ...]
    seen: Tensor

    @classmethod
    def of(cls, labels: Mapping[str, Variants]) -> "LabelTree":
        """Return the tree of the labels' variants."""
        whole = [variant for variants in labels.values() for variant in variants]
        rows = tuple(sorted({variant[:stop] for variant in whole for stop in range(1, len(variant))}))
        seen = [[row[: len(other)] == other for other in rows] for row in rows]
        return cls(rows, torch.tensor(seen, dtype=torch.bool).reshape(len(rows), len(rows)))


def label_scores(labels: Mapping[str, Variants], tree: LabelTree, logits: Tensor) -> tuple[dict[str, float], float]:
    """Return each label's log-probability in nats, and the probability of all labels together.

    Args:
        labels: Per label, the token sequences that say it.
        tree: Of these labels.
        logits: [1 + rows of the tree, vocabulary]: after the prompt, then after each row.

    A label's probability is that the answer begins with one of its token sequences. Where one sequence begins
    another, the longer one is inside the shorter, and is not counted twice.
    """
    table = logits.float().log_softmax(dim=-1)
    places = {(): 0} | {row: place for place, row in enumerate(tree.rows, start=1)}
    logs = {
        variant: math.fsum(float(table[places[variant[:at]], token]) for at, token in enumerate(variant))
        for variants in labels.values()
        for variant in variants
    }
    scores = {label: _log_sum([logs[one] for one in _shortest(variants)]) for label, variants in labels.items()}
    return scores, min(1.0, math.exp(_log_sum([logs[one] for one in _shortest(tuple(logs))])))


def _shortest(variants: Variants) -> list[tuple[int, ...]]:
    """Return the different sequences that no other one begins."""
    different = set(variants)
    return [one for one in sorted(different) if not any(one[:stop] in different for stop in range(1, len(one)))]


def _log_sum(logs: Sequence[float]) -> float:
    """Return the logarithm of the summed exponentials."""
    top = max(logs)
    return top if math.isinf(top) else top + math.log(math.fsum(math.exp(one - top) for one in logs))


__all__ = ["Detokenise", "LabelTree", "StopTexts", "Variants", "are_finite", "draw", "label_scores"]
