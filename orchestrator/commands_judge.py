"""`plait judge FILE` and `plait judge audit FOLDER`: networks of judges from the command line."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ..errors import SpecError
from .options import Address, Json, Out, PartialOk, Quiet, Seed, only_given

if TYPE_CHECKING:
    from .commands_run import Stoppable


class _FileOrCommand(TyperGroup):
    """Takes what begins with no command of the group for the file to judge, and its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` before arguments that name no command."""
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_FileOrCommand, no_args_is_help=True)

Model = Annotated[
    list[str] | None,
    typer.Option(
        "--model", help="Judge: a model source, openai:NAME@https://host/v1, or replay:FILE; several: a panel."
    ),
]
Network = Annotated[str | None, typer.Option("--network", help="paper, released, wide, adaptive, single or faireval.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Judge the first so many pairs.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any spec field: shape.depth=1, run.actors=1.")]


@app.command("run")
def run_file(
    file: Annotated[str, typer.Argument(help="JSON lines of id, query, response1, response2, and human where known.")],
    model: Model = None,
    network: Network = None,
    roles: Annotated[str | None, typer.Option(help="generated, standard, or angles separated by commas.")] = None,
    labels: Annotated[Path | None, typer.Option(help="JSON lines of id and human.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Folder of prompt files.")] = None,
    prices: Annotated[Path | None, typer.Option(help="Price table, YAML or JSON.")] = None,
    limit: Limit = None,
    seed: Seed = None,
    actors: Annotated[int | None, typer.Option(help="Hosts of each local model.")] = None,
    budget_calls: Annotated[int | None, typer.Option(help="Calls to pay for at most.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="Tokens in and out at most.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="US dollars at most.")] = None,
    budget_seconds: Annotated[float | None, typer.Option(help="Seconds of wall time at most.")] = None,
    max_failures: Annotated[float | None, typer.Option(help="Share of calls that may fail before exit code 1.")] = None,
    settings: Set = None,
    out: Out = None,
    address: Address = None,
    json: Json = False,
    quiet: Quiet = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what the run would ask for, and run nothing.")
    ] = False,
    partial_ok: PartialOk = False,
) -> None:
    """Judge each pair of answers in FILE by a network of judges (WideDeep, arXiv 2308.01862); `run` may be left out."""
    from .commands_run import Options, run_spec
    from .spec import assignments, merged

    run = {
        "actors": actors, "budget_calls": budget_calls, "budget_tokens": budget_tokens, "budget_usd": budget_usd,
        "budget_seconds": budget_seconds, "max_failures": max_failures,
    }  # fmt: skip
    values: dict[str, Any] = {
        "method": "judge", "data": file, "model": model or None, "network": network, "shape": shape_of(roles),
        "labels": labels and str(labels), "prompts": prompts and str(prompts), "prices": prices and str(prices),
        "limit": limit, "seed": seed, "run": only_given(run),
    }  # fmt: skip
    values = merged(only_given(values), assignments(settings or []))
    run_spec(values, Options(out, address, json, quiet, dry_run, partial_ok))


@app.command()
def audit(
    folder: Annotated[Path, typer.Argument(help="Folder of public sets of labelled pairs.")],
    model: Model = None,
    network: Network = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Pairs a set at most, drawn by seed.")] = None,
    seed: Seed = None,
    out: Annotated[Path, typer.Option(help="Folder of the run folders, one a set.")] = Path("runs/audit"),
    settings: Set = None,
    address: Address = None,
    json: Json = False,
    quiet: Quiet = False,
    partial_ok: PartialOk = False,
) -> None:
    """Judge the public sets in FOLDER; say where the judge does no better than "the longer answer wins"."""
    from .commands_run import exit_code, signals
    from .recipes.judge_audit import run_audit
    from .recipes.judge_spec import JudgeSpec
    from .spec import assignments, merged

    given = only_given({"model": model or None, "network": network, "seed": seed})
    values = merged(given, assignments(settings or []))
    current = _Current()
    with signals(current) as caught:
        results = run_audit(
            folder, values, out, limit=limit, address=address, as_json=json, quiet=quiet, begun=current.begin
        )
    allowed = JudgeSpec(**values).run.max_failures
    codes = [exit_code(result, allowed) for result in results.values()]
    if caught:
        raise typer.Exit(128 + caught[0])
    raise typer.Exit(0 if partial_ok else 1 if 1 in codes else max(codes))  # failures first, as where one run has both


class _Current:
    """The set being judged, which a signal stops; one that comes before the first set stops that."""

    def __init__(self) -> None:
        self._run: Stoppable | None = None
        self._reason = ""

    def begin(self, run: "Stoppable") -> None:
        """Go on to a set."""
        self._run = run
        if self._reason:
            run.request_stop(self._reason)

    def request_stop(self, reason: str) -> None:
        """Stop it."""
        self._reason = reason
        if self._run is not None:
            self._run.request_stop(reason)


@app.command()
def angles(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run with generated roles.")],
    out: Annotated[Path, typer.Option(help="Prompts folder to write families.yaml into.")],
    most: Annotated[int, typer.Option(help="Angles at most.")] = 16,
    json: Json = False,
) -> None:
    """Keep the angles that RUN's model named most often; use them with --prompts OUT --roles standard."""
    import json as codec

    from .recipes.judge_angles import write_cache

    if most < 1:
        raise SpecError("--most", most, "1 or more")
    found = write_cache(run, out, most)
    if json:
        typer.echo(codec.dumps({"file": str(out / "families.yaml"), "angles": dict(found)}))
        return
    for name, count in found:
        typer.echo(f"{count:5} {name}")
    typer.echo(f"written: {out / 'families.yaml'}")


def shape_of(roles: str | None) -> dict[str, Any]:
    """Return the network fields that `--roles` stands for.

    Raises:
        SpecError: it is empty, or a name where angles are meant.
    """
    if roles is None:
        return {}
    if roles in {"generated", "standard"}:
        return {"roles": roles, "angles": ()}
    angles = tuple(angle.strip() for angle in roles.split(",") if angle.strip())
    if not angles:
        raise SpecError("--roles", roles, "generated, standard, or angles separated by commas")
    return {"roles": "given", "angles": angles}
