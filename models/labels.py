"""Labels of examples as class numbers, whichever way they are written. Knows arrays alone."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..errors import DataError

Array: TypeAlias = np.ndarray[Any, Any]


def class_numbers(
    train: Array, test: Array, where: Sequence[str], classes: int | None = None, names: Sequence[str] | None = None
) -> tuple[Array, Array, int, tuple[str, ...] | None]:
    """Return training and test labels as numbers from 0, the number of classes, and the names of the classes.

    Whole numbers from 0 are taken as they are; so are fractions that are whole, a column of one, and rows of zeros with
    a single one (one-hot). Words are numbered in the order of the alphabet, as a folder of a class each is.

    Args:
        train: One label an example.
        test: The same for the test examples.
        where: What errors call the two.
        classes: How many there are, where not all of them occur.
        names: Of the classes, in the order of their numbers, where the data name them.

    Raises:
        DataError: they are no labels, or one is of no class; the error names the first.
    """
    both = [_plain(labels, place) for labels, place in zip((train, test), where, strict=True)]
    words = [labels.dtype.kind == "U" for labels, _ in both]
    if words[0] != words[1]:
        raise DataError(where[1], str(test.dtype), f"labels as in {where[0]}, which are {train.dtype}")
    if words[0]:
        return _numbered([labels for labels, _ in both], where, classes, names)
    widths = {width for _, width in both if width}
    if len(widths) > 1 or (widths and not all(width for _, width in both)):
        raise DataError(where[1], test.shape, f"labels as in {where[0]}, which are {train.shape}")
    present = len(np.unique(both[0][0]))
    count = classes or (len(names) if names is not None else widths.pop() if widths else present)
    if count < 2:
        raise DataError(where[0], f"{count} label", "two classes or more")
    for (labels, _), place in zip(both, where, strict=True):
        wrong = np.flatnonzero((labels < 0) | (labels >= count))
        if len(wrong):
            at = int(wrong[0])
            raise DataError(
                f"{place}[{at}]", int(labels[at]),
                f"0 to {count - 1}: there are {count} classes, numbered from 0; where some do not occur, name classes=",
            )  # fmt: skip
    return both[0][0], both[1][0], count, None if names is None else tuple(names)


def _plain(labels: Array, where: str) -> tuple[Array, int]:
    """Return labels as one row of int64 or of words, and the width of the one-hot rows that they were, or 0."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    kind = labels.dtype.kind
    if labels.ndim == 2 and kind in "iufb":
        hot = (labels == labels.max(axis=1, keepdims=True)).sum(axis=1) == 1
        good = hot & (labels.max(axis=1) == 1) & ((labels == 0) | (labels == 1)).all(axis=1)
        if not good.all():
            at = int(np.flatnonzero(~good)[0])
            raise DataError(f"{where}[{at}]", labels[at].tolist()[:8], "a class number, or zeros with a single one")
        return labels.argmax(axis=1).astype(np.int64), int(labels.shape[1])
    if labels.ndim == 1 and kind in "SU":
        return labels.astype(str), 0
    if labels.ndim == 1 and kind == "f":
        whole = np.isfinite(labels) & (np.floor(labels) == labels)
        if whole.all():
            return labels.astype(np.int64), 0
        at = int(np.flatnonzero(~whole)[0])
        raise DataError(f"{where}[{at}]", f"{labels.dtype} {labels[at]}", "one row of whole numbers")
    if labels.ndim != 1 or kind not in "iu":
        raise DataError(where, f"{labels.dtype} of shape {labels.shape}", "one row of whole numbers, or of words")
    return labels.astype(np.int64), 0


def _numbered(
    labels: Sequence[Array], where: Sequence[str], classes: int | None, names: Sequence[str] | None
) -> tuple[Array, Array, int, tuple[str, ...]]:
    """Return words as numbers."""
    order = list(names) if names is not None else sorted(set(labels[0].tolist()))
    if len(order) < 2 or (classes is not None and classes != len(order)):
        raise DataError(where[0], f"{len(order)} labels", "two classes or more" if classes is None else f"{classes}")
    numbers = {name: at for at, name in enumerate(order)}
    found = []
    for part, place in zip(labels, where, strict=True):
        strange = next((at for at, word in enumerate(part.tolist()) if word not in numbers), None)
        if strange is not None:
            raise DataError(f"{place}[{strange}]", str(part[strange]), f"one of the classes: {', '.join(order)[:200]}")
        found.append(np.array([numbers[word] for word in part.tolist()], np.int64))
    return found[0], found[1], len(order), tuple(order)
