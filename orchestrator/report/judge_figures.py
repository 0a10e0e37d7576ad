"""The pictures of a judge report, as matplotlib figures. Knows figures of a summary, no rows."""

from collections.abc import Sequence
from textwrap import shorten
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from ...records import JSON
from .drawing import CHANCE, INK, MUTED, RANDOM, SEARCH, STYLE, axes_of, bound

WIDTH = 5.2
"""Inches; narrow enough that the text can be read on a phone."""

KINDS = {"network": SEARCH, "fitted": "#5b8c5a", "comparison": "#7c5cbf", "baseline": RANDOM, "control": CHANCE}

TASKS = {
    "judge-angles": "naming angles", "judge-review": "writing reviews", "judge-letter": "picking a letter",
    "judge-decision": "deciding",
}  # fmt: skip


def agreement_figure(summary: dict[str, JSON]) -> Figure | None:
    """Return each judge's accuracy with its interval, chance marked; None without labels."""
    shown = [one for one in summary["judges"] if one["accuracy"]["mean"] is not None]
    if not shown:
        return None
    figure, axes = axes_of(WIDTH, 0.9 + 0.34 * len(shown))
    for place, one in enumerate(shown):
        _whisker(axes, one["accuracy"], place, KINDS[one["kind"]], "D" if one["kind"] == "network" else "o")
    chance = summary["chance"]["accuracy"]
    axes.axvline(chance, color=MUTED, linestyle="--", linewidth=1)
    axes.annotate("chance", (chance, 1), (3, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
                  fontsize=8, color=MUTED)  # fmt: skip
    _rows(axes, [one["name"] for one in shown])
    axes.set_xlim(0, 1)
    axes.set_xlabel("share that agrees with the human label")
    return figure


def position_figure(summary: dict[str, JSON]) -> Figure | None:
    """Return flip rate and lean of the network, of its neurons together and of each; None without both orders."""
    found = summary["position"]
    rows = [("the network", found["network"]), ("its neurons", found["neurons"])]
    rows += [(one["name"], one) for one in found["by_neuron"]]
    rows = [(name, one) for name, one in rows if one["flip_rate"]["mean"] is not None]
    if not rows:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.0 + 0.3 * len(rows)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
    for place, (_, one) in enumerate(rows):
        colour = SEARCH if place < 2 else RANDOM
        _whisker(left, one["flip_rate"], place, colour)
        _whisker(right, one["lean"], place, colour)
    _rows(left, [name for name, _ in rows])
    left.set_xlim(0, 1)
    left.set_xlabel("flip rate")
    right.tick_params(axis="y", length=0)
    right.set_xlim(-1, 1)
    right.axvline(0, color=MUTED, linestyle="--", linewidth=1)
    right.set_xlabel("lean (+: to the first)")
    return figure


def length_figure(summary: dict[str, JSON]) -> Figure | None:
    """Return how often the longer answer is preferred, by length ratio: by the network, and by people if known."""
    groups = [group for group in summary["length"]["groups"] if group["judge"]["mean"] is not None]
    if not groups:
        return None
    figure, axes = axes_of(WIDTH, 2.9)
    for who, label, colour, shift in (("judge", "the network", SEARCH, -0.08), ("labels", "people", RANDOM, 0.08)):
        told = [(place, group[who]) for place, group in enumerate(groups) if group[who] is not None]
        for place, interval in told:
            _pillar(axes, interval, place + shift, colour, label if place == told[0][0] else None)
    axes.axhline(0.5, color=MUTED, linestyle="--", linewidth=1)
    axes.set_xticks(range(len(groups)), [_ratio_label(group) for group in groups])
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("longer answer / shorter answer, characters (items)")
    axes.set_ylabel("longer answer preferred")
    axes.legend(frameon=False, fontsize=8)
    return figure


def reliability_figure(summary: dict[str, JSON]) -> Figure | None:
    """Return accuracy against confidence in bins, before and after the temperature; None without labels."""
    found = summary["calibration"]
    if found is None:
        return None
    figure, axes = axes_of(WIDTH, 3.4)
    axes.plot([0, 1], [0, 1], "--", color=MUTED, linewidth=1)
    for name, label, colour, marker in (
        ("before", "as it is", SEARCH, "o"), ("after", "temperature from the slice", RANDOM, "s"),
    ):  # fmt: skip
        if found[name] is None:
            continue
        bins = [part for part in found[name]["bins"] if part["items"]]
        most = max(part["items"] for part in bins)
        x, y = [part["confidence"] for part in bins], [part["accuracy"] for part in bins]
        axes.plot(x, y, "-", color=colour, linewidth=1, alpha=0.6)
        axes.scatter(
            x, y, s=[15 + 100 * part["items"] / most for part in bins], color=colour, marker=marker, alpha=0.75,
            label=f"{label}: ECE {found[name]['ece']:.3f}", linewidth=0,
        )  # fmt: skip
    axes.set_xlim(0, 1.03)
    axes.set_ylim(-0.02, 1.03)
    axes.set_xlabel(f"confidence: {found['of']} of the verdict")
    axes.set_ylabel("share that is right")
    for handle in axes.legend(frameon=False, fontsize=8).legend_handles:
        handle.set_sizes([30])
    return figure


def votes_figure(summary: dict[str, JSON]) -> Figure | None:
    """Return accuracy by number of votes drawn, and of the rules that stop early; None without a panel."""
    found = summary["by_votes"]
    if found is None:
        return None
    figure, axes = axes_of(WIDTH, 3.2)
    fixed = [rule for rule in found["rules"] if not rule["adaptive"]]
    calls = [rule["calls"]["mean"] for rule in fixed]
    axes.plot(calls, [rule["accuracy"]["mean"] for rule in fixed], "o-", color=SEARCH, markersize=4, label="fixed")
    low, high = ([bound(rule["accuracy"], side) for rule in fixed] for side in ("low", "high"))
    axes.fill_between(calls, low, high, color=SEARCH, alpha=0.15, linewidth=0)
    adaptive = [rule for rule in found["rules"] if rule["adaptive"]]
    points = [(rule["calls"]["mean"], rule["accuracy"]["mean"]) for rule in adaptive]
    axes.scatter(*zip(*points, strict=True), color=RANDOM, marker="D", s=28, label="stops when decided", zorder=3)
    for place, (rule, point) in enumerate(zip(adaptive, points, strict=True)):
        up = 8 if place % 2 == 0 else 19
        axes.annotate(rule["name"], point, (0, up), textcoords="offset points", fontsize=8, color=INK, ha="center")
    axes.margins(x=0.12)
    axes.set_xlabel("votes asked (mean)")
    axes.set_ylabel("accuracy")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def correlation_figure(summary: dict[str, JSON]) -> Figure | None:
    """Return the correlations of the neurons' errors as a heat map; None without a panel."""
    panel = summary["panel"]
    if panel is None:
        return None
    count = len(panel["neurons"])
    values = [[float("nan") if value is None else value for value in row] for row in panel["correlation"]]
    figure, axes = axes_of(WIDTH, min(1.4 + 0.38 * count, 6.5))
    image = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_yticks(range(count), [f"{_plain(one['name'], 26)}  {at + 1}" for at, one in enumerate(panel["neurons"])])
    axes.set_xticks(range(count), [str(place + 1) for place in range(count)])
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    if count <= 10:
        for y, row in enumerate(panel["correlation"]):
            for x, value in enumerate(row):
                text, dark = ("–", False) if value is None else (f"{value:.2f}", value > 0.7)
                axes.text(x, y, text, ha="center", va="center", fontsize=7, color="white" if dark else INK)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.03, ticks=[-1, 0, 1])
    bar.ax.tick_params(labelsize=8)
    return figure


def cost_figure(timing: dict[str, JSON]) -> Figure | None:
    """Return calls, tokens and seconds by kind of call; None where nothing was recorded."""
    kinds = {name: part for name, part in (timing.get("kinds") or {}).items() if part.get("calls")}
    if not kinds:
        return None
    measures = [
        name for name in ("calls", "tokens", "seconds", "usd") if any(part.get(name) for part in kinds.values())
    ]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.8 + 0.35 * len(kinds)), layout="constrained")
        boxes = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for axes, measure in zip(boxes, measures, strict=True):
        values = [float(part.get(measure, 0.0)) for part in kinds.values()]
        bars = axes.barh(range(len(kinds)), values, color=SEARCH, height=0.6)
        axes.bar_label(bars, [_short(value) for value in values], padding=2, fontsize=8)
        axes.set_xlim(0, max(values) * 1.45 or 1)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.set_xlabel({"usd": "US dollars"}.get(measure, measure))
    _rows(boxes[0], [TASKS.get(name, name) for name in kinds])
    return figure


def _whisker(axes: Any, interval: JSON, place: float, colour: str, marker: str = "o") -> None:
    """Draw a mean with its interval, lying."""
    mean, low, high = interval["mean"], bound(interval, "low"), bound(interval, "high")
    axes.plot([low, high], [place, place], "-", color=colour, linewidth=1.6, solid_capstyle="butt")
    axes.plot([mean], [place], marker, color=colour, markersize=5)


def _pillar(axes: Any, interval: JSON, place: float, colour: str, label: str | None) -> None:
    """Draw a mean with its interval, standing."""
    mean, low, high = interval["mean"], bound(interval, "low"), bound(interval, "high")
    axes.plot([place, place], [low, high], "-", color=colour, linewidth=1.6, solid_capstyle="butt")
    axes.plot([place], [mean], "o", color=colour, markersize=5, label=label)


def _rows(axes: Any, names: Sequence[str]) -> None:
    """Name the rows, first at the top."""
    axes.set_yticks(range(len(names)), [_plain(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelsize=9)


def _plain(text: str, longest: int = 34) -> str:
    """Return a name as matplotlib can draw it: one line, not too long, dollars no formula."""
    return shorten(" ".join(text.split()), longest, placeholder="…").replace("$", r"\$")


def _ratio_label(group: JSON) -> str:
    span = f"{group['low']:g}–{group['high']:g}" if group["high"] else f"over {group['low']:g}"
    return f"{span}\n({group['judge']['n']})"


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.1f} M"
    if value >= 1e4:
        return f"{value / 1e3:.0f} k"
    return f"{value:,.0f}" if value >= 10 or value == round(value) else f"{value:.2g}"
