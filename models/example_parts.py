"""Raw examples and labels in parts: what a row is, how rows become arrays, how parts become two. Reads no file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..errors import DataError
from ..records import generator

Array: TypeAlias = np.ndarray[Any, Any]

TEST = 0.2
"""Share of examples that come without a test set which is always kept for one: of scikit-learn's 1,797 digits, 359."""
MOST = 2_000_000
"""Examples that are taken from what has no end of its own."""
TRAIN, TESTS = ("train", "training"), ("test", "testing", "val", "valid", "validation")
"""Names of parts, as folders, tables and keys have them; a validation part is the test part where there is no other."""
X_KEYS = ("image", "img", "images", "pixel_values", "x", "signal", "input", "inputs", "features", "data")
Y_KEYS = ("label", "labels", "y", "target", "targets", "class", "fine_label")


@dataclass(frozen=True)
class Raw:
    """Raw examples and labels of the two parts, and the names of the classes where the source has them."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Examples:
    """Raw examples, their labels, and the names of the classes where the source has them."""

    x: Array
    y: Array
    classes: tuple[str, ...] | None = None


def of_parts(parts: Mapping[str, Examples], name: str) -> Raw:
    """Return the parts of a source by their names: train and test, or one that is cut."""
    train = next((parts[one] for one in TRAIN if one in parts), None)
    test = next((parts[one] for one in TESTS if one in parts), None)
    if train is None and test is None and len(parts) == 1:
        train = next(iter(parts.values()))
    if train is None:
        raise DataError(name, sorted(parts), "a part called train among them")
    return halved(train) if test is None else joined(train, test)


def joined(train: Examples, test: Examples) -> Raw:
    """Return two parts as one source; raises DataError where their classes have other names."""
    if train.classes != test.classes and None not in (train.classes, test.classes):
        raise DataError("data: test", list(test.classes or ()), f"the classes of train: {list(train.classes or ())}")
    return Raw(train.x, train.y, test.x, test.y, train.classes or test.classes)


def halved(part: Examples) -> Raw:
    """Return a part in two; the test part is one draw for all seeds, or one would fit another's."""
    order = permutation(len(part.x), 0, "digits", "test")
    cut = round(len(part.x) * TEST)
    test, train = np.sort(order[:cut]), np.sort(order[cut:])
    if not cut:
        raise DataError("data", f"{len(part.x)} examples", "3 or more, or a test part beside")
    return Raw(part.x[train], part.y[train], part.x[test], part.y[test], part.classes)


def permutation(count: int, seed: int, *purpose: str | int) -> Array:
    """Return 0 to count - 1 in the order that belongs to (seed, purpose); the same with every release of NumPy.

    >>> [int(i) for i in permutation(5, 7, "doc")]
    [0, 1, 4, 3, 2]
    """
    if not count:
        return np.zeros(0, np.int64)
    bits = generator(seed, *purpose).getrandbits(64 * count).to_bytes(8 * count, "little")
    return np.argsort(np.frombuffer(bits, "<u8"), kind="stable")


def pair_of(row: Any, where: str) -> tuple[Any, Any]:
    """Return example and label of what a dataset yields: a pair, or a mapping."""
    if isinstance(row, Mapping):
        xs, ys = ([key for key in keys if key in row] for keys in (X_KEYS, Y_KEYS))
        if len(xs) != 1 or len(ys) != 1:
            expected = f"one example ({', '.join(X_KEYS[:4])}, ...) and one label ({', '.join(Y_KEYS[:3])}, ...)"
            raise DataError(where, sorted(map(str, row)), expected)
        return row[xs[0]], row[ys[0]]
    if isinstance(row, tuple | list) and len(row) == 2:
        return row[0], row[1]
    found = f"{type(row).__name__} of {len(row)}" if isinstance(row, tuple | list) else type(row).__name__
    raise DataError(where, found, "pairs of an example and its label")


def stacked(rows: Iterable[Any], where: str, *, batched: bool, classes: tuple[str, ...] | None) -> Examples:
    """Return rows, or batches of rows, as arrays.

    Raises:
        DataError: one is no example with its label, has another shape or type than the first, or there is none.
    """
    xs, ys, count = list[Array](), list[Array](), 0
    for at, row in enumerate(rows):
        x, y = (array_of(one, f"{where}[{at}]") for one in pair_of(row, f"{where}[{at}]"))
        xs.append(x if batched else x[None])
        ys.append(y if batched else y[None])
        count += len(xs[-1])
        if xs[-1].shape[1:] != xs[0].shape[1:] or xs[-1].dtype != xs[0].dtype:
            found, first = (f"{one.dtype} {one.shape[1:]}" for one in (xs[-1], xs[0]))
            raise DataError(f"{where}[{at}]", found, f"{first}, as the first example")
        if count > MOST:
            raise DataError(where, f"more than {MOST} examples", "a dataset that ends")
    if not count:
        raise DataError(where, "no example", "examples with their labels")
    if len({y.shape[1:] for y in ys}) > 1:
        raise DataError(where, "labels of several shapes", "labels of one form")
    return checked(np.concatenate(xs), np.concatenate(ys), where, classes)


def checked(x: Array, y: Array, where: str, classes: tuple[str, ...] | None = None) -> Examples:
    """Return examples and as many labels; raises DataError where they are not."""
    if not x.ndim or not y.ndim or len(x) != len(y):
        shapes = " and ".join(str(one.shape) for one in (x, y))
        raise DataError(where, f"arrays of shape {shapes}", "examples and as many labels")
    return Examples(x, y, classes)


def array_of(value: Any, where: str) -> Array:
    """Return a tensor, an array, a PIL image, a list or a number as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return np.asarray(value.numpy())
    if hasattr(value, "getbands"):
        return pixels_of(value, where)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(where, "rows of several lengths", "examples of one shape") from error
    if array.dtype == object:
        raise DataError(where, type(value).__name__, "tensors, arrays, images or numbers")
    return array


def pixels_of(image: Any, where: str, *, grey: bool | None = None) -> Array:
    """Return an image as bytes: [height, width] of grey ones, else [height, width, 3]."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise DataError(where, f"an image of mode {image.mode}", "8 bits a channel")
    if grey is None:
        grey = image.mode in ("1", "L")
    return np.asarray(image.convert("L" if grey else "RGB"))
