"""Items that teams answer, from JSON lines, checked before anything runs. Must not know models or teams.

A file holds items in our plain format, or rows of a public set as it is published or by our field names (GSM8K,
MultiArith, AddSub, AQuA, MBPP, HumanEval, BIG-Bench Hard, DABench, Creative Writing).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...agents.teams.items import TaskItem, task_item
from ...errors import DataError, SpecError
from ...records import JSON, digest, generator
from ...search.splits import normalised
from ...user_files import SHOWN, Unreadable, file_text, json_rows, json_value
from .team_sets import mbpp_split, set_item, with_options

SHIPPED = ("code", "numbers", "options", "words", "booleans", "values", "writing")
"""Sets that come with Plait, wherever it is installed, a dozen items each; `plait:code` and so on names one."""
DEMO = "demo"
"""One more that does: 180 sums of small numbers."""
FIELDS = ("question", "kind", "gold", "options", "entry_point", "setup", "visible", "tests", "files")
"""Of the plain format; a row may also carry an `id`, for people: items are known by their content."""

_TABLES = ("dabench_tables", "da-dev-tables")


def load_items(source: str | Path, limit: int | None = None, seed: int = 0) -> list[TaskItem]:
    """Read items, one JSON object a line; blank lines are skipped, and an item that comes twice is kept once.

    A file called `.json` may also be one list of rows, or one object whose `examples` is one.

    Args:
        source: A file, or `plait:NAME` for a set that comes with Plait. `FILE#NAME` keeps the rows whose `task` or
            `split` is NAME: a task of BIG-Bench Hard, a split of MBPP.
        limit: Keep so many, drawn by the seed and left in the file's order; a larger limit keeps these too.
        seed: Of that draw.

    Raises:
        DataError: the file is missing, empty or not UTF-8, a row is no item, or a question comes again with another
            answer; the error names file and line.
        SpecError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise SpecError("limit", limit, "1 or more")
    path, part = _path(str(source))
    table = cache(_reader(path.parent))
    rows: list[tuple[str, Mapping[str, Any]]] = []
    parts: set[str] = set()
    for where, row in _rows(path, str(source)):
        named = {str(row[key]) for key in ("task", "split") if key in row} | {mbpp_split(row)} - {""}
        parts |= named
        if not part or part in named:
            rows.append((where, row))
    found = _items(rows, table)
    if not found:
        expected = f"a task or split among {', '.join(sorted(parts)) or 'none'}" if part else "one or more, one a line"
        raise DataError(str(source), "no item", expected)
    return _drawn(found, limit, seed)


def given_items(rows: Sequence[TaskItem | Mapping[str, Any]]) -> list[TaskItem]:
    """Return items that were handed over: items, or rows as a file would hold them.

    Raises:
        DataError: one is neither, or a question comes twice with different answers; the error counts from 1.
    """
    places = [(f"data: item {number}", row) for number, row in enumerate(rows, start=1)]
    return _items(places, cache(_reader(Path.cwd())))


def _items(rows: Sequence[tuple[str, TaskItem | Mapping[str, Any]]], table: Callable[[str], str]) -> list[TaskItem]:
    """Return the items of rows, each once.

    Raises:
        DataError: a row is no item, or asks what an earlier one asks and answers it differently.
    """
    found: dict[str, TaskItem] = {}
    asked: dict[str, tuple[str, TaskItem]] = {}
    for where, row in rows:
        if not isinstance(row, TaskItem | Mapping):
            raise DataError(where, row, f"an item, or a mapping of {', '.join(FIELDS)}")
        item = row if isinstance(row, TaskItem) else _item(row, where, table)
        first, other = asked.setdefault(f"{item.kind} {normalised(item.question)}", (where, item))
        # Programs and texts have many right answers: theirs are told by tests and judges.
        if item.kind not in ("code", "text") and (other.gold, other.options) != (item.gold, item.options):
            expected = f"one answer to a question: it is asked with the answer {other.gold!r} ({first}) too"
            raise DataError(where, item.gold, expected)
        found.setdefault(item.id, item)
    return list(found.values())


def _rows(path: Path, source: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield where each row stands, and the row: lines of JSON, or in a `.json` file one list of rows."""
    whole = _document(path, source) if path.suffix == ".json" else None
    if isinstance(whole, dict) and isinstance(whole.get("examples"), list):
        yield from ((f"{source}: example {at}", row) for at, row in enumerate(whole["examples"], start=1))
    elif isinstance(whole, list):
        yield from ((f"{source}: row {at}", row) for at, row in enumerate(whole, start=1))
    else:
        yield from ((f"{source}:{number}", row) for number, row in json_rows(path, source))


def _document(path: Path, source: str) -> JSON:
    """Return the JSON value that a file is; None where it is none, such as lines of them.

    Raises:
        DataError: it is a list that is no strict JSON.
    """
    text = file_text(path, source)
    try:
        return json_value(text)
    except Unreadable as error:
        if text.lstrip().startswith("["):
            raise DataError(source, text[:SHOWN], f"a list of JSON objects ({error})") from error
        return None


def items_digest(items: Sequence[TaskItem]) -> str:
    """Return the digest of items in their order: equal digests mean equal data."""
    return digest([item.id for item in items])


def _drawn(items: list[TaskItem], limit: int | None, seed: int) -> list[TaskItem]:
    if limit is None or limit >= len(items):
        return items
    order = list(range(len(items)))
    generator(seed, "team-items", 0).shuffle(order)
    return [items[at] for at in sorted(order[:limit])]


def _path(source: str) -> tuple[Path, str]:
    """Return the file of a source, and the task or split that is asked for."""
    if source.startswith("plait:"):
        name = source.removeprefix("plait:")
        if name not in (*SHIPPED, DEMO):
            raise DataError("data", source, f"a set that comes with Plait: plait:{', plait:'.join((*SHIPPED, DEMO))}")
        return Path(str(files("plait") / "data" / "team" / f"{name}.jsonl")), ""
    whole = Path(source)
    if "#" not in source or whole.is_file():
        return whole, ""
    file, _, part = source.rpartition("#")
    return Path(file), part


def _item(row: Mapping[str, Any], where: str, table: Callable[[str], str]) -> TaskItem:
    try:
        item = _plain(row, table) if "kind" in row else set_item(row, table)
    except DataError:
        raise
    except SpecError as error:
        raise DataError(f"{where}: {error.where}", error.got, error.expected) from error
    if item is None:
        expected = f"an item ({', '.join(FIELDS)}; the first two are needed) or a row of a set that is known"
        raise DataError(where, sorted(row), expected)
    return item


def _plain(row: Mapping[str, Any], table: Callable[[str], str]) -> TaskItem:
    """Return an item of our own format."""
    strange = sorted(set(row) - {*FIELDS, "id"})
    if strange:
        raise SpecError(strange[0], row[strange[0]], f"a field among {', '.join(FIELDS)}")
    values = {name: row[name] for name in FIELDS if name in row}
    question, options = values.pop("question", ""), values.get("options", ())
    if isinstance(question, str) and isinstance(options, list) and all(isinstance(one, str) for one in options):
        question = with_options(question, tuple(options))
    if isinstance(values.get("files"), list):
        values["files"] = [
            {"name": Path(file).name, "text": table(file)} if isinstance(file, str) else file
            for file in values["files"]
        ]
    return task_item(question, values.pop("kind"), values.pop("gold", None), **values)


def _reader(folder: Path) -> Callable[[str], str]:
    """Return what reads a file that a row names: beside the rows, or in the folder of a set's tables."""

    def read(name: str) -> str:
        places = [folder / name, *(folder / tables / name for tables in _TABLES)]
        for place in places:
            if place.is_file():
                try:
                    return place.read_text(encoding="utf-8")
                except (OSError, UnicodeDecodeError) as error:
                    raise SpecError("file", name, f"a readable UTF-8 file: {type(error).__name__}") from error
        raise SpecError("file", name, f"a file in {folder} or its {' or '.join(_TABLES)}")

    return read


__all__ = ["DEMO", "FIELDS", "SHIPPED", "given_items", "items_digest", "load_items"]
