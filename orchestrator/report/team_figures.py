"""The pictures of a report on a team's training, as matplotlib figures. Knows figures of a summary, no records."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from .drawing import INK, MUTED, RANDOM, SEARCH, axes_of, bound

COLOURS = {"plait": SEARCH, "ann-paper": "#6b4fa0", "textgrad": "#2f8f5b", "gepa": "#a3791b", "random": RANDOM}
SPLITS = {"confirm": INK, "test": SEARCH}


def accuracy_figure(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Figure | None:
    """Return every team's accuracy on confirm and test items with its interval; an oracle's is hollow.

    Args:
        rows: Of the summary.
        names: What to call them, in their order.
    """
    shown = [(row, name) for row, name in zip(rows, names, strict=True) if _known(row["confirm"])]
    if not shown:
        return None
    figure, axes = axes_of(6.4, 0.9 + 0.42 * len(shown))
    for split, colour in SPLITS.items():
        shift = -0.13 if split == "confirm" else 0.13
        places = [place for place, (row, _) in enumerate(shown) if _known(row[split])]
        for place in places:
            row, found = shown[place][0], shown[place][0][split]
            error = [[found["mean"] - bound(found, "low")], [bound(found, "high") - found["mean"]]]
            axes.errorbar(
                found["mean"], place + shift, xerr=error, fmt="o" if split == "confirm" else "s", color=colour,
                markersize=5, elinewidth=1, markerfacecolor="white" if row["oracle"] else colour,
                label=f"{split} items" if place == places[0] else None,
            )  # fmt: skip
    axes.axvline(shown[0][0]["confirm"]["mean"], color=MUTED, linestyle="--", linewidth=0.8)
    axes.set_yticks(range(len(shown)), [name for _, name in shown], fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("accuracy")
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


def curve_figure(searches: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Return each search's incumbent on validation items by step, held until the next one, with its interval."""
    drawn = [one for one in searches if any(_known(point["validation"]) for point in one["curve"])]
    if not drawn:
        return None
    figure, axes = axes_of(6.4, 3.4)
    last = max([1, *(len(one["steps"]) for one in drawn)])
    for number, one in enumerate(drawn):
        points = [point for point in one["curve"] if _known(point["validation"])]
        colour, shift = COLOURS.get(one["profile"], INK), 0.06 * (number - (len(drawn) - 1) / 2)
        steps, found = [point["step"] for point in points], [point["validation"] for point in points]
        means = [value["mean"] for value in found]
        axes.step([*steps, last], [*means, means[-1]], where="post", color=colour, linewidth=1.2, alpha=0.7)
        error = [
            [value["mean"] - bound(value, "low") for value in found],
            [bound(value, "high") - value["mean"] for value in found],
        ]
        axes.errorbar(
            [step + shift for step in steps], means, error, fmt="o", color=colour, markersize=5, elinewidth=0.8,
            label=one["profile"],
        )  # fmt: skip
    axes.set_xticks(range(0, last + 1, max(1, last // 10)))
    axes.set_xlabel("steps done")
    axes.set_ylabel("incumbent on validation items")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _known(interval: Mapping[str, Any] | None) -> bool:
    return interval is not None and interval["mean"] is not None
