"""Teams as files, YAML or JSON by the file's ending. Reads and writes; must not know what teams are for."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import yaml

from .errors import DataError, SpecError, StoreError
from .records import JSON
from .teams import TeamSpec
from .user_files import Unreadable, file_text, json_value, yaml_value


def load_team(path: str | Path) -> TeamSpec:
    """Return the team in a file.

    Raises:
        SpecError: the file cannot be read, is neither YAML nor JSON, or holds no team that can run; the place is named.
    """
    path = Path(path)
    read = _reader(path)
    try:
        values = read(file_text(path, str(path), "a readable team file, a YAML or JSON file as its name says"))
    except DataError as error:
        raise SpecError(error.where, error.got, error.expected) from error
    except Unreadable as error:
        raise SpecError(str(path), str(error), "a YAML or JSON file, as its name says") from error
    return TeamSpec.parse(values, str(path))


def save_team(team: TeamSpec, path: str | Path) -> None:
    """Write a team to a file, whole or not at all; what is at its default is left out.

    Raises:
        SpecError: the file's name ends in none of .yaml, .yml and .json.
        StoreError: the file cannot be written.
    """
    path = Path(path)
    _reader(path)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text_of(team, path.suffix), encoding="utf-8", newline="\n")
        os.replace(part, path)
    except OSError as error:
        raise StoreError(str(path), f"cannot be written ({error.strerror or type(error).__name__})") from error


def text_of(team: TeamSpec, suffix: str = ".yaml") -> str:
    """Return the text of a team's file."""
    values = team.model_dump(mode="json", exclude_defaults=True)
    if suffix == ".json":
        return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


_BREAKS = {*"\r\x85\u2028\u2029"}
"""What YAML takes for ends of lines, beside the usual one."""


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, where YAML can."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Return a block of lines for a text of several lines."""
        style = "|" if "\n" in text else None
        if _BREAKS & {*text}:
            style = '"'  # PyYAML escapes them here; written as they are, they come back as other line breaks
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def _reader(path: Path) -> Callable[[str], JSON]:
    if path.suffix == ".json":
        return json_value
    if path.suffix in (".yaml", ".yml"):
        return yaml_value
    raise SpecError("team file", str(path), "a name that ends in .yaml, .yml or .json")
