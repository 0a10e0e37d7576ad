"""One self-contained HTML page a compression run: readable on a phone, without network or scripts."""

from typing import Any

from ...architectures import Architecture
from ...records import JSON
from ..recipes.compress_stats import promise, statement
from .compress_figures import curve_figure, layers_figure, pareto_figure
from .drawing import svg
from .template import environment


def render(result: dict[str, JSON], timing: dict[str, JSON]) -> str:
    """Return the page of a result; `timing` may be empty."""
    summary = result["summary"]
    return (
        environment()
        .get_template("compress.html.j2")
        .render(
            result=result,
            summary=summary,
            timing=timing,
            statement=statement(summary),
            promise=promise(summary, timing.get("latency") or {}),
            figures=_figures(summary, timing.get("latency") or {}),
            latency=timing.get("latency") or {},
        )
    )


def _figures(summary: dict[str, Any], latency: dict[str, float]) -> list[dict[str, str]]:
    """Return title, caption and SVG of each picture there is something to show in."""
    chosen = summary["chosen"]
    layers = None
    if chosen:
        layers = layers_figure(Architecture.parse(summary["teacher"]["arch"]), Architecture.parse(chosen["arch"]))
    made = [
        ("Accuracy against cost", "Each search's chosen student on test examples, with 95 % intervals over them; the "
         "star is the teacher. Faint dots: all students of the top rung, on validation examples.",
         pareto_figure(summary, latency)),
        ("Reward against budget", "Best student within the limit so far, on validation examples, mean over searches "
         "with 95 % intervals. The final training is not in it.", curve_figure(summary)),
        ("The chosen student beside the teacher", "Widths of convolutions and linear layers: grey the teacher's, blue "
         "what the student keeps.", layers),
    ]  # fmt: skip
    return [
        {"title": title, "caption": caption, "svg": svg(figure, title)} for title, caption, figure in made if figure
    ]
