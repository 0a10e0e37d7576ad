"""Labelled examples for small networks: loaded, split, checked and prepared. Must not know networks, torch or Ray.

Three parts that never mix: `fit` is trained on, `validation` gives rewards, `test` is for reported students alone.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..errors import DataError, SpecError
from ..records import generator
from .labels import class_numbers
from .preparation import Layout, Normalisation, Preparation, Statistics, parsed

Array: TypeAlias = np.ndarray[Any, Any]
Part: TypeAlias = tuple[Array, Array]
"""Examples and labels."""

DIGITS_TEST = 0.2
"""Share of scikit-learn's digits, which come without a test set, that is always kept for one: 359 of 1,797."""


@dataclass(frozen=True)
class ImageData:
    """Examples, [count, channels, height, width] or [count, channels, length], float32; labels, [count], int64.

    Attributes:
        fit_x: What is trained on, prepared.
        fit_y: Labels, 0 to classes - 1.
        validation_x: What rewards are measured on, prepared as `fit_x` is.
        validation_y: Labels.
        test_x: What nothing chosen by a search may have seen.
        test_y: Labels.
        classes: How many there are.
        digest: SHA-256 over all of it, the test part too.
        preparation: What was done to raw examples; None where that is not known.
        names: Of the classes, where the data name them.
    """

    fit_x: Array
    fit_y: Array
    validation_x: Array
    validation_y: Array
    test_x: Array
    test_y: Array
    classes: int
    digest: str
    preparation: Preparation | None = None
    names: tuple[str, ...] | None = None

    @property
    def normalisation(self) -> dict[str, list[float]] | None:
        """What was taken from raw examples, and divided out of them: `mean` and `std`; None where it is not known."""
        how = self.preparation
        return None if how is None else {"mean": list(how.mean), "std": list(how.std)}

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

    def under(self, how: Preparation) -> "ImageData":
        """Return the examples normalised in another way: layout, scale and size stay as they are.

        Raises:
            DataError: it is not known what was done to them.
        """
        mine = self.preparation
        if mine is None:
            raise DataError("data", "examples prepared in a way that is not known", "what load_images returned")
        if (mine.mean, mine.std) == (how.mean, how.std):
            return self
        parts = [how.normalise(mine.undone(x)) for x in (self.fit_x, self.validation_x, self.test_x)]
        fit, validation, test = zip(parts, (self.fit_y, self.validation_y, self.test_y), strict=True)
        preparation = replace(mine, mean=how.mean, std=how.std, normalised=how.normalised)
        return replace(image_data(fit, validation, test, self.classes), preparation=preparation, names=self.names)

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
    normalisation: Normalisation | str | Sequence[Any] = "data",
    layout: Layout | None = None,
    scale: float | None = None,
) -> ImageData:
    """Return the examples of `source`, split and prepared; `.preparation` says how.

    Args:
        source: `plait:digits` (scikit-learn's 8x8 digits), or an .npz of y_train, y_test, and either x_train, x_test
            (signals [count, length], grey images [count, height, width], images [count, height, width, channels] or
            [count, channels, height, width]) or JPEG files end to end (jpeg_train, offsets_train, ...).
        size: Images are averaged down to size x size; it divides theirs.
        train: Use so many training examples, drawn by `seed`; validation is cut from them.
        validation: Share of the training examples that is validated on.
        seed: Of the draw and the split. The test part does not depend on it.
        classes: Number of classes; else as many as there are labels in the training part.
        normalisation: `data`: the mean of each channel over what is fitted to is taken out and its deviation divided
            out; (mean, std): these are; `none`: examples stay as they are, but for scale and size.
        layout: `channels_first`, `channels_last` or `no_channels`, where the shape leaves it open.
        scale: What raw numbers are divided by; by default bytes by 255, other numbers by 1.

    Raises:
        DataError: it cannot be used; the error names the array, the place and what was expected.
        SpecError: a setting does not fit the examples.
    """
    name = str(source)
    raw = _digits() if name == "plait:digits" else _archive(name)
    places = [f"{name}: y_{part}" for part in ("train", "test")]
    _check_counts(raw, name)
    given = raw.get("classes")
    known = None if given is None else [str(one) for one in given.tolist()]
    train_y, test_y, count, names = class_numbers(raw["y_train"], raw["y_test"], places, classes, known)
    how = Preparation.of(raw["x_train"], f"{name}: x_train", layout=layout, scale=scale, size=size)
    train_x, test_x = (how.scaled(raw[f"x_{part}"], f"{name}: x_{part}") for part in ("train", "test"))
    order = permutation(len(train_x), seed, "images", "split")[: _train_size(train, len(train_x))]
    held = round(len(order) * validation)
    if not 1 <= held <= len(order) - 2:
        expected = f"a share that leaves 1 example or more to validate and 2 to fit, of {len(order)}"
        raise DataError(f"{name}: validation", validation, expected)
    fit, valid = np.sort(order[held:]), np.sort(order[:held])
    how = how.normalised_by(train_x[fit], _normalisation(normalisation))
    xs = [how.normalise(x) for x in (train_x[fit], train_x[valid], test_x)]
    data = image_data((xs[0], train_y[fit]), (xs[1], train_y[valid]), (xs[2], test_y), count)
    return replace(data, preparation=how, names=names)


def _normalisation(given: Normalisation | str | Sequence[Any]) -> Normalisation:
    if isinstance(given, str):
        return parsed(given)
    try:
        return Statistics.model_validate(given)
    except ValueError as error:
        raise SpecError(
            "normalisation", given, "none, data, or (mean, std): each one number or one a channel"
        ) from error


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


def _check_counts(raw: Mapping[str, Array], name: str) -> None:
    """Raise where examples and labels are not as many, or none."""
    for part in ("train", "test"):
        x, y = raw[f"x_{part}"], raw[f"y_{part}"]
        if not y.ndim or not len(y) or x.shape[:1] != y.shape[:1]:
            found = f"{len(y) if y.ndim else 'no'} labels"
            raise DataError(f"{name}: y_{part}", found, f"one a row of x_{part}, which is {x.shape}")


def _train_size(train: int | None, there: int) -> int:
    if train is not None and not 3 <= train <= there:
        raise DataError("train", train, f"3 to {there}, the training examples there are")
    return train or there
