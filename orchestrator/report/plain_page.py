"""One self-contained HTML page of a sentence and tables, for runs that need no more. Knows no method."""

from dataclasses import dataclass
from typing import Any

from .template import environment


@dataclass(frozen=True)
class Plain:
    """What a page says.

    Attributes:
        title: Its heading.
        about: What was run, in a sentence.
        statement: What it came to.
        table: Rows of cells, the header first; the first column holds text, the others numbers.
        notes: What a reader should know beside.
    """

    title: str
    about: str
    statement: str
    table: list[list[str]]
    notes: tuple[str, ...] = ()


def render_plain(said: Plain, result: dict[str, Any], timing: dict[str, Any]) -> str:
    """Return the page of a result; `timing` may be empty."""
    return environment().get_template("plain.html.j2").render(said=said, result=result, timing=timing)
