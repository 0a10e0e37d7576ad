"""`plait team train`, `run`, `show` and `headroom`: teams of agents from the command line."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Address, DryRun, Json, Out, PartialOk, Quiet, Seconds, Seed, only_given

app = typer.Typer(no_args_is_help=True)

SpecFile = Annotated[Path, typer.Argument(help="YAML file of a training run: method team, and the fields of its spec.")]
TeamFile = Annotated[Path, typer.Argument(help="Team file (.yaml or .json), or the folder of a training run.")]
Model = Annotated[
    str | None, typer.Option("--model", help="Agents: a model source, openai:NAME@https://host/v1, or replay:FILE.")
]
Judge = Annotated[str | None, typer.Option("--judge", help="Model that scores free text; default: the agents'.")]
Data = Annotated[str | None, typer.Option("--data", help="Items: plait:NAME or a JSON-lines file; FILE#TASK: a part.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Use so many items, drawn by seed.")]
Actors = Annotated[int | None, typer.Option("--actors", help="Hosts of each local model, one core each.")]
Calls = Annotated[int | None, typer.Option("--budget-calls", help="Calls to pay for at most.")]
Tokens = Annotated[int | None, typer.Option("--budget-tokens", help="Tokens in and out at most.")]
Usd = Annotated[float | None, typer.Option("--budget-usd", help="US dollars at most; needs --set prices=FILE.")]
MaxFailures = Annotated[
    float | None, typer.Option("--max-failures", help="Share of calls that may fail before exit code 1.")
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any spec field: validation=100, run.actors=1.")]


@app.command()
def train(
    spec: SpecFile,
    model: Model = None,
    optimiser: Annotated[str | None, typer.Option(help="Model that criticises and repairs.")] = None,
    judge: Judge = None,
    data: Data = None,
    profile: Annotated[str | None, typer.Option(help="plait, ann-paper, textgrad, gepa or random.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the search at most.")] = None,
    controls: Annotated[
        str | None, typer.Option(help="single,best-of-n,static,oracle,random or other profiles; commas; none.")
    ] = None,
    limit: Limit = None,
    seed: Seed = None,
    actors: Actors = None,
    budget_calls: Calls = None,
    budget_tokens: Tokens = None,
    budget_usd: Usd = None,
    budget_seconds: Seconds = None,
    max_failures: MaxFailures = None,
    settings: Set = None,
    out: Out = None,
    address: Address = None,
    json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    partial_ok: PartialOk = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Train although plain prompts show nothing to learn.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Allow a second confirm pass; the report is stamped with it.")
    ] = False,
) -> None:
    """Train the team of SPEC by textual backpropagation (ANN, arXiv 2506.09046); say whether it is confirmed."""
    from .commands_run import Options, run_spec

    run = _run(actors, budget_calls, budget_tokens, budget_usd, budget_seconds, max_failures)
    given: dict[str, Any] = {
        "model": model, "optimiser": optimiser, "judge": judge, "data": data, "profile": profile, "steps": steps,
        "controls": None if controls is None else _names(controls), "limit": limit, "seed": seed,
        "again": again or None, "run": {**run, **({"anyway": True} if anyway else {})},
    }  # fmt: skip
    values = _values(spec, given, settings)
    run_spec({"method": "team", **values}, Options(out, address, json, quiet, dry_run, partial_ok), where=str(spec))


@app.command()
def headroom(
    spec: SpecFile,
    model: Model = None,
    data: Data = None,
    items: Annotated[int | None, typer.Option(help="Training items used at most.")] = None,
    limit: Limit = None,
    seed: Seed = None,
    actors: Actors = None,
    budget_calls: Calls = None,
    budget_tokens: Tokens = None,
    budget_seconds: Seconds = None,
    max_failures: MaxFailures = None,
    settings: Set = None,
    out: Out = None,
    address: Address = None,
    json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    partial_ok: PartialOk = False,
) -> None:
    """Try a dozen plain prompts on SPEC's training items; say plainly where there is nothing to learn."""
    from .commands_run import Options, run_spec
    from .recipes.team_spec import TeamHeadroomSpec

    run = _run(actors, budget_calls, budget_tokens, None, budget_seconds, max_failures)
    given = {"model": model, "data": data, "items": items, "limit": limit, "seed": seed, "run": run}
    values = _training(_values(spec, given, settings))
    known = {name: value for name, value in values.items() if name in TeamHeadroomSpec.model_fields}
    values = {**known, "method": "team-headroom"}
    run_spec(values, Options(out, address, json, quiet, dry_run, partial_ok), where=str(spec))


@app.command("run")
def run_team(
    team: TeamFile,
    data: Data = None,
    model: Model = None,
    judge: Judge = None,
    limit: Limit = None,
    seed: Seed = None,
    actors: Actors = None,
    budget_calls: Calls = None,
    budget_tokens: Tokens = None,
    budget_usd: Usd = None,
    budget_seconds: Seconds = None,
    max_failures: MaxFailures = None,
    settings: Set = None,
    out: Out = None,
    address: Address = None,
    json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    partial_ok: PartialOk = False,
) -> None:
    """Let TEAM answer items: accuracy with its interval, failures, calls, tokens; answers as JSON lines."""
    from .commands_run import Options, run_spec
    from .spec import assignments, merged

    run = _run(actors, budget_calls, budget_tokens, budget_usd, budget_seconds, max_failures)
    given = {"data": data, "model": model, "judge": judge, "limit": limit, "seed": seed}
    values = {"method": "team-run", "team": str(_file(team)), **only_given(given), "run": run}
    values = merged(values, assignments(settings or []))
    run_spec(values, Options(out, address, json, quiet, dry_run, partial_ok))


@app.command()
def show(
    team: TeamFile,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print it as a Mermaid flow chart.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a picture: .svg, .png or .pdf.")] = None,
    diff: Annotated[Path | None, typer.Option(help="Print what sets this other team apart.")] = None,
    json: Json = False,
) -> None:
    """Show TEAM: its layers, blocks and agents with what they are told."""
    from .team_showing import show_team

    show_team(_file(team), mermaid=mermaid, plot=plot, other=None if diff is None else _file(diff), as_json=json)


def _file(team: Path) -> Path:
    """Return the team file that is meant: a run folder's answer where a folder is named."""
    return team / "team.yaml" if team.is_dir() else team


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    return [] if names == ["none"] else names


def _values(spec: Path, given: dict[str, Any], settings: list[str] | None) -> dict[str, Any]:
    """Return a spec file's mapping, with flags and then `--set` laid upon it."""
    from .spec import assignments, merged, read_spec

    return merged(merged(read_spec(spec), only_given(given)), assignments(settings or []))


def _training(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values, once they are those of a training run.

    Raises:
        SpecError: they are not; the first that cannot run is named.
    """
    from .recipes.team_spec import TeamTrainSpec
    from .spec import validated

    own = {"items"}
    validated(TeamTrainSpec, {name: value for name, value in values.items() if name not in own}, "team")
    return values


def _run(
    actors: int | None, calls: int | None, tokens: int | None, usd: float | None, seconds: float | None,
    max_failures: float | None,
) -> dict[str, Any]:  # fmt: skip
    return only_given(
        {
            "actors": actors, "budget_calls": calls, "budget_tokens": tokens, "budget_usd": usd,
            "budget_seconds": seconds, "max_failures": max_failures,
        }
    )  # fmt: skip
