"""What `plait list`, `show` and `report` print; reads run folders, never their ledgers' locks. Knows no method."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..errors import RunFolderError
from .events import read_events
from .runfolder import RunFolder, write_text

if TYPE_CHECKING:
    from .recipes.result import MethodResult


def list_runs(folder: Path, *, as_json: bool) -> None:
    """Print a line a run, the newest last; a folder that cannot be read says so in its line, before the others."""
    rows = [_row(file.parent) for file in sorted(folder.glob("*/run.json"))]
    rows.sort(key=lambda row: row["made"])
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    table = Table("folder", "method", "status", "made", box=None)
    for row in rows:
        table.add_row(*map(escape, (row["folder"], row["method"], row.get("problem", row["status"]), row["made"])))
    Console().print(table if rows else Text(f"no runs in {folder}"))


def _row(folder: Path) -> dict[str, Any]:
    try:
        run = RunFolder.open(folder)
        row = {**run.info, "status": status(run), "folder": str(folder)}
        return {**row, "method": str(row["method"]), "made": str(row["made"])}
    except RunFolderError as error:
        return _broken(folder, error.problem)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return _broken(folder, f"a file of it cannot be read ({type(error).__name__})")


def _broken(folder: Path, problem: str) -> dict[str, Any]:
    return {"folder": str(folder), "method": "", "status": "BROKEN", "made": "", "problem": f"broken: {problem}"}


def status(run: RunFolder) -> str:
    """Return SUCCEEDED, STOPPED, RUNNING or PENDING; a run that died looks RUNNING until it is resumed."""
    if (run.path / "result.json").exists():
        return str(run.result()["status"])
    return "RUNNING" if (run.path / "events.jsonl").exists() else "PENDING"


def show_run(folder: Path, *, follow: bool, as_json: bool) -> None:
    """Print the figures of a run that ended, or its last progress; with `follow`, wait for its end."""
    run = RunFolder.open(folder)
    while follow and not (run.path / "result.json").exists():
        last = _last(run)
        typer.echo(json.dumps(last) if as_json else _progress_line(last), err=not as_json)
        time.sleep(2.0)
    if (run.path / "result.json").exists():
        result = result_of(run)
        if as_json:
            typer.echo(json.dumps({"status": result.status, "summary": result.summary, "timing": result.timing}))
        else:
            result.show(Console())
        return
    last = _last(run)
    typer.echo(json.dumps(last) if as_json else _progress_line(last))


def write_report(folder: Path) -> Path:
    """Write report.html again from result.json and timing.json; return where it is."""
    run = RunFolder.open(folder)
    write_text(run.path / "report.html", result_of(run).page())
    return run.path / "report.html"


def result_of(run: RunFolder) -> "MethodResult":
    """Return the result of a finished run, of whatever method.

    Raises:
        RunFolderError: there is none, or no method here can read it.
    """
    from .commands_run import RECIPES, recipe

    method = run.info.get("method")
    if method not in RECIPES:
        raise RunFolderError(str(run.path), f"holds a run of {method!r}, which is no method here")
    result: MethodResult = recipe(method).result_type.load(run.path)
    return result


def _last(run: RunFolder) -> dict[str, Any]:
    events = read_events(run.path / "events.jsonl")
    progress = [event for event in events if event["kind"] in ("progress", "phase")]
    if not progress:
        raise RunFolderError(str(run.path), "the run has not begun")
    return progress[-1]


def _progress_line(event: dict[str, Any]) -> str:
    if event["kind"] == "phase":
        return f"{event['phase']}: 0" + ("" if event["total"] is None else f"/{event['total']}")
    of = "" if event["total"] is None else f"/{event['total']}"
    return f"{event['told']}{of} told, {event['failed']} failed, {event['seconds']:.0f} s"
