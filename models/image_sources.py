"""Raw labelled examples as users have them: places, arrays, pairs, datasets, loaders. Prepares nothing.

    raw_examples("plait:digits" | "x.npz" | "FOLDER" | (x, y) | dataset | loader | {"train": ..., "test": ...})

torch is used only where a torch object is handed over; pyarrow only where a folder of Hugging Face tables is.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, PlaitError
from ..user_objects import first_line
from .example_parts import (
    TESTS,
    TRAIN,
    X_KEYS,
    Y_KEYS,
    Array,
    Examples,
    Raw,
    array_of,
    checked,
    halved,
    joined,
    of_parts,
    pair_of,
    stacked,
)
from .image_files import archive, digits, image_folder, table_examples, tables_in

EXPECTED = (
    "plait:digits, an .npz, a folder of a folder a class, a folder of Hugging Face tables, (x, y), a torch Dataset or "
    "DataLoader, or {'train': ..., 'test': ...} of these"
)


def raw_examples(source: Any) -> Raw:
    """Return the raw examples of a source; a fifth is kept for testing where it has no test part.

    Raises:
        DataError: it cannot be read; the error names the place and what was expected.
        SpecError: a package that it needs is not installed.
    """
    if isinstance(source, str | Path):
        return _of_place(str(source))
    parts = _named_parts(source)
    if parts is not None:
        return joined(*(_part(one, f"data[{name!r}]") for name, one in parts))
    return halved(_part(source, "data"))


def _of_place(name: str) -> Raw:
    place = Path(name)
    if name == "plait:digits":
        return digits()
    if not place.is_dir():
        return archive(name)
    tables = tables_in(place)
    if tables:
        return of_parts({part: table_examples(files, f"{name}: {part}") for part, files in tables.items()}, name)
    return image_folder(place)


def _named_parts(source: Any) -> list[tuple[str, Any]] | None:
    """Return train and test of a mapping, of ((x, y), (x, y)) or of (x, y, x, y); None where it is one part."""
    if isinstance(source, Mapping) and not _is_batch(source):
        keys = list(source)
        train = next((key for key in keys if key in TRAIN), None)
        test = next((key for key in TESTS if key in keys), None)
        if train is None:
            raise DataError("data", keys, "train, and test where there is one, among its keys; or one x and one y")
        return None if test is None else [(train, source[train]), (test, source[test])]
    if isinstance(source, tuple | list) and len(source) == 4 and all(_is_array(one) for one in source):
        return [("train", (source[0], source[1])), ("test", (source[2], source[3]))]
    halves = isinstance(source, tuple | list) and len(source) == 2 and all(map(_is_pair, source))
    if halves:
        return [("train", source[0]), ("test", source[1])]
    return None


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and bool(getattr(value, "shape", ()))


def _is_pair(value: Any) -> bool:
    """Return whether a value is (x, y) of arrays."""
    return isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_array, value))


def _is_batch(value: Any) -> bool:
    """Return whether a mapping is one batch, of examples and labels, and not parts by name."""
    return isinstance(value, Mapping) and any(key in value for key in X_KEYS) and any(key in value for key in Y_KEYS)


def _part(source: Any, where: str) -> Examples:
    """Return the examples and labels of one part."""
    if isinstance(source, Mapping) and not _is_batch(source):
        source = next(source[key] for key in TRAIN if key in source)
    if isinstance(source, Mapping):
        x, y = pair_of(source, where)
        return checked(array_of(x, where), array_of(y, where), where)
    if isinstance(source, tuple | list) and len(source) == 2:
        x, y = (array_of(one, f"{where}[{at}]") for at, one in enumerate(source))
        return checked(x, y, where)
    if isinstance(source, str | Path):
        raise DataError(where, str(source), "examples; a folder or a file is the whole of `data`")
    rows, batched = _rows_of(source, where)
    return stacked(_guarded(rows, where), where, batched=batched, classes=_class_names(source))


def _rows_of(source: Any, where: str) -> tuple[Iterable[Any], bool]:
    """Return what a dataset or loader yields in an order that a second look repeats, and whether by batches."""
    loader = hasattr(source, "dataset") and hasattr(source, "batch_size")
    if loader:
        return _ordered(source), getattr(source, "batch_size", None) is not None or _own_batches(source)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        _check_constant(source, where)
        return (source[at] for at in range(len(source))), False
    if hasattr(source, "__iter__") and not isinstance(source, str | bytes | Mapping | set):
        return source, False
    raise DataError(where, type(source).__name__, EXPECTED)


def _guarded(rows: Iterable[Any], where: str) -> Iterator[Any]:
    """Yield what a dataset or loader yields; what its own code raises becomes one line."""
    try:
        yield from rows
    except PlaitError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise DataError(where, first_line(error), "examples with their labels, all of one shape") from error


def _own_batches(loader: Any) -> bool:
    return getattr(loader, "batch_sampler", None) is not None


def _ordered(loader: Any) -> Iterable[Any]:
    """Return a loader's batches; one that shuffles a whole dataset yields it in the dataset's own order."""
    from torch.utils.data import DataLoader, IterableDataset, RandomSampler

    sampler: Any = getattr(loader, "sampler", None)
    whole = isinstance(sampler, RandomSampler) and not sampler.replacement
    whole = whole and sampler.num_samples == len(loader.dataset) and not isinstance(loader.dataset, IterableDataset)
    if not whole or loader.batch_size is None:
        return loader  # type: ignore[no-any-return]
    _check_constant(loader.dataset, "data.dataset")
    return DataLoader(loader.dataset, loader.batch_size, shuffle=False, collate_fn=loader.collate_fn)


def _check_constant(dataset: Any, where: str) -> None:
    """Raise where an example is another at a second look: a run on such examples could not be repeated."""
    for at in range(min(3, len(dataset))):
        try:
            rows = [dataset[at], dataset[at]]
        except Exception as error:  # the user's code may raise anything
            expected = "an example and its label at each whole number below its length"
            raise DataError(f"{where}[{at}]", first_line(error), expected) from error
        one, other = (pair_of(row, f"{where}[{at}]")[0] for row in rows)
        if not np.array_equal(array_of(one, where), array_of(other, where), equal_nan=_floats(array_of(one, where))):
            expected = "the same example at each look: hand the dataset over without augmentation"
            raise DataError(f"{where}[{at}]", "another example at a second look", expected)


def _floats(x: Array) -> bool:
    return np.issubdtype(x.dtype, np.floating)


def _class_names(source: Any) -> tuple[str, ...] | None:
    """Return the names of classes that a dataset knows: `classes`, as torchvision has it, or a feature's `names`."""
    source = getattr(source, "dataset", source) if hasattr(source, "batch_size") else source
    known = getattr(source, "classes", None)
    if known is None and isinstance(features := getattr(source, "features", None), Mapping):
        label = next((features[key] for key in Y_KEYS if key in features), None)
        known = getattr(label, "names", None)
    if isinstance(known, list | tuple) and known:
        return tuple(map(str, known))
    return None
