"""The pictures of a compression report, as matplotlib figures. Knows figures of a summary, no records."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from ...architectures import Architecture, Layer
from ...records import JSON
from .drawing import INK, MUTED, RANDOM, SEARCH, STYLE, axes_of, bound

COLOURS = {
    "plait": SEARCH, "untrained": "#6fb1cf", "n2n-paper": "#6b4fa0", "random": RANDOM, "evolution": "#2f8f5b",
    "uniform": "#a3791b",
    "pruning": "#b03060", "lottery": MUTED,
}  # fmt: skip
MEASURES = {"params": "parameters", "macs": "MACs for one example", "ms": "ms for one example (measured)"}


def pareto_figure(summary: Mapping[str, Any], latency: Mapping[str, float] | None = None) -> Figure | None:
    """Return test accuracy of every finalist against parameters, MACs and, where measured, milliseconds.

    Whiskers are the 95 % intervals over test examples; faint dots are all students of the top rung, on validation
    examples.

    Args:
        summary: Of the run.
        latency: Milliseconds by canonical text of the architecture.
    """
    finals = summary["finals"]
    if not finals:
        return None
    measures = ["params", "macs", *(["ms"] if latency else [])]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.5 * len(measures), 3.6), layout="constrained")
        panels = figure.subplots(1, len(measures), sharey=True)
    for panel, measure in zip(panels, measures, strict=True):
        _cloud(panel, summary["pareto"], measure)
        _finals(panel, finals, measure, latency or {})
        _teacher(panel, summary["teacher"], measure, latency or {})
        panel.set_xscale("log")
        panel.set_xlabel(MEASURES[measure])
    panels[0].set_ylabel("accuracy")
    panels[0].legend(frameon=False, fontsize=7, loc="lower right")
    return figure


def curve_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Return the best validation accuracy within the limit by student-epochs spent, a line a method."""
    rows = summary["curve"]
    if not rows:
        return None
    figure, axes = axes_of(6.4, 3.6)
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method and row["mean"]]
        epochs, colour = [row["epochs"] for row in mine], COLOURS.get(method, INK)
        axes.plot(epochs, [row["mean"] for row in mine], color=colour, label=method)
        low, high = ([bound(row, side) for row in mine] for side in ("low", "high"))
        axes.fill_between(epochs, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set_xlabel("student-epochs spent by the search")
    axes.set_ylabel("best validation accuracy within the limit")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def layers_figure(teacher: Architecture, student: Architecture) -> Figure:
    """Return the widths of the teacher's convolutions and linear layers, and what the student keeps of each."""
    rows = [layer for layer in teacher.layers if layer.op in ("conv", "linear")]
    kept = {
        layer.name: _width(student, at) for at, layer in enumerate(student.layers) if layer.op in ("conv", "linear")
    }
    full = {
        layer.name: _width(teacher, at) for at, layer in enumerate(teacher.layers) if layer.op in ("conv", "linear")
    }
    figure, axes = axes_of(6.4, 0.8 + 0.22 * len(rows))
    places = range(len(rows))
    axes.barh(places, [full[layer.name] for layer in rows], color="#d9dee4", label="teacher")
    axes.barh(places, [kept.get(layer.name, 0) for layer in rows], color=SEARCH, height=0.5, label="student")
    for place, layer in zip(places, rows, strict=True):
        if layer.name not in kept:
            axes.text(0, place, " removed", va="center", fontsize=7, color=RANDOM)
    axes.set_yticks(places, [_caption(layer) for layer in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("output channels or features")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _caption(layer: Layer) -> str:
    size = f" {'x'.join(map(str, layer.kernel))}" if layer.op == "conv" and layer.kernel else ""
    return f"{layer.name or layer.op} ({layer.op}{size})"


def _width(arch: Architecture, at: int) -> int:
    return arch.shapes[at][0]


def _cloud(panel: Any, points: Sequence[Mapping[str, JSON]], measure: str) -> None:
    if measure == "ms":
        return
    for method in dict.fromkeys(point["method"] for point in points):
        mine = [point for point in points if point["method"] == method]
        panel.scatter(
            [point[measure] for point in mine], [point["accuracy"] for point in mine],
            s=6, color=COLOURS.get(method, INK), alpha=0.25, linewidth=0,
        )  # fmt: skip


def _finals(panel: Any, finals: Sequence[Mapping[str, Any]], measure: str, latency: Mapping[str, float]) -> None:
    for method in dict.fromkeys(final["student"]["method"] for final in finals):
        mine = [final for final in finals if final["student"]["method"] == method]
        places = [
            latency.get(final["student"]["arch"]) if measure == "ms" else final["student"][measure] for final in mine
        ]
        means = [final["test"]["mean"] for final in mine]
        error = [
            [mean - final["test"]["low"] for mean, final in zip(means, mine, strict=True)],
            [final["test"]["high"] - mean for mean, final in zip(means, mine, strict=True)],
        ]
        panel.errorbar(
            places, means, error, fmt="o", markersize=5, elinewidth=0.8, color=COLOURS.get(method, INK), label=method
        )


def _teacher(panel: Any, teacher: Mapping[str, Any], measure: str, latency: Mapping[str, float]) -> None:
    place = latency.get(teacher["arch"]) if measure == "ms" else teacher[measure]
    if place is not None:
        panel.plot([place], [teacher["test"]["mean"]], "*", color=INK, markersize=11, label="teacher")
