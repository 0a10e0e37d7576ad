"""`plait models`: fetch, list, describe and remove models."""

import json as codec
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Name = Annotated[str, typer.Argument(help="Model source: smollm2-135m, hf:org/name@rev, a folder, gguf:file, ...")]


@app.command()
def pull(source: Name, json: Json = False) -> None:
    """Fetch a model, check it and keep it; nothing happens if it is here."""
    from ..models.sources import ensure

    _print(ensure(source, progress=lambda stage, done, total: typer.echo(f"{stage} ...", err=True)), json)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the models that are here."""
    from ..models.sources import list_models

    for model in list_models():
        _print(model, json)


@app.command()
def show(source: Name, json: Json = False) -> None:
    """Describe a model that is here."""
    from ..models.sources import show_model

    _print(show_model(source), json, long=True)


@app.command()
def remove(source: Name) -> None:
    """Remove a fetched model; a folder of yours is never touched."""
    from ..models.sources import remove_model

    typer.echo(f"removed {remove_model(source).folder}")


def _print(model: Any, as_json: bool, *, long: bool = False) -> None:
    values = model.to_json()
    if as_json:
        typer.echo(codec.dumps(values))
    elif long:
        for name, value in values.items():
            typer.echo(f"{name:12} {value}")
    else:
        size = f"{model.parameters / 1e6:.0f}M parameters, {model.layers} layers, {model.bytes >> 20} MiB {model.dtype}"
        typer.echo(f"{model.name}  {size}  {model.model_hash[:12]}  {model.folder}")
