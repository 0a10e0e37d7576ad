"""Specs: one YAML or JSON file, one pydantic model; what is wrong is said in one line. Must not know methods."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import DataError, SpecError, nearest
from ..user_files import Unreadable, file_text, yaml_value

M = TypeVar("M", bound=BaseModel)
_KEPT_BACK = {"headers", "key_variable"}
"""Fields of specs where people write keys by mistake."""


def validated(model: type[M], values: Mapping[str, Any], where: str) -> M:
    """Return `values` as a `model`.

    Raises:
        SpecError: a key is unknown (with the nearest known one) or a value cannot run; the first is named.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([where, *map(str, first["loc"])])
        if first["type"] == "extra_forbidden":
            raise SpecError(place, first["loc"][-1], _nearest(model, first["loc"])) from error
        if _KEPT_BACK.intersection(first["loc"]):  # what is wrong there may be a key: neither shown nor chained
            raise SpecError(place, "a value that is not shown", _expected(first["msg"])) from None
        raise SpecError(place, first["input"], _expected(first["msg"])) from error


def read_spec(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML (or JSON) file.

    Raises:
        SpecError: the file is missing, is not YAML, or holds no mapping.
    """
    try:
        values = yaml_value(file_text(path, str(path), "a readable YAML file"))
    except DataError as error:
        raise SpecError(error.where, error.got, error.expected) from error
    except Unreadable as error:
        raise SpecError(str(path), str(error), "a YAML file, each key once") from error
    if not isinstance(values, dict):
        raise SpecError(str(path), type(values).__name__, "a mapping of spec keys to values")
    return values


def assignments(pairs: list[str]) -> dict[str, Any]:
    """Return `a.b=value` texts (the command line's `--set`) as a nested mapping; values are read as YAML.

    Raises:
        SpecError: a text has no `=`, its value is no YAML, or its key is below one that was given a plain value.

    >>> assignments(["seed=3", "run.actors=2"])
    {'seed': 3, 'run': {'actors': 2}}
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise SpecError("--set", pair, "key=value")
        *parents, last = name.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise SpecError("--set", pair, f"another key: {parent} was given a value of its own")
        try:
            place[last] = yaml_value(text)
        except Unreadable as error:
            raise SpecError("--set", pair, "key=value, the value in YAML") from error
    return values


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid upon it, mapping by mapping."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merged(out[key], value) if both else value
    return out


def as_json(model: BaseModel) -> dict[str, Any]:
    """Return a spec as plain JSON values."""
    plain: dict[str, Any] = json.loads(model.model_dump_json())
    return plain


def _nearest(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    for part in loc[:-1]:
        inner = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return "a known key: " + nearest(str(loc[-1]), list(model.model_fields))


def _expected(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input should be ")
