"""What `plait run`, `cola`, `demo` and `resume` share: signals, progress, the last lines, the exit code."""

import contextlib
import gc
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import typer
from pydantic import BaseModel

from ..errors import PlaitError, SpecError, nearest
from ..records import JSON
from .events import Event
from .progress import Progress
from .runfolder import RunFolder

if TYPE_CHECKING:
    from .recipes.result import MethodResult

RECIPES = {
    "cola": "plait.orchestrator.recipes.cola:CoLa",
    "judge": "plait.orchestrator.recipes.judge:Judge",
    "compress": "plait.orchestrator.recipes.compress:Compress",
    "compress-decoder": "plait.orchestrator.recipes.compress_decoder:CompressDecoder",
    "team": "plait.orchestrator.recipes.team:TeamTrainer",
    "team-headroom": "plait.orchestrator.recipes.team_headroom:TeamHeadroom",
    "team-run": "plait.orchestrator.recipes.team_answers:TeamAnswers",
}
"""Methods by name; a new method is one line here."""


class Recipe(Protocol):
    """A method's run, made from a spec."""

    spec_type: ClassVar[type[BaseModel]]
    """What its specs are."""
    result_type: ClassVar[type["MethodResult"]]
    """What its results are."""

    spec: Any
    """Its `run.max_failures` is the share of evaluations that may fail."""

    def subscribe(self, subscriber: Callable[[Event], None]) -> "Recipe":
        """Hand every event to `subscriber`."""
        ...

    def plan(self) -> dict[str, JSON]:
        """Return what the run would ask for at most."""
        ...

    def request_stop(self, reason: str) -> None:
        """Let the run end soon with a valid partial result."""
        ...

    def run(self, out: Path | None, *, address: str | None) -> "MethodResult":
        """Run, or continue."""
        ...


@dataclass(frozen=True)
class Options:
    """Flags that every run has."""

    out: Path | None = None
    address: str | None = None
    json: bool = False
    quiet: bool = False
    dry_run: bool = False
    partial_ok: bool = False


def recipe(method: object, where: str = "spec") -> Any:
    """Return the class of `method`.

    Raises:
        SpecError: there is no such method; the error names the nearest.
    """
    if method not in RECIPES:
        raise SpecError(f"{where}.method", method, "a known method: " + nearest(str(method), list(RECIPES)))
    module, _, name = RECIPES[str(method)].partition(":")
    return getattr(import_module(module), name)


def spec_schema(method: str) -> dict[str, JSON]:
    """Return the JSON schema of a method's spec.

    Raises:
        SpecError: there is no such method.
    """
    schema: dict[str, JSON] = recipe(method, "schema").spec_type.model_json_schema()
    return schema


def run_spec(values: dict[str, Any], options: Options, where: str = "spec") -> None:
    """Run the spec's method; ends the process with the run's exit code."""
    made = recipe(values.get("method"), where).from_spec(values)
    if options.dry_run:
        plan = made.plan()
        typer.echo(json.dumps(plan, allow_nan=False) if options.json else "\n".join(_plan_lines(plan)))
        return
    _carry_out(made, options)


def _plan_lines(plan: Mapping[str, JSON]) -> Iterator[str]:
    """Yield a plan's lines, a name and its value each; lists of texts line by line."""
    for name, value in plan.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {part}" for key, part in value.items())
        if isinstance(value, list):
            yield from (f"{name.removesuffix('s')}: {line}" for line in value)
        else:
            yield f"{name:12} {value}"


def resume_run(folder: Path, changes: dict[str, Any], options: Options) -> None:
    """Continue the run in `folder`."""
    method = RunFolder.open(folder).info["method"]
    _carry_out(recipe(method, str(folder)).resume(folder, changes), options)


def _carry_out(made: Recipe, options: Options) -> None:
    if options.json:
        typer.echo(json.dumps({"event": "launch"}))
        made.subscribe(lambda event: typer.echo(event.line()))
    with contextlib.ExitStack() as stack:
        if not options.json and not options.quiet:
            made.subscribe(stack.enter_context(Progress()))
        caught = stack.enter_context(signals(made))
        # What is loaded by now stays: a full collection would pass over all of it, 0.15 s in which no call moves.
        gc.collect()
        gc.freeze()
        try:
            result = made.run(options.out, address=options.address)
        except PlaitError as error:
            if options.json:  # whoever reads lines learns that there will be no more
                end = {"event": "done", "status": "FAILED", "error": str(error), "exit_code": error.exit_code}
                typer.echo(json.dumps(end))
            raise
    if not options.json:
        from rich.console import Console

        result.show(Console())
    ended = exit_code(result, made.spec.run.max_failures)
    code = 128 + caught[0] if caught else 0 if options.partial_ok else ended
    if options.json:
        end = {"event": "done", "status": result.status, "folder": str(result.folder)}
        share = failed_share(result.timing["counts"])
        typer.echo(json.dumps({**end, "failed_share": round(share, 6), "exit_code": code}, allow_nan=False))
    raise typer.Exit(code)


def exit_code(result: "MethodResult", allowed: float) -> int:
    """Return 1 where more evaluations failed than allowed, and say so; 3 where the run was stopped; else 0."""
    share = failed_share(result.timing["counts"])
    if share > allowed:
        line = f"{100 * share:.1f} % of the evaluations failed, above --max-failures {allowed:g}; see events.jsonl"
        typer.echo(f"plait: {line} in {result.folder}", err=True)
        return 1
    return 3 if result.status == "STOPPED" else 0


def failed_share(counts: Mapping[str, int]) -> float:
    """Return which share of the evaluations that a run needed gave no answer.

    What the ledger held counts among them, so that a resumed run, which repeats only what failed, has the same
    share as one that was never interrupted.
    """
    needed = counts["paid"] + counts["found"] + counts["failed"]
    return counts["failed"] / needed if needed else 0.0


class Stoppable(Protocol):
    """What can be asked to end soon."""

    def request_stop(self, reason: str) -> None:
        """End with what is there."""
        ...


@contextlib.contextmanager
def signals(made: Stoppable) -> Iterator[list[int]]:
    """Drain on the first SIGINT or SIGTERM, end at once on the second; yields the signals that came."""
    caught: list[int] = []

    def handle(number: int, _: object) -> None:
        if caught:
            os._exit(128 + number)  # at once means at once: the ledger holds what was recorded
        caught.append(number)
        typer.echo("plait: stopping; what is in flight is recorded (again to end at once)", err=True)
        made.request_stop(f"signal: {signal.Signals(number).name}")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
