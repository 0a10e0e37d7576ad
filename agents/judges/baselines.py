"""Judges that read nothing: the controls beside every panel. Pure; random ones are seeded by item."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import SpecError
from ...intervals import Interval, mean_interval, paired_interval
from ...records import generator
from .verdicts import LABELS, Abstain, Label, Verdict, check_aligned


def longer_wins(answers: Sequence[tuple[str, str]]) -> list[Label]:
    """Return for each pair the answer with more characters; a tie at equal lengths."""
    return [_longer(len(first), len(second)) for first, second in answers]


def majority_class(labels: Sequence[Label], items: int | None = None) -> list[Label]:
    """Return the most frequent label for each of `items` (as many as there are labels, when None).

    The first of `LABELS` wins among equals. It knows the labels it is given: those of the set itself make it a
    hindsight baseline, those of a slice an honest one.

    Raises:
        SpecError: there is no label.
    """
    if not labels:
        raise SpecError("labels", 0, "1 or more")
    counts = Counter(labels)
    return [max(LABELS, key=lambda label: counts[label])] * (len(labels) if items is None else items)


def random_judge(items: int, seed: int, ties: bool = True) -> list[Label]:
    """Return an even draw for each item; without `ties` a coin that never says tie."""
    choices = LABELS if ties else LABELS[:2]
    return [generator(seed, "random-judge", int(ties), index).choice(choices) for index in range(items)]


@dataclass(frozen=True, slots=True)
class LengthBias:
    """How far a judge goes by length, over items of unequal lengths where neither side says tie.

    Attributes:
        judge: Share of its verdicts that go to the longer answer.
        labels: Share of the labels that do.
        excess: The first minus the second, a paired interval over items.
    """

    judge: Interval
    labels: Interval
    excess: Interval


def length_bias(
    verdicts: Sequence[Verdict], labels: Sequence[Label], answers: Sequence[tuple[str, str]], *purpose: str
) -> LengthBias:
    """Return the preference for the longer answer beside the labels' own; `purpose` names the resampling."""
    check_aligned("verdicts", len(verdicts), len(labels))
    check_aligned("answers", len(answers), len(labels))
    ours, theirs = [], []
    for verdict, label, longer in zip(verdicts, labels, longer_wins(answers), strict=True):
        if not isinstance(verdict, Abstain) and "tie" not in (verdict, label, longer):
            ours.append(float(verdict == longer))
            theirs.append(float(label == longer))
    return LengthBias(
        judge=mean_interval(ours, "length-judge", *purpose),
        labels=mean_interval(theirs, "length-labels", *purpose),
        excess=paired_interval(ours, theirs, "length-excess", *purpose),
    )


def chance_range(labels: Sequence[Label], draws: int, seed: int, ties: bool = True) -> dict[str, tuple[float, float]]:
    """Return the central 95 % of accuracy, macro-F1 and kappa over `draws` random judges."""
    from .metrics import METRICS, crossed, scores_of

    tables = np.array([crossed(random_judge(len(labels), seed + draw, ties), labels) for draw in range(draws)])
    ranges = {metric: np.quantile(scores_of(tables, metric), [0.025, 0.975]) for metric in METRICS}
    return {str(metric): (float(low), float(high)) for metric, (low, high) in ranges.items()}


def _longer(first: int, second: int) -> Label:
    return "tie" if first == second else "model1" if first > second else "model2"
