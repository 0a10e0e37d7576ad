"""The command line: parses, calls one function, prints. Results go to stdout, all else to stderr.

Exit codes: 0 done; 1 more evaluations failed than --max-failures allows, the result is written; 2 bad input; 3 budget
reached, the partial result is valid; 4 a dependency (network, cluster, store) is missing; 130 and 143 after SIGINT and
SIGTERM. --partial-ok turns 1 and 3 into 0.

A command imports what it runs, so that `plait --help` stays instant.
"""

import json as codec
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import PlaitError, SpecError
from .commands_judge import app as judge_app
from .commands_models import app as models_app
from .commands_team import app as team_app
from .options import Address, DryRun, Json, Out, PartialOk, Quiet, Seconds, only_given

app = typer.Typer(
    help="Search over networks of layers, weights, agents and judges, as actor graphs on Ray.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_AGENT = {"name": "solver", "output": {"kind": "number"}, "max_tokens": 16}
_ADDER = {
    "layers": [{"name": "answer", "task": "Answer the question.", "blocks": [{"name": "one", "agents": [_AGENT]}]}],
    "answer": {"kind": "number"},
}
"""The plainest team for questions that ask for a number: what training begins with in the demo."""
DEMOS: dict[str, dict[str, Any]] = {
    "cola": {"limit": 32, "simulations": 24, "menu": 4},
    "judge": {"network": "wide", "shape": {"width": 3}},
    "compress": {
        "teacher": "resnet8",
        "data": "plait:digits",
        "target": "params=0.2x",
        "budget": 120,
        "seeds": 2,
        "final_epochs": 30,
    },
    "team": {
        "team": _ADDER,
        "data": "plait:demo",
        "train": 12,
        "validation": 60,
        "confirm": 80,
        "steps": 2,
        "controls": ("single",),
        "edits": ("set_instructions",),
        "optimiser_tokens": 192,
        "run": {"budget_seconds": 240.0},
    },
}
"""What `plait demo METHOD` runs, beside the method's defaults."""

app.add_typer(judge_app, name="judge", help="Judge pairs of answers with a network of judges: FILE, or audit FOLDER.")
app.add_typer(
    team_app, name="team", help="Train, run and show teams of agents: train SPEC, run TEAM, show TEAM, headroom SPEC."
)
app.add_typer(models_app, name="models", help="Fetch, list, describe and remove models.")


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"plait {version('plait')}")
        raise typer.Exit


@app.callback()
def _everywhere(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Say which.")
    ] = False,
) -> None: ...


Set = Annotated[list[str] | None, typer.Option("--set", help="Any spec field: key=value, run.actors=2.")]
Actors = Annotated[int | None, typer.Option("--actors", help="Model hosts, one core each.")]
MaxFailures = Annotated[
    float | None, typer.Option("--max-failures", help="Share of evaluations, 0 to 1, that may fail before exit code 1.")
]
Evaluations = Annotated[int | None, typer.Option("--budget-evaluations", help="Evaluations to pay for at most.")]


@app.command()
def demo(
    method: Annotated[str, typer.Argument(help="cola, judge, compress or team.")] = "cola",
    out: Out = None,
    address: Address = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a method with a real model on what comes with Plait: a few minutes on two cores."""
    from ..errors import nearest
    from .commands_run import Options, run_spec

    if method not in DEMOS:
        raise SpecError("plait demo", method, "a method with a demo: " + nearest(method, list(DEMOS)))
    run_spec({"method": method, **DEMOS[method]}, Options(out, address, json, quiet))


@app.command()
def cola(
    model: Annotated[
        str, typer.Option(help="Alias, hf:org/name@rev, folder, gguf:file, pypi:package==v#file.")
    ] = "smollm2-135m",
    data: Annotated[str, typer.Option(help="JSON lines of id, question, choices, answer.")] = "plait:questions",
    profile: Annotated[str | None, typer.Option(help="plait, cola-paper, polar-code, drllm or repolar.")] = None,
    simulations: Annotated[int | None, typer.Option(help="Paths per item beside the identity.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use the first so many questions.")] = None,
    seed: Annotated[int | None, typer.Option(help="Every random draw follows from it.")] = None,
    actors: Actors = None,
    budget_evaluations: Evaluations = None,
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
    """Search, per question, which layers of a model to run, skip or repeat (CoLa, arXiv 2507.07996)."""
    from .commands_run import Options, run_spec
    from .spec import assignments, merged

    flags = {"model": model, "data": data, "profile": profile, "simulations": simulations, "limit": limit, "seed": seed}
    run = {
        "actors": actors,
        "budget_evaluations": budget_evaluations,
        "budget_seconds": budget_seconds,
        "max_failures": max_failures,
    }
    values: dict[str, Any] = {"method": "cola", **only_given(flags), "run": only_given(run)}
    values = merged(values, assignments(settings or []))
    run_spec(values, Options(out, address, json, quiet, dry_run, partial_ok))


@app.command()
def compress(
    teacher: Annotated[
        str | None,
        typer.Option(
            help="resnet18:width=8, vgg13:width=16, lenet, cnn1d:width=25, ...; FOLDER of an exported network; "
            "module:FILE.py:NAME, a torch.nn.Module; or a language model's source."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="plait:digits, an .npz file, a folder of images (CLASS/IMAGE) or of Hugging Face tables, or "
            "module:FILE.py:NAME; for a language model a file of text."
        ),
    ] = None,
    target: Annotated[str | None, typer.Option(help="params=0.2x, macs=1.5M, bytes=64k or ms=0.8.")] = None,
    normalisation: Annotated[
        str | None,
        typer.Option(help="none, data, or MEAN/STD such as 0.5/0.25: what is done to the examples' numbers."),
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="channels_first, channels_last or no_channels, where the shape leaves it open.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side that square images are averaged down to.")] = None,
    take: Annotated[
        str | None, typer.Option(help="Method whose student is handed back; default: the best on validation of all.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="plait or n2n-paper.")] = None,
    rivals: Annotated[
        str | None,
        typer.Option(help="random,untrained,evolution,uniform,pruning,lottery or the other profile; commas."),
    ] = None,
    budget: Annotated[int | None, typer.Option(help="Student-epochs of each search.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Searches of each kind.")] = None,
    policy: Annotated[str | None, typer.Option(help="Folder of saved policies to start from: RUN/policy.")] = None,
    seed: Annotated[int | None, typer.Option(help="Every random draw follows from it.")] = None,
    actors: Annotated[int | None, typer.Option("--actors", help="Trainers, one core each.")] = None,
    budget_evaluations: Evaluations = None,
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
    """Find a smaller network by policy-gradient search and distillation (N2N Learning, arXiv 1709.06030).

    Of a language model (smollm2-135m, hf:org/name, a folder of weights) blocks are dropped and feed-forward layers
    narrowed.
    """
    from ..models.sources import is_language_model
    from .commands_run import Options, run_spec
    from .spec import assignments, merged

    flags = {
        "teacher": teacher, "data": data, "target": target, "profile": profile, "budget": budget, "seeds": seeds,
        "rivals": None if rivals is None else [name.strip() for name in rivals.split(",") if name.strip()],
        "policy": policy, "seed": seed, "normalisation": normalisation, "layout": layout, "size": size, "take": take,
    }  # fmt: skip
    run = {
        "actors": actors, "budget_evaluations": budget_evaluations, "budget_seconds": budget_seconds,
        "max_failures": max_failures,
    }  # fmt: skip
    method = "compress-decoder" if teacher and is_language_model(teacher) else "compress"
    values: dict[str, Any] = {"method": method, **only_given(flags), "run": only_given(run)}
    values = merged(values, assignments(settings or []))
    run_spec(values, Options(out, address, json, quiet, dry_run, partial_ok))


@app.command()
def run(
    spec: Annotated[Path, typer.Argument(help="YAML file: method, and the fields of its spec.")],
    settings: Set = None,
    max_failures: MaxFailures = None,
    out: Out = None,
    address: Address = None,
    json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    partial_ok: PartialOk = False,
) -> None:
    """Run SPEC; with an --out that holds a run of the same spec, continue that."""
    from .commands_run import Options, run_spec
    from .spec import assignments, merged, read_spec

    values = merged(read_spec(spec), assignments(settings or []))
    values = merged(values, _failing(max_failures))
    run_spec(values, Options(out, address, json, quiet, dry_run, partial_ok), where=str(spec))


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="How to carry it out: run.actors=2.")] = None,
    max_failures: MaxFailures = None,
    address: Address = None,
    json: Json = False,
    quiet: Quiet = False,
    partial_ok: PartialOk = False,
) -> None:
    """Continue RUN from its ledger; what is in it is not paid again."""
    from .commands_run import Options, resume_run
    from .spec import assignments, merged

    changes = assignments(settings or [])
    if set(changes) - {"run"}:
        raise SpecError("--set", ", ".join(sorted(set(changes) - {"run"})), "run.* only: a run keeps its spec")
    changes = merged(changes, _failing(max_failures))
    resume_run(run, changes.get("run", {}), Options(run, address, json, quiet, partial_ok=partial_ok))


@app.command("list")
def list_(
    folder: Annotated[Path, typer.Argument(help="Folder of run folders.")] = Path("runs"), json: Json = False
) -> None:
    """List the runs in FOLDER."""
    from .commands_show import list_runs

    list_runs(folder, as_json=json)


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the run ends.")] = False,
    question: Annotated[
        str | None, typer.Option("--question", help="The paths of this question of a cola run, by its id.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the figures of RUN, or how far it is."""
    from .commands_show import show_question, show_run

    if question is not None:
        show_question(run, question, as_json=json)
    else:
        show_run(run, follow=follow, as_json=json)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="Run folder.")], json: Json = False) -> None:
    """Write report.html of RUN again and print where it is."""
    from .commands_show import write_report

    place = str(write_report(run))
    typer.echo(codec.dumps({"report": place}) if json else place)


@app.command()
def schema(
    method: Annotated[str | None, typer.Argument(help="Of this method; default: of all, by name.")] = None,
) -> None:
    """Print the JSON schema of METHOD's spec: every field of a spec file, its type, default and help."""
    from .commands_run import RECIPES, spec_schema

    schemas = spec_schema(method) if method else {name: spec_schema(name) for name in RECIPES}
    typer.echo(codec.dumps(schemas, indent=1))


@app.command()
def score(
    data: Annotated[str, typer.Option(help="JSON lines of id, question, choices, answer.")],
    path: Annotated[
        str | None, typer.Option(help="Layer path, such as 0-11,12x3,13-29; default: the model as it is.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model source.")] = "smollm2-135m",
    out: Annotated[Path, typer.Option(help="JSON lines, one an item.")] = Path("scores.jsonl"),
    limit: Annotated[int | None, typer.Option(min=1, help="Use the first so many lines.")] = None,
    bos: Annotated[str, typer.Option(help="Beginning-of-sequence token: auto, always or never.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    alone: Annotated[bool, typer.Option("--alone", help="Canonical mode: nothing shared or batched.")] = False,
    template: Annotated[str | None, typer.Option(help="The prompt; {question} stands for the question.")] = None,
    chat: Annotated[
        bool,
        typer.Option("--chat-template", help="The question as a user's turn in the model's own chat template."),
    ] = False,
    max_failures: Annotated[
        float, typer.Option("--max-failures", help="Share of lines, 0 to 1, that may fail before exit code 1.")
    ] = 0.1,
    json: Json = False,
) -> None:
    """Score every question's options along one layer path; lines that cannot be scored are left out and named."""
    from .recipes.score import ScoreOptions, score_file

    options = ScoreOptions(limit, bos, dtype, alone, template, chat, max_failures)
    done = score_file(model, data, path, out, options)
    left_out, share = done["excluded"], done["failed_share"]
    for row in left_out[:10]:
        where, reason = f"{data}:{row['line']}: ", str(row["reason"])
        typer.echo(f"plait: left out: {where}{reason.removeprefix(where)}", err=True)
    if len(left_out) > 10:
        typer.echo(f"plait: and {len(left_out) - 10} lines more; --json names all", err=True)
    if json:
        typer.echo(codec.dumps(done, allow_nan=False))
    else:
        shares = ", ".join(f"{name} {'none' if v is None else f'{v:.3f}'}" for name, v in done["accuracy"].items())
        of = f" of {done['items'] + len(left_out)}" if left_out else ""
        typer.echo(f"{done['items']}{of} items, {done['path']}: {shares}")
    if share > max_failures:
        line = f"{100 * share:.1f} % of the lines gave no score, above --max-failures {max_failures:g}"
        typer.echo(f"plait: {line}", err=True)
        raise typer.Exit(1)


@app.command()
def doctor(address: Address = None, json: Json = False) -> None:
    """Check this machine: versions, memory, Ray, cache, models, store; each line says what to do."""
    from .doctor import doctor_command

    doctor_command(address, as_json=json)


def main() -> None:
    """Run the command line; every error of ours is one line and an exit code."""
    from .usage import refuse_repeated, unknown_option

    try:
        refuse_repeated(app, sys.argv[1:])
        code = app(standalone_mode=False)
    except PlaitError as error:
        typer.echo(f"plait: {error}", err=True)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        if not hasattr(error, "show") or not hasattr(error, "exit_code"):
            raise
        error.show()  # usage errors of the command line itself
        advice = unknown_option(error)
        if advice:
            typer.echo(f"plait: {advice}", err=True)
        code = error.exit_code
    sys.exit(code if isinstance(code, int) else 0)


def _failing(share: float | None) -> dict[str, Any]:
    return {} if share is None else {"run": {"max_failures": share}}


if __name__ == "__main__":
    main()
