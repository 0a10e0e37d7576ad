"""Labelled examples in files: .npz archives, folders of images, folders of Hugging Face tables. Prepares nothing."""

import io
import json
import re
import zipfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, SpecError
from .example_parts import (
    TESTS,
    TRAIN,
    X_KEYS,
    Y_KEYS,
    Array,
    Examples,
    Raw,
    halved,
    of_parts,
    pair_of,
    pixels_of,
    stacked,
)

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
"""Ends of the names of images."""


def digits() -> Raw:
    """Return scikit-learn's digits, 8x8 grey images of 0 to 1."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return halved(Examples(found.images.astype(np.float32) / 16, found.target))


def archive(name: str) -> Raw:
    """Return the arrays of an .npz."""
    expected = "plait:digits, an .npz of plain arrays, a folder of a folder a class, or one of Hugging Face tables"
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
    classes = tuple(map(str, arrays["classes"].ravel().tolist())) if "classes" in arrays else None
    return Raw(arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"], classes)


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


def image_folder(place: Path) -> Raw:
    """Return the images of FOLDER/CLASS/..., or of FOLDER/train/CLASS/... and FOLDER/test/CLASS/...."""
    inside = {one.name: one for one in sorted(place.iterdir()) if one.is_dir() and not one.name.startswith(".")}
    named = {name: inside[name] for name in (*TRAIN, *TESTS) if name in inside}
    if any(name in named for name in TRAIN):
        listed = {name: _listed(folder) for name, folder in named.items()}
    else:
        listed = {"train": _listed(place)}
    flat = [file for files in listed.values() for files_of in files.values() for file in files_of]
    if not flat:
        expected = "CLASS/IMAGE or train/CLASS/IMAGE in it, or .parquet or .arrow tables"
        raise DataError(str(place), sorted(inside) or "no folder", expected)
    grey = all(_mode(file) in ("1", "L") for file in flat)
    classes = {name: tuple(files) for name, files in listed.items()}
    return of_parts(
        {name: _read_folder(files, classes[name], grey=grey, first=flat[0]) for name, files in listed.items()},
        str(place),
    )


def _listed(folder: Path) -> dict[str, list[Path]]:
    """Return the image files of each class of a folder, both in the order of their names."""
    found: dict[str, list[Path]] = {}
    for inside in sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")):
        files = sorted(file for file in inside.rglob("*") if file.suffix.lower() in IMAGES and file.is_file())
        if files:
            found[inside.name] = files
    return found


def _mode(file: Path) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return str(image.mode)
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(str(file), str(error).splitlines()[0][:80], "an image") from error


def _read_folder(files: Mapping[str, Sequence[Path]], classes: tuple[str, ...], *, grey: bool, first: Path) -> Examples:
    from PIL import Image

    images, labels = list[Array](), list[int]()
    for at, name in enumerate(classes):
        for file in files[name]:
            try:
                with Image.open(file) as image:
                    images.append(pixels_of(image, str(file), grey=grey))
            except OSError as error:
                raise DataError(str(file), str(error).splitlines()[0][:80], "a whole image") from error
            labels.append(at)
            if images[-1].shape != images[0].shape:
                found = f"{images[-1].shape[1]} x {images[-1].shape[0]} pixels"
                expected = f"{images[0].shape[1]} x {images[0].shape[0]}, as {first}: scale all images to one size"
                raise DataError(str(file), found, expected)
    return Examples(np.stack(images), np.array(labels, np.int64), classes)


def tables_in(place: Path) -> dict[str, list[Path]]:
    """Return the Arrow and Parquet files of a Hugging Face folder by part."""
    found: dict[str, list[Path]] = {}
    for file in sorted(place.rglob("*")):
        if file.suffix not in (".parquet", ".arrow") or file.name.startswith("cache-"):
            continue
        found.setdefault(_part_name(file, place), []).append(file)
    return found


def table_examples(files: Sequence[Path], where: str) -> Examples:
    """Return examples and labels of Arrow or Parquet files, a row an example; images as Hugging Face stores them."""
    try:
        import pyarrow as arrow
        from pyarrow import ipc, parquet
    except ImportError as error:
        raise SpecError(where, "no package pyarrow", "the extra: pip install 'plait[arrow]'") from error
    tables = []
    for file in files:
        try:
            if file.suffix == ".parquet":
                tables.append(parquet.read_table(file))
            else:
                with arrow.memory_map(str(file)) as source:
                    tables.append(ipc.open_stream(source).read_all())
        except (arrow.ArrowInvalid, OSError) as error:
            raise DataError(str(file), str(error).splitlines()[0][:100], "an Arrow or Parquet table") from error
    bytes_in = {name for name in tables[0].column_names if _leaf(tables[0].schema.field(name).type) == arrow.uint8()}
    told = json.loads((tables[0].schema.metadata or {}).get(b"huggingface", b"{}"))
    features = told.get("info", {}).get("features", {})
    rows = (row for table in tables for row in table.to_pylist())
    label: Any = next((features[key] for key in Y_KEYS if key in features), {})
    names = label.get("names") if isinstance(label, dict) else None
    return stacked(
        _seen(rows, where, bytes_in), where, batched=False, classes=tuple(map(str, names)) if names else None
    )


def _part_name(file: Path, place: Path) -> str:
    """Return the part that a table belongs to: by a folder, or by its name; what names none is `train`."""
    inside = file.relative_to(place).parts[:-1]
    shard = re.fullmatch(r"(.+)-\d{5}-of-\d{5}.*", file.stem)
    stem = shard[1] if shard else file.stem
    known = next((name for name in (*inside[::-1], stem, stem.split("-")[0]) if name in (*TRAIN, *TESTS)), None)
    if known is not None:
        return known
    own = stem if shard and stem != "data" else inside[-1] if shard and inside else "train"
    return "train" if own == "data" else own


def _leaf(kind: Any) -> Any:
    """Return the type of the numbers in a column of lists of lists."""
    while (inner := getattr(kind, "storage_type", None) or getattr(kind, "value_type", None)) is not None:
        kind = inner
    return kind


def _seen(rows: Iterable[Mapping[str, Any]], where: str, bytes_in: Container[str]) -> Iterator[tuple[Any, Any]]:
    """Yield example and label of table rows, encoded images decoded; lists in the columns `bytes_in` are bytes."""
    from PIL import Image, UnidentifiedImageError

    for at, row in enumerate(rows):
        x, y = pair_of(row, f"{where}[{at}]")
        if isinstance(x, Mapping) and x.get("bytes") is not None:
            try:
                with Image.open(io.BytesIO(x["bytes"])) as image:
                    x = pixels_of(image, f"{where}[{at}]")
            except (UnidentifiedImageError, OSError) as error:
                raise DataError(f"{where}[{at}]", f"{len(x['bytes'])} bytes", "an image") from error
        elif isinstance(x, Mapping):
            raise DataError(f"{where}[{at}]", sorted(x), "an image whose bytes are in the table")
        elif isinstance(x, list):
            key = next(key for key in X_KEYS if key in row)
            try:
                x = np.asarray(x)
            except ValueError as error:
                raise DataError(f"{where}[{at}]", "rows of several lengths", "examples of one shape") from error
            x = x.astype(np.uint8 if key in bytes_in else np.float32 if x.dtype == np.float64 else x.dtype)
        yield x, y
