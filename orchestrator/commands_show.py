"""What `plait list`, `show` and `report` print; reads run folders, never their ledgers' locks. Knows no method."""

import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..errors import RunFolderError, SpecError
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
            typer.echo(json.dumps(row, allow_nan=False))
        return
    table = Table("folder", "method", "status", "made", box=None)
    for row in rows:
        table.add_row(*map(escape, (row["folder"], row["method"], row.get("problem", row["status"]), row["made"])))
    Console().print(table if rows else Text(f"no runs in {folder}"))
    for row in rows:
        if row["status"] in (KILLED, "STOPPED", "RUNNING"):
            typer.echo(_advice(row["status"], row["next"]))
    if any(row["status"] == "SUCCEEDED" for row in rows):
        typer.echo("plait show FOLDER prints a run's figures, plait report FOLDER writes its page again")


def _row(folder: Path) -> dict[str, Any]:
    try:
        run = RunFolder.open(folder)
        state = status(run)
        row = {**run.info, "status": state, "folder": str(folder), "next": next_command(state, folder)}
        return {**row, "method": str(row["method"]), "made": str(row["made"])}
    except RunFolderError as error:
        return _broken(folder, error.problem)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return _broken(folder, f"a file of it cannot be read ({type(error).__name__})")


def _broken(folder: Path, problem: str) -> dict[str, Any]:
    row = {"folder": str(folder), "method": "", "status": "BROKEN", "made": "", "next": ""}
    return {**row, "problem": f"broken: {problem}"}


KILLED = "KILLED"
"""The status of a run that no process works on and that has no result: it was killed, or ended by an error."""


def status(run: RunFolder) -> str:
    """Return SUCCEEDED, STOPPED, RUNNING, KILLED or PENDING."""
    ended = str(run.result()["status"]) if (run.path / "result.json").exists() else ""
    if ended == "SUCCEEDED":
        return ended
    if run.driven:
        return "RUNNING"
    if not ended and not (run.path / "events.jsonl").exists():
        return KILLED if (run.path / "spec.json").exists() else "PENDING"
    return ended or KILLED


def next_command(state: str, folder: Path) -> str:
    """Return the command that leads on from a run's state; "" where there is none."""
    commands = {KILLED: "resume", "STOPPED": "resume", "RUNNING": "show --follow", "SUCCEEDED": "show"}
    command = commands.get(state)
    return f"plait {command} {shlex.quote(str(folder))}" if command else ""


def _advice(state: str, command: str) -> str:
    words = {KILLED: "killed, resume with:", "STOPPED": "stopped, resume with:", "RUNNING": "running, watch it with:"}
    return f"{words[state]} {command}"


def show_run(folder: Path, *, follow: bool, as_json: bool) -> None:
    """Print the figures of a run that ended, or its last progress; with `follow`, wait for its end."""
    run = RunFolder.open(folder)
    while follow and not (run.path / "result.json").exists() and status(run) != KILLED:
        last = _last(run)
        typer.echo(json.dumps(last) if as_json else _progress_line(last), err=not as_json)
        time.sleep(2.0)
    if (run.path / "result.json").exists():
        result = result_of(run)
        if as_json:
            row = {"status": result.status, "summary": result.summary, "timing": result.timing}
            typer.echo(json.dumps(row, allow_nan=False))
        else:
            result.show(Console())
        return
    state = status(run)
    command = next_command(state, folder)
    try:
        last = _last(run)
    except RunFolderError as error:
        if state == KILLED:
            raise RunFolderError(error.folder, f"it was killed before it began, resume with: {command}") from error
        raise
    if as_json:
        typer.echo(json.dumps({**last, "status": state, "next": command}, allow_nan=False))
    else:
        typer.echo(_progress_line(last))
        if state in (KILLED, "RUNNING"):
            typer.echo(_advice(state, command))


def show_question(folder: Path, question: str, *, as_json: bool) -> None:
    """Print what a finished run has on one question: its paths, each with what it answers.

    Raises:
        SpecError: the run's method has no questions, or no question of this id.
    """
    result = result_of(RunFolder.open(folder))
    about = getattr(result, "question", None)
    if about is None:
        raise SpecError("--question", question, f"a run with a path a question (cola); this is {result.data['method']}")
    paths: dict[str, Any] = about(question)
    if as_json:
        typer.echo(json.dumps(paths, allow_nan=False))
        return
    typer.echo(f"{paths['id']}: {paths['question']}")
    for index, choice in enumerate(paths["choices"]):
        typer.echo(f"  {index} {choice}{'  (right)' if index == paths['answer'] else ''}")
    for name, path in paths["paths"].items():
        typer.echo(f"{name}: {_path_line(path)}")


def _path_line(path: dict[str, Any] | None) -> str:
    if path is None:
        return "none"
    if path["prediction"] is None:
        return f"{path['path']} ({path['layers']} layers): {path['failure']}"
    word = "right" if path["right"] else "wrong"
    return f"{path['path']} ({path['layers']} layers) answers {path['prediction']}, {word}"


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
