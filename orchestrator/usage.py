"""What the command line says of options: given twice, or not known. Must not know what commands do."""

from collections.abc import Sequence
from typing import Any

import typer

from ..errors import SpecError


def refuse_repeated(app: typer.Typer, arguments: Sequence[str]) -> None:
    """Refuse an option that takes one value and is given twice: the last would win without a word.

    Raises:
        SpecError: the option, with both values.
    """
    command: Any = typer.main.get_command(app)
    given: dict[str, str] = {}
    options = _options(command)
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            return
        name, equals, value = argument.partition("=")
        option = options.get(name)
        if option is None:
            inner = getattr(command, "commands", {}).get(argument)
            if inner is not None:  # a command's name: what follows are its options
                command, options, given = inner, _options(inner), {}
            continue
        if not option.is_flag and not equals:
            value = next(rest, "")
        if option.multiple or option.count:
            continue
        if option.name in given and not option.is_flag:
            raise SpecError(name, f"{given[option.name]} and {value}", "one value")
        given[option.name] = value


def unknown_option(error: Any) -> str:
    """Return how a field of the spec is set that has no option of its own; "" for other errors of usage."""
    name, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if not name or context is None or type(error).__name__ != "NoSuchOption":
        return ""
    if "--set" not in _options(context.command):
        return ""
    field = str(name).lstrip("-").replace("-", "_")
    return f"any field of the spec can be set: --set {_place(context, field)}=VALUE; plait schema lists the fields"


def _place(context: Any, field: str) -> str:
    """Return the key of a field that an option's name means: `run.window` for --window."""
    from .commands_run import RECIPES, recipe

    method = {"resume": "cola", "run": "cola"}.get(context.command.name, context.command.name)
    if method not in RECIPES:
        return field
    fields = recipe(method).spec_type.model_fields
    run = getattr(fields["run"].annotation, "model_fields", {}) if "run" in fields else {}
    return f"run.{field}" if field in run and field not in fields else field


def _options(command: Any) -> dict[str, Any]:
    """Return a command's options by every spelling."""
    named = [(spelling, param) for param in command.params for spelling in param.opts if spelling.startswith("-")]
    return dict(named)


__all__ = ["refuse_repeated", "unknown_option"]
