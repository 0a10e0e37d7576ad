"""One self-contained HTML page a CoLa run: readable on a phone, without network or scripts."""

from typing import Any

from ...records import JSON
from ..recipes.cola_records import ItemRecord, reported_path
from ..recipes.cola_stats import statement
from .drawing import svg
from .figures import budget_figure, layer_figure, length_figure, pareto_figure
from .template import environment, interval, percent, points, thousands

__all__ = ["interval", "percent", "points", "render", "thousands"]

SHOWN = 60
"""Items in the table of the page; result.json holds all."""


def render(result: dict[str, JSON], timing: dict[str, JSON]) -> str:
    """Return the page of a result; `timing` may be empty."""
    summary = result["summary"]
    return (
        environment()
        .get_template("cola.html.j2")
        .render(
            result=result,
            summary=summary,
            timing=timing,
            statement=statement(summary) if summary["items"] else "No item was scored.",
            figures=_figures(summary) if summary["items"] else [],
            rows=[_row(ItemRecord.from_json(item), summary["rule"]) for item in result["items"][:SHOWN]],
            cost=_cost(timing),
        )
    )


def _figures(summary: dict[str, JSON]) -> list[dict[str, str]]:
    """Return title, caption and SVG of each picture there is something to show in."""
    made = [
        ("Oracle accuracy by budget", "Best of the paths tried so far, picked with the answer key. Dashed: what as "
         "many different answers would reach by chance.", budget_figure(summary)),
        ("Accuracy against layers executed", "Fixed paths on test items (circles; faint: dominated). The diamond "
         "picks a path per item with the answer key: an oracle.", pareto_figure(summary)),
        ("Which layers the reported paths run", "Mean executions of each layer: 0 skipped (blue), 1 as in the "
         "model (white), 2 repeated (red). Oracle paths.", layer_figure(summary)),
        ("How long the reported paths are", "The shortest right path of each item: an oracle's choice.",
         length_figure(summary)),
    ]  # fmt: skip
    return [
        {"title": title, "caption": caption, "svg": svg(figure, title)} for title, caption, figure in made if figure
    ]


def _row(item: ItemRecord, rule: Any) -> dict[str, JSON]:
    path = reported_path(item, rule)
    was, found = item.right(item.identity, rule), any(item.right(score, rule) for score in item.search)
    state = "right" if was else "corrected" if found else "wrong"
    return {
        "id": item.id,
        "question": item.question,
        "state": state,
        "path": path.key,
        "layers": len(path),
        "edits": path.edits(item.depth),
        "right": sum(item.right(score, rule) for score in item.search),
        "tried": len(item.search),
    }


def _cost(timing: dict[str, JSON]) -> dict[str, float] | None:
    cost = timing.get("cost")
    if not cost or not cost.get("passes"):
        return None
    return {**cost, "reuse": cost["asked_passes"] / cost["passes"]}
