"""JSON and YAML as users write them, read strictly: what is only half understood is refused in one line.

JSON's own readers take `NaN`, keep the last of two equal keys and pass halves of surrogate pairs on;
each of these has once become a silent wrong value. Every loader of a user's file reads through here.
"""

import json
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from .errors import DataError

SHOWN = 60
"""Characters of a line that an error shows."""
_MAGIC = {
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"PAR1": "a Parquet file: write it as JSON lines first",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"BZh": "a bzip2 archive: unpack it first",
    b"\x28\xb5\x2f\xfd": "a zstd archive: unpack it first",
    b"\xff\xfe": "text in UTF-16: write it as UTF-8",
    b"\xfe\xff": "text in UTF-16: write it as UTF-8",
}


class Unreadable(ValueError):
    """Text that is not strict JSON or YAML; its text says why, in a few words."""


def file_text(path: Path, source: str, expected: str = "a readable UTF-8 file of JSON lines") -> str:
    """Return the text of a file, without a byte order mark; `source` is what errors call it.

    Raises:
        DataError: it is missing, a folder, an archive or not UTF-8; the error says which, and the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(source, error.strerror or type(error).__name__, expected) from error
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            raise DataError(source, what, expected)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{source}:{line}", f"byte {data[error.start]:#04x}", "text in UTF-8") from error


def text_lines(path: Path, source: str) -> list[str]:
    """Return the lines of a file; `source` is what errors call it.

    Raises:
        DataError: as `file_text`.
    """
    return file_text(path, source).split("\n")  # not splitlines: JSON strings may hold U+2028


def json_rows(path: Path, source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of each line that is not blank.

    Raises:
        DataError: the file cannot be read, or a line is no strict JSON object; the error names file and line.
    """
    for number, line in enumerate(text_lines(path, source), start=1):
        if line.strip():
            yield number, json_object(line, f"{source}:{number}")


def json_object(line: str, where: str) -> dict[str, Any]:
    """Return the object that a line holds.

    Raises:
        DataError: it holds none, or one that `json_value` refuses.
    """
    try:
        value = json_value(line)
    except Unreadable as error:
        hint = ": this looks like a JSON array or an object over several lines" if line.strip() in ("[", "{") else ""
        expected = f"a JSON object a line ({error}){hint}"
        raise DataError(where, line[:SHOWN], expected) from error
    if isinstance(value, list):
        raise DataError(where, line[:SHOWN], "a JSON object a line; this is a JSON array")
    if not isinstance(value, dict):
        raise DataError(where, line[:SHOWN], "a JSON object")
    return value


def json_value(text: str) -> Any:
    """Return the value of strict JSON (RFC 8259, keys once, text that UTF-8 can hold, finite numbers).

    Raises:
        Unreadable: it is not.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite_float, object_pairs_hook=_object)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise Unreadable(f"{error.msg} at column {error.colno}") from error
    except UnicodeEncodeError as error:
        raise Unreadable("half of a surrogate pair") from error
    except RecursionError as error:
        raise Unreadable("brackets too deep to be read") from error
    except Unreadable:
        raise
    except ValueError as error:
        raise Unreadable("a number too long to be read") from error
    return value


def yaml_value(text: str) -> Any:
    """Return the value of YAML, each key once, its numbers finite.

    Raises:
        Unreadable: it is not.
    """
    try:
        value = yaml.load(text, _Strict)
        refuse_not_finite(value)
    except yaml.YAMLError as error:
        raise Unreadable(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise Unreadable("brackets too deep to be read") from error
    except DataError as error:
        raise Unreadable(f"{error.where} is {error.got}, not a finite number") from error
    return value


def refuse_not_finite(value: object, where: str = "value") -> None:
    """Refuse NaN and infinity anywhere in plain values: they stand for what is missing, and nothing reads them so.

    Raises:
        DataError: one is there; the error names the place.
    """
    if isinstance(value, Mapping):
        for key, part in value.items():
            refuse_not_finite(part, f"{where}: {key}" if where != "value" else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for at, part in enumerate(value):
            refuse_not_finite(part, f"{where}.{at}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise DataError(where, "NaN" if math.isnan(value) else "infinity", "a value; leave out what is missing")


def _no_constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is no JSON: leave out what is missing, or write null")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Unreadable(f"{text[:SHOWN]} is beyond what a number can hold")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise Unreadable(f"the key {key[:SHOWN]!r} twice")
        values[key] = value
    return values


class _Strict(yaml.SafeLoader):
    """Refuses a key that comes twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping of a node; keys that `<<` brings in may be overridden, as YAML means it."""
        seen: set[str] = set()
        for key, _ in node.value:
            name = getattr(key, "value", None)
            if key.tag == "tag:yaml.org,2002:merge" or not isinstance(name, str):
                continue
            if name in seen:
                place = f"line {key.start_mark.line + 1}"
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} twice, {place}")
            seen.add(name)
        return super().construct_mapping(node, deep)


_construct: Callable[..., Any] = yaml.SafeLoader.construct_yaml_map
_Strict.add_constructor("tag:yaml.org,2002:map", _construct)
