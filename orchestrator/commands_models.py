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
    from .progress import PullLines, PullProgress

    with PullLines() if json else PullProgress() as progress:
        model = ensure(source, progress=progress)
    if json:
        typer.echo(codec.dumps({"event": "done", "status": "SUCCEEDED", **model.to_json()}))
    else:
        _print(model, as_json=False)


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
def remove(source: Name, json: Json = False) -> None:
    """Remove a fetched model; a folder of yours is never touched."""
    from ..models.sources import remove_model

    model = remove_model(source)
    stays = model.folder.exists()  # a folder of the user's, or of a hub's cache, which other tools share
    if json:
        typer.echo(codec.dumps({**model.to_json(), "removed": not stays}))
    else:
        typer.echo(f"forgot {model.folder}; its files are not Plait's and stay" if stays else f"removed {model.folder}")


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
