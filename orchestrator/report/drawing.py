"""What every report's pictures share: colours, axes, inline SVG. Knows no method."""

import io
import re
import warnings
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from ...records import JSON

INK, MUTED = "#1f2933", "#7b8794"
SEARCH, RANDOM, CHANCE = "#0b6e99", "#c2571a", "#7b8794"

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",  # text stays text: small, sharp, found by search
    "svg.hashsalt": "plait",  # the same figure gives the same bytes
}


def svg(figure: Figure, title: str) -> str:
    """Return a figure as an inline SVG that scales to its box and tells a screen reader what it shows."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # text stays text, and a browser has the glyph
        figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def axes_of(width: float, height: float) -> tuple[Figure, Any]:
    """Return a figure of so many inches and its axes, in the house style."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.add_subplot()


def bound(interval: JSON, side: str) -> float:
    """Return one end of an interval; its mean where it has none."""
    return float(interval[side] if interval[side] is not None else interval["mean"])
