"""The words of a judgment: labels, abstentions, votes as numbers. Must not know models, prompts or graphs.

Labels always speak of the answers as the data set numbers them, whatever order they were shown in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ...errors import SpecError

Label = Literal["model1", "model2", "tie"]
"""Which answer is the better one."""

LABELS: tuple[Label, ...] = get_args(Label)

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Abstain:
    """No verdict, and why: a failed call, an answer that cannot be read, too little evidence. Never a tie."""

    reason: str


Verdict: TypeAlias = Label | Abstain

CODES: dict[Label, float] = {"model1": 1.0, "model2": -1.0, "tie": 0.0}
"""A verdict as a number, for panels held in arrays; an abstention is NaN."""


def encode(verdicts: Sequence[Verdict]) -> Floats:
    """Return [verdicts]: 1 for model1, -1 for model2, 0 for a tie, NaN for an abstention.

    Raises:
        SpecError: a verdict is neither a label nor an abstention.
    """
    codes = np.full(len(verdicts), np.nan)
    for place, verdict in enumerate(verdicts):
        if isinstance(verdict, Abstain):
            continue
        if verdict not in CODES:
            raise SpecError(f"verdicts[{place}]", verdict, f"one of {', '.join(LABELS)}, or Abstain(reason)")
        codes[place] = CODES[verdict]
    return codes


def decode(code: float, reason: str = "no vote was cast") -> Verdict:
    """Return the verdict of a sign: model1 above 0, model2 below, a tie at 0; NaN abstains for `reason`."""
    if np.isnan(code):
        return Abstain(reason)
    return "model1" if code > 0 else "model2" if code < 0 else "tie"


def mirrored(verdict: Verdict) -> Verdict:
    """Return the verdict on the same two answers under exchanged names."""
    if verdict == "model1":
        return "model2"
    return "model1" if verdict == "model2" else verdict


def check_aligned(where: str, ours: int, labels: int) -> None:
    """Refuse two sequences over the same items that differ in length.

    Raises:
        SpecError: they do.
    """
    if ours != labels:
        raise SpecError(where, ours, f"one for each of the {labels} items")
