"""Options that several commands have. Imports no command, so that `plait --help` stays instant."""

from pathlib import Path
from typing import Annotated, Any

import typer

Seed = Annotated[int | None, typer.Option("--seed", help="Every random draw follows from it.")]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; an existing run of the same spec is continued.")]
Address = Annotated[str | None, typer.Option("--address", help="An existing Ray cluster; RAY_ADDRESS counts too.")]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on stdout and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what the run would ask for, and run nothing.")]
PartialOk = Annotated[bool, typer.Option("--partial-ok", help="Exit 0, not 1 or 3, where there is a valid result.")]
Seconds = Annotated[float | None, typer.Option("--budget-seconds", help="Seconds of wall time at most.")]


def only_given(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the flags that were given."""
    return {name: value for name, value in flags.items() if value is not None}
