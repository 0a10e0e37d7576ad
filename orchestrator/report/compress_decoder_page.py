"""One self-contained HTML page a run that cut a language model: readable without network or scripts."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from ...records import JSON
from ..recipes.compress_decoder_result import rows_of, statement
from .drawing import axes_of, svg
from .template import environment, interval, percent, thousands


def render(result: dict[str, JSON], timing: dict[str, JSON]) -> str:
    """Return the page of a result; `timing` may be empty."""
    summary = result["summary"]
    figures = [
        ("What the searches found", "Best validation perplexity so far, of cuts that were not trained. Prior: the "
         "policy without learning.",
         _screening(summary)),
        ("Block influence", "1 - cosine of the hidden state before and after each block, mean over tokens.",
         _influence(summary)),
    ]  # fmt: skip
    return (
        environment()
        .get_template("compress_decoder.html.j2")
        .render(
            result=result,
            summary=summary,
            timing=timing,
            statement=statement(summary),
            table=table_rows(summary),
            figures=[
                {"title": title, "caption": caption, "svg": svg(made, title)}
                for title, caption, made in figures
                if made
            ],
        )
    )


def table_rows(summary: Mapping[str, JSON]) -> list[list[str]]:
    """Return the headline table as texts, its head first: what terminal and page both show."""
    texts = [name for name in ("test", "other") if name in (summary["full"]["after"] or {})]
    head = ["model", "parameters", "share", "blocks"]
    head += [f"perplexity, {name}, {when}" for name in texts for when in ("cut", "distilled")]
    rows = [[*head, "questions right"]]
    for row in rows_of(summary):
        cells = [row["name"], thousands(row["params"]), f"{row['share']:.3f}x", str(row["blocks"])]
        for name in texts:
            cells += [_perplexity(row[when], name) for when in ("before", "after")]
        rows.append([*cells, row["failure"] or interval(row["accuracy"])])
    chance = ["chance", *[""] * (len(head) - 1), percent(summary["chance"])]
    return [*rows, chance]


def _perplexity(texts: Mapping[str, Any] | None, name: str) -> str:
    if texts is None:
        return "–"
    found = texts[name]["perplexity"]
    mean = f"{found['mean']:.2f}"
    return mean if found["low"] is None else f"{mean} [{found['low']:.2f}, {found['high']:.2f}]"


def _screening(summary: Mapping[str, JSON]) -> Figure | None:
    if not any(summary["screening"].values()):
        return None
    figure, axes = axes_of(6.4, 3.2)
    for name, curve in summary["screening"].items():
        points = [(at, value) for at, value in enumerate(curve, start=1) if value is not None]
        axes.plot([at for at, _ in points], [value for _, value in points], label=name, drawstyle="steps-post")
    axes.set_xlabel("cuts tried")
    axes.set_ylabel("perplexity")
    axes.set_yscale("log")
    axes.legend(frameon=False)
    return figure


def _influence(summary: Mapping[str, JSON]) -> Figure:
    figure, axes = axes_of(6.4, 2.4)
    axes.bar(range(len(summary["influence"])), summary["influence"])
    axes.set_xlabel("block")
    axes.set_ylabel("influence")
    axes.set_yscale("log")
    return figure
