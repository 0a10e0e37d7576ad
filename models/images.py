"""Labelled examples for small networks: loaded, split, checked and prepared. Must not know networks, torch or Ray.

Three parts that never mix: `fit` is trained on, `validation` gives rewards, `test` is for reported students alone.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..errors import DataError, SpecError
from .example_parts import permutation
from .image_sources import raw_examples
from .labels import class_numbers
from .preparation import Array, Layout, Normalisation, Preparation, Statistics, parsed

__all__ = ["Array", "ImageData", "Part", "array_digest", "image_data", "load_images", "permutation"]

Part: TypeAlias = tuple[Array, Array]
"""Examples and labels."""


APART = 100.0
"""How many times further the numbers of one part may reach than the other's."""


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
    source: Any,
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
        source: `plait:digits` (scikit-learn's 8x8 digits); an .npz of y_train, y_test, and either x_train, x_test
            (signals [count, length], grey images [count, height, width], images [count, height, width, channels] or
            [count, channels, height, width]) or JPEG files end to end (jpeg_train, offsets_train, ...); a folder of
            images, CLASS/IMAGE or train/CLASS/IMAGE and test/CLASS/IMAGE; a folder of Hugging Face tables (Parquet, or
            what save_to_disk wrote); in Python also (x, y), a torch Dataset or DataLoader, or a mapping of train and
            test to these. Where there is no test part, a fifth is kept for one.
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
    name = str(source) if isinstance(source, str | Path) else "data"
    raw = raw_examples(source)
    for part, x, y in (("train", raw.x_train, raw.y_train), ("test", raw.x_test, raw.y_test)):
        if not y.ndim or not len(y) or x.shape[:1] != y.shape[:1]:
            found = f"{len(y) if y.ndim else 'no'} labels"
            raise DataError(f"{name}: y_{part}", found, f"one a row of x_{part}, which is {x.shape}")
    places = [f"{name}: y_{part}" for part in ("train", "test")]
    train_y, test_y, count, names = class_numbers(raw.y_train, raw.y_test, places, classes, raw.classes)
    how = Preparation.of(raw.x_train, f"{name}: x_train", layout=layout, scale=scale, size=size)
    train_x, test_x = how.scaled(raw.x_train, f"{name}: x_train"), how.scaled(raw.x_test, f"{name}: x_test")
    _check_one_scale(train_x, test_x, name)
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


def _check_one_scale(train: Array, test: Array, name: str) -> None:
    """Raise where the parts are on scales as far apart as 0..1 and 0..255."""
    ours, theirs = (float(np.abs(x).max()) for x in (train, test))
    if ours and theirs and max(ours / theirs, theirs / ours) > APART:
        raise DataError(f"{name}: x_test", f"numbers up to {theirs:.4g}", f"the scale of x_train: up to {ours:.4g}")


def _train_size(train: int | None, there: int) -> int:
    if train is not None and not 3 <= train <= there:
        raise DataError("train", train, f"3 to {there}, the training examples there are")
    return train or there
