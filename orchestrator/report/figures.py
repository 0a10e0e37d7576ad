"""The pictures of a CoLa report, as matplotlib figures. Knows figures of a summary, no records."""

from matplotlib.figure import Figure

from ...records import JSON
from .drawing import MUTED, RANDOM, SEARCH, axes_of, bound


def budget_figure(summary: dict[str, JSON]) -> Figure:
    """Return oracle accuracy by number of paths: the search, random search, chance."""
    figure, axes = axes_of(6.4, 3.6)
    curve = summary["curve"]
    paths = [point["paths"] for point in curve]
    for name, colour, label in (("search", SEARCH, "search (oracle)"), ("random", RANDOM, "random search (oracle)")):
        if curve[0][name]["mean"] is None:
            continue
        axes.plot(paths, [point[name]["mean"] for point in curve], "o-", color=colour, label=label, markersize=4)
        low = [bound(point[name], "low") for point in curve]
        high = [bound(point[name], "high") for point in curve]
        axes.fill_between(paths, low, high, color=colour, alpha=0.15, linewidth=0)
        chance = [point[f"{name}_chance"] for point in curve]
        axes.plot(paths, chance, "--", color=colour, alpha=0.8, label=f"chance with as many answers ({name})")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xticks(paths, [str(k) for k in paths])
    axes.minorticks_off()
    axes.set_xlabel("paths tried beside the identity")
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def layer_figure(summary: dict[str, JSON]) -> Figure | None:
    """Return mean executions per layer of the reported paths, a row a group; None where there is no path."""
    use = {name: row for name, row in summary["layer_use"].items() if row and row[0] is not None}
    if not use:
        return None
    figure, axes = axes_of(6.4, 0.9 + 0.5 * len(use))
    image = axes.imshow(list(use.values()), aspect="auto", cmap="RdBu_r", vmin=0, vmax=2)
    axes.set_yticks(range(len(use)), [f"{name} items" for name in use])
    axes.set_xlabel("layer")
    axes.set_xticks(range(0, len(next(iter(use.values()))), 5))
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02, ticks=[0, 1, 2])
    bar.set_label("mean executions", fontsize=8)
    return figure


def pareto_figure(summary: dict[str, JSON]) -> Figure | None:
    """Return accuracy against layers executed: fixed paths on test items, the oracle marked apart."""
    points = summary["pareto"]
    if not points:
        return None
    figure, axes = axes_of(6.4, 3.4)
    for point in points:
        accuracy = point["accuracy"]
        colour, marker = (SEARCH, "D") if point["oracle"] else (RANDOM, "o")
        label = point["name"] if point["oracle"] or point["front"] else None
        low, high = bound(accuracy, "low"), bound(accuracy, "high")
        error = [[accuracy["mean"] - low], [high - accuracy["mean"]]]
        axes.errorbar(
            point["layers"], accuracy["mean"], error, fmt=marker, color=colour, alpha=1 if point["front"] else 0.4,
            markersize=5, elinewidth=0.8,
        )  # fmt: skip
        if label:
            axes.annotate(label, (point["layers"], accuracy["mean"]), (5, 5), textcoords="offset points", fontsize=7)
    axes.set_xlabel("layers executed (mean)")
    axes.set_ylabel("accuracy on test items")
    axes.set_ylim(0, 1.02)
    return figure


def length_figure(summary: dict[str, JSON]) -> Figure | None:
    """Return how long the reported paths are, for items right as they are and for corrected ones."""
    lengths = summary["lengths"]
    groups = {name: lengths[name]["lengths"] for name in ("right", "corrected") if lengths.get(name, {}).get("lengths")}
    if not groups:
        return None
    figure, axes = axes_of(6.4, 2.6)
    every = [length for group in groups.values() for length in group]
    bins = [edge - 0.5 for edge in range(min(every), max(every) + 2)]
    axes.hist(
        list(groups.values()),
        bins=bins,
        label=[f"{name} items" for name in groups],
        color=[SEARCH, RANDOM][: len(groups)],
    )
    axes.axvline(lengths["depth"], color=MUTED, linestyle="--", linewidth=1)
    axes.set_xlabel(f"layers executed by the reported path (dashed: the model's own {lengths['depth']})")
    axes.set_ylabel("items")
    axes.legend(frameon=False, fontsize=8)
    return figure
