"""What the order of the two answers does to a judge, and the published procedures that ask both orders.

`order12` holds the verdicts when answer 1 was shown first, `order21` when answer 2 was, both in the data set's
labels (un-swapped). Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...intervals import Interval, difference_interval, mean_interval
from .verdicts import Abstain, Label, Verdict, check_aligned, encode, mirrored


@dataclass(frozen=True, slots=True)
class PositionEffect:
    """How a judge's verdicts hang on the order.

    Attributes:
        flip_rate: Share of items whose two verdicts differ, of those with a verdict in both orders.
        lean: Mean pull towards the answer shown first, -1..1: 1 when the first wins whichever it is, 0 when
            flips go both ways alike; a win in one order and a tie in the other pulls by a half.
        unjudged: Items without a verdict in one order or in both.
    """

    flip_rate: Interval
    lean: Interval
    unjudged: int


def position_effect(order12: Sequence[Verdict], order21: Sequence[Verdict], *purpose: str) -> PositionEffect:
    """Return the flip rate and the lean with their intervals; `purpose` names the resampling."""
    check_aligned("order21", len(order21), len(order12))
    first, second = encode(order12), encode(order21)
    both = ~np.isnan(first) & ~np.isnan(second)
    flips = (first != second)[both].astype(float)
    return PositionEffect(
        flip_rate=mean_interval(list(flips), "flip-rate", *purpose),
        lean=difference_interval((first - second)[both] / 2, "lean", *purpose, support=(-1.0, 1.0)),
        unjudged=int((~both).sum()),
    )


@dataclass(frozen=True, slots=True)
class Consistency:
    """Accuracy where the two orders agree, beside that of single verdicts.

    Consistency is not correctness: a judge that is fooled in both orders agrees with itself.

    Attributes:
        agreeing: Share of all items with equal verdicts in both orders.
        accuracy_agreeing: Accuracy on those items.
        accuracy_single: Mean accuracy of the two orders over all items; a missing verdict is not right.
        items: Items in all.
    """

    agreeing: float
    accuracy_agreeing: float | None
    accuracy_single: float
    items: int


def consistency(order12: Sequence[Verdict], order21: Sequence[Verdict], labels: Sequence[Label]) -> Consistency:
    """Return how far agreement of the two orders tells of being right."""
    rights = _rights(order12, order21, labels)
    agree = [a == b and not isinstance(a, Abstain) for a, b in zip(order12, order21, strict=True)]
    agreed = rights[0][np.array(agree, dtype=bool)]
    return Consistency(
        agreeing=float(np.mean(agree)),
        accuracy_agreeing=float(agreed.mean()) if agreed.size else None,
        accuracy_single=float(rights.mean()),
        items=len(labels),
    )


def reconciled(order12: Sequence[Verdict], order21: Sequence[Verdict]) -> list[Verdict]:
    """Return one verdict an item: the common one, a tie where the orders conflict (MT-bench; PandaLM's later rule).

    An item that misses a verdict in one order abstains for that order's reason; it is no conflict.
    """
    check_aligned("order21", len(order21), len(order12))
    merged: list[Verdict] = []
    for first, second in zip(order12, order21, strict=True):
        missing = next((v for v in (first, second) if isinstance(v, Abstain)), None)
        merged.append(missing or (first if first == second else "tie"))
    return merged


def judgebench_right(order12: Sequence[Verdict], order21: Sequence[Verdict], labels: Sequence[Label]) -> list[bool]:
    """Return whether each item counts as right under JudgeBench's rule.

    An order adds 1 for the label, -1 for the opposite, 0 for a tie or a failure; right is a sum above 0. A
    label of tie has no opposite, so such an item cannot be right.
    """
    check_aligned("order12", len(order12), len(labels))
    check_aligned("order21", len(order21), len(labels))

    def points(verdict: Verdict, label: Label) -> int:
        if label == "tie" or isinstance(verdict, Abstain) or verdict == "tie":
            return 0
        return 1 if verdict == label else -1

    return [points(a, label) + points(b, label) > 0 for a, b, label in zip(order12, order21, labels, strict=True)]


def llmbar(order12: Sequence[Verdict], order21: Sequence[Verdict], labels: Sequence[Label]) -> dict[str, float]:
    """Return LLMBar's figures over all items: a missing verdict is right in no order and agrees with none.

    Returns:
        `accuracy`, the mean of the two orders'; `both_right`; `swap_agreement`, the share with equal verdicts.
    """
    rights = _rights(order12, order21, labels)
    agree = [a == b and not isinstance(a, Abstain) for a, b in zip(order12, order21, strict=True)]
    return {
        "accuracy": float(rights.mean()),
        "both_right": float(rights.all(0).mean()),
        "swap_agreement": float(np.mean(agree)),
    }


def mtbench(
    order12: Sequence[Verdict], order21: Sequence[Verdict], labels: Sequence[Label]
) -> dict[str, float | int | None]:
    """Return MT-bench's agreement of the reconciled verdicts with the labels, with and without ties.

    Returns:
        `with_ties`, where a tie agrees with a tie, over the items with a verdict; `without_ties`, over those
        where neither side says tie; `items_with_ties` and `items_without_ties`, how many those are.
    """
    check_aligned("order12", len(order12), len(labels))
    judged = [(v, label) for v, label in zip(reconciled(order12, order21), labels, strict=True)
              if not isinstance(v, Abstain)]  # fmt: skip
    decided = [(verdict, label) for verdict, label in judged if "tie" not in (verdict, label)]
    return {
        "with_ties": _share(judged),
        "without_ties": _share(decided),
        "items_with_ties": len(judged),
        "items_without_ties": len(decided),
    }


def as_seen(order21: Sequence[Verdict]) -> list[Verdict]:
    """Return verdicts of the exchanged order in the names the judge saw, or back again."""
    return [mirrored(verdict) for verdict in order21]


def _share(pairs: Sequence[tuple[Verdict, Label]]) -> float | None:
    return sum(verdict == label for verdict, label in pairs) / len(pairs) if pairs else None


def _rights(order12: Sequence[Verdict], order21: Sequence[Verdict], labels: Sequence[Label]) -> np.ndarray:
    """Return [2, items]: whether each order's verdict is the label."""
    check_aligned("order12", len(order12), len(labels))
    check_aligned("order21", len(order21), len(labels))
    return np.array([[verdict == label for verdict, label in zip(order, labels, strict=True)]
                     for order in (order12, order21)])  # fmt: skip
