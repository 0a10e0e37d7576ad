"""What `plait list`, `show` and `report` print; reads run folders, never their ledgers' locks."""

import json
import time
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import RunFolderError
from .events import read_events
from .runfolder import RunFolder, write_text


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
        table.add_row(escape(row["folder"]), row["method"], escape(row.get("problem", row["status"])), row["made"])
    Console().print(table if rows else f"no runs in {folder}")


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
        from .recipes.cola_result import CoLaResult

        result = CoLaResult.load(folder)
        if as_json:
            typer.echo(json.dumps({"status": result.status, "summary": result.summary, "timing": result.timing}))
        else:
            print_result(result)
        return
    last = _last(run)
    typer.echo(json.dumps(last) if as_json else _progress_line(last))


def write_report(folder: Path) -> Path:
    """Write report.html again from result.json and timing.json; return where it is."""
    from .recipes.cola_result import CoLaResult
    from .report.page import render

    result = CoLaResult.load(folder)
    write_text(result.folder / "report.html", render(result.data, result.timing))
    return result.folder / "report.html"


def print_result(result: Any) -> None:
    """Print a CoLa run's headline table, its statement and where the report is."""
    from .report.page import interval, points

    summary, console = result.summary, Console(width=None)
    table = Table("accuracy of", "share \\[95 % interval]", "uses answers", box=None, pad_edge=False)
    oracle = summary["oracle"]
    table.add_row("the model as it is", interval(summary["identity"][summary["rule"]]), "no")
    if summary["label_free"]:
        free = summary["label_free"]
        chosen = free["rows"][-1]
        table.add_row(
            f"label-free choice ({free['chosen']}, {free['test']} test items)", interval(chosen["accuracy"]), "dev only"
        )
    table.add_row("oracle: best path of the search", interval(oracle["search"]), "yes")
    table.add_row("oracle: best path of random search", interval(oracle["random"]), "yes")
    table.add_row("chance: as many answers as the search", interval(oracle["search_chance"]), "yes")
    table.add_row("chance: as many answers as random search", interval(oracle["random_chance"]), "yes")
    table.add_row("search minus random search, points", points(oracle["search_minus_random"]), "yes")
    console.print(table)
    console.print(f"\n{result.statement}", highlight=False)
    cost = result.timing.get("cost") or {}
    if cost.get("passes"):
        counts = result.timing["counts"]
        console.print(
            f"{counts['paid']} evaluations paid, {counts['found']} from the ledger, {counts['failed']} failed; "
            f"{result.timing['seconds']:.0f} s; prefix reuse {cost['asked_passes'] / cost['passes']:.2f}x",
            highlight=False,
        )
    if result.status != "SUCCEEDED":
        console.print(
            f"stopped ({result.data['stop_reason']}): continue with plait resume {result.folder}", highlight=False
        )
    console.print(f"report: {result.folder / 'report.html'}", highlight=False, soft_wrap=True)


def _last(run: RunFolder) -> dict[str, Any]:
    events = read_events(run.path / "events.jsonl")
    progress = [event for event in events if event["kind"] in ("progress", "phase")]
    if not progress:
        raise RunFolderError(str(run.path), "the run has not begun")
    return progress[-1]


def _progress_line(event: dict[str, Any]) -> str:
    if event["kind"] == "phase":
        return f"{event['phase']}: 0/{event['total']}"
    return f"{event['told']}/{event['total']} told, {event['failed']} failed, {event['seconds']:.0f} s"
