"""Labelled examples for small networks: loaded, split, checked and normalised. Must not know networks, torch or Ray.

Three parts that never mix: `fit` is trained on, `validation` gives rewards, `test` is for reported students alone.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..errors import DataError
from ..records import generator

Array: TypeAlias = np.ndarray[Any, Any]
Part: TypeAlias = tuple[Array, Array]
"""Examples and labels."""

DIGITS_TEST = 0.2
"""Share of scikit-learn's digits, which come without a test set, that is always kept for one: 359 of 1,797."""


@dataclass(frozen=True)
class ImageData:
    """Examples, [count, channels, height, width] or [count, channels, length], float32; labels, [count], int64.

    Attributes:
        fit_x: What is trained on; its mean is 0 and its deviation 1 in every channel.
        fit_y: Labels, 0 to classes - 1.
        validation_x: What rewards are measured on, normalised as `fit_x` is.
        validation_y: Labels.
        test_x: What nothing chosen by a search may have seen.
        test_y: Labels.
        classes: How many there are.
        digest: SHA-256 over all of it, the test part too.
        normalisation: What was taken from raw examples, and divided out of them: `mean` and `std`, a number a channel;
            None where that is not known.
    """

    fit_x: Array
    fit_y: Array
    validation_x: Array
    validation_y: Array
    test_x: Array
    test_y: Array
    classes: int
    digest: str
    normalisation: Mapping[str, list[float]] | None = None

    @property
    def input(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(int(size) for size in self.fit_x.shape[1:])

    @property
    def chance(self) -> float:
        """Accuracy on validation of naming its most frequent label for every example."""
        return float(np.bincount(self.validation_y).max()) / len(self.validation_y)

    def test(self) -> Part:
        """Return the test part."""
        return self.test_x, self.test_y

    def without_test(self) -> "ImageData":
        """Return the data as a trainer may have it: no test example, and the digest of the whole."""
        return replace(self, test_x=self.test_x[:0].copy(), test_y=self.test_y[:0].copy())

    def without_examples(self) -> "ImageData":
        """Return what is known of the data beside the examples themselves."""
        x, y = self.fit_x[:0].copy(), self.fit_y[:0].copy()
        return replace(self, fit_x=x, fit_y=y, validation_x=x, validation_y=y, test_x=x, test_y=y)


def load_images(
    source: str | Path,
    size: int | None = None,
    train: int | None = None,
    validation: float = 0.2,
    seed: int = 0,
    classes: int | None = None,
    *,
    normalised: bool = True,
) -> ImageData:
    """Return the examples of `source`, split and normalised.

    Args:
        source: `plait:digits` (scikit-learn's 8x8 digits), or an .npz of y_train, y_test, and either x_train, x_test
            (signals [count, length], grey images [count, height, width], images [count, height, width, channels]) or
            JPEG files end to end (jpeg_train, offsets_train, ...). Bytes are scaled to 0..1.
        size: Images are averaged down to size x size; it divides theirs.
        train: Use so many training examples, drawn by `seed`; validation is cut from them.
        validation: Share of the training examples that is validated on.
        seed: Of the draw and the split. The test part does not depend on it.
        classes: Number of classes; else as many as there are labels in the training part.
        normalised: Whether the mean of each channel is taken out and its deviation divided out; else examples stay as
            they are, bytes scaled to 0..1: for a network that was trained so.

    Raises:
        DataError: it cannot be used; the error names the array, the place and what was expected.
    """
    name = str(source)
    raw = _digits() if name == "plait:digits" else _archive(name)
    count = _classes(raw, name, classes)
    train_x, test_x = (_channels_first(raw[f"x_{part}"], f"{name}: x_{part}", size) for part in ("train", "test"))
    if test_x.shape[1:] != train_x.shape[1:]:
        raise DataError(f"{name}: x_test", test_x.shape[1:], f"examples of shape {train_x.shape[1:]}, as in x_train")
    order = permutation(len(train_x), seed, "images", "split")[: _train_size(train, len(train_x))]
    held = round(len(order) * validation)
    if not 1 <= held <= len(order) - 2:
        expected = f"a share that leaves 1 example or more to validate and 2 to fit, of {len(order)}"
        raise DataError(f"{name}: validation", validation, expected)
    fit, valid = np.sort(order[held:]), np.sort(order[:held])
    mean, deviation = _statistics(train_x[fit])
    if not normalised:
        mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
    xs = [((x - mean) / deviation).astype(np.float32) for x in (train_x[fit], train_x[valid], test_x)]
    ys = [y.astype(np.int64) for y in (raw["y_train"][fit], raw["y_train"][valid], raw["y_test"])]
    statistics = {"mean": [float(x) for x in mean.ravel()], "std": [float(x) for x in deviation.ravel()]}
    return replace(image_data((xs[0], ys[0]), (xs[1], ys[1]), (xs[2], ys[2]), count), normalisation=statistics)


def image_data(fit: Part, validation: Part, test: Part, classes: int) -> ImageData:
    """Return parts that are ready for use, float32 and int64, with their digest."""
    total = array_digest(*fit, *validation, *test, classes)
    return ImageData(*fit, *validation, *test, classes=classes, digest=total)


def array_digest(*values: Array | int) -> str:
    """Return the SHA-256 over arrays (type, shape, bytes) and numbers."""
    total = hashlib.sha256()
    for value in values:
        array = np.asarray(value)
        total.update(json.dumps([array.dtype.str, list(array.shape)]).encode())
        total.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return total.hexdigest()


def permutation(count: int, seed: int, *purpose: str | int) -> Array:
    """Return 0 to count - 1 in the order that belongs to (seed, purpose); the same with every release of NumPy.

    >>> [int(i) for i in permutation(5, 7, "doc")]
    [0, 1, 4, 3, 2]
    """
    if not count:
        return np.zeros(0, np.int64)
    bits = generator(seed, *purpose).getrandbits(64 * count).to_bytes(8 * count, "little")
    return np.argsort(np.frombuffer(bits, "<u8"), kind="stable")


def _digits() -> dict[str, Array]:
    """Return scikit-learn's digits; the test part is one draw for all seeds, or one would fit another's."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x, y = found.images.astype(np.float32) / 16, found.target
    order = permutation(len(x), 0, "digits", "test")
    cut = round(len(x) * DIGITS_TEST)
    test, train = np.sort(order[:cut]), np.sort(order[cut:])
    return {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}


def _archive(name: str) -> dict[str, Array]:
    """Return x_train, y_train, x_test and y_test of an .npz."""
    expected = "plait:digits, or an .npz of plain arrays"
    try:
        file = np.load(name, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise DataError(name, f"one array of shape {file.shape}", expected)
        with file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        problem = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(name, problem, expected) from error
    for part in ("train", "test"):
        if f"jpeg_{part}" in arrays:
            arrays[f"x_{part}"] = _decoded(arrays, part, name)
        for key in (f"x_{part}", f"y_{part}"):
            if key not in arrays:
                raise DataError(name, sorted(arrays), f"{key} among its arrays")
    return arrays


def _decoded(arrays: Mapping[str, Array], part: str, name: str) -> Array:
    """Return [count, height, width, 3] bytes of JPEG files that lie end to end."""
    from PIL import Image, UnidentifiedImageError

    stream, offsets = arrays[f"jpeg_{part}"], arrays.get(f"offsets_{part}")
    if offsets is None or offsets.ndim != 1 or len(offsets) < 2:
        raise DataError(f"{name}: offsets_{part}", None if offsets is None else offsets.shape, "one row, 2 or more")
    images: list[Array] = []
    for at, (start, stop) in enumerate(pairwise(offsets)):
        try:
            with Image.open(io.BytesIO(stream[start:stop].tobytes())) as image:
                images.append(np.asarray(image.convert("RGB")))
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{name}: jpeg_{part}[{at}]", f"{stop - start} bytes", "a JPEG image") from error
        if images[-1].shape != images[0].shape:
            raise DataError(f"{name}: jpeg_{part}[{at}]", images[-1].shape, f"{images[0].shape}, as the first image")
    return np.stack(images)


def _classes(raw: Mapping[str, Array], name: str, given: int | None) -> int:
    """Return the number of classes; every label is checked to be one of them."""
    for part in ("train", "test"):
        x, y = raw[f"x_{part}"], raw[f"y_{part}"]
        if not np.issubdtype(y.dtype, np.integer) or y.ndim != 1:
            raise DataError(f"{name}: y_{part}", f"{y.dtype} of shape {y.shape}", "one row of whole numbers")
        if not len(y) or x.shape[:1] != y.shape:
            raise DataError(f"{name}: y_{part}", f"{len(y)} labels", f"one a row of x_{part}, which is {x.shape}")
    labels = len(np.unique(raw["y_train"]))
    classes = given or (len(raw["classes"]) if "classes" in raw else labels)
    if classes < 2:
        raise DataError(f"{name}: y_train", f"{classes} label", "two classes or more")
    for part in ("train", "test"):
        y = raw[f"y_{part}"]
        wrong = np.flatnonzero((y < 0) | (y >= classes))
        if len(wrong):
            at = int(wrong[0])
            raise DataError(f"{name}: y_{part}[{at}]", int(y[at]), f"0 to {classes - 1}: there are {classes} classes")
    return classes


def _channels_first(x: Array, where: str, size: int | None) -> Array:
    """Return [count, channels, ...] as float32; bytes become 0..1."""
    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        raise DataError(where, str(x.dtype), "bytes or floating-point numbers")
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise DataError(where, x.shape, "[count, length], [count, height, width] or [count, height, width, channels]")
    rows = x.astype(np.float32) / (255 if x.dtype == np.uint8 else 1)
    if not np.isfinite(rows).all():
        at = int(np.argwhere(~np.isfinite(rows))[0][0])
        raise DataError(f"{where}[{at}]", "NaN or infinity", "finite numbers")
    if x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[3] in (1, 3):
        raise DataError(
            where, x.shape, "channels at one clear place: first and last could both be; transpose to [N,H,W,C]"
        )
    if x.ndim == 4:
        rows = rows if x.shape[1] in (1, 3) else np.moveaxis(rows, -1, 1)
    else:
        rows = rows[:, None]
    return rows if size is None else _averaged(rows, size, where)


def _averaged(x: Array, size: int, where: str) -> Array:
    """Return images averaged over equal windows down to size x size."""
    if x.ndim != 4 or size < 1 or x.shape[2] % size or x.shape[3] % size:
        raise DataError(f"{where}: size", size, f"a divisor of the sides of images; these are {x.shape[2:]}")
    count, channels, height, width = x.shape
    return x.reshape(count, channels, size, height // size, size, width // size).mean((3, 5))


def _train_size(train: int | None, there: int) -> int:
    if train is not None and not 3 <= train <= there:
        raise DataError("train", train, f"3 to {there}, the training examples there are")
    return train or there


def _statistics(x: Array) -> tuple[Array, Array]:
    """Return mean and deviation a channel, shaped to be taken from [count, channels, ...]."""
    axes = (0, *range(2, x.ndim))
    mean, deviation = x.mean(axes, np.float64, keepdims=True), x.std(axes, np.float64, keepdims=True)
    return mean.astype(np.float32), np.where(deviation > 0, deviation, 1).astype(np.float32)
